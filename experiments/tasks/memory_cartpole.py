"""CartPole without velocities: whoever sees places and angles alone must remember to balance.

An answer that is known beforehand: cores with memory learn it, a feed-forward one cannot. A run is solved when ten
evaluation episodes, without chance in the actions, reach 475 on average (500 is the most), Gymnasium's own bar.

    python -m experiments.tasks.memory_cartpole --cores ltc cfc lstm feedforward --seeds 3
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from stable_baselines3.common.callbacks import BaseCallback

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.envs import make_world
from agents.ppo.evaluate import EVALUATION_SEED, evaluate
from agents.ppo.presets import preset_for
from agents.ppo.replay import make_vector_env
from experiments.cli import run_script
from experiments.console import check_json, progress, table, write_results
from experiments.options import parse_core_options

WORLD = "CartPole-memory"
SOLVED = 475.0
"""Mean reward from which a run counts as solved."""


@dataclass(frozen=True)
class Options:
    """The task."""

    cores: tuple[str, ...] = ("ltc", "cfc", "lstm", "feedforward")
    """Cores to compare."""
    seeds: int = 1
    """Runs of each core."""
    steps: int = 200_000
    """Steps of all envs together, at most; a run ends when it is solved."""
    evaluate_every: int = 8192
    """Steps between two evaluations."""
    episodes: int = 10
    """Episodes of an evaluation."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the figures as JSON; nowhere when left out."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.cores or min(self.seeds, self.steps, self.evaluate_every, self.episodes) < 1:
            raise ValueError(
                "cores must name one core or more; seeds, steps, evaluate_every and episodes are at least 1."
            )
        for core in self.cores:
            parse_core_options(core, ())


class UntilSolved(BaseCallback):
    """Evaluates now and then and stops at the bar.

    Attributes:
        curve: steps and mean reward of each evaluation.
    """

    def __init__(self, options: Options):
        """Watch over a run."""
        super().__init__()
        self._options = options
        self.curve: list[tuple[int, float]] = []

    def _on_rollout_start(self) -> None:
        """Evaluate if it is time."""
        if self.num_timesteps // self._options.evaluate_every > len(self.curve):
            self.curve.append((self.num_timesteps, judge(self.model, self._options.episodes)))

    def _on_step(self) -> bool:
        """Train until it is solved."""
        return not (self.curve and self.curve[-1][1] >= SOLVED)


def judge(model: Any, episodes: int) -> float:
    """Return the mean reward of some episodes without chance in the actions."""
    scores = evaluate(model, lambda: make_world(WORLD), range(EVALUATION_SEED, EVALUATION_SEED + episodes))
    return float(np.mean([score.reward for score in scores]))


def learn(core: str, seed: int, options: Options) -> list[tuple[int, float]]:
    """Train one core; returns steps and mean reward of each evaluation, the last one included."""
    preset = preset_for(WORLD)
    vector = make_vector_env(lambda: make_world(WORLD), preset.envs)
    try:
        networks: dict[str, Any] = preset.networks
        model = LiquidPPO(core, vector, preset.learning, seed=seed, **networks)
        watch = UntilSolved(options)
        model.learn(options.steps, watch)
        return [*watch.curve, (model.num_timesteps, judge(model, options.episodes))]
    finally:
        vector.close()


def main(options: Options) -> None:
    """Train all, show, write."""
    check_json(options.json)
    curves: dict[str, list[list[tuple[int, float]]]] = {core: [] for core in options.cores}
    with progress("learning", len(options.cores) * options.seeds, "runs") as bar:
        for seed in range(options.seeds):
            for core in options.cores:
                curves[core].append(learn(core, seed, options))
                bar.advance()
    rows = []
    for core, runs in curves.items():
        best = [max(reward for _, reward in curve) for curve in runs]
        solved = [next((steps for steps, reward in curve if reward >= SOLVED), None) for curve in runs]
        when = ", ".join("–" if steps is None else f"{steps:,}" for steps in solved)
        rows.append(
            [core, f"{sum(steps is not None for steps in solved)} of {len(runs)}", when, f"{np.mean(best):.0f}"]
        )
    title = f"CartPole without velocities, at most {options.steps:,} steps"
    table(title, ["core", f"reached {SOLVED:.0f}", "after steps", "best mean reward"], rows)
    write_results(options.json, "task memory_cartpole", options, {"curves": curves})


if __name__ == "__main__":
    run_script(Options, main, description=__doc__)
