"""A table of labels beside pictures or a video, whatever car or program it came from.

    labels.csv + pictures      a column with each row's picture
    labels.csv + drive.mp4     a column with the frame's number, or time stamps on the video's clock

CSV or parquet; columns are found by their names or named by option. Steering is positive to the left unless
`--positive right` says otherwise. With a video, frames take the steering of the table interpolated at their own time:
the table's stamps are on the video's clock once `offset_s` is taken off; stamps far from zero (such as seconds since
1970) are counted from the first.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeSet
from agents.recordings.native import PickedFrames
from agents.recordings.options import ReadOptions
from agents.recordings.reading.assemble import Records, cut_rows, make_episode, picture_episodes
from agents.recordings.reading.clock import arrange, read_clock
from agents.recordings.reading.columns import (
    Columns,
    find_columns,
    floats,
    labels,
    speed_scale,
    stamps_in_seconds,
    steering_fractions,
)
from agents.recordings.reading.pictures import SUFFIXES as PICTURES
from agents.recordings.reading.pictures import is_picture_name
from agents.recordings.reading.places import Places
from agents.recordings.reading.store import Folder
from agents.recordings.reading.tables import Table, read_table
from agents.recordings.reading.video import SUFFIXES as VIDEOS
from agents.recordings.reading.video import VideoFile

EXPECTS = "a table (.csv or .parquet) beside pictures or a video, or a video with --table"
"""What a path of this format looks like."""
TABLES = (".csv", ".tsv", ".parquet", ".pq")
"""Ends of the names of tables."""
USUAL_PERIOD_S = 0.05
"""Where neither the table nor the video tells the time."""
LONGEST_SILENCE_S = 0.5
"""A frame of a video further than this from the next row has no label, seconds."""
_FAR_S = 1e6


def recognises(path: Path) -> bool:
    """Say whether a path is a table, a video, or a folder with a table and pictures or a video."""
    if path.is_dir():
        return _in_folder(path) is not None
    return path.suffix.lower() in (*TABLES, *VIDEOS) and path.is_file()


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a table with what lies beside it.

    Args:
        path: The table, the video, or the folder of both.
        options: The table, columns, units, side, offset, clock.

    Raises:
        ValueError: if there is no table, a column that is needed cannot be told, or neither pictures nor a video are
            found.
    """
    table_path, video_path, folder = _parts(path, options)
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    table = read_table(table_path)
    notices += table.notices
    if table.damaged:
        skipped["row with columns missing or damaged"] += table.damaged
    if not table.rows:
        return EpisodeSet((), dict(skipped), tuple(notices))
    columns = find_columns(table, options, table_path, ("steering",))
    pictured = "centre" in columns and any(
        is_picture_name(cell) for cell in table.column(columns.places["centre"])[:50]
    )
    raw = labels(table, columns, table_path)
    unit = columns.units.get("steering", "")
    steering = steering_fractions(
        raw, options, skipped, notices, name=table_path, usual_side="left", unit=unit, usual_lock_deg=None
    )
    if options.positive == "auto":
        notices.append("positive steering is taken to go left; --positive right turns it round")
    if pictured and video_path is None:
        return _with_pictures(path, table, columns, steering, folder, options, skipped, notices)
    if video_path is None:
        video_path = _beside(table_path)
    return _with_video(path, table, columns, steering, video_path, options, skipped, notices)


def _with_pictures(
    path: Path,
    table: Table,
    columns: Columns,
    steering: NDArray[np.float64],
    folder: Path,
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
) -> EpisodeSet:
    """Read rows that name a picture each."""
    cells = table.column(columns.places["centre"])
    named = np.asarray([is_picture_name(cell) for cell in cells])
    if n := int((~named).sum()):
        skipped["no picture named"] += n
    usable = np.flatnonzero(np.isfinite(steering) & named)
    if len(usable) == 0:
        return EpisodeSet((), dict(skipped), tuple(notices))
    places = Places(folder)
    files = [places.find(cells[row]) for row in usable]
    stamps_s = _stamps(table, columns, notices)[usable]
    index = np.arange(len(usable))
    if "frame" in columns:
        frames = floats(table.column(columns.places["frame"]))[usable]
        if np.isfinite(frames).all() and (np.abs(frames) < 2**53).all() and len(np.unique(frames)) == len(frames):
            index = frames.astype(np.int64)
    order, clock = arrange(files, stamps_s, index, None, USUAL_PERIOD_S, options, skipped, notices)
    chosen = usable[order]
    records = Records([files[row] for row in order], steering[chosen], _extras(table, columns, chosen), Folder(folder))
    meta = {"source": str(path), "renderer": "camera", "extra": {"format": "table"}}
    episodes = picture_episodes(records, clock, meta, options, skipped)
    return EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))


