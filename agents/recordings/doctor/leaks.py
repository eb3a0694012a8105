"""Frames that stand on both sides of a split: copies, and pictures that are nearly the same.

Copies of files are found by the hashes that readers keep. The rest are compared as 32 × 24 grey thumbnails: pictures of
one drive differ by 4 grey levels or more once they are two seconds apart, copies that were packed again by half a
level.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.cache import HeldFrames
from agents.recordings.doctor.finding import Finding
from agents.recordings.episodes import Episode, EpisodeSet
from agents.recordings.native import PickedFrames, RawFrames

NEAR = 1.5
"""Root mean square difference of thumbnails up to which pictures count as the same, grey levels."""
USUAL_CONTRAST = 30.0
"""Spread of grey levels of pictures below which, in the median, they count as the same in proportion, down to half of
that: by night all pictures differ less. Measured: 34 to 42 on recordings by day."""
LEAST_CONTRAST = 6.0
"""Spread of grey levels below which a thumbnail tells nothing."""
MOST_FRAMES = 6000
"""Frames that thumbnails are made of; of longer recordings, evenly spread stretches."""
LEAST = 3
"""Fewer near-same frames than this are chance."""

RUN = 25
"""Labels in a row that are compared where there are no pictures."""
DISTINCT = 10
"""Different labels among them, at least."""

_SIZE = (32, 24)


@dataclass(frozen=True)
class Leak:
    """Held-out frames that stand in the training set too."""

    copies: int
    """Whose file is a copy of one there."""
    near: int
    """Whose picture is nearly the same as one there, copies left out."""
    example: str
    """Where the first of them is."""


def shared_files(training: EpisodeSet, held_out: EpisodeSet, same_label: bool = True) -> tuple[int, str]:
    """Count the held-out frames whose file is a copy of one in the training set; name the first.

    Args:
        training: What is learnt from.
        held_out: What is tested on.
        same_label: Count those alone whose label is the same as well: the same record, not another one that looks the
            same, such as a bare wall or a picture of a toy.
    """
    trained = [keys for episode in training if (keys := _keys(episode, same_label)) is not None]
    if not trained:
        return 0, ""
    known = np.unique(np.concatenate(trained))
    count, example = 0, ""
    for episode in held_out:
        keys = _keys(episode, same_label)
        if keys is None:
            continue
        hit = np.isin(keys, known)
        if hit.any() and not example:
            example = _name(episode, int(hit.argmax()))
        count += int(hit.sum())
    return count, example


def with_digests(episodes: EpisodeSet) -> EpisodeSet:
    """Return the episodes with hashes of the pixels where pictures are no files of their own but lie there as arrays.

    A picture that an episode shows more than once, such as a car that stands or a straight road of a simulator, tells
    nothing and is like no other.
    """
    return replace(episodes, episodes=tuple(map(_with_digests, episodes)))


def _with_digests(episode: Episode) -> Episode:
    if episode.digests is not None or not isinstance(episode.source, (RawFrames, PickedFrames, HeldFrames)):
        return episode
    digests = np.zeros(len(episode), np.uint64)
    for start in range(0, len(episode), 100):
        for number, frame in enumerate(episode.frames(start, min(start + 100, len(episode)))):
            digest = hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=8).digest()
            digests[start + number] = int.from_bytes(digest, "little")
    _, first, count = np.unique(digests, return_inverse=True, return_counts=True)
    name = hashlib.blake2b(f"{episode.meta.source} {episode.meta.start_s} {episode.meta.seed}".encode(), digest_size=8)
    alone = np.uint64(int.from_bytes(name.digest(), "little")) + np.arange(len(episode), dtype=np.uint64)
    return replace(episode, digests=np.where(count[first] > 1, alone, digests))


def _keys(episode: Episode, with_label: bool) -> NDArray[np.uint64] | None:
    """Return what tells one record from another, `[T]`; None where files have no hashes."""
    if episode.digests is None or not with_label:
        return episode.digests
    labels = np.ascontiguousarray(episode.steering, np.float32).view(np.uint32).astype(np.uint64)
    return episode.digests ^ (labels * np.uint64(0x9E3779B97F4A7C15))


def find_leak(training: EpisodeSet, held_out: EpisodeSet) -> Leak:
    """Look for held-out frames in the training set."""
    copies, example = shared_files(training, held_out, same_label=False)
    share = MOST_FRAMES / max(1, training.frame_count + held_out.frame_count)
    known, _ = _thumbnails(training, share)
    tested, places = _thumbnails(held_out, share)
    near = 0
    if len(known) and len(tested):
        squares = (known**2).sum(1)
        for start in range(0, len(tested), 256):
            part = tested[start : start + 256]
            distance = (part**2).sum(1)[:, None] + squares[None] - 2 * part @ known.T
            hit = distance.min(1) <= near_of(known, NEAR) ** 2 * known.shape[1]
            if hit.any() and not example:
                episode, step = places[start + int(hit.argmax())]
                example = _name(episode, step)
            near += int(hit.sum())
    return Leak(copies, max(0, near - copies), example)


def repeated_labels(training: EpisodeSet, held_out: EpisodeSet) -> int:
    """Count held-out labels in stretches of `RUN` that stand in the training part as they are: logs without pictures.

    Stretches with fewer than `DISTINCT` different labels are left out: a straight way repeats itself.
    """
    known: set[bytes] = set()
    for episode in training:
        labels = np.ascontiguousarray(episode.steering, np.float32)
        known.update(labels[start : start + RUN].tobytes() for start in range(len(labels) - RUN + 1))
    count = 0
    for episode in held_out:
        labels = np.ascontiguousarray(episode.steering, np.float32)
        hit = np.zeros(len(labels), bool)
        for start in range(len(labels) - RUN + 1):
            part = labels[start : start + RUN]
            if part.tobytes() in known and len(np.unique(part)) >= DISTINCT:
                hit[start : start + RUN] = True
        count += int(hit.sum())
    return count


def check_leaks(training: EpisodeSet, held_out: EpisodeSet) -> list[Finding]:
    """Say whether the test would be flattered."""
    if all(episode.source is None for episode in training):
        copies = repeated_labels(training, held_out)
        if copies == 0:
            return []
        what = f"{copies:,} of {held_out.frame_count:,} held-out labels are a copy of a stretch of the training part"
        do = "hold out another drive (--split episode), or leave out the copy"
        return [Finding("leak", True, what, do, {"copies": copies, "near": 0})]
    leak = find_leak(training, held_out)
    if leak.copies + leak.near < LEAST:
        return []
    what = (
        f"{leak.copies + leak.near:,} of {held_out.frame_count:,} held-out frames stand in the training part too "
        f"({leak.copies:,} copies, {leak.near:,} nearly the same; the first: {leak.example})"
    )
    do = "hold out another drive (--split episode), or let fix drop the repeats"
    return [Finding("leak", True, what, do, {"copies": leak.copies, "near": leak.near})]


def find_repeats(episodes: EpisodeSet, near: float, apart_s: float = 2.0) -> list[NDArray[np.bool_]]:
    """Find the frames that show what an earlier frame shows, `apart_s` or more before on its time line.

    Args:
        episodes: Of up to `MOST_FRAMES` frames; in longer ones only copies of files are found.
        near: Root mean square difference of thumbnails by day, grey levels; 0 finds copies of files alone.
        apart_s: Neighbours in time are alike by nature and stay, seconds.

    Returns:
        bool `[T]` for each episode.
    """
    line_s = apart_by_source(episodes)
    marks = [np.zeros(len(episode), bool) for episode in episodes]
    seen: dict[int, float] = {}
    for episode, times, mark in zip(episodes, line_s, marks, strict=True):
        if episode.digests is not None:
            for step, digest in enumerate(episode.digests.tolist()):
                mark[step] = abs(times[step] - seen.setdefault(digest, times[step])) >= apart_s
    if near <= 0 or episodes.frame_count > MOST_FRAMES:
        return marks
    small, places = _thumbnails(episodes, 1.0)
    if not len(small):
        return marks
    index = {id(episode): number for number, episode in enumerate(episodes)}
    where = [(index[id(episode)], step) for episode, step in places]
    when = np.asarray([line_s[number][step] for number, step in where])
    squares, limit = (small**2).sum(1), near_of(small, near)
    for start in range(0, len(small), 256):
        part = slice(start, min(start + 256, len(small)))
        distance = squares[part, None] + squares[None] - 2 * small[part] @ small.T
        earlier = np.arange(len(small))[None] < np.arange(part.start, part.stop)[:, None]
        alike = (distance <= limit**2 * small.shape[1]) & earlier & (np.abs(when[part, None] - when[None]) >= apart_s)
        for row in np.flatnonzero(alike.any(1)):
            number, step = where[start + int(row)]
            marks[number][step] = True
    return marks


def apart_by_source(episodes: EpisodeSet) -> list[NDArray[np.float64]]:
    """Return the moments of all frames, seconds: on the time line of their source, sources far from one another."""
    far_s = 1e6 + max((e.meta.start_s + e.duration_s for e in episodes), default=0.0)
    number = {source: index for index, source in enumerate(dict.fromkeys(e.meta.source for e in episodes))}
    return [far_s * number[e.meta.source] + e.meta.start_s + e.time_s - e.time_s[0] for e in episodes]


def near_of(thumbnails: NDArray[np.float32], near: float) -> float:
    """Return the difference up to which two of these thumbnails count as the same, grey levels.

    Args:
        thumbnails: `[n, 768]`.
        near: That of pictures by day, grey levels.
    """
    return near * float(np.clip(np.median(thumbnails.std(1)) / USUAL_CONTRAST, 0.5, 1.0))


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture as 768 grey levels, float32."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()


def _thumbnails(episodes: EpisodeSet, share: float) -> tuple[NDArray[np.float32], list[tuple[Episode, int]]]:
    """Return thumbnails `[n, 768]` with enough contrast, and where they come from."""
    found: list[NDArray[np.float32]] = []
    places: list[tuple[Episode, int]] = []
    for episode in episodes:
        for start in range(0, len(episode), 100):
            stop = min(start + 100, len(episode))
            if share < 1 and int((start // 100 + 1) * share) == int(start // 100 * share):
                continue
            frames, good = episode.checked_frames(start, stop)
            for step in np.flatnonzero(good):
                small = thumbnail(frames[step])
                if small.std() >= LEAST_CONTRAST:
                    found.append(small)
                    places.append((episode, start + int(step)))
    return (np.stack(found) if found else np.zeros((0, _SIZE[0] * _SIZE[1]), np.float32)), places


def _name(episode: Episode, step: int) -> str:
    paths = getattr(episode.source, "paths", None)
    if paths is not None:
        return str(paths[episode.offset + step])
    return f"{episode.meta.source} at {episode.meta.start_s + episode.time_s[step] - episode.time_s[0]:.1f} s"
