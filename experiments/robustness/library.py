"""The robustness test from Python: any driver, a table of its drives, a page.

    from experiments import robustness

    results = robustness.test(driver, suite="quick")
    results.drives.groupby("family").lane_error.mean()
    results.report("robustness.html")

`driver` is whatever drives (`agents.driving.open_driver`): a policy or run directory, an ONNX file, `module:factory`, a
`Driver`, a `DrivingPolicy`, an `nn.Module`, or a function of one frame.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.open_driver import open_driver, wrap_driver
from agents.runs.directory import versions
from agents.runs.workers import run_jobs
from envs.lane_keeping.config import LaneKeepingConfig
from envs.perturbations import parse
from experiments.console import plain
from experiments.policy_paths import has_gradient
from experiments.robustness.analysis import find
from experiments.robustness.drivers import find_policy_runs
from experiments.robustness.findings import Findings
from experiments.robustness.jobs import CLEAN, DriveJob, DriveRow, JobResult, PolicyRun, drive_jobs
from experiments.robustness.provenance import fingerprint_env
from experiments.robustness.recorded_jobs import BlockRow
from experiments.robustness.report import Report, write_robustness_report
from experiments.robustness.store import make_table
from experiments.robustness.suites import choose_suite
from experiments.robustness.verb import choose_world


@dataclass(frozen=True)
class Results:
    """What a test found."""

    drives: pd.DataFrame
    """One row a drive, with the columns of `experiments.robustness.jobs.DriveRow`."""
    findings: Findings
    """Means, intervals, failures."""
    plan: dict[str, Any]
    """Everything that the numbers depend on."""

    @property
    def verdict(self) -> str:
        """What was found, in a few sentences."""
        return self.findings.verdict()

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, whole in one HTML file; returns its path.

        Raises:
            WriteError: if it cannot be written; an older one is still there then.
        """
        from experiments.robustness.publish import draw_shots

        origin = {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), **versions()}
        shots = draw_shots(self.findings.conditions)
        write_robustness_report(
            Path(path), Report(self.findings, "robustness.test(…)", origin, plain(self.plan), (), shots)
        )
        return Path(path)


def test(
    driver: Any,
    suite: str = "quick",
    *,
    perturbations: Sequence[str] = (),
    severities: Sequence[int] = (),
    roads: int | None = None,
    seed: int = 1000,
    name: str = "driver",
    world: LaneKeepingConfig | None = None,
    options: DriverOptions | None = None,
) -> Results:
    """Drive under everything that can go wrong, in this process.

    Args:
        driver: what drives; see above.
        suite: "quick", "standard", "noise", or a JSON file.
        perturbations: instead of the suite's.
        severities: instead of the suite's.
        roads: instead of the suite's.
        seed: of the first road.
        name: of the driver, in tables and on the page.
        world: where it drives; LaneKeeping's defaults, and the suite's length of a drive, when None.
        options: what the driver cannot say of itself: frame size, layout, range, …

    Raises:
        ValueError: if it is no driver, or something else cannot be done as asked.
    """
    chosen = choose_suite(suite, perturbations, severities, roads)
    where = choose_world(world or LaneKeepingConfig(episode_s=chosen.episode_s))
    run, gradient = _policy_run(driver, name, options, where)
    conditions = tuple(text for text in chosen.conditions() if gradient or not parse(text).attacks)
    seeds = tuple(range(seed, seed + chosen.roads))
    inside = run.policy is not None
    jobs = [DriveJob(run, text, where, seeds, inside=inside) for text in (CLEAN, *conditions)]
    rows: list[dict[str, Any]] = []
    run_jobs(drive_jobs, jobs, 1, lambda news: rows.extend(news.rows) if isinstance(news, JobResult) else None)
    table = make_table(rows, DriveRow)
    plan = {
        "perturbations": list(conditions),
        "left_out": [text for text in chosen.conditions() if text not in conditions],
        "roads": chosen.roads,
        "seed": seed,
        "world": where,
        "code": fingerprint_env(),
    }
    return Results(table, find(table, make_table([], BlockRow), conditions, name), plan)


test.__test__ = False  # type: ignore[attr-defined]  # pytest must not take it for one of its own


def _policy_run(
    driver: Any, name: str, options: DriverOptions | None, where: LaneKeepingConfig
) -> tuple[PolicyRun, bool]:
    """Return who drives, and whether attacks can ask for its gradient."""
    if isinstance(driver, (str, os.PathLike)):
        (run,) = find_policy_runs([os.fspath(driver)], throttle=where.throttle, options=options)
        run = replace(run, driver=name)
        return run, run.foreign is None or has_gradient(open_driver(run.foreign))
    # A crop is one of the world's own frames; without any the world makes frames of the driver's size.
    cropped = options is not None and options.resolved().crops is not None
    opened = wrap_driver(driver, options, (where.height, where.width) if cropped else None)
    spec = DriverSpec(f"<{type(driver).__name__}>", options or DriverOptions())
    return PolicyRun(name, core=type(driver).__name__, foreign=spec, loaded=opened), has_gradient(opened)
