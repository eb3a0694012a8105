"""The order of the pictures: does each follow from the one before, and does a stretch of driving come twice?

Neighbours of one drive are alike, and pictures two frames apart are less so. Where neighbours differ as much as
pictures of any two places, rows are shuffled; where they differ more than pictures two frames apart, two drives are
interleaved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.recordings.doctor.finding import Finding
from agents.recordings.doctor.leaks import apart_by_source, thumbnail
from agents.recordings.episodes import EpisodeSet

STRETCHES = 12
"""Stretches that are looked at, spread over the recording."""
STRETCH = 40
"""Frames in each."""
LEAST_VARIETY = 4.0
"""Root mean square difference of thumbnails of different places below which nothing is judged, grey levels."""
SHUFFLED = 0.8
"""Neighbours that differ by more than this share of what different places do are none."""
NO_NEARER = 0.95
"""So they are only where they differ no less than frames two apart do, by this share: those of a slow camera differ
much, and frames two apart more. Measured: 0.90 at 5 frames a second in this project's simulation, 0.98 to 1.01 in
shuffled copies."""
INTERLEAVED = 1.15
"""Neighbours that differ by more than this, times the difference of frames two apart, belong to two drives."""
LEAST_RUN = 8
"""Different pictures in a row that come a second time, for it to be no standstill and no chance."""
APART_S = 2.0
"""Copies closer in time than this are a car that stands, seconds."""


def check_order(episodes: EpisodeSet) -> list[Finding]:
    """Look for rows that are shuffled, and for drives that are interleaved."""
    one, two, far = neighbour_differences(episodes)
    if far < LEAST_VARIETY:
        return []
    do = "name the column of the time stamps (--time-column), or record again: a driver learns from neighbours in time"
    figures = {"next": one, "after_next": two, "anywhere": far}
    if one > INTERLEAVED * two and one > 1.0:
        what = (
            f"two drives are interleaved: neighbours differ by {one:.1f} grey levels, every second frame by {two:.1f}"
        )
        return [Finding("order", True, what, do, figures)]
    if one > SHUFFLED * far and one > NO_NEARER * two:
        what = f"rows do not follow from one another: neighbours differ by {one:.1f} grey levels, any two by {far:.1f}"
        return [Finding("order", True, what, do, figures)]
    return []


def neighbour_differences(episodes: EpisodeSet) -> tuple[float, float, float]:
    """Return by how much frames differ from the next, from the one after it, and from any, in the median.

    Returns:
        Root mean square differences of thumbnails, grey levels; zeros where there are too few frames.
    """
    centre = [e for e in episodes if e.is_centre]
    pieces = [(e, start) for e in centre for start in range(0, len(e) - 3, STRETCH)]
    if not pieces:
        return 0.0, 0.0, 0.0
    chosen = [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, STRETCHES).astype(int))]
    stretches = []
    for episode, start in chosen:
        frames, good = episode.checked_frames(start, min(start + STRETCH, len(episode)))
        stretches.append(np.stack([thumbnail(frame) for frame in frames[good]] or [thumbnail(frames[0])]))
    every = np.concatenate(stretches)
    one = np.concatenate([_differences(s[1:], s[:-1]) for s in stretches])
    two = np.concatenate([_differences(s[2:], s[:-2]) for s in stretches])
    if len(two) == 0:
        return 0.0, 0.0, 0.0
    shuffled = np.random.default_rng(0).permutation(len(every))
    return float(np.median(one)), float(np.median(two)), float(np.median(_differences(every, every[shuffled])))


def check_repeats(episodes: EpisodeSet) -> list[Finding]:
    """Look for driving that stands in the recording twice: runs of pictures that are copies of earlier ones."""
    seen: dict[int, float] = {}
    count, runs = 0, 0
    for episode, times in zip(episodes, apart_by_source(episodes), strict=True):
        if episode.digests is None:
            continue
        run: list[int] = []
        for time_s, digest in zip(times.tolist(), episode.digests.tolist(), strict=True):
            if abs(time_s - seen.setdefault(digest, time_s)) >= APART_S:
                run.append(digest)
                continue
            count, runs = _counted(run, count, runs)
            run = []
        count, runs = _counted(run, count, runs)
    if not runs:
        return []
    what = f"{count:,} of {episodes.frame_count:,} frames are copies of earlier ones, in {runs:,} runs"
    return [Finding("repeats", True, what, "let fix drop them, or leave out the copy", {"frames": count})]


def _counted(run: list[int], count: int, runs: int) -> tuple[int, int]:
    return (count + len(run), runs + 1) if len(set(run)) >= LEAST_RUN else (count, runs)


def _differences(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    difference: NDArray[np.float32] = np.sqrt(np.square(first - second).mean(1))
    return difference
