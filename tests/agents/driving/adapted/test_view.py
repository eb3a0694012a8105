"""Frames of a camera that sits otherwise, redrawn."""

from __future__ import annotations

import numpy as np
import pytest

from agents.driving.adapted.view import Redrawing, ViewShift, camera_of
from envs.camera.lens import CameraParams
from envs.camera.plane import View
from policies.car import CarInfo
from policies.policy import PolicyConfig
from policies.preprocessing import Preprocessing

CAR = CarInfo(camera_height_m=0.2, camera_pitch_deg=12.0, camera_hfov_deg=90.0)
CONFIG = PolicyConfig(car=CAR)


def seen(camera: CameraParams, fit: Preprocessing = CONFIG.preprocessing) -> np.ndarray:
    """A soft pattern on the road, and a sky that depends on the direction alone, as a camera sees them."""
    crops = (fit.crop_top, fit.crop_bottom, fit.crop_left, fit.crop_right)
    points, on_road = View(camera, fit.source_height, fit.source_width, *crops, fit.height, fit.width).points()
    x, y = points[..., 0], points[..., 1]
    road = 120 + 60 * np.sin(3.0 * np.clip(x, 0, 4)) + 50 * np.sin(6.0 * np.clip(y, -2, 2))
    grey = np.where(on_road & (x < 4.0), road, 120.0)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    "shift",
    [ViewShift(-6.0), ViewShift(6.0), ViewShift(0.0, -12.0), ViewShift(0.0, 0.0, 1.6), ViewShift(3.0, 5.0, 0.8)],
)
@pytest.mark.parametrize("fit", [Preprocessing(), Preprocessing(120, 160, 40, 10, 3, 7, height=40, width=80)])
def test_a_shifted_camera_is_redrawn_as_the_one_from_before(shift: ViewShift, fit: Preprocessing):
    config = PolicyConfig(car=CAR, preprocessing=fit)
    own = CameraParams(height_m=0.2, pitch_deg=12.0, hfov_deg=90.0)
    there = CameraParams(
        height_m=0.2 * shift.height, pitch_deg=12.0 + shift.pitch_deg, yaw_deg=shift.yaw_deg, hfov_deg=90.0
    )
    drawn = Redrawing(config, shift)(seen(there, fit)[None])[0].astype(float)
    wanted = seen(own, fit).astype(float)
    middle = (slice(fit.height // 2, 3 * fit.height // 4), slice(fit.width // 4, 3 * fit.width // 4))
    before = np.abs(seen(there, fit)[middle].astype(float) - wanted[middle]).mean()
    assert np.abs(drawn[middle] - wanted[middle]).mean() < min(6.0, 0.5 * before)
    back = Redrawing(config, shift, back=True)(seen(own, fit)[None])[0].astype(float)
    assert np.abs(back[middle] - seen(there, fit)[middle]).mean() < 8.0


def test_a_camera_that_is_not_known_is_not_redrawn():
    assert camera_of(None) is None and camera_of(CarInfo(camera_height_m=0.2)) is None
    assert camera_of(CarInfo(camera_height_m=0.2, camera_pitch_deg=12.0, camera_hfov_deg=200.0)) is None, "no pinhole"
    with pytest.raises(ValueError, match="does not say height, pitch and field of view"):
        Redrawing(PolicyConfig(), ViewShift(3.0))


def test_a_view_says_what_is_different():
    assert ViewShift().is_none and ViewShift().text() == ""
    assert ViewShift(-6.0, 2.5, 1.6).text() == "pitch -6.0°, yaw +2.5°, height ×1.60"
