"""Learning to keep the lane by PPO alone, from pixels: several cores, several seeds, curves with intervals.

    python -m experiments.ppo_curves --publish experiments/results/ppo_curves

Every run is `wormwheel train ppo --env LaneKeeping` with one core and seed, in a process of one thread; everything but
the core is the world's preset. Evaluations on other roads during training make the curves and choose the driver that is
kept. Cores of `--widen` then learn on, among looks that are odder still. The kept drivers drive unseen roads.

Finished runs are not done again, and one that was stopped goes on where its last evaluation was, when the same command
is given again. `--no-train` shows what all of them have reached so far.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.files import write_json
from agents.metrics import Estimate
from agents.run_directory import versions
from envs.lane_keeping import LaneKeepingConfig
from experiments.common import check_json, plain, progress, say, table, write_results
from experiments.core_options import parse_core_options
from experiments.evaluate import EvaluateOptions, Outcome, evaluate_driving
from experiments.plots import LIGHT, Curves, curves_figure, save
from experiments.script import run_script
from experiments.tasks.comparison import interval

WIDER = {
    "variety": "0.8",
    "critic-warmup": "8",
    "log-std-init": "-1.8",
    "learning-rate": "3e-4",
    "core-learning-rate": "1e-3",
}
"""How a run that has been through the preset learns on; the seed is another, so that no road comes again."""
_WIDER_SEED = 10
POLL_S = 1.0
"""Time between two looks at how far the runs are, s."""


@dataclass(frozen=True)
class Run:
    """One training run."""

    core: str
    seed: int
    wider: bool = False
    """Whether it goes on from the run of the same core and seed."""

    @property
    def name(self) -> str:
        """CORE-SEED or CORE-SEED-wider."""
        return f"{self.core}-{self.seed}" + ("-wider" if self.wider else "")


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
    widen: tuple[str, ...] = ("ltc",)
    """Cores that learn on after that, among odder looks; CORE-SEED-wider in the directory of the runs."""
    widen_steps: int = 1_000_000
    """Steps of that."""
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
        for name in ("seeds", "steps", "widen_steps", "evaluate_every", "episodes", "roads", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not self.cores:
            raise ValueError("cores must name one core or more, got none.")
        for core in self.cores:
            parse_core_options(core, ())
        if others := sorted(set(self.widen) - set(self.cores)):
            raise ValueError(f"widen names {', '.join(others)}, which cores does not: expected some of {self.cores}.")

    @property
    def runs(self) -> list[Run]:
        """All runs: the first seed of each core first, and what learns on last."""
        firsts = [Run(core, seed) for seed in range(self.seeds) for core in self.cores]
        return firsts + [replace(run, wider=True) for run in firsts if run.core in self.widen]

    def points(self, run: Run) -> int:
        """Evaluations of a run."""
        return -(-(self.widen_steps if run.wider else self.steps) // self.evaluate_every)

    def directory(self, run: Run) -> Path:
        """Where a run is kept."""
        return self.out / run.name


QUICK = PPOCurves(
    seeds=1, steps=4096, widen_steps=2048, evaluate_every=2048, episodes=2, roads=2, out=Path("runs/ppo_curves_quick")
)
"""What `--quick` stands for."""


def run(options: PPOCurves) -> None:
    """Train what is not trained yet, drive, show, draw, write."""
    if options.quick:
        options = QUICK
    check_json(options.json)
    if options.train:
        _train(options)
    curves = {run: read_curve(options.directory(run)) for run in options.runs}
    for run in [run for run, curve in curves.items() if not curve]:
        if options.train or not run.wider:
            raise ValueError(
                f"{options.directory(run)} holds no evaluated run yet: give the command without --no-train first, or "
                f"leave {run.core} out of --cores."
            )
        del curves[run]
    policies = {run.name: options.directory(run) / "policy" for run in curves}
    test = EvaluateOptions(
        policy=tuple(policies.values()),
        episodes=options.roads,
        seed=options.road_seed,
        world=LaneKeepingConfig(episode_s=60.0),
        workers=options.workers,
    )
    outcomes = {outcome.driver: outcome for outcome in evaluate_driving(policies, test)}
    _show(options, curves, outcomes)
    firsts = {
        core: [curve for run, curve in curves.items() if run.core == core and not run.wider] for core in options.cores
    }
    figures = {
        "curves": {run.name: curve for run, curve in curves.items()},
        "driving": {name: outcome.to_json() for name, outcome in outcomes.items()},
        "seconds": {run.name: _seconds(options.directory(run)) for run in curves},
    }
    for path in filter(None, (options.out / "results.json", options.json)):
        write_results(path, "ppo_curves", options, figures)
    save(draw(firsts), options.out / "curves.png")
    if options.publish is not None:
        options.publish.mkdir(parents=True, exist_ok=True)
        save(draw(firsts), options.publish / "curves.png")
        # Without paths, and without every drive: for whoever reads it elsewhere.
        chosen = {name: value for name, value in plain(options).items() if name not in ("out", "publish", "json")}
        driving = {name: outcome.to_json()["figures"] for name, outcome in outcomes.items()}
        content = {"options": chosen, "versions": versions(), "figures": plain({**figures, "driving": driving})}
        write_json(options.publish / "summary.json", content)


def read_curve(directory: Path) -> list[dict[str, float]]:
    """Return the evaluations of a run, in order; of a line that is being written nothing is seen."""
    try:
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def draw(curves: dict[str, list[list[dict[str, float]]]]) -> Any:
    """Plot reward and crashes against steps: mean over the seeds with Student's 95 % interval, and every seed.

    Mean and interval end where the first of the seeds does.
    """
    series: dict[str, list[Curves]] = {}
    for core, runs in curves.items():
        steps = np.array([point["steps"] for point in max(runs, key=len)])
        reward, crashed = np.full((2, len(runs), len(steps)), np.nan)
        for number, run in enumerate(runs):
            reward[number, : len(run)] = [point["reward"] for point in run]
            crashed[number, : len(run)] = [100 * point["crashes"] / point["episodes"] for point in run]
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
    waiting = [run for run in options.runs if not _finished(options, run)]
    going: dict[Run, subprocess.Popen[bytes]] = {}
    all_points = sum(options.points(run) for run in options.runs)
    with progress("learning", all_points, "evaluations") as bar:
        try:
            while waiting or going:
                ready = [run for run in waiting if not run.wider or _finished(options, replace(run, wider=False))]
                for run in ready[: options.workers - len(going)]:
                    going[run] = _start(options, run)
                    waiting.remove(run)
                time.sleep(POLL_S)
                for run, process in list(going.items()):
                    if process.poll() is not None:
                        del going[run]
                        _check(options.directory(run), process.returncode)
                done = sum(min(options.points(run), len(read_curve(options.directory(run)))) for run in options.runs)
                bar.update(done, ", ".join(run.name for run in going))
        finally:
            for process in going.values():
                process.terminate()
            for process in going.values():
                process.wait()
        bar.update(all_points, "")


def _finished(options: PPOCurves, run: Run) -> bool:
    return (options.directory(run) / "results.json").exists()


def _start(options: PPOCurves, run: Run) -> subprocess.Popen[bytes]:
    """Begin a run, or go on with one that was stopped; what it says goes to a file beside its directory."""
    directory = options.directory(run)
    options.out.mkdir(parents=True, exist_ok=True)
    given = {"evaluate-every": options.evaluate_every, "out": directory}
    if run.wider:
        before = options.directory(replace(run, wider=False)) / "last"
        given |= {"init-from": before, "seed": _WIDER_SEED + run.seed, "steps": options.widen_steps, **WIDER}
        given["evaluate-episodes"] = 2 * options.episodes  # Odd looks differ more.
    else:
        given |= {"core": run.core, "seed": run.seed, "steps": options.steps, "evaluate-episodes": options.episodes}
    words = ["train", "ppo", "--env", "LaneKeeping", "--no-film"]
    words += [word for name, value in given.items() for word in (f"--{name}", str(value))]
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


def _show(options: PPOCurves, curves: dict[Run, list[dict[str, float]]], outcomes: dict[str, Outcome]) -> None:
    rows = []
    for run in sorted(curves, key=lambda run: (options.cores.index(run.core), run.wider, run.seed)):
        outcome, last = outcomes[run.name], curves[run][-1]
        seconds = _seconds(options.directory(run))
        rows.append(
            [
                f"{run.core}, seed {run.seed}" + (", wider" if run.wider else ""),
                f"{outcome.figures['crashes'].value:.0f} of {options.roads}",
                _percent(outcome.figures["mean_offset_lane"]),
                f"{last['reward']:.0f}",
                f"{last['crashes']:.0f} of {last['episodes']:.0f}",
                f"{last['steps']:,.0f}",
                "–" if seconds is None else f"{seconds / 60:.0f}",
            ]
        )
    columns = ["run", "crashes, unseen roads", "mean offset, % of lane", "last reward", "last crashes"]
    table(f"LaneKeeping by PPO alone, {options.steps:,} steps planned", [*columns, "steps", "minutes"], rows)
    say(f"plot and figures: {options.out}")


def _percent(estimate: Estimate) -> str:
    return estimate.text(1, 100)


if __name__ == "__main__":
    run_script(PPOCurves, run)
