"""Worlds for PPO whose answer is known, and small learners."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.replay import make_vector_env


class Drifting(gymnasium.Env[Any, Any]):
    """A point that drifts; the reward is for holding it near the middle. Ends by chance, or is cut short."""

    def __init__(self, limit: int = 13, visual: bool = False, discrete: bool = False):
        self.limit, self.visual, self.discrete = limit, visual, discrete
        if visual:
            camera = spaces.Box(0, 255, (16, 24, 3), np.uint8)
            self.observation_space: spaces.Space[Any] = spaces.Dict(
                {"camera": camera, "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32)}
            )
        else:
            self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.action_space: spaces.Space[Any] = (
            spaces.Discrete(3) if discrete else spaces.Box(-2.0, 2.0, (1,), np.float32)
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.normal()), 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        push = 0.1 * (int(action) - 1) if self.discrete else 0.1 * float(action[0])
        self.place += push + 0.3 * float(self.np_random.normal())
        self.steps += 1
        return self._look(), 1.0 - abs(self.place), abs(self.place) > 2.0, self.steps >= self.limit, {}

    def _look(self) -> Any:
        if not self.visual:
            return np.array([self.place, self.np_random.normal()], np.float32)
        frame = np.full((16, 24, 3), 60, np.uint8)
        column = int(np.clip(12 + 4 * self.place, 0, 23))
        frame[:, column] = 220
        return {"camera": frame, "elapsed": np.array([self.np_random.uniform(0.5, 1.5)], np.float32)}


class Constant(gymnasium.Env[Any, Any]):
    """Reward 1 at every step; episodes are cut short and never end, so every state is worth 1 / (1 − gamma)."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, ends: bool = False):
        self.ends = ends

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps >= 5
        return np.ones(1, np.float32), 1.0, over and self.ends, over and not self.ends, {}


def learner(core: str = "ltc", envs: int = 3, seed: int = 0, **options: Any) -> LiquidPPO:
    """A small learner on `Drifting`; options of the world are `visual` and `discrete`."""
    world = {name: options.pop(name) for name in ("visual", "discrete") if name in options}
    vector = make_vector_env(lambda: Drifting(**world), envs)
    sizes = {"n_steps": 16, "chunk": 8, "batch_size": 16, "n_epochs": 2}
    return LiquidPPO(core, vector, seed=seed, **{**sizes, **options})
