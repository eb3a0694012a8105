"""Crop by geometry: points of the road fall where they fell at home, whatever the camera."""

from __future__ import annotations

import numpy as np
import pytest

from agents.driving.fit import crop_by_geometry
from envs.camera.info import camera_info
from envs.camera.lens import CameraParams, pitch_for_horizon
from policies.car import CarInfo
from policies.preprocessing import Preprocessing

OWN = Preprocessing(48, 96, crop_top=6, height=32, width=64)
HOME = pitch_for_horizon(CameraParams(forward_m=0.0), 48, 96, 0.3)
POINTS = np.array([[1.5, 0.2, 0.0], [2.0, -0.4, 0.0], [3.0, 0.0, 0.0], [4.0, 1.0, 0.0]])


def car(camera: CameraParams, height: int, width: int, lane_width_m: float = 0.6) -> CarInfo:
    seen = camera_info(camera, height, width, 0.05)
    return CarInfo(
        lane_width_m=lane_width_m,
        camera_height_m=camera.height_m,
        camera_hfov_deg=camera.hfov_deg,
        camera_horizon=seen.horizon,
    )


def places(camera: CameraParams, height: int, width: int, crop: tuple[int, int, int, int], scale: float = 1.0):
    """Where points of the road, in lane widths, fall in what a policy sees, as shares of its picture."""
    column, row = np.moveaxis(camera.pixels(POINTS * scale, height, width), -1, 0)
    top, bottom, left, right = crop
    return np.stack([(column + 0.5 - left) / (width - left - right), (row + 0.5 - top) / (height - top - bottom)])


@pytest.mark.parametrize("height_m", [0.14, 0.2, 0.35])
@pytest.mark.parametrize("hfov_deg", [65.0, 90.0, 110.0])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_points_of_the_road_fall_where_they_fell_at_home(height_m: float, hfov_deg: float, scale: float):
    rows, columns = 240, 320
    new = pitch_for_horizon(CameraParams(height_m=height_m, hfov_deg=hfov_deg, forward_m=0.0), rows, columns, 0.4)
    crop = crop_by_geometry(OWN, car(HOME, 48, 96), car(new, rows, columns, 0.6 * scale), rows, columns)
    assert crop is not None
    there, home = places(new, rows, columns, crop, scale), places(HOME, 48, 96, (6, 0, 0, 0))
    np.testing.assert_allclose(there, home, atol=0.035)


def test_nothing_is_guessed_where_a_camera_is_not_known():
    known = car(HOME, 48, 96)
    assert crop_by_geometry(OWN, known, CarInfo(camera_height_m=0.3), 48, 96) is None
    assert crop_by_geometry(OWN, CarInfo(), known, 48, 96) is None
    assert crop_by_geometry(OWN, known, known, 48, 96) == (6, 0, 0, 0)
