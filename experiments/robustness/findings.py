"""What a robustness test found, as one value: ranking, grid and failures.

`experiments.robustness.analysis` makes it from the table of drives; `summary.json` holds it and `report.html` shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.driving.statistics import Estimate, Profile, interquartile_mean
from experiments.evaluate.options import EXPERT
from experiments.robustness.jobs import describe

THRESHOLDS = np.linspace(0.0, 1.0, 51)
"""Errors at which performance profiles are read."""
ENOUGH_RUNS = 5
"""Training runs that a driver needs before it may be called better than another one."""
ENOUGH_ROADS = 4
"""Roads without which an interval over roads is little more than the smallest and the largest value."""
LOST_ON_CLEAN = 0.5
"""A training run fails on clean roads when it leaves this share of them, or when its mean clean lane error is this
share of the lane width: the middle of the car is out of the lane then."""


@dataclass(frozen=True)
class Condition:
    """A perturbation at a severity."""

    perturbation: str
    """In the registry's syntax; "" is clean."""
    name: str
    """Without severity."""
    family: str
    """Of the perturbation."""
    severity: int
    """1 to 5; 0 is clean."""

    @classmethod
    def of(cls, perturbation: str) -> Condition:
        """Describe a perturbation."""
        family, name, severity = describe(perturbation)
        return cls(perturbation, name, family, severity)


@dataclass(frozen=True)
class ConditionSummary:
    """What a driver did in one condition, over all its runs, roads and draws."""

    drives: int
    """How many."""
    crashes: int
    """How many of them left the road."""
    error: Estimate
    """Mean lane error."""
    saliency_ssim: float
    """Mean similarity of saliency with clean frames; NaN where there is none."""
    state_step: float
    """Largest step of the hidden state in units of that on the same clean road, geometric mean; NaN likewise."""
    recorded_rmse: float
    """Error of the steering on recorded frames, full locks; NaN likewise."""


