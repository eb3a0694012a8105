"""Spells of something that comes and goes at random: freezes of a camera, a steering that sticks."""

from __future__ import annotations

import numpy as np

_LONGEST_LOOK_S = 3600.0
"""After a longer jump of the clock the past is forgotten: an exponential pause has no memory anyway."""


class Spells:
    """Spells and pauses of exponential lengths, so that a spell is on for a share of the time."""

    def __init__(self, generator: np.random.Generator, share: float, mean_s: float):
        """Begin with a pause.

        Args:
            generator: owner of the draws.
            share: of the time, in (0, 1).
            mean_s: mean length of a spell; that of the pauses is `mean_s` (1 − share) / share.
        """
        self._generator, self._mean_s = generator, mean_s
        self._pause_s = mean_s * (1.0 - share) / share
        self._draw_after(0.0)

    def on(self, time_s: float) -> bool:
        """Whether a spell is on; times never decrease from call to call."""
        if time_s - self._end_s > _LONGEST_LOOK_S:
            self._draw_after(time_s)
        while time_s >= self._end_s:
            self._draw_after(self._end_s)
        return time_s >= self._begin_s

    def _draw_after(self, time_s: float) -> None:
        self._begin_s = time_s + float(self._generator.exponential(self._pause_s))
        self._end_s = self._begin_s + float(self._generator.exponential(self._mean_s))
