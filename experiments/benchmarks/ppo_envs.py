"""What the benchmark of PPO acts in, and how fast vector envs of several kinds step it."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

import envs
from agents.ppo_presets import preset_for
from agents.vector_env import SharedVecEnv


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


class CameraAlone(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The camera's frame without the clock, as the peers take it."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        """Wrap an env with a camera."""
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = env.observation_space["camera"]

    def observation(self, observation: Any) -> Any:
        """Return the frame."""
        return observation["camera"]


def make_env(world: str) -> gymnasium.Env[Any, Any]:
    """Make one env."""
    if world == "trivial":
        return TrivialFrames()
    bicycle = {"vehicle": "bicycle", "variety": 0.0, "episode_s": 10.0}
    roads: dict[str, Any] = bicycle if world == "lane_keeping" else preset_for("LaneKeeping").world
    return CameraAlone(gymnasium.make(envs.LANE_KEEPING, **roads))


def measure_vector_envs(world: str, count: int, workers: int, n_steps: int, rounds: int) -> dict[str, list[float]]:
    """Let vector envs of three kinds take turns.

    Args:
        world: as `make_env` takes it.
        count: N, envs of each.
        workers: processes of the one with shared memory.
        n_steps: steps of all envs in a turn.
        rounds: turns of each, after one to warm up.

    Returns:
        The steps a second of each turn.

    Raises:
        AssertionError: if they do not show the same.
    """

    def maker() -> gymnasium.Env[Any, Any]:
        return make_env(world)

    makers = [maker] * count
    workers = min(workers, count)
    vectors: dict[str, VecEnv] = {}
    now: dict[str, Any] = {}
    draws = np.random.default_rng(0)
    try:
        vectors[f"shared memory, {workers} processes"] = SharedVecEnv(makers, workers)
        vectors["SB3 DummyVecEnv, this process"] = DummyVecEnv(makers)
        vectors[f"SB3 SubprocVecEnv, {count} processes"] = SubprocVecEnv(makers)
        speeds: dict[str, list[float]] = {name: [] for name in vectors}
        for name, vector in vectors.items():
            vector.seed(0)
            now[name] = vector.reset()
        for turn in range(rounds + 1):
            actions = draws.uniform(-0.3, 0.3, (n_steps, count, 1)).astype(np.float32)
            for name, vector in vectors.items():
                started_s = time.perf_counter()
                for action in actions:
                    now[name] = vector.step(action)[0]
                if turn:
                    speeds[name].append(count * n_steps / (time.perf_counter() - started_s))
            first, *others = now.values()
            assert all(np.array_equal(first, other) for other in others), "the vector envs do not show the same"
    finally:
        for vector in vectors.values():
            vector.close()
    return speeds
