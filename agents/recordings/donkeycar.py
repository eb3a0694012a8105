"""Donkeycar tubs of both versions, as a folder or packed (.tar.gz, .zip), which are read without unpacking.

    TUB/manifest.json       version 2: five JSON lines; the last says which catalogs and records count
        catalog_N.catalog   JSON lines, one a record
        images/             one picture a record
    TUB/record_N.json       version 1: one file a record, beside its picture; exclude.json lists the deleted ones
    MYCAR/data/             a car's folder, whose tub lies in data

The manifest decides: records that it calls deleted are dropped, catalogs that it does not name are passed over, and
both are counted. Garbled lines and unusable pictures are counted and skipped. The angle is positive to the right and is
turned round. Records made while the pilot drove carry no human steering and are skipped. Pictures are shown as stored,
as Donkeycar does, whatever their camera noted of how it was held.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import COLUMNS, ReadOptions
from agents.recordings.options import STEERING as STEERING_OPTIONS
from agents.recordings.reading.assemble import Records, picture_episodes
from agents.recordings.reading.clock import arrange, since_first_s
from agents.recordings.reading.columns import floats, speed_scale, unit_of
from agents.recordings.reading.files import DamagedFile, number, parse_json
from agents.recordings.reading.labels import steering_fractions
from agents.recordings.reading.places import open_packed
from agents.recordings.reading.stamps import SECONDS, epoch_unit, is_moment, read_stamps
from agents.recordings.reading.store import Folder, Store, files_in, is_archive

EXPECTS = "a Donkeycar tub (a directory with manifest.json or record_*.json, or such a one as .tar.gz or .zip)"
"""What a path of this format looks like."""
USUAL_PERIOD_S = 0.05
"""Donkeycar's loop runs at 20 Hz unless set otherwise."""
TAKES = STEERING_OPTIONS | COLUMNS | {"max_gap_s", "all_catalogs"}
"""Options that mean something in this format; see `agents.recordings.READERS`."""
STEERING = ("user/angle", "user/steering", "steering", "angle", "user/steering_angle")
"""Names that the steering has had; the first that a record has counts."""
PICTURE = ("cam/image_array", "cam/image", "image_array", "image", "cam/image_array_a")
"""Names that the picture has had."""
THROTTLE = ("user/throttle", "throttle")
"""Names that the throttle has had."""

_TOO_LARGE = 2**53
_MOST_EXTRAS = 64
_TAKEN = ("frames", "steering", "time_s")
_RECORD = re.compile(r"record_(\d+)\.json")


def recognises(path: Path) -> bool:
    """Say whether a path is a tub, its manifest, what is left of a tub, or an archive that holds one."""
    if is_archive(path):
        return any(map(_marks, files_in(path)))
    return _is_manifest(path) or (path.is_dir() and _is_tub(tub_in(path)))


