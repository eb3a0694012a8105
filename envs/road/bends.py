"""How sharply a road may bend for its lanes to be driven, and rounding the bends that are sharper.

`README.md` in this folder has the relation between the curvatures of the centre line and of a lane.
"""

from __future__ import annotations

import numpy as np

from envs.road.curves import FloatArray, gaussian_periodic, headings_and_curvatures, resample, smooth_closed
from envs.road.track import SPACING_M, TrackError


def curvature_bounds(lane_width_m: float, min_lane_radius_m: float) -> tuple[float, float]:
    """Largest curvature to the left and to the right, 1/m, of a centre line whose lanes can be driven.

    A right bend is limited by the right-hand lane, which runs inside it; both are limited by the inner road edge,
    which must not fold.
    """
    fold = 1.15 * lane_width_m
    return 1.0 / max(fold, min_lane_radius_m - 0.5 * lane_width_m), 1.0 / max(
        fold, min_lane_radius_m + 0.5 * lane_width_m
    )


def round_bends(points: FloatArray, lane_width_m: float, min_lane_radius_m: float, name: str = "track") -> FloatArray:
    """Smooth an evenly sampled closed curve, and smooth it more where it bends too sharply to be driven.

    Args:
        points: `[N, 2]` in metres, evenly spaced.
        lane_width_m: width of one lane.
        min_lane_radius_m: smallest radius of the middle of the right-hand lane.
        name: what to call the road in errors.

    Returns:
        `[M, 2]` points of the smooth curve, evenly spaced.

    Raises:
        TrackError: if the bends cannot be rounded.
    """
    left, right = curvature_bounds(lane_width_m, min_lane_radius_m)
    points = smooth_closed(points, SPACING_M, 0.2)
    for _ in range(400):
        points = resample(points, SPACING_M)
        _, curvature = headings_and_curvatures(points, SPACING_M)
        excess = np.maximum(curvature / left, -curvature / right)
        if excess.max() <= 1.0:
            return points
        where = gaussian_periodic((excess > 0.97).astype(np.float64)[:, None], SPACING_M, 0.25)[:, 0]
        where = np.minimum(1.0, 4.0 * where)
        points = points + where[:, None] * (gaussian_periodic(points, SPACING_M, 0.25) - points)
    raise TrackError(
        f"{name}: bends stay tighter than a lane radius of {min_lane_radius_m} m with lanes {lane_width_m:.2f} m wide. "
        "Use a larger scale or narrower lanes."
    )
