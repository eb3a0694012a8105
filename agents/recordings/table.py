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

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import COLUMNS, STEERING, ReadOptions
from agents.recordings.reading.assemble import Records, picture_episodes
from agents.recordings.reading.cameras import looking_ahead
from agents.recordings.reading.clock import arrange
from agents.recordings.reading.columns import Columns, extras_of, find_columns, floats, stamps_of
from agents.recordings.reading.filmed import USUAL_PERIOD_S, with_video
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

EXPECTS = "a table (.csv or .parquet) beside pictures (also as .zip or .tar.gz) or a video, or a video with --table"
"""What a path of this format looks like."""
TAKES = STEERING | COLUMNS | {"max_gap_s", "full_lock_deg", "table", "offset_s"}
"""Options that mean something in this format; see `agents.recordings.READERS`."""
_IN_WORDS = {"rad": "radians", "deg": "degrees", "percent": "per cent"}
_CHALLENGE = {"frame_id", "filename", "angle", "torque"}  # columns of interpolated.csv


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
    return with_video(path, table, columns, steering, video, options, skipped, notices)


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
    records = Records([files[row] for row in order], steering[chosen], extras_of(table, columns, chosen), found.store)
    meta = {"source": str(path), "renderer": "camera", "extra": {"format": "table"}}
    episodes = picture_episodes(records, clock, meta, skipped, notices)
    return EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))


def _all_different(values: NDArray[np.float64]) -> bool:
    """Say whether values are whole numbers, no two the same."""
    if not np.isfinite(values).all() or (np.abs(values) >= 2**53).any():
        return False
    return len(np.unique(values)) == len(values)
