"""What two shifts at once do beyond the sum of both.

Pair("ltc", "fog:3", "latency:3", interaction=0.21, low=0.05, high=0.37, runs=()).verdict  # "worse together"
"""

from __future__ import annotations

from dataclasses import dataclass

VERDICTS = WORSE, MILDER, UNDECIDED = "worse together", "milder together", "undecided"


@dataclass(frozen=True)
class Pair:
    """What two shifts do to a driver beyond the sum of both.

    Attributes:
        driver: its name.
        first: a perturbation.
        second: another.
        interaction: E_ab − E_a − E_b + E_clean, share of the lane.
        low: lower end of its interval over roads.
        high: upper end.
        runs: that of each training run.
    """

    driver: str
    first: str
    second: str
    interaction: float
    low: float
    high: float
    runs: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """Where the interval lies: one of `VERDICTS`."""
        if self.low > 0:
            return WORSE
        return MILDER if self.high < 0 else UNDECIDED
