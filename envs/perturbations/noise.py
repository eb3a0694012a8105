"""Sensor noise.

`GaussianNoise` is the test of Lechner et al., *Neural circuit policies enabling auditable autonomy* (Nature Machine
Intelligence 2020): independent Gaussian noise of variance 0, 0.1, 0.2 or 0.3 on every value of the frame scaled to
[0, 1], clipped to that range again.

    noisy = GaussianNoise(variance=0.1)(frames, np.random.default_rng(0))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise on every pixel and channel."""

    variance: float = 0.1
    """Variance of the noise on frames scaled to [0, 1]."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.variance < float("inf"):
            raise ValueError(f"the variance of the noise must be a finite number of at least 0, got {self.variance}.")

    def __call__(self, frames: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
        """Add noise.

        Args:
            frames: uint8 `[n, H, W, 3]`.
            generator: owner of the draws; a variance of 0 draws nothing.

        Returns:
            New frames of the same shape, rounded to whole grey levels; the same array where the variance is 0.
        """
        if self.variance == 0:
            return frames
        noise = generator.standard_normal(frames.shape, dtype=np.float32)
        noise *= 255 * self.variance**0.5
        noise += frames
        return np.rint(noise, out=noise).clip(0, 255, out=noise).astype(np.uint8)
