"""Frames of one drive in a row, as a learner takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stretch:
    """Frames of one drive in a row."""

    frames: NDArray[np.uint8]
    """`[T, H, W, 3]` as the policy's head sees them."""
    steering: NDArray[np.float32]
    """`[T]` what is right."""
    elapsed: NDArray[np.float32]
    """`[T]` nominal periods."""
    counts: NDArray[np.bool_]
    """`[T]` False where frames only warm up."""
    steered: NDArray[np.float32] | None = None
    """`[T]` what the car was told; what is right when None."""
    drive: int = 0
    """Number of the drive; stretches of one share it."""

    @property
    def told(self) -> NDArray[np.float32]:
        """`[T]` what the car was told."""
        return self.steering if self.steered is None else self.steered
