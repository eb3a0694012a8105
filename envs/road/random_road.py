"""Random closed roads: straights joined by bends of every radius, never touching themselves.

A polygon is drawn in one of two ways. Its corners lie at random distances around a centre, so that some of them turn
the other way; or it runs around a random patch of square blocks, which makes hairpins, chicanes and stretches that
pass each other. Each corner is rounded with a random radius that its neighbours leave room for; a Gaussian along the
arc turns the jumps of curvature into ramps, as clothoids do. Whatever bends too sharply or comes too near itself is
rejected and drawn again.

    track = random_track(np.random.default_rng(7))
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from envs.ranges import Ordered, Share
from envs.road.bends import curvature_bounds
from envs.road.curves import FloatArray, smooth_closed
from envs.road.track import SPACING_M, Track, TrackError

_ARC_STEP_M = 0.1
_TRIES = 400
_SHARPEST_RAD = 2.75


_Width = Annotated[float, Field(gt=0.0, le=20.0)]
_Length = Annotated[float, Field(gt=0.0, le=2000.0)]
_Corners = Annotated[int, Field(ge=4, le=100)]


@dataclass(frozen=True, config={"extra": "forbid"})
class RandomRoadConfig:
    """What random roads look like from above."""

    lane_width_m: Annotated[tuple[_Width, _Width], Ordered] = (0.45, 0.8)
    """Range of the width of one lane, m."""
    length_m: Annotated[tuple[_Length, _Length], Ordered] = (25.0, 60.0)
    """Range of the length of one lap, m, up to 2000; longer ones come from files."""
    min_lane_radius_m: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.9
    """Smallest radius of the middle of the right-hand lane, m."""
    verge_m: Annotated[float, Field(ge=0.0, le=100.0)] = 0.4
    """Smallest gap between the edges of two stretches that pass each other, m."""
    corners: Annotated[tuple[_Corners, _Corners], Ordered] = (6, 13)
    """Range of the number of corners of a road around a centre, from 4 to 100."""
    blocks: Share = 0.5
    """Share of the roads that run around blocks."""


def random_track(generator: np.random.Generator, config: RandomRoadConfig | None = None) -> Track:
    """Draw a road.

    Args:
        generator: where the random numbers come from; the same state gives the same road.
        config: ranges; the defaults when None.

    Raises:
        TrackError: if the ranges leave no room for a road.
    """
    config = config or RandomRoadConfig()
    lane_width = float(generator.uniform(*config.lane_width_m))
    left, right = curvature_bounds(lane_width, config.min_lane_radius_m)
    gap = 2.0 * lane_width + config.verge_m
    for _ in range(_TRIES):
        length = float(generator.uniform(*config.length_m))
        mirrored = bool(generator.integers(2))
        limits = (right, left) if mirrored else (left, right)
        if generator.random() < config.blocks:
            corners = _around_blocks(generator, length, max(gap, 2.0 / min(limits)))
        else:
            corners = _around_centre(generator, config.corners, length)
        points = _rounded(generator, corners, length, limits)
        if points is None:
            continue
        track = Track(points[::-1] if mirrored else points, lane_width, "random")
        fits = 0.8 * config.length_m[0] <= track.length_m <= 1.1 * config.length_m[1]
        if not fits or track.curvatures.max() > left or -track.curvatures.min() > right or track.clearance_m(gap) < gap:
            continue
        return track
    raise TrackError(
        f"No road found in {_TRIES} tries: lanes of {lane_width:.2f} m leave no room in length_m={config.length_m}. "
        f"Widen length_m, or narrow lane_width_m or verge_m = {config.verge_m:g}."
    )


def _around_centre(generator: np.random.Generator, corners: tuple[int, int], length_m: float) -> FloatArray:
    """Corners `[C, 2]`, counter-clockwise, at random distances from a centre."""
    count = int(generator.integers(corners[0], corners[1] + 1))
    angles = 2.0 * np.pi * (np.arange(count) + generator.uniform(-0.35, 0.35, count)) / count
    radii = generator.uniform(generator.uniform(0.2, 0.6), 1.0, count)
    polygon = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    polygon *= [1.0, generator.uniform(0.55, 1.0)]
    polygon = _turned(generator, polygon)
    return polygon * (1.1 * length_m / _sides(polygon)[1].sum())  # rounding shortens


def _around_blocks(generator: np.random.Generator, length_m: float, smallest_m: float) -> FloatArray:
    """Corners `[C, 2]`, counter-clockwise, of a random patch of blocks without holes, each over `smallest_m` wide."""
    side = smallest_m * generator.uniform(1.05, 1.7)
    edges = max(8, round(1.15 * length_m / side))
    cells = {(0, 0)}
    for _ in range(60):
        if 2 * len(cells) + 2 >= edges:
            break
        x, y = sorted(cells)[int(generator.integers(len(cells)))]
        dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[int(generator.integers(4))]
        cell = (x + dx, y + dy)
        if cell not in cells and _keeps_simple(cells, cell):
            cells.add(cell)
    polygon = _outline(cells) * side
    polygon = polygon + generator.uniform(-0.12, 0.12, polygon.shape) * side
    polygon *= generator.uniform(1.0, 1.25, 2)
    shear = generator.uniform(-0.25, 0.25)
    return _turned(generator, polygon @ np.array([[1.0, 0.0], [shear, 1.0]]))


def _keeps_simple(cells: set[tuple[int, int]], cell: tuple[int, int]) -> bool:
    """Whether a new cell leaves the patch without holes and without cells that meet at a corner only."""
    x, y = cell
    ring = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    filled = [(x + dx, y + dy) in cells for dx, dy in ring]
    runs = sum(filled[i] and not filled[i - 1] for i in range(8))
    corner_only = any(filled[i] and not filled[i - 1] and not filled[(i + 1) % 8] for i in (1, 3, 5, 7))
    return runs == 1 and not corner_only


def _outline(cells: set[tuple[int, int]]) -> FloatArray:
    """Corners `[C, 2]`, counter-clockwise, of the boundary of a patch of unit cells."""
    after: dict[tuple[int, int], tuple[int, int]] = {}
    for x, y in cells:
        if (x, y - 1) not in cells:
            after[x, y] = (x + 1, y)
        if (x + 1, y) not in cells:
            after[x + 1, y] = (x + 1, y + 1)
        if (x, y + 1) not in cells:
            after[x + 1, y + 1] = (x, y + 1)
        if (x - 1, y) not in cells:
            after[x, y + 1] = (x, y)
    start = min(after)
    boundary = [start]
    while after[boundary[-1]] != start:
        boundary.append(after[boundary[-1]])
    points = np.asarray(boundary, dtype=np.float64)
    step = np.roll(points, -1, axis=0) - points
    return points[(step != np.roll(step, 1, axis=0)).any(axis=1)]


def _turned(generator: np.random.Generator, polygon: FloatArray) -> FloatArray:
    angle = generator.uniform(0.0, 2.0 * np.pi)
    return polygon @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _sides(polygon: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Vectors `[C, 2]` from each corner to the next, and their lengths."""
    side = np.roll(polygon, -1, axis=0) - polygon
    return side, np.hypot(side[:, 0], side[:, 1])


