"""What goes wrong in the worlds that PPO learns in: another thing in each episode, the same in each of one seed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from agents.ppo.envs import DrawnPerturbations, NoisyCamera, make_world
from agents.ppo.evaluate import MiddleAction, evaluate
from envs.perturbations import FAMILIES, parse


class Grey(gymnasium.Env[Any, Any]):
    """Grey frames, four steps an episode; episodes of odd seeds end in a crash."""

    observation_space = spaces.Dict(
        {"camera": spaces.Box(0, 255, (32, 64, 3), np.uint8), "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32)}
    )
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.odd, self.left = bool(seed is not None and seed % 2), 4
        return self.see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        over = not self.left
        return self.see(), 1.0, over and self.odd, over and not self.odd, {"crashed": over and self.odd}

    def see(self) -> dict[str, Any]:
        return {"camera": np.full((32, 64, 3), 128, np.uint8), "elapsed": np.ones(1, np.float32)}


def drawn(seeds: range, entries: tuple[str, ...], largest: int) -> list[str]:
    """Return the perturbation of each episode."""
    env = DrawnPerturbations(Grey(), entries, largest)
    found = []
    for seed in seeds:
        env.reset(seed=seed)
        found.append(str(env._perturbed.composition))
    return found


def test_each_episode_draws_another_perturbation_and_a_seed_the_same_again() -> None:
    entries = ("clean", "noise", "fog:5", "jpeg+motion_blur:2")
    found = drawn(range(160), entries, 3)
    assert found == drawn(range(160), entries, 3)
    parts = [parse(text).parts for text in found]
    kinds = {tuple(part.name for part in one) for one in parts}
    assert {()} | {(name,) for name in FAMILIES["noise"]} | {("fog",)} <= kinds
    assert any(set(kind) == {"jpeg", "motion_blur"} for kind in kinds)
    assert all("fog:5" in text for text in found if "fog" in text), "a severity that is named"
    assert all("motion_blur:2" in text for text in found if "motion_blur" in text)
    severities = {part.severity for one in parts for part in one if part.name in (*FAMILIES["noise"], "jpeg")}
    assert severities == {1, 2, 3}, "those that are not, up to the largest"
    assert 24 < sum(not one for one in parts) < 60, "each entry as likely"


def test_each_episode_draws_another_variance_of_the_noise_and_a_seed_the_same_again() -> None:
    env = NoisyCamera(Grey(), 0.02)
    spreads = [float(env.reset(seed=seed)[0]["camera"].std()) for seed in range(40)]
    assert spreads == [float(env.reset(seed=seed)[0]["camera"].std()) for seed in range(40)]
    variances = np.square(np.array(spreads) / 255)
    assert variances.min() < 0.003 and 0.015 < variances.max() < 0.022
    assert 0.006 < variances.mean() < 0.014, "evenly up to the largest"


def test_a_crash_counts_for_the_episode_that_it_ended() -> None:
    scores = evaluate(MiddleAction(Grey.action_space), Grey, [4, 7, 8, 10, 13], side_by_side=2)
    assert [(score.seed, score.crashed) for score in scores] == [
        (4, False),
        (7, True),
        (8, False),
        (10, False),
        (13, True),
    ]
    assert [(score.reward, score.steps) for score in scores] == [(pytest.approx(4.0), 4)] * 5
    (untold,) = evaluate(MiddleAction(make_world("CartPole-v1").action_space), lambda: make_world("CartPole-v1"), [4])
    assert not untold.crashed, "an env that does not tell has no crashes"
