"""Logs of the Udacity simulator: `driving_log.csv` beside `IMG/`, as a folder or packed (.zip, .tar.gz).

Columns: centre, left and right picture, steering, throttle, brake, speed; where a header stands, it decides. Rows' own
paths are tried first where they lie below the log; else, being those of the machine that recorded, their file names
are looked for in `IMG/`. Steering is [-1, 1] for ±25°, positive to the right, and is turned round; speed is in mph.
The only clock is in the file names: `center_2018_07_16_17_11_43_382.jpg`. Rows are put in the order of these stamps.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeSet
from agents.recordings.options import COLUMNS, STEERING, ReadOptions
from agents.recordings.reading.assemble import Records, picture_episodes
from agents.recordings.reading.cameras import looking_ahead
from agents.recordings.reading.clock import Clock, arrange, since_first_s
from agents.recordings.reading.columns import (
    MPH,
    Columns,
    Meaning,
    find_columns,
    floats,
    speed_scale,
    stamps_of,
)
from agents.recordings.reading.labels import check_sides, labels, steering_fractions
from agents.recordings.reading.numbered import running_numbers
from agents.recordings.reading.pictures import is_picture_name
from agents.recordings.reading.places import Disk, Places, Tree, open_packed, told_apart
from agents.recordings.reading.store import Folder, Store, files_in, is_archive
from agents.recordings.reading.tables import Table, read_table
from agents.recordings.reading.units import find_unit

EXPECTS = "a Udacity log (a directory with driving_log.csv and IMG, or the .csv itself, or both as .zip or .tar.gz)"
"""What a path of this format looks like."""
TAKES = STEERING | COLUMNS | {"max_gap_s", "side_cameras", "side_camera_correction"}
"""Options that mean something in this format; see `agents.recordings.READERS`."""
USUAL_PERIOD_S = 1 / 15
"""The simulator records close to 15 frames a second."""
FULL_LOCK_DEG = 25.0
"""Steering angle of the simulator's car at full lock."""

_STAMP = re.compile(r"(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{3})\D*$")


