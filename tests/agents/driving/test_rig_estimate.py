"""Speed, curvature at full lock and delay from frames alone, against a drive in LaneKeeping where they are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.driving import recorded_world, rig_estimate
from agents.driving.recorded_world import RIGS, RigOptions, rig_from_frames, rig_of
from agents.driving.rig_estimate import RigEstimate, estimate_rig
from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from agents.recordings.options import ReadOptions
from envs.camera.info import camera_info
from tests.agents.recordings.makers import make_native
from tests.envs.recorded.drives import drive
from tests.experiments.verbs import write_tub


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rig_estimate, "PAIRS", 20)


@dataclass
class Frames:
    """Frames held in memory."""

    frames: NDArray[np.uint8]

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return self.frames[start:stop], np.ones(stop - start, bool)


def episode(**changes: Any) -> Episode:
    """The drive as a camera and a log would have it: frames, steering and time."""
    kept = drive()
    meta = EpisodeMeta("drive", 0.05, 48, 96, **changes)
    return Episode(kept["steering"].astype(np.float32), kept["time"], meta, Frames(kept["frame"]))


def horizon() -> float:
    found = camera_info(drive()["camera"], 48, 96, 0.05).horizon
    assert found is not None
    return found


def test_speed_curvature_and_delay_are_those_of_the_drive():
    kept = drive()
    camera, car = kept["camera"], kept["car"]
    found = estimate_rig([episode()], camera, horizon())
    assert found is not None and found.is_sure and found.agreement > 0.9
    assert found.way_heights_per_s == pytest.approx(kept["speed"].mean() / camera.height_m, rel=0.1)
    curvature = math.tan(car.steering_limit_rad) / car.wheelbase_m
    assert found.full_lock_curvature_heights == pytest.approx(curvature * camera.height_m, rel=0.2)
    assert found.steering_lag_s <= 0.2


def test_steering_that_has_nothing_to_do_with_the_pictures_is_not_relied_on():
    one = episode()
    drawn = np.random.default_rng(0).uniform(-1, 1, len(one)).astype(np.float32)
    found = estimate_rig([replace(one, steering=drawn)], drive()["camera"], horizon())
    assert found is None or not found.is_sure
    still = Frames(np.repeat(drive()["frame"][:1], len(one), axis=0))
    found = estimate_rig([replace(one, source=still)], drive()["camera"], horizon())
    assert found is None or not found.is_sure


def test_only_turns_that_are_seen_well_count(monkeypatch: pytest.MonkeyPatch):
    steering = np.linspace(-1.0, 1.0, 21)
    turns = np.arange(21)[:, None, None] + len(rig_estimate.TURNS_PX) // 2 - 10
    off = np.abs(np.arange(len(rig_estimate.TURNS_PX))[None, :, None] - turns)
    away = np.abs(np.arange(len(rig_estimate.WAYS_HEIGHTS)) - 8)
    matches = 0.9 - 0.01 * off - 0.02 * away
    dim = np.repeat((0.2 - 0.001 * off - 0.001 * away)[::4], 2, axis=0)[:, ::-1]  # turns to the other side, badly seen
    none = np.zeros((8, 8), np.float32)
    held = np.repeat(steering[:, None], 3, axis=1), np.repeat(steering[::4].repeat(2)[:, None], 3, axis=1)
    way = float(rig_estimate.WAYS_HEIGHTS[8])
    pairs = [rig_estimate._Pair(none, none, np.arange(3) / 10, one, 0, way) for part in held for one in part]
    monkeypatch.setattr(rig_estimate, "_matches", lambda *given: np.concatenate([matches, dim]))
    camera = drive()["camera"]
    found = estimate_among(pairs, camera)
    step_px = float(rig_estimate.TURNS_PX[1] - rig_estimate.TURNS_PX[0])
    turned = step_px / camera.focal_px(rig_estimate.WIDTH)[0] / (steering[1] - steering[0])
    assert found.pairs == 21 and found.agreement == pytest.approx(1.0)
    assert found.full_lock_curvature_heights == pytest.approx(turned / (way * found.way_heights_per_s), rel=0.01)
    assert found.way_heights_per_s == pytest.approx(1.0, abs=0.06)


def estimate_among(pairs: list[Any], camera: Any) -> RigEstimate:
    found = rig_estimate._estimate(pairs, camera, 0.3)
    assert found is not None
    return found


def test_the_wheels_follow_the_steering_from_before_the_pair_on():
    steering, time_s = np.array([0.0, 1.0, 1.0, 1.0, -1.0]), 0.1 * np.arange(5)
    none = np.zeros((8, 8), np.float32)
    wheels = 1.0 - np.exp(-np.array([0.1, 0.2, 0.3]) / 0.2)
    pair = rig_estimate._Pair(none, none, time_s, steering, 2, 1.0)
    assert rig_estimate._held(pair, 0.2) == pytest.approx((wheels[0] / 2 + wheels[1] + wheels[2] / 2) / 2)


def test_the_way_of_a_pair_is_its_time_at_its_own_speed():
    one = episode()
    speed = np.linspace(0.0, 4.0, len(one)).astype(np.float32)
    for pair in rig_estimate._pairs([replace(one, extras={"speed_mps": speed})]):
        at = int(np.flatnonzero(one.time_s == pair.time_s[pair.start])[0])
        gap = len(pair.time_s) - 1 - pair.start
        assert pair.way == pytest.approx(0.05 * gap * float(speed[at : at + gap].mean()), rel=1e-3)
        np.testing.assert_array_equal(pair.steering, one.steering[at - pair.start : at + gap + 1])


def test_the_world_of_a_recording_takes_what_is_not_given_from_its_frames():
    kept = drive()
    camera = kept["camera"]
    given = RigOptions(
        horizon=horizon(),
        hfov_deg=camera.hfov_deg,
        lens=camera.lens,
        camera_height_m=2 * camera.height_m,
        camera_forward_m=2 * camera.forward_m,
    )
    rig, words = rig_from_frames(EpisodeSet((episode(),)), given)
    assert rig.camera_height_m == 2 * camera.height_m and rig.horizon == horizon()
    assert rig.speed_mps == pytest.approx(2 * kept["speed"].mean(), rel=0.1), "twice the height, twice the speed"
    assert "from the frames" in words and "correlate" in words
    knowing = replace(episode(), extras={"speed_mps": kept["speed"]})
    rig, _ = rig_from_frames(EpisodeSet((knowing,)), replace(given, camera_height_m=None))
    assert rig.speed_mps is None and rig.camera_height_m == pytest.approx(camera.height_m, rel=0.1)
    assert rig_from_frames(EpisodeSet((knowing,)), rig)[0] == rig, "what stands in the world is not estimated again"


def test_what_is_given_comes_before_what_the_recording_knows_and_that_before_its_kind():
    known = {"camera_height_m": 0.4, "camera_horizon": 0.3}
    meta = EpisodeMeta("tub", vehicle="donkeycar", extra={"car": known, "lane_width_m": 0.7})
    episode = Episode(np.zeros(2, np.float32), np.arange(2) / 20, meta)
    found = rig_of(episode, RigOptions(camera_height_m=0.9))
    kind = RIGS["donkeycar"]
    assert (found.camera_height_m, found.horizon, found.lane_width_m) == (0.9, 0.3, 0.7)
    assert (found.hfov_deg, found.speed_mps) == (kind.hfov_deg, kind.speed_mps)
    bare = rig_of(episode, RigOptions(), guess=False)
    assert (bare.camera_height_m, bare.hfov_deg, bare.speed_mps) == (0.4, None, None)


def test_what_was_said_of_camera_and_car_is_what_is_driven_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All frames are asked once: not again those of the part that is driven along, which may answer otherwise."""
    asked: list[int] = []

    def estimate(*_: Any) -> RigEstimate | None:
        asked.append(1)
        return None if len(asked) == 1 else RigEstimate(60.0, 20.0, 1.0, 0.1, 0.9, 0.9, 30)

    monkeypatch.setattr(recorded_world, "estimate_rig", estimate)
    said: list[str] = []
    tub = write_tub(tmp_path / "tub", 60)
    world = recorded_world.recorded_world([tub], None, ReadOptions(from_s=1.0), said.append)
    (footage,) = recorded_world.footage_of(world)
    assert "camera and car are guesses" in said[0] and len(asked) == 1
    assert footage.camera.hfov_deg == RIGS["donkeycar"].hfov_deg


def test_a_recording_with_another_speed_is_another_world(tmp_path: Path):
    make_native(tmp_path / "set", (8,))
    rig = RigOptions(camera_height_m=0.2, hfov_deg=90.0, horizon=0.3, full_lock_curvature_per_m=1.0)
    code = recorded_world.recorded_world([tmp_path / "set"], rig).code
    np.save(tmp_path / "set" / "episode_000000" / "speed_mps.npy", np.full(8, 3.0))
    assert recorded_world.recorded_world([tmp_path / "set"], rig).code != code
