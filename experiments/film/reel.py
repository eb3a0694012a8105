"""What a film is wound on: the pictures go to the file, a poster and a small preview stay behind.

reel = Reel(writer, period_s=0.05, length_s=30.0)
reel.append(picture)
reel.close(crashed=True, end=last_picture)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from agents.driving.metrics import Drive
from envs.dashboard.canvas import Picture, chip
from experiments.film.video import PREVIEW_FPS, VideoWriter

LAST_S = 2.0
"""Time that a film stays on its last picture, seconds."""
PREVIEW_S = 8.0
"""Longest preview, seconds."""
SLOW_S = 1.0
"""Time before a failure that is shown slowly, seconds."""
SLOWER = 3
"""How many times as long that takes."""
_SLOW_PICTURES = 40
"""Pictures held back for it at most, whatever the period: they are 2.8 MB each."""


@dataclass
class Filmed:
    """What filming left behind.

    Attributes:
        frames: pictures in the film.
        poster: one of them: the moment of leaving the road, else one from the middle.
        preview: small pictures for an animation.
        drive: what the car did; None on a recording.
    """

    frames: int
    poster: Picture
    preview: list[Picture]
    drive: Drive | None = None


class Reel:
    """Hands pictures to the film, and keeps a poster and a few small ones for a preview.

    The last second is held back: if the car leaves the road, it is shown slowly. Nothing else is kept, so that a film
    of an hour takes no more memory than one of a minute.
    """

    def __init__(self, writer: VideoWriter, period_s: float, length_s: float):
        """Take the film to write to, the time between two pictures and the longest film, s."""
        self._writer, self._period_s = writer, period_s
        self._every = max(1, round(1 / (PREVIEW_FPS * period_s)))
        self._poster_at = round(0.4 * length_s / period_s)
        self._held: deque[Picture] = deque()
        self._hold = min(_SLOW_PICTURES, max(1, round(SLOW_S / period_s)))
        self._last: Picture | None = None
        self.count = 0
        self.poster: Picture = np.zeros((2, 2, 3), np.uint8)
        self.preview: list[Picture] = []

    def append(self, picture: Picture) -> None:
        """Show a picture for one period."""
        if self.count <= self._poster_at:
            self.poster = picture
        if self.count % self._every == 0 and len(self.preview) < PREVIEW_S * PREVIEW_FPS:
            self.preview.append(np.ascontiguousarray(picture[::2, ::2]))
        self.count += 1
        self._held.append(picture)
        if len(self._held) > self._hold:
            self._writer.append(self._held.popleft())
        self._last = picture

    def stay(self) -> None:
        """Show the last picture for one period more."""
        assert self._last is not None
        self.append(self._last)

    def close(self, crashed: bool = False, end: Picture | None = None) -> None:
        """Show what was held back, slowly before a crash, and stay on the last picture for a moment.

        Args:
            crashed: whether the car left the road.
            end: the last picture with the outcome written on it; nothing stays when None.
        """
        last = self._held[-1] if self._held else None
        if crashed and last is not None:
            self.poster = last
        while self._held:
            picture = self._held.popleft()
            if crashed and picture is not last:
                picture = picture.copy()
                chip(picture, f"slow motion, 1/{SLOWER} of the speed", 24, 76)
            for _ in range(SLOWER if crashed else 1):
                self._writer.append(picture)
        if end is not None:
            for _ in range(round(LAST_S / self._period_s)):
                self._writer.append(end)
