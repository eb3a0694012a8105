"""What a film is wound on: the pictures go to the file, a poster and a small preview stay behind.

reel = Reel(writer, period_s=0.05, length_s=30.0)
reel.append(picture)
reel.close("30 m in 20 s")
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.driving.metrics import Drive
from experiments.film.canvas import Picture
from experiments.film.films import closing
from experiments.film.video import PREVIEW_FPS, VideoWriter

LAST_S = 1.5
"""Time that a film stays on its last picture, seconds."""
PREVIEW_S = 8.0
"""Longest preview, seconds."""


@dataclass
class Filmed:
    """What filming left behind.

    Attributes:
        frames: pictures in the film.
        poster: one of them, from the middle.
        preview: small pictures for an animation.
        drive: what the car did; None on a recording.
    """

    frames: int
    poster: Picture
    preview: list[Picture]
    drive: Drive | None = None


class Reel:
    """Hands pictures to the film, and keeps a poster and a few small ones for a preview."""

    def __init__(self, writer: VideoWriter, period_s: float, length_s: float):
        self._writer, self._period_s = writer, period_s
        self._every = max(1, round(1 / (PREVIEW_FPS * period_s)))
        self._poster_at = round(0.4 * length_s / period_s)
        self._last: Picture | None = None
        self.count = 0
        self.poster: Picture = np.zeros((2, 2, 3), np.uint8)
        self.preview: list[Picture] = []

    def append(self, picture: Picture) -> None:
        """Show a picture for one period."""
        number = self._writer.frame_count
        self._writer.append(picture)
        self.count += 1
        if number <= self._poster_at:
            self.poster = picture
        if number % self._every == 0 and len(self.preview) < PREVIEW_S * PREVIEW_FPS:
            self.preview.append(np.ascontiguousarray(picture))
        self._last = picture

    def stay(self) -> None:
        """Show the last picture for one period more."""
        assert self._last is not None
        self.append(self._last)

    def close(self, words: str) -> None:
        """Stay on the last picture for a moment and say how it ended."""
        if self._last is not None:
            end = closing(self._last, words)
            for _ in range(round(LAST_S / self._period_s)):
                self._writer.append(end)
