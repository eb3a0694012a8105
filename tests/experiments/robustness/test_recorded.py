"""Errors on recordings, clean and perturbed, and the interval of their ratio."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.robustness.analysis import rmse, worsening
from tests.experiments.robustness.made_up_drives import block_rows


def row(perturbation: str, error: float, frames: int = 50, run: int = 0, block: int = 0) -> dict[str, Any]:
    return {
        "perturbation": perturbation,
        "run": run,
        "episode": 0,
        "block": block,
        "frames": frames,
        "squared_error": frames * error**2,
    }


def test_errors_by_hand():
    rows = pd.DataFrame([row("", 0.1), row("fog:1", 0.2, 50), row("fog:1", 0.4, 25, block=1)])
    expected = np.sqrt((50 * 0.04 + 25 * 0.16) / 75)
    assert rmse(rows[1:]) == pytest.approx(expected) and np.isnan(rmse(rows[:0]))
    assert worsening(rows).value == pytest.approx(expected / 0.1)


def test_a_hard_stretch_counts_in_both():
    # Blocks differ by far more than what the perturbation does; it always doubles the error.
    rows = [
        row(what, size * (2 if what else 1), block=n) for n, size in enumerate((0.1, 1.0, 0.02)) for what in ("", "x")
    ]
    found = worsening(pd.DataFrame(rows))
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_interval_is_that_of_resampled_runs_and_blocks():
    rows = block_rows({"ltc": 0.1}, runs=3)
    found = worsening(pd.DataFrame(rows), resamples=4000)
    rng, values, table = np.random.default_rng(5), [], pd.DataFrame(rows)
    places = {  # of the rows of a run and a block, clean and perturbed ones
        (run, block, kind): [n for n, r in enumerate(rows) if (r["run"], r["block"], bool(r["perturbation"])) == which]
        for which in itertools.product(range(3), range(4), (False, True))
        for run, block, kind in [which]
    }
    for _ in range(800):
        runs, blocks = rng.integers(0, 3, 3), rng.integers(0, 4, 4)
        clean, wrong = (
            table.iloc[[n for run in runs for block in blocks for n in places[run, block, kind]]]
            for kind in (False, True)
        )
        values.append(rmse(wrong) / rmse(clean))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), rel=0.05)


@pytest.mark.parametrize("rows", [[row("", 0.1)], [row("fog:1", 0.1)], [row("", 0.0), row("fog:1", 0.1)]])
def test_without_a_ratio_there_is_none(rows: list[dict[str, Any]]):
    assert np.isnan(worsening(pd.DataFrame(rows)).value)
