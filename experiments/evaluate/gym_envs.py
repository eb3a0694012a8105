"""How well do PPO learners do in the worlds that they learnt in, other than LaneKeeping? The reward of an episode.

wormwheel evaluate --policy runs/ppo-CarRacing-v3-ltc --episodes 100 --perturbations fog:3
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.checkpoint import FILE
from agents.ppo.envs import disturbed, make_world
from agents.ppo.evaluate import evaluate, mean_reward
from envs.perturbations import parse
from experiments.console import progress, show, table
from experiments.evaluate.recordings import condition, condition_title


def evaluate_worlds(
    policies: dict[str, Path],
    world: str,
    seeds: Sequence[int],
    conditions: Sequence[tuple[float, str]] = ((0.0, ""),),
    effect_seed: int = 0,
    trust: bool = False,
) -> list[dict[str, Any]]:
    """Let learners act without chance on the same seeds and show their rewards.

    Args:
        policies: their directories by name.
        world: a name that `agents.ppo.envs.make_world` takes.
        seeds: one for each episode.
        conditions: variance of the noise on the frames, and perturbation, of each row.
        effect_seed: of noise and perturbations.
        trust: import the module that the world names.

    Returns:
        For each learner and condition its name, its mean reward with an interval, and every episode.

    Raises:
        ValueError: if one is no PPO learner, or does not fit the world, or the world cannot be perturbed so.
    """
    models = {name: _load(path, world, trust) for name, path in policies.items()}
    for variance, text in conditions:
        if parse(text).attacks:
            raise ValueError(
                f"{text} attacks a driver's gradient, which learners are not asked for here; leave it out."
            )
        disturbed(make_world(world, trust=trust), text, effect_seed, variance).close()
    figures: list[dict[str, Any]] = []
    perturbed, clean = any(text for _, text in conditions), tuple(conditions) == ((0.0, ""),)
    with progress(f"acting in {world}", len(models) * len(conditions) * len(seeds), "episodes") as bar:
        for name, (variance, text) in itertools.product(models, conditions):
            model = models[name]
            make_env = partial(_make, world, trust, text, effect_seed, variance)
            scores = evaluate(model, make_env, seeds, on_step=lambda _, ended: bar.advance(ended) if ended else None)
            rewards = np.array([score.reward for score in scores])
            figures.append(
                {
                    "driver": name,
                    "world": world,
                    "noise_variance": variance,
                    "perturbation": text,
                    "after_steps": model.num_timesteps,
                    "reward": mean_reward(scores),
                    "deviation": float(rewards.std()),
                    "episodes": [vars(score) for score in scores],
                }
            )
    rows = [
        [
            str(one["driver"]),
            *([] if clean else [condition(one["noise_variance"], one["perturbation"], perturbed)]),
            show(one["reward"], 1),
            f"{one['deviation']:.1f}",
            f"{np.mean([episode['steps'] for episode in one['episodes']]):.0f}",
            f"{one['after_steps']:,}",
        ]
        for one in figures
    ]
    columns = [
        "driver",
        *([] if clean else [condition_title(perturbed)]),
        "reward",
        "deviation of an episode",
        "steps an episode",
        "learnt for, steps",
    ]
    table(f"{world}: {len(seeds)} episodes from seed {seeds[0]}, mean with 95 % interval", columns, rows)
    return figures


def _make(world: str, trust: bool, perturbation: str, seed: int, variance: float) -> gymnasium.Env[Any, Any]:
    return disturbed(make_world(world, trust=trust), perturbation, seed, variance)


def _load(path: Path, world: str, trust: bool) -> LiquidPPO:
    """Read a learner and check that it fits the world."""
    if not (path / FILE).is_file():
        raise ValueError(f"{path} is no PPO learner: it has no {FILE}. Only such can act in {world}.")
    model = LiquidPPO.load(path)
    env = make_world(world, trust=trust)
    try:
        for kind in ("observation_space", "action_space"):
            mine, theirs = getattr(model, kind), getattr(env, kind)
            if mine != theirs:
                raise ValueError(f"{path} has {kind.replace('_', ' ')} {mine}, {world} has {theirs}.")
    finally:
        env.close()
    return model
