"""View synthesis: frames from beside the line, and the steering that brings the car back."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from agents.driving.recorded_world import RigOptions, camera_of
from agents.imitation.views import ViewsConfig, ViewSynthesis
from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from envs.camera.lens import CameraParams
from envs.camera.plane import Pose, View
from envs.recorded.line import reckon
from envs.vehicle.vehicle import VehicleParams
from tests.envs.recorded.drives import drive, world

VIEW = View(CameraParams(), 48, 96)
CURVATURE = 1.68


def test_the_correction_steers_back_to_the_line():
    synthesis = ViewSynthesis(VIEW, CURVATURE, ViewsConfig(share=1.0))
    assert synthesis.correction(Pose(left_m=0.1)) < 0 < synthesis.correction(Pose(left_m=-0.1))
    assert synthesis.correction(Pose(yaw_rad=0.1)) < 0, "turned to the left, it steers to the right"
    # A car that follows the label for the distance ahead is back on the line there.
    car = VehicleParams(steering_lag_s=1e-3, steering_rate_radps=1000.0)
    pose = Pose(left_m=0.1, yaw_rad=-0.02)
    steps = 200
    time_s = np.linspace(0.0, synthesis.lookahead_m / 1.5, steps)
    driven = reckon(np.full(steps, synthesis.correction(pose)), np.full(steps, 1.5), time_s, car)
    left = pose.left_m + driven[-1, 0] * np.sin(pose.yaw_rad) + driven[-1, 1] * np.cos(pose.yaw_rad)
    assert abs(left) < 0.02


def test_windows_are_redrawn_as_the_car_beside_the_line_sees_them():
    """A frame of LaneKeeping, synthesised from 8 cm to the left, is nearer to the true one there than to itself."""
    kept, env = drive(), world()
    env.reset(seed=5)
    x, y, yaw = kept["pose"][0]
    left = 0.08
    true = env.scene.frame(x - left * np.sin(yaw), y + left * np.cos(yaw), yaw, env.road_position_m)
    synthesis = ViewSynthesis(View(kept["camera"], 48, 96), CURVATURE, ViewsConfig(share=1.0))
    made = synthesis.reprojector.warp(kept["frame"][0], Pose(left_m=left))
    seen = synthesis.reprojector.inside(synthesis.reprojector.map(Pose(left_m=left)))
    apart = np.abs(made.astype(float) - true)[seen].mean()
    assert apart < 0.5 * np.abs(kept["frame"][0].astype(float) - true)[seen].mean()


def test_a_share_of_the_windows_changes_with_its_labels_and_the_given_arrays_stay():
    frames = torch.from_numpy(np.stack([drive()["frame"][:3]] * 40))
    steering = torch.zeros(40, 3)
    before = frames.clone()
    synthesis = ViewSynthesis(VIEW, CURVATURE, ViewsConfig(share=0.5))
    seen, labels = synthesis(frames, steering, torch.Generator().manual_seed(1))
    changed = (seen != frames).flatten(1).any(1)
    assert 8 < int(changed.sum()) < 32
    assert torch.equal(changed, labels.abs().amax(1) > 0)
    assert torch.equal(frames, before) and not steering.any()
    assert (labels == labels[:, :1]).all() and labels.abs().max() <= 1
    off = ViewSynthesis(VIEW, CURVATURE, ViewsConfig())(frames, steering, torch.Generator())
    assert off[0] is frames


def test_bends_at_full_lock_are_seen_from_both_sides():
    """Were poses left out that ask for more than full lock, a hard bend would only ever be labelled with less."""
    frames = torch.from_numpy(np.stack([drive()["frame"][:1]] * 60))
    synthesis = ViewSynthesis(VIEW, CURVATURE, ViewsConfig(share=1.0))
    seen, labels = synthesis(frames, torch.full((60, 1), 0.97), torch.Generator().manual_seed(1))
    assert (seen != frames).flatten(1).any(1).all()
    assert 15 < int((labels == 1).sum()) < 45, "full lock for about half of them"
    assert labels.max() == 1 and 10 < int((labels < 0.97).sum())


def test_a_camera_without_a_road_is_refused():
    with pytest.raises(ValueError, match="no road"):
        ViewSynthesis(View(CameraParams(pitch_deg=-60.0), 48, 96), CURVATURE, ViewsConfig())


def test_recordings_of_several_cameras_are_not_redrawn_as_if_by_the_first():
    def seen(height_m: float, limit_rad: float = 0.5) -> Episode:
        camera, car = CameraParams(height_m=height_m), VehicleParams(steering_limit_rad=limit_rad)
        extra = {"camera_params": asdict(camera), "vehicle_params": asdict(car)}
        poses = {name: np.zeros(4) for name in ("x_m", "y_m", "yaw_rad")}
        meta = EpisodeMeta("sim", height=24, width=48, extra=extra)
        return Episode(np.zeros(4, np.float32), np.arange(4) / 20, meta, extras=poses)

    camera, curvature, _ = camera_of(EpisodeSet((seen(0.2), seen(0.2))), RigOptions())
    assert camera.height_m == 0.2 and curvature == pytest.approx(math.tan(0.5) / VehicleParams().wheelbase_m)
    for other in (seen(0.3), seen(0.2, 0.4)):
        with pytest.raises(ValueError, match="one camera and one car were expected, these recordings have 2"):
            camera_of(EpisodeSet((seen(0.2), other)), RigOptions())


def test_places_beside_the_line_and_turns_are_drawn_apart_and_to_both_ends(monkeypatch: pytest.MonkeyPatch):
    synthesis = ViewSynthesis(VIEW, CURVATURE, ViewsConfig(share=1.0, most_yaw_rad=0.2))
    poses: list[Pose] = []
    monkeypatch.setattr(synthesis.reprojector, "map", lambda pose: poses.append(pose))
    monkeypatch.setattr(synthesis.reprojector, "warp", lambda frame, pose, places: frame)
    synthesis(torch.zeros(400, 1, 48, 96, 3, dtype=torch.uint8), torch.zeros(400, 1), torch.Generator().manual_seed(0))
    left, yaw = (np.array([getattr(pose, name) for pose in poses]) for name in ("left_m", "yaw_rad"))
    assert abs(np.corrcoef(left, yaw)[0, 1]) < 0.2
    for drawn, most in ((left, synthesis.most_left_m), (yaw, 0.2)):
        assert -most <= drawn.min() < -0.97 * most and 0.97 * most < drawn.max() <= most
        assert drawn.std() == pytest.approx(most / 3**0.5, rel=0.1)
