"""How well do PPO learners do in the worlds that they learnt in, other than LaneKeeping? The reward of an episode.

wormwheel evaluate --policy runs/ppo-CarRacing-v3-ltc --episodes 100
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.checkpoint import FILE
from agents.ppo.envs import make_world
from agents.ppo.evaluate import evaluate, mean_reward
from experiments.console import progress, show, table


def evaluate_worlds(policies: dict[str, Path], world: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Let learners act without chance on the same seeds and show their rewards.

    Args:
        policies: their directories by name.
        world: a name that `agents.ppo.envs.make_world` takes.
        seeds: one for each episode.

    Returns:
        For each learner its name, its mean reward with an interval, and every episode.

    Raises:
        ValueError: if one is no PPO learner, or does not fit the world.
    """
    models = {name: _load(path, world) for name, path in policies.items()}
    figures: list[dict[str, Any]] = []
    with progress(f"acting in {world}", len(models) * len(seeds), "episodes") as bar:
        for name, model in models.items():
            scores = evaluate(
                model, lambda: make_world(world), seeds, on_step=lambda _, ended: bar.advance(ended) if ended else None
            )
            rewards = np.array([score.reward for score in scores])
            figures.append(
                {
                    "driver": name,
                    "world": world,
                    "after_steps": model.num_timesteps,
                    "reward": mean_reward(scores),
                    "deviation": float(rewards.std()),
                    "episodes": [vars(score) for score in scores],
                }
            )
    rows = [
        [
            str(one["driver"]),
            show(one["reward"], 1),
            f"{one['deviation']:.1f}",
            f"{np.mean([episode['steps'] for episode in one['episodes']]):.0f}",
            f"{one['after_steps']:,}",
        ]
        for one in figures
    ]
    columns = ["driver", "reward", "deviation of an episode", "steps an episode", "learnt for, steps"]
    table(f"{world}: {len(seeds)} episodes from seed {seeds[0]}, mean with 95 % interval", columns, rows)
    return figures


def _load(path: Path, world: str) -> LiquidPPO:
    """Read a learner and check that it fits the world."""
    if not (path / FILE).is_file():
        raise ValueError(f"{path} is no PPO learner: it has no {FILE}. Only such can act in {world}.")
    model = LiquidPPO.load(path)
    env = make_world(world)
    try:
        for kind in ("observation_space", "action_space"):
            mine, theirs = getattr(model, kind), getattr(env, kind)
            if mine != theirs:
                raise ValueError(f"{path} has {kind.replace('_', ' ')} {mine}, {world} has {theirs}.")
    finally:
        env.close()
    return model
