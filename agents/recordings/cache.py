"""Decode once: turn any episodes into a data set of raw frames of the size that the driver looks at.

Training on picture files would decode and shrink every picture again in every epoch. This does it once, a few frames at
a time, into a directory that is itself a data set of this project. Picture files are decoded by several threads (the
decoder and torch hold no interpreter lock), everything else by one that runs ahead; no more than a few chunks are held.

    cached = cache_frames(load_episodes("tub"), "runs/a/cache", transform=policy_preprocessing)
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeSet
from agents.recordings.native import RawFrames
from agents.recordings.reading.pictures import PictureFiles
from agents.recordings.reading.store import Folder
from agents.recordings.writer import EpisodeWriter
from agents.runs.files import replacing_directory

CHUNK_BYTES = 8 << 20
"""Frames are decoded in runs of about this size, whatever the picture's size and the episode's length."""
MOST_WORKERS = 4
"""Threads that decode, at most; fewer where there are fewer cores."""
HELD_BYTES = 128 << 20
"""Sets of fitted frames up to this size are held in memory."""


def cache_frames(
    episodes: EpisodeSet,
    directory: str | os.PathLike[str],
    transform: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EpisodeSet:
    """Write all frames, transformed, as raw arrays.

    Args:
        episodes: Episodes with pictures, of any sizes that `transform` brings to one.
        directory: Where to write; a data set that is there already is replaced once the new one is complete.
        transform: From uint8 `[n, H, W, 3]` to uint8 `[n, h, w, 3]`, such as the crop and resize of the policy; frames
            are kept as they are when None.
        on_progress: Called with frames done and frames in all.

    Returns:
        The same episodes, reading from `directory`. Steps whose picture cannot be decoded are left out and counted.

    Raises:
        ValueError: if `directory` holds something other than a data set, or no picture can be decoded.
        WriteError: if the disk is full or cannot be written to; a data set that was there is kept.
    """
    target = Path(directory)
    if target.is_dir() and any(target.iterdir()) and not (target / "dataset.json").is_file():
        raise ValueError(f"{target} is neither empty nor a data set and would be replaced; name another directory.")
    skipped: Counter[str] = Counter(episodes.skipped)
    total, done = episodes.frame_count, 0
    kept: list[tuple[Episode, NDArray[np.int64], str]] = []
    with replacing_directory(target) as partial:
        writer = EpisodeWriter(partial)
        for episode in episodes:
            chunk = max(1, CHUNK_BYTES // max(1, 3 * episode.meta.height * episode.meta.width))
            rows: list[int] = []
            with writer.episode(episode.meta) as recording:
                for start, stop, frames, good in _decoded(episode, chunk, transform):
                    for row in np.flatnonzero(good):
                        step = start + int(row)
                        extras = {name: values[step] for name, values in episode.extras.items()}
                        recording.append(frames[row], episode.steering[step], episode.time_s[step], **extras)
                        rows.append(step)
                    skipped["picture that cannot be decoded"] += int((~good).sum())
                    done += stop - start
                    if on_progress is not None:
                        on_progress(done, total)
                place = recording.finish()
            if place is not None:
                kept.append((episode, np.asarray(rows), place.name))
    written = tuple(_reading_from(target / name, episode, rows) for episode, rows, name in kept)
    counts = {reason: count for reason, count in skipped.items() if count}
    return dataclasses.replace(episodes, episodes=written, skipped=counts)


def held_in_memory(episodes: EpisodeSet, most_bytes: int = HELD_BYTES) -> EpisodeSet:
    """Return the episodes with their frames in memory where these are small enough together, else as they are."""
    total = sum(len(e) * 3 * e.meta.height * e.meta.width for e in episodes)
    if total > most_bytes:
        return episodes
    held = tuple(dataclasses.replace(e, source=HeldFrames(e.frames()), offset=0) for e in episodes)
    return dataclasses.replace(episodes, episodes=held)


class HeldFrames:
    """A `FrameSource` in memory; what it gives is not to be written to.

    Args:
        frames: uint8 `[T, H, W, 3]`.
    """

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self.pixels = frames

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a view of a run of frames, and True for each."""
        return self.pixels[start:stop], np.ones(stop - start, bool)


def _decoded(
    episode: Episode, chunk: int, transform: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None
) -> Iterator[tuple[int, int, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield runs of frames, decoded and transformed ahead of whoever takes them, in order."""

    def work(start: int) -> tuple[int, int, NDArray[np.uint8], NDArray[np.bool_]]:
        stop = min(start + chunk, len(episode))
        frames, good = episode.checked_frames(start, stop)
        return start, stop, frames if transform is None else transform(frames), good

    # Videos and archives are read from one end to the other; files of their own in any order.
    apart = isinstance(episode.source, PictureFiles) and isinstance(episode.source.store, Folder)
    workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2) if apart else 1
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[tuple[int, int, NDArray[np.uint8], NDArray[np.bool_]]]] = deque()
        starts = iter(range(0, len(episode), chunk))
        try:
            for start in starts:
                waiting.append(pool.submit(work, start))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _reading_from(directory: Path, episode: Episode, rows: NDArray[np.int64]) -> Episode:
    """Return the chosen steps of an episode with the frames of a directory."""
    frames = RawFrames(directory / "frames.npy")
    line_s = episode.meta.start_s + float(episode.time_s[rows[0]] - episode.time_s[0])
    meta = dataclasses.replace(episode.meta, height=frames.shape[1], width=frames.shape[2], start_s=line_s)
    extras = {name: values[rows] for name, values in episode.extras.items()}
    digests = None if episode.digests is None else episode.digests[rows]
    return Episode(episode.steering[rows], episode.time_s[rows], meta, frames, extras=extras, digests=digests)
