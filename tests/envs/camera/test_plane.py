"""Reprojection over a flat road."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from envs.camera.lens import CameraParams
from envs.camera.plane import Pose, Reprojector, View

PINHOLE = CameraParams(roll_deg=2.0, yaw_deg=-1.5, lateral_m=0.03)
FISHEYE = CameraParams(lens=0.6, hfov_deg=120.0, pixel_aspect=0.9)


def stated(view: View, pose: Pose, wanted: View) -> np.ndarray:
    """The homography K' R (I − t nᵀ / h) K⁻¹ of two pinholes, by the book: from wanted pixels to seen ones."""

    def intrinsics(one: View) -> np.ndarray:
        focal_x, focal_y = one.camera.focal_px(one.source_width)
        return np.array(
            [[focal_x, 0, (one.source_width - 1) / 2], [0, focal_y, (one.source_height - 1) / 2], [0, 0, 1]]
        )

    def outward(one: View) -> tuple[np.ndarray, np.ndarray]:
        """Rotation from the car to the camera's picture axes (right, down, ahead), and the camera's place."""
        axes = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
        camera = one.camera
        return axes @ camera.rotation().T, np.array([camera.forward_m, camera.lateral_m, camera.height_m])

    turn = np.array(
        [
            [math.cos(pose.yaw_rad), -math.sin(pose.yaw_rad), 0],
            [math.sin(pose.yaw_rad), math.cos(pose.yaw_rad), 0],
            [0, 0, 1],
        ]
    )
    ours, our_place = outward(wanted)
    theirs, their_place = outward(view)
    # Road points X (z = 0) in the frame of the wanted car: x ~ K R (X − c); in the other car: turn X + t.
    to_road = np.linalg.inv(intrinsics(wanted) @ ours @ np.column_stack([[1, 0, 0], [0, 1, 0], -our_place]))
    moved = np.column_stack([turn[:, 0], turn[:, 1], np.array([pose.forward_m, pose.left_m, 0.0]) - their_place])
    return intrinsics(view) @ theirs @ moved @ to_road


@pytest.mark.parametrize("other", [PINHOLE, CameraParams(height_m=0.3, pitch_deg=20.0, hfov_deg=70.0)])
def test_pinholes_are_related_by_the_homography_of_the_road(other: CameraParams):
    seen, wanted, pose = View(PINHOLE, 48, 96), View(other, 48, 96), Pose(0.05, -0.2, 0.15)
    places, on_road = Reprojector(seen, wanted).map(pose), wanted.points()[1]
    rows, columns = np.nonzero(on_road)
    expected = stated(seen, pose, wanted) @ np.stack([columns, rows, np.ones_like(rows)]).astype(float)
    ahead = expected[2] > 1e-6
    np.testing.assert_allclose(places[rows, columns][ahead], (expected[:2] / expected[2]).T[ahead], atol=0.02)


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE])
def test_the_same_pose_is_the_same_picture_cut_and_resized_or_not(camera: CameraParams):
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (48, 96, 3), np.uint8), (5, 5), 0)
    np.testing.assert_allclose(Reprojector(View(camera, 48, 96)).warp(frame, Pose()), frame, atol=1)
    cut = View(camera, 48, 96, crop_top=8, crop_left=6, crop_right=10)
    np.testing.assert_allclose(Reprojector(View(camera, 48, 96), cut).warp(frame, Pose()), frame[8:, 6:-10], atol=1)
    half = View(camera, 48, 96, height=24, width=48)
    small = frame.reshape(24, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(Reprojector(View(camera, 48, 96), half).warp(frame, Pose()) - small).mean() < 1.5


def test_a_pinhole_by_its_short_cut_is_the_lens_in_its_limit():
    pose = Pose(0.1, -0.15, 0.2)
    for cut in ({}, {"crop_top": 9, "crop_left": 3, "height": 30, "width": 50}):
        exact = Reprojector(View(PINHOLE, 48, 96, **cut)).map(pose)
        almost = Reprojector(View(replace(PINHOLE, lens=1.0 - 1e-9), 48, 96, **cut)).map(pose)
        seen = (np.abs(exact) < 500).all(axis=2)
        assert seen.mean() > 0.9
        np.testing.assert_allclose(exact[seen], almost[seen], atol=0.02)


def test_from_the_left_the_near_road_lies_further_right_and_the_horizon_stays():
    shift = Reprojector(View(CameraParams(), 48, 96)).map(Pose(left_m=0.1))[:, 48, 0] - 48
    assert shift[-1] < -5, "what stands in the middle from the left was left of it: its column is smaller"
    assert abs(shift[0]) < 0.01
    turned = Reprojector(View(CameraParams(), 48, 96)).map(Pose(yaw_rad=0.1))[:, 48, 0] - 48
    assert turned[0] < -3 and turned[-1] < -3, "turned left, all that is in the middle was to the left"


def test_less_of_the_road_is_shown_from_farther_away():
    reprojector = Reprojector(View(CameraParams(), 48, 96))
    shares = [reprojector.shown(Pose(left_m=left)) for left in (0.0, 0.1, 0.3, 0.6)]
    assert shares[0] == 1.0 and sorted(shares, reverse=True) == shares
    reach = reprojector.reach(0.6)
    assert reprojector.shown(Pose(left_m=0.98 * reach)) >= 0.6 > reprojector.shown(Pose(left_m=1.02 * reach))
    assert 0.2 < reprojector.reach(0.6, of_yaw=True) < 0.6


def test_what_the_first_frame_did_not_see_comes_from_the_second():
    reprojector = Reprojector(View(CameraParams(), 48, 96))
    red, blue = np.zeros((48, 96, 3), np.uint8), np.zeros((48, 96, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    behind = Pose(forward_m=0.6, left_m=0.3)
    picture = reprojector.compose([(lambda: red, Pose(left_m=0.3)), (lambda: blue, behind)])
    first = reprojector.inside(reprojector.map(Pose(left_m=0.3)))
    assert (picture[first, 0] > 150).all()
    filled = ~first & reprojector.inside(reprojector.map(behind))
    assert filled.sum() > 100 and (picture[filled, 2] > 150).all()
    with pytest.raises(ValueError, match="at least one frame"):
        reprojector.compose([])
