"""Sensor noise, fresh in every frame.

Gaussian, shot and impulse noise have the constants of Hendrycks and Dietterich, *Benchmarking neural network robustness
to common corruptions and perturbations* (ICLR 2019): those of its 64-pixel set for small frames, of its 224-pixel set
for large ones.

`GaussianNoise` is the test of Lechner et al., *Neural circuit policies enabling auditable autonomy* (Nature Machine
Intelligence 2020): independent Gaussian noise of variance 0, 0.1, 0.2 or 0.3 on every value of the frame scaled to
[0, 1], clipped to that range again.

    noisy = GaussianNoise(variance=0.1)(frames, np.random.default_rng(0))
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from envs.camera.info import CameraInfo
from envs.perturbations.images import to_grey_levels
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation


@dataclass(frozen=True, config={"extra": "forbid"})
class GaussianNoise:
    """Gaussian noise on every pixel and channel."""

    variance: Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)] = 0.1
    """Variance of the noise on frames scaled to [0, 1]."""

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


@declare_perturbation("noise", unit="variance v, frames in [0, 1]", doses=(0.02, 0.1, 0.15, 0.2, 0.3))
def variance(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = clip(x + √v · n), n ~ N(0, 1): the published test of robustness, `GaussianNoise`, with more doses.

    The published variances .1, .2 and .3 are the severities 2, 4 and 5.
    """
    return _Gaussian(generator, dose)


@declare_perturbation(
    "noise",
    unit="standard deviation σ, frames in [0, 1]",
    doses=(0.04, 0.08, 0.12, 0.15, 0.18),
    large_doses=(0.08, 0.12, 0.18, 0.26, 0.38),
)
def gaussian(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = clip(x + σ n), n ~ N(0, 1): the electronics of a sensor in the dark.

    Source: Hendrycks and Dietterich (ICLR 2019).
    """
    return _Gaussian(generator, dose**2)


@declare_perturbation(
    "noise",
    unit="photons λ of a white pixel",
    doses=(250.0, 100.0, 50.0, 30.0, 15.0),
    large_doses=(60.0, 25.0, 12.0, 5.0, 3.0),
)
def shot(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = min(Poisson(λ x) / λ, 1): so many photons that a white pixel counts λ of them.

    Source: Hendrycks and Dietterich (ICLR 2019).
    """
    return _Shot(generator, dose)


@declare_perturbation(
    "noise",
    unit="share of the values that is replaced",
    doses=(0.01, 0.02, 0.05, 0.08, 0.14),
    large_doses=(0.03, 0.06, 0.09, 0.17, 0.27),
)
def impulse(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Salt and pepper: a share of the values is replaced by 0 or 1, each as often.

    x' = 0 or 1 with probability p / 2 each, else x; p is the share. Source: Hendrycks and Dietterich (ICLR 2019).
    """
    return _Impulse(generator, dose)


@declare_perturbation(
    "noise",
    unit="standard deviation σ as a share of the light",
    doses=(0.1, 0.15, 0.2, 0.3, 0.4),
    large_doses=(0.15, 0.2, 0.35, 0.45, 0.6),
)
def speckle(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = clip(x + σ x n), n ~ N(0, 1): noise in proportion to the light.

    Source: Hendrycks and Dietterich (ICLR 2019), whose doses those for large frames are.
    """
    return _Speckle(generator, dose)


_QUANTILES = 4096
"""Values that shot noise draws from for each grey level: quantiles of its distribution."""


class _Gaussian(Effect):
    def __init__(self, generator: np.random.Generator, variance: float):
        self._generator, self._noise = generator, GaussianNoise(variance)

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        return self._noise(frame[None], self._generator)[0]


class _Shot(Effect):
    def __init__(self, generator: np.random.Generator, photons: float):
        self._generator, self._levels = generator, _shot_levels(photons)

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        draws = self._generator.integers(0, _QUANTILES, frame.shape, dtype=np.uint16)
        return self._levels[frame.astype(np.uint32) * _QUANTILES + draws]


@lru_cache(maxsize=16)
def _shot_levels(photons: float) -> NDArray[np.uint8]:
    """`[256 · _QUANTILES]` what each grey level becomes, at probabilities spread evenly over (0, 1)."""
    chances = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    most = math.ceil(photons + 6.0 * math.sqrt(photons) + 6.0)
    counts = np.arange(most + 1)
    log_factorials = np.array([math.lgamma(count + 1.0) for count in counts])
    levels = np.empty((256, _QUANTILES), np.uint8)
    levels[0] = 0
    for level in range(1, 256):
        mean = photons * level / 255.0
        reached = np.cumsum(np.exp(counts * math.log(mean) - mean - log_factorials))
        drawn = np.searchsorted(reached, chances)
        levels[level] = np.rint(np.minimum(drawn * (255.0 / photons), 255.0))
    return levels.reshape(-1)


class _Speckle(Effect):
    def __init__(self, generator: np.random.Generator, deviation: float):
        self._generator, self._deviation = generator, np.float32(deviation)

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        noise = self._generator.standard_normal(frame.shape, dtype=np.float32)
        noise *= self._deviation
        noise += 1.0
        noise *= frame
        return to_grey_levels(noise)


class _Impulse(Effect):
    def __init__(self, generator: np.random.Generator, share: float):
        self._generator, self._share = generator, share

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        hit = np.flatnonzero(self._generator.random(frame.size, dtype=np.float32) < self._share)
        changed = frame.copy()
        changed.reshape(-1)[hit] = self._generator.integers(0, 2, len(hit), dtype=np.uint8) * np.uint8(255)
        return changed
