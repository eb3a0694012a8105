"""A test on recordings alone: what was found, in words, as JSON and as a page.

    found = find_recorded(blocks, conditions)
    found.verdict()

`blocks` is a table with the columns of `experiments.robustness.recorded_jobs.BlockRow`. Errors are those of the
steering (root mean square, full locks) in open loop: the recorded car does not react.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.driving.statistics import RESAMPLES, Estimate, bootstrap
from agents.runs.directory import command, to_json, versions
from agents.runs.files import write_json, write_text
from experiments.console import plain, say, screen, show, table
from experiments.evaluate.recordings import RecordingOptions
from experiments.reports.page import render
from experiments.robustness import figures
from experiments.robustness.analysis import describe_all, rmse, worsening
from experiments.robustness.findings import ENOUGH_RUNS, Condition
from experiments.robustness.jobs import CLEAN


@dataclass(frozen=True)
class RecordedRun:
    """What one training run of a driver steered."""

    run: int
    """Number among the driver's training runs."""
    training_seed: int | None
    """Seed that it was trained with."""
    clean: float
    """Error on clean frames."""
    clean_r2: float
    """Share of the variance of the recorded steering that it explains on clean frames."""
    perturbed: float
    """Error under all disturbances."""
    failed: bool
    """Whether it is no better than steering the mean of the recordings, always."""


@dataclass(frozen=True)
class RecordedDriver:
    """What was found about one driver."""

    name: str
    """As named at the command line."""
    core: str
    """Of the circuit."""
    clean: float
    """Error on clean frames."""
    perturbed: float
    """Error under all disturbances."""
    worsening: Estimate
    """The second in units of the first; training runs and blocks of frames are resampled."""
    behind: Estimate
    """Error under disturbances minus that of the first driver, blocks paired; 0 for that one."""
    each_run: tuple[RecordedRun, ...]
    """The runs one by one."""
    by_condition: dict[str, float]
    """Error by perturbation in the registry's syntax, clean included."""


@dataclass(frozen=True)
class RecordedFindings:
    """All that a test on recordings found."""

    conditions: tuple[Condition, ...]
    """What was tried, as far as recordings allow."""
    frames: int
    """Recorded frames that counted, for each driver."""
    drivers: tuple[RecordedDriver, ...]
    """The one with the least error under disturbances first."""

    @property
    def failed(self) -> tuple[tuple[str, RecordedRun], ...]:
        """The training runs that are no better than the mean, with their drivers."""
        return tuple((driver.name, run) for driver in self.drivers for run in driver.each_run if run.failed)

    def warnings(self) -> list[str]:
        """Name every training run that is no better than the mean."""
        return [
            f"Training run {run.run} of {name}{'' if run.training_seed is None else f' (seed {run.training_seed})'} is "
            f"no better than steering the mean of the recordings: R² {run.clean_r2:.2f} on clean frames."
            for name, run in self.failed
        ]

    def verdict(self) -> str:
        """Say in a few sentences what was found on the recordings."""
        first, dead = self.drivers[0], " ".join(self.warnings())
        where = f"On {self.frames:,} recorded frames under {len(self.conditions)} disturbances"
        worse = first.worsening
        times = f", {worse.text(2)} times its {first.clean:.3f} on clean frames" if np.isfinite(worse.value) else ""
        error = f"was {first.perturbed:.3f} full locks off (RMSE){times}"
        if len(self.drivers) == 1:
            return f"{dead} {where}, {first.name} {error}.".lstrip()
        second = self.drivers[1]
        behind = f"{second.name} is {second.behind.text(3)} behind"
        if dead:
            dead += " As long as such runs are in, no driver is called first."
            return f"{dead} {where}, {first.name} {error}; {behind}."
        apart = "with so few blocks and runs it may be chance"
        if second.behind.bounded:
            apart = "which tells them apart" if second.behind.low > 0 else "which does not tell them apart"
        few = min(len(driver.each_run) for driver in (first, second)) < ENOUGH_RUNS
        kinds = (
            f"; with fewer than {ENOUGH_RUNS} training runs each it would be one of runs, not of kinds" if few else ""
        )
        return f"{where}, {first.name} came first: it {error}; {behind}, {apart}{kinds}."


