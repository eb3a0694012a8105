"""What a gate leaves: a Markdown summary, JUnit XML, JSON, the table of drives, and films of what failed.

write_report(Path("runs/gate"), plan, result, origin, films=3)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from agents.runs.files import replacing, write_json, write_text
from experiments.console import plain, progress, screen
from experiments.gate.drives import GatePlan, GateResult
from experiments.gate.judge import Check, Outcome
from experiments.reports.page import render
from experiments.robustness.films import FailureFilm, film_failures
from experiments.robustness.findings import Condition, Failure
from experiments.robustness.store import write_table


def write_report(
    directory: Path,
    plan: GatePlan,
    result: GateResult,
    origin: Mapping[str, Any],
    films: int,
    on_summary: Callable[[dict[str, Any]], None],
) -> None:
    """Print the answers and write everything, first what nothing can be lost of: filming may fail.

    Args:
        directory: of the gate.
        plan: what was asked.
        result: what came of it.
        origin: command, time and versions.
        films: how many drives to film.
        on_summary: called with what `summary.json` holds before anything is filmed, and again with the films.

    Raises:
        OSError: if something cannot be written.
    """
    headline = _headline(plan, result)
    write_table(directory / "drives.parquet", result.drives)
    summary: dict[str, Any] = {
        "format": "wormwheel-gate",
        "format_version": 1,
        "outcome": result.outcome.value,
        "headline": headline,
        "roads": result.roads,
        "looks": result.looks,
        "drives": len(result.drives),
        "responses": plain(result.responses.to_dict("records")),
        "checks": [_to_json(check) for check in result.checks],
        "films": [],
        "plan": plain(plan),
        "origin": dict(origin),
    }
    write_json(directory / "summary.json", summary)
    _write_junit(directory / "junit.xml", result, float(origin["seconds"]))
    on_summary(summary)
    filmed = _film(directory, plan, result, films)
    if filmed:
        summary["films"] = [{"path": str(film.path), "command": film.command} for film in filmed]
        write_json(directory / "summary.json", summary)
        on_summary(summary)
    text = render(
        "gate/templates/summary.md",
        result=result,
        headline=headline,
        conditions=len(plan.conditions),
        budget=plan.looks.roads[-1],
        seconds=origin["seconds"],
        main=[check for check in result.checks if check.group != "family"],
        families=[check for check in result.checks if check.group == "family"],
        films=filmed,
        error_rate=plan.rules.error_rate,
        command=origin["command"],
    )
    write_text(directory / "summary.md", text)
    for check in result.checks:
        if check.group != "family" or check.outcome is Outcome.FAILED:
            screen().print(f"{check.outcome.value:>9}  {check.name}: {check.says}", markup=False, soft_wrap=True)
    screen().print(headline, markup=False, soft_wrap=True)


def _headline(plan: GatePlan, result: GateResult) -> str:
    """Say what came of it in one sentence."""
    shown = [check for check in result.checks if check.group != "family" or check.outcome is Outcome.FAILED]
    broken = [check.name for check in shown if check.outcome is Outcome.FAILED]
    unknown = [check.name for check in shown if check.outcome is Outcome.UNDECIDED]
    if broken:
        return f"Failed after {result.roads} roads: {', '.join(broken)}."
    if unknown:
        return (
            f"Not decided within {plan.looks.roads[-1]} roads: {', '.join(unknown)}. A larger --budget may decide it."
        )
    return f"Passed after {result.roads} roads."


def _to_json(check: Check) -> dict[str, Any]:
    values = {name: getattr(check, name) for name in ("value", "low", "high")}
    return {
        "name": check.name,
        "group": check.group,
        "outcome": check.outcome.value,
        **{name: float(value) if math.isfinite(value) else None for name, value in values.items()},
        "says": check.says,
    }


def _write_junit(path: Path, result: GateResult, seconds: float) -> None:
    """Write the answers as JUnit XML: what failed is a failure, what is open an error."""
    kinds = {Outcome.FAILED: "failure", Outcome.UNDECIDED: "error"}
    shown = [check for check in result.checks if check.group != "family" or check.outcome is not Outcome.UNDECIDED]
    counts = {kind: sum(kinds.get(check.outcome) == kind for check in shown) for kind in kinds.values()}
    suite = ElementTree.Element(
        "testsuite",
        name="wormwheel gate",
        tests=str(len(shown)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        time=f"{seconds:.1f}",
    )
    for check in shown:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"wormwheel.gate.{check.group}", name=check.name, time="0"
        )
        if check.outcome in kinds:
            ElementTree.SubElement(case, kinds[check.outcome], message=check.says, type=check.outcome.value)
        else:
            ElementTree.SubElement(case, "system-out").text = check.says
    root = ElementTree.Element("testsuites")
    root.append(suite)
    with replacing(path) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True)


def _film(directory: Path, plan: GatePlan, result: GateResult, count: int) -> list[FailureFilm]:
    """Film the judged policy where a check failed, what tells most first."""
    policies = {(one.driver, one.run): one.source for one in plan.policy_runs if one.source is not None}
    failed = [check for check in result.checks if check.outcome is Outcome.FAILED]
    chosen = _telling_drives(failed, result.drives, plan, count)
    if not chosen:
        return []
    with progress("filming", len(chosen), "films") as bar:
        return film_failures(chosen, policies, plan.world, directory / "films", bar.advance)


def _telling_drives(failed: Sequence[Check], drives: pd.DataFrame, plan: GatePlan, count: int) -> list[Failure]:
    """Choose drives that count for what failed: those with the largest error more than the other policy's, and crashes.

    No condition is chosen twice before every other one that counts has been.
    """
    rules = plan.rules
    mine = drives[drives.driver == rules.policy].set_index(["perturbation", "road_seed", "effect_seed"])
    excess = mine.lane_error + mine.crashed
    if rules.against is not None:
        other = drives[drives.driver == rules.against].set_index(["perturbation", "road_seed", "effect_seed"])
        excess = excess - other.lane_error.reindex(mine.index).fillna(0.0)
    counted = {perturbation for check in failed for perturbation in check.conditions}
    order = mine.assign(excess=excess)[mine.index.get_level_values(0).isin(counted)].sort_values(
        "excess", ascending=False, kind="stable"
    )
    turn = order.groupby(level="perturbation", sort=False).cumcount()
    order = order.assign(turn=turn).sort_values(["turn", "excess"], ascending=[True, False], kind="stable")
    return [
        Failure(
            rules.policy,
            0,
            Condition.of(str(perturbation)),
            int(road),
            int(draw),
            float(row.duration_s),
        )
        for (perturbation, road, draw), row in order.head(count).iterrows()
    ]
