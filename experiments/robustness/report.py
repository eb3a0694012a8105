"""One page about a robustness test: `report.html`, whole in itself.

write_robustness_report("runs/robustness/report.html", Report(findings, origin, films, shots))
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.driving.metrics import Estimate
from agents.runs.files import write_text
from experiments.reports.page import (
    card,
    cell,
    estimate_cell,
    film,
    head_cells,
    interval_text,
    number_text,
    page,
    picture,
    sortable,
    terms,
)
from experiments.robustness import svg as figures
from experiments.robustness.films import FailureFilm
from experiments.robustness.findings import ENOUGH_RUNS, DriverFindings, Findings
from experiments.robustness.plots import by_family, every_condition, inside, recordings, responses


@dataclass(frozen=True)
class Shot:
    """What a perturbation looks like."""

    name: str
    """Of the perturbation."""
    family: str
    """Of the perturbation."""
    about: str
    """One sentence."""
    doses: str
    """What the severities stand for."""
    pictures: NDArray[np.uint8]
    """uint8 `[H, W, 3]`: some severities side by side."""


@dataclass(frozen=True)
class Report:
    """What the page shows."""

    findings: Findings
    """What was found."""
    command: str
    """What was typed."""
    origin: dict[str, str]
    """When, on what, by which versions."""
    plan: dict[str, Any]
    """Everything that the numbers depend on."""
    films: Sequence[FailureFilm] = ()
    """Films of failures."""
    shots: Sequence[Shot] = ()
    """The perturbations."""
    shot_severities: Sequence[int] = field(default=(1, 3, 5))
    """Severities in the pictures of a shot, from left to right."""


def write_robustness_report(path: str | Path, report: Report) -> None:
    """Write the page in one piece.

    Raises:
        WriteError: if it cannot be written; an older one is still there then.
    """
    found = report.findings
    sections = [
        _header(found),
        _cards(found),
        _ranking(found),
        _shape(found),
        by_family(found),
        responses(found),
        every_condition(found),
        inside(found),
        recordings(found),
        _films(report, Path(path).parent),
        _shots(report),
        _origin(report),
    ]
    content = page("Wormwheel: robustness", "\n".join(filter(None, sections)), figures.STYLE)
    write_text(path, content)


def _header(found: Findings) -> str:
    words = html.escape(found.verdict()).replace(" %", "\N{NO-BREAK SPACE}%")
    return f'<header><h1>Wormwheel robustness</h1><p class="verdict">{words}</p></header>'


def _cards(found: Findings) -> str:
    first = found.contenders[0]
    drives = sum(driver.drives for driver in found.drivers)
    families = len({condition.family for condition in found.conditions})
    names = len({condition.name for condition in found.conditions})
    cards = [
        card(
            _percent(first.error_iqm), f"interquartile mean of {first.name}'s lane error {_range(first.error_iqm_runs)}"
        ),
        card(
            _percent(first.crash_share),
            f"of its perturbed drives ended off the road {_range(first.crash_share)}; "
            f"{100 * first.clean_crashes:.0f} % of the clean ones",
            "bad" if first.crash_share.value > 0.5 else "",
        ),
        card(str(len(found.drivers)), f"drivers, {sum(driver.runs for driver in found.drivers)} training runs"),
        card(str(names), f"kinds of disturbance in {families} families, {len(found.conditions)} with their severities"),
        card(f"{drives:,}", f"perturbed drives on {found.roads} roads, paired"),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _ranking(found: Findings) -> str:
    heads = head_cells(
        [
            ("driver", ""),
            ("runs", "wide"),
            ("lane error", ""),
            ("mean", "wide"),
            ("clean", "wide"),
            ("off the road", ""),
            ("autonomy", "wide"),
            (f"× {found.baseline}", ""),
            (f"beats {found.baseline}", "wide"),
            ("difference", "wide"),
        ]
    )
    rows = "".join(_ranking_row(driver, found.baseline) for driver in found.drivers)
    few = min(driver.runs for driver in found.drivers)
    remark = ""
    if few < ENOUGH_RUNS:
        runs = "one training run" if few == 1 else f"{few} training runs"
        remark = (
            f" There {'is' if few == 1 else 'are'} {runs} of a driver here; at least {ENOUGH_RUNS} are needed to call "
            "one kind of driver better than another."
        )
    rows_of_forest = [(driver.name, driver.error_iqm, driver.error_iqm_runs) for driver in found.drivers]
    top = _nice(max(max(driver.error_iqm.high, driver.error_iqm_runs.high) for driver in found.drivers))
    return (
        "<h2>Ranking</h2><p>Lane error is the mean distance from the middle of the lane as a share of its width, over "
        "the whole planned time; the time after leaving the road counts as a whole lane. Ranked by its interquartile "
        "mean over runs, roads and disturbances: the best and the worst quarter of the drives do not count. In "
        f"brackets, 95 % bootstrap intervals.{remark}</p>"
        f'{sortable(heads, rows)}<div class="box apart">{figures.forest(rows_of_forest, 0.0, top)}'
        "<figcaption>Interquartile mean of the lane error. Thick: roads as strata, runs drawn on each. Thin: whole "
        "training runs and roads drawn, the interval to judge by.</figcaption></div>"
    )


def _ranking_row(driver: DriverFindings, baseline: str) -> str:
    mine = driver.name == baseline
    core = "" if driver.core == driver.name else f" <small>{html.escape(driver.core)}</small>"
    cells = [
        f'<td data-value="{html.escape(driver.name, quote=True)}">{html.escape(driver.name)}{core}</td>',
        cell(str(driver.runs), driver.runs, "wide"),
        estimate_cell(driver.error_iqm_runs, 100, 1),
        estimate_cell(driver.error, 100, 1, "wide"),
        estimate_cell(driver.clean_error, 100, 1, "wide"),
        estimate_cell(driver.crash_share, 100, 1),
        estimate_cell(driver.autonomy, 100, 1, "wide"),
        estimate_cell(driver.corruption_error, 1, 2),
        cell("–", 0.5, "wide") if mine else estimate_cell(driver.better, 100, 0, "wide"),
        cell("–", 0.0, "wide") if mine else estimate_cell(driver.difference, 100, 1, "wide"),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _shape(found: Findings) -> str:
    panel = figures.profiles(
        "Share of drives with at most this lane error",
        [driver.profile for driver in found.drivers],
        [(0.0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1.0, "100 %")],
    )
    rows = [
        ("lane error", "interquartile mean, in % of the lane width; see above"),
        ("mean", "mean lane error, in which the worst drives count too"),
        ("off the road", "share of the perturbed drives that ended there, %"),
        (
            f"× {found.baseline}",
            "mean corruption error: errors summed over severities, in units of those of "
            f"{found.baseline}, averaged over disturbances; below 1 is better",
        ),
        (f"beats {found.baseline}", "how probable it is that a run does better than one of it, same road, %"),
        ("difference", f"mean lane error minus that of {found.baseline}, paired road by road, points"),
        ("autonomy", "share of the time without intervention, six seconds each"),
    ]
    return (
        f'<div class="pair apart"><div class="box">{figures.legend([d.name for d in found.drivers])}{panel}'
        "<figcaption>Higher is better. Bands: 95 % intervals, whole runs and roads drawn.</figcaption></div>"
        f'<div class="box"><h3>What the columns mean</h3><dl>{terms(rows)}</dl></div></div>'
    )


def _films(report: Report, directory: Path) -> str:
    if not report.films:
        return ""
    shown = []
    for one in report.films:
        failure = one.failure
        kind = failure.condition.perturbation
        run = f", training run {failure.run}" if _runs(report.findings, failure.driver) > 1 else ""
        shown.append(
            f'<div class="box">{film(one.path, directory, one.poster)}<h3>{html.escape(failure.driver)}{run}: '
            f"{html.escape(kind)}</h3><p>Severity {failure.condition.severity}, road {failure.road_seed}, draw "
            f"{failure.effect_seed}: off the road after {failure.duration_s:.1f} s. In the film: "
            f"{html.escape(one.outcome)}.</p><pre>{html.escape(one.command)}</pre></div>"
        )
    return (
        "<h2>Failures</h2><p>Lowest severity first, then the quickest, of many families; on the same road without the "
        "disturbance the car stays on it, where there is such a drive. Each film names the command that makes it "
        f'again.</p><div class="films">{"".join(shown)}</div>'
    )


def _shots(report: Report) -> str:
    if not report.shots:
        return ""
    severities = ", ".join(map(str, report.shot_severities))
    groups: dict[str, list[Shot]] = {}
    for shot in report.shots:
        groups.setdefault(shot.family, []).append(shot)
    if len(groups) == len(report.shots):
        groups = {"one of each family": list(report.shots)}
    parts = []
    for number, (family, shots) in enumerate(groups.items()):
        shown = "".join(
            f"<figure>{picture(shot.pictures, f'{shot.name} at severities {severities}', 1, 78)}<figcaption><b>"
            f"{html.escape(shot.name)}</b> {html.escape(shot.about)} <small>{html.escape(shot.doses)}</small>"
            "</figcaption></figure>"
            for shot in shots
        )
        opened = " open" if number == 0 else ""
        parts.append(
            f'<details class="part"{opened}><summary>{html.escape(family)}: {len(shots)}</summary><div class="box">'
            f'<div class="shots">{shown}</div></div></details>'
        )
    return (
        f"<h2>The disturbances</h2><p>What a driver gets, from left to right at severities {severities}. Where nothing "
        f"is to be seen in a frame, a plot stands for it.</p>{''.join(parts)}"
    )


def _origin(report: Report) -> str:
    found = report.findings
    plan = "\n".join(f"{name} = {value}" for name, value in report.plan.items() if name != "policies")
    drivers = [(driver.name, f"{driver.core}, training seeds {_seeds(driver)}") for driver in found.drivers]
    origin = list(report.origin.items())
    return (
        "<h2>How this was made</h2>"
        f'<div class="box"><pre>{html.escape(report.command)}</pre><div class="pair">'
        f"<div><h3>Drivers</h3><dl>{terms(drivers)}</dl></div>"
        f"<div><h3>Machine and versions</h3><dl>{terms(origin)}</dl></div></div>"
        f"<details><summary>All that the numbers depend on</summary><pre>{html.escape(plan)}</pre></details></div>"
    )


def _seeds(driver: DriverFindings) -> str:
    return ", ".join("unknown" if seed is None else str(seed) for seed in driver.training_seeds)


def _runs(found: Findings, driver: str) -> int:
    return next(one.runs for one in found.drivers if one.name == driver)


def _percent(estimate: Estimate) -> str:
    return number_text(estimate, 100, 1, " %")


def _range(estimate: Estimate) -> str:
    return interval_text(estimate, 100, 1)


def _nice(value: float) -> float:
    """Return a round number that is not smaller, up to 1."""
    return min(1.0, max(0.1, math.ceil(10 * value) / 10))
