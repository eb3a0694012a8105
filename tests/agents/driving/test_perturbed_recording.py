"""Recordings under perturbations: a dose is the same for a model car and for one of full size."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from agents.driving.open_loop import CAMERA_M, PerturbedRecording
from agents.driving.record import RecorderConfig, record
from agents.recordings import load_episodes
from agents.recordings.episodes import Episode
from envs.camera.info import CameraInfo, camera_info
from envs.camera.lens import CameraParams
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from tests.agents.toys import episode


def of(vehicle: str, speed_mps: float | None) -> Episode:
    made = episode(40)
    extras = {} if speed_mps is None else {"speed_mps": np.full(40, speed_mps, np.float32)}
    return replace(made, meta=replace(made.meta, vehicle=vehicle), extras=extras)


def shown(made: Episode, perturbation: str) -> np.ndarray:
    return PerturbedRecording(made, perturbation, seed=3).take(0, 40).frames.astype(int)


@pytest.mark.parametrize("name", ["motion_blur:4", "moving_shadows:5"])
def test_what_moves_with_the_car_moves_by_camera_heights(name: str):
    model = shown(of("bicycle", 1.5), name)
    for vehicle in CAMERA_M:
        np.testing.assert_array_equal(shown(of(vehicle, 9.0), name), model)
        np.testing.assert_array_equal(shown(of(vehicle, None), name), model)
    for other in (of("bicycle", None), of("donkeycar", None), of("bicycle", float("nan"))):
        np.testing.assert_array_equal(shown(other, name), model)
    assert (shown(of("car", 1.5), name) != model).any(), "a slow car"


def test_pieces_and_other_pictures():
    made = of("car", 9.0)
    whole = PerturbedRecording(made, "gaussian:2+lower_rate:3", 1)
    parts = PerturbedRecording(made, "gaussian:2+lower_rate:3", 1)
    taken = [parts.take(at, at + 10) for at in range(0, 40, 10)]
    np.testing.assert_array_equal(np.concatenate([part.frames for part in taken]), whole.take(0, 40).frames)
    black = PerturbedRecording(made, "", 1).take(0, 40, np.zeros_like(made.frames()))
    assert not black.frames.any() and black.kept.tolist() == list(range(40))
    assert PerturbedRecording(made, "mirrored:5", 1).steering_sign == -1.0
    with pytest.raises(ValueError, match="needs an env that answers"):
        PerturbedRecording(made, "friction:2", 1)


def test_a_recording_that_knows_its_camera_is_perturbed_by_it():
    made, camera = of("bicycle", 1.5), CameraParams(height_m=0.3, pitch_deg=25.0, hfov_deg=120.0)
    known = replace(made, meta=replace(made.meta, extra={"camera_params": asdict(camera)}))
    clip = PerturbedRecording(known, "", 1).clip
    assert clip == camera_info(camera, made.meta.height, made.meta.width, made.meta.nominal_period_s)
    assert clip.height_m == 0.3 and clip.horizon != CameraInfo.horizon
    assert (shown(known, "camera_yaw:5") != shown(made, "camera_yaw:5")).any()
    wrong = replace(made, meta=replace(made.meta, extra={"camera_params": {"height": "high"}}))
    with pytest.raises(ValueError, match="should be those of a camera"):
        PerturbedRecording(wrong, "", 1)


def test_a_drive_and_its_recording_have_one_camera(tmp_path: Path):
    world = LaneKeepingConfig(vehicle="bicycle", variety=1.0, height=16, width=32, episode_s=0.5, pixels_per_m=24.0)
    record(tmp_path, world, RecorderConfig(frames=10))
    (made,) = load_episodes(tmp_path)
    env = LaneKeepingEnv(world)
    env.reset(seed=made.meta.seed)
    assert PerturbedRecording(made, "", 1).clip == env.camera_info()
