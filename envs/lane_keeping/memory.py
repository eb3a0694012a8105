"""Drives that no single picture decides: a sign that says which lane to take much later, a camera that goes dark.

gymnasium.make(envs.LANE_KEEPING, lane_sign_delay_s=(5.0, 20.0))   # keep right; at the second sign, take the lane shown
gymnasium.make(envs.LANE_KEEPING, blackout_s=(0.5, 3.0))           # black frames into the bends

Whoever sees the present picture alone cannot know which lane the arrow meant, nor which bend was coming.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

SIGN_FROM_S = 0.5
"""When the arrow appears, seconds after the start."""

SIGN_S = 1.0
"""How long either sign shows, seconds."""

SIGN_ASIDE = 0.2
"""How far beside the middle of the frame the arrow hangs, widths of the frame."""

CHANGE_S = 1.5
"""How long the middle of the lane to keep takes to move from one lane to the other, seconds."""

BEND_PER_M = 0.35
"""Curvature of the centre line from which a stretch counts as a bend, 1/m: a radius of 2.9 m."""

SIGHT_PAST_BEND_S = 1.0
"""Least time between the end of a blackout and the beginning of the next, seconds."""

_MOMENT_S = 1e-6
"""Less than this is rounding."""

_ARROW = ((-1.3, 0.0), (0.0, -0.85), (0.0, -0.25), (0.6, -0.25), (0.6, 0.25), (0.0, 0.25), (0.0, 0.85))
"""An arrow to the left, in halves of the sign's height."""


class LaneSign:
    """An arrow early on, and after a delay a sign that says "now": from then on its lane is the one to keep.

    Until then it is the right-hand lane. The second sign is the same for both lanes.

    Attributes:
        left: whether the arrow points to the left.
        now_s: when the second sign appears, seconds since the start.
    """

    def __init__(self, generator: np.random.Generator, delay_s: tuple[float, float]):
        """Draw the lane, and the time between the end of the arrow and the second sign from `delay_s`, seconds."""
        self.left = bool(generator.integers(2))
        self.now_s = SIGN_FROM_S + SIGN_S + float(generator.uniform(*delay_s))

    def lane(self, time_s: float) -> float:
        """Where between the right-hand lane (−1) and the left-hand lane (1) to drive."""
        if not self.left:
            return -1.0
        share = min(max((time_s - self.now_s) / CHANGE_S, 0.0), 1.0)
        return -1.0 + 2.0 * share * share * (3.0 - 2.0 * share)

    def due(self, time_s: float) -> bool:
        """Whether the second sign came long enough ago for the lane to have been changed."""
        return time_s >= self.now_s + CHANGE_S

    def show(self, frame: Frame, time_s: float) -> Frame:
        """Return the frame, with a sign where one shows: at the top, 0.32 of the height.

        The arrow hangs on the side to which it points, as signs over a road do; the second sign hangs in the middle.
        """
        arrow = SIGN_FROM_S <= time_s < SIGN_FROM_S + SIGN_S
        if not arrow and not self.now_s <= time_s < self.now_s + SIGN_S:
            return frame
        shown = frame.copy()
        height, width = frame.shape[:2]
        half = max(3.0, 0.16 * height)
        aside = (-SIGN_ASIDE if self.left else SIGN_ASIDE) if arrow else 0.0
        middle = np.array([0.5 * (width - 1) + aside * width, half])
        board = np.array([(-1.5, -1.0), (1.5, -1.0), (1.5, 1.0), (-1.5, 1.0)])
        cv2.fillPoly(shown, [_pixels(middle + half * board)], (255, 255, 255) if arrow else (255, 200, 0))
        if arrow:
            shape = np.array(_ARROW) * (1.0 if self.left else -1.0, 1.0)
            cv2.fillPoly(shown, [_pixels(middle + half * shape)], (20, 40, 170))
        else:
            bar = np.array([(-0.3, -0.7), (0.3, -0.7), (0.3, 0.7), (-0.3, 0.7)])
            cv2.fillPoly(shown, [_pixels(middle + half * bar)], (0, 0, 0))
        return shown


class Blackouts:
    """The camera goes dark just before a bend begins: the bend begins in the middle of the darkness.

    Attributes:
        dark: whether it is dark now.
    """

    def __init__(self, seed: int, length_s: tuple[float, float]):
        """Begin in the light.

        Args:
            seed: of the lengths.
            length_s: shortest and longest blackout, seconds.
        """
        self._generator, self._range_s = np.random.default_rng(seed), length_s
        self.dark = False
        self._dark_until_s = -SIGHT_PAST_BEND_S
        self._length_s = float(self._generator.uniform(*length_s))

    def ahead_m(self, speed_mps: float) -> float:
        """How far ahead of the car the road decides whether it goes dark now, m."""
        return 0.5 * self._length_s * speed_mps

    def step(self, time_s: float, here_per_m: float, ahead_per_m: float) -> None:
        """Move the clock.

        Args:
            time_s: since the start.
            here_per_m: curvature where the car is, 1/m.
            ahead_per_m: curvature `ahead_m` further on, 1/m.
        """
        self.dark = time_s < self._dark_until_s - _MOMENT_S
        if self.dark or time_s < self._dark_until_s + SIGHT_PAST_BEND_S:
            return
        if abs(here_per_m) < BEND_PER_M <= abs(ahead_per_m):
            self.dark = True
            self._dark_until_s = time_s + self._length_s
            self._length_s = float(self._generator.uniform(*self._range_s))


def _pixels(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(points).astype(np.int32)
