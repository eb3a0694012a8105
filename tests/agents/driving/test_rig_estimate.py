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
