"""A world that needs memory: cores that have one learn it, a feed-forward one cannot."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.evaluate import evaluate
from agents.ppo.replay import make_vector_env


class Recall(gymnasium.Env[Any, Any]):
    """Shows left or right once, then nothing; three steps later the action should say which it was."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.answer, self.steps = int(self.np_random.integers(2)), 0
        return np.array([2 * self.answer - 1, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 4
        reward = float(int(action) == self.answer) if over else 0.0
        return np.array([0, self.steps == 3], np.float32), reward, over, False, {}


@pytest.mark.parametrize("core", ["ltc", "cfc", "lstm", "feedforward"])
def test_who_has_a_memory_recalls(core: str) -> None:
    sizes: dict[str, Any] = {"n_steps": 16, "chunk": 16, "batch_size": 64, "n_epochs": 4, "gamma": 0.95}
    vector = make_vector_env(Recall, 16)
    model = LiquidPPO(core, vector, learning_rate=3e-3, core_learning_rate=1e-2, **sizes)
    model.learn(3072)
    right = np.mean([score.reward for score in evaluate(model, Recall, range(100, 140), side_by_side=40)])
    if core == "feedforward":
        assert right < 0.75  # Half of the answers, by luck a few more.
    else:
        assert right == 1.0