def tub_in(path: Path) -> Path:
    """Return the tub that a folder is or, where it is a car's, that it has in `data`."""
    return path / "data" if not _is_tub(path) and _is_tub(path / "data") else path


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a tub.

    Args:
        path: Its directory, the manifest in it, or an archive.
        options: Nominal period, longest gap, names of fields.

    Returns:
        One episode for each stretch without a change of session, a step back of the running number, or a long gap.

    Raises:
        ValueError: if the manifest is missing or damaged, no record has steering or a picture, or pictures differ in
            size.
    """
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    store, tub = _open(path, notices)
    if store.has(tub / "manifest.json") or (options.all_catalogs and store.names(tub, "catalog_*.catalog")):
        pairs, pictures = _version_2(store, tub, options, skipped), tub / "images"
    else:
        pairs, pictures = _version_1(store, tub, path, skipped), tub
    return _read(pairs, pictures, store, path, options, skipped, notices)


def _read(
    pairs: Iterator[tuple[int, dict[str, Any]]],
    pictures: Path | PurePosixPath,
    store: Store,
    path: Path,
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
) -> EpisodeSet:
    """Read the records of either version."""
    names: list[str] = []
    angles: list[float] = []
    more: dict[str, list[float]] = {}
    told: dict[str, list[Any]] = {name: [] for name in (options.time_column, options.speed_column) if name is not None}
    numbers: list[int] = []
    stamps_ms: list[float] = []
    sessions: list[str] = []
    fields: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    wanted = {
        "steering": (options.steering_column,) if options.steering_column else STEERING,
        "picture": (options.frame_column,) if options.frame_column else PICTURE,
    }
    for index, record in pairs:
        fields.update(key for key in record if isinstance(key, str))
        if record.get("user/mode", "user") != "user":
            skipped["driven by the pilot, not a person"] += 1
            continue
        steering = _first(record, wanted["steering"])
        picture = _first(record, wanted["picture"])
        if picture is None or steering is None:
            lacking.update(what for what, key in (("picture", picture), ("steering", steering)) if key is None)
            skipped["no picture named" if picture is None else "no steering in the record"] += 1
            continue
        name = record[picture]
        if not isinstance(name, str) or not name:
            skipped["no picture named"] += 1
            continue
        names.append(name)
        angles.append(number(record[steering]))
        _note(more, record, len(names) - 1, (steering, picture))
        numbers.append(index)
        stamps_ms.append(_stamp_ms(record))
        sessions.append(str(record.get("_session_id")))
        for field, cells in told.items():
            cells.append(record.get(field))
    if not names:
        for what, times in lacking.items():
            if times:
                raise ValueError(_lacks(path, what, wanted[what], fields))
        return EpisodeSet((), dict(skipped), tuple(notices))
    for field, cells in told.items():
        if all(cell is None for cell in cells):
            present = ", ".join(repr(one[:60]) for one, _ in fields.most_common(12))
            raise ValueError(f"{path}: no record has the field {field!r}; fields present: {present}.")
    raw = np.asarray(angles)
    steering_left = steering_fractions(raw, options, skipped, notices, name=path, usual_side="right")
    usable = np.flatnonzero(np.isfinite(steering_left))
    if len(usable) == 0:
        return EpisodeSet((), dict(skipped), tuple(notices))
    files = [pictures / PurePosixPath(names[row].replace("\\", "/")).name for row in usable]
    order, clock = arrange(
        files,
        _stamps_s(told, options, stamps_ms, notices)[usable],
        np.asarray(numbers, np.int64)[usable],
        [sessions[row] for row in usable],
        USUAL_PERIOD_S,
        options,
        skipped,
        notices,
    )
    rows = usable[order]
    extras = {name: _column(values, len(names))[rows] for name, values in more.items()}
    if options.speed_column is not None:
        scale = speed_scale(unit_of(options.speed_column))
        extras["speed_mps"] = (scale * floats(told[options.speed_column])[rows]).astype(np.float32)
    records = Records([files[row] for row in order], steering_left[rows], extras, store, as_stored=True)
    meta = {"source": str(path), "vehicle": "donkeycar", "renderer": "camera"}
    episodes = picture_episodes(records, clock, meta, skipped, notices)
    return EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))


def _open(path: Path, notices: list[str]) -> tuple[Store, Path | PurePosixPath]:
    """Return where the tub's files lie, and its folder there."""
    if not is_archive(path):
        folder = path.parent if path.is_file() else tub_in(path)
        return Folder(folder), folder
    store, _ = open_packed(path, notices)
    marks = filter(_marks, store.index)
    tubs = sorted({mark.parent for mark in marks}, key=lambda folder: (len(folder.parts), str(folder)))
    if len(tubs) > 1:
        listed = ", ".join(str(tub) for tub in tubs[:5])
        raise ValueError(
            f"{path} holds {len(tubs)} tubs ({listed}); pack one alone, or unpack it and give their paths."
        )
    return store, tubs[0]


def _marks(name: PurePosixPath) -> bool:
    """Say whether a file in an archive is that of a tub."""
    return name.name == "manifest.json" or _RECORD.fullmatch(name.name) is not None


def _lacks(path: Path, what: str, wanted: tuple[str, ...], fields: Counter[str]) -> str:
    """Say which field is missing, and which are there."""
    present = ", ".join(repr(name[:60]) for name, _ in fields.most_common(12)) or "none"
    option = "--steering-column" if what == "steering" else "--frame-column"
    return (
        f"{path}: no record has the {what}, looked for as {' or '.join(wanted)}; fields present: {present}. "
        f"Name the one with the {what} by {option}."
    )


def _first(record: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in record), None)


