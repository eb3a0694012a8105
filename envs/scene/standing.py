"""What stands along the edges of a road: cones and cups, boards, kerbs.

Everything else in a scene is flat, and comes from one look-up in a picture of the ground. What stands up is drawn on
top of that: polygons of points in the world, seen through the true lens, the farthest first. A cone looks the same from
all sides, so it is a flat figure that faces the camera; boards and kerbs are walls cut into short pieces.

    standing = StandingEdges(track, replace(Look(), edges="cones"), CameraParams(), 48, 96)
    standing.draw(frame, x=0.0, y=0.0, yaw=0.0, s=0.0)  # in place
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from envs.camera.lens import CameraParams, FloatArray
from envs.camera.warp import Image
from envs.road.track import Track
from envs.scene.look import Color, Look

EDGES = ("", "cones", "boards", "kerbs")
"""What can stand along both edges of a road; nothing for ""."""
AHEAD_M, BEHIND_M = 9.0, 0.6
"""What stands so far ahead of the car and behind it along the road is drawn, m."""
NEAREST_M = 0.04
"""What is nearer than this ahead of the lens is left out, m."""
CONE_GAP_LANES = 1.6
"""Distance between two cones of a side, in widths of a lane of the track, of which the lane here has two."""
PIECE_M = 0.15
"""Length of a piece of a board or a kerb, m."""
PIECES_A_BOARD, PIECES_A_KERB = 8, 2
"""Pieces of one shade in a row."""
CONE = ((0.045, 0.0), (0.012, 0.14))
"""Half width and height, m, of a cone's foot and tip."""
CUP = ((0.03, 0.0), (0.042, 0.11))
"""The same of a cup that stands on its foot."""
BOARD_M, KERB_M = (0.14, 0.3), (0.03, 0.05)
"""Lowest and highest boards and kerbs, m."""
CONE_COLORS: tuple[Color, ...] = ((236.0, 96.0, 28.0), (225.0, 70.0, 50.0), (232.0, 200.0, 40.0))
CUP_COLORS: tuple[Color, ...] = ((196.0, 34.0, 40.0), (40.0, 70.0, 170.0), (235.0, 235.0, 230.0))
BOARD_COLORS: tuple[Color, ...] = ((188.0, 150.0, 104.0), (225.0, 222.0, 214.0), (70.0, 72.0, 78.0))
KERB_COLORS: tuple[tuple[Color, Color], ...] = (
    ((150.0, 148.0, 142.0), (132.0, 130.0, 126.0)),
    ((190.0, 50.0, 45.0), (236.0, 236.0, 230.0)),
)
BAND: Color = (240.0, 240.0, 236.0)
"""The band around a cone."""
FINE = 4
"""Bits of a pixel's fraction that polygons are drawn with."""


class _Walls(NamedTuple):
    """Pieces of walls, each between two places on the ground."""

    s: FloatArray  # [N]
    points: FloatArray  # [N, 4, 3] in the world
    colors: FloatArray  # [N, 3]


class _Figures(NamedTuple):
    """Flat figures that face the camera, all alike, in slices from the foot up."""

    s: FloatArray  # [N]
    places: FloatArray  # [N, 2]
    halves: FloatArray  # [K, 4] half widths at the corners of each slice, positive to the left
    heights: FloatArray  # [K, 4]
    colors: FloatArray  # [K, 3]


