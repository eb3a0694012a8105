"""Cars whose pictures turn as they steer."""

from __future__ import annotations

import cv2
import numpy as np

from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from tests.agents.counted import PERIOD_S


class Panorama:
    """Frames of a camera that turns before a wall of noise: `heading` in columns of the wall."""

    def __init__(self, heading: np.ndarray) -> None:
        wall = np.random.default_rng(0).integers(0, 256, (24, 400, 3)).astype(np.uint8)
        wall = cv2.resize(wall, (4000, 96), interpolation=cv2.INTER_CUBIC)
        self.wall = np.concatenate([wall, wall[:, :192]], axis=1)
        self.heading = heading

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        frames = [self.wall[:, int(h) % 4000 :][:, :192] for h in self.heading[start:stop].round()]
        return np.stack(frames), np.ones(stop - start, bool)


def turning_car(lag: int, sign: float = 1.0, offset: float = 0.0, count: int = 240) -> EpisodeSet:
    """A car whose heading follows the steering of `lag` frames ago; a left turn moves the view to the left."""
    rng = np.random.default_rng(1)
    steering = np.convolve(rng.normal(size=count + 100), np.hanning(25) / 8, mode="same")[:count]
    heading = -np.cumsum(np.roll(steering, lag) * 12)
    labels = np.clip(sign * steering + offset, -1, 1).astype(np.float32)
    meta = EpisodeMeta("made", PERIOD_S, 96, 192)
    return EpisodeSet((Episode(labels, np.arange(count) * PERIOD_S, meta, Panorama(heading)),))
