"""Random closed roads: straights joined by bends of every radius, never touching themselves.

A polygon is drawn whose corners lie at random distances around a centre, so that some of them turn the other way; each corner is rounded with a
random radius that its neighbours leave room for; a Gaussian along the arc turns the jumps of curvature into ramps, as clothoids do.
Whatever bends too sharply or comes too near itself is thrown away and drawn again.

    track = random_track(np.random.default_rng(7))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.track import SPACING_M, FloatArray, Track, TrackError, curvature_bounds, smooth_closed

_COARSE_M = 0.1
_TRIES = 400


@dataclass(frozen=True)
class RandomRoadConfig:
    """What random roads look like from above."""

    lane_width_m: tuple[float, float] = (0.45, 0.8)
    """Range of the width of one lane, m."""
    length_m: tuple[float, float] = (25.0, 60.0)
    """Range of the length of one lap, m."""
    min_lane_radius_m: float = 0.9
    """Smallest radius of the middle of the right-hand lane, m."""
    verge_m: float = 0.4
    """Smallest gap between the edges of two stretches that pass each other, m."""
    corners: tuple[int, int] = (6, 13)
    """Range of the number of corners."""

    def __post_init__(self) -> None:
        for name in ("lane_width_m", "length_m", "corners"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise TrackError(f"{name} must be a range (low, high) with 0 < low <= high, got {(low, high)}.")
        if self.corners[0] < 4:
            raise TrackError(f"corners must start at 4 or more, got {self.corners}.")
        if self.min_lane_radius_m <= 0.0 or self.verge_m < 0.0:
            raise TrackError("min_lane_radius_m must be positive and verge_m must not be negative.")


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
    for _ in range(_TRIES):
        length = float(generator.uniform(*config.length_m))
        mirrored = bool(generator.integers(2))
        limits = (right, left) if mirrored else (left, right)
        points = _draw(generator, config, length, limits)
        if points is None:
            continue
        if mirrored:
            points = points[::-1]
        track = Track(points, lane_width, "random")
        fits = config.length_m[0] * 0.8 <= track.length_m <= config.length_m[1] * 1.05
        if not fits or track.curvatures.max() > left or -track.curvatures.min() > right:
            continue
        if track.clearance_m() < 2.0 * lane_width + config.verge_m:
            continue
        return track
    raise TrackError(
        f"No road found in {_TRIES} tries: lanes of {lane_width:.2f} m and length_m={config.length_m} leave no room. Widen length_m."
    )


def _draw(
    generator: np.random.Generator, config: RandomRoadConfig, length_m: float, limits: tuple[float, float]
) -> FloatArray | None:
    """A rounded random polygon, counter-clockwise, or None when its corners do not fit; `limits` are for left and right bends."""
    count = int(generator.integers(config.corners[0], config.corners[1] + 1))
    angles = 2.0 * np.pi * (np.arange(count) + generator.uniform(-0.35, 0.35, count)) / count
    radii = generator.uniform(0.3, 1.0, count)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    corners *= [1.0, generator.uniform(0.55, 1.0)]
    turn = generator.uniform(0.0, 2.0 * np.pi)
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners *= (
        length_m / np.hypot(*(np.roll(corners, -1, axis=0) - corners).T).sum() * 1.1
    )  # corners are cut, hence 1.1
    side = np.roll(corners, -1, axis=0) - corners  # [C, 2] from corner i to i + 1
    lengths = np.hypot(side[:, 0], side[:, 1])
    direction = np.arctan2(side[:, 1], side[:, 0])
    bend = (direction - np.roll(direction, 1) + np.pi) % (2.0 * np.pi) - np.pi  # [C] turn at corner i
    if np.abs(bend).max() > 2.75:
        return None
    half = np.tan(np.abs(bend) / 2.0)
    smallest = 1.25 / np.where(
        bend > 0.0, limits[0], limits[1]
    )  # rounding below sharpens nothing, but sampling needs some room
    room = np.minimum(lengths, np.roll(lengths, 1))
    need = smallest * half
    if (need + np.roll(need, -1) > lengths).any():
        return None
    # What is left of each side after the smallest fillets is shared between its two ends.
    spare = lengths - need - np.roll(need, -1)
    extra = 0.5 * np.minimum(spare, np.roll(spare, 1)) * generator.beta(0.7, 1.0, count)
    cut = np.minimum(need + extra, room)
    radius = np.minimum(cut / np.maximum(half, 1e-6), 0.35 * length_m)
    cut = radius * half
    pieces = []
    for i in range(count):
        begin = corners[i] - cut[i] * side[i - 1] / lengths[i - 1]
        steps = max(2, int(np.ceil(radius[i] * abs(bend[i]) / _COARSE_M)))
        sign = np.sign(bend[i])
        start = direction[i - 1]
        swept = np.linspace(0.0, bend[i], steps + 1)
        centre = begin + sign * radius[i] * np.array([-np.sin(start), np.cos(start)])
        pieces.append(centre + sign * radius[i] * np.stack([np.sin(start + swept), -np.cos(start + swept)], axis=1))
    outline = Track(np.concatenate(pieces), 1.0).points
    return smooth_closed(outline, SPACING_M, float(generator.uniform(0.15, 0.35)))
