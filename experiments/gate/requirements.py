"""What a policy must keep, as a person writes it.

crashes <= 0                      no drive leaves the road, clean or perturbed
crashes <= 0 @ severity <= 2      none up to severity 2; clean drives have severity 0
fog.lane_error <= 0.15            mean over the drives in fog; a family, such as weather, or clean goes as well
crash_share <= 0.1 @ severity == 4

requirement = parse_requirement("fog.lane_error <= 0.15")
requirement.matches(condition)
"""

from __future__ import annotations

import operator
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envs.perturbations import parse
from experiments.gate.sequential import Plan
from experiments.robustness.findings import Condition

COUNTS = {"crashes": "drives that left the road"}
"""Metrics that are counted over the drives that were made."""
SHARES = {
    "crash_share": ("crashed", "share of the drives that left the road"),
    "autonomy": ("autonomy", "share of the time without intervention"),
}
"""Metrics that are shares: the column of `experiments.robustness.jobs.DriveRow`, in [0, 1], and what it is."""
RATES = {"crashes_per_km": "drives that left the road, per km"}
"""Metrics that are events per kilometre."""
MEANS = {
    "lane_error": "mean distance from the middle of the lane, share of its width, a whole lane after leaving the road",
    "mean_offset_lane": "mean distance from the middle of the lane while driving, share of its width",
    "rms_offset_m": "root mean square of that distance, m",
    "steering_rate_per_s": "mean absolute steering rate, full locks per second",
    "distance_m": "way made along the lane, m",
    "duration_s": "time driven, s",
}
"""Metrics that are averaged over drives: columns of `experiments.robustness.jobs.DriveRow`."""
METRICS = (*COUNTS, *SHARES, *RATES, *MEANS)
"""Everything that may be required."""
CLEAN_SCOPE = "clean"
"""The scope of drives without a perturbation."""

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_GRAMMAR = re.compile(
    rf"\s*(?:(?P<scope>[\w+-]+)\.)?(?P<metric>\w+)\s*(?P<operator><=|>=|<|>)\s*(?P<limit>{_NUMBER})\s*"
    r"(?:@\s*severity\s*(?P<at><=|>=|==|<|>)\s*(?P<severity>[0-5])\s*)?"
)
_EXAMPLES = "'crashes <= 0 @ severity <= 2' or 'fog.lane_error <= 0.15'"


@dataclass(frozen=True)
class Requirement:
    """Something that a policy must keep."""

    text: str
    """As it was written."""
    metric: str
    """One of `METRICS`."""
    operator: str
    """"<=", "<", ">=" or ">"."""
    limit: float
    """In the metric's own unit."""
    scope: str = ""
    """Name or family of a perturbation, or `CLEAN_SCOPE`; "" is every drive."""
    severity_operator: str = ">="
    """How the severity compares with `severity`."""
    severity: int = 0
    """0 (clean) to 5."""

    @property
    def at_most(self) -> bool:
        """Whether large values break it."""
        return self.operator in ("<=", "<")

    def holds(self, value: float) -> bool:
        """Whether a value keeps it."""
        return OPERATORS[self.operator](value, self.limit)

    def matches(self, condition: Condition) -> bool:
        """Whether drives under a condition count for it."""
        names = {part.name for part in parse(condition.perturbation).parts} | {condition.family, condition.name}
        if not condition.perturbation:
            names = {CLEAN_SCOPE}
        in_scope = not self.scope or self.scope in names
        return in_scope and OPERATORS[self.severity_operator](condition.severity, self.severity)


def parse_requirement(text: str) -> Requirement:
    """Read a requirement.

    Raises:
        ValueError: if it cannot be read, or the metric does not exist.
    """
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise ValueError(f"a requirement looks like {_EXAMPLES}, got {text!r}.")
    metric = found["metric"]
    if metric not in METRICS:
        raise ValueError(f"there is no metric {metric!r} in {text!r}. There is: {', '.join(METRICS)}.")
    at, severity = found["at"] or ">=", int(found["severity"] or 0)
    return Requirement(
        text.strip(), metric, found["operator"], float(found["limit"]), found["scope"] or "", at, severity
    )


def check_requirements(requirements: Sequence[Requirement], conditions: Sequence[Condition]) -> None:
    """Check that every requirement is about drives that will be made.

    Args:
        requirements: what must hold.
        conditions: what will be driven, clean included.

    Raises:
        ValueError: if none of the drives counts for one of them.
    """
    for requirement in requirements:
        if not any(requirement.matches(condition) for condition in conditions):
            scopes = dict.fromkeys(name for one in conditions for name in (one.name, one.family))
            severities = sorted({condition.severity for condition in conditions})
            raise ValueError(
                f"no drive of this suite counts for {requirement.text!r}: it drives {', '.join(scopes)} at severities "
                f"{', '.join(map(str, severities))} (0 is clean)."
            )


def out_of_reach(requirement: Requirement, plan: Plan, error_rate: float) -> str | None:
    """Say so where roads alone, driven without a crash, do not bound a share as low as is required.

    Args:
        requirement: what must hold.
        plan: when to look.
        error_rate: of the requirement over the whole gate.
    """
    wanted = {("crash_share", True): requirement.limit, ("autonomy", False): 1 - requirement.limit}
    limit = wanted.get((requirement.metric, requirement.at_most))
    if limit is None or _best_bound(plan, error_rate) <= limit:
        return None
    enough = 2 * plan.roads[-1]
    while limit > 0 and _best_bound(Plan.upto(enough), error_rate) > limit:
        enough *= 2
    within = range(plan.roads[-1] + 1, enough + 1)
    found = bisect_left(within, True, key=lambda roads: _best_bound(Plan.upto(roads), error_rate) <= limit)
    todo = f"--budget {within[found]} can" if limit > 0 else "require a share above 0"
    return (
        f"{requirement.text!r} cannot be met on {plan.roads[-1]} roads: without one crash they bound what is lost at "
        f"{100 * _best_bound(plan, error_rate):.0f} %; {todo}"
    )


def _best_bound(plan: Plan, error_rate: float) -> float:
    """Return the lowest upper bound of a share that a gate can come to: nothing happened on any road."""
    return min(1 - plan.level(error_rate, look) ** (1 / roads) for look, roads in enumerate(plan.roads))
