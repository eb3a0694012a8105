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
from gymnasium import spaces
from numpy.typing import NDArray

from agents.driving.metrics import Estimate, bootstrap
from agents.driving.rollout import Step, run_episodes

EVALUATION_SEED = 1_000_000
"""Seed of the first episode that a policy is judged on while training."""
MOST_STEPS = 100_000
"""Steps of an episode that a policy is judged on; an env that does not end by itself would be judged for ever."""
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


class MiddleAction:
    """An actor that does the same throughout: the middle of each action's range, the first of discrete actions."""

    def __init__(self, space: spaces.Space[Any]):
        self._action = (
            ((space.high + space.low) / 2).astype(space.dtype)
            if isinstance(space, spaces.Box)
            else np.array(getattr(space, "start", 0))
        )

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Return that action for each observation of a batch."""
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        return np.stack([self._action] * len(first)), state


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
    """Whether it ended in a crash; of envs that report it."""


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

    Raises:
        ValueError: if an episode does not end.
    """
    scores: list[Score] = []
    for first in range(0, len(seeds), side_by_side):
        scores += _side_by_side(model, make_env, seeds[first : first + side_by_side], on_step)
    return scores


class ActorChoice:
    """What a learner does without chance, for `agents.driving.rollout.run_episodes`; keeps the states.

    Attributes:
        state: what `predict` returned last; None before the first step.
    """

    def __init__(self, model: Actor):
        self.model = model
        self.state: Any = None

    def __call__(self, observations: Sequence[Any], starts: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the likeliest actions."""
        actions, self.state = self.model.predict(_stack(observations), self.state, starts, deterministic=True)
        return actions


def _side_by_side(
    model: Actor,
    make_env: Callable[[], gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    on_step: Callable[[int, int], None] | None,
) -> list[Score]:
    """Run some episodes at the same time, each in an env of its own."""
    count = len(seeds)
    rewards, steps, crashed = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
    ended = 0

    def note(step: Step) -> None:
        nonlocal ended
        rewards[step.order] += step.reward
        steps[step.order] += 1
        if steps[step.order] >= MOST_STEPS and not step.ended:
            raise ValueError(
                f"an episode has not ended after {MOST_STEPS:,} steps: give the env a time limit "
                "(gymnasium.wrappers.TimeLimit)."
            )
        crashed[step.order] = bool(step.info.get("crashed", False))
        ended += step.ended

    def count_steps(made: int) -> None:
        nonlocal ended
        if on_step is not None:
            on_step(made, ended)
        ended = 0

    envs: list[gymnasium.Env[Any, Any]] = []
    try:
        envs += [make_env() for _ in seeds]
        run_episodes(ActorChoice(model), envs, seeds, observer=note, on_step=count_steps)
    finally:
        for env in envs:
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
