"""Several shifts at once: what is driven, what an interaction is, when it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from agents.driving.statistics import Estimate
from agents.runs.ours import is_ours
from experiments.liquid_claim import interactions
from experiments.liquid_claim.interactions import Interactions, conditions_of, decide, judge, main
from experiments.liquid_claim.pairs import Pair
from experiments.liquid_claim.plots import matrix
from experiments.robustness import verb
from experiments.robustness.jobs import CLEAN, DriveRow
from experiments.robustness.store import make_table
from tests.experiments.robustness.made_up_drives import drive_row

SHIFTS = ("fog", "latency", "night")
OPTIONS = Interactions(policy=("a=x", "b=y"), perturbations=SHIFTS, severity=2, triples=5)
CONDITIONS = conditions_of(OPTIONS)
ERRORS = {CLEAN: 0.05, "fog:2": 0.1, "latency:2": 0.2, "night:2": 0.3}
TOGETHER = {"fog:2+latency:2": 0.45, "fog:2+night:2": 0.35, "latency:2+night:2": 0.4, "fog:2+latency:2+night:2": 0.8}


def drives(roads: range, driver: str, worse: float = 0.0, noise: float = 0.01) -> list[dict[str, Any]]:
    """Drives of two runs whose errors are those above, a little different from road to road."""
    rng = np.random.default_rng(7)
    away = {(run, road): noise * rng.standard_normal() for run in range(2) for road in roads}
    return [
        drive_row(driver, run, condition, road, lane_error=error + away[run, road] + worse * (condition != CLEAN))
        for run, road in away
        for condition, error in {**ERRORS, **TOGETHER}.items()
    ]


def test_every_pair_and_a_choice_of_triples_is_driven():
    usual = conditions_of(Interactions(policy=("a=x",)))
    assert [len(usual[count]) for count in (1, 2, 3)] == [12, 66, 20] and len(set(usual[3])) == 20
    assert len({condition.split(":")[0] for condition in usual[1]}) == 12
    assert usual == conditions_of(Interactions(policy=("a=x",))) != conditions_of(Interactions(policy=("a=x",), seed=1))
    assert CONDITIONS[3] == ("fog:2+latency:2+night:2",)


def test_an_interaction_is_what_two_do_beyond_the_sum_of_both():
    table = make_table(drives(range(6), "a"), DriveRow)
    orders, pairs = judge(table, CONDITIONS)
    found = {(pair.first, pair.second): pair for pair in pairs}
    assert found["fog:2", "latency:2"].interaction.value == pytest.approx(0.45 - 0.1 - 0.2 + 0.05)
    assert found["latency:2", "night:2"].interaction.value == pytest.approx(0.4 - 0.2 - 0.3 + 0.05)
    # What is the same in all drives of a road cancels, so the intervals are narrow.
    assert found["fog:2", "latency:2"].verdict == "worse together"
    assert found["latency:2", "night:2"].verdict == "milder together"
    assert [order.error.value for order in orders] == pytest.approx([0.05, 0.2, 0.4, 0.8], abs=0.01)
    assert all(len(order.runs) == 2 and order.error.low < order.error.value < order.error.high for order in orders)
    assert Pair("a", "x", "y", Estimate(0.1, -0.1, 0.3), ()).verdict == "undecided"


def test_a_decision_needs_bounds_that_leave_zero_out():
    rows = [*drives(range(6), "base"), *drives(range(6), "worse", 0.1), *drives(range(6), "same")]
    found = {one.driver: one for one in decide(make_table(rows, DriveRow), CONDITIONS, "base", 0.02)}
    assert set(found) == {"worse", "same"}
    assert found["worse"].decided and found["worse"].difference.low == pytest.approx(0.1, abs=1e-6)
    assert not found["same"].decided


@pytest.mark.parametrize("others", [1, 3])
def test_the_level_of_a_look_is_shared_by_its_comparisons_and_their_two_sides(others: int):
    away, level = np.array([0.0, 0.02, 0.05, 0.01, -0.02, 0.03]), 0.03
    rows = [
        drive_row(driver, run, condition, road, lane_error=0.2 + (away[road] if driver != "base" else 0.0))
        for driver in ("base", *(f"other-{number}" for number in range(others)))
        for run in range(2)
        for road in range(6)
        for condition in (*ERRORS, *TOGETHER)
    ]
    found = decide(make_table(rows, DriveRow), CONDITIONS, "base", level)
    half = stats.t.ppf(1 - level / (2 * others), 5) * away.std(ddof=1) / np.sqrt(6)
    assert [one.driver for one in found] == [f"other-{number}" for number in range(others)]
    for one in found:
        low, high = one.difference.low, one.difference.high
        assert (low, high) == pytest.approx((away.mean() - half, away.mean() + half), abs=1e-6)


@pytest.mark.parametrize(("worse", "roads"), [(0.2, 4), (0.0, 9)])
def test_it_stops_when_all_is_decided_or_the_roads_are_used(
    worse: float, roads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    driven: list[range] = []

    def drive(test: verb.RobustnessOptions) -> None:
        assert test.roads is not None
        driven.append(range(test.seed, test.seed + test.roads))
        assert set(test.perturbations) == {name for names in CONDITIONS.values() for name in names}

    def read(path: Path) -> pd.DataFrame:
        there = driven[-1]
        return make_table([*drives(there, "a", noise=0.0), *drives(there, "b", worse, noise=0.0)], DriveRow)

    monkeypatch.setattr(interactions.verb, "run", drive)
    monkeypatch.setattr(interactions, "read_table", read)
    monkeypatch.setattr(interactions, "find_policy_runs", lambda policies: [])
    monkeypatch.setattr(interactions, "choose_baseline", lambda runs, named: "a")
    plot = tmp_path / "matrix.png"
    options = Interactions(
        policy=("a=x", "b=y"), perturbations=SHIFTS, severity=2, roads=9, out=tmp_path / "out", road_seed=50, plot=plot
    )
    figures = interactions.run(options)
    assert figures["roads"] == roads and [seed for stage in driven for seed in stage] == list(range(50, 50 + roads))
    assert (tmp_path / "out" / "interactions.json").is_file() and len(figures["interactions"]) == 2 * 3
    assert is_ours(plot) and cv2.imread(str(plot)) is not None


def test_the_matrix_shows_each_pair_once_and_bold_where_it_is_sure():
    pairs = [
        Pair("a", "fog:2", "latency:2", Estimate(0.21, 0.1, 0.3), ()),
        Pair("a", "fog:2", "night:2", Estimate(-0.04, -0.2, 0.1), ()),
    ]
    (axes,) = matrix(pairs).axes
    shown = {text.get_text(): (text.get_position(), text.get_fontweight()) for text in axes.texts}
    assert shown == {"21": ((0, 1), "bold"), "-4": ((0, 2), "normal")}


def test_a_plot_is_written_over_nothing_of_others_and_as_what_can_be_drawn(tmp_path: Path):
    (tmp_path / "mine.png").write_bytes(b"holiday")
    for name, message in (("mine.png", "not made by Wormwheel"), ("matrix.gif", "a .png, .svg or .pdf file")):
        with pytest.raises(ValueError, match=message):
            interactions.run(replace(OPTIONS, out=tmp_path / "out", plot=tmp_path / name))
    assert not (tmp_path / "out").exists() and (tmp_path / "mine.png").read_bytes() == b"holiday"


def test_the_command_needs_no_perturbations_and_two_where_they_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked: list[Interactions] = []
    monkeypatch.setattr(interactions, "run", asked.append)
    assert main(["--policy", "a=x"]) == 0 and len(asked[0].shifts) == 12
    assert main(["--policy", "a=x", "--perturbations", "fog", "night"]) == 0 and asked[1].shifts == ("fog:3", "night:3")
    assert main(["--policy", "a=x", "--perturbations", "fog"]) == 2
    assert "two or more to make a pair, got fog alone" in capsys.readouterr().err