def _with_video(
    path: Path,
    table: Table,
    columns: Columns,
    steering: NDArray[np.float64],
    video_path: Path,
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
) -> EpisodeSet:
    """Give every frame of a video its label: by frame number, or interpolated on the time line."""
    video = VideoFile(video_path)
    try:
        frame_s = video.stamps_s()
    except ValueError:
        if options.period_s is None:
            raise
        frame_s = np.zeros(0)
    if options.nominal_rate is not None or len(frame_s) == 0:
        count = len(frame_s) or _count(video)
        frame_s = np.arange(count, dtype=np.float64) * (options.period_s or USUAL_PERIOD_S)
    usable = np.flatnonzero(np.isfinite(steering))
    stamps_s = _video_stamps(table, columns, notices)[usable] - options.offset_s
    if "time" not in columns:
        numbers = _frame_numbers(table, columns, len(frame_s), video_path)[usable]
        within = (numbers >= 0) & (numbers < len(frame_s))
        skipped["row of a frame that the video does not have"] += int((~within).sum())
        usable, numbers = usable[within], numbers[within]
        numbers, first = np.unique(numbers, return_index=True)
        skipped["repeat of an earlier record"] += len(usable) - len(first)
        rows, source = usable[first], numbers.astype(np.int64)
        values, extras = steering[rows], _extras(table, columns, rows)
        if options.offset_s:
            raise ValueError(f"{path}: --offset-s needs time stamps, and the table counts frames; leave it out.")
    else:
        source, values, extras = _at_frames(table, columns, steering, usable, stamps_s, frame_s, skipped)
    skipped += Counter()  # reasons counted as zero go
    clean = {reason: times for reason, times in skipped.items() if times}
    if len(source) == 0:
        return EpisodeSet((), clean, tuple(notices))
    clock = read_clock(frame_s[source], source, np.zeros(len(source), bool), USUAL_PERIOD_S, options)
    if clock.notice:
        notices.append(clock.notice)
    meta = {"source": str(path), "renderer": "camera", "extra": {"format": "table", "video": video_path.name}}
    size = (video.height, video.width)
    episodes = [
        make_episode(values, extras, clock, rows, size, PickedFrames(video, source[rows]), meta)
        for rows in cut_rows(np.arange(len(source)), clock, options)
    ]
    return EpisodeSet(tuple(episodes), clean, tuple(notices))


def _at_frames(
    table: Table,
    columns: Columns,
    steering: NDArray[np.float64],
    usable: NDArray[np.int64],
    stamps_s: NDArray[np.float64],
    frame_s: NDArray[np.float64],
    skipped: Counter[str],
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, NDArray[Any]]]:
    """Interpolate the table's rows to the frames; return frames with a label, labels, and more columns."""
    known = np.isfinite(stamps_s)
    skipped["row without a time stamp"] += int((~known).sum())
    usable, stamps_s = usable[known], stamps_s[known]
    stamps_s, first = np.unique(stamps_s, return_index=True)
    skipped["row with the time stamp of another"] += len(usable) - len(first)
    usable = usable[first]
    if len(usable) == 0:
        return np.zeros(0, np.int64), np.zeros(0), {}
    after = np.clip(np.searchsorted(stamps_s, frame_s), 0, len(stamps_s) - 1)
    before = np.maximum(after - 1, 0)
    silence_s = np.minimum(np.abs(stamps_s[after] - frame_s), np.abs(stamps_s[before] - frame_s))
    source = np.flatnonzero(silence_s <= LONGEST_SILENCE_S + 1e-6)
    skipped["frame without a row near it"] += len(frame_s) - len(source)
    at = frame_s[source]
    extras = {
        name: np.interp(at, stamps_s, values).astype(np.float32)
        for name, values in _extras(table, columns, usable).items()
    }
    return source, np.interp(at, stamps_s, steering[usable]), extras


