"""The runs behind the learning curves of `experiments.ppo_curves`: which there are, and keeping them going.

Each is a process of `wormwheel train ppo` with one thread; what it says goes to a file beside its directory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from experiments.console import progress
from experiments.options import parse_core_options

WIDER = {
    "variety": "0.8",
    "critic-warmup": "8",
    "log-std-init": "-1.8",
    "learning-rate": "3e-4",
    "core-learning-rate": "1e-3",
}
"""How a run that has been through the preset continues training; with another seed, so with other roads and draws."""
_WIDER_SEED = 10
POLL_S = 1.0
"""Time between two looks at how far the runs are, s."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run."""

    core: str
    seed: int
    wider: bool = False
    """Whether it starts from the last learner of the run of the same core and seed."""

    @property
    def name(self) -> str:
        """CORE-SEED or CORE-SEED-wider."""
        return f"{self.core}-{self.seed}" + ("-wider" if self.wider else "")


@dataclass(frozen=True, config={"extra": "forbid"})
class PPOCurves:
    """Compare cores as they learn to keep the lane."""

    cores: Annotated[tuple[str, ...], Field(min_length=1)] = ("ltc", "lstm", "feedforward")
    """Cores to compare, each at its default size."""
    seeds: PositiveInt = 3
    """Runs of each core: seeds 0, 1, …"""
    steps: PositiveInt = 2_000_000
    """Steps of all envs together, in each run."""
    evaluate_every: PositiveInt = 100_000
    """Steps between two points of a curve."""
    widen: tuple[str, ...] = ("ltc",)
    """Cores that continue training after that, among odder looks; CORE-SEED-wider in the directory of the runs."""
    widen_steps: PositiveInt = 1_000_000
    """Steps of that."""
    episodes: PositiveInt = 20
    """Roads of each point, 60 s each."""
    roads: PositiveInt = 20
    """Unseen roads that the kept drivers drive, 60 s each."""
    road_seed: NonNegativeInt = 1000
    """Seed of the first of them; the next ones follow it."""
    workers: PositiveInt = 2
    """Runs at a time."""
    out: Path = Path("runs/ppo_curves")
    """Directory of the runs, CORE-SEED each; the same command resumes them."""
    publish: Path | None = None
    """Directory for the figures and the plot, besides the one above."""
    json: Path | None = None
    """File for the figures, as JSON."""
    train: bool = True
    """Train what is not trained yet; else show what the runs have reached so far."""
    quick: bool = False
    """A smoke test of some seconds: one seed, few steps. Its figures mean nothing."""

    def __post_init__(self) -> None:
        """Check that the cores exist."""
        for core in self.cores:
            parse_core_options(core, ())
        if others := sorted(set(self.widen) - set(self.cores)):
            raise ValueError(f"widen names {', '.join(others)}, which cores does not: expected some of {self.cores}.")

    @property
    def runs(self) -> list[Run]:
        """All runs: the first seed of each core first, and those that continue training last."""
        firsts = [Run(core, seed) for seed in range(self.seeds) for core in self.cores]
        return firsts + [replace(run, wider=True) for run in firsts if run.core in self.widen]

    def points(self, run: Run) -> int:
        """Evaluations of a run."""
        return -(-(self.widen_steps if run.wider else self.steps) // self.evaluate_every)

    def directory(self, run: Run) -> Path:
        """Where a run is kept."""
        return self.out / run.name


QUICK: dict[str, Any] = {
    **{"seeds": 1, "steps": 4096, "widen_steps": 2048, "evaluate_every": 2048, "episodes": 2, "roads": 2},
    "out": Path("runs/ppo_curves_quick"),
}
"""What `--quick` stands for."""


def quickened(options: PPOCurves) -> PPOCurves:
    """Return a smoke test of the same; what was asked for by name stays."""
    usual = PPOCurves()
    return replace(options, **{name: v for name, v in QUICK.items() if getattr(options, name) == getattr(usual, name)})


def train(options: PPOCurves) -> None:
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


def read_curve(directory: Path) -> list[dict[str, float]]:
    """Return the evaluations of a run, in order; of a line that is being written nothing is seen."""
    try:
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _finished(options: PPOCurves, run: Run) -> bool:
    """Whether a run has come to its end, and the end is as far as it is wanted now."""
    try:
        content = json.loads((options.directory(run) / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    wanted = options.widen_steps if run.wider else options.steps
    return bool(content["figures"]["steps"] >= wanted)


def _start(options: PPOCurves, run: Run) -> subprocess.Popen[bytes]:
    """Start a run, or resume one that was stopped; what it says goes to a file beside its directory."""
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


def seconds_of(directory: Path) -> float | None:
    """Return how long a run took, s; None when it is not finished, or was stopped and resumed."""
    if not (directory / "results.json").exists():
        return None
    content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if "--resume" in content["command"]:
        return None
    begun_s = datetime.fromisoformat(content["started"]).timestamp()
    return round((directory / "results.json").stat().st_mtime - begun_s, 1)
