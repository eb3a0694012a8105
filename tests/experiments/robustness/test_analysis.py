"""What a table of drives says about its drivers, by hand and by another seed."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from agents.driving.road_shares import share_of_roads
from agents.driving.statistics import Estimate, estimate, performance_profile
from experiments.robustness.analysis import THRESHOLDS, _share, find
from experiments.robustness.findings import DriverFindings, Findings, RunFindings, _count
from experiments.robustness.jobs import CLEAN, DriveRow
from experiments.robustness.recorded_jobs import BlockRow
from experiments.robustness.store import make_table
from tests.experiments.robustness.made_up_drives import CONDITIONS, block_rows, drive_rows, find_in

WEAKNESSES = {"ltc-one": 0.1, "gru-two": 0.13}
RUNS, ROADS, DRAWS = 5, 6, 2


@lru_cache
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    drives = drive_rows(WEAKNESSES, RUNS, roads=ROADS, seeds=DRAWS)
    return make_table(drives, DriveRow), make_table(block_rows(WEAKNESSES, RUNS), BlockRow)


@lru_cache
def found(seed: int = 0) -> Findings:
    return find(*tables(), CONDITIONS, "gru-two", seed)


def driver(name: str, seed: int = 0) -> DriverFindings:
    return next(one for one in found(seed).drivers if one.name == name)


@pytest.mark.parametrize("name", WEAKNESSES)
def test_figures_of_a_driver_are_those_of_its_drives(name: str):
    drives, blocks = tables()
    mine, base = (drives[(drives.driver == one) & (drives.perturbation != CLEAN)] for one in (name, "gru-two"))
    seen = driver(name)
    assert (seen.drives, seen.crashes) == (RUNS * ROADS * DRAWS * len(CONDITIONS), int(mine.crashed.sum()))
    assert seen.error.value == pytest.approx(mine.lane_error.mean())
    assert seen.error_iqm.value == pytest.approx(stats.trim_mean(mine.lane_error, 0.25), abs=2e-3)
    assert seen.crash_share.value == pytest.approx(mine.crashed.mean())
    assert seen.autonomy.value == pytest.approx(mine.autonomy.mean())
    for figure, column in ((seen.corruption_error, "lane_error"), (seen.corruption_crashes, "crashed")):
        sums = mine.groupby("name")[column].sum() / base.groupby("name")[column].sum()
        assert figure.value == pytest.approx(sums.replace(np.inf, np.nan).dropna().mean(), rel=1e-6), column
    clean = drives[(drives.driver == name) & (drives.perturbation == CLEAN)]
    assert seen.clean_error.value == pytest.approx(clean.lane_error.mean())
    assert seen.clean_crashes == clean.crashed.mean()
    similar = mine.dropna(subset="saliency_ssim").saliency_ssim
    assert seen.saliency_ssim.value == pytest.approx(similar.mean())
    before = mine.merge(clean, on=["run", "road_seed"], suffixes=("", "_clean"))
    assert seen.state_step == pytest.approx(np.exp(np.log(before.state_step / before.state_step_clean).mean()))
    recorded = blocks[blocks.driver == name]
    for value, some in (
        (seen.recorded_clean, recorded[recorded.perturbation == CLEAN]),
        (seen.recorded_perturbed, recorded[recorded.perturbation != CLEAN]),
    ):
        assert value == pytest.approx(np.sqrt(some.squared_error.sum() / some.frames.sum()))
    for condition in CONDITIONS:
        here, summary = mine[mine.perturbation == condition], seen.by_condition[condition]
        assert (summary.drives, summary.crashes) == (len(here), here.crashed.sum())
        assert summary.error.value == pytest.approx(here.lane_error.mean())


def test_the_other_driver_is_compared_drive_by_drive():
    drives, _ = tables()
    table = drives[drives.perturbation != CLEAN].pivot_table(
        index=["run", "road_seed", "perturbation", "effect_seed"], columns="driver", values="lane_error"
    )
    worse = table["gru-two"] - table["ltc-one"]
    one, two = driver("ltc-one"), driver("gru-two")
    assert one.difference.value == pytest.approx(-worse.mean()) and two.difference.value == 0.0
    assert one.better.value == pytest.approx(1.0, abs=0.5) and two.better.value == 0.5
    assert one.behind.value == 0.0 and two.behind.low < two.behind.value < two.behind.high
    assert found().drivers[0].name == "ltc-one"


def test_a_curve_is_the_error_of_a_family_at_a_severity_with_whole_runs_drawn():
    drives, _ = tables()
    curve = driver("ltc-one").curves["noise"]
    assert sorted(curve) == [0, 1, 3, 5] and curve[0] == driver("ltc-one").clean_error
    here = drives[(drives.driver == "ltc-one") & (drives.perturbation == "gaussian:3")]
    errors = here.sort_values(["run", "road_seed", "effect_seed"]).lane_error.to_numpy().reshape(RUNS, ROADS, DRAWS)
    assert curve[3] == estimate(lambda values: values.mean(-1), errors, whole_runs=True, seed=0)


@pytest.mark.parametrize(("number", "words"), [(0, "0 roads"), (1, "1 road"), (2, "2 roads")])
def test_one_is_singular(number: int, words: str):
    assert _count(number, "road") == words


def estimates(of: Any, place: str = "") -> dict[str, Estimate]:
    """Every figure with an interval in what was found, by its place."""
    if isinstance(of, Estimate):
        return {place: of}
    parts: dict[str, Any] = {}
    if dataclasses.is_dataclass(of):
        parts = {one.name: getattr(of, one.name) for one in dataclasses.fields(of)}
    elif isinstance(of, dict):
        parts = of
    elif isinstance(of, (tuple, list)):
        parts = dict(enumerate(of))
    return {name: one for key, part in parts.items() for name, one in estimates(part, f"{place}.{key}").items()}


def test_the_seed_draws_every_interval_and_no_figure():
    one, again, other = (estimates(driver("ltc-one", seed)) for seed in (0, 0, 1))
    assert one == again and len(one) > 20
    for place, figure in one.items():
        assert figure.value == pytest.approx(other[place].value, nan_ok=True), place
    drawn = {place for place, figure in one.items() if figure.low < figure.high}
    exact = {name for name in (".crash_share", ".autonomy") if one[name].low == other[name].low}
    same = {place for place in drawn if (one[place].low, one[place].high) == (other[place].low, other[place].high)}
    assert same <= exact, same
    here, there = (driver("ltc-one", seed).profile for seed in (0, 1))
    assert np.array_equal(here.share, there.share) and not np.array_equal(here.low, there.low)


def test_a_profile_draws_whole_runs():
    drives, _ = tables()
    mine = drives[(drives.driver == "ltc-one") & (drives.perturbation != CLEAN)]
    order = {condition: place for place, condition in enumerate(CONDITIONS)}
    mine = mine.assign(place=mine.perturbation.map(order)).sort_values(["run", "road_seed", "place", "effect_seed"])
    errors = mine.lane_error.to_numpy().reshape(RUNS, ROADS, -1)
    found, expected = driver("ltc-one").profile, performance_profile(errors, THRESHOLDS, whole_runs=True, seed=0)
    for name in ("share", "low", "high"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-9)


@pytest.mark.parametrize("crashed", [1, 120])
def test_a_road_that_is_lost_in_every_condition_counts_once(crashed: int):
    values = np.zeros((1, 6, 120))
    values[0, 2, :crashed] = 1.0
    found, one_drive = _share(values, 0), share_of_roads([0, 0, crashed / 120, 0, 0, 0], np.ones(6))
    assert (found.value, found.low, found.high) == pytest.approx((crashed / 720, one_drive.low, one_drive.high))
    exact = stats.binomtest(1, 6).proportion_ci(method="exact")
    assert (found.high == pytest.approx(exact.high)) is (crashed == 120) and found.high > 0.3


def test_the_spread_of_training_runs_widens_a_share():
    values = np.zeros((5, 60, 1))
    values[4] = 1.0  # one run of five loses every road
    alone = share_of_roads(values.sum((0, 2)), np.full(60, 5))
    assert _share(values, 0).high == pytest.approx(0.6) and alone.high < 0.3


@pytest.mark.parametrize(
    ("errors", "crashes", "failed"),
    [
        ([0.1, 0.1], [1, 0], True),
        ([0.1, 0.1, 0.1], [1, 0, 0], False),
        ([0.9, 0.1], [0, 0], True),
        ([0.5, 0.4], [0, 0], False),
    ],
)
def test_a_run_fails_where_it_leaves_half_of_the_clean_roads_or_is_half_a_lane_off(
    errors: list[float], crashes: list[int], failed: bool
):
    clean = np.array(errors)[:, None], np.array(crashes, float)[:, None]
    found = RunFindings.of(1, 7, (np.array([[0.2, 0.4], [0.9, 0.3]]), np.array([[0.0, 0.0], [1.0, 0.0]])), clean)
    assert found.failed is failed and found.clean_error == pytest.approx(np.mean(errors))
    assert (found.run, found.training_seed, found.drives, found.crashes) == (1, 7, 4, 1)
    assert found.error_iqm == pytest.approx(0.35) and found.clean_crashes == sum(crashes)


def test_a_state_that_stands_still_is_left_out_of_its_steps():
    rows = drive_rows(WEAKNESSES, 3)
    still = next(row for row in rows if row["perturbation"] == "gaussian:3" and row["driver"] == "ltc-one")
    before = find_in(rows, block_rows(WEAKNESSES, 3), CONDITIONS, "gru-two")
    still["state_step"] = 0.0
    after = find_in(rows, block_rows(WEAKNESSES, 3), CONDITIONS, "gru-two")
    here, there = (next(one for one in found.drivers if one.name == "ltc-one") for found in (before, after))
    assert 0.5 < there.state_step / here.state_step < 2.0


def test_two_drivers_that_drive_alike_are_not_told_apart():
    rows = drive_rows({"ltc-one": 0.1}, runs=1, roads=6)
    rows += [{**row, "driver": "gru-two", "core": "gru"} for row in rows]
    alike = find_in(rows, [], CONDITIONS, "gru-two")
    assert alike.lead is not None and (alike.lead.low, alike.lead.high) == (0.0, 0.0)
    assert "which does not tell them apart" in alike.verdict()
