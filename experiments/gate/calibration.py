"""How often the gate errs: a policy against itself, and against itself with a planted fault.

    python -m experiments.gate.calibration --policy runs/mine

A pool of roads is driven once: by the policy, by the policy under other draws of every disturbance, and with each fault
planted behind the driver. Every gate then draws its own roads from the pool, and looks at their drives as it would had
it driven them itself. A policy against itself under the same draws drives the same drives, and a gate has nothing to
err about; so the two sides get different draws here: what differs is chance, and every "worse" is a false alarm.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.statistics import proportion
from agents.runs.directory import command, versions
from agents.runs.files import write_json
from agents.runs.workers import run_jobs
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.cli import run_script
from experiments.console import progress, screen, table
from experiments.gate.faults import DelayedSteering, ScaledSteering
from experiments.gate.judge import Outcome, Rules, judge, outcome
from experiments.gate.response import ResponseJob, ResponseRow
from experiments.gate.sequential import Plan
from experiments.policy_paths import find_policy
from experiments.robustness.drivers import find_policy_runs
from experiments.robustness.findings import Condition
from experiments.robustness.jobs import CLEAN, DriveJob, DriveRow, JobResult, drive_jobs
from experiments.robustness.store import Store, make_table, write_table
from experiments.robustness.suites import Suite
from experiments.robustness.verb import choose_world

SELF, OTHER = "policy", "policy, other draws"
"""The policy, and the policy under other draws of the disturbances."""
GAIN = 0.7
"""Of the planted fault: steering that is too weak."""
LATENCY_S = 0.1
"""Of the planted fault: steering that comes late."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Calibration:
    """Run many gates of which the right answer is known, and count the wrong ones."""

    policy: Path
    """Policy or run directory; it should stay on clean roads."""
    gates: NonNegativeInt = 200
    """Gates of the policy against itself."""
    faulty: NonNegativeInt = 20
    """Gates with each planted fault."""
    perturbations: tuple[str, ...] = ("gaussian", "rain", "action_noise")
    """The small suite; each must draw, or the two sides would drive the same."""
    severities: tuple[int, ...] = (2,)
    """Of those that name none."""
    budget: Annotated[int, Field(ge=3)] = 16
    """Roads of a gate at most."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """As of `wormwheel gate`."""
    error_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """As of `wormwheel gate`."""
    pool: PositiveInt = 48
    """Roads that are driven; each gate draws its own from them."""
    seed: NonNegativeInt = 5_000_000
    """Of the first road, and of what the gates draw."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=lambda: LaneKeepingConfig(episode_s=4.0))
    """Where they drive."""
    workers: PositiveInt = 1
    """Processes; they do not change the figures."""
    out: Path = Path("runs/gate_calibration")
    """Directory for calibration.json and drives.parquet; the same command resumes there."""


