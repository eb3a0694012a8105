"""Roads from files: a centre line as CSV, scaled to the vehicle, its bends rounded where they are too sharp for it.

track = load_track("docs/circuit.csv", scale=0.1)
"""

from __future__ import annotations

import logging
import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from envs.road.bends import round_bends
from envs.road.curves import catmull_rom
from envs.road.table import EXPECTED, CentreLine, read_centre_line
from envs.road.track import SPACING_M, Track, TrackCursor, TrackError
from envs.vehicle.vehicle import CAR_WIDTH_M

logger = logging.getLogger(__name__)

LANE_WIDTH_M = 0.6
"""Width of a lane where a file has no widths, m: the middle of that of random roads."""
LONGEST_M = 30_000.0
"""Longest lap, m."""
WIDEST_M = 100.0
"""Widest lane, m."""


def load_track(
    path: str | Path,
    scale: float = 0.1,
    lane_width_m: float | None = None,
    min_lane_radius_m: float = 0.8,
    reverse: bool = False,
) -> Track:
    """Read a road from a centre-line CSV file and scale it to the vehicle.

    `envs.road.table` says which files are read; the last row joins the first. Bends that are tighter than the vehicle
    can drive at this scale are rounded, as little as needed; how far the line moved is logged. Lanes that are narrower
    than the car, and lines without widths, are warned about.

    Args:
        path: the CSV file.
        scale: metres of road per metre in the file, > 0; 1 for files at the car's scale.
        lane_width_m: width of one lane; when None, the mean distance from the centre line to an edge, scaled, or
            `LANE_WIDTH_M` where the file has no widths.
        min_lane_radius_m: smallest radius of the middle of the right-hand lane.
        reverse: drive against the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        TrackError: if the file is malformed (naming the file and the line), the lap longer than `LONGEST_M`, or the
            road cannot be made drivable at this scale.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No road file at {path}. Expected {EXPECTED}.")
    if not (math.isfinite(scale) and scale > 0.0):
        raise TrackError(f"scale must be positive, got {scale}.")
    line = read_centre_line(path)
    width = _lane_width(line, path, scale, lane_width_m)
    points = (line.points[::-1] if reverse else line.points) * scale
    lap_m = float(np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum())
    if not lap_m <= LONGEST_M:
        raise TrackError(
            f"{path}: a lap of {lap_m:.6g} m at a scale of {scale}, expected at most {LONGEST_M:.0f} m. "
            "Use a smaller scale, or mend the rows that lie far out."
        )
    rough = catmull_rom(points, SPACING_M)
    smooth = round_bends(rough, width, min_lane_radius_m, name=str(path))
    left_m = float(np.hypot(*(np.roll(smooth, -1, axis=0) - smooth).T).sum())
    if not left_m > math.pi * min_lane_radius_m:  # half of the smallest circle that can be driven
        raise TrackError(
            f"{path}: rounding the bends to a lane radius of {min_lane_radius_m:.2f} m leaves a lap of {left_m:.3g} m. "
            "Are the rows in order along the road? Else use a larger scale."
        )
    track = Track(smooth, width, path.stem)
    cursor = TrackCursor(track)
    cursor.start(*rough[0])
    shift = max(abs(cursor.locate(x, y)[1]) for x, y in rough[::4].tolist())
    if shift > 0.02:
        logger.info(
            "%s: bends rounded to a lane radius of %.2f m; the centre line moved by up to %.2f m.",
            path.name,
            min_lane_radius_m,
            shift,
        )
    return track


def _lane_width(line: CentreLine, path: Path, scale: float, asked_m: float | None) -> float:
    """Width of a lane, m, with a warning where it is made up or narrower than the car."""
    if asked_m is not None:
        return asked_m
    if line.widths is None:
        logger.warning("%s has no widths: its lanes are made %.2f m wide. Set track_lane_width_m.", path, LANE_WIDTH_M)
        return LANE_WIDTH_M
    width = float(line.widths.mean()) * scale
    if width > WIDEST_M:
        raise TrackError(f"{path}: lanes of {width:.6g} m at a scale of {scale}, expected at most {WIDEST_M:.0f} m.")
    if width < CAR_WIDTH_M:
        logger.warning(
            "%s: lanes of %.2f m at a scale of %g are narrower than the car, %.2f m. A file that is at the car's scale "
            "already has track_scale 1; track_lane_width_m sets the width.",
            path,
            width,
            scale,
            CAR_WIDTH_M,
        )
    return width


def cached_track(path: str, scale: float, lane_width_m: float | None, min_lane_radius_m: float, reverse: bool) -> Track:
    """As `load_track`, read once until the file changes: many envs in one process share their roads."""
    changed = Path(path).stat().st_mtime_ns
    return _cached(path, changed, scale, lane_width_m, min_lane_radius_m, reverse)


def existing_files(track: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the files that a config's `track` names; none for "random".

    Raises:
        FileNotFoundError: if one is not there.
    """
    if track == "random":
        return ()
    files = (track,) if isinstance(track, str) else tuple(track)
    for file in files:
        if not Path(file).is_file():
            raise FileNotFoundError(f'No road file at {file}. Give {EXPECTED}, or "random".')
    return files


@lru_cache(maxsize=32)
def _cached(
    path: str, changed: int, scale: float, lane_width_m: float | None, min_lane_radius_m: float, reverse: bool
) -> Track:
    return load_track(path, scale, lane_width_m, min_lane_radius_m, reverse)
