"""A table of labels beside pictures or a video, whatever car or program it came from.

    labels.csv + pictures      a column with each row's picture, or with the number that its name bears
    labels.csv + drive.mp4     a column with the frame's number, or time stamps on the video's clock
    train.parquet              a column that holds the pictures themselves, as Hugging Face's data sets have it
    data.txt + pictures        lines "12.jpg 3.25", as in driving_dataset
    interpolated.csv           Udacity's second challenge: radians at the steering wheel, three cameras, of which one
                               counts

CSV or parquet; columns are found by their names or named by option. Steering is positive to the left unless
`--positive right` says otherwise. With a video, frames take the steering of the table interpolated at their own time:
the table's stamps are on the video's clock once `offset_s` is taken off; stamps far from zero (such as seconds since
1970) are counted from the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeSet
from agents.recordings.native import PickedFrames
from agents.recordings.options import COLUMNS, STEERING, ReadOptions
from agents.recordings.reading.assemble import Records, cut_rows, make_episode, picture_episodes
from agents.recordings.reading.cameras import looking_ahead
from agents.recordings.reading.clock import arrange, read_clock
from agents.recordings.reading.columns import (
    Columns,
    find_columns,
    floats,
    plain_name,
    speed_scale,
    stamps_of,
)
from agents.recordings.reading.labels import check_sides, labels, steering_fractions
from agents.recordings.reading.locate import holds_table, locate_table, video_beside
from agents.recordings.reading.numbered import (
    folders_of,
    numbers_in_names,
    pictures_of_numbers,
    running_numbers,
    stamps_in_names,
)
from agents.recordings.reading.pictures import is_picture_name
from agents.recordings.reading.places import AnyPath, Places, Tree, told_apart
from agents.recordings.reading.store import Store, is_archive
from agents.recordings.reading.tables import Table, read_table
from agents.recordings.reading.units import find_unit
from agents.recordings.reading.video import SUFFIXES as VIDEOS
from agents.recordings.reading.video import VideoFile

EXPECTS = "a table (.csv or .parquet) beside pictures (also as .zip or .tar.gz) or a video, or a video with --table"
"""What a path of this format looks like."""
TAKES = STEERING | COLUMNS | {"max_gap_s", "full_lock_deg", "table", "offset_s"}
"""Options that mean something in this format; see `agents.recordings.READERS`."""
USUAL_PERIOD_S = 0.05
"""Where neither the table nor the video tells the time."""
LONGEST_SILENCE_S = 0.5
"""A frame of a video further than this from the next row has no label, seconds."""
_FAR_S = 1e6
_IN_WORDS = {"rad": "radians", "deg": "degrees", "percent": "per cent"}
_CHALLENGE = {"frame_id", "filename", "angle", "torque"}  # columns of interpolated.csv
_COUNTERS = ("frame", "frame id", "frame index", "frame number", "frame no", "video frame")


def recognises(path: Path) -> bool:
    """Say whether a path is a table, a video, or a folder or archive with a table and pictures or a video."""
    return holds_table(path)


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a table with what lies beside it.

    Args:
        path: The table, the video, or the folder or archive of both.
        options: The table, columns, units, side, offset, clock.

    Raises:
        ValueError: if there is no table, a column that is needed cannot be told, or neither pictures nor a video are
            found.
    """
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    place = locate_table(path, options, notices)
    name, tree, folder, store = place.name, place.tree, place.folder, place.store
    table = read_table(place.table, place.table_store)
    notices += table.notices
    if table.damaged:
        skipped["row with columns missing or damaged"] += table.damaged
    if not table.rows:
        return EpisodeSet((), dict(skipped), tuple(notices))
    columns = find_columns(table, options, name, ("steering",))
    known = table.header is not None and {name.strip().lower() for name in table.header} >= _CHALLENGE
    if known:
        columns.units["steering"] = "rad"
        if options.degrees is None:
            options = options.replaced(degrees=options.full_lock_deg)
            notices.append(
                f"a log of Udacity's second challenge: radians at the steering wheel, {options.degrees:g}° at full lock"
            )
    pictured = "centre" in columns and any(
        is_picture_name(cell) for cell in table.column(columns.places["centre"])[:50]
    )
    numbered = None
    if not pictured and place.video is None:
        numbered = _numbered(table, columns, tree, folder, name, notices)
    if pictured:
        ahead, reason = looking_ahead(table, columns.places["centre"])
        if reason is not None:
            skipped["picture of another camera"] += int((~ahead).sum())
            notices.append(f"only the camera that looks ahead counts, by {reason}")
            table.rows = [row for row, good in zip(table.rows, ahead, strict=True) if good]
    raw = labels(table, columns, name)
    unit = columns.units.get("steering", "")
    if not unit and not known and options.straight is None and options.steering_unit == "auto":
        seen = find_unit(raw, table, columns, tree, folder, store)
        unit = seen.unit
        if unit in ("rad", "deg", "percent"):
            notices.append(f"steering is taken to be in {_IN_WORDS[unit]}: {seen.reason}; --steering-unit overrules it")
        if seen.lock_deg is not None and options.degrees is None:
            options = options.replaced(degrees=seen.lock_deg)
            notices.append(f"full lock is taken to be {seen.lock_deg:g}°; --degrees sets another angle")
    bare = not unit and options.steering_unit == "auto"
    plain = None if known else check_sides(raw, table, columns, options, name, any_scale=True, recognise=bare)
    if plain is not None:
        straight, full = plain
        options = options.replaced(straight=straight, degrees=full)
        notices.append(
            f"steering is never below 0 and fills its scale: {straight:g} is taken to be straight ahead, and "
            f"{straight - full:g} and {straight + full:g} full lock; --straight and --degrees set others"
        )
    steering = steering_fractions(
        raw, options, skipped, notices, name=name, usual_side="left", unit=unit, usual_lock_deg=None
    )
    if options.positive == "auto" and not known:
        notices.append("positive steering is taken to go left; --positive right turns it round")
    if bare and options.degrees is None and "angle" in columns.names[columns.places["steering"]].lower():
        most = float(np.abs(raw[np.isfinite(raw)]).max()) if np.isfinite(raw).any() else 0.0
        notices.append(
            f"the angle, {most:.3g} at most, is taken to be a share of full lock; if it is in radians or degrees, say "
            "so by --steering-unit, and what full lock is by --degrees"
        )
    if (pictured or numbered is not None) and place.video is None:
        held = table.pictures.get(columns.places["centre"]) if pictured else None
        if held is not None:
            numbered, store = [PurePosixPath(cell) for cell in table.column(columns.places["centre"])], held
        found = _Found(tree, folder, store, numbered)
        return _with_pictures(path, table, columns, steering, found, options, skipped, notices)
    if is_archive(path):
        raise ValueError(
            f"{path} has no pictures that the rows of {place.table.name} name; videos are read unpacked only: unpack "
            "it and give the path of its folder."
        )
    video = place.video or video_beside(Path(place.table))
    return _with_video(path, table, columns, steering, video, options, skipped, notices)


