"""Learning to keep the lane by PPO alone, from pixels: several cores, several seeds, curves with intervals.

    python -m experiments.ppo_curves --publish experiments/results/ppo_curves

Every run is `wormwheel train ppo --env LaneKeeping` with one core and seed, in a process of one thread; everything but
the core is the world's preset. Evaluations on other roads during training make the curves and choose the driver that is
kept; the kept drivers then drive unseen roads. Finished runs are not done again, and one that was stopped goes on where
its last evaluation was, when the same command is given again. `--no-train` shows what all of them have reached so far.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.metrics import Estimate
from envs.lane_keeping import LaneKeepingConfig
from experiments.common import check_json, progress, say, table, write_results
from experiments.core_options import parse_core_options
from experiments.evaluate import EvaluateOptions, Outcome, evaluate_driving
from experiments.plots import LIGHT, Curves, curves_figure, save
from experiments.script import run_script
from experiments.tasks.comparison import interval

POLL_S = 1.0
"""Time between two looks at how far the runs are, s."""


@dataclass(frozen=True)
class PPOCurves:
    """Compare cores as they learn to keep the lane."""

    cores: tuple[str, ...] = ("ltc", "lstm", "feedforward")
    """Cores to compare, each at its default size."""
    seeds: int = 3
    """Runs of each core: seeds 0, 1, …"""
    steps: int = 2_000_000
    """Steps of all envs together, in each run."""
    evaluate_every: int = 100_000
    """Steps between two points of a curve."""
    episodes: int = 20
    """Roads of each point, 60 s each."""
    roads: int = 20
    """Unseen roads that the kept drivers drive, 60 s each."""
    road_seed: int = 1000
    """Seed of the first of them; the next ones follow it."""
    workers: int = 2
    """Runs at a time."""
    out: Path = Path("runs/ppo_curves")
    """Directory of the runs, CORE-SEED each; the same command goes on there."""
    publish: Path | None = None
    """Directory for the figures and the plot, besides the one above."""
    json: Path | None = None
    """File for the figures, as JSON."""
    train: bool = True
    """Train what is not trained yet; else show what the runs have reached so far."""
    quick: bool = False
    """A smoke test of some seconds: one seed, few steps. Its figures mean nothing."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("seeds", "steps", "evaluate_every", "episodes", "roads", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not self.cores:
            raise ValueError("cores must name one core or more, got none.")
        for core in self.cores:
            parse_core_options(core, ())

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Core and seed of every run: the first seed of each core first."""
        return [(core, seed) for seed in range(self.seeds) for core in self.cores]

    @property
    def points(self) -> int:
        """Points of a curve."""
        return -(-self.steps // self.evaluate_every)

    def directory(self, core: str, seed: int) -> Path:
        """Where a run is kept."""
        return self.out / f"{core}-{seed}"


QUICK = PPOCurves(seeds=1, steps=4096, evaluate_every=2048, episodes=2, roads=2, out=Path("runs/ppo_curves_quick"))
"""What `--quick` stands for."""


def run(options: PPOCurves) -> None:
    """Train what is not trained yet, drive, show, draw, write."""
    if options.quick:
        options = QUICK
    check_json(options.json)
    if options.train:
        _train(options)
    curves = {core: [read_curve(options.directory(core, s)) for s in range(options.seeds)] for core in options.cores}
    for core, seed in options.runs:
        if not curves[core][seed]:
            raise ValueError(
                f"{options.directory(core, seed)} holds no evaluated run yet: give the command without --no-train "
                f"first, or leave {core} out of --cores."
            )
    policies = {f"{core}-{seed}": options.directory(core, seed) / "policy" for core, seed in options.runs}
    test = EvaluateOptions(
        policy=tuple(policies.values()),
        episodes=options.roads,
        seed=options.road_seed,
        world=LaneKeepingConfig(episode_s=60.0),
        workers=options.workers,
    )
    outcomes = {outcome.driver: outcome for outcome in evaluate_driving(policies, test)}
    _show(options, curves, outcomes)
    figures = {
        "curves": curves,
        "driving": {name: outcome.to_json() for name, outcome in outcomes.items()},
        "seconds": {f"{core}-{seed}": _seconds(options.directory(core, seed)) for core, seed in options.runs},
    }
    for place in filter(None, (options.out, options.publish)):
        place.mkdir(parents=True, exist_ok=True)
        save(draw(curves), place / "curves.png")
        write_results(place / "results.json", "ppo_curves", options, figures)
    write_results(options.json, "ppo_curves", options, figures)


def read_curve(directory: Path) -> list[dict[str, float]]:
    """Return the evaluations of a run, in order; of a line that is being written nothing is seen."""
    try:
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def draw(curves: dict[str, list[list[dict[str, float]]]]) -> Any:
    """Plot reward and crashes against steps: mean over the seeds with Student's 95 % interval, and every seed.

    Of runs that have come to different points, what all seeds of the core have passed is drawn.
    """
    series: dict[str, list[Curves]] = {}
    for core, whole in curves.items():
        passed = min(map(len, whole))
        runs = [run[:passed] for run in whole]
        steps = np.array([point["steps"] for point in runs[0]])
        reward = np.array([[point["reward"] for point in run] for run in runs])
        crashed = np.array([[100 * point["crashes"] / point["episodes"] for point in run] for run in runs])
        series[core] = [
            _band(steps, reward, -np.inf, np.inf),
            _band(steps, crashed, 0.0, 100.0),
        ]
    return curves_figure(series, "steps of experience", ["reward of 60 s", "drives that crash, %"], LIGHT)


def _band(steps: Any, values: Any, least: float, most: float) -> Curves:
    means, halves = zip(*(interval(list(column)) for column in values.T), strict=True)
    mean, half = np.array(means), np.nan_to_num(np.array(halves), posinf=0.0)
    return Curves(steps, mean, np.clip(mean - half, least, most), np.clip(mean + half, least, most), values)


def _train(options: PPOCurves) -> None:
    """Keep `workers` runs going until all are finished."""
    waiting = [run for run in options.runs if not (options.directory(*run) / "results.json").exists()]
    going: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    points = options.points
    with progress("learning", len(options.runs) * points, "evaluations") as bar:
        try:
            while waiting or going:
                while waiting and len(going) < options.workers:
                    going[waiting[0]] = _start(options, *waiting[0])
                    waiting.pop(0)
                time.sleep(POLL_S)
                for run, process in list(going.items()):
                    if process.poll() is not None:
                        del going[run]
                        _check(options.directory(*run), process.returncode)
                done = sum(min(points, len(read_curve(options.directory(*run)))) for run in options.runs)
                bar.update(done, ", ".join("-".join(map(str, run)) for run in going))
        finally:
            for process in going.values():
                process.terminate()
            for process in going.values():
                process.wait()
        bar.update(len(options.runs) * points, "")


def _start(options: PPOCurves, core: str, seed: int) -> subprocess.Popen[bytes]:
    """Begin a run, or go on with one that was stopped; what it says goes to a file beside its directory."""
    directory = options.directory(core, seed)
    options.out.mkdir(parents=True, exist_ok=True)
    words = ["train", "ppo", "--env", "LaneKeeping", "--core", core, "--seed", str(seed), "--no-film"]
    words += ["--steps", str(options.steps), "--evaluate-every", str(options.evaluate_every)]
    words += ["--evaluate-episodes", str(options.episodes), "--out", str(directory)]
    if (directory / "config.json").exists():
        words.append("--resume")
    with _log(directory).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.cli", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def _log(directory: Path) -> Path:
    return directory.with_name(directory.name + ".log")


def _check(directory: Path, code: int) -> None:
    """Pass on what went wrong with a run."""
    if code:
        said = _log(directory).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise OSError(f"{directory.name} ended with code {code}: {said[-1] if said else 'without a word'}")


def _seconds(directory: Path) -> float | None:
    """Return how long a run took, s; None when it is not finished, or was stopped and gone on with."""
    if not (directory / "results.json").exists():
        return None
    content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if "--resume" in content["command"]:
        return None
    begun_s = time.mktime(time.strptime(content["started"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    return round((directory / "results.json").stat().st_mtime - begun_s, 1)


def _show(options: PPOCurves, curves: dict[str, Any], outcomes: dict[str, Outcome]) -> None:
    rows = []
    for core in options.cores:
        for seed in range(options.seeds):
            outcome = outcomes[f"{core}-{seed}"]
            last, crashes = curves[core][seed][-1], outcome.figures["crashes"].value
            seconds = _seconds(options.directory(core, seed))
            rows.append(
                [
                    f"{core}, seed {seed}",
                    f"{crashes:.0f} of {options.roads}",
                    _percent(outcome.figures["mean_offset_lane"]),
                    f"{last['reward']:.0f}",
                    f"{last['crashes']:.0f} of {last['episodes']:.0f}",
                    f"{last['steps']:,.0f}",
                    "–" if seconds is None else f"{seconds / 60:.0f}",
                ]
            )
    columns = [
        "run",
        "crashes, unseen roads",
        "mean offset, % of lane",
        "last reward",
        "last crashes",
        "steps",
        "minutes",
    ]
    table(f"LaneKeeping by PPO alone, learning rates for {options.steps:,} steps", columns, rows)
    say(f"plot and figures: {options.out}")


def _percent(estimate: Estimate) -> str:
    return estimate.text(1, 100)


if __name__ == "__main__":
    run_script(PPOCurves, run)
