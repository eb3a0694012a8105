"""One page about a robustness test: `report.html`, whole in itself.

write_robustness_report("runs/robustness/report.html", Report(findings, origin, films, shots))
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from agents.driving.statistics import Estimate
from agents.runs.files import write_text
from envs.perturbations import SEVERITIES
from experiments.reports.page import render
from experiments.robustness import figures
from experiments.robustness.films import FailureFilm
from experiments.robustness.findings import ENOUGH_RUNS, Condition, ConditionSummary, DriverFindings, Findings

SEVERITY_COLUMNS = ((0.0, "clean"), (1.0, "1"), (2.0, "2"), (3.0, "3"), (4.0, "4"), (5.0, "5"))
TOPS = (0.1, 0.2, 0.5, 1.0)
"""Upper ends of the axes of lane errors; all panels of a page share the smallest that holds every figure."""
MOST_BANDS = 4
"""Drivers whose intervals are shaded in the curves; more would hide each other."""
SHARE_TICKS = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


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
    drives: dict[str, Any] | None = None
    """What cells and points open, of `experiments.robustness.drives_data`; None where they open nothing."""


def write_robustness_report(path: str | Path, report: Report) -> None:
    """Write the page in one piece.

    Raises:
        WriteError: if it cannot be written; an older one is still there then.
    """
    found = report.findings
    runs = {driver.name: [run.error_iqm for run in driver.each_run] for driver in found.drivers}
    ends = [end for one in found.drivers for end in (one.error_iqm.value, one.error_iqm.high, one.error_iqm_runs.high)]
    highest = float(np.nanmax([*ends, *(value for some in runs.values() for value in some)]))
    top = min(1.0, max(0.1, math.ceil(10 * highest) / 10))
    content = render(
        "robustness/templates/report.html",
        report=report,
        directory=Path(path).parent,
        colour=figures.colour,
        few_runs=min(driver.runs for driver in found.drivers),
        enough_runs=ENOUGH_RUNS,
        runs={driver.name: driver.runs for driver in found.drivers},
        bars=figures.forest([(one.name, one.error_iqm, one.error_iqm_runs) for one in found.drivers], top, runs),
        top=top,
        profiles=figures.profiles(
            "Share of drives with at most this lane error",
            [driver.profile for driver in found.drivers],
            [(0.0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1.0, "100 %")],
        ),
        families=_families(found),
        bands=len(found.drivers) <= MOST_BANDS,
        responses=_responses(found),
        each_response=_each_response(found),
        severities=[s for s in SEVERITIES if any(condition.severity == s for condition in found.conditions)],
        grid=_grid(found),
        about=_about,
        cell_note=_cell_note,
        # `<` cannot end the script that the data stand in.
        drives_json=Markup(json.dumps(report.drives, separators=(",", ":")).replace("<", "\\u003c")),  # noqa: S704
        similarities=_similarities(found),
        recorded=_recorded(found),
        shot_groups=_shot_groups(report.shots),
    )
    write_text(path, content)


def _families(found: Findings) -> list[tuple[str, list[float]]]:
    """Return the mean lane error of every driver by family, clean last."""
    means = [driver.by_family(found.conditions, "error") for driver in found.drivers]
    clean = ("clean", [driver.clean_error.value for driver in found.drivers])
    return [*((family, [mean[family] for mean in means]) for family in means[0]), clean]


def _by_family_and_kind(found: Findings) -> dict[str, dict[str, list[Condition]]]:
    """Sort the conditions: those of a kind differ in severity."""
    kinds: dict[str, dict[str, list[Condition]]] = {}
    for condition in found.conditions:
        kinds.setdefault(condition.family, {}).setdefault(condition.name, []).append(condition)
    return kinds


def _grid(found: Findings) -> list[tuple[str, list[tuple[str, dict[int, Condition | None]]]]]:
    """Return the conditions by family, kind and severity; None where there is none."""
    return [
        (
            family,
            [
                (_spoken(name), dict.fromkeys(SEVERITIES) | {condition.severity: condition for condition in some})
                for name, some in kinds.items()
            ],
        )
        for family, kinds in _by_family_and_kind(found).items()
    ]


def _about(condition: Condition, here: ConditionSummary) -> str:
    """Say what a cell of the grid stands for."""
    words = (
        f"{condition.perturbation}: lane error {here.error.text(1, 100)} %, {here.crashes} of {here.drives} left the "
        "road"
    )
    if math.isfinite(here.saliency_ssim):
        words += f", saliency {here.saliency_ssim:.2f}"
    if math.isfinite(here.state_step):
        words += f", state step × {here.state_step:.2f}"
    return words


def _cell_note(here: ConditionSummary) -> str:
    """Return the small print of a cell: the interval, and how many drives left the road."""
    interval = here.error.interval(lambda end: f"{100 * end:.0f}").strip("[]").replace(", ", "–")
    return "\n".join(filter(None, (interval, f"{here.crashes}/{here.drives}" if here.crashes else "")))


def _error_axis(found: Findings) -> tuple[float, tuple[figures.Tick, ...]]:
    """Return upper end and ticks of the axes of lane errors: the smallest of `TOPS` that holds every mean."""
    means = [here.error.value for driver in found.drivers for here in driver.by_condition.values()]
    top = next(top for top in TOPS if top >= min(max(means), 1.0))
    return top, ((0.0, "0"), (top / 2, f"{50 * top:g}"), (top, f"{100 * top:g} %"))


def _responses(found: Findings) -> list[figures.Panel]:
    """Return error against severity for each family."""
    top, ticks = _error_axis(found)
    bands = len(found.drivers) <= MOST_BANDS
    return [
        figures.curves(
            family,
            [{float(s): e for s, e in driver.curves[family].items()} for driver in found.drivers],
            top,
            ticks,
            SEVERITY_COLUMNS,
            bands,
            lambda number, place, family=family: {  # type: ignore[misc]
                "data-driver": found.drivers[number].name,
                "data-family": family,
                "data-severity": f"{place:g}",
            },
        )
        for family in _by_family_and_kind(found)
    ]


def _each_response(found: Findings) -> list[tuple[str, list[figures.Panel]]]:
    """Return the same for each disturbance, by family; one alone is the family's own panel."""
    top, ticks = _error_axis(found)
    bands = len(found.drivers) <= MOST_BANDS

    def one(name: str, conditions: Sequence[Condition]) -> figures.Panel:
        series: list[dict[float, Estimate]] = []
        for driver in found.drivers:
            curve = {0.0: driver.by_condition[""].error}
            series.append(curve | {float(c.severity): driver.by_condition[c.perturbation].error for c in conditions})
        wrong = {0.0: ""} | {float(c.severity): c.perturbation for c in conditions}

        def key(number: int, place: float) -> dict[str, str]:
            return {"data-driver": found.drivers[number].name, "data-wrong": wrong[place]}

        return figures.curves(_spoken(name), series, top, ticks, SEVERITY_COLUMNS, bands, key)

    kinds = _by_family_and_kind(found).items()
    return [(family, [one(*member) for member in some.items()]) for family, some in kinds if len(some) > 1]


