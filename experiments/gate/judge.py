"""From the drives that were made to a verdict on every question of the gate: met, broken, or not decided yet.

checks = judge(drives, requirements, plan, look, Rules(against="released"))
outcome(checks)  # Outcome.PASSED
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.driving.road_shares import rate_bounds, share_bounds, share_of_roads
from agents.driving.statistics import ENOUGH_VALUES, interquartile_mean
from experiments.gate.requirements import COUNTS, MEANS, RATES, SHARES, Requirement
from experiments.gate.sequential import Plan, mean_bounds
from experiments.robustness.findings import Condition
from experiments.robustness.jobs import CLEAN

LARGEST = 1.0
"""Lane errors above this count as this: the car is off the road by then, and one drive must not outweigh all others."""


class Outcome(enum.Enum):
    """What is known."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


EXIT_CODES = {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.UNDECIDED: 3}
"""What the command returns; 2 stays for what cannot be done as asked."""


@dataclass(frozen=True)
class Rules:
    """By what the policies are distinguished."""

    policy: str
    """Name of the driver that is judged."""
    against: str | None = None
    """Name of the driver that it is compared with."""
    margin: float = 0.01
    """Lane error by which it may be worse and still count as good, share of the lane width."""
    error_rate: float = 0.05
    """Probability of a false alarm in the comparison over the whole gate; the same for each requirement, and for a
    policy that is worse by the margin to be let through."""
    response_tolerance: float | None = 0.2
    """Share by which it may steer more or less than the released policy on the same frames; None does not ask."""
    response_delay_s: float = 0.07
    """Time by which it may steer later than the released policy on the same frames, s."""


@dataclass(frozen=True)
class Check:
    """A question and what is known of it."""

    name: str
    """What was asked."""
    group: str
    """"comparison", "family" or "requirement"."""
    outcome: Outcome
    """What is known."""
    value: float
    """What was measured: a difference of lane errors, or the metric."""
    low: float
    """What it is at least, at the level of this look."""
    high: float
    """What it is at most."""
    says: str
    """One sentence."""
    conditions: tuple[str, ...] = ()
    """The perturbations whose drives count, in the registry's syntax."""


def judge(
    drives: pd.DataFrame,
    conditions: Sequence[Condition],
    requirements: Sequence[Requirement],
    plan: Plan,
    look: int,
    rules: Rules,
    responses: pd.DataFrame | None = None,
) -> list[Check]:
    """Answer every question as far as the drives allow.

    Args:
        drives: of all looks so far, with the columns of `experiments.robustness.jobs.DriveRow`.
        conditions: what is driven, clean included.
        requirements: what must hold.
        plan: when to look.
        look: which look this is, from 0.
        rules: who is judged, and how.
        responses: how it steers on the released policy's frames, with the columns of
            `experiments.gate.response.ResponseRow`; not asked where None or empty.
    """
    checks = [] if rules.against is None else _compare(drives, conditions, plan, look, rules)
    if checks and responses is not None and len(responses) and rules.response_tolerance is not None:
        checks.insert(1, _respond(responses, checks[0], plan, look, rules))
    mine = drives[drives.driver == rules.policy]
    for requirement in requirements:
        level = plan.level(rules.error_rate, look)
        counted = tuple(one.perturbation for one in conditions if requirement.matches(one))
        checks.append(_require(mine[mine.perturbation.isin(counted)], requirement, level, counted))
    return checks


def outcome(checks: Sequence[Check]) -> Outcome:
    """Return what all of it comes to: one failure is enough, and nothing may be open."""
    known = {check.outcome for check in checks if check.group != "family" or check.outcome is Outcome.FAILED}
    for one in (Outcome.FAILED, Outcome.UNDECIDED):
        if one in known:
            return one
    return Outcome.PASSED


