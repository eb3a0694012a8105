"""Logs of the Udacity simulator: `driving_log.csv` beside `IMG/`.

Columns: centre, left and right picture, steering, throttle, brake, speed; a header row is optional. The paths are those
of the machine that recorded, so only the file names are used. Steering is [-1, 1] for ±25°, positive to the right, and
is turned round; speed is in mph. The only clock is in the file names: `center_2018_07_16_17_11_43_382.jpg`. Rows keep
their order: where time steps back or jumps, a new episode begins.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from agents.recordings.episodes import Episode, EpisodeSet
from agents.recordings.reading import (
    Clock,
    ReadOptions,
    Records,
    picture_episodes,
    read_clock,
    since_first_s,
    usable_steering,
)

EXPECTS = "a Udacity log (a directory with driving_log.csv and IMG, or the .csv itself)"
"""What a path of this format looks like."""
USUAL_PERIOD_S = 1 / 15
"""The simulator records close to 15 frames a second."""
MPH = 0.44704
"""Metres a second in a mile an hour."""

_STAMP = re.compile(r"(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{3})\D*$")
_COLUMNS = 7
_LEAST_COLUMNS = 4


def recognises(path: Path) -> bool:
    """Say whether a path is a log: a directory with `driving_log.csv`, or a CSV file."""
    return (path / "driving_log.csv").is_file() or (path.suffix.lower() == ".csv" and path.is_file())


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a log.

    Args:
        path: The CSV file or its directory.
        options: Nominal period, longest gap, side cameras.

    Returns:
        Episodes of the centre camera and, by option, of the left and right cameras after them, in their own episodes
        on the same time line.

    Raises:
        ValueError: if the file is no such log, `IMG` is missing, or pictures differ in size.
    """
    log = path / "driving_log.csv" if path.is_dir() else path
    pictures = log.parent / "IMG"
    skipped: Counter[str] = Counter()
    rows = _read_rows(log, skipped)
    if rows and not pictures.is_dir():
        raise ValueError(
            f"{pictures} should hold the pictures that {log.name} names; it is missing. Copy it beside the log."
        )
    usable: list[tuple[Sequence[str], float]] = []
    for row in rows:
        steering = usable_steering(row[3], skipped)
        if steering is not None:
            usable.append((row, -steering))
    if not usable:
        return EpisodeSet((), dict(skipped))
    stamps_s = since_first_s([_stamp_ms(row[0]) for row, _ in usable])
    count = len(usable)
    clock = read_clock(stamps_s, np.arange(count), np.zeros(count, bool), USUAL_PERIOD_S, options)
    notices = [clock.notice] if clock.notice else []
    episodes: list[Episode] = []
    cameras = {"centre": (0, 0.0)}
    if options.side_cameras:
        # A car whose middle camera saw what the left one sees stands too far left and has to come back to the right.
        correction = options.side_camera_correction
        cameras |= {"left": (1, -correction), "right": (2, correction)}
    for camera, (column, shift) in cameras.items():
        missing: Counter[str] = Counter()
        episodes += _camera(path, pictures, usable, column, shift, clock, camera, options, missing)
        if camera == "centre":
            skipped += missing
        elif missing:
            notices.append(f"{sum(missing.values())} of {count} rows have no usable picture of the {camera} camera")
    return EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))


def _camera(
    path: Path,
    pictures: Path,
    usable: Sequence[tuple[Sequence[str], float]],
    column: int,
    shift: float,
    clock: Clock,
    camera: str,
    options: ReadOptions,
    skipped: Counter[str],
) -> list[Episode]:
    """Assemble the episodes of one camera, its labels shifted."""
    records = Records(
        pictures=[pictures / _base_name(row[column]) for row, _ in usable],
        steering=[min(max(steering + shift, -1.0), 1.0) for _, steering in usable],
    )
    if all(len(row) >= _COLUMNS for row, _ in usable):
        for name, at, scale in (("throttle", 4, 1.0), ("brake", 5, 1.0), ("speed_mps", 6, MPH)):
            records.extras[name] = [_number(row[at]) * scale for row, _ in usable]
    meta = {"source": str(path), "vehicle": "udacity", "renderer": "camera", "extra": {"camera": camera}}
    return picture_episodes(records, clock, meta, options, skipped)


def _read_rows(log: Path, skipped: Counter[str]) -> list[list[str]]:
    """Return the rows that have as many columns as most rows have, without the header."""
    with log.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        try:
            rows = [row for row in csv.reader(line.replace("\0", "") for line in lines) if any(map(str.strip, row))]
        except csv.Error as error:
            raise ValueError(f"{log} is not a readable CSV file: {error}. Copy the log again.") from None
    if rows and not any(_is_picture(field) for field in rows[0][:3]) and _is_header(rows[0]):
        rows = rows[1:]
    if not rows:
        return []
    columns = Counter(map(len, rows)).most_common(1)[0][0]
    if not any(_is_picture(row[0]) for row in rows):
        raise ValueError(
            f"{log} should name a picture in its first column, got {rows[0][0][:60]!r}; it is no Udacity log."
        )
    if not _LEAST_COLUMNS <= columns <= _COLUMNS:
        raise ValueError(
            f"{log} should have the {_COLUMNS} columns centre, left, right, steering, throttle, brake, speed, "
            f"got {columns}; numbers must be written with a decimal point."
        )
    good = [row for row in rows if len(row) == columns and _is_picture(row[0])]
    if len(good) < len(rows):
        skipped["row with columns missing or damaged"] += len(rows) - len(good)
    return good


def _is_header(row: Sequence[str]) -> bool:
    return any(field.strip().lower() in {"center", "centre", "steering", "left", "speed"} for field in row)


def _is_picture(field: str) -> bool:
    return field.strip().lower().endswith((".jpg", ".jpeg", ".png"))


def _base_name(field: str) -> str:
    """Return the file name at the end of a Windows or POSIX path; a name that no file has when there is none."""
    return field.replace("\\", "/").rsplit("/", 1)[-1].strip() or "no-picture-named"


def _stamp_ms(field: str) -> float:
    """Return the time in a file name, whole milliseconds; NaN when it has none."""
    match = _STAMP.search(_base_name(field))
    if match is None:
        return float("nan")
    *parts, millisecond = map(int, match.groups())
    try:
        moment = datetime(*parts, millisecond * 1000, tzinfo=timezone.utc)  # type: ignore[misc, arg-type]
    except ValueError:
        return float("nan")
    return float(round(1000 * moment.timestamp()))


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")
