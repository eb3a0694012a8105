"""Whether a recording is still the one that was trained on, tested on or driven along.

fingerprint(load_episodes("my_tub"))
"""

from __future__ import annotations

import hashlib

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
