"""Recorded driving, whatever its format: one reader a file, recognised by what lies at a path.

    episodes = load_episodes(["runs/record/data", "tub", "logs/driving_log.csv"])

Steering is turned to this project's sign at load: positive left, [-1, 1] of full lock.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from agents.recordings import comma2k19, donkeycar, native, udacity
from agents.recordings.episodes import EpisodeSet
from agents.recordings.reading import ReadOptions

READERS: tuple[ModuleType, ...] = (native, donkeycar, udacity, comma2k19)
"""The formats, in the order tried. A reader is a module with `EXPECTS` (a line on what its paths look like),
`recognises(path) -> bool` and `read(path, options) -> EpisodeSet`."""

_LOG = logging.getLogger(__name__)


def load_episodes(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    nominal_period_s: float | None = None,
    *,
    max_gap_s: float = 1.0,
    side_cameras: bool = False,
    side_camera_correction: float = 0.2,
    full_lock_deg: float = 450.0,
    mixed_sizes: bool = False,
) -> EpisodeSet:
    """Read one or more recordings, each in the format found at its path.

    Args:
        paths: One path or several.
        nominal_period_s: Time between frames when all is on time, seconds. None takes what the recordings say; when
            they disagree, their median weighted by frames.
        max_gap_s: A longer gap between frames begins a new episode, seconds.
        side_cameras: Udacity: add the left and right cameras as episodes of their own.
        side_camera_correction: Udacity: steering added to a side camera's label so that it leads back to the middle.
        full_lock_deg: comma2k19: angle of the steering wheel that counts as full lock, degrees.
        mixed_sizes: Accept recordings whose pictures differ in size from one path to the next.

    Returns:
        All episodes with one nominal period. Bad records among good ones are counted in `skipped`; `warnings` has
        the lines to show, which are logged as well.

    Raises:
        FileNotFoundError: if a path is not there.
        OSError: if it cannot be read.
        ValueError: if a path is of no known format or has no usable record, or pictures differ in size.
    """
    options = ReadOptions(nominal_period_s, max_gap_s, side_cameras, side_camera_correction, full_lock_deg)
    listed = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    if not listed:
        raise ValueError("at least one path to recorded driving was expected, got none.")
    sets = [_load(path, options) for path in listed]
    skipped: Counter[str] = Counter()
    for one in sets:
        skipped.update(one.skipped)
    notices = [f"{path}: {notice}" for path, one in zip(listed, sets, strict=True) for notice in one.notices]
    merged = EpisodeSet(tuple(episode for one in sets for episode in one), dict(skipped), ())
    if not mixed_sizes:
        _ = merged.frame_size
    periods_s = [episode.meta.nominal_period_s for episode in merged]
    if nominal_period_s is None and len(set(periods_s)) > 1:
        nominal_period_s = float(np.median(np.repeat(periods_s, [len(episode) for episode in merged])))
        notices.append(f"recordings differ in frame rate: elapsed time is counted in {1000 * nominal_period_s:.4g} ms")
    merged = dataclasses.replace(merged, notices=tuple(notices))
    for line in merged.warnings:
        _LOG.warning("%s", line)
    return merged if nominal_period_s is None else merged.with_nominal_period(nominal_period_s)


def _load(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read the recording at one path."""
    try:
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there; give the path of recorded driving.")
        for reader in READERS:
            if reader.recognises(path):
                episodes: EpisodeSet = reader.read(path, options)
                break
        else:
            raise ValueError(_unknown(path))
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(
            f"cannot read {error.filename or path}: {error.strerror}; check the path and its rights."
        ) from error
    if len(episodes) == 0:
        reasons = "; ".join(episodes.warnings) or "it is empty"
        raise ValueError(f"{path} has no usable record: {reasons}. Record some driving or give another path.")
    return episodes


def _unknown(path: Path) -> str:
    """Say that a path is of no known format, and which paths just below it are."""
    expected = "; ".join(reader.EXPECTS for reader in READERS)
    inside = sorted(path.iterdir()) if path.is_dir() else []
    below = [str(entry) for entry in inside if any(reader.recognises(entry) for reader in READERS)]
    hint = f" Below it lie recordings; give these: {' '.join(below[:5])}." if below else ""
    return f"{path} holds no recording of a known format. Looked for: {expected}.{hint}"
