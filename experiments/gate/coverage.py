"""How often the bounds of `crash_share` hold: made-up roads of which the share is known.

    python -m experiments.gate.coverage

Each road is lost in a share of its drives, drawn from a distribution of which the mean is known; its drives then are
lost or not by chance. Counted is how often the 95 % interval holds the mean, as `wormwheel gate` makes it, by road,
and once as if all drives were independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from agents.driving.road_shares import exceedance, share_bounds
from agents.driving.statistics import proportion
from experiments.cli import run_script
from experiments.console import progress, table

LEVEL = 0.025
"""Of each side."""
SHOWN = 10
"""Samples of which the width of the intervals is averaged."""

Rng = np.random.Generator
Floats = NDArray[np.float64]

KINDS: dict[str, Callable[[Rng, float, int], Floats]] = {
    "all roads the same": lambda rng, share, roads: np.full(roads, share),
    "correlation 0.3": lambda rng, share, roads: rng.beta(share * 7 / 3, (1 - share) * 7 / 3, roads),
    "a road is lost or not": lambda rng, share, roads: (rng.random(roads) < share).astype(float),
    "lost roads, and chance": lambda rng, share, roads: np.where(
        rng.random(roads) < 0.75 * share, 1.0, 0.25 * share / (1 - 0.75 * share)
    ),
}
"""Shares of the drives that are lost on each road `[K]`, by how alike the drives of a road are; the mean is `share`."""


@dataclass(frozen=True)
class Coverage:
    """Count how often intervals hold the share that the roads were made of."""

    samples: PositiveInt = 500
    """Samples of each kind."""
    drives: PositiveInt = 25
    """Drives of each road."""
    roads: tuple[PositiveInt, ...] = (8, 16, 40)
    """Roads of a sample."""
    shares: tuple[float, ...] = (0.02, 0.1, 0.3, 0.5)
    """Shares of the drives that are lost."""
    seed: NonNegativeInt = 0
    """Of the draws."""


def run(options: Coverage) -> None:
    """Print a row for each kind of road, number of roads and share."""
    rows, total = [], len(KINDS) * len(options.roads) * len(options.shares)
    with progress("drawing", total, "rows") as bar:
        for number, kind in enumerate(KINDS):
            for roads in options.roads:
                for place, share in enumerate(options.shares):
                    rng = np.random.default_rng([options.seed, number, roads, place])
                    rows.append([kind, str(roads), f"{share:g}", *_row(rng, kind, roads, share, options)])
                    bar.advance(1)
    columns = ["drives of a road", "roads", "share", "by road: holds, %", "width", "drives independent: holds, %"]
    table(f"95 % intervals, {options.samples} samples of {options.drives} drives a road", columns, rows)


def _row(rng: Rng, kind: str, roads: int, share: float, options: Coverage) -> list[str]:
    """Return how often both intervals hold, and how wide the first is."""
    held, as_drives, widths = 0, 0, []
    driven = np.full(roads, options.drives)
    for sample in range(options.samples):
        lost = rng.binomial(options.drives, KINDS[kind](rng, share, roads)).astype(np.float64)
        held += holds(lost, options.drives, share, LEVEL)
        whole = proportion(int(lost.sum()), roads * options.drives)
        as_drives += not (share < whole.low or share > whole.high)
        if sample < SHOWN:
            low, high = share_bounds(lost, driven, LEVEL)
            widths.append(high - low)
    return [f"{100 * held / options.samples:.1f}", f"{np.mean(widths):.3f}", f"{100 * as_drives / options.samples:.1f}"]


def holds(lost: Floats, drives: int, share: float, level: float) -> bool:
    """Whether `share_bounds` hold a share, which takes a tenth of the time that finding them takes.

    Args:
        lost: `[K]` drives of each road.
        drives: of each road.
        share: in (0, 1).
        level: of each side.
    """
    sides = ((lost, share), (drives - lost, 1 - share))
    return all(
        exceedance(*np.unique(np.append(some, drives) - mean * drives, return_counts=True)) > level
        for some, mean in sides
    )


if __name__ == "__main__":
    run_script(Coverage, run)
