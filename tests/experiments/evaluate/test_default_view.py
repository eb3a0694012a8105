"""Frames of another size are shown so that the horizon lies where the policy knows it, unless crops are given."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from envs.camera.info import camera_info
from experiments.evaluate.default_view import (
    NARROWER,
    USUAL_LANE_HEIGHTS,
    USUAL_LOCK_LANES,
    RoadView,
    crops_for,
    gain_for,
    narrower_for,
    road_view,
)
from experiments.training_sets import FrameOptions, crop_by_view
from policies.car import CarInfo
from policies.policy import PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.driving.test_rig_estimate import Frames as Held
from tests.envs.recorded.drives import drive
from tests.experiments.verbs import wormwheel, write_tub


@pytest.mark.parametrize(
    ("frame_size", "expected"),
    [
        ((120, 160), (20, 20, 0, 0)),
        ((160, 320), (0, 0, 0, 0)),
        ((100, 400), (0, 0, 100, 100)),
        ((48, 96), (0, 0, 0, 0)),
    ],
)
def test_without_a_horizon_a_strip_of_the_policys_shape_is_taken_from_the_middle(frame_size, expected):
    assert tuple(crops_for(PolicyConfig(), frame_size, None).values()) == expected


@pytest.mark.parametrize("lane", [2.0, 4.0])
@pytest.mark.parametrize("known", [None, CarInfo(camera_horizon=0.2, camera_hfov_deg=70.0)])
def test_horizon_and_lane_look_as_they_did_where_the_policy_learnt(lane: float, known: CarInfo | None):
    road = RoadView(horizon=0.4, hfov_deg=80.0, lane_heights=lane, is_lane_seen=True)
    crops = crops_for(PolicyConfig(car=known), (240, 320), road)
    rows, columns = 240 - crops["crop_top"] - crops["crop_bottom"], 320 - crops["crop_left"] - crops["crop_right"]
    horizon, hfov_deg = (0.3, 90.0) if known is None else (0.2, 70.0)
    assert (0.4 * 240 - crops["crop_top"]) / rows == pytest.approx(horizon, abs=0.02)
    # A point 5 camera heights ahead at the lane's edge, here and there; the policy's frames have 48 × 96 pixels.
    focal = 160 / math.tan(math.radians(40))
    across, down = focal * lane / 2 / 5 * 96 / columns, focal / 5 * 48 / rows
    own_focal = 48 / math.tan(math.radians(hfov_deg / 2))
    own_lane = NARROWER * USUAL_LANE_HEIGHTS
    ahead = 5 * own_lane / lane  # as many lanes ahead
    assert across == pytest.approx(own_focal * own_lane / 2 / ahead, rel=0.03)
    assert down == pytest.approx(own_focal / ahead, rel=0.03)


def test_steering_is_converted_to_a_known_kind_of_car_unless_a_gain_is_given():
    road = RoadView(horizon=0.3, hfov_deg=90.0, lane_heights=3.0, is_lane_seen=True, lock_heights=0.3)
    gain = gain_for(PolicyConfig(), road)
    assert gain == pytest.approx(NARROWER * USUAL_LOCK_LANES / 0.9)
    known = PolicyConfig(car=CarInfo(full_lock_curvature_per_m=2.0, lane_width_m=0.4))
    assert gain_for(known, road) == pytest.approx(NARROWER * 0.8 / 0.9)
    wider = gain_for(PolicyConfig(), replace(road, lane_heights=6.0))
    assert gain is not None and wider == pytest.approx(gain / 2), (
        "the same bend is more in lane widths, and less of full lock"
    )
    assert gain_for(PolicyConfig(), replace(road, lock_heights=None)) is None
    far = PolicyConfig(car=CarInfo(lookahead_s=0.8))
    assert gain_for(far, road) == pytest.approx(USUAL_LOCK_LANES / 0.9), "its teacher looked as far as people do"
    assert narrower_for(CarInfo(lookahead_s=0.55)) == pytest.approx(0.5 * (1 + NARROWER))
    cropped = Preprocessing(120, 160, crop_top=40, height=48, width=96)
    assert gain_for(PolicyConfig(preprocessing=cropped), road) is None, "it may have learnt in this kind of car"


def test_road_view_of_a_drive_finds_horizon_and_lane():
    kept = drive()
    camera, car = kept["camera"], {"camera_hfov_deg": kept["camera"].hfov_deg}
    meta = EpisodeMeta("drive", 0.05, 48, 96, extra={"car": car})
    road = road_view(
        EpisodeSet((Episode(kept["steering"].astype(np.float32), kept["time"], meta, Held(kept["frame"])),))
    )
    assert road is not None and road.is_lane_seen
    assert road.horizon == pytest.approx(camera_info(camera, 48, 96, 0.05).horizon, abs=0.06)
    assert road.lane_heights == pytest.approx(kept["lane_width_m"] / camera.height_m, rel=0.25)


def test_a_simulated_driver_is_tested_on_a_tub_without_being_told_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
):
    tub = write_tub(tmp_path / "tub", 60, height=48, width=64)
    ran = wormwheel(capsys, "evaluate", "--policy", trained, "--data", tub)
    assert ran.code == 0, ran.err
    assert "frames of 64×48 are cropped about the" in ran.err
    if "camera heights" in ran.err:
        assert "as if by --steering-gain" in ran.err
    given = wormwheel(capsys, "evaluate", "--policy", trained, "--data", tub, "--crop-top", 16)
    assert given.code == 0 and "cropped about" not in given.err


def test_training_crops_what_lies_above_the_horizon_unless_a_crop_is_given():
    kept = drive()
    meta = EpisodeMeta("drive", 0.05, 48, 96)
    one = Episode(kept["steering"].astype(np.float32), kept["time"], meta, Held(kept["frame"]))
    view = camera_info(kept["camera"], 48, 96, 0.05)
    assert view.horizon is not None
    frames, why = crop_by_view(EpisodeSet((one,)), FrameOptions(crop_bottom=3))
    assert frames.crop_top == pytest.approx(48 * view.horizon, abs=3) and frames.crop_bottom == 3
    assert "the horizon lies at" in why
    given = FrameOptions(crop_top=0)
    assert crop_by_view(EpisodeSet((one,)), given) == (given, "")
    drawn = replace(one, meta=replace(one.meta, seed=3))
    assert crop_by_view(EpisodeSet((drawn,)), FrameOptions()) == (FrameOptions(), "")
