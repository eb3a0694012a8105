"""What the benchmark of PPO acts in, and how fast vector envs of several kinds step it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

import envs
from agents.ppo.algorithm import LiquidPPO
from agents.ppo.envs import CameraAlone
from agents.ppo.presets import preset_for
from agents.ppo.shared_vec_env import SharedVecEnv


class TrivialFrames(gymnasium.Env[Any, Any]):
    """Frames that cost nothing: what is measured is the learner."""

    observation_space = spaces.Box(0, 255, (64, 96, 3), np.uint8)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of 50 to 150 steps."""
        super().reset(seed=seed)
        self._frames = self.np_random.integers(0, 256, (4, 64, 96, 3), np.uint8)
        self._left = int(self.np_random.integers(50, 150))
        return self._frames[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Show the next frame."""
        self._left -= 1
        return self._frames[self._left % 4], float(action[0]), self._left <= 0, False, {}


def make_env(world: str) -> gymnasium.Env[Any, Any]:
    """Make one env."""
    if world == "trivial":
        return TrivialFrames()
    bicycle = {"vehicle": "bicycle", "variety": 0.0, "episode_s": 10.0}
    # Beginners crash all the time; a new road for every crash would hide what a step costs for the rest of a training.
    racecar = {**preset_for("LaneKeeping").world, "vehicle": "bullet", "resets_per_road": 1000}
    roads: dict[str, Any] = bicycle if world == "lane_keeping" else racecar
    return CameraAlone(gymnasium.make(envs.LANE_KEEPING, **roads))


def measure_vector_envs(
    world: str, count: int, workers: int, n_steps: int, rounds: int, training: bool = False
) -> dict[str, list[float]]:
    """Let vector envs of three kinds take turns.

    Args:
        world: as `make_env` takes it.
        count: N, envs of each.
        workers: processes of the one with shared memory.
        n_steps: steps of all envs in a turn.
        rounds: turns of each, after one to warm up.
        training: let a learner act in them, and learn, instead of chance.

    Returns:
        The steps a second of each turn.

    Raises:
        AssertionError: if they do not show the same, or what is learned in them is not the same.
    """

    def maker() -> gymnasium.Env[Any, Any]:
        return make_env(world)

    makers, workers = [maker] * count, min(workers, count)
    shared, alone = f"shared memory, {workers} processes", "SB3 DummyVecEnv, this process"
    each = f"SB3 SubprocVecEnv, {count} processes"
    vectors: dict[str, VecEnv] = {}
    try:
        vectors |= {shared: SharedVecEnv(makers, workers), alone: DummyVecEnv(makers), each: SubprocVecEnv(makers)}
        turn = _learning(vectors, n_steps) if training else _stepping(vectors, n_steps)
        speeds: dict[str, list[float]] = {name: [] for name in vectors}
        now = {}
        for number in range(rounds + 1):
            for name in vectors:
                started_s = time.perf_counter()
                now[name] = turn(name, number)
                if number:
                    speeds[name].append(count * n_steps / (time.perf_counter() - started_s))
            same = vectors if not training else (shared, alone)  # Rewards of the third come in float64.
            assert all(np.array_equal(now[shared], now[name]) for name in same), "the vector envs differ"
    finally:
        for vector in vectors.values():
            vector.close()
    return speeds


def _stepping(vectors: Mapping[str, VecEnv], n_steps: int) -> Callable[[str, int], Any]:
    """Return what makes a turn of random steps and gives the last frames."""
    for vector in vectors.values():
        vector.seed(0)
        vector.reset()

    def turn(name: str, number: int) -> Any:
        vector, draws = vectors[name], np.random.default_rng(number)
        for action in draws.uniform(-0.3, 0.3, (n_steps, vector.num_envs, 1)).astype(np.float32):
            frames = vector.step(action)[0]
        return frames

    return turn


def _learning(vectors: Mapping[str, VecEnv], n_steps: int) -> Callable[[str, int], Any]:
    """Return what makes a turn of learning, by LaneKeeping's preset, and gives some of the weights."""
    preset = preset_for("LaneKeeping")
    config = replace(preset.learning, n_steps=n_steps)
    models = {name: LiquidPPO("ltc", vector, config, **preset.networks) for name, vector in vectors.items()}

    def turn(name: str, number: int) -> Any:
        model = models[name]
        model.learn(n_steps * model.n_envs, reset_num_timesteps=number == 0)
        return next(model.policy.parameters()).detach().numpy().copy()

    return turn