def recognises(path: Path) -> bool:
    """Say whether a path is a log: a directory with `driving_log.csv`, a file of that kind, or an archive with one."""
    if is_archive(path):
        return bool(_packed_logs(path))
    if (path / "driving_log.csv").is_file():
        return True
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    return path.name == "driving_log.csv" or (path.parent / "IMG").is_dir()


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a log.

    Args:
        path: The CSV file, its directory, or an archive.
        options: Nominal period, longest gap, side cameras, columns, units.

    Returns:
        Episodes of the centre camera and, by option, of the left and right cameras after them, in their own episodes
        on the same time line.

    Raises:
        ValueError: if the file is no such log, its pictures are missing, or pictures differ in size.
    """
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    store, tree, log = _open(path, notices)
    name = f"{path}/{log}" if is_archive(path) else str(log)
    table = read_table(log, store)
    notices += table.notices
    if log.name != "driving_log.csv" and options.positive == "auto":
        notices.append(
            "read as a log of Udacity's simulator: positive steering goes right; --positive left turns it round"
        )
    if table.damaged:
        skipped["row with columns missing or damaged"] += table.damaged
    if not table.rows:
        return EpisodeSet((), dict(skipped), tuple(notices))
    columns = find_columns(table, options, name, ("centre", "steering"))
    centre = columns.places["centre"]
    rows = [row for row in table.rows if is_picture_name(row[centre])]
    if lost := len(table.rows) - len(rows):
        skipped["row with columns missing or damaged"] += lost
    ahead, _ = looking_ahead(Table(None, rows), centre) if rows else (np.ones(0, bool), None)
    if others := int((~ahead).sum()):
        skipped["picture of another camera in the centre's column"] += others
        rows = [row for row, good in zip(rows, ahead, strict=True) if good]
    if not rows:
        raise ValueError(f"{name} names no picture in the column {columns.names[centre]!r}; it is no Udacity log.")
    table = Table(table.header, rows)
    raw = labels(table, columns, name)
    unit = columns.units.get("steering", "")
    if not unit and table.header is not None and options.steering_unit == "auto":
        # Shares are the format's own; radians come from other programs that write such logs.
        seen = find_unit(raw, table, columns, tree, log.parent, store)
        if seen.unit == "rad":
            unit, lock_deg = "rad", options.degrees or seen.lock_deg
            notices.append(f"steering is taken to be in radians: {seen.reason}; --steering-unit overrules it")
            options = options if lock_deg is None else options.replaced(degrees=lock_deg)
    steering = steering_fractions(
        raw,
        options,
        skipped,
        notices,
        name=name,
        usual_side="right",
        unit=unit,
        usual_lock_deg=FULL_LOCK_DEG,
    )
    check_sides(raw, table, columns, options, name, any_scale=False)
    if not np.isfinite(steering).any():
        return EpisodeSet((), dict(skipped), tuple(notices))
    places = Places(log.parent, tree=tree)
    centres = [places.find(row[centre]) for row in rows]
    if not any(tree.is_file(str(found)) for found in centres):
        inside = f" in {path}" if is_archive(path) else ""
        raise ValueError(
            f"{log.parent / 'IMG'}{inside} should hold the pictures that {log.name} names; none of them is there "
            f"(looked for {rows[0][centre][:80]!r}). Copy them beside the log."
        )
    apart = told_apart([row[centre] for row in rows], centres, steering, skipped)
    # Rows without a label take time, too; repeats take none.
    index = running_numbers(centres)
    usable = np.flatnonzero(apart & np.isfinite(steering))
    index, centres = index[usable], [centres[row] for row in usable]
    if len(usable) == 0:
        return EpisodeSet((), dict(skipped), tuple(notices))
    stamps_s = _stamps_s(table, columns, notices)[usable]
    order, clock = arrange(centres, stamps_s, index, None, USUAL_PERIOD_S, options, skipped, notices)
    chosen = usable[order]
    extras = _extras(table, columns, chosen)
    episodes: list[Episode] = []
    cameras: dict[str, tuple[Meaning, float]] = {"centre": ("centre", 0.0)}
    if options.side_cameras:
        # A car whose middle camera saw what the left one sees stands too far left and has to come back to the right.
        correction = options.side_camera_correction
        cameras |= {"left": ("left", -correction), "right": ("right", correction)}
    for camera, (meaning, shift) in cameras.items():
        if meaning not in columns:
            notices.append(f"the log has no column of the {camera} camera")
            continue
        missing: Counter[str] = Counter()
        pictures = [places.find(rows[row][columns.places[meaning]]) for row in chosen]
        records = Records(pictures, np.clip(steering[chosen] + shift, -1, 1), extras, store)
        episodes += _camera(records, clock, str(path), camera, missing, notices if camera == "centre" else [])
        if camera == "centre":
            skipped += missing
        elif missing:
            notices.append(
                f"{sum(missing.values())} of {len(chosen)} rows have no usable picture of the {camera} camera"
            )
    return EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))


def _open(path: Path, notices: list[str]) -> tuple[Store, Tree, Path | PurePosixPath]:
    """Return where the files lie, and the log there.

    Raises:
        ValueError: if an archive holds several logs.
    """
    if not is_archive(path):
        log = path / "driving_log.csv" if path.is_dir() else path
        return Folder(log.parent), Disk(), log
    store, tree = open_packed(path, notices)
    logs = _packed_logs(path)
    if len(logs) > 1:
        listed = ", ".join(map(str, logs[:5]))
        raise ValueError(
            f"{path} holds {len(logs)} logs ({listed}); pack one alone, or unpack it and give their paths."
        )
    return store, tree, logs[0]


def _packed_logs(path: Path) -> list[PurePosixPath]:
    """Return the logs in an archive: those of the usual name, else other tables beside a folder IMG."""
    files = files_in(path)
    named = [name for name in files if name.name == "driving_log.csv"]
    beside = {name.parent.parent for name in files if name.parent.name == "IMG"}
    return named or [name for name in files if name.suffix.lower() == ".csv" and name.parent in beside]


def _camera(
    records: Records,
    clock: Clock,
    source: str,
    camera: str,
    skipped: Counter[str],
    notices: list[str],
) -> list[Episode]:
    """Assemble the episodes of one camera."""
    meta = {"source": source, "vehicle": "udacity", "renderer": "camera", "extra": {"camera": camera}}
    return picture_episodes(records, clock, meta, skipped, notices)


def _extras(table: Table, columns: Columns, chosen: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return throttle, brake and speed, where the log has them."""
    extras: dict[str, NDArray[Any]] = {}
    for name, meaning in (("throttle", "throttle"), ("brake", "brake"), ("speed_mps", "speed")):
        if meaning in columns.places:
            scale = speed_scale(columns.units.get("speed", ""), MPH) if meaning == "speed" else 1.0
            place = columns.places[meaning]
            extras[name] = (floats(table.column(place))[chosen] * scale).astype(np.float32)
    return extras


def _stamps_s(table: Table, columns: Columns, notices: list[str]) -> NDArray[np.float64]:
    """Return the time stamps of a column, or else those in the pictures' names, seconds; NaN where there is none."""
    stamps_s = stamps_of(table, columns, notices).since_first_s
    if np.isfinite(stamps_s).mean() > 0.5:
        return stamps_s
    return since_first_s([_stamp_ms(cell) for cell in table.column(columns.places["centre"])])


def _base_name(field: str) -> str:
    return PurePosixPath(field.replace("\\", "/").strip()).name


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
