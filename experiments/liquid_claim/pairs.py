"""What two shifts at once do beyond the sum of both.

Pair("ltc", "fog:3", "latency:3", Estimate(0.21, 0.05, 0.37), runs=()).verdict  # "worse together"
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.driving.statistics import Estimate

VERDICTS = WORSE, MILDER, UNDECIDED = "worse together", "milder together", "undecided"


@dataclass(frozen=True)
class Pair:
    """What two shifts do to a driver beyond the sum of both.

    Attributes:
        driver: its name.
        first: a perturbation.
        second: another.
        interaction: E_ab − E_a − E_b + E_clean, share of the lane, with its interval over roads.
        runs: that of each training run.
    """

    driver: str
    first: str
    second: str
    interaction: Estimate
    runs: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """Where the interval lies: one of `VERDICTS`."""
        if self.interaction.low > 0:
            return WORSE
        return MILDER if self.interaction.high < 0 else UNDECIDED