@dataclass
class _Found:
    """Where the pictures of a table lie."""

    tree: Tree
    folder: AnyPath
    store: Store
    files: Sequence[AnyPath] | None
    """`[n]` those of the rows, where they are known already."""


def _numbered(
    table: Table, columns: Columns, tree: Tree, folder: AnyPath, name: str, notices: list[str]
) -> list[AnyPath] | None:
    """Find the pictures that rows mean by their number; None where no column and no pictures are of that kind."""
    if any(PurePosixPath(entry).suffix.lower() in VIDEOS for entry in tree.files(str(folder))):
        return None
    for meaning in ("centre", "frame", "time"):
        index = {str(key): place for key, place in columns.places.items()}.get(meaning)
        if index is None:
            continue
        found = pictures_of_numbers(tree, folder, table.column(index), columns.names[index], name)
        if found is not None:
            notices.append(f"pictures are found by their numbers in the column {columns.names[index]!r}")
            return found
    return None


def _with_pictures(
    path: Path,
    table: Table,
    columns: Columns,
    steering: NDArray[np.float64],
    found: _Found,
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
) -> EpisodeSet:
    """Read rows that name a picture each, or whose pictures were found already."""
    if options.offset_s:
        raise ValueError(f"{path}: --offset-s is between a table's clock and a video's, and rows name pictures here.")
    named = np.arange(len(table.rows))
    if found.files is None:
        cells = table.column(columns.places["centre"])
        named = np.asarray([row for row, cell in enumerate(cells) if is_picture_name(cell)], np.int64)
        if len(named) < len(cells):
            skipped["no picture named"] += len(cells) - len(named)
        places = Places(found.folder, tree=found.tree)
        files = [places.find(cells[row]) for row in named]
        good = told_apart([cells[row] for row in named], files, steering[named], skipped)
    else:
        files = list(found.files)
        good = np.asarray([file.name != "" for file in files])
        if not good.all():
            skipped["no picture in the row"] += int((~good).sum())
    # Rows without a label take time, too; repeats take none.
    index = running_numbers(files)
    if "time" not in columns and (numbers := numbers_in_names(files)) is not None:
        index = numbers
    kept = np.flatnonzero(good & np.isfinite(steering[named]))
    usable, index, files = named[kept], index[kept], [files[row] for row in kept]
    if len(usable) == 0:
        return EpisodeSet((), dict(skipped), tuple(notices))
    stamps = stamps_of(table, columns, notices) if "time" in columns else stamps_in_names(files, notices)
    stamps_s = stamps.since_first_s[usable] if "time" in columns else stamps.since_first_s
    frames = floats(table.column(columns.places["frame"]))[usable] if "frame" in columns else np.zeros(0)
    if len(frames) and _all_different(frames):
        index = frames.astype(np.int64)
    # Without a clock nothing else tells where one drive ends and the next begins.
    sittings = None if np.isfinite(stamps_s).any() else folders_of(files).tolist()
    order, clock = arrange(files, stamps_s, index, sittings, USUAL_PERIOD_S, options, skipped, notices)
    chosen = usable[order]
    records = Records([files[row] for row in order], steering[chosen], _extras(table, columns, chosen), found.store)
    meta = {"source": str(path), "renderer": "camera", "extra": {"format": "table"}}
    episodes = picture_episodes(records, clock, meta, skipped, notices)
    return EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))