@dataclass(frozen=True)
class RunFindings:
    """What one training run of a driver did; errors are lane errors."""

    run: int
    """Number among the driver's training runs, from 0."""
    training_seed: int | None
    """Seed that it was trained with."""
    drives: int
    """Perturbed drives."""
    crashes: int
    """How many of them left the road."""
    error_iqm: float
    """Interquartile mean over roads and conditions."""
    clean_drives: int
    """Clean drives."""
    clean_crashes: int
    """How many of them left the road."""
    clean_error: float
    """Mean on clean roads."""
    failed: bool
    """Whether it cannot drive at all; see `LOST_ON_CLEAN`."""

    @classmethod
    def of(
        cls,
        run: int,
        training_seed: int | None,
        perturbed: tuple[NDArray[np.float64], NDArray[np.float64]],
        clean: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> RunFindings:
        """Summarise a run: lane errors and crashes, `[K, C]` perturbed and `[K, 1]` clean."""
        (errors, crashes), (clean_errors, clean_crashes) = perturbed, clean
        return cls(
            run=run,
            training_seed=training_seed,
            drives=crashes.size,
            crashes=int(crashes.sum()),
            error_iqm=float(interquartile_mean(errors.reshape(-1))),
            clean_drives=clean_crashes.size,
            clean_crashes=int(clean_crashes.sum()),
            clean_error=float(clean_errors.mean()),
            failed=bool(clean_crashes.mean() >= LOST_ON_CLEAN or clean_errors.mean() >= LOST_ON_CLEAN),
        )


@dataclass(frozen=True)
class DriverFindings:
    """What was found about one driver; errors are lane errors (`experiments.robustness.jobs.DriveRow`)."""

    name: str
    """As named at the command line."""
    core: str
    """Of the circuit."""
    runs: int
    """Training runs."""
    training_seeds: tuple[int | None, ...]
    """Of the runs."""
    each_run: tuple[RunFindings, ...]
    """The runs one by one."""
    drives: int
    """Perturbed drives."""
    crashes: int
    """How many of them left the road."""
    clean_error: Estimate
    """Mean on clean roads."""
    clean_crashes: float
    """Share of clean drives that left the road."""
    behind: Estimate
    """Interquartile mean minus that of the first contender, paired road by road; 0 for that one."""
    error_iqm: Estimate
    """Interquartile mean over runs, roads and conditions; stratified bootstrap, roads being the strata."""
    error_iqm_runs: Estimate
    """The same with whole runs drawn; see `agents.driving.statistics`."""
    error: Estimate
    """Mean."""
    crash_share: Estimate
    """Share of perturbed drives that left the road."""
    autonomy: Estimate
    """Mean share of the time without intervention."""
    corruption_error: Estimate
    """Mean corruption error against the baseline; 1 is as good as it."""
    corruption_crashes: Estimate
    """The same of crashes; NaN where the baseline never crashed."""
    difference: Estimate
    """Mean error minus the baseline's, paired."""
    better: Estimate
    """Probability that a run does better than one of the baseline on the same road in the same condition."""
    profile: Profile
    """Share of drives with an error above each of `THRESHOLDS`."""
    saliency_ssim: Estimate
    """Mean over conditions that can be applied to recorded frames; NaN without a policy."""
    state_step: float
    """Geometric mean of `ConditionSummary.state_step` over conditions; NaN without a state."""
    recorded_clean: float
    """Error of the steering on clean recorded frames; NaN without recordings."""
    recorded_perturbed: float
    """The same over all perturbations."""
    recorded_worsening: Estimate
    """The second in units of the first; NaN without recordings."""
    by_condition: dict[str, ConditionSummary]
    """By perturbation in the registry's syntax, clean included."""

    curves: dict[str, dict[int, Estimate]]
    """Mean error by family and severity; severity 0 is clean."""

    def by_family(self, conditions: Sequence[Condition], field: str) -> dict[str, float]:
        """Return the mean of a figure of the by_condition for each family; NaN where no spot has a value."""
        families: dict[str, list[float]] = {}
        for condition in conditions:
            value = getattr(self.by_condition[condition.perturbation], field)
            value = value.value if isinstance(value, Estimate) else float(value)
            families.setdefault(condition.family, []).extend([value] if np.isfinite(value) else [])
        return {family: float(np.mean(values)) if values else float("nan") for family, values in families.items()}


@dataclass(frozen=True)
class Failure:
    """A drive that ended off the road."""

    driver: str
    """Who drove."""
    run: int
    """Which of its training runs."""
    condition: Condition
    """What was wrong."""
    road_seed: int
    """Seed of the road."""
    effect_seed: int
    """Seed of the perturbation."""
    duration_s: float
    """Time until it left the road."""


@dataclass(frozen=True)
class Findings:
    """All that a test found."""

    baseline: str
    """Driver that the others are compared with."""
    conditions: tuple[Condition, ...]
    """What was tried, clean left out."""
    roads: int
    """Roads."""
    draws: int
    """Draws of each perturbation on each road."""
    drivers: tuple[DriverFindings, ...]
    """The best one first."""
    failures: tuple[Failure, ...]
    """Perturbed drives off the road, the worst first: lowest severity, then shortest."""

    @property
    def contenders(self) -> tuple[DriverFindings, ...]:
        """The drivers that go by the camera, the best one first; the expert, which sees the road, where it is alone."""
        return contenders(self.drivers)

    @property
    def lead(self) -> Estimate | None:
        """How far the second contender is behind the first; None where there is one."""
        return self.contenders[1].behind if len(self.contenders) > 1 else None

    @property
    def failed(self) -> tuple[tuple[str, RunFindings], ...]:
        """The training runs of contenders that fail on clean roads, with their drivers."""
        return tuple((driver.name, run) for driver in self.contenders for run in driver.each_run if run.failed)

    def verdict(self) -> str:
        """Say in a few sentences what was found, and no more than that."""
        first = self.contenders[0]
        tried = f"Under {_count(len(self.conditions), 'disturbance')} on {_count(self.roads, 'road')}"
        lost = f"left the road in {first.crashes:,} of {first.drives:,} drives"
        error = f"{100 * first.error_iqm.value:.1f} % of the lane width off its middle"
        dead = " ".join(self.warnings())
        if (lead := self.lead) is None:
            return f"{dead} {tried}, {first.name} was {error} (interquartile mean) and {lost}.".lstrip()
        second = self.contenders[1]
        off = f"{second.name} {100 * second.error_iqm.value:.1f} %"
        # The interquartile mean leaves the worst drives out: they are named at the end.
        losses = f"{first.name} {lost}, {second.name} in {second.crashes:,} of {second.drives:,}."
        if dead:
            return (
                f"{dead} As long as such runs are in, no driver is called first. {tried}, {first.name} was {error} "
                f"(interquartile mean), {off}. {losses}"
            )
        words = f"{tried}, {first.name} came first: {error} (interquartile mean), {off}. "
        if not lead.bounded:
            words += f"{second.name} is {lead.text(1, 100)} points behind; with so few runs and roads it may be chance"
        else:
            apart = "which tells them apart" if lead.low > 0 else "which does not tell them apart"
            words += f"{second.name} is {lead.text(1, 100)} points behind, {apart}"
            if self.roads < ENOUGH_ROADS and lead.low > 0:
                words += f" on {'this road' if self.roads == 1 else 'these roads'} alone"
        if min(first.runs, second.runs) < ENOUGH_RUNS:
            words += f"; with fewer than {ENOUGH_RUNS} training runs each it would be one of runs, not of kinds"
        return f"{words}. {losses}"

    def headline(self) -> str:
        """Say in one sentence what was found; `caveat` says what limits it."""
        first, dead = self.contenders[0], len(self.failed)
        tried = f"Under {_count(len(self.conditions), 'disturbance')} on {_count(self.roads, 'road')}"
        error = f"{100 * first.error_iqm.value:.1f} % of the lane width off its middle"
        if self.lead is None:
            lost = f"left the road in {first.crashes:,} of {first.drives:,} drives"
            return f"{tried}, {first.name} was {error} (interquartile mean) and {lost}."
        if dead:
            fails = "one training run fails" if dead == 1 else f"{dead} training runs fail"
            return f"{tried}, no driver is called first: {fails} on clean roads."
        second = self.contenders[1]
        return (
            f"{tried}, {first.name} came first: {error} (interquartile mean), {second.name} "
            f"{100 * second.error_iqm.value:.1f} %."
        )

    def caveat(self) -> str:
        """Say the rest of the verdict."""
        verdict, headline = self.verdict(), self.headline()
        return (verdict.replace(headline, "", 1) if headline in verdict else verdict).strip()

    def warnings(self) -> list[str]:
        """Name every training run that fails on clean roads."""
        return [
            f"Training run {run.run} of {name}{'' if run.training_seed is None else f' (seed {run.training_seed})'} "
            f"fails on clean roads: it left the road in {run.clean_crashes} of {run.clean_drives} and was "
            f"{100 * run.clean_error:.0f} % of the lane width off its middle."
            for name, run in self.failed
        ]


def contenders(drivers: Sequence[DriverFindings]) -> tuple[DriverFindings, ...]:
    """Return the drivers without the expert, in the same order; all of them where nobody else is there."""
    return tuple(driver for driver in drivers if driver.core != EXPERT) or tuple(drivers)


def choose_failures(findings: Findings, count: int, drivers: Sequence[str]) -> list[Failure]:
    """Choose a few failures of some drivers, of many kinds: families and drivers not chosen yet come first."""
    chosen: list[Failure] = []
    left = [failure for failure in findings.failures if failure.driver in drivers]
    while left and len(chosen) < count:
        families = [failure.condition.family for failure in chosen]
        names = [failure.driver for failure in chosen]
        best = min(left, key=lambda f: (families.count(f.condition.family), names.count(f.driver), left.index(f)))
        chosen.append(best)
        left.remove(best)
    return chosen


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