def _version_2(
    store: Store, tub: Path | PurePosixPath, options: ReadOptions, skipped: Counter[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield running number and content of the records that count, counting the others."""
    whole = store.has(tub / "manifest.json")
    catalogs, deleted = _read_manifest(store, tub / "manifest.json") if whole else ([], frozenset[int]())
    named = [tub / PurePosixPath(name.replace("\\", "/")).name for name in catalogs]
    others = sorted({*store.names(tub, "catalog_*.catalog")} - {*named}, key=lambda entry: _numeral(entry.name))
    for position, catalog in enumerate([*named, *others]):
        if not store.has(catalog):
            skipped["catalog missing"] += 1
            continue
        passed_over = position >= len(named) and not options.all_catalogs
        for record in store.lines(catalog):
            index = _whole(record.get("_index")) if isinstance(record, dict) else None
            if index is None:
                skipped["garbled line"] += 1
            elif passed_over:
                skipped["in a catalog that the manifest passes over"] += 1
            elif index in deleted:
                skipped["deleted by its owner"] += 1
            else:
                yield index, record


def _version_1(
    store: Store, tub: Path | PurePosixPath, path: Path, skipped: Counter[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield running number and content of the record files."""
    found = {
        int(match[1]): name for name in store.names(tub, "record_*.json") if (match := _RECORD.fullmatch(name.name))
    }
    if not found:
        raise ValueError(
            f"{path} has catalogs but no manifest.json, which says what counts; copy the whole tub again, or read all "
            "of them by --all-catalogs."
        )
    excluded: set[int] = set()
    if store.has(tub / "exclude.json"):
        try:
            listed = parse_json(store.read(tub / "exclude.json"), tub / "exclude.json")
            entries = listed if isinstance(listed, list) else []
            excluded = {index for entry in entries if (index := _whole(entry)) is not None}
        except (OSError, DamagedFile):
            skipped["list of deleted records damaged"] += 1
    for index in sorted(found):
        if index in excluded:
            skipped["deleted by its owner"] += 1
            continue
        try:
            record = parse_json(store.read(found[index], 1 << 20), found[index])
        except (OSError, DamagedFile):
            record = None
        if isinstance(record, dict) and index < _TOO_LARGE:
            yield index, record
        else:
            skipped["record file damaged"] += 1


def _read_manifest(store: Store, path: Path | PurePosixPath) -> tuple[list[str], frozenset[int]]:
    """Return the catalogs to read and the records to drop."""
    found: dict[str, Any] = {}
    for content in store.lines(path):
        if isinstance(content, dict) and "paths" in content:
            found = content
    names, deleted = found.get("paths"), found.get("deleted_indexes", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not isinstance(deleted, list):
        where = path if isinstance(store, Folder) else f"{path} in {store.place}"
        raise ValueError(
            f"{where} should name the catalogs of the tub in a line with 'paths'; it is damaged, copy it again."
        )
    return names, frozenset(index for entry in deleted if (index := _whole(entry)) is not None)


def _note(more: dict[str, list[float]], record: dict[str, Any], row: int, known: tuple[str, ...]) -> None:
    """Note the other numbers of a record by name; NaN fills the rows that lack one."""
    for key, value in record.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or key in known:
            continue
        if key.startswith(("_", "pilot/")) or key in ("milliseconds", *STEERING, *PICTURE):
            continue
        name = "throttle" if key in THROTTLE else key.removeprefix("user/").replace("/", "_")
        if name not in more and (len(more) >= _MOST_EXTRAS or not name.isidentifier() or name in _TAKEN):
            continue
        column = more.setdefault(name, [])
        column += [math.nan] * (row - len(column))
        if len(column) == row:
            column.append(number(value))


def _column(values: list[float], count: int) -> NDArray[Any]:
    """Return a column of numbers, as float32 where nothing is lost by that."""
    column = np.asarray(values + [math.nan] * (count - len(values)))
    with np.errstate(over="ignore"):
        short = column.astype(np.float32)
    return short if np.array_equal(short, column, equal_nan=True) else column


def _whole(value: Any) -> int | None:
    """Return a running number, also where another program made a float or a text of it; None for anything else."""
    found = number(value)
    return int(found) if math.isfinite(found) and found == int(found) and 0 <= found < _TOO_LARGE else None


def _stamps_s(
    told: dict[str, list[Any]], options: ReadOptions, stamps_ms: list[float], notices: list[str]
) -> NDArray[np.float64]:
    """Return the records' clock: of the field that is named, else of those that the format has; NaN where it lacks."""
    if options.time_column is None:
        return since_first_s(stamps_ms)
    cells = ["" if cell is None else str(cell) for cell in told[options.time_column]]
    return read_stamps(cells, unit_of(options.time_column), None, notices).since_first_s


def _stamp_ms(record: dict[str, Any]) -> float:
    """Return a record's time stamp in milliseconds; NaN when it has none."""
    for name in ("_timestamp_ms", "milliseconds", "timestamp"):
        if name not in record:
            continue
        value = number(record[name])
        if math.isfinite(value):
            # A moment of our days in another unit than the field's name says was written by another program.
            unit = epoch_unit(value)
            return value if unit in (None, "ms") else value * SECONDS[unit] * 1000
        if isinstance(record[name], str) and is_moment(record[name]):
            return 1000 * read_stamps([record[name]], "", None, []).first_s
    return math.nan


def _numeral(name: str) -> tuple[int, str]:
    digits = re.search(r"\d{1,15}", name)
    return (int(digits[0]) if digits else 0, name)


def _is_manifest(path: Path) -> bool:
    return path.name == "manifest.json" and path.is_file()


def _is_tub(path: Path) -> bool:
    return _is_manifest(path / "manifest.json") or _has_remains(path)


def _has_remains(path: Path) -> bool:
    return any(path.glob("catalog_*.catalog")) or any(path.glob("record_*.json"))
