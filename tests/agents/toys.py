"""Episodes and envs small enough to know the answer: a bright bar whose place says how to steer."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet

HEIGHT, WIDTH = 16, 32
PERIOD_S = 0.05


class ArrayFrames:
    """A `FrameSource` in memory."""

    def __init__(self, frames: NDArray[np.uint8]):
        self.frames = frames

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return self.frames[start:stop].copy(), np.ones(stop - start, bool)


def bar(place: float, brightness: int = 200) -> NDArray[np.uint8]:
    """A frame with a vertical bar; `place` −1 is the right edge, 1 the left edge."""
    frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    column = round((1 - place) / 2 * (WIDTH - 4))
    frame[:, column : column + 4] = brightness
    return frame


def episode(steps: int = 120, seed: int = 0, delay: int = 0) -> Episode:
    """A bar that wanders; the steering is its place `delay` frames ago."""
    rng = np.random.default_rng(seed)
    place = np.convolve(rng.normal(size=steps + 40), np.ones(12) / 12, "same")[20:-20]
    place = np.clip(2 * place, -0.9, 0.9)
    steering = np.concatenate([np.zeros(delay), place[: steps - delay]]).astype(np.float32)
    meta = EpisodeMeta(source=f"toy{seed}", nominal_period_s=PERIOD_S, height=HEIGHT, width=WIDTH)
    frames = np.stack([bar(p) for p in place])
    return Episode(steering, np.arange(steps) * PERIOD_S, meta, ArrayFrames(frames))


def episodes(count: int = 6, steps: int = 120, seed: int = 0, delay: int = 0) -> EpisodeSet:
    return EpisodeSet(tuple(episode(steps, seed * 1000 + number, delay) for number in range(count)))


class BarEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """A bar that drifts away unless it is steered back: steer by its place and it stays in the middle."""

    def __init__(self, steps: int = 40, drift: float = 0.05):
        self.observation_space = gymnasium.spaces.Dict(
            camera=gymnasium.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8),
            elapsed=gymnasium.spaces.Box(0, np.inf, (1,), np.float32),
        )
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.steps, self.drift = steps, drift

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-0.3, 0.3))
        self.count = 0
        self.options = options
        return self._observe(), {}

    def step(self, action: NDArray[np.float32]) -> Any:
        self.count += 1
        self.place += self.drift * (1 if self.place >= 0 else -1) - 0.4 * float(action[0])
        crashed = abs(self.place) > 0.95
        info = {
            "lateral_offset_m": self.place,
            "progress_m": 0.1 * self.count,
            "time_s": PERIOD_S * self.count,
            "lane_width_m": 1.0,
            "crashed": crashed,
            "track": "toy",
        }
        return self._observe(), 0.0, crashed, self.count >= self.steps, info

    def _observe(self) -> dict[str, Any]:
        return {"camera": bar(float(np.clip(self.place, -1, 1))), "elapsed": np.ones(1, np.float32)}
