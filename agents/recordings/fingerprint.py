"""Whether a recording is still the one that was trained on, tested on or driven along.

fingerprint(load_episodes("my_tub"))
changes([Path("my_tub")])  # quick: nothing is read
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from agents.recordings.episodes import EpisodeSet

LOOKS = 64
"""Frames whose pixels count in a fingerprint."""


def fingerprint(episodes: EpisodeSet) -> str:
    """Return a digest of recordings: all labels and times, and the pixels of `LOOKS` frames spread evenly over them."""
    digest = hashlib.sha256()
    for episode in episodes:
        digest.update(f"{len(episode)} {episode.meta.height} {episode.meta.width} ".encode())
        digest.update(np.ascontiguousarray(episode.steering, np.float32).tobytes())
        digest.update(np.ascontiguousarray(episode.time_s - episode.time_s[0], np.float64).tobytes())
    ends = np.cumsum([len(episode) for episode in episodes])
    if episodes.frame_size[0]:
        for step in np.unique(np.linspace(0, ends[-1] - 1, LOOKS).astype(int)):
            index = int(np.searchsorted(ends, step, side="right"))
            episode = episodes[index]
            at = int(step - (ends[index] - len(episode)))
            digest.update(episode.frames(at, at + 1).tobytes())
    return digest.hexdigest()[:16]


def changes(paths: Iterable[Path]) -> str:
    """Return what changes when a file of recordings is written, added or removed: for caches of what was read."""
    digest = hashlib.sha256()
    for path in paths:
        inside = (Path(place) / name for place, _, names in os.walk(path) for name in names)
        for file in [path] if path.is_file() else sorted(inside):
            if file.is_file():
                facts = file.stat()
                digest.update(f"{file}\0{facts.st_mtime_ns}\0{facts.st_size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
