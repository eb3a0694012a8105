"""What every format that is written shares: frames come in runs, bad ones are left out, files move into place whole."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode

CHUNK_BYTES = 32 << 20
"""Frames are read in runs of about this size, whatever the picture's size and the episode's length."""

Progress = Callable[[int], None]
"""Called with the frames done since the last call."""


class Written(NamedTuple):
    """What became of one episode."""

    frames: int
    """Frames written; 0 when none of its pictures can be decoded, and then there is nothing in its place."""
    bad: int
    """Frames left out because their picture cannot be decoded."""


class Target(ABC):
    """A recording being written to a directory.

    Args:
        directory: Of the recording; made when absent.
        exact: Pictures come back as they are, where the format can; else it takes its usual, smaller form.
    """

    def __init__(self, directory: Path, exact: bool) -> None:
        self.directory = directory
        self.exact = exact
        self.parts = directory / ".episodes"
        """What is needed of each episode until all are there."""

    def clean(self) -> None:
        """Remove what was needed on the way, once the recording is complete."""
        shutil.rmtree(self.parts, ignore_errors=True)

    @abstractmethod
    def write(self, number: int, episode: Episode, progress: Progress) -> Written:
        """Write one episode; numbers come in rising order, without those that stand already."""

    @abstractmethod
    def finish(self, episodes: list[tuple[int, Episode, Written]]) -> None:
        """Write what concerns the whole once all episodes are there; none of them is empty."""


def runs_of(episode: Episode) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], int]]:
    """Yield the good frames of an episode in runs: steps `[n]`, frames uint8 `[n, H, W, 3]`, and the steps passed."""
    chunk = max(1, CHUNK_BYTES // max(1, 3 * episode.meta.height * episode.meta.width))
    for start in range(0, len(episode), chunk):
        stop = min(start + chunk, len(episode))
        frames, good = episode.checked_frames(start, stop)
        yield start + np.flatnonzero(good), frames[good], stop - start