def _extras(table: Table, columns: Columns, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return throttle, brake and speed of chosen rows, where the table has them."""
    extras: dict[str, NDArray[Any]] = {}
    for name, meaning in (("throttle", "throttle"), ("brake", "brake"), ("speed_mps", "speed")):
        place = {str(key): index for key, index in columns.places.items()}.get(meaning)
        if place is not None:
            scale = speed_scale(columns.units.get("speed", "")) if meaning == "speed" else 1.0
            extras[name] = (floats(table.column(place))[rows] * scale).astype(np.float32)
    return extras


def _stamps(table: Table, columns: Columns, notices: list[str]) -> NDArray[np.float64]:
    """Return the rows' time stamps in seconds from the first; NaN where there is none."""
    if "time" not in columns:
        return np.full(len(table.rows), np.nan)
    raw = floats(table.column(columns.places["time"]))
    return stamps_in_seconds(raw, columns.units.get("time", ""), notices)


def _video_stamps(table: Table, columns: Columns, notices: list[str]) -> NDArray[np.float64]:
    """Return the rows' time stamps on the video's clock; those of a calendar are counted from the first."""
    relative = _stamps(table, columns, notices)
    if "time" not in columns:
        return relative
    raw = floats(table.column(columns.places["time"]))
    known = np.flatnonzero(np.isfinite(raw))
    if len(known) < 2:
        return relative
    # The unit was found by `_stamps`; where the first row stands follows from it.
    spread = float(raw[known].max() - raw[known].min())
    scale = float(np.nanmax(relative) - np.nanmin(relative)) / spread if spread > 0 else 1.0
    first_s = float(raw[known[0]]) * scale
    if abs(first_s) > _FAR_S:
        notices.append("the table's clock is that of a calendar: its first row is taken to be the video's first frame")
        return relative - np.nanmin(relative)
    return relative + first_s


def _frame_numbers(table: Table, columns: Columns, frames: int, video: Path) -> NDArray[np.float64]:
    """Return the frame that each row belongs to: by its column, or row by row when there are as many."""
    if "frame" in columns:
        return floats(table.column(columns.places["frame"]))
    if abs(len(table.rows) - frames) <= 1:
        return np.arange(len(table.rows), dtype=np.float64)
    raise ValueError(
        f"{video} has {frames:,} frames and the table {len(table.rows):,} rows: say by --time-column or --frame-column "
        "which row belongs to which frame."
    )


def _count(video: VideoFile) -> int:
    """Count the frames of a video that keeps no times, by decoding it."""
    low, step = 0, 256
    while True:
        _, good = video.read(low, low + step)
        if not good.all():
            return low + int(good.sum())
        low += step


def _parts(path: Path, options: ReadOptions) -> tuple[Path, Path | None, Path]:
    """Return the table, the video when one was named, and the folder that pictures are named from."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix in VIDEOS:
        table = options.table or next((found for end in TABLES if (found := path.with_suffix(end)).is_file()), None)
        if table is None:
            raise ValueError(f"{path} is a video without labels; name the table with its steering by --table.")
        return _existing(table), path, path.parent
    if path.is_dir():
        if options.table is not None:
            return _existing(options.table), None, path
        only = _in_folder(path)
        assert only is not None, "recognises() has seen it"
        return only, None, path
    return path, None, path.parent


def _existing(table: Path) -> Path:
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there; --table needs the path of a CSV or parquet file.")
    return table


def _in_folder(folder: Path) -> Path | None:
    """Return the one table of a folder that has pictures or a video too."""
    tables = [entry for entry in folder.iterdir() if entry.suffix.lower() in TABLES and entry.is_file()]
    if len(tables) != 1:
        return None
    has_frames = any(
        entry.suffix.lower() in (*VIDEOS, *PICTURES) or (entry.is_dir() and _holds_pictures(entry))
        for entry in folder.iterdir()
    )
    return tables[0] if has_frames else None


def _holds_pictures(folder: Path) -> bool:
    return any(entry.suffix.lower() in PICTURES for entry in folder.iterdir())


def _beside(table: Path) -> Path:
    """Return the one video beside a table that names no pictures."""
    videos = sorted(entry for entry in table.parent.iterdir() if entry.suffix.lower() in VIDEOS)
    same = [video for video in videos if video.stem == table.stem]
    if len(same) == 1 or len(videos) == 1:
        return (same or videos)[0]
    raise ValueError(
        f"{table} names no picture in a column and there is {'no' if not videos else 'more than one'} video beside it: "
        "name the column by --frame-column, or give the video as --data and this table as --table."
    )
