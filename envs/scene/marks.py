"""Marks on the ground: patches, cracks, seams, and lines and strays that mean nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.road.curves import FloatArray
from envs.road.track import Track
from envs.scene.look import Look


class Mark(NamedTuple):
    """Something drawn on the ground: a polygon when `width_m` is 0, else a line."""

    points: FloatArray
    width_m: float
    shade: float
    opacity: float


def boxes(marks: list[Mark]) -> FloatArray:
    """`[M, 2, 2]` lowest and highest x and y of each mark."""
    corners = [(mark.points.min(axis=0), mark.points.max(axis=0)) for mark in marks]
    return np.array(corners).reshape(-1, 2, 2)


def touching(marks: list[Mark], boxes: FloatArray, low: FloatArray, high: FloatArray) -> list[Mark]:
    """The marks, given with their boxes, that touch a rectangle from `low` to `high`."""
    inside = np.all((boxes[:, 0] < high) & (boxes[:, 1] > low), axis=1)
    return [marks[number] for number in np.flatnonzero(inside)]


def patches(track: Track, look: Look) -> list[Mark]:
    """Repaired patches of the pavement."""
    rng = np.random.default_rng([look.seed, 2])
    count, half = int(rng.poisson(look.patches_per_m * track.length_m)), track.lane_width_m
    s, lateral = rng.uniform(0.0, track.length_m, count), rng.uniform(-half, half, count)
    length, width = rng.uniform(0.1, 1.2, count), rng.uniform(0.1, 0.5, count)
    shades = np.clip(128.0 + rng.normal(0.0, 45.0, count), 0.0, 255.0)
    none = np.zeros(count)
    along = s[:, None] + np.stack([none, length, length, none], axis=1)
    across = np.clip(lateral[:, None] + np.stack([none, none, width, width], axis=1), -half, half)
    return [
        Mark(points, 0.0, float(shade), 0.5) for points, shade in zip(track.point(along, across), shades, strict=True)
    ]


def cracks(track: Track, look: Look) -> list[Mark]:
    """Cracks and tar seams."""
    rng = np.random.default_rng([look.seed, 8])
    count, half = int(rng.poisson(look.cracks_per_m * track.length_m)), track.lane_width_m
    along = rng.uniform(0.0, track.length_m, (count, 1)) + np.cumsum(rng.normal(0.0, 0.12, (count, 8)), axis=1)
    across = rng.uniform(-half, half, (count, 1)) + np.cumsum(rng.normal(0.0, 0.08, (count, 8)), axis=1)
    lines = track.point(along, np.clip(across, -half, half))
    widths, shades = rng.uniform(0.004, 0.02, count), rng.uniform(0.0, 70.0, count)
    return [Mark(*mark, 1.0) for mark in zip(lines, widths.tolist(), shades.tolist(), strict=True)]


def strays(track: Track, look: Look) -> list[Mark]:
    """Marks that mean nothing: bits of tape, old lines, tyre tracks."""
    rng = np.random.default_rng([look.seed, 3])
    count = int(rng.poisson(look.strays_per_m * track.length_m))
    start = track.point(rng.uniform(0.0, track.length_m, count), rng.uniform(-3.0, 3.0, count) * track.lane_width_m)
    bend = np.cumsum(rng.normal(0.0, 0.4, (count, 6)), axis=1) * rng.integers(2, size=(count, 1))
    angle = rng.uniform(0.0, 2.0 * np.pi, (count, 1)) + bend
    step = rng.uniform(0.1, 3.0, (count, 1)) / 6.0
    lines = start[:, None] + np.cumsum(np.stack([step * np.cos(angle), step * np.sin(angle)], axis=-1), axis=1)
    shades, opacities = rng.choice([20.0, 60.0, 200.0, 235.0], count), rng.uniform(0.15, 0.6, count)
    widths = rng.uniform(0.01, 0.05, count)
    columns = zip(lines, widths.tolist(), shades.tolist(), opacities.tolist(), strict=True)
    return [Mark(*column) for column in columns]


def seams(track: Track, look: Look) -> list[Mark]:
    """Long seams of tar that run along the road and wander a little."""
    rng = np.random.default_rng([look.seed, 11])
    count = int(rng.poisson(look.seams_per_m * track.length_m))
    return [
        Mark(points, float(rng.uniform(0.015, 0.05)), 18.0, 0.9) for points in _along(rng, track, count, 1.0, 6.0, 0.1)
    ]


def old_lines(track: Track, look: Look) -> list[Mark]:
    """Lines of an earlier marking that lead from one lane to the other, or off the road."""
    rng = np.random.default_rng([look.seed, 12])
    count = int(rng.poisson(look.old_lines_per_m * track.length_m))
    return [Mark(points, 0.05, 232.0, 0.9) for points in _along(rng, track, count, 3.0, 8.0, 1.0)]


def _along(
    rng: np.random.Generator, track: Track, count: int, shortest_m: float, longest_m: float, drift: float
) -> FloatArray:
    """`[count, K, 2]` lines along the road whose lateral position drifts by up to so many lane widths."""
    part = np.linspace(0.0, 1.0, 24)
    smooth = part * part * (3.0 - 2.0 * part)
    start, length = rng.uniform(0.0, track.length_m, count), rng.uniform(shortest_m, longest_m, count)
    first = rng.uniform(-0.95, 0.95, count) * track.lane_width_m
    last = first + drift * rng.uniform(0.3, 1.0, count) * rng.choice([-1.0, 1.0], count) * track.lane_width_m
    along = start[:, None] + length[:, None] * part
    across = first[:, None] + (last - first)[:, None] * smooth
    return track.point(along, np.clip(across, -1.05 * track.lane_width_m, 1.05 * track.lane_width_m))