class StandingEdges:
    """Draws what stands along both edges of a road into frames of one camera."""

    def __init__(self, track: Track, look: Look, params: CameraParams, height: int, width: int):
        """Place everything; the seed of the look draws kinds, sizes and colours.

        Args:
            track: the road; its edges are a lane width away from its centre line.
            look: says what stands there, in `edges`: not nothing.
            params: camera pose and lens.
            height: rows of the frames.
            width: columns of the frames.
        """
        self._params, self._size, self._length_m = params, (height, width), track.length_m
        self._lens = np.array([params.forward_m, params.lateral_m])
        generator = np.random.default_rng([look.seed, 21])
        self._things = (_figures if look.edges == "cones" else _walls)(track, look, generator)

    def draw(self, frame: Image, x: float, y: float, yaw: float, s: float) -> None:
        """Draw what a car at a pose sees of it, over the frame, in place.

        Args:
            frame: uint8 `[H, W, 3]`.
            x: position of the rear axle, m.
            y: position of the rear axle, m.
            yaw: direction of the car, rad.
            s: arc length along the road, m.
        """
        things = self._things
        near = np.flatnonzero((things.s - s + BEHIND_M) % self._length_m < AHEAD_M + BEHIND_M)
        turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])  # from world to car
        if isinstance(things, _Walls):
            points = things.points[near]
            here = np.concatenate([(points[..., :2] - [x, y]) @ turn, points[..., 2:]], axis=-1)  # [n, 4, 3]
            away = np.hypot(*np.moveaxis(here[..., :2].mean(axis=1) - self._lens, -1, 0))
            self._paint(frame, here, things.colors[near], away)
            return
        places = (things.places[near] - [x, y]) @ turn
        to = places - self._lens
        away = np.maximum(np.hypot(to[:, 0], to[:, 1]), 1e-6)
        left = np.stack([-to[:, 1], to[:, 0]], axis=1) / away[:, None]
        slices = len(things.colors)
        flat = places[:, None, None] + things.halves[..., None] * left[:, None, None]  # [n, K, 4, 2]
        up = np.broadcast_to(things.heights[..., None], (len(near), slices, 4, 1))
        here = np.concatenate([flat, up], axis=-1).reshape(-1, 4, 3)
        self._paint(frame, here, np.tile(things.colors, (len(near), 1)), np.repeat(away, slices))

    def _paint(self, frame: Image, corners: FloatArray, colors: FloatArray, away: FloatArray) -> None:
        """Draw polygons `[N, 4, 3]` in the frame of the car, the farthest from the lens first."""
        height, width = self._size
        keep = corners[..., 0].min(axis=1) > self._lens[0] + NEAREST_M
        pixels = self._params.pixels(corners[keep], height, width)  # [n, 4, 2]
        shown = np.isfinite(pixels).all(axis=(1, 2)) & (np.abs(pixels) < 20 * (height + width)).all(axis=(1, 2))
        outside = (pixels.max(axis=1) < 0).any(axis=-1) | (pixels.min(axis=1) > [width, height]).any(axis=-1)
        shown &= ~outside
        places = np.rint(pixels[shown] * 2**FINE).astype(np.int32)
        tones = colors[keep][shown].tolist()
        for number in np.argsort(-away[keep][shown], kind="stable"):
            cv2.fillConvexPoly(frame, places[number], tones[number], cv2.LINE_AA, FINE)


def _figures(track: Track, look: Look, generator: np.random.Generator) -> _Figures:
    """Cones or cups, all of a road of one kind and colour, each a little off its place."""
    kind, choices = (CONE, CONE_COLORS) if generator.random() < 0.6 else (CUP, CUP_COLORS)
    size, color = generator.uniform(0.8, 1.4), choices[int(generator.integers(len(choices)))]
    count = max(4, round(track.length_m / (CONE_GAP_LANES * track.lane_width_m)))
    stations, places = [], []
    for side in (-1.0, 1.0):
        along = (np.arange(count) + generator.uniform(-0.1, 0.1, count)) * track.length_m / count
        stations.append(along)
        places.append(track.point(along, side * track.lane_width_m * (1.0 + generator.uniform(-0.04, 0.08, count))))
    (foot, low), (tip, high) = kind
    cuts = np.array([0.0, 0.4, 0.65, 1.0])  # below the band, the band, above it
    half, up = size * (foot + cuts * (tip - foot)), size * (low + cuts * (high - low))
    halves = np.stack([-half[:-1], half[:-1], half[1:], -half[1:]], axis=1)
    heights = np.stack([up[:-1], up[:-1], up[1:], up[1:]], axis=1)
    colors = look.develop(np.array([color, BAND, color])).astype(np.float64)
    return _Figures(np.concatenate(stations), np.concatenate(places), halves, heights, colors)


def _walls(track: Track, look: Look, generator: np.random.Generator) -> _Walls:
    """Boards or kerbs along both edges, in pieces."""
    boards = look.edges == "boards"
    height_m = float(generator.uniform(*(BOARD_M if boards else KERB_M)))
    if boards:
        first = np.array(BOARD_COLORS[int(generator.integers(len(BOARD_COLORS)))])
        pair, every = np.stack([first, first * generator.uniform(0.85, 0.95)]), PIECES_A_BOARD
    else:
        pair, every = np.array(KERB_COLORS[int(generator.integers(len(KERB_COLORS)))]), PIECES_A_KERB
    count = max(8, round(track.length_m / PIECE_M))
    stations = np.arange(count + 1) * track.length_m / count
    pieces = []
    for side in (-1.0, 1.0):
        feet = track.point(stations, np.full(count + 1, side * track.lane_width_m))
        low = np.concatenate([feet, np.zeros((count + 1, 1))], axis=1)
        high = low + [0.0, 0.0, height_m]
        pieces.append(np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1))
    colors = look.develop(pair[np.arange(count) // every % 2]).astype(np.float64)
    return _Walls(np.tile(stations[:-1], 2), np.concatenate(pieces), np.tile(colors, (2, 1)))
