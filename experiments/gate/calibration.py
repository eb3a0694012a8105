"""How often the gate errs: a policy against itself, and against itself with a planted fault.

    python -m experiments.gate.calibration --policy runs/mine

A policy against itself, on the same roads under the same draws, drives the same drives, and the gate has nothing to
err about. So the two sides meet other draws of every disturbance here: what differs is chance, and every "worse" is a
false alarm. The faults are planted behind the driver, draws and roads paired as in a real gate.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.statistics import proportion
from agents.runs.directory import command, versions
from agents.runs.files import make_directory, write_json
from agents.runs.workers import run_jobs
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.cli import run_script
from experiments.console import progress, screen, table
from experiments.gate.drives import GatePlan, drive_gate
from experiments.gate.faults import DelayedSteering, ScaledSteering
from experiments.gate.judge import Outcome, Rules
from experiments.gate.sequential import Plan
from experiments.policy_paths import find_policy
from experiments.robustness.drivers import find_policy_runs
from experiments.robustness.suites import Suite
from experiments.robustness.verb import choose_world

POLICY, RELEASED = "policy", "released"
GAIN = 0.7
"""Of the planted fault: steering that is too weak."""
LATENCY_S = 0.1
"""Of the planted fault: steering that comes late."""
ROADS_APART = 1000
"""Between the first roads of two gates."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Calibration:
    """Run many gates of which the right answer is known, and count the wrong ones."""

    policy: Path
    """Policy or run directory; it should stay on clean roads."""
    gates: NonNegativeInt = 200
    """Gates of the policy against itself."""
    faulty: NonNegativeInt = 20
    """Gates with each planted fault."""
    perturbations: tuple[str, ...] = ("gaussian", "rain", "lens_dirt", "action_noise")
    """The small suite; each must draw, or the two sides would drive the same."""
    severities: tuple[int, ...] = (2,)
    """Of those that name none."""
    budget: Annotated[int, Field(ge=3)] = 9
    """Roads of a gate at most."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """As of `wormwheel gate`."""
    error_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """As of `wormwheel gate`."""
    seed: NonNegativeInt = 5_000_000
    """Of the first road of the first gate."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=lambda: LaneKeepingConfig(episode_s=5.0))
    """Where they drive."""
    workers: PositiveInt = 1
    """Processes; they do not change the figures."""
    out: Path = Path("runs/gate_calibration")
    """Directory for calibration.json."""


@dataclass(frozen=True, config={"arbitrary_types_allowed": True})
class _Gate:
    """One gate of known answer."""

    kind: str
    plan: Any


def run(options: Calibration) -> None:
    """Run all gates and print how often they were wrong."""
    gates = _gates(options)
    outcomes: dict[str, Counter[Outcome]] = {gate.kind: Counter() for gate in gates}
    roads: dict[str, int] = dict.fromkeys(outcomes, 0)
    begun_s = time.monotonic()
    with progress("gates", len(gates), "gates") as bar:

        def note(news: tuple[str, Outcome, int]) -> None:
            kind, outcome, driven = news
            outcomes[kind][outcome] += 1
            roads[kind] += driven
            bar.advance()

        run_jobs(_run_gates, gates, options.workers, note)
    rows, figures = [], {}
    for kind, counts in outcomes.items():
        total = sum(counts.values())
        caught = proportion(counts[Outcome.FAILED], total)
        rows.append(
            [
                kind,
                str(total),
                *(str(counts[outcome]) for outcome in Outcome),
                caught.text(1, 100),
                f"{roads[kind] / total:.1f}",
            ]
        )
        figures[kind] = {outcome.value: counts[outcome] for outcome in Outcome} | {
            "gates": total,
            "failed_share": caught.to_json(),
            "mean_roads": roads[kind] / total,
        }
    table("gates of known answer", ["kind", "gates", *(o.value for o in Outcome), "failed, %", "roads"], rows)
    seconds = round(time.monotonic() - begun_s, 1)
    write_json(
        make_directory(options.out) / "calibration.json",
        {"command": command(), "versions": versions(), "seconds": seconds, "figures": figures},
    )
    screen().print(f"{len(gates)} gates in {seconds:.0f} s: {options.out / 'calibration.json'}", markup=False)


def _gates(options: Calibration) -> list[_Gate]:
    """List the gates: each on roads of its own."""
    world = choose_world(options.world)
    (one,) = find_policy_runs([str(find_policy(options.policy))], throttle=world.throttle)
    base = GatePlan(
        policy_runs=(replace(one, driver=POLICY), replace(one, driver=RELEASED)),
        perturbations=Suite(options.perturbations, options.severities).conditions(),
        world=world,
        looks=Plan.upto(options.budget),
        rules=Rules(POLICY, RELEASED, options.margin, options.error_rate),
    )
    late = round(LATENCY_S / world.period_s)
    faults: dict[str, Callable[[Any], Any]] = {
        f"gain {GAIN:g}": partial(ScaledSteering, gain=GAIN),
        f"latency {1000 * LATENCY_S:g} ms": partial(DelayedSteering, frames=late),
    }
    found = [
        _Gate("against itself", replace(base, seed=options.seed + ROADS_APART * number, effect_seeds=(0, 1)))
        for number in range(options.gates)
    ]
    for name, fault in faults.items():
        found += [
            _Gate(name, replace(base, seed=options.seed + ROADS_APART * number, wraps=(fault, None)))
            for number in range(options.faulty)
        ]
    return found


def _run_gates(gates: Iterable[_Gate], report: Callable[[Any], None]) -> None:
    """Run gates one after the other; for `run_jobs`."""
    for gate in gates:
        result = drive_gate(gate.plan)
        report((gate.kind, result.outcome, result.roads))


if __name__ == "__main__":
    run_script(Calibration, run)