def _similarities(found: Findings) -> list[figures.Panel]:
    """Return similarity of saliency against severity for each family in which it can be measured."""
    panels = []
    for family in _by_family_and_kind(found):
        series = [_similarity(driver, found.conditions, family) for driver in found.drivers]
        if any(series):
            panels.append(figures.curves(family, series, 1.0, SHARE_TICKS, SEVERITY_COLUMNS, False))
    return panels


def _similarity(driver: DriverFindings, conditions: Sequence[Condition], family: str) -> dict[float, Estimate]:
    """Return the mean similarity of saliency by severity; empty where it cannot be measured."""
    values: dict[int, list[float]] = {}
    for condition in conditions:
        similar = driver.by_condition[condition.perturbation].saliency_ssim
        if condition.family == family and math.isfinite(similar):
            values.setdefault(condition.severity, []).append(similar)
    means = {0.0: 1.0} | {float(severity): float(np.mean(some)) for severity, some in values.items()}
    return {place: Estimate(mean, mean, mean) for place, mean in means.items()} if values else {}


def _recorded(found: Findings) -> dict[str, Any] | None:
    """Return the error of the steering on recordings beside the closed-loop figures."""
    drivers = [driver for driver in found.drivers if math.isfinite(driver.recorded_clean)]
    if not drivers:
        return None
    rows = []
    for name in dict.fromkeys(condition.name for condition in found.conditions):
        members = [condition.perturbation for condition in found.conditions if condition.name == name]
        cells = []
        for driver in drivers:
            summaries = [driver.by_condition[member] for member in members]
            ratio = np.array([one.recorded_rmse for one in summaries]) / driver.recorded_clean
            ratio = ratio[np.isfinite(ratio)]
            cells.append(
                (
                    float(ratio.mean()) if ratio.size else float("nan"),
                    float(np.mean([one.error.value for one in summaries])),
                )
            )
        rows.append((_spoken(name), cells))
    pairs = [
        [
            (here.recorded_rmse, here.error.value, f"{driver.name}, {condition.perturbation}")
            for condition in found.conditions
            if math.isfinite((here := driver.by_condition[condition.perturbation]).recorded_rmse)
        ]
        for driver in drivers
    ]
    most = max((place for some in pairs for place, _, _ in some), default=1.0)
    return {
        "drivers": drivers,
        "heads": [
            ("disturbance", ""),
            *((f"{driver.name} {what}", "") for driver in drivers for what in ("recorded", "driven")),
        ],
        "rows": rows,
        "panel": figures.scatter(
            "Driven against recorded", pairs, (max(most, 1e-3), 1.0), ("RMSE on recordings", "lane error on the road")
        ),
    }


def _shot_groups(shots: Sequence[Shot]) -> list[tuple[str, list[Shot]]]:
    groups: dict[str, list[Shot]] = {}
    for shot in shots:
        groups.setdefault(shot.family, []).append(shot)
    if len(groups) == len(shots):
        return [("one of each family", list(shots))]
    return list(groups.items())


def _spoken(name: str) -> str:
    return name.replace("_", " ")
