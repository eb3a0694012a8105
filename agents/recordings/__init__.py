"""Recorded driving, whatever its format: one reader a file, recognised by what lies at a path.

    episodes = load_episodes(["runs/record/data", "tub", "logs/driving_log.csv"])

Steering is turned to this project's sign at load: positive left, [-1, 1] of full lock.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from agents.recordings import comma2k19, donkeycar, lerobot, minari, native, table, udacity
from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import ANY_FORMAT, ReadOptions
from agents.recordings.reading.locate import pictures_in, tables_in
from agents.recordings.splits import centre_of

_LOG = logging.getLogger(__name__)


def _of_others() -> list[ModuleType]:
    """Import the readers of installed packages; one that cannot be, or that is none, is left out and told."""
    found = []
    for entry in entry_points(group="wormwheel.recordings"):
        try:
            reader = entry.load()
            wrong = [word for word in ("EXPECTS", "recognises", "read") if not hasattr(reader, word)]
            words = f"it has no {', '.join(wrong)}" if wrong else ""
        except Exception as error:  # Of somebody else's code; recordings of all other formats are read.
            words = f"{type(error).__name__}: {error}"
        if words:
            _LOG.warning("the recording format %s (%s) is left out: %s", entry.name, entry.value, words)
        else:
            found.append(reader)
    return found


READERS: tuple[ModuleType, ...] = (
    native,
    donkeycar,
    lerobot,
    minari,
    udacity,
    comma2k19,
    *_of_others(),
    table,
)
"""The formats, in the order tried; installed packages bring more by entry points `wormwheel.recordings`. A reader is a
module with `EXPECTS` (a line on what its paths look like), `recognises(path) -> bool` and
`read(path, options) -> EpisodeSet`; one with `TAKES` (the names of the options that mean something to it, besides
`options.ANY_FORMAT`) has those said that mean nothing to it."""


def load_episodes(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    nominal_period_s: float | None = None,
    *,
    options: ReadOptions | None = None,
    mixed_sizes: bool = False,
    to_test_on: bool = False,
    **choices: Any,
) -> EpisodeSet:
    """Read one or more recordings, each in the format found at its path.

    Args:
        paths: One path or several.
        nominal_period_s: Time between frames when all is on time, seconds. None takes what the recordings say; when
            they disagree, their median weighted by frames.
        options: How to read them; the defaults when None.
        mixed_sizes: Accept recordings whose pictures differ in size from one path to the next.
        to_test_on: Leave out side cameras, whose labels are made up.
        **choices: Fields of `ReadOptions` to set in `options`, such as `side_cameras=True`.

    Returns:
        All episodes with one nominal period. Bad records among good ones are counted in `skipped`; `warnings` has
        the lines to show, which are logged as well.

    Raises:
        FileNotFoundError: if a path is not there.
        OSError: if it cannot be read.
        ValueError: if a path is of no known format or has no usable record, pictures differ in size, or nothing is left
            to test on.
    """
    if nominal_period_s is not None:
        choices["nominal_period_s"] = nominal_period_s
    options = dataclasses.replace(options or ReadOptions(), **choices)
    listed = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    if not listed:
        raise ValueError("at least one path to recorded driving was expected, got none.")
    twice = next((path for path, times in Counter(map(os.path.realpath, listed)).items() if times > 1), None)
    if twice is not None:
        raise ValueError(
            f"{twice} is named twice, and what is learnt from and what is tested on would be copies: name it once."
        )
    sets = [_load(path, options) for path in listed]
    skipped: Counter[str] = Counter()
    for one in sets:
        skipped.update(one.skipped)
    notices = [f"{path}: {notice}" for path, one in zip(listed, sets, strict=True) for notice in one.notices]
    read = sum(one.read for one in sets)
    merged = EpisodeSet(tuple(episode for one in sets for episode in one), dict(skipped), (), read)
    if not mixed_sizes:
        _ = merged.frame_size
    periods_s = [episode.meta.nominal_period_s for episode in merged]
    period_s = options.period_s
    if period_s is None and len(set(periods_s)) > 1:
        period_s = float(np.median(np.repeat(periods_s, [len(episode) for episode in merged])))
        notices.append(f"recordings differ in frame rate: elapsed time is counted in {1000 * period_s:.4g} ms")
    merged = dataclasses.replace(merged, notices=tuple(notices))
    if to_test_on:
        merged = centre_of(merged)
    for line in merged.warnings:
        _LOG.warning("%s", line)
    return merged if period_s is None else merged.with_nominal_period(period_s)


def reader_of(path: Path) -> ModuleType | None:
    """Return the reader that recognises what lies at a path; None when there is none."""
    return next((reader for reader in READERS if reader.recognises(path)), None)


def _load(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read the recording at one path."""
    try:
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there; give the path of recorded driving.")
        # A table that is named decides, whatever else lies at the path.
        reader = table if options.table is not None else reader_of(path)
        if reader is None:
            raise ValueError(_unknown(path))
        episodes: EpisodeSet = reader.read(path, options)
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(
            f"cannot read {error.filename or path}: {error.strerror}; check the path and its rights."
        ) from error
    except MemoryError:
        raise ValueError(f"{path} asks for more memory than there is; it is damaged or too large to read.") from None
    if len(episodes) == 0:
        reasons = "; ".join(episodes.warnings) or "it is empty"
        raise ValueError(f"{path} has no usable record: {reasons}. Record some driving or give another path.")
    takes = getattr(reader, "TAKES", None)
    if "side_camera_correction" in options.given and not options.side_cameras:
        takes = None if takes is None else takes - {"side_camera_correction"}
    if takes is not None and (idle := [name for name in options.given if name not in takes | ANY_FORMAT]):
        named = " and ".join("--" + name.replace("_", "-") for name in idle)
        notice = f"{named}: of no meaning for this recording, and not used"
        episodes = dataclasses.replace(episodes, notices=(*episodes.notices, notice))
    return _chosen(path, episodes, options)


