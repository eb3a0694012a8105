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
from envs.road.curves import FloatArray, catmull_rom
from envs.road.track import SPACING_M, Track, TrackError

logger = logging.getLogger(__name__)


def load_track(
    path: str | Path,
    scale: float = 0.1,
    lane_width_m: float | None = None,
    min_lane_radius_m: float = 0.8,
    reverse: bool = False,
) -> Track:
    """Read a road from a centre-line CSV file and scale it to the vehicle.

    The file has one comment line and rows `x_m,y_m,w_tr_right_m,w_tr_left_m`; the last row joins the first. Bends
    that are tighter than the vehicle can drive at this scale are rounded, as little as needed; how far the line moved
    is logged.

    Args:
        path: the CSV file.
        scale: metres of road per metre in the file, > 0.
        lane_width_m: width of one lane; when None, the mean distance from the centre line to an edge, scaled.
        min_lane_radius_m: smallest radius of the middle of the right-hand lane.
        reverse: drive against the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        TrackError: if the file is malformed (naming the file and the line), or cannot be made drivable at this scale.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No road file at {path}. Expected a CSV with columns x_m,y_m,w_tr_right_m,w_tr_left_m."
        )
    if not (math.isfinite(scale) and scale > 0.0):
        raise TrackError(f"scale must be positive, got {scale}.")
    rows = _read_rows(path)
    width = float(rows[:, 2:].mean()) * scale if lane_width_m is None else lane_width_m
    points = rows[::-1, :2] * scale if reverse else rows[:, :2] * scale
    rough = catmull_rom(points, SPACING_M)
    smooth = round_bends(rough, width, min_lane_radius_m, name=str(path))
    track = Track(smooth, width, path.stem)
    shift = float(np.abs(track.project(rough[::4]).lateral).max())
    if shift > 0.02:
        logger.info(
            "%s: bends rounded to a lane radius of %.2f m; the centre line moved by up to %.2f m.",
            path.name,
            min_lane_radius_m,
            shift,
        )
    return track


def remembered_track(
    path: str, scale: float, lane_width_m: float | None, min_lane_radius_m: float, reverse: bool
) -> Track:
    """As `load_track`, read once until the file changes: many envs in one process share their roads."""
    changed = Path(path).stat().st_mtime_ns
    return _remembered(path, changed, scale, lane_width_m, min_lane_radius_m, reverse)


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
            raise FileNotFoundError(
                f'No road file at {file}. Give a CSV with columns x_m,y_m,w_tr_right_m,w_tr_left_m, or "random".'
            )
    return files


@lru_cache(maxsize=32)
def _remembered(
    path: str, changed: int, scale: float, lane_width_m: float | None, min_lane_radius_m: float, reverse: bool
) -> Track:
    return load_track(path, scale, lane_width_m, min_lane_radius_m, reverse)


def _read_rows(path: Path) -> FloatArray:
    rows: list[list[float]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TrackError(
            f"{path}: not a text file. Expected a CSV with columns x_m,y_m,w_tr_right_m,w_tr_left_m."
        ) from error
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            row = [float(cell) for cell in text.split(",")]
        except ValueError:
            raise TrackError(
                f"{path}, line {number}: expected four numbers x_m,y_m,w_tr_right_m,w_tr_left_m, got {text[:60]!r}."
            ) from None
        if len(row) != 4 or not np.isfinite(row).all():
            raise TrackError(
                f"{path}, line {number}: expected four finite numbers x_m,y_m,w_tr_right_m,w_tr_left_m, "
                f"got {text[:60]!r}."
            )
        if row[2] <= 0.0 or row[3] <= 0.0:
            raise TrackError(f"{path}, line {number}: the widths must be positive, got {row[2]} and {row[3]}.")
        if rows and row[:2] == rows[-1][:2]:
            raise TrackError(f"{path}, line {number}: the same position as the row before. Remove one of the two.")
        rows.append(row)
    if len(rows) > 1 and rows[0][:2] == rows[-1][:2]:
        rows.pop()  # some files repeat the first point to close the line
    if len(rows) < 8:
        raise TrackError(f"{path}: expected at least 8 points, got {len(rows)}.")
    return np.asarray(rows)
