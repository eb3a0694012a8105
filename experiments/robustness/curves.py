"""Curves of the robustness report: dose and response, and how steady the drivers stay inside."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from agents.metrics import Estimate
from experiments.report_parts import cell, estimate_cell, head_cells, sortable
from experiments.robustness import figures
from experiments.robustness.findings import Condition, DriverFindings, Findings

SEVERITY_COLUMNS = ((0.0, "clean"), (1.0, "1"), (2.0, "2"), (3.0, "3"), (4.0, "4"), (5.0, "5"))
TOPS = (0.1, 0.2, 0.5, 1.0)
"""Upper ends of the axes of lane errors; all panels of a page share the smallest that holds every figure."""
MOST_BANDS = 4
"""Drivers whose intervals are shaded in the curves; more would hide each other."""
SHARE_TICKS = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


def responses(found: Findings) -> str:
    """Return error against severity: a panel for each family, and one for each disturbance folded up below."""
    names = [driver.name for driver in found.drivers]
    bands = len(names) <= MOST_BANDS
    top = _top(found)
    ticks = ((0.0, "0"), (top / 2, f"{50 * top:g}"), (top, f"{100 * top:g} %"))
    families = list(dict.fromkeys(condition.family for condition in found.conditions))
    panels = "".join(
        figures.curves(
            family,
            [{float(s): e for s, e in driver.curves[family].items()} for driver in found.drivers],
            top,
            ticks,
            SEVERITY_COLUMNS,
            bands,
        )
        for family in families
    )
    kinds: dict[str, dict[str, list[str]]] = {}
    for condition in found.conditions:
        kinds.setdefault(condition.family, {}).setdefault(condition.name, []).append(condition.perturbation)
    severity = {condition.perturbation: condition.severity for condition in found.conditions}

    def one(name: str, perturbations: Sequence[str]) -> str:
        series: list[dict[float, Estimate]] = []
        for driver in found.drivers:
            curve = {0.0: driver.spots[""].error}
            series.append(curve | {float(severity[p]): driver.spots[p].error for p in perturbations})
        return figures.curves(name.replace("_", " "), series, top, ticks, SEVERITY_COLUMNS, bands)

    each = "".join(
        f'<details class="part"><summary>{html.escape(family)}: {len(members)} kinds</summary><div class="box">'
        f"{figures.legend(names)}"
        f'<div class="panels">{"".join(one(*member) for member in members.items())}</div></div></details>'
        for family, members in kinds.items()
        if len(members) > 1  # one alone is the family's own panel
    )
    shaded = " Bands are 95 % intervals." if bands else ""
    return (
        "<h2>Dose and response</h2><p>Lane error against severity, from clean to 5, averaged over the disturbances of "
        f'a family.{shaded}</p><div class="box">{figures.legend(names)}<div class="panels few">{panels}</div></div>'
        f"{each}"
    )


def inside(found: Findings) -> str:
    """Return where the drivers look, and how far their hidden state jumps."""
    if not any(math.isfinite(driver.saliency_ssim.value) for driver in found.drivers):
        return ""
    names = [driver.name for driver in found.drivers]
    panels = []
    for family in dict.fromkeys(condition.family for condition in found.conditions):
        series = [_similarity(driver, found.conditions, family) for driver in found.drivers]
        if any(series):
            panels.append(figures.curves(family, series, 1.0, SHARE_TICKS, SEVERITY_COLUMNS, False))
    heads = head_cells([("driver", ""), ("similarity", ""), ("hidden state", "")])
    rows = "".join(
        f"<tr>{cell(driver.name, driver.name)}{estimate_cell(driver.saliency_ssim, 1, 2)}"
        f"{cell(_times(driver.state_step), driver.state_step)}</tr>"
        for driver in found.drivers
    )
    return (
        "<h2>Inside the drivers</h2><p>Similarity (SSIM) of VisualBackProp saliency between clean frames of a driver's "
        "own drive and the same frames perturbed: 1 looks at the same places. Disturbances that a recorded frame "
        "cannot show are left out. Hidden state: the largest step between two frames, root mean square, in units of "
        "that on the same clean road; the first second does not count. For a Transformer the state is its window of "
        f"past frames, whose steps mean less.</p>{sortable(heads, rows)}"
        '<div class="box apart"><h3>Similarity of saliency against severity</h3>'
        f'{figures.legend(names)}<div class="panels few">{"".join(panels)}</div></div>'
    )


def _similarity(driver: DriverFindings, conditions: Sequence[Condition], family: str) -> dict[float, Estimate]:
    """Return the mean similarity of saliency by severity; empty where it cannot be measured."""
    values: dict[int, list[float]] = {}
    for condition in conditions:
        similar = driver.spots[condition.perturbation].saliency_ssim
        if condition.family == family and math.isfinite(similar):
            values.setdefault(condition.severity, []).append(similar)
    means = {0.0: 1.0} | {float(severity): float(np.mean(some)) for severity, some in values.items()}
    return {place: Estimate(mean, mean, mean) for place, mean in means.items()} if values else {}


def _top(found: Findings) -> float:
    """Return the upper end of the axes: the smallest of `TOPS` that holds every mean."""
    means = [spot.error.value for driver in found.drivers for spot in driver.spots.values()]
    return next(top for top in TOPS if top >= min(max(means), 1.0))


def _times(value: float) -> str:
    return f"× {value:.2f}" if math.isfinite(value) else "–"
