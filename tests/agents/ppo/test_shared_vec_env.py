"""Envs in a few processes give bit for bit what they give in one, and what goes wrong in them is told here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import envs
from agents.ppo.algorithm import LiquidPPO
from agents.ppo.replay import ReplayableEpisodes, make_vector_env
from agents.ppo.shared_vec_env import SharedVecEnv
from agents.runs.workers import WorkerLost
from tests.agents.ppo.toys import Drifting

LANE: dict[str, Any] = {
    **{"vehicle": "bicycle", "height": 24, "width": 48, "elapsed_jitter": 0.3, "episode_s": 0.4},
    "start_offset": 0.9,
}
WORLDS: dict[str, Callable[[], gymnasium.Env[Any, Any]]] = {
    "camera": lambda: gymnasium.make(envs.LANE_KEEPING, **LANE),
    "vector": lambda: gymnasium.make("CartPole-v1", max_episode_steps=9),
    "continuous": Drifting,
}


class Fragile(gymnasium.Env[Any, Any]):
    """Breaks, or dies, when told to."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(3)
    colour = "red"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {"seed": seed, "options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == 1:
            raise ValueError("the wheel has come off")
        if action == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(1, np.float32), 1.0, False, False, {}

    def painted(self, colour: str) -> str:
        return f"{self.colour} and {colour}"


@pytest.fixture
def fragile() -> Iterator[SharedVecEnv]:
    vector = SharedVecEnv([Fragile] * 3, workers=2)
    yield vector
    vector.close()


def equal(one: Any, two: Any) -> bool:
    """Compare arrays, numbers and containers of them bit for bit, dtypes included."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[name], two[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(equal(*pair) for pair in zip(one, two, strict=True))
    return np.asarray(one).dtype == np.asarray(two).dtype and np.array_equal(one, two)


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_as_in_one_process(world: str) -> None:
    alone, shared = DummyVecEnv([WORLDS[world]] * 3), SharedVecEnv([WORLDS[world]] * 3, workers=2)
    try:
        assert (alone.observation_space, alone.action_space) == (shared.observation_space, shared.action_space)
        for vector in (alone, shared):
            vector.seed(5)
            vector.action_space.seed(0)
        assert equal(alone.reset(), shared.reset()) and equal(alone.reset_infos, shared.reset_infos)
        ends = 0
        for _ in range(25):
            actions = np.stack([alone.action_space.sample() for _ in range(3)])
            mine, theirs = shared.step(actions), alone.step(actions)
            assert all(equal(*pair) for pair in zip(mine, theirs, strict=True))
            assert equal(alone.reset_infos, shared.reset_infos)
            ends += int(theirs[2].sum())
        assert ends > 3 and any("terminal_observation" in info for info in theirs[3]) == bool(theirs[2].any())
    finally:
        alone.close()
        shared.close()


def test_what_was_seen_stays_as_it_was() -> None:
    vector = SharedVecEnv([WORLDS["camera"]] * 2, workers=1)
    try:
        first = vector.reset()
        assert isinstance(first, dict) and first["camera"].dtype == np.uint8
        kept = first["camera"].copy()
        vector.step(np.zeros((2, 1), np.float32))
        np.testing.assert_array_equal(first["camera"], kept)
    finally:
        vector.close()


def test_learning_does_not_depend_on_the_number_of_processes() -> None:
    sizes: dict[str, Any] = {"n_steps": 16, "chunk": 8, "batch_size": 16, "n_epochs": 1, "seed": 2}
    weights = []
    for workers in (0, 2):
        vector: VecEnv = make_vector_env(Drifting, 3, workers)
        try:
            model = LiquidPPO("ltc", vector, **sizes)
            model.learn(96)
            weights.append(model.policy.state_dict())
            if workers:
                there = vector.env_method("snapshot")
                assert vector.env_is_wrapped(ReplayableEpisodes) == [True] * 3
                vector.env_method("restore", there[1], indices=1)
        finally:
            vector.close()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_asking_and_telling(fragile: SharedVecEnv) -> None:
    assert fragile.get_attr("colour") == ["red"] * 3
    fragile.set_attr("colour", "blue", indices=[2, 0])
    assert fragile.get_attr("colour", indices=[2, 1]) == ["blue", "red"]
    assert fragile.env_method("painted", "green", indices=2) == ["blue and green"]
    fragile.seed(7)
    fragile.set_options([{"n": 0}, {"n": 1}, {"n": 2}])
    fragile.reset()
    assert fragile.reset_infos == [{"seed": 7 + n, "options": {"n": n}} for n in range(3)]
    fragile.reset()
    assert fragile.reset_infos == [{"seed": None, "options": None}] * 3


def test_an_error_reaches_the_learner(fragile: SharedVecEnv) -> None:
    fragile.reset()
    with pytest.raises(ValueError, match="the wheel has come off") as caught:
        fragile.step(np.array([0, 0, 1]))
    assert "in step" in str(caught.value.__cause__)  # Where it happened over there.
    fragile.close()
    with pytest.raises(RuntimeError, match="closed"):
        fragile.reset()


def test_a_killed_process_is_missed(fragile: SharedVecEnv) -> None:
    fragile.reset()
    with pytest.raises(WorkerLost, match="envs 0 to 1 was killed"):
        fragile.step(np.array([0, 2, 0]))


def test_an_env_that_cannot_be_made_says_so() -> None:
    made: list[bool] = []

    def make() -> gymnasium.Env[Any, Any]:
        if made:
            raise ValueError("no second one")
        made.append(True)
        return Fragile()

    with pytest.raises(ValueError, match="no second one"):
        SharedVecEnv([make] * 2, workers=1)


def test_closing_in_the_middle_of_a_step_leaves_no_process(fragile: SharedVecEnv) -> None:
    processes = list(fragile._processes)
    fragile.reset()
    fragile.step_async(np.zeros(3, int))
    fragile.close()
    fragile.close()
    assert not any(process.is_alive() for process in processes)


def test_the_number_of_processes_is_checked() -> None:
    with pytest.raises(ValueError, match="between 1 and the number of envs, 2, got 3"):
        SharedVecEnv([Fragile] * 2, workers=3)
    with pytest.raises(ValueError, match="workers must be at least 0"):
        make_vector_env(Fragile, 2, -1)


def test_a_question_that_fails_leaves_the_envs_alive(fragile: SharedVecEnv) -> None:
    fragile.reset()
    assert not fragile.has_attr("smell") and fragile.has_attr("colour")
    with pytest.raises(TypeError, match="painted"):
        fragile.env_method("painted")
    _, rewards, _, _ = fragile.step(np.zeros(3, np.int64))
    assert rewards.tolist() == [1.0] * 3
