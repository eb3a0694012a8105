"""Faults to plant, so that what the gate catches can be measured: drivers around a driver.

DriveJob(..., wrap=partial(ScaledSteering, gain=0.7))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray


class ScaledSteering:
    """A driver whose steering reaches the car with another gain."""

    def __init__(self, driver: Any, gain: float):
        """Wrap a driver; `gain` multiplies the steering."""
        self.driver, self.gain = driver, np.float32(gain)

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving`."""
        actions = np.array(self.driver.act(frames, elapsed, starts, envs))
        actions[:, 0] *= self.gain
        return actions

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)


class DelayedSteering:
    """A driver whose steering reaches the car some frames late; before the first, the wheel is straight."""

    def __init__(self, driver: Any, frames: int):
        """Wrap a driver; `frames` is how many control periods late."""
        self.driver, self.frames = driver, frames
        self._waiting: deque[NDArray[np.float32]] = deque()

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving`."""
        actions = np.array(self.driver.act(frames, elapsed, starts, envs))
        if not self._waiting:
            self._waiting.extend(np.zeros_like(actions) for _ in range(self.frames))
        for late in self._waiting:
            late[starts] = 0.0
        self._waiting.append(actions.copy())
        actions[:, 0] = self._waiting.popleft()[:, 0]
        return actions

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)
