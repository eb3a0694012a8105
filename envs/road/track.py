"""A road as a closed centre line, with vectorised queries.

A `Track` is a closed curve sampled evenly by arc length, with one lane on each side of it. Traffic keeps to the
right, so the line a car should follow runs half a lane width to the right of the centre line. Lateral positions are
measured from the centre line and are positive to the left of the driving direction. Roads come from
`envs.road.random_road` and `envs.road.files`.

    track = random_track(np.random.default_rng(7))
    s, lateral, heading, curvature = track.project([[1.0, 2.0]])

`TrackCursor` follows one car, in about a microsecond a query.

    cursor = TrackCursor(track)
    s, lateral, heading, curvature = cursor.start(x, y)
    s, lateral, heading, curvature = cursor.locate(x + 0.05, y)
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.road.curves import FloatArray, clearance, headings_and_curvatures, resample, wrap

SPACING_M = 0.05
"""Distance between two samples of a centre line."""
_FARTHEST_M = 1e9
_STRAIGHTEST = 0.85
"""Distance of the ends of a gentle bend, as a share of its length."""


class TrackError(ValueError):
    """A road that cannot be read, or cannot be driven."""


class Projection(NamedTuple):
    """Where points lie relative to the centre line; each field has the shape of the query without its last axis."""

    s: FloatArray
    """Arc length of the nearest centre-line point, m, in [0, length)."""
    lateral: FloatArray
    """Signed distance from the centre line, m, positive to the left."""
    heading: FloatArray
    """Direction of the road at `s`, rad, in (−π, π]."""
    curvature: FloatArray
    """Curvature of the centre line at `s`, 1/m, positive when it bends to the left."""


class Track:
    """A closed two-lane road.

    Attributes:
        points: `[N, 2]` centre line in metres, evenly spaced by arc length, the last point joined to the first.
        headings: `[N]` direction of the road, rad.
        curvatures: `[N]` curvature, 1/m, positive to the left.
        lane_width_m: width of one lane; the paved road reaches this far to each side of the centre line.
        length_m: length of one lap along the centre line.
        spacing_m: distance between two samples.
        name: what to call the road in reports.
    """

    def __init__(self, points: ArrayLike, lane_width_m: float, name: str = "track"):
        """Build a road from a closed curve.

        Args:
            points: `[N, 2]` positions in metres along a smooth closed curve in driving order, without repeating the
                first; any spacing.
            lane_width_m: width of one lane, > 0.
            name: what to call the road.

        Raises:
            TrackError: if the points are not a closed curve of at least 8 finite positions, or the width is not
                positive.
        """
        array = np.asarray(points, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != 2 or len(array) < 8 or not np.isfinite(array).all():
            raise TrackError(f"{name}: expected at least 8 finite points of shape [N, 2], got shape {array.shape}.")
        if not (math.isfinite(lane_width_m) and lane_width_m > 0.0):
            raise TrackError(f"{name}: lane_width_m must be positive, got {lane_width_m}.")
        self.points = resample(array, SPACING_M)
        self.lane_width_m = float(lane_width_m)
        self.name = name
        step = np.roll(self.points, -1, axis=0) - self.points
        self.spacing_m = float(np.hypot(step[:, 0], step[:, 1]).mean())
        self.length_m = self.spacing_m * len(self.points)
        self.headings, self.curvatures = headings_and_curvatures(self.points, self.spacing_m)

    def right_lane_offset(self, lane_width_m: float | None = None) -> float:
        """Lateral position of the middle of the right-hand lane, m (negative: right of the centre line)."""
        return -0.5 * (self.lane_width_m if lane_width_m is None else lane_width_m)

    def reversed(self) -> Track:
        """The same road driven the other way."""
        return Track(self.points[::-1], self.lane_width_m, self.name)

    def point(self, s: ArrayLike, lateral: ArrayLike = 0.0) -> FloatArray:
        """Positions `[..., 2]` at arc length `s` (any value, wraps) and `lateral` metres left of the centre line."""
        index, part = self._index(s)
        after = (index + 1) % len(self.points)
        centre = self.points[index] + part[..., None] * (self.points[after] - self.points[index])
        heading = self.heading(s)
        normal = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
        return centre + np.asarray(lateral, dtype=np.float64)[..., None] * normal

    def lane_point(self, s: float) -> tuple[float, float]:
        """Position of the middle of the right-hand lane at one arc length (any value, wraps): the nearest sample."""
        x, y = self._lane[round(s / self.spacing_m) % len(self._lane)]
        return x, y

    def heading(self, s: ArrayLike) -> FloatArray:
        """Direction of the road at arc length `s` (any value, wraps), rad in (−π, π]."""
        index, part = self._index(s)
        turn = wrap(self.headings[(index + 1) % len(self.points)] - self.headings[index])
        return wrap(self.headings[index] + part * turn)

    def curvature(self, s: ArrayLike, lateral: float = 0.0) -> FloatArray:
        """Curvature at arc length `s` of the line that runs `lateral` metres left of the centre line, 1/m."""
        index, part = self._index(s)
        curvature = (1.0 - part) * self.curvatures[index] + part * self.curvatures[(index + 1) % len(self.points)]
        return curvature / (1.0 - curvature * lateral)

    def edge(self, lateral: float) -> FloatArray:
        """`[N, 2]` the line that runs `lateral` metres left of the centre line, one position per sample."""
        return self.points + lateral * self.normals

    def project(self, positions: ArrayLike) -> Projection:
        """Find the nearest centre-line point of each position by looking at the whole road.

        Args:
            positions: `[..., 2]` in metres.

        Returns:
            Arc length, lateral position, heading and curvature, each of shape `[...]`.
        """
        query = np.asarray(positions, dtype=np.float64)
        flat = query.reshape(-1, 2)
        nearest = np.empty(len(flat), dtype=np.intp)
        for start in range(0, len(flat), 512):  # blocks, so that memory does not grow with the number of positions
            block = flat[start : start + 512]
            square = (block[:, :1] - self.points[:, 0]) ** 2 + (block[:, 1:] - self.points[:, 1]) ** 2  # [block, N]
            nearest[start : start + 512] = square.argmin(axis=1)
        s, lateral = self._refine(flat, nearest)
        shape = query.shape[:-1]
        return Projection(
            s.reshape(shape), lateral.reshape(shape), self.heading(s).reshape(shape), self.curvature(s).reshape(shape)
        )

    def clearance_m(self, wanted_m: float = 0.0) -> float:
        """Smallest distance between two parts of the centre line that are not neighbours along it.

        The road does not touch itself when this exceeds twice the lane width, given that its curvature keeps the
        lanes from folding.

        Args:
            wanted_m: distance that is asked for. Neighbours are parts within 3.5 lane widths along the road; where only
                the straightest parts would be so far from there on, within the half circle whose ends are.
        """
        stride = max(1, round(0.2 / self.spacing_m))
        points = self.points[::stride]
        spacing = self.length_m / len(points)
        neighbours_m = 3.5 * self.lane_width_m
        if wanted_m > _STRAIGHTEST * neighbours_m:
            neighbours_m = 0.5 * math.pi * wanted_m
        return clearance(points, spacing, neighbours_m)

    @cached_property
    def _lane(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in self.edge(self.right_lane_offset()).tolist()]

    @cached_property
    def normals(self) -> FloatArray:
        """`[N, 2]` unit vectors to the left of the road."""
        return np.stack([-np.sin(self.headings), np.cos(self.headings)], axis=1)

    def _index(self, s: ArrayLike) -> tuple[NDArray[np.intp], FloatArray]:
        position = np.mod(np.asarray(s, dtype=np.float64) / self.spacing_m, len(self.points))
        index = np.floor(position).astype(np.intp)
        return index % len(self.points), position - index

    def _refine(self, flat: FloatArray, nearest: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Feet of the perpendiculars on the two segments that meet at the nearest sample."""
        count = len(self.points)
        best_s = np.zeros(len(flat))
        best_lateral = np.full(len(flat), np.inf)
        for start in ((nearest - 1) % count, nearest):
            origin = self.points[start]
            along = self.points[(start + 1) % count] - origin
            to = flat - origin
            square = (along**2).sum(axis=1)
            part = np.clip((to * along).sum(axis=1) / square, 0.0, 1.0)
            off = to - part[:, None] * along
            distance = np.hypot(off[:, 0], off[:, 1])
            side = np.where(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0] >= 0.0, 1.0, -1.0)
            better = distance < np.abs(best_lateral)
            best_s = np.where(better, (start + part) * self.spacing_m, best_s)
            best_lateral = np.where(better, side * distance, best_lateral)
        return np.mod(best_s, self.length_m), best_lateral


