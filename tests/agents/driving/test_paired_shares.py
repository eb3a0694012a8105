"""The interval of a paired difference of shares holds what it says, and pairing makes it narrower."""

from __future__ import annotations

import numpy as np
import pytest

from agents.driving.paired_shares import paired_share_difference


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    kinds = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    one, other = zip(*kinds, strict=True)
    return list(one), list(other)


def test_it_is_wilsons_interval_where_nothing_happened_twice():
    found = paired_share_difference(*pairs(0, 0, 0, 50))
    assert found.value == 0.0 and -found.low == pytest.approx(found.high) == pytest.approx(
        1.96**2 / (50 + 1.96**2), rel=1e-3
    )


def test_sign_symmetry_and_pairing():
    found = paired_share_difference(*pairs(6, 5, 1, 8))
    turned = paired_share_difference(*pairs(6, 1, 5, 8))
    assert found.value == pytest.approx(0.2) and (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    alike = paired_share_difference(*pairs(10, 0, 0, 10))
    apart = paired_share_difference(*pairs(5, 5, 5, 5))
    assert alike.high - alike.low < 0.6 * (apart.high - apart.low)
    with pytest.raises(ValueError, match="the same roads"):
        paired_share_difference([True], [True, False])


def test_the_correlation_is_corrected_for_continuity_as_newcombe_has_it():
    both, first, second, neither = 12, 5, 1, 2
    n, z = 20, 1.959964

    def wilson(count: int) -> tuple[float, float]:
        spread = z * np.sqrt(z * z + 4 * count * (n - count) / n)
        return (2 * count + z * z - spread) / (2 * (n + z * z)), (2 * count + z * z + spread) / (2 * (n + z * z))

    p, q = (both + first) / n, (both + second) / n
    (p_low, p_high), (q_low, q_high) = wilson(both + first), wilson(both + second)
    phi = (both * neither - first * second - n / 2) / np.sqrt(
        (both + first) * (second + neither) * (both + second) * (first + neither)
    )
    down = np.sqrt((p - p_low) ** 2 - 2 * phi * (p - p_low) * (q_high - q) + (q_high - q) ** 2)
    up = np.sqrt((p_high - p) ** 2 - 2 * phi * (p_high - p) * (q - q_low) + (q - q_low) ** 2)
    found = paired_share_difference(*pairs(both, first, second, neither))
    assert (found.low, found.value, found.high) == pytest.approx((p - q - down, p - q, p - q + up), abs=1e-6)


@pytest.mark.parametrize(("p", "q", "alike"), [(0.1, 0.1, 0.5), (0.3, 0.1, 0.0), (0.05, 0.02, 0.3)])
def test_it_holds_the_true_difference_about_19_times_of_20(p: float, q: float, alike: float):
    rng = np.random.default_rng(1)
    held, known = 0, {}
    for _ in range(1000):
        roads = rng.random((2, 30))
        roads[1] = np.where(rng.random(30) < alike, roads[0], roads[1])
        one, other = roads[0] < p, roads[1] < q
        counts = (int((one & ~other).sum()), int((other & ~one).sum()), int((one & other).sum()))
        if counts not in known:  # They are all that it looks at, and many draws share them.
            known[counts] = paired_share_difference(list(one), list(other))
        found = known[counts]
        held += found.low <= p - q <= found.high
    assert held / 1000 >= 0.93