def run(options: Calibration) -> None:
    """Drive the pool, run all gates and print how often they were wrong."""
    begun_s = time.monotonic()
    world = choose_world(options.world)
    (one,) = find_policy_runs([str(find_policy(options.policy))], throttle=world.throttle)
    late = round(LATENCY_S / world.period_s)
    faults: dict[str, Callable[[Any], Any]] = {
        f"gain {GAIN:g}": partial(ScaledSteering, gain=GAIN),
        f"latency {1000 * LATENCY_S:g} ms": partial(DelayedSteering, frames=late),
    }
    roads = tuple(range(options.seed, options.seed + options.pool))
    perturbations = Suite(options.perturbations, options.severities).conditions()
    # Side: driver, draws, fault.
    sides = {SELF: (0, None), OTHER: (1, None)} | {name: (0, fault) for name, fault in faults.items()}
    jobs = [
        DriveJob(replace(one, driver=side), text, world, roads, (draw,), inside=False, wrap=fault)
        for side, (draw, fault) in sides.items()
        for text in (CLEAN, *perturbations)
    ]
    shadows = {
        side: ResponseJob(replace(one, driver=side), one, world, roads, fault)
        for side, (_, fault) in sides.items()
        if side != OTHER
    }
    plan: dict[str, Any] = {
        "format": "wormwheel-gate-calibration",
        "policies": [{"driver": side, "run": 0, "fingerprint": one.fingerprint} for side in sides],
        "perturbations": list(perturbations),
        "roads": list(roads),
        "world": world,
    }
    waiting: list[DriveJob | ResponseJob] = [*jobs, *shadows.values()]
    plan["code"] = {job.key: job.code for job in waiting}
    made = _drive(waiting, Store(options.out, plan), options.workers)
    drives = make_table([row for job in jobs for row in made[job.key]], DriveRow)
    responses = {side: make_table(made[job.key], ResponseRow) for side, job in shadows.items()}
    write_table(options.out / "drives.parquet", drives)
    conditions = [Condition.of(text) for text in (CLEAN, *perturbations)]
    kinds = {"against itself, other draws": (SELF, OTHER, options.gates)}
    kinds |= {name: (name, SELF, options.faulty) for name in faults}
    rng = np.random.default_rng(options.seed)
    figures = {
        kind: _run_gates(drives, responses[policy], conditions, options, policy, against, gates, rng)
        for kind, (policy, against, gates) in kinds.items()
    }
    lines = [
        [
            kind,
            *(str(found[name]) for name in ("gates", "passed", "failed", "undecided")),
            proportion(found["failed"], found["gates"]).text(1, 100),
            f"{found['mean_roads']:.1f}",
        ]
        for kind, found in figures.items()
    ]
    table("gates of known answer", ["kind", "gates", "passed", "failed", "undecided", "failed, %", "roads"], lines)
    for side in sides:
        mine = drives[drives.driver == side]
        words = (
            f"{side}: lane error {mine.lane_error.mean():.3f}, {int(mine.crashed.sum())} of {len(mine)} off the road"
        )
        if side in responses:
            gain, delay_s = responses[side].gain.mean(), responses[side].delay_s.mean()
            words += f"; on the policy's frames it steers {gain:.2f} times as much, {1000 * delay_s:.0f} ms later"
        screen().print(words, markup=False)
    seconds = round(time.monotonic() - begun_s, 1)
    path = options.out / "calibration.json"
    write_json(path, {"command": command(), "versions": versions(), "seconds": seconds, "figures": figures})
    screen().print(
        f"{len(drives)} drives, {sum(f['gates'] for f in figures.values())} gates in {seconds:.0f} s: {path}"
    )


def _drive(jobs: Sequence[DriveJob | ResponseJob], store: Store, workers: int) -> dict[str, tuple[dict[str, Any], ...]]:
    """Do the jobs that are not done yet; the rows of all by their keys."""
    done, _ = store.finished({job.key: job.code for job in jobs})
    waiting = [job for job in jobs if job.key not in done]
    with progress("driving", sum(job.weight for job in waiting), "steps") as bar:

        def note(news: int | JobResult) -> None:
            if isinstance(news, int):
                bar.advance(news)
            else:
                store.save(news)
                done[news.key] = news

        run_jobs(drive_jobs, waiting, workers, note)
    return {key: result.rows for key, result in done.items()}


def _run_gates(
    drives: pd.DataFrame,
    responses: pd.DataFrame,
    conditions: list[Condition],
    options: Calibration,
    policy: str,
    against: str,
    gates: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Run gates, each on roads of its own drawn from the pool; returns how they ended."""
    looks, rules = Plan.upto(options.budget), Rules(policy, against, options.margin, options.error_rate)
    both = drives[drives.driver.isin((policy, against))]
    pool, counts, driven = both.road_seed.unique(), Counter[Outcome](), 0
    for _ in range(gates):
        roads = rng.choice(pool, options.budget, replace=False)
        for look, upto in enumerate(looks.roads):
            there = both[both.road_seed.isin(roads[:upto])]
            shown = responses[responses.road_seed.isin(roads[:upto])]
            found = outcome(judge(there, conditions, (), looks, look, rules, shown))
            if found is not Outcome.UNDECIDED or upto == options.budget:
                break
        counts[found] += 1
        driven += upto
    return {"gates": gates, **{one.value: counts[one] for one in Outcome}, "mean_roads": driven / max(gates, 1)}


if __name__ == "__main__":
    run_script(Calibration, run)
