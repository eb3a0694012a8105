"""From the rows of a robustness test to everything that a person reads: screen, `summary.json`, `report.html`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.driving.driver_options import DriverSpec
from agents.driving.trials import Place
from agents.runs.directory import command, to_json, versions
from agents.runs.files import write_json
from envs.perturbations import PERTURBATIONS, parse
from experiments.console import plain, progress, say, screen, show, table
from experiments.gallery.verb import GalleryOptions, thumbnails
from experiments.robustness.drives_data import drives_json
from experiments.robustness.films import FailureFilm, film_failures
from experiments.robustness.findings import Condition, Findings, choose_failures
from experiments.robustness.jobs import PolicyRun
from experiments.robustness.report import Report, Shot, write_robustness_report

if TYPE_CHECKING:
    import pandas as pd

SHOT_SEVERITIES = (1, 3, 5)
"""Severities of a disturbance that the gallery shows."""
_GAP = 3


def publish(
    directory: Path,
    findings: Findings,
    plan: Mapping[str, Any],
    policy_runs: Sequence[PolicyRun],
    world: Place,
    films: int,
    drives: pd.DataFrame | None = None,
    on_figures: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Print the ranking, and write summary, films and report.

    Args:
        directory: of the test.
        findings: what was found.
        plan: everything that the numbers depend on.
        policy_runs: who drove.
        world: where.
        films: failures to film.
        drives: the table of drives, which cells and points of the page then open.
        on_figures: called with the findings as JSON values before anything is drawn or filmed, which may fail.

    Raises:
        OSError: if something cannot be written.
    """
    show_ranking(findings)
    values = plain(_to_json(findings))
    origin = {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), **versions()}
    origin["processor"] = platform.processor() or platform.machine()
    write_json(
        directory / "summary.json",
        {
            "format": "wormwheel-robustness-summary",
            "format_version": 1,
            "verdict": findings.verdict(),
            "command": command(),
            "versions": origin,
            "plan": plain(dict(plan)),
            "findings": values,
        },
    )
    if on_figures is not None:
        on_figures(values)
    shots = draw_shots(findings.conditions)
    filmed = _film(directory, findings, policy_runs, world, films)
    behind = None if drives is None else drives_json(drives, findings, _policies(policy_runs), world, filmed)
    write_robustness_report(
        directory / "report.html",
        Report(findings, command(), origin, plain(dict(plan)), filmed, shots, SHOT_SEVERITIES, behind),
    )
    for name in ("results.parquet", "summary.json", "report.html"):
        say(f"{name}: {directory / name}")


def show_ranking(findings: Findings) -> None:
    """Print the drivers, the best one first; one alone is compared with nobody."""
    base, alone = findings.baseline, len(findings.drivers) == 1
    rows = []
    for driver in findings.drivers:
        mine = driver.name == base
        compared = [
            show(driver.corruption_error, 2),
            "–" if mine else driver.better.text(2),
            "–" if driver.name == findings.contenders[0].name else driver.behind.text(1, 100),
        ]
        rows.append(
            [
                driver.name,
                str(driver.runs),
                driver.error_iqm_runs.text(1, 100),
                driver.error.text(1, 100),
                driver.clean_error.text(1, 100),
                f"{driver.crashes} of {driver.drives}",
                *([] if alone else compared),
            ]
        )
    heads = ["driver", "runs", "lane error, %", "mean", "clean", "off the road"]
    heads += [] if alone else [f"× {base}", f"beats {base}", "behind, points"]
    title = (
        f"disturbances: {len(findings.conditions)}, roads: {findings.roads}, with 95 % intervals over runs and roads"
    )
    table(title, heads, rows)
    screen().print(findings.verdict(), markup=False)


def draw_shots(conditions: Sequence[Condition]) -> list[Shot]:
    """Draw what the disturbances look like; each part of a composition by itself."""
    tried = {part.name for condition in conditions for part in parse(condition.perturbation).parts}
    names = [name for name in PERTURBATIONS if name in tried]
    options = GalleryOptions(severities=SHOT_SEVERITIES, zoom=1)
    shots = []
    with progress("drawing", len(names), "disturbances") as bar:
        for name in names:
            kind = PERTURBATIONS[name]
            pictures = thumbnails(name, options)[1:]
            gap = np.full((pictures[0].shape[0], _GAP, 3), 128, np.uint8)
            strip = np.concatenate([piece for one in pictures for piece in (gap, one)][1:], axis=1)
            about = (kind.__doc__ or "").strip().splitlines()[0]
            doses = " · ".join(f"{kind.doses[severity - 1]:g}" for severity in SHOT_SEVERITIES)
            shots.append(Shot(name.replace("_", " "), kind.family, about, f"{kind.unit}: {doses}", strip))
            bar.advance()
    return shots


def _film(
    directory: Path,
    findings: Findings,
    policy_runs: Sequence[PolicyRun],
    world: Place,
    count: int,
) -> list[FailureFilm]:
    there = _policies(policy_runs)
    chosen = choose_failures(findings, count, [driver for driver, _ in there])
    if not chosen:
        return []
    with progress("filming", len(chosen), "films") as bar:
        return film_failures(chosen, there, world, directory / "films", bar.advance)


def _policies(policy_runs: Sequence[PolicyRun]) -> dict[tuple[str, int], Path | DriverSpec]:
    """Return what opens each driver, by driver and training run; nothing for the expert, nor for what is open."""
    found = {(policy_run.driver, policy_run.run): policy_run.source for policy_run in policy_runs}
    return {key: source for key, source in found.items() if source is not None}


def _to_json(findings: Findings) -> dict[str, Any]:
    """Return the findings as plain values; the list of failures is in the table."""
    values = to_json(findings)
    values.pop("failures")
    for driver in values["drivers"]:
        driver["profile"] = {name: array.tolist() for name, array in driver["profile"].items()}
    return dict(values)