def _all_different(values: NDArray[np.float64]) -> bool:
    """Say whether values are whole numbers, no two the same."""
    if not np.isfinite(values).all() or (np.abs(values) >= 2**53).any():
        return False
    return len(np.unique(values)) == len(values)


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
        laid_s = options.period_s or USUAL_PERIOD_S if options.nominal_rate is None else 1 / options.nominal_rate
        frame_s = np.arange(count, dtype=np.float64) * laid_s
    usable = np.flatnonzero(np.isfinite(steering))
    lasts_s = float(frame_s[-1]) if len(frame_s) else 0.0
    numbers = _counted(table, columns, len(frame_s), lasts_s, video_path, options, notices)
    if numbers is not None:
        numbers = numbers[usable]
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
        stamps_s = _video_stamps(table, columns, lasts_s, notices)[usable] - options.offset_s
        known = stamps_s[np.isfinite(stamps_s)]
        if len(known) and (known.min() > lasts_s + LONGEST_SILENCE_S or known.max() < -LONGEST_SILENCE_S):
            raise ValueError(
                f"{path}: the table's clock runs from {known.min():.6g} to {known.max():.6g} s, the video from 0 to "
                f"{lasts_s:.6g} s, and they do not meet: give --offset-s {known.min() + options.offset_s:.10g} if the "
                "table's first row belongs to the video's first frame."
            )
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
        for rows in cut_rows(np.arange(len(source)), clock)
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


def _video_stamps(table: Table, columns: Columns, lasts_s: float, notices: list[str]) -> NDArray[np.float64]:
    """Return the rows' time stamps on the video's clock; those of a calendar are counted from the earliest."""
    stamps = stamps_of(table, columns, notices, lasts_s)
    if abs(stamps.first_s) > _FAR_S or (stamps.written and stamps.first_s > lasts_s):
        notices.append("the table's clock is that of a calendar: its first row is taken to be the video's first frame")
        return stamps.since_first_s
    return stamps.since_first_s + stamps.first_s


def _counted(
    table: Table,
    columns: Columns,
    frames: int,
    lasts_s: float,
    video: Path,
    options: ReadOptions,
    notices: list[str],
) -> NDArray[np.float64] | None:
    """Return the frame that each row belongs to, by its column or row by row; None where time stamps tell it.

    A column that counts frames comes before time stamps whose zero is not the video's.

    Raises:
        ValueError: if rows can be no frames.
    """
    if "frame" not in columns:
        if "time" in columns:
            return None
        if abs(len(table.rows) - frames) <= 1:
            return np.arange(len(table.rows), dtype=np.float64)
        raise ValueError(_not_told(video, frames, len(table.rows)))
    name = columns.names[columns.places["frame"]]
    counter = is_frame_counter(name) or options.frame_column is not None
    numbers = floats(table.column(columns.places["frame"]))
    known = numbers[np.isfinite(numbers)]
    beyond = int((known > frames).sum() + (known < 0).sum())
    if "time" in columns:
        first_s = stamps_of(table, columns, [], lasts_s).first_s
        whole = len(known) > 0 and bool((known == np.floor(known)).all())
        if not (counter and whole and not beyond and first_s > lasts_s) or options.time_column is not None:
            return None
    elif not counter and beyond > max(2, 0.01 * len(known)):
        raise ValueError(_not_told(video, frames, len(table.rows)))
    if len(known) and known.min() == 1 and known.max() == frames:
        notices.append(f"frames are counted from 1 in the column {name!r}")
        numbers = numbers - 1
    return numbers


def is_frame_counter(name: str) -> bool:
    """Say whether a column counts the frames of a video, rather than the rows of a table."""
    return plain_name(name) in _COUNTERS


def _not_told(video: Path, frames: int, rows: int) -> str:
    return (
        f"{video} has {frames:,} frames and the table {rows:,} rows: say by --time-column or --frame-column "
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
