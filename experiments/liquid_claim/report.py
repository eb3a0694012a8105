"""What the experiment leaves: `summary.json`, `README.md` and pictures. Every sentence about a result is computed.

write_outcome(Path("runs/liquid_claim"), Material(...))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agents.runs.directory import to_json
from agents.runs.files import write_json, write_text
from experiments.console import plain, screen, show, table
from experiments.liquid_claim import plots as pictures
from experiments.liquid_claim.comparisons import Claim, Clock
from experiments.liquid_claim.training import CONTENDERS
from experiments.reports.page import render
from experiments.reports.plots import save
from experiments.robustness.findings import ENOUGH_RUNS, DriverFindings, Findings

LANE_ERROR = (
    "Lane error: mean distance from the middle of the lane as a share of its width over the whole planned time; the "
    "time after leaving the road counts as a whole lane."
)
"""What is measured."""


@dataclass(frozen=True)
class Material:
    """All that was found."""

    command: str
    """What was typed."""
    versions: Mapping[str, str]
    """Of packages."""
    machine: Mapping[str, str]
    """The computer."""
    options: Mapping[str, Any]
    """The budget."""
    findings: Findings
    """Of the suite."""
    claims: Sequence[Claim]
    """What is said of liquid drivers, judged."""
    clocks: Sequence[Clock]
    """What the elapsed time is worth."""
    tuning: Mapping[str, Mapping[float, float | None]]
    """Validation error by core and learning rate; None where the training diverged."""
    chosen: Mapping[str, float]
    """The learning rate of each core."""
    parameters: Mapping[str, int]
    """Of each driver, head and core."""


def write_outcome(directory: Path, material: Material) -> None:
    """Print the tables, and write summary, page and pictures.

    Raises:
        OSError: if something cannot be written.
    """
    found = material.findings
    names = _pictures(directory, material)
    write_json(directory / "summary.json", _summary(material))
    write_text(directory / "README.md", _page(material, names))
    heads, rows = ranking(material)
    title = f"disturbances: {len(found.conditions)}, roads: {found.roads}, with 95 % intervals over runs and roads"
    table(title, heads, rows)
    for words in (*(f"{claim.title}: {sentence(claim)}" for claim in material.claims), _caution(found)):
        screen().print(words, markup=False, soft_wrap=True)


def ranking(material: Material) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the table of drivers, the best one first."""
    found = material.findings
    heads = ["driver", "runs", "parameters", "lane error, %", "mean, %", "clean, %", "off the road, %"]
    heads += [f"× {found.baseline}", f"minus {found.baseline}, points", f"beats {found.baseline}, %"]
    return heads, [_row(driver, material) for driver in found.drivers]


def _row(driver: DriverFindings, material: Material) -> list[str]:
    mine = driver.name == material.findings.baseline
    return [
        driver.name,
        str(driver.runs),
        f"{material.parameters[driver.name]:,}",
        driver.error_iqm_runs.text(1, 100),
        driver.error.text(1, 100),
        driver.clean_error.text(1, 100),
        driver.crash_share.text(1, 100),
        show(driver.corruption_error, 2),
        "–" if mine else driver.difference.text(1, 100),
        "–" if mine else driver.better.text(0, 100),
    ]


def sentence(claim: Claim) -> str:
    """Say how a claim came out, by the intervals alone."""
    total = len(claim.comparisons)
    parts = [f"{claim.says} {claim.outcome[0].upper()}{claim.outcome[1:]}."]
    parts.append(
        f"Of {_count(total, 'comparison')}, {claim.count('better')} came out for it, {claim.count('worse')} against "
        f"it; the intervals of {claim.count('undecided')} hold zero."
    )
    return " ".join(parts)


