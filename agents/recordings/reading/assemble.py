"""From labelled pictures in order to episodes: the pictures are checked, and gaps cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeMeta, FrameSource
from agents.recordings.reading.clock import Clock
from agents.recordings.reading.pictures import BadPicture, PictureFiles, bits_used, check_picture
from agents.recordings.reading.store import Folder, Store

MOST_STRAYS = 0.01
"""Share of pictures of another size up to which they are single faults; more of them belong to another camera."""
_SAMPLE = 32  # pictures that are looked at for how bright they get


@dataclass
class Records:
    """Labelled pictures of one camera, in order, before they are checked."""

    pictures: Sequence[Path | PurePosixPath]
    """`[T]` files."""
    steering: NDArray[np.float64]
    """`[T]` positive left."""
    extras: Mapping[str, NDArray[Any]]
    """More columns `[T]`."""
    store: Store
    """Where the files lie."""
    as_stored: bool = False
    """Whether pictures are shown as stored although their camera noted that it was turned: for formats whose own
    software does so."""

    def take(self, rows: NDArray[np.int64]) -> Records:
        """Return chosen rows."""
        extras = {name: values[rows] for name, values in self.extras.items()}
        return Records([self.pictures[row] for row in rows], self.steering[rows], extras, self.store, self.as_stored)


def picture_episodes(
    records: Records,
    clock: Clock,
    meta: Mapping[str, Any],
    skipped: Counter[str],
    notices: list[str],
) -> list[Episode]:
    """Check the pictures and cut the records into episodes.

    Args:
        records: `[T]` labelled pictures.
        clock: Their time line.
        meta: Fields of `EpisodeMeta` besides size, period and start.
        skipped: Counts of records left out; bad pictures are added.
        notices: What was decided is said here.

    Returns:
        Episodes in order; none when no picture is good.

    Raises:
        ValueError: if more than single pictures differ in size.
    """
    keep, size, digests = _check_pictures(records, skipped)
    if size is None:
        return []
    bits = _depth(records, keep, notices)
    episodes = []
    for rows in cut_rows(keep, clock):
        paths = [records.pictures[row] for row in rows]
        store = None if isinstance(records.store, Folder) else records.store
        source = PictureFiles(paths, *size, store, records.as_stored, bits)
        episodes.append(make_episode(records.steering, records.extras, clock, rows, size, source, meta, digests))
    return episodes


def _depth(records: Records, keep: NDArray[np.int64], notices: list[str]) -> int:
    """Return how many bits a channel pictures of 16 use, by a sample of them."""
    chosen = keep[np.unique(np.linspace(0, len(keep) - 1, _SAMPLE).astype(np.int64))]
    contents = (records.store.read(records.pictures[row]) for row in chosen)
    if bits_used([next(contents)]) is None:
        return 16
    bits = bits_used(records.store.read(records.pictures[row]) for row in chosen) or 16
    if bits < 16:
        notices.append(f"pictures have 16 bits a channel, of which {bits} are used: the upper 8 of these are shown")
    return bits


def cut_rows(keep: NDArray[np.int64], clock: Clock) -> list[NDArray[np.int64]]:
    """Cut the rows that are kept wherever one does not follow from the one before."""
    if len(keep) == 0:
        return []
    cuts = (np.diff(clock.segment[keep]) > 0) | (np.diff(clock.time_s[keep]) > clock.longest_s)
    return np.split(keep, np.flatnonzero(cuts) + 1)


def make_episode(
    steering: NDArray[np.float64],
    extras: Mapping[str, NDArray[Any]],
    clock: Clock,
    rows: NDArray[np.int64],
    size: tuple[int, int],
    source: FrameSource | None,
    meta: Mapping[str, Any],
    digests: NDArray[np.uint64] | None = None,
) -> Episode:
    """Make an episode of some rows of a recording; `source` shows these rows alone."""
    time_s = clock.time_s[rows]
    about = EpisodeMeta(
        nominal_period_s=clock.period_s, height=size[0], width=size[1], start_s=float(clock.line_s[rows[0]]), **meta
    )
    return Episode(
        steering[rows].astype(np.float32),
        time_s - time_s[0],
        about,
        source,
        extras={name: values[rows] for name, values in extras.items()},
        digests=None if digests is None else digests[rows],
    )


def _check_pictures(
    records: Records, skipped: Counter[str]
) -> tuple[NDArray[np.int64], tuple[int, int] | None, NDArray[np.uint64]]:
    """Return the rows whose pictures are good, their one size, and a hash of each file; strays of another size go."""
    sizes: dict[tuple[int, int], list[int]] = {}
    digests = np.zeros(len(records.pictures), np.uint64)
    for row, path in enumerate(records.pictures):
        try:
            height, width, digest = check_picture(records.store, path, records.as_stored)
        except BadPicture as error:
            skipped[str(error)] += 1
            continue
        sizes.setdefault((height, width), []).append(row)
        digests[row] = digest
    if not sizes:
        return np.zeros(0, np.int64), None, digests
    size, keep = max(sizes.items(), key=lambda item: len(item[1]))
    strays = sum(map(len, sizes.values())) - len(keep)
    if strays > MOST_STRAYS * (strays + len(keep)):
        other, rows = next(item for item in sizes.items() if item[0] != size)
        raise ValueError(
            f"pictures of one size were expected, got {size[1]}×{size[0]} in {records.pictures[keep[0]]} and "
            f"{other[1]}×{other[0]} in {records.pictures[rows[0]]}; keep them in two data sets."
        )
    if strays:
        skipped[f"picture of another size than {size[1]}×{size[0]}"] += strays
    return np.asarray(keep, np.int64), size, digests
