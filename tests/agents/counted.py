"""Episodes whose pixels tell episode and step, so that a test sees what it was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet

PERIOD_S = 0.05


class CountedFrames:
    """Frames of 1×2 pixels that hold episode number and step, made on demand."""

    def __init__(self, number: int) -> None:
        self.number = number

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        steps = np.arange(start, stop)
        frames = np.zeros((len(steps), 1, 2, 3), np.uint8)
        frames[:, 0, 0, 0] = self.number
        frames[:, 0, 0, 1] = steps % 256
        frames[:, 0, 0, 2] = steps // 256
        return frames, np.ones(len(steps), bool)


def make_set(lengths: Sequence[int], source: str = "one") -> EpisodeSet:
    """Episodes whose steering tells the step too."""
    episodes, start_s = [], 0.0
    for number, length in enumerate(lengths):
        meta = EpisodeMeta(source, PERIOD_S, 1, 2, start_s=start_s)
        steps = np.arange(length)
        episodes.append(Episode((steps / 1e4).astype(np.float32), steps * PERIOD_S, meta, CountedFrames(number)))
        start_s += length * PERIOD_S
    return EpisodeSet(tuple(episodes))
