"""Envs that can be put back where they were: the seed of the episode and the actions since its start.

A simulator's inside cannot be saved in general, but it can be reached again: reset with the same seed, make the same
steps. `ReplayableEpisodes` gives every episode a seed of its own, drawn from the env's seed and the episode's number,
and remembers the actions of the running episode, so an interrupted training run goes on exactly.

    env = ReplayableEpisodes(gymnasium.make("CartPole-v1"))
    env.reset(seed=7)
    there = env.snapshot()
    env.restore(there)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents.ppo.shared_vec_env import SharedVecEnv


class ReplayableEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Seeds every episode and remembers its actions.

    Exact for envs whose resets depend on the seed alone and whose steps are deterministic given it: Wormwheel's own
    and Gymnasium's.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], retry: float = 0.0):
        """Wrap an env; until `reset` names a seed, a random one is used.

        Args:
            env: to be wrapped.
            retry: probability that an episode which was terminated is met once more, with the same seed. What is rare
                and difficult ends early and would make up few steps; so it makes up more, until it is mastered. Jiang
                et al. (*Prioritized Level Replay*, ICML 2021) choose by learning potential what to meet again.
        """
        super().__init__(env)
        self._seed = int(np.random.default_rng().integers(2**31))
        self._retry = retry
        self._episode = self._level = -1
        self._terminated = False
        self._actions: list[NDArray[Any]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode; with a seed, begin the first one of that seed."""
        if seed is not None:
            self._seed, self._episode, self._terminated = int(seed), -1, False
        self._episode += 1
        if not (self._terminated and _chance(self._seed, self._episode) < self._retry):
            self._level = self._episode
        return self._begin(options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step and remember it."""
        self._actions.append(np.array(action))
        result = self.env.step(action)
        self._terminated = result[2]
        return result

    def snapshot(self) -> dict[str, Any]:
        """Return where the env is: `seed`, `episode`, `level` (the episode that began with this one's seed first) and
        `actions`, an array `[steps, …]`.
        """  # noqa: D205
        actions = np.array(self._actions)
        return {"seed": self._seed, "episode": self._episode, "level": self._level, "actions": actions}

    def restore(self, there: dict[str, Any]) -> None:
        """Go to where `snapshot` was taken, in an env of the same kind.

        Raises:
            RuntimeError: if the episode ends on the way, so the env is not the same or not deterministic.
        """
        self._seed, self._episode = int(there["seed"]), int(there["episode"])
        self._level = int(there.get("level", self._episode))  # Learners of earlier versions met nothing twice.
        self._begin(None)
        for number, action in enumerate(there["actions"]):
            _, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                raise RuntimeError(
                    f"the env ended its episode at step {number + 1} of the {len(there['actions'])} that were to be "
                    "repeated: it is not the env of the saved run, or its steps depend on more than its seed."
                )

    def _begin(self, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        self._actions, self._terminated = [], False
        return self.env.reset(seed=episode_seed(self._seed, self._level), options=options)


def episode_seed(seed: int, episode: int) -> int:
    """Return the seed of the n-th episode of an env with some seed, in [0, 2³¹)."""
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0] >> 1)


def _chance(seed: int, episode: int) -> float:
    """Return a number in [0, 1) that belongs to the n-th episode of an env with some seed."""
    return float(np.random.default_rng([seed, episode, 1]).random())


def make_vector_env(
    make_env: Callable[[], gymnasium.Env[Any, Any]],
    count: int,
    workers: int = 0,
    retry: float = 0.0,
) -> VecEnv:
    """Make envs that step side by side and can be replayed.

    Args:
        make_env: makes one.
        count: N, how many.
        workers: processes that step them; 0 steps them in this one. The results are the same. Pays for envs that take
            long; `python -m experiments.benchmarks.ppo --vector-envs` measures it.
        retry: probability that an episode which was terminated is met once more.

    Returns:
        A vector env, not reset yet; its `seed` method, which a learner calls, gives env i the seed + i.

    Raises:
        ValueError: if `workers` is negative, or `retry` is not in [0, 1).
    """
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}.")
    if not 0 <= retry < 1:
        raise ValueError(f"retry must lie in [0, 1), got {retry}.")

    def make() -> gymnasium.Env[Any, Any]:
        return ReplayableEpisodes(Monitor(make_env()), retry)

    return SharedVecEnv([make] * count, min(workers, count)) if workers else DummyVecEnv([make] * count)


def is_replayable(vector: VecEnv) -> bool:
    """Return whether every env in it is a `ReplayableEpisodes`."""
    return all(vector.env_is_wrapped(ReplayableEpisodes))
