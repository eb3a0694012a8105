"""The difference of two shares that were counted on the same roads, with its interval.

Two drivers drive the same n roads; a crash on the same road makes their counts alike, so the interval of the difference
is not that of two independent ones. Newcombe (Statistics in Medicine 17:2635–2650, 1998, method 10) takes Wilson's
score intervals of both shares and their correlation, and holds its 95 % for small n, and where nothing happened, too.

    paired_share_difference([True, False, …], [False, False, …])  # first − second
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agents.driving.statistics import Estimate


def paired_share_difference(first: Sequence[bool], second: Sequence[bool]) -> Estimate:
    """Return the share of `first` minus that of `second` with its 95 % interval.

    Args:
        first: what happened, road by road.
        second: the same on the same roads, in their order.

    Raises:
        ValueError: if they are not of one length, or empty.
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != other.shape or one.ndim != 1 or not one.size:
        raise ValueError(f"both must hold the same roads, at least one; got {one.shape} and {other.shape}.")
    from scipy.stats import binomtest  # takes half a second to import

    n = len(one)
    both, neither = int((one & other).sum()), int((~one & ~other).sum())
    only_one, only_other = int((one & ~other).sum()), int((~one & other).sum())
    p, q = one.mean(), other.mean()
    (p_low, p_high), (q_low, q_high) = (
        binomtest(int(happened.sum()), n).proportion_ci(method="wilson") for happened in (one, other)
    )
    # Correlation of the two, its numerator corrected for continuity where it is positive.
    raw = both * neither - only_one * only_other
    corrected = max(raw - 0.5 * n, 0.0) if raw > 0 else float(raw)
    margins = (both + only_one) * (only_other + neither) * (both + only_other) * (only_one + neither)
    phi = corrected / math.sqrt(margins) if margins else 0.0

    def width(down: float, up: float) -> float:
        return math.sqrt(max(down * down - 2 * phi * down * up + up * up, 0.0))

    return Estimate(
        float(p - q), float(p - q - width(p - p_low, q_high - q)), float(p - q + width(p_high - p, q - q_low))
    )
