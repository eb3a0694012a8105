"""From the tables of drives to what they support and what not: paired differences, judged by their intervals alone.

shift = compare_all(rows, conditions, pairs)
verdict_of(shift)  # "supported in part: ..."
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.driving.statistics import Estimate, estimate, paired_difference
from envs.perturbations import parse
from experiments.liquid_claim.training import CONTENDERS
from experiments.robustness.analysis import Drives

WIRINGS = (("ltc-ncp", "ltc-full"), ("ltc-ncp", "ltc-random"), ("cfc-wired", "cfc-full"))
"""Sparse, layered wiring and what it is held against."""
HIDDEN = "_hidden"
"""End of the names of perturbations that keep the elapsed time from the driver."""


@dataclass(frozen=True)
class Comparison:
    """Two drivers, or two conditions of one driver, on the same roads."""

    first: str
    """Who is said to be better."""
    second: str
    """Than whom."""
    difference: Estimate
    """Lane error of the first minus that of the second, share of the lane; whole training runs and roads drawn."""

    @property
    def verdict(self) -> str:
        """Where the interval of the difference lies: "better", "worse" or "undecided"."""
        if self.difference.high < 0:
            return "better"
        return "worse" if self.difference.low > 0 else "undecided"


@dataclass(frozen=True)
class Claim:
    """Something that is said of liquid drivers, and the comparisons that bear on it."""

    title: str
    """A few words."""
    says: str
    """What is claimed."""
    comparisons: tuple[Comparison, ...]
    """Each of them would have to come out as "better"."""

    def count(self, verdict: str) -> int:
        """Return how many comparisons came out so."""
        return sum(comparison.verdict == verdict for comparison in self.comparisons)

    @property
    def outcome(self) -> str:
        """One or a few words, by the intervals alone."""
        better, worse, all_of = self.count("better"), self.count("worse"), len(self.comparisons)
        if not better and not worse:
            return "not decided"
        if better and worse:
            return "mixed"
        word, number = ("supported", better) if better else ("contradicted", worse)
        return f"{word} throughout" if number == all_of else f"{word} in part, otherwise not decided"


@dataclass(frozen=True)
class Clock:
    """What the elapsed time is worth to a driver."""

    label: str
    """The driver."""
    perturbation: str
    """Without severity and without `HIDDEN`."""
    known: Estimate
    """Lane error with the true elapsed time."""
    hidden: Estimate
    """Lane error of the same weights with the elapsed time hidden."""
    comparison: Comparison
    """Known minus hidden, the same training runs paired."""


def claims(drives: pd.DataFrame, conditions: Sequence[str], labels: Sequence[str]) -> list[Claim]:
    """Judge the claims about shift.

    Args:
        drives: of the suite.
        conditions: its perturbations.
        labels: the drivers.
    """
    by_label = {label: _of(drives, label, conditions) for label in labels}
    errors = {label: one.perturbed("lane_error") for label, one in by_label.items()}
    losses = {label: errors[label] - one.clean("lane_error") for label, one in by_label.items()}
    noise = [condition for condition in conditions if condition.startswith("variance:")]
    variances = [f"{parse(condition).parts[0].dose:g}" for condition in noise]
    noisy = {label: _of(drives, label, noise).perturbed("lane_error") for label in labels} if noise else {}
    liquid = [label for label in labels if CONTENDERS[label].liquid]
    others = [label for label in labels if not CONTENDERS[label].liquid]
    pairs = [(one, other) for one in liquid for other in others]
    wirings = [(one, other) for one, other in WIRINGS if one in labels and other in labels]
    with_memory = [(label, "feedforward") for label in labels if label != "feedforward" and "feedforward" in labels]
    found = [
        Claim("Under shift", "Liquid drivers drive better than others under shift.", _compare(errors, pairs)),
        Claim(
            "Loss by shift",
            "Liquid drivers lose less by shift than others, each measured against its own clean drives.",
            _compare(losses, pairs),
        ),
        Claim(
            "Published noise",
            "Liquid drivers drive better than others under Gaussian noise of the published kind, here of variance "
            f"{', '.join(variances)} (published: 0.1, 0.2, 0.3).",
            _compare(noisy, pairs) if noisy else (),
        ),
        Claim(
            "Wiring",
            "A sparse, layered wiring drives better under shift than a full or a random one.",
            _compare(errors, wirings),
        ),
        Claim(
            "Memory", "Drivers with a memory drive better under shift than one without.", _compare(errors, with_memory)
        ),
    ]
    return [claim for claim in found if claim.comparisons]


def clocks(drives: pd.DataFrame, perturbations: Sequence[str], severities: Sequence[int], label: str) -> list[Clock]:
    """Compare a driver that gets the true elapsed time with the same one from which it is hidden.

    Args:
        drives: of the timing test.
        perturbations: names without severity; each was tried with and without `HIDDEN`.
        severities: of both.
        label: the driver.
    """
    found = []
    for name in perturbations:
        known = _of(drives, label, [f"{name}:{severity}" for severity in severities]).perturbed("lane_error")
        hidden = _of(drives, label, [f"{name}{HIDDEN}:{severity}" for severity in severities]).perturbed("lane_error")
        # The same weights drove both, so a training run is drawn with both: the differences are what is resampled.
        difference = estimate(_mean, known - hidden, whole_runs=True)
        found.append(
            Clock(
                label,
                name,
                estimate(_mean, known, whole_runs=True),
                estimate(_mean, hidden, whole_runs=True),
                Comparison(f"{label}, time known", f"{label}, time hidden", difference),
            )
        )
    return found


def clock_claim(found: Sequence[Clock]) -> Claim:
    """Judge what is said of liquid drivers and time."""
    liquid = tuple(clock.comparison for clock in found if CONTENDERS[clock.label].liquid)
    return Claim("Time", "A liquid driver that knows the elapsed time drives better than when it is hidden.", liquid)


def _of(drives: pd.DataFrame, label: str, conditions: Sequence[str]) -> Drives:
    return Drives(drives[drives.driver == label], conditions)


def _compare(scores: Mapping[str, NDArray[np.float64]], pairs: Sequence[tuple[str, str]]) -> tuple[Comparison, ...]:
    return tuple(Comparison(one, other, paired_difference(scores[one], scores[other])) for one, other in pairs)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.mean(-1))