def _chosen(path: Path, episodes: EpisodeSet, options: ReadOptions) -> EpisodeSet:
    """Return the part of a recording that the options ask for."""
    if options.episodes or options.from_s > 0 or options.to_s is not None:
        episodes = dataclasses.replace(episodes, read=sum(len(one) for one in episodes if one.is_centre))
    if options.episodes:
        beyond = [number for number in options.episodes if number >= len(episodes)]
        if beyond:
            raise ValueError(f"{path} has the episodes 0 to {len(episodes) - 1}, there is no episode {beyond[0]}.")
        episodes = dataclasses.replace(episodes, episodes=tuple(episodes[n] for n in sorted({*options.episodes})))
    if options.from_s > 0 or options.to_s is not None:
        end_s = max(episode.meta.start_s + episode.duration_s for episode in episodes)
        episodes = episodes.between(options.from_s, options.to_s)
        if len(episodes) == 0:
            upto = "its end" if options.to_s is None else f"{options.to_s:g} s"
            raise ValueError(f"{path} has no frame from {options.from_s:g} s to {upto}; it is {end_s:.1f} s long.")
    return episodes


_TO_A_POINT = re.compile(r"(xy_)?\d+_\d+_[0-9a-f]{8}-[0-9a-f-]+\.", re.IGNORECASE)
_WHAT_TO_DO = {
    **dict.fromkeys((".7z", ".rar", ".xz", ".bz2", ".zst", ".gz", ".lz4"), "is packed; unpack it"),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "is a spreadsheet; save it as CSV"),
    **dict.fromkeys(
        (".bag", ".mcap", ".db3"), "is a log of ROS; export its camera as pictures or a video and its steering as CSV"
    ),
    **dict.fromkeys(
        (".json", ".jsonl", ".pkl", ".pickle", ".mat", ".npz", ".tfrecord", ".sqlite"),
        "is of a kind that is not read; write its steering as CSV with a column of pictures",
    ),
}


def _unknown(path: Path) -> str:
    """Say that a path is of no known format, and which paths just below it are."""
    if path.is_file() and path.suffix.lower() in _WHAT_TO_DO:
        return f"{path} {_WHAT_TO_DO[path.suffix.lower()]}, and give the path of that."
    inside = sorted(path.iterdir()) if path.is_dir() else []
    tables = tables_in(path) if path.is_dir() else []
    if len(tables) > 1:
        listed = ", ".join(entry.name for entry in tables[:6])
        return f"{path} holds {len(tables)} tables ({listed}): give the path of the one with the labels."
    # Any CSV file may be a table of driving; it is pointed out only where it says so by lying beside pictures.
    below = [
        str(entry) for entry in inside if reader_of(entry) not in (None, table) or (entry.is_dir() and reader_of(entry))
    ]
    if below:
        more = f" and {len(below) - 5} more" if len(below) > 5 else ""
        return f"{path} holds no recording itself, but below it lie some; give these: {' '.join(below[:5])}{more}."
    if shown := pictures_in(path) if path.is_dir() else []:
        to_points = sum(_TO_A_POINT.match(name) is not None for name in shown) > 0.5 * len(shown)
        said = (
            " Their names tell points that a person clicked on, as JetBot's do, which is no steering."
            if to_points
            else ""
        )
        return (
            f"{path} holds {len(shown):,} pictures, such as {shown[0][:60]}, and no table of labels: write one as CSV "
            f"beside them, with the pictures' names in a column image and labels in a column steering.{said}"
        )
    expected = "; ".join(reader.EXPECTS for reader in READERS)
    return f"{path} holds no recording of a known format. Looked for: {expected}."
