"""How well does a learner do in its world? Episodes without chance in the actions, on seeds of their own.

scores = evaluate(model, lambda: make_world("CartPole-memory"), range(1_000_000, 1_000_010))
mean_reward(scores)  # with a 95 % interval
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.driving.metrics import Estimate, bootstrap

EVALUATION_SEED = 1_000_000
"""Seed of the first episode that a policy is judged on while training."""
SIDE_BY_SIDE = 10
"""Episodes that run at the same time."""


class Actor(Protocol):
    """Whatever acts as Stable-Baselines3's algorithms do, such as `LiquidPPO`."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Choose actions for a batch of observations; see `LiquidPPO.predict`."""
        ...


@dataclass(frozen=True)
class Score:
    """How one episode went."""

    seed: int
    """Of the episode."""
    reward: float
    """Sum of the rewards."""
    steps: int
    """Length."""
    crashed: bool
    """Whether it ended in a crash; of worlds that tell."""


def evaluate(
    model: Actor,
    make_env: Callable[[], gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    side_by_side: int = SIDE_BY_SIDE,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Let a policy act without chance, one episode for each seed.

    Args:
        model: the policy; nothing in it changes.
        make_env: makes an env.
        seeds: one for each episode.
        side_by_side: episodes that run at the same time.
        on_step: called with the numbers of steps made and of episodes ended since the last call.

    Returns:
        A score for each episode, in the order of the seeds.
    """
    scores: list[Score] = []
    for first in range(0, len(seeds), side_by_side):
        scores += _side_by_side(model, make_env, seeds[first : first + side_by_side], on_step)
    return scores


def _side_by_side(
    model: Actor,
    make_env: Callable[[], gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    on_step: Callable[[int, int], None] | None,
) -> list[Score]:
    """Run some episodes at the same time, each in an env of its own."""
    count = len(seeds)
    rewards, steps, crashed = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
    going, state = np.ones(count, bool), None
    worlds: list[gymnasium.Env[Any, Any]] = []
    try:
        worlds += [make_env() for _ in seeds]
        observations = [env.reset(seed=int(seed))[0] for env, seed in zip(worlds, seeds, strict=True)]
        while going.any():
            actions, state = model.predict(_stack(observations), state, deterministic=True)
            before = going.copy()
            for number in np.flatnonzero(before):
                observation, reward, terminated, truncated, info = worlds[number].step(actions[number])
                observations[number] = observation
                rewards[number] += float(reward)
                steps[number] += 1
                going[number] = not (terminated or truncated)
                crashed[number] = bool(info.get("crashed", False))
            if on_step is not None:
                on_step(int(before.sum()), int((before & ~going).sum()))
    finally:
        for env in worlds:
            env.close()
    return [
        Score(int(seed), float(reward), int(length), bool(crash))
        for seed, reward, length, crash in zip(seeds, rewards, steps, crashed, strict=True)
    ]


def mean_reward(scores: Sequence[Score]) -> Estimate:
    """Return the mean reward of an episode with its 95 % bootstrap interval over episodes."""
    rewards = np.array([score.reward for score in scores])
    return bootstrap(lambda chosen: float(rewards[chosen].mean()), len(rewards))


def _stack(observations: Sequence[Any]) -> Any:
    """Put single observations, arrays or dicts of arrays, into a batch."""
    first = observations[0]
    if isinstance(first, dict):
        return {name: np.stack([one[name] for one in observations]) for name in first}
    return np.stack(observations)
