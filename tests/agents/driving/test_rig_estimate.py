"""Speed, curvature at full lock and delay from frames alone, against a drive in LaneKeeping where they are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.driving import rig_estimate
from agents.driving.recorded_world import RigOptions, rig_from_frames
from agents.driving.rig_estimate import estimate_rig
from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from envs.camera.info import camera_info
from tests.envs.recorded.drives import drive


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