def _compare(drives: pd.DataFrame, conditions: Sequence[Condition], plan: Plan, look: int, rules: Rules) -> list[Check]:
    """Compare lane errors on each road: their mean over conditions, what is typical of them, and family by family.

    The mean sees every loss and is noisy where a drive in one condition is lost by chance. What is typical, the
    interquartile mean over conditions, leaves such drives out and sees a small and steady loss. Each has a third of the
    rate of false alarms, the families together have the last one; the first two must both be within the margin to pass.
    """
    families = list(dict.fromkeys(condition.family for condition in conditions))
    differences = _differences(drives, rules)
    share = plan.level(rules.error_rate / 3, look)
    means = differences.mean(axis=1).to_numpy(np.float64)
    typical = interquartile_mean(differences.to_numpy(np.float64))
    lows = [mean_bounds(values, share)[0] for values in (means, typical)]
    highs = [mean_bounds(values, plan.level(rules.error_rate, look))[1] for values in (means, typical)]
    if max(lows) > 0:
        found = Outcome.FAILED
    else:
        found = Outcome.PASSED if max(highs) <= rules.margin else Outcome.UNDECIDED
    steady = lows[1] > 0 >= lows[0] or found is Outcome.UNDECIDED and highs[0] <= rules.margin
    shown, low, high = (typical, lows[1], highs[1]) if steady else (means, lows[0], highs[0])
    about = (
        f"{'typical ' if steady else ''}lane error minus that of {rules.against}: {_points(shown.mean(), low, high)}"
    )
    says = {
        Outcome.FAILED: f"worse: {about}",
        Outcome.PASSED: f"not worse by {100 * rules.margin:g} points or more: {about}",
        Outcome.UNDECIDED: f"not decided: {about}",
    }
    every = tuple(condition.perturbation for condition in conditions)
    checks = [
        Check(f"as good as {rules.against}", "comparison", found, float(shown.mean()), low, high, says[found], every)
    ]
    for family in families:
        members = tuple(condition.perturbation for condition in conditions if condition.family == family)
        values = differences[list(members)].mean(axis=1).to_numpy(np.float64)
        low, high = mean_bounds(values, share / len(families))
        found = Outcome.FAILED if low > 0 else Outcome.PASSED if high <= rules.margin else Outcome.UNDECIDED
        words = "worse" if found is Outcome.FAILED else "no worse" if found is Outcome.PASSED else "open"
        says_here = f"{words}: {_points(values.mean(), low, high)}"
        checks.append(Check(f"{family}", "family", found, values.mean(), low, high, says_here, members))
    return checks


def _respond(responses: pd.DataFrame, compared: Check, plan: Plan, look: int, rules: Rules) -> Check:
    """Ask whether it steers as the released policy does on the same frames: as much, and not later.

    Another response is a fault unless the drives show that it drives better: as long as they may still show it, the
    question is open.
    """
    assert rules.response_tolerance is not None
    name, level = f"steers as {rules.against} does", plan.level(rules.error_rate / 2, look)
    known = responses[responses.gain.notna()]
    gains, delays_s = (known[column].dropna().to_numpy(np.float64) for column in ("gain", "delay_s"))
    if len(gains) < ENOUGH_VALUES:
        straight = f"not decided: only {len(gains)} of {len(responses)} roads bend enough to compare the steering"
        return Check(name, "comparison", Outcome.UNDECIDED, math.nan, -math.inf, math.inf, straight, (CLEAN,))
    low, high = mean_bounds(gains, level)
    early_s, late_s = mean_bounds(delays_s, level) if len(delays_s) else (0.0, 0.0)
    least, most = 1 - rules.response_tolerance, 1 + rules.response_tolerance
    says = f"on its frames it steers {gains.mean():.2f} times as much, between {low:.2f} and {high:.2f}"
    if len(delays_s):
        says += f", {1000 * delays_s.mean():.0f} ms later"
    allowed = f"allowed are {least:.2f} to {most:.2f} times, {1000 * rules.response_delay_s:.0f} ms later"
    if high < least or low > most or early_s > rules.response_delay_s:
        if compared.high < 0:
            return Check(name, "comparison", Outcome.PASSED, gains.mean(), low, high, f"{says}, and it drives better")
        last = look + 1 == len(plan.roads)
        if compared.value >= 0 or last or compared.outcome is Outcome.FAILED:
            return Check(name, "comparison", Outcome.FAILED, gains.mean(), low, high, f"{says}; {allowed}", (CLEAN,))
        says += "; open as long as it may drive better"
        return Check(name, "comparison", Outcome.UNDECIDED, gains.mean(), low, high, says, (CLEAN,))
    found = Outcome.PASSED if least <= low and high <= most and late_s <= rules.response_delay_s else Outcome.UNDECIDED
    return Check(name, "comparison", found, gains.mean(), low, high, f"{says}; {allowed}", (CLEAN,))


