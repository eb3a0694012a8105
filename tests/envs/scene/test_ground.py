"""The ground from above: which line lies where, how much of its paint is left, how many marks there are; colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from envs.camera.lens import CameraParams
from envs.road.track import Track
from envs.scene.ground import draw_ground, road_region
from envs.scene.look import Line, Look, Surface
from envs.scene.marks import Mark, cracks, old_lines, patches, seams, strays
from envs.scene.standing import StandingEdges

ANGLES = np.linspace(0, 2 * np.pi, 200, endpoint=False)
RING = Track(4.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), 0.5, "ring")
EVEN = Surface((90.0, 90.0, 90.0), (90.0, 90.0, 90.0), 0.0, 0.0, 0.0)
RED, GREEN, BLUE = (230.0, 0.0, 0.0), (0.0, 230.0, 0.0), (0.0, 0.0, 230.0)
LOOK = Look(
    road=EVEN,
    verge=replace(EVEN, dark=(20.0, 60.0, 20.0), bright=(20.0, 60.0, 20.0)),
    left=Line(RED, 0.1),
    right=Line(GREEN, 0.06),
    centre=Line(BLUE, 0.08, dash_m=0.6, gap_m=0.3),
    inset_m=0.1,
)


def across(look: Look, *lateral_m: float) -> list[np.ndarray]:
    """Colours `[360, 3]` along the road at some lateral positions."""
    ground = draw_ground(RING, look, road_region(RING), 64.0)
    found = []
    for lateral in lateral_m:
        points = RING.point(np.linspace(0, RING.length_m, 360, endpoint=False), lateral)
        columns, rows = np.rint((points - [ground.x0, ground.y0]) * ground.pixels_per_m).astype(int).T
        found.append(ground.image[rows, columns].astype(int))
    return found


def test_lines_lie_where_the_look_says_in_their_colours_and_widths():
    places = (0.35, 0.25, -0.37, -0.28, 0.15, 0.45, 0.6, -0.6)
    left, inside_left, right, inside_right, lane, edge, beyond, outside = across(LOOK, *places)
    for seen, colour in ((left, RED), (right, GREEN)):
        assert np.abs(seen - colour).max() <= 2
    for seen in (inside_left, inside_right, lane, edge):
        assert np.abs(seen - 90).max() <= 2, "pavement between the lines, and beside them"
    for seen in (beyond, outside):
        assert np.abs(seen - [20, 60, 20]).max() <= 2


def test_dashes_are_as_long_as_dash_and_gap_say():
    (centre,) = across(LOOK, 0.0)
    painted = centre[:, 2] > 200
    assert painted.mean() == pytest.approx(2 / 3, abs=0.03)
    assert np.diff(painted.astype(int), append=painted[0]).clip(0).sum() == pytest.approx(RING.length_m / 0.9, abs=1)


def test_paint_wears_away():
    shares = []
    for wear in (0.05, 0.5, 0.95):
        (left,) = across(replace(LOOK, wear=wear), 0.35)
        shares.append(float((left[:, 1] < 60).mean()))
    assert shares[0] > 0.85 and shares[0] > shares[1] + 0.15 and shares[1] > shares[2] + 0.15 and shares[2] < 0.4


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (patches, "patches_per_m"),
        (cracks, "cracks_per_m"),
        (strays, "strays_per_m"),
        (seams, "seams_per_m"),
        (old_lines, "old_lines_per_m"),
    ],
)
def test_marks_are_so_many_on_each_metre(make: Callable[[Track, Look], list[Mark]], name: str):
    counts = [len(make(RING, replace(LOOK, seed=seed, **{name: 2.0}))) for seed in range(20)]
    assert np.mean(counts) == pytest.approx(2.0 * RING.length_m, rel=0.1) and len(set(counts)) > 5
    assert make(RING, LOOK) == []


def test_the_sensor_develops_light_step_by_step():
    colours = np.array([[200.0, 100.0, 50.0], [20.0, 20.0, 20.0]])
    light = colours / 255 * [0.9, 1.0, 1.1]
    grey = (light @ [0.299, 0.587, 0.114])[:, None]
    light = grey + 0.5 * (light - grey)
    light = 0.5 + 1.2 * (light - 0.5)
    wanted = np.rint(255 * light.clip(0, 1) ** 1.5)
    made = replace(Look(), gain=(0.9, 1.0, 1.1), saturation=0.5, contrast=1.2, gamma=1.5).develop(colours)
    np.testing.assert_array_equal(made, wanted.astype(np.uint8))
    assert wanted.min() == 0 and wanted.max() > 100


def test_what_is_nearer_hides_what_is_farther():
    edges = StandingEdges(RING, Look(edges="boards"), CameraParams(), 48, 96)

    def board(ahead_m: float) -> np.ndarray:
        return np.array([[ahead_m, y, z] for y, z in ((0.3, 0.0), (-0.3, 0.0), (-0.3, 0.3), (0.3, 0.3))])

    colours = np.array([[200.0, 10.0, 10.0], [10.0, 200.0, 10.0]])
    for order in ([0, 1], [1, 0]):
        frame = np.zeros((48, 96, 3), np.uint8)
        corners = np.stack([board(1.0), board(3.0)])[order]
        edges._paint(frame, corners, colours[order], np.array([0.75, 2.75])[order])
        assert {tuple(colour) for colour in frame.reshape(-1, 3) if colour.max() == 200} == {(200, 10, 10)}
