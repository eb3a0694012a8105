"""The gate's loop: drive some roads, look, and drive more where the answer is not known yet.

result = drive_gate(policy, against, suite, options, on_look=...)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from agents.driving.recorded_world import RecordedWorld
from agents.runs.workers import run_jobs
from envs.lane_keeping.config import LaneKeepingConfig
from envs.perturbations import parse
from experiments.gate.judge import Check, Outcome, Rules, judge, outcome
from experiments.gate.requirements import Requirement
from experiments.gate.response import ResponseJob, ResponseRow
from experiments.gate.sequential import Plan
from experiments.robustness.findings import Condition
from experiments.robustness.jobs import CLEAN, DriveJob, DriveRow, JobResult, PolicyRun, drive_jobs
from experiments.robustness.store import make_table


@dataclass(frozen=True)
class GatePlan:
    """What a gate drives and asks."""

    policy_runs: tuple[PolicyRun, ...]
    """Who drives: the policy that is judged and, where there is one, the released one."""
    perturbations: tuple[str, ...]
    """In the registry's syntax, each with its severity; clean drives are made as well."""
    world: LaneKeepingConfig | RecordedWorld
    """Where."""
    looks: Plan
    """When to look."""
    rules: Rules
    """By what the policies are distinguished."""
    requirements: tuple[Requirement, ...] = ()
    """What the policy must keep."""
    seed: int = 1000
    """Of the first road."""
    effect_seeds: tuple[int, ...] = (0,)
    """Of the perturbations, for each policy run; one entry serves all, so that they are paired."""
    wraps: tuple[Callable[[Any], Any] | None, ...] = (None,)
    """Wraps the driver of each policy run, to plant a fault; one entry serves all."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What is driven, clean first."""
        return tuple(Condition.of(text) for text in (CLEAN, *self.perturbations))

    def jobs(self, look: int) -> list[DriveJob]:
        """What is driven between the look before and this one; what takes longest comes first."""
        before = self.looks.roads[look - 1] if look else 0
        roads = tuple(range(self.seed + before, self.seed + self.looks.roads[look]))
        jobs = [
            DriveJob(
                policy_run,
                text,
                self.world,
                roads,
                (self.effect_seeds[number % len(self.effect_seeds)],),
                inside=False,
                wrap=self.wraps[number % len(self.wraps)],
            )
            for number, policy_run in enumerate(self.policy_runs)
            for text in (CLEAN, *self.perturbations)
        ]
        return sorted(jobs, key=lambda job: not parse(job.perturbation).attacks)

    def response_jobs(self, look: int) -> list[ResponseJob]:
        """What shows how the policy steers on the released one's frames; nothing where that is not asked for."""
        if self.rules.against is None or self.rules.response_tolerance is None:
            return []
        policy_run, against = self.policy_runs
        before = self.looks.roads[look - 1] if look else 0
        roads = tuple(range(self.seed + before, self.seed + self.looks.roads[look]))
        return [ResponseJob(policy_run, against, self.world, roads, self.wraps[0])]


@dataclass
class GateResult:
    """What came of it."""

    drives: pd.DataFrame
    """One row a drive, with the columns of `DriveRow`."""
    responses: pd.DataFrame
    """One row a road, with the columns of `ResponseRow`."""
    checks: list[Check]
    """Every question, as the last look answered it."""
    roads: int
    """Roads that were driven."""
    looks: int
    """How often the gate looked."""
    history: list[Outcome] = field(default_factory=list)
    """What was known at each look."""

    @property
    def outcome(self) -> Outcome:
        """What all of it comes to."""
        return outcome(self.checks)


def drive_gate(
    plan: GatePlan,
    workers: int = 1,
    on_steps: Callable[[int], None] | None = None,
    on_look: Callable[[GateResult], None] | None = None,
) -> GateResult:
    """Drive until every question is answered, one is answered with no, or the budget is spent.

    Args:
        plan: what to drive and to ask.
        workers: processes; they do not change the figures.
        on_steps: called with control steps made since the last call.
        on_look: called after every look.
    """
    rows: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    history: list[Outcome] = []
    result: GateResult | None = None
    for look, roads in enumerate(plan.looks.roads):
        jobs, shadows = plan.jobs(look), plan.response_jobs(look)
        made = _rows([*jobs, *shadows], workers, on_steps)
        rows += [row for job in jobs for row in made[job.key]]
        shown += [row for job in shadows for row in made[job.key]]
        drives, responses = make_table(rows, DriveRow), make_table(shown, ResponseRow)
        checks = judge(drives, plan.conditions, plan.requirements, plan.looks, look, plan.rules, responses)
        history.append(outcome(checks))
        result = GateResult(drives, responses, checks, roads, look + 1, history)
        if on_look is not None:
            on_look(result)
        if result.outcome is not Outcome.UNDECIDED:
            break
    assert result is not None
    return result


def _rows(
    jobs: Sequence[DriveJob | ResponseJob], workers: int, on_steps: Callable[[int], None] | None
) -> dict[str, tuple[dict[str, Any], ...]]:
    """Do jobs; the rows of each by its key."""
    done: dict[str, tuple[dict[str, Any], ...]] = {}

    def note(news: int | JobResult) -> None:
        if isinstance(news, JobResult):
            done[news.key] = news.rows
        elif on_steps is not None:
            on_steps(news)

    run_jobs(drive_jobs, jobs, workers, note)
    return done
