"""Ending an episode after whole laps instead of after a time."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium


class StopAfterLaps(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncate a LaneKeeping episode once the car has made so many laps; leaving the road still terminates it.

    Make the env with an `episode_s` that is long enough.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], laps: float = 1.0):
        """Wrap an env.

        Args:
            env: a LaneKeeping env.
            laps: laps to drive, > 0, any fraction.

        Raises:
            ValueError: if `laps` is not positive.
        """
        if not 0 < laps < float("inf"):
            raise ValueError(f"laps must be a positive number, got {laps}.")
        super().__init__(env)
        self.laps = laps

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Drive for one period."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        done = info["progress_m"] >= self.laps * self.env.unwrapped.track.length_m  # type: ignore[attr-defined]
        return observation, reward, terminated, truncated or done, info
