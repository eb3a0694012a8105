"""Looking at a result while it grows, without being fooled by looking often: alpha spending.

The gate looks after 4 roads, then after half as many again each time, up to its budget. Each look may err with its own
share of the error rate, and the shares add up to no more than the whole: Lan and DeMets, *Discrete sequential
boundaries for clinical trials*, Biometrika 1983, with Pocock's function α ln(1 + (e − 1) t) of the share t of the
budget that is used. By the union bound the gate errs no more often than that, however the looks depend on each other.

What a look compares are means over roads, which are drawn independently; conditions on one road are averaged first. Its
bounds are those of Student's t; those of shares and rates are in `agents.driving.road_shares`.

    plan = Plan.upto(16)  # looks after 4, 6, 9, 13 and 16 roads
    low, high = mean_bounds(differences, plan.level(0.05, look=0))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from agents.driving.statistics import ENOUGH_VALUES

FIRST_ROADS = 4
"""Roads before the first look."""
GROWTH = 1.5
"""How many times as many roads stand behind the next look."""


@dataclass(frozen=True)
class Plan:
    """When to look."""

    roads: tuple[int, ...]
    """Roads that have been driven at each look; the last entry is the budget."""

    @classmethod
    def upto(cls, budget: int, first: int = FIRST_ROADS) -> Plan:
        """Plan looks up to a budget of roads.

        Raises:
            ValueError: if the budget is smaller than what an interval needs.
        """
        if budget < ENOUGH_VALUES:
            raise ValueError(f"a gate needs at least {ENOUGH_VALUES} roads for an interval, got {budget}.")
        looks = [min(first, budget)]
        while looks[-1] < budget:
            looks.append(min(budget, math.ceil(GROWTH * looks[-1])))
        return cls(tuple(looks))

    def level(self, error_rate: float, look: int) -> float:
        """Return with which probability a look, counted from 0, may err."""
        before = self.roads[look - 1] if look else 0
        return self._spent(error_rate, self.roads[look]) - self._spent(error_rate, before)

    def _spent(self, error_rate: float, roads: int) -> float:
        """Return what may have been spent after so many roads."""
        return error_rate * math.log(1 + (math.e - 1) * roads / self.roads[-1])


def mean_bounds(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return a lower and an upper bound of the mean behind independent values, each wrong with probability `level`.

    Args:
        values: `[n]`, one a road; fewer than three have no bounds.
        level: one-sided, in (0, 0.5).

    Returns:
        Student's bounds; the value itself where all are the same.
    """
    count = len(values)
    if count < ENOUGH_VALUES:
        return -math.inf, math.inf
    half = _quantile(1 - level, count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return float(values.mean()) - half, float(values.mean()) + half


@lru_cache(maxsize=1024)
def _quantile(level: float, freedom: int) -> float:
    """Return the quantile of Student's t, which SciPy takes a good while for."""
    return float(stats.t.ppf(level, freedom))
