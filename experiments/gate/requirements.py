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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envs.perturbations import parse
from experiments.robustness.findings import Condition

COUNTS = {"crashes": "drives that left the road"}
"""Metrics that are counted over the drives that were made."""
SHARES = {"crash_share": "share of the drives that left the road"}
"""Metrics that are shares of the drives."""
RATES = {"crashes_per_km": "drives that left the road, per km"}
"""Metrics that are events per kilometre."""
MEANS = {
    "lane_error": "mean distance from the middle of the lane, share of its width, a whole lane after leaving the road",
    "mean_offset_lane": "mean distance from the middle of the lane while driving, share of its width",
    "rms_offset_m": "root mean square of that distance, m",
    "autonomy": "share of the time without intervention",
    "steering_rate_per_s": "mean absolute steering rate, full locks per second",
    "distance_m": "way made along the lane, m",
    "duration_s": "time driven, s",
}
"""Metrics that are averaged over drives: columns of `experiments.robustness.jobs.DriveRow`."""
METRICS = {**COUNTS, **SHARES, **RATES, **MEANS}
"""Everything that may be required, and what it is."""
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