def _rounded(
    generator: np.random.Generator, corners: FloatArray, length_m: float, limits: tuple[float, float]
) -> FloatArray | None:
    """Round the corners of a polygon with random radii.

    Args:
        generator: where the random numbers come from.
        corners: `[C, 2]`, counter-clockwise.
        length_m: about the length of the road; bounds the radii.
        limits: largest curvature to the left and to the right, 1/m.

    Returns:
        Evenly spaced points of a smooth curve, or None when the corners leave no room for bends this wide.
    """
    side, lengths = _sides(corners)
    direction = np.arctan2(side[:, 1], side[:, 0])
    bend = (direction - np.roll(direction, 1) + np.pi) % (2.0 * np.pi) - np.pi  # [C] turn at each corner
    if np.abs(bend).max() > _SHARPEST_RAD:
        return None
    half = np.tan(np.abs(bend) / 2.0)
    need = half * 1.02 / np.where(bend > 0.0, limits[0], limits[1])
    spare = lengths - need - np.roll(need, -1)
    if (spare < 0.0).any():
        return None
    # What is left of each side after the smallest fillets is shared between its two ends.
    cut = need + 0.5 * np.minimum(spare, np.roll(spare, 1)) * generator.beta(0.7, 1.0, len(corners))
    radius = np.minimum(cut / np.maximum(half, 1e-6), 0.35 * length_m)
    cut = radius * half
    pieces: list[NDArray[np.float64]] = []
    for i, corner in enumerate(corners):
        begin = corner - cut[i] * side[i - 1] / lengths[i - 1]
        inward = np.sign(bend[i]) * radius[i]
        start = direction[i - 1]
        swept = np.linspace(0.0, bend[i], 1 + max(2, int(np.ceil(radius[i] * abs(bend[i]) / _ARC_STEP_M))))
        centre = begin + inward * np.array([-np.sin(start), np.cos(start)])
        pieces.append(centre + inward * np.stack([np.sin(start + swept), -np.cos(start + swept)], axis=1))
    outline = Track(np.concatenate(pieces), 1.0).points
    return smooth_closed(outline, SPACING_M, float(generator.uniform(0.15, 0.35)))
