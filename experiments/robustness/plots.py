"""Curves of the robustness report: dose and response, and how steady the drivers stay inside.

Heat maps of the robustness report: families by drivers, every disturbance by severity, closed loop by open loop.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from agents.driving.metrics import Estimate
from envs.perturbations import SEVERITIES
from experiments.reports.page import cell, estimate_cell, head_cells, sortable
from experiments.robustness import svg as figures
from experiments.robustness.findings import Condition, ConditionSummary, DriverFindings, Findings

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
            curve = {0.0: driver.by_condition[""].error}
            series.append(curve | {float(severity[p]): driver.by_condition[p].error for p in perturbations})
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
        similar = driver.by_condition[condition.perturbation].saliency_ssim
        if condition.family == family and math.isfinite(similar):
            values.setdefault(condition.severity, []).append(similar)
    means = {0.0: 1.0} | {float(severity): float(np.mean(some)) for severity, some in values.items()}
    return {place: Estimate(mean, mean, mean) for place, mean in means.items()} if values else {}


def _top(found: Findings) -> float:
    """Return the upper end of the axes: the smallest of `TOPS` that holds every mean."""
    means = [spot.error.value for driver in found.drivers for spot in driver.by_condition.values()]
    return next(top for top in TOPS if top >= min(max(means), 1.0))


def _times(value: float) -> str:
    return f"× {value:.2f}" if math.isfinite(value) else "–"


def by_family(found: Findings) -> str:
    """Return a sortable table of families and drivers."""
    drivers = found.drivers
    heads = head_cells([("family", ""), *((driver.name, "") for driver in drivers)])
    means = [driver.by_family(found.conditions, "error") for driver in drivers]
    rows = []
    for family in means[0]:
        cells = "".join(figures.spot(f"{100 * mean[family]:.0f}", mean[family]) for mean in means)
        rows.append(
            f'<tr><th scope="row" data-value="{html.escape(family, quote=True)}">{html.escape(family)}</th>{cells}</tr>'
        )
    clean = "".join(figures.spot(f"{100 * d.clean_error.value:.0f}", d.clean_error.value) for d in drivers)
    rows.append(f'<tr><th scope="row" data-value="clean">clean</th>{clean}</tr>')
    return (
        "<h2>By family</h2><p>Mean lane error, % of the lane width, over the disturbances and severities of a family. "
        f"A click on a heading sorts.</p>{sortable(heads, ''.join(rows), 'heat')}"
    )


def every_condition(found: Findings) -> str:
    """Return a heat map of disturbances and severities for each driver."""
    maps = []
    for number, driver in enumerate(found.drivers):
        opened = " open" if number == 0 else ""
        maps.append(
            f'<details class="part"{opened}><summary>{html.escape(driver.name)}</summary>'
            f'<div class="box"><p>Clean: {100 * driver.clean_error.value:.0f} %.</p>{_map(driver, found.conditions)}'
            "</div></details>"
        )
    return (
        "<h2>Every disturbance</h2><p>Mean lane error, %, and below it how many drives left the road. The intervals "
        f"show when the pointer rests on a cell.</p>{''.join(maps)}"
    )


def recordings(found: Findings) -> str:
    """Return the error of the steering on recordings beside the closed-loop figures."""
    drivers = [driver for driver in found.drivers if math.isfinite(driver.recorded_clean)]
    if not drivers:
        return ""
    names = list(dict.fromkeys(c.name for c in found.conditions))
    heads = head_cells(
        [("disturbance", ""), *((f"{driver.name} {what}", "") for driver in drivers for what in ("recorded", "driven"))]
    )
    rows, pairs = [], []
    for driver in drivers:
        pairs.append([_pair(driver, condition) for condition in found.conditions])
    shown = [[pair for pair in some if pair is not None] for some in pairs]
    for name in names:
        members = [condition for condition in found.conditions if condition.name == name]
        cells = ""
        for driver in drivers:
            ratios = [driver.by_condition[c.perturbation].recorded_rmse / driver.recorded_clean for c in members]
            ratio = _mean([value for value in ratios if math.isfinite(value)])
            error = _mean([driver.by_condition[c.perturbation].error.value for c in members])
            words = f"× {ratio:.2f}"
            cells += figures.spot(words, (ratio - 1) / 2 if math.isfinite(ratio) else ratio, value=ratio)
            cells += figures.spot(f"{100 * error:.0f}", error)
        label = html.escape(name.replace("_", " "))
        rows.append(f'<tr><th scope="row" data-value="{label}">{label}</th>{cells}</tr>')
    most = max((place for some in shown for place, _, _ in some), default=1.0)
    panel = figures.scatter(
        "Driven against recorded", shown, (max(most, 1e-3), 1.0), ("RMSE on recordings", "lane error on the road")
    )
    legend = figures.legend([driver.name for driver in drivers])
    clean = ", ".join(
        f"{driver.name} {driver.recorded_clean:.3f} (× {driver.recorded_worsening.text(2)} perturbed)"
        if math.isfinite(driver.recorded_worsening.value)
        else f"{driver.name} {driver.recorded_clean:.3f}"
        for driver in drivers
    )
    return (
        "<h2>On recordings</h2><p>The same disturbances on recorded frames, where the car does not react: the error of "
        "the steering (RMSE) in units of that on clean frames, beside the lane error in closed loop, %; means over "
        f"severities. RMSE on clean frames, full locks: {html.escape(clean)}. In brackets, 95 % intervals over "
        "training runs and blocks of frames.</p>"
        f'<div class="pair">{sortable(heads, "".join(rows), "heat")}<div class="box">{legend}{panel}'
        "<figcaption>Each dot is a disturbance at a severity.</figcaption></div></div>"
    )


def _map(driver: DriverFindings, conditions: Sequence[Condition]) -> str:
    """Return disturbances by severities, a table for each family."""
    shown = [severity for severity in SEVERITIES if any(c.severity == severity for c in conditions)]
    at = {(condition.name, condition.severity): condition for condition in conditions}
    tables = []
    for family in dict.fromkeys(condition.family for condition in conditions):
        rows = []
        for name in dict.fromkeys(condition.name for condition in conditions if condition.family == family):
            cells = ""
            for severity in shown:
                condition = at.get((name, severity))
                cells += (
                    "<td></td>" if condition is None else _spot(driver.by_condition[condition.perturbation], condition)
                )
            label = html.escape(name.replace("_", " "))
            rows.append(f'<tr><th scope="row" data-value="{label}">{label}</th>{cells}</tr>')
        heads = head_cells([(family, "group"), *((str(severity), "") for severity in shown)])
        tables.append(
            f'<table class="heat sortable"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        )
    return f'<div class="maps">{"".join(tables)}</div>'


def _spot(spot: ConditionSummary, condition: Condition) -> str:
    error = spot.error
    about = (
        f"{condition.perturbation}: lane error {error.text(1, 100)} %, {spot.crashes} of {spot.drives} left the road"
    )
    if math.isfinite(spot.saliency_ssim):
        about += f", saliency {spot.saliency_ssim:.2f}"
    if math.isfinite(spot.state_step):
        about += f", state step × {spot.state_step:.2f}"
    small = f"{spot.crashes}/{spot.drives}" if spot.crashes else ""
    return figures.spot(f"{100 * error.value:.0f}", error.value, small, about)


def _pair(driver: DriverFindings, condition: Condition) -> tuple[float, float, str] | None:
    spot = driver.by_condition[condition.perturbation]
    if not math.isfinite(spot.recorded_rmse):
        return None
    return spot.recorded_rmse, spot.error.value, f"{driver.name}, {condition.perturbation}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