def find_recorded(blocks: pd.DataFrame, conditions: Sequence[str], seed: int = 0) -> RecordedFindings:
    """Work out what was found.

    Args:
        blocks: every driver on the same recordings.
        conditions: what was asked for besides clean, in order; those that no block has are left out.
        seed: of the resampling.
    """
    there = set(blocks.perturbation)
    kinds = describe_all([condition for condition in conditions if condition in there])
    by_driver = {str(name): some for name, some in blocks.groupby("driver", sort=False)}
    error = {name: rmse(some[some.perturbation != CLEAN]) for name, some in by_driver.items()}
    order = sorted(by_driver, key=lambda name: error[name])
    clean = blocks[(blocks.perturbation == CLEAN) & (blocks.driver == order[0])]
    return RecordedFindings(
        conditions=kinds,
        frames=int(clean[clean.run == clean.run.min()].frames.sum()),
        drivers=tuple(
            RecordedDriver(
                name=name,
                core=str(by_driver[name].core.iloc[0]),
                clean=rmse(by_driver[name][by_driver[name].perturbation == CLEAN]),
                perturbed=error[name],
                worsening=worsening(by_driver[name], seed=seed),
                behind=_behind(by_driver[name], by_driver[order[0]], seed) if name != order[0] else Estimate(0.0),
                each_run=tuple(_run(int(run), some) for run, some in by_driver[name].groupby("run")),
                by_condition={str(kind): rmse(some) for kind, some in by_driver[name].groupby("perturbation")},
            )
            for name in order
        ),
    )


def _run(number: int, blocks: pd.DataFrame) -> RecordedRun:
    """Summarise a training run."""
    clean, seed = blocks[blocks.perturbation == CLEAN], blocks.training_seed.iloc[0]
    spread = clean.squared_target.sum()
    r2 = float(1 - clean.squared_error.sum() / spread) if spread > 0 else float("nan")
    return RecordedRun(
        run=number,
        training_seed=None if pd.isna(seed) else int(seed),
        clean=rmse(clean),
        clean_r2=r2,
        perturbed=rmse(blocks[blocks.perturbation != CLEAN]),
        failed=bool(r2 <= 0),
    )


def _behind(driver: pd.DataFrame, first: pd.DataFrame, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """Return the error under disturbances minus that of the first driver; blocks are resampled for both together."""
    sums = []
    for some in (driver, first):
        perturbed = some[some.perturbation != CLEAN]
        sums.append(perturbed.groupby(["episode", "block"])[["squared_error", "frames"]].sum())
    both = pd.concat(sums, axis=1).to_numpy(np.float64)  # [blocks, 4]

    def difference(chosen: NDArray[np.intp]) -> float:
        one, frames, other, others = both[chosen].sum(0)
        return float(np.sqrt(one / frames) - np.sqrt(other / others)) if frames and others else float("nan")

    return bootstrap(difference, len(both), resamples, seed)


def publish_recorded(
    directory: Path,
    found: RecordedFindings,
    plan: Mapping[str, Any],
    recordings: RecordingOptions,
    on_figures: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Print what was found, and write summary and page; arguments as those of `publish`.

    Raises:
        OSError: if something cannot be written.
    """
    from experiments.robustness.publish import SHOT_SEVERITIES, draw_shots

    alone = len(found.drivers) == 1
    rows = [
        [
            driver.name,
            str(len(driver.each_run)),
            f"{driver.clean:.3f}",
            f"{driver.perturbed:.3f}",
            show(driver.worsening, 2),
            *([] if alone else [show(driver.behind, 3) if driver is not found.drivers[0] else "–"]),
        ]
        for driver in found.drivers
    ]
    heads = ["driver", "runs", "RMSE clean, full locks", "disturbed", "times", *([] if alone else ["behind"])]
    table(f"{found.frames:,} recorded frames, {len(found.conditions)} disturbances", heads, rows)
    screen().print(found.verdict(), markup=False)
    origin = {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), **versions()}
    values = plain(to_json(found))
    write_json(
        directory / "summary.json",
        {
            "format": "wormwheel-robustness-summary",
            "format_version": 1,
            "verdict": found.verdict(),
            "command": command(),
            "versions": origin,
            "plan": plain(dict(plan)),
            "recordings": values,
        },
    )
    if on_figures is not None:
        on_figures(values)
    kinds: dict[str, list[Condition]] = {}
    for condition in found.conditions:
        kinds.setdefault(condition.name, []).append(condition)
    content = render(
        "robustness/templates/recordings.html",
        found=found,
        colour=figures.colour,
        kinds=[(name.replace("_", " "), some) for name, some in kinds.items()],
        shots=draw_shots(found.conditions),
        shot_severities=SHOT_SEVERITIES,
        command=command(),
        origin=origin,
        data=[str(path) for path in recordings.data],
        last=recordings.last,
    )
    write_text(directory / "report.html", content)
    for name in ("recordings.parquet", "summary.json", "report.html"):
        say(f"{name}: {directory / name}")