class TrackCursor:
    """Follow one car along a road: each query starts at the previous answer, so it takes about a microsecond.

    The answer is that of `Track.project` as long as the car moves less than a metre or so between queries and stays
    near the road; `start` searches the whole road again.
    """

    def __init__(self, track: Track):
        self.track = track
        self._x: list[float] = track.points[:, 0].tolist()
        self._y: list[float] = track.points[:, 1].tolist()
        self._heading: list[float] = track.headings.tolist()
        self._curvature: list[float] = track.curvatures.tolist()
        self._count = len(self._x)
        self._at = 0

    def start(self, x: float, y: float) -> tuple[float, float, float, float]:
        """Find the position on the whole road; returns what `locate` does."""
        square = (self.track.points[:, 0] - x) ** 2 + (self.track.points[:, 1] - y) ** 2
        self._at = int(square.argmin())
        return self.locate(x, y)

    def locate(self, x: float, y: float) -> tuple[float, float, float, float]:
        """Arc length (m), lateral position (m), road heading (rad) and curvature (1/m) near the previous position.

        Raises:
            ValueError: if the position is not finite, or absurdly far away.
        """
        if not (-_FARTHEST_M < x < _FARTHEST_M and -_FARTHEST_M < y < _FARTHEST_M):
            raise ValueError(f"a position must be finite and within {_FARTHEST_M:g} m of the origin, got ({x}, {y}).")
        xs, ys, count, at = self._x, self._y, self._count, self._at
        best = (xs[at] - x) ** 2 + (ys[at] - y) ** 2
        for way in (1, -1):
            moved = False
            for _ in range(count):
                other = (at + way) % count
                square = (xs[other] - x) ** 2 + (ys[other] - y) ** 2
                if square >= best:
                    break
                at, best, moved = other, square, True
            if moved:
                break
        self._at = at
        answer_s, answer_lateral, start, part = 0.0, math.inf, at, 0.0
        for first in ((at - 1) % count, at):
            second = (first + 1) % count
            along_x, along_y = xs[second] - xs[first], ys[second] - ys[first]
            to_x, to_y = x - xs[first], y - ys[first]
            fraction = (to_x * along_x + to_y * along_y) / (along_x * along_x + along_y * along_y)
            fraction = min(max(fraction, 0.0), 1.0)
            distance = math.hypot(to_x - fraction * along_x, to_y - fraction * along_y)
            if distance < abs(answer_lateral):
                answer_lateral = distance if along_x * to_y - along_y * to_x >= 0.0 else -distance
                answer_s, start, part = (first + fraction) * self.track.spacing_m, first, fraction
        after = (start + 1) % count
        turn = (self._heading[after] - self._heading[start] + math.pi) % (2.0 * math.pi) - math.pi
        heading = self._heading[start] + part * turn
        curvature = (1.0 - part) * self._curvature[start] + part * self._curvature[after]
        return answer_s % self.track.length_m, answer_lateral, heading, curvature
