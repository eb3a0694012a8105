"""Bounds of shares and rates behind which the roads stand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from agents.driving.road_shares import exceedance, rate_bounds, share_bounds, share_of_roads


@pytest.mark.parametrize("roads", [1, 3, 16, 2000])
@pytest.mark.parametrize("level", [0.05, 0.003])
def test_one_drive_a_road_has_the_bounds_of_clopper_and_pearson(roads: int, level: float):
    for lost in {0, 1, roads // 2, roads}:
        happened = np.r_[np.ones(lost), np.zeros(roads - lost)]
        low, high = share_bounds(happened, np.ones(roads), level)
        exact = [
            stats.binomtest(lost, roads, alternative=side).proportion_ci(1 - level, "exact")
            for side in ("greater", "less")
        ]
        assert (low, high) == pytest.approx((exact[0].low, exact[1].high), abs=1e-7)


def test_where_nothing_happened_the_roads_alone_count():
    assert share_bounds(np.zeros(16), np.full(16, 25), 0.02)[1] == pytest.approx(1 - 0.02 ** (1 / 16))
    assert share_of_roads(np.zeros(16), np.full(16, 25)).text(1, 100) == "0.0 (below 17.1)"
    assert share_of_roads(np.full(16, 25), np.full(16, 25)).text(1, 100) == "100.0 (above 82.9)"
    low, high = rate_bounds(np.zeros(16), np.full(16, 0.4), 25, 0.016, 0.02)
    assert low == 0 and high == pytest.approx(25 / 0.4 * (0.02 ** (-1 / 16) - 1)), "a lost road drives no way"
    assert rate_bounds([0, 0], [0.0, 0.0], 3, 0.0, 0.02) == (0.0, np.inf)


def test_it_is_the_bayesian_bootstrap_with_one_more_road_the_worst():
    rng = np.random.default_rng(0)
    crashes, drives = np.array([0, 0, 1, 7, 2, 25, 0, 3]), np.full(8, 25)
    weights = rng.dirichlet(np.ones(9), 200_000)
    drawn = weights @ np.r_[crashes / 25, 1.0]
    assert share_bounds(crashes, drives, 0.025)[1] == pytest.approx(np.quantile(drawn, 0.975), abs=0.005)
    drawn = weights @ np.r_[crashes / 25, 0.0]
    assert share_bounds(crashes, drives, 0.025)[0] == pytest.approx(np.quantile(drawn, 0.025), abs=0.005)
    way_km = np.array([0.4, 0.4, 0.3, 0.2, 0.4, 0.01, 0.4, 0.3])
    low, high = rate_bounds(crashes, way_km, 25, 0.016, 0.025)
    drawn = (weights @ np.r_[crashes, 25]) / (weights @ np.r_[way_km, 0.0])
    assert high == pytest.approx(np.quantile(drawn, 0.975), rel=0.02)
    drawn = (weights @ np.r_[crashes, 0]) / (weights @ np.r_[way_km, 25 * 0.016])
    assert low == pytest.approx(np.quantile(drawn, 0.025), rel=0.02)


def test_a_crash_more_never_makes_a_bound_smaller():
    rng = np.random.default_rng(1)
    drives = np.full(6, 5)
    for _ in range(5):
        crashes = rng.integers(0, 5, 6)
        more = crashes + (np.arange(6) == rng.integers(6))
        fewer, many = share_bounds(crashes, drives, 0.01), share_bounds(more, drives, 0.01)
        assert many[0] >= fewer[0] - 1e-9 and many[1] >= fewer[1] - 1e-9


def test_both_tails_add_up():
    values, count = np.array([-0.3, -0.1, 0.05, 0.8]), np.array([5, 9, 3, 1])
    assert exceedance(values, count) + exceedance(-values, count) == pytest.approx(1.0, abs=1e-12)
    assert exceedance(np.array([-1.0, 0.0]), np.array([1, 1])) == 0.0
