"""The project's own data set: raw frames and arrays, one directory an episode.

    DATASET/dataset.json               format and version
    DATASET/episode_000000/frames.npy  uint8 [T, H, W, 3]
                           steering.npy float32 [T], time_s.npy float64 [T], NAME.npy for every extra
                           meta.json   EpisodeMeta

`writer.py` makes it. Frames are read from the file by position; nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet, FrameSource
from agents.recordings.options import ReadOptions
from agents.recordings.reading.files import check_regular, load_array, npy_header, one_line, read_json
from agents.recordings.reading.line import Line

FORMAT = "wormwheel-episodes"
"""Name of the format in `dataset.json`."""
VERSION = 1
"""Version of the format that is written, and the newest that is read."""

EXPECTS = "a data set of this project (a directory with dataset.json)"
"""What a path of this format looks like."""

TAKES = frozenset({"positive"})
"""Options that mean something in this format; see `agents.recordings.READERS`."""

_EPISODE = re.compile(r"episode_(\d{6,})")


def check_header(directory: Path) -> None:
    """Check that `dataset.json` names this format in a version that can be read.

    Raises:
        ValueError: if it is damaged, of another format or newer.
    """
    path = directory / "dataset.json"
    try:
        header = read_json(path)
        found, version = header["format"], int(header["version"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{path} should name format and version of a data set; it cannot be read: {one_line(error)}"
        ) from None
    if found != FORMAT:
        raise ValueError(f"{path} should name the format {FORMAT!r}, got {found!r}.")
    if version > VERSION:
        raise ValueError(f"{path} has version {version}, this program reads up to {VERSION}; use a newer program.")


def episode_directories(directory: Path) -> list[Path]:
    """Return the complete episodes of a data set in the order of their numbers."""
    found = [(int(match[1]), entry) for entry in directory.iterdir() if (match := _EPISODE.fullmatch(entry.name))]
    return [entry for _, entry in sorted(found)]


def recognises(path: Path) -> bool:
    """Say whether a path is such a data set."""
    return (path / "dataset.json").is_file()


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a data set.

    Args:
        path: Its directory.
        options: Rate, and the side to which positive steering goes.

    Returns:
        The episodes in the order of their numbers. Steps with damaged labels and episodes with damaged files are
        counted and left out.

    Raises:
        ValueError: if `dataset.json` is damaged or newer, or frames have two sizes.
    """
    check_header(path)
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    episodes: list[Episode] = []
    line = Line()
    first_directory: Path | None = None
    for directory in episode_directories(path):
        try:
            episode = _read_episode(directory, str(path), line, options, skipped)
        except (
            Exception
        ) as error:  # NumPy's header parser lets almost anything out: TokenError, SyntaxError, MemoryError.
            skipped["episode with damaged files"] += 1
            notices.append(f"{directory.name} left out: {one_line(error)}")
            continue
        if episode is None:
            continue
        first = episodes[0].meta if episodes else episode.meta
        first_directory = first_directory or directory
        if (first.height, first.width) != (episode.meta.height, episode.meta.width):
            raise ValueError(
                f"pictures of one size were expected, got {first.width}×{first.height} in {first_directory} "
                f"and {episode.meta.width}×{episode.meta.height} in {directory}; keep them in two data sets."
            )
        episodes.append(episode)
    return EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))


class RawFrames:
    """A `FrameSource` over `frames.npy`: each read opens the file, so a large set never fills memory with maps.

    Args:
        path: The file.

    Raises:
        ValueError: if it is not a complete uint8 `[T, H, W, 3]` array.
    """

    def __init__(self, path: Path) -> None:
        size = check_regular(path)
        with path.open("rb") as file:
            shape, dtype, start = npy_header(file, path, size)
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
            raise ValueError(f"{path} should hold uint8 [T, H, W, 3], got {dtype} {list(shape)}.")
        self.path = path
        self.shape: tuple[int, ...] = shape
        self._start = start

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a run of frames: uint8 `[n, H, W, 3]` RGB, and bool `[n]`, all True."""
        size = math.prod(self.shape[1:])
        count = stop - start
        frames = np.fromfile(self.path, np.uint8, count * size, offset=self._start + start * size)
        if frames.size != count * size:
            raise ValueError(f"{self.path} became shorter while it was read; record or copy it again.")
        return frames.reshape(count, *self.shape[1:]), np.ones(count, bool)


class PickedFrames:
    """A `FrameSource` that shows chosen frames of another one.

    Args:
        source: Where the frames are.
        indices: `[n]` rising indices in `source`.
    """

    def __init__(self, source: FrameSource, indices: NDArray[np.int64]) -> None:
        self.source = source
        self.indices = indices

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a run of the chosen frames: uint8 `[n, H, W, 3]` RGB, and bool `[n]`, False where undecodable."""
        wanted = self.indices[start:stop]
        frames, good = self.source.read(int(wanted[0]), int(wanted[-1]) + 1)
        return frames[wanted - wanted[0]], good[wanted - wanted[0]]


def _read_episode(
    directory: Path, source: str, line: Line, options: ReadOptions, skipped: Counter[str]
) -> Episode | None:
    """Read one episode; None when no step is left after the damaged ones are dropped."""
    arrays: dict[str, NDArray[Any]] = {
        file.stem: load_array(file) for file in directory.glob("*.npy") if file.name != "frames.npy"
    }
    steering = arrays.pop("steering").astype(np.float32)
    time_s = arrays.pop("time_s").astype(np.float64)
    raw = RawFrames(directory / "frames.npy")
    frames: FrameSource = raw
    steps = raw.shape[0]
    columns: dict[str, NDArray[Any]] = {"steering": steering, "time_s": time_s, **arrays}
    for name, values in columns.items():
        if values.shape[:1] != (steps,):
            raise ValueError(f"{name}.npy should have {steps} steps as frames.npy has, got {list(values.shape)}.")
    finite = np.isfinite(steering) & np.isfinite(time_s)
    within = ~finite | (np.abs(np.where(finite, steering, 0.0)) <= 1.0)
    rising = ~finite | (time_s > np.concatenate([[-np.inf], np.fmax.accumulate(time_s)[:-1]]))
    for reason, good in {
        "steering or time not a number": finite,
        "steering outside [-1, 1]": within,
        "time stamp not after the one before": rising,
    }.items():
        if not good.all():
            skipped[reason] += int((~good).sum())
    keep = np.flatnonzero(finite & within & rising)
    if len(keep) == 0:
        return None
    if len(keep) < steps:
        frames = PickedFrames(raw, keep)
    stored = EpisodeMeta.from_json(read_json(directory / "meta.json"))
    kept_s = time_s[keep] if options.nominal_rate is None else keep / options.nominal_rate
    meta = dataclasses.replace(
        stored,
        source=source,
        nominal_period_s=options.period_s or stored.nominal_period_s,
        height=raw.shape[1],
        width=raw.shape[2],
        start_s=line.begin(stored),
        extra={**stored.extra, "recorded_from": stored.source},
    )
    extras = {name: values[keep] for name, values in arrays.items()}
    episode = Episode(options.side("left") * steering[keep] + np.float32(0), kept_s, meta, frames, extras=extras)
    line.end(stored, meta.start_s, meta.start_s + episode.duration_s)
    return episode
