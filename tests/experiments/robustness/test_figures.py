"""Where panels put what they show, and which figure of a drive the page keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents.driving.statistics import Estimate, Profile
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.robustness.drives_data import drives_json
from experiments.robustness.figures import curves, forest, profiles, scatter
from tests.experiments.robustness.made_up_drives import CONDITIONS, drive_row, drive_rows, find_in

AXIS = [(0.0, "0"), (1.0, "1")]


def test_a_curve_lies_between_its_bounds_and_higher_is_up():
    values = {0: Estimate(0.1, 0.05, 0.2), 3: Estimate(0.3, 0.2, 0.5), 5: Estimate(float("nan"))}
    panel = curves("fog", [values, {0: Estimate(0.2)}], 0.5, AXIS, [(0, "0"), (5, "5")], bands=True)
    other, mine = panel.series  # the first driver's is drawn last
    assert (other.colour, mine.colour) == ("var(--c1)", "var(--c0)")
    (left, low), (right, high) = mine.line
    bottom, top = panel.rules[0][2], 6
    scale = (bottom - top) / 0.5
    assert (low, high) == pytest.approx((bottom - 0.1 * scale, bottom - 0.3 * scale))
    assert right - left == pytest.approx(3 / 5 * (panel.rules[0][1] - panel.rules[0][0]))
    corners = [(left, 0.2), (right, 0.5), (right, 0.2), (left, 0.05)]  # along the upper ends and back along the lower
    np.testing.assert_allclose(mine.band, [(x, bottom - value * scale) for x, value in corners])
    assert other.band == ()


def test_a_profile_shows_the_share_of_drives_with_at_most_so_much():
    profile = Profile(np.array([0.0, 0.5]), np.array([0.8, 0.1]), np.array([0.7, 0.05]), np.array([0.9, 0.3]))
    panel = profiles("all", [profile], AXIS)
    (series,) = panel.series
    bottom, top = panel.rules[0][2], panel.rules[-1][2]
    shares = [(bottom - y) / (bottom - top) for _, y in series.line]
    assert shares == pytest.approx([0.2, 0.9])
    band = [(bottom - y) / (bottom - top) for _, y in series.band]
    assert band == pytest.approx([0.3, 0.95, 0.7, 0.1]), "upper ends, then the lower ones back"


def test_bars_of_a_forest_are_places_and_widths_in_per_cent_of_the_axis():
    narrow, wide = Estimate(0.2, 0.1, 0.3), Estimate(0.2, 0.05, 0.6)
    (bar, alone) = forest([("a", narrow, wide), ("b", Estimate(0.9), Estimate(0.9))], 0.5, {"a": [0.1, 0.7]})
    assert (bar.value, bar.runs) == (pytest.approx(40), pytest.approx((20, 100)))
    assert bar.intervals == (("wide", pytest.approx(10), pytest.approx(90)), ("", pytest.approx(20), pytest.approx(40)))
    assert alone.value == 100 and alone.intervals == () and alone.runs == ()


def test_dots_of_a_scatter_go_to_the_right_and_up():
    panel = scatter("where", [[(0.5, 0.2, "one"), (9.0, 9.0, "far")]], (1.0, 0.4), ("across", "up"))
    (one, far) = panel.series[0].dots
    left, right, bottom = panel.rules[0]
    top = panel.rules[-1][2]
    assert one == (pytest.approx((left + right) / 2), pytest.approx((bottom + top) / 2), "one")
    assert far == (pytest.approx(right), pytest.approx(top), "far"), "what is beyond stands at the edge"


def test_a_drive_on_the_page_has_the_error_of_the_whole_planned_time():
    found = find_in(drive_rows({"ltc": 0.1}, 1), [], CONDITIONS, "ltc")
    row = drive_row("ltc", 0, "fog:3", 1003, 2, lane_error=0.4321, mean_offset_lane=0.1, duration_s=7.5, crashed=True)
    policies = {("ltc", 0): Path("ltc")}
    data = drives_json(pd.DataFrame([row]), found, policies, LaneKeepingConfig(vehicle="bicycle"), [])
    assert data["drives"] == [["ltc", 0, "fog:3", 1003, 2, 0.4321, 7.5, 1]]
    assert data["kinds"]["fog:3"] == ["fog", "weather", 3]
    assert data["begin"] == {"ltc 0": "wormwheel render --policy ltc"} and "--vehicle bicycle" in data["end"]
    other = replace(LaneKeepingConfig(vehicle="bicycle"), episode_s=30.0)
    assert drives_json(pd.DataFrame([row]), found, policies, other, [])["most_s"] == 30.0
