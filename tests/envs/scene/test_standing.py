"""Cones, boards and kerbs that stand along a road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.camera.lens import CameraParams
from envs.lane_keeping.config import LaneKeepingConfig
from envs.road.track import Track
from envs.scene.look import Look
from envs.scene.scene import Scene
from envs.scene.standing import BOARD_M, StandingEdges

ANGLE = np.linspace(0.0, 2.0 * np.pi, 400, endpoint=False)
TRACK = Track(6.0 * np.stack([np.cos(ANGLE), np.sin(ANGLE)], axis=1), 0.3)
"""A circle, driven to the left; the car starts at (6, 0) and drives along y."""
CAMERA = CameraParams()
SIZE = 96, 192


def drawn(edges: str, lateral_m: float = 0.0, camera: CameraParams = CAMERA, seed: int = 0) -> np.ndarray:
    """What stands there alone, on black, for a car so far left of the middle."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    standing = StandingEdges(TRACK, Look(seed=seed, edges=edges), camera, *SIZE)
    standing.draw(frame, 6.0 - lateral_m, 0.0, np.pi / 2, 0.0)
    return frame


def test_the_foot_of_a_wall_is_where_the_edge_of_the_road_is():
    seen, checked = drawn("boards").max(axis=2), 0
    for side in (-1.0, 1.0):
        edge = TRACK.point(np.array([0.7, 0.9, 1.2, 1.6]), np.full(4, side * TRACK.lane_width_m))
        points = np.stack([edge[:, 1], 6.0 - edge[:, 0], np.zeros(4)], axis=1)  # in the frame of the car
        for column, row in CAMERA.pixels(points, *SIZE):
            at, foot = int(round(column)), int(round(row))
            if not (1 <= at < SIZE[1] - 1 and 3 <= foot < SIZE[0] - 3):
                continue
            checked += 1
            assert seen[foot - 3, at] and not seen[foot + 3, at]
    assert checked >= 4


def test_boards_higher_than_the_camera_reach_above_the_horizon_and_kerbs_do_not():
    low = replace(CAMERA, height_m=0.5 * BOARD_M[0])
    horizon = int(low.pixels(np.array([1e4, 0.0, low.height_m]), *SIZE)[1])
    above = {kind: bool(drawn(kind, camera=low)[: horizon - 2].any()) for kind in ("boards", "kerbs")}
    assert above == {"boards": True, "kerbs": False}


def test_from_further_left_the_wall_on_the_right_stands_further_right_and_cones_move():
    edges = []
    for left_m in (0.0, 0.1):
        row = np.asarray(drawn("boards", left_m)[SIZE[0] * 2 // 3].max(axis=1))
        edges.append(int(np.flatnonzero(row[SIZE[1] // 2 :])[0]))
    assert edges[1] > edges[0] + 3
    assert drawn("cones").any() and not np.array_equal(drawn("cones"), drawn("cones", 0.1))


def test_the_same_seed_draws_the_same_and_another_one_others():
    assert np.array_equal(drawn("cones"), drawn("cones"))
    assert any(not np.array_equal(drawn("cones"), drawn("cones", seed=seed)) for seed in (1, 2, 3))


def test_scenes_show_them_and_the_tiny_renderer_refuses():
    looks = (Look(), Look(edges="boards"))
    flat, stands = (Scene(TRACK, look, CAMERA, 48, 96).frame(6.0, 0.0, np.pi / 2, 0.0) for look in looks)
    assert (flat != stands).any(axis=2).mean() > 0.03
    with pytest.raises(ValueError, match="stand up"):
        LaneKeepingConfig(renderer="tiny", markings="cones")
