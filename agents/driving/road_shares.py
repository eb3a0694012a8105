"""Shares and rates over drives of which several are on one road: bounds behind which the roads stand.

Roads are drawn, and the drives of one road under several disturbances are alike to a degree that a few roads do not
show: where one road in twenty is lost whatever disturbs, sixteen roads often show none, and four hundred drives on them
say no more than the sixteen do. So nothing is assumed about how alike they are. The bound is Gaffke's (Mathematical
Methods of Statistics 14:451–467, 2005; again Learned-Miller and Thomas, arXiv:1905.06208, 2019): one more road is put
beside those that were driven, the worst that there can be, the weights of all are drawn from a flat Dirichlet
distribution, as in the Bayesian bootstrap (Rubin 1981), and the bound is the quantile of the weighted share.

With one drive a road it is the exact bound of Clopper and Pearson; where nothing happened it is that of as many drives
as there are roads, 1 − level^(1/K); and more that happens never makes it smaller. That it holds its level whatever the
roads are like is proven for one drive a road and a conjecture otherwise; `experiments.gate.coverage` measures it.

    share_bounds([0, 0, 3, 1], [25, 25, 25, 25], level=0.025)  # crashes and drives of each road
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.driving.statistics import Estimate

_NODES = np.linspace(0.0, 12.0, 400)
"""Of the inversion of the distribution, in asinh of the distance from the saddle point in units of its width."""
_RELATIVE = 1e-9
"""Precision of a bound."""


def share_bounds(happened: ArrayLike, drives: ArrayLike, level: float) -> tuple[float, float]:
    """Return a lower and an upper bound of a share, each wrong with probability `level`.

    Args:
        happened: `[K]` in how many drives of each road it did, or how much in sum where each drive tells a share.
        drives: `[K]` of each road, at least 1.
        level: one-sided, in (0, 0.5).
    """
    top, bottom = np.asarray(happened, np.float64), np.asarray(drives, np.float64)
    worst = (float(bottom.max()), float(bottom.max()))
    low, high = 1 - _upper(bottom - top, bottom, worst, level), _upper(top, bottom, worst, level)
    return min(max(low, 0.0), 1.0), min(high, 1.0)


def rate_bounds(
    happened: ArrayLike, exposure: ArrayLike, most: int, longest: float, level: float
) -> tuple[float, float]:
    """Return a lower and an upper bound of events per exposure, each wrong with probability `level`.

    The worst road is one on which every drive ends at once, the best one on which none does.

    Args:
        happened: `[K]` events of each road, at most one a drive.
        exposure: `[K]` kilometres, … of each road, at least 0.
        most: drives of a road at most.
        longest: exposure of a drive at most.
        level: one-sided, in (0, 0.5).

    Returns:
        Infinity above where there is no exposure.
    """
    top, bottom = np.asarray(happened, np.float64), np.asarray(exposure, np.float64)
    if not bottom.any():
        return 0.0, float("inf")
    low = 1 / _upper(bottom, top, (most * longest, 0.0), level) if top.any() else 0.0
    return low, _upper(top, bottom, (float(most), 0.0), level)


def share_of_roads(happened: ArrayLike, drives: ArrayLike) -> Estimate:
    """Return a share of all drives with its 95 % interval; see `share_bounds`.

    Returns:
        Where it happened in none, or in all, the other end alone, which holds with 95 % confidence.
    """
    top, bottom = np.asarray(happened, np.float64), np.asarray(drives, np.float64)
    value = float(top.sum() / bottom.sum())
    if not top.any():
        return Estimate(0.0, high=share_bounds(top, bottom, 0.05)[1])
    if np.array_equal(top, bottom):
        return Estimate(1.0, low=share_bounds(top, bottom, 0.05)[0])
    return Estimate(value, *share_bounds(top, bottom, 0.025))


def _upper(top: NDArray[np.float64], bottom: NDArray[np.float64], worst: tuple[float, float], level: float) -> float:
    """Return the ratio that the weighted sum of `top` over that of `bottom` exceeds with probability `level`."""
    roads = np.vstack([np.column_stack([top, bottom]), worst])  # [K + 1, 2]
    kinds, count = np.unique(roads, axis=0, return_counts=True)

    def excess(ratio: float) -> float:
        return exceedance(kinds[:, 0] - ratio * kinds[:, 1], count) - level

    low = float(top.sum() / bottom.sum())
    if excess(low) <= 0:  # alike to the last digit, the worst road included
        return low
    high = 2 * low + float(worst[0] / bottom.sum())
    while excess(high) > 0:
        low, high = high, 2 * high
    return float(_optimize().brentq(excess, low, high, xtol=1e-15, rtol=_RELATIVE))


def exceedance(values: NDArray[np.float64], count: NDArray[np.integer]) -> float:
    """Return the probability that a mean with weights from a flat Dirichlet distribution exceeds 0.

    It is that of a sum of independent gamma variables, the inverse Laplace transform of `Π (1 − s v)^(−n) / s`, along
    the line through the saddle point, where nothing oscillates.

    Args:
        values: `[N]` different ones.
        count: `[N]` how often each is there.
    """
    if values.max() <= 0 or values.min() >= 0:
        return float(values.max() > 0)
    if float((count * values).sum()) > 0:
        return 1 - exceedance(-values, count)
    pole = 1 / values.max()

    def slope(at: float) -> float:
        return float((count * values / (1 - at * values)).sum() - 1 / at)

    saddle = _optimize().brentq(slope, pole * 1e-12, pole * (1 - 1e-12))
    width = 1 / np.sqrt((count * (values / (1 - saddle * values)) ** 2).sum() + 1 / saddle**2)
    line = saddle + 1j * width * np.sinh(_NODES)
    density = np.exp(-np.log1p(-line[:, None] * values) @ count - np.log(line)).real * np.cosh(_NODES)
    density[0] /= 2
    return float(density.sum() * (_NODES[1] - _NODES[0]) * width / np.pi)


def _optimize() -> Any:
    """Roots, from `scipy.optimize`: a while to import, which a command that prints no interval need not wait."""
    from scipy import optimize

    return optimize