def _summary(material: Material) -> dict[str, Any]:
    found = material.findings
    drivers = [
        {
            "driver": driver.name,
            "core": driver.core,
            "options": plain(dict(CONTENDERS[driver.name].options)),
            "runs": driver.runs,
            "training_seeds": list(driver.training_seeds),
            "parameters": material.parameters[driver.name],
            "learning_rate": material.chosen[driver.name],
            "drives": driver.drives,
            "crashes": driver.crashes,
            "clean_error": driver.clean_error,
            "clean_crashes": driver.clean_crashes,
            "error_iqm": driver.error_iqm_runs,
            "error_iqm_stratified": driver.error_iqm,
            "error": driver.error,
            "crash_share": driver.crash_share,
            "autonomy": driver.autonomy,
            "corruption_error": driver.corruption_error,
            "difference": driver.difference,
            "better": driver.better,
            "saliency_ssim": driver.saliency_ssim,
            "state_step": driver.state_step,
            "conditions": {
                name: {"error": spot.error, "crashes": spot.crashes} for name, spot in driver.by_condition.items()
            },
        }
        for driver in found.drivers
    ]
    claims = [
        {
            "title": claim.title,
            "says": claim.says,
            "outcome": claim.outcome,
            "comparisons": [{**to_json(one), "verdict": one.verdict} for one in claim.comparisons],
        }
        for claim in material.claims
    ]
    return {
        "format": "wormwheel-liquid-claim-summary",
        "format_version": 1,
        "command": material.command,
        "finished": _now(),
        "versions": dict(material.versions),
        "machine": dict(material.machine),
        "options": plain(dict(material.options)),
        "baseline": found.baseline,
        "tuning": {
            label: {f"{rate:g}": plain(error) for rate, error in one.items()} for label, one in material.tuning.items()
        },
        "drivers": plain(to_json(drivers)),
        "claims": plain(claims),
        "clocks": plain([to_json(clock) for clock in material.clocks]),
    }


def _pictures(directory: Path, material: Material) -> list[tuple[str, str]]:
    """Draw the pictures; returns file names and what they show."""
    found = material.findings
    liquid = {label for label, contender in CONTENDERS.items() if contender.liquid}
    drawn = [
        ("ranking.png", pictures.ranking(found, liquid), "Lane error under shift with its 95 % interval, and clean."),
        ("heat.png", pictures.heat(found), "Mean lane error, %, by driver and perturbation, over the severities."),
        ("dose.png", pictures.dose(found, liquid), "Mean lane error against severity, by family."),
    ]
    if material.clocks:
        drawn.append(
            (
                "timing.png",
                pictures.timing(material.clocks, liquid),
                "Lane error without the elapsed time minus that with it; right of zero, knowing the time helps.",
            )
        )
    for name, figure, _ in drawn:
        save(figure, directory / name)
    return [(name, about) for name, _, about in drawn]


def _page(material: Material, shown: Sequence[tuple[str, str]]) -> str:
    options, found = material.options, material.findings
    comparison_count = sum(len(claim.comparisons) for claim in material.claims)
    return render(
        "liquid_claim/templates/page.md",
        command=material.command,
        options={"quick": False, **options},
        caution=_caution(found),
        verdicts=[(claim.title, sentence(claim)) for claim in material.claims],
        comparison_count=comparison_count,
        misses=max(1, round(0.1 * comparison_count)),
        perturbations=_count(len({condition.name for condition in found.conditions}), "perturbation"),
        roads=_count(found.roads, "road"),
        runs=_count(options["seeds"], "training run"),
        epochs=_count(options["epochs"], "epoch"),
        lane_error=LANE_ERROR,
        ranking=ranking(material),
        pictures=shown,
        clocks=[_clock_row(clock) for clock in material.clocks],
        comparisons=[(claim.title, claim.outcome, _comparison_rows(claim)) for claim in material.claims],
        tuning=_tuning_table(material),
        origin=_origin(material),
    )


def _caution(found: Findings) -> str:
    """Return a warning where there are too few training runs to speak of kinds; "" otherwise."""
    runs = min(driver.runs for driver in found.drivers)
    if runs >= ENOUGH_RUNS:
        return ""
    return f"With {_count(runs, 'training run')} of a core, differences may be those of runs, not of kinds."


def _comparison_rows(claim: Claim) -> list[list[str]]:
    return [
        [one.first, one.second, one.difference.text(1, 100), {"undecided": "–"}.get(one.verdict, one.verdict)]
        for one in claim.comparisons
    ]


def _clock_row(clock: Clock) -> list[str]:
    figures = (clock.known, clock.hidden, clock.comparison.difference)
    return [clock.label, clock.perturbation.replace("_", " "), *(figure.text(1, 100) for figure in figures)]


def _tuning_table(material: Material) -> tuple[list[str], list[list[str]]]:
    rates = list(material.options["rates"])
    rows = [
        [
            label,
            *("diverged" if one.get(rate) is None else f"{one[rate]:.4f}" for rate in rates),
            f"{material.chosen[label]:g}",
        ]
        for label, one in material.tuning.items()
    ]
    return ["driver", *(f"{rate:g}" for rate in rates), "chosen"], rows


def _origin(material: Material) -> list[tuple[str, str]]:
    budget = {name: _list(value) if isinstance(value, list) else str(value) for name, value in material.options.items()}
    return [("finished", _now()), *material.machine.items(), *material.versions.items(), *budget.items()]


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
