"""How often the bounds of shares hold."""

from __future__ import annotations

import numpy as np

from agents.driving.road_shares import share_bounds
from agents.driving.statistics import proportion
from experiments.gate.coverage import KINDS, holds


def test_the_bounds_hold_where_those_of_independent_drives_do_not():
    rng, held, as_drives = np.random.default_rng(0), 0, 0
    for _ in range(40):
        lost = rng.binomial(25, KINDS["correlation 0.3"](rng, 0.1, 8)).astype(float)
        held += holds(lost, 25, 0.1, 0.025)
        whole = proportion(int(lost.sum()), 200)
        as_drives += not (0.1 < whole.low or 0.1 > whole.high)
    assert held >= 38 and as_drives < 30


def test_whether_they_hold_is_what_the_bounds_say():
    lost = np.array([0.0, 0.0, 3.0, 0.0, 7.0, 1.0])
    low, high = share_bounds(lost, np.full(6, 25), 0.025)
    assert [holds(lost, 25, at, 0.025) for at in (0.999 * low, 1.001 * low, 0.999 * high, 1.001 * high)] == [
        False,
        True,
        True,
        False,
    ]


def test_every_kind_has_the_mean_that_it_says():
    rng = np.random.default_rng(1)
    for kind, draw in KINDS.items():
        assert abs(np.mean([draw(rng, 0.3, 40).mean() for _ in range(200)]) - 0.3) < 0.02, kind