def _differences(drives: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """Return lane error minus the other's, a row for each road, a column for each condition; draws are averaged."""
    errors = drives.assign(lane_error=drives.lane_error.clip(upper=LARGEST)).pivot_table(
        index="road_seed", columns=["driver", "perturbation"], values="lane_error", aggfunc="mean"
    )
    return errors[rules.policy] - errors[rules.against]


def _require(drives: pd.DataFrame, requirement: Requirement, level: float, counted: tuple[str, ...]) -> Check:
    """Hold the drives that count against a requirement."""
    total, roads = len(drives), drives.groupby("road_seed")
    crashes, driven = roads.crashed.sum().to_numpy(np.float64), roads.size().to_numpy()
    if requirement.metric in COUNTS:
        return _count(requirement, crashes, driven, counted)
    if requirement.metric in MEANS:
        values: NDArray[np.float64] = roads[requirement.metric].mean().to_numpy(np.float64)
        value, (low, high) = float(values.mean()), mean_bounds(values, level)
    elif requirement.metric in RATES:
        each_km = drives.distance_m.clip(lower=0) / 1000
        kilometres = each_km.groupby(drives.road_seed).sum().to_numpy(np.float64)
        value = float(crashes.sum()) / max(float(kilometres.sum()), 1e-9)
        low, high = rate_bounds(crashes, kilometres, int(driven.max()), float(each_km.max()), level)
    else:
        shares = roads[SHARES[requirement.metric][0]].sum().to_numpy(np.float64)
        value, (low, high) = float(shares.sum()) / total, share_bounds(shares, driven, level)
    if not math.isfinite(value):
        says = f"not decided: {requirement.metric} is not known in {total} drives; the world does not tell it"
        return Check(requirement.text, "requirement", Outcome.UNDECIDED, math.nan, -math.inf, math.inf, says, counted)
    worst, best = (high, low) if requirement.at_most else (low, high)
    found = Outcome.UNDECIDED
    if requirement.holds(worst):
        found = Outcome.PASSED
    elif not requirement.holds(best):
        found = Outcome.FAILED
    says = f"{requirement.metric} {value:.4g}, between {low:.4g} and {high:.4g}, over {total} drives"
    return Check(requirement.text, "requirement", found, value, low, high, says, counted)


def _count(
    requirement: Requirement, crashes: NDArray[np.float64], driven: NDArray[np.integer], counted: tuple[str, ...]
) -> Check:
    """Count: too many stay too many; what is required at most holds as long as it does, at least once it does."""
    count = int(crashes.sum())
    holds = requirement.holds(count)
    if requirement.at_most:
        found = Outcome.PASSED if holds else Outcome.FAILED
    else:
        found = Outcome.PASSED if holds else Outcome.UNDECIDED
    says = f"{count} of {driven.sum()} drives left the road"
    if not count:
        share = share_of_roads(crashes, driven)
        says += f"; {len(driven)} roads bound their share at {100 * share.high:.1f} % with 95 % confidence"
    return Check(requirement.text, "requirement", found, count, count, count, says, counted)


def _points(value: float, low: float, high: float) -> str:
    """Write a difference of lane errors in points."""
    return f"{100 * value:+.2f} points, between {100 * low:+.2f} and {100 * high:+.2f}"
