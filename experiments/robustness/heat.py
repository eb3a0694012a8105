"""Heat maps of the robustness report: families by drivers, every disturbance by severity, closed loop by open loop."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from envs.perturbations import SEVERITIES
from experiments.report_parts import head_cells, sortable
from experiments.robustness import figures
from experiments.robustness.findings import Condition, DriverFindings, Findings, Spot


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
            ratios = [driver.spots[c.perturbation].recorded_rmse / driver.recorded_clean for c in members]
            ratio = _mean([value for value in ratios if math.isfinite(value)])
            error = _mean([driver.spots[c.perturbation].error.value for c in members])
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
                cells += "<td></td>" if condition is None else _spot(driver.spots[condition.perturbation], condition)
            label = html.escape(name.replace("_", " "))
            rows.append(f'<tr><th scope="row" data-value="{label}">{label}</th>{cells}</tr>')
        heads = head_cells([(family, "group"), *((str(severity), "") for severity in shown)])
        tables.append(
            f'<table class="heat sortable"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        )
    return f'<div class="maps">{"".join(tables)}</div>'


def _spot(spot: Spot, condition: Condition) -> str:
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
    spot = driver.spots[condition.perturbation]
    if not math.isfinite(spot.recorded_rmse):
        return None
    return spot.recorded_rmse, spot.error.value, f"{driver.name}, {condition.perturbation}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
