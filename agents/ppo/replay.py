"""Envs that can be put back where they were: the seed of the episode and the actions since its start.

A simulator's inside cannot be saved in general, but it can be reached again: reset with the same seed, make the same
steps. `ReplayableEpisodes` gives every episode a seed of its own, drawn from the env's seed and the episode's number,
and records the actions of the running episode, so an interrupted training run resumes exactly.

    env = ReplayableEpisodes(gymnasium.make("CartPole-v1"))
    env.reset(seed=7)
    snapshot = env.snapshot()
    env.restore(snapshot)
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
    """Seeds every episode and records its actions.

    Exact for envs whose resets depend on the seed alone and whose steps are deterministic given it: Wormwheel's own
    and Gymnasium's.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], replay_failed_prob: float = 0.0):
        """Wrap an env; until `reset` names a seed, a random one is used.

        Args:
            env: to be wrapped.
            replay_failed_prob: probability that an episode which was terminated is replayed, with the same seed. What
                is rare and difficult ends early and would make up few steps; so it makes up more, until it is mastered.
                Jiang et al. (*Prioritized Level Replay*, ICML 2021) choose by learning potential what to replay.
        """
        super().__init__(env)
        self._seed = int(np.random.default_rng().integers(2**31))
        self._replay_failed_prob = replay_failed_prob
        self._episode = self._level = -1
        self._terminated = False
        self._actions: list[NDArray[Any]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode; with a seed, begin the first one of that seed."""
        if seed is not None:
            self._seed, self._episode, self._terminated = int(seed), -1, False
        self._episode += 1
        if not (self._terminated and _chance(self._seed, self._episode) < self._replay_failed_prob):
            self._level = self._episode
        return self._begin(options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step and record its action."""
        self._actions.append(np.array(action))
        result = self.env.step(action)
        self._terminated = result[2]
        return result

    def snapshot(self) -> dict[str, Any]:
        """Return where the env is.

        Returns:
            `seed` and number of the `episode`; `level`, the episode that had this one's seed first; and `actions`, an
            array `[steps, …]`.
        """
        actions = np.array(self._actions)
        return {"seed": self._seed, "episode": self._episode, "level": self._level, "actions": actions}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Return to where `snapshot` was taken, in an env of the same kind.

        Raises:
            RuntimeError: if the episode ends on the way, so the env is not the same or not deterministic.
        """
        self._seed, self._episode = int(snapshot["seed"]), int(snapshot["episode"])
        self._level = int(snapshot.get("level", self._episode))  # Learners of earlier versions replayed nothing.
        self._begin(None)
        for number, action in enumerate(snapshot["actions"]):
            _, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                raise RuntimeError(
                    f"the env ended its episode at step {number + 1} of the {len(snapshot['actions'])} that were to be "
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
    replay_failed_prob: float = 0.0,
) -> VecEnv:
    """Make envs that step side by side and can be replayed.

    Args:
        make_env: makes one.
        count: N, how many.
        workers: processes that step them; 0 steps them in this one. The results are the same. Pays for envs that take
            long; `python -m experiments.benchmarks.ppo --vector-envs` measures it.
        replay_failed_prob: probability that an episode which was terminated is replayed with the same seed.

    Returns:
        A vector env, not reset yet; a learner seeds it by `seed_envs`.

    Raises:
        ValueError: if `workers` is negative, or `replay_failed_prob` is not in [0, 1).
    """
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}.")
    if not 0 <= replay_failed_prob < 1:
        raise ValueError(f"replay_failed_prob must lie in [0, 1), got {replay_failed_prob}.")

    def make() -> gymnasium.Env[Any, Any]:
        return ReplayableEpisodes(Monitor(make_env()), replay_failed_prob)

    return SharedVecEnv([make] * count, min(workers, count)) if workers else DummyVecEnv([make] * count)


def seed_envs(vector: VecEnv, seed: int) -> None:
    """Seed the envs for their next reset, env i by `SeedSequence([seed, i])`.

    `VecEnv.seed` gives env i the seed + i, so learners with neighbouring seeds would share most of their episodes.
    """
    vector.seed(seed)
    for number in range(vector.num_envs):
        vector.unwrapped._seeds[number] = episode_seed(seed, number)


def is_replayable(vector: VecEnv) -> bool:
    """Return whether every env in it is a `ReplayableEpisodes`."""
    return all(vector.env_is_wrapped(ReplayableEpisodes))
