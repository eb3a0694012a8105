"""By what a driver tells the world that it is in from another one: by how the picture looks, or by how the car answers.

A sign is a number for every frame, 0 on average in the old world and 1 in the shifted one, from what the car has: its
frames, its own steering and the time between frames. A `Watch` averages it over the last moments of a drive and says,
with hysteresis, whether the world is the shifted one; it starts from the old one and stays there where it cannot tell.

- `PictureSign`: a linear function of edges in a small grey picture, for cameras that sit otherwise.
- `MotionSign`: how far the picture's upper part, which is far away, turns between two frames, against what was steered,
  for cars that make another turn of the same steering. Where nobody steers it says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS, COLUMNS = 16, 24
"""Size of the small picture."""
MOST_EDGE = 40.0
"""Grey levels at which an edge is clipped."""
FAR = 0.42
"""Share of the rows, from the top, in which the turn is looked for."""
TURN = 0.12
"""Largest turn that is looked for, share of the picture's width."""
LEAST_MATCH = 0.4
"""Correlation of the two pictures from which on a turn counts."""
LEAST_DETAIL = 0.5
"""Deviation of a picture's detail, grey levels, below which there is nothing to match."""
LITTLE = 0.1
"""Steering (squared, summed over frames) that the answer of the old world counts as; so a few frames decide nothing."""
PICTURE_S, MOTION_S = 1.0, 4.0
"""Time over which a sign is averaged, s."""


def edges(pictures: NDArray[np.uint8]) -> Floats:
    """Return what a `PictureSign` looks at, of uint8 `[N, h, w, 3]`: `[N, D]` strengths of edges and their signs."""
    small = np.stack(
        [
            cv2.resize(cv2.cvtColor(np.ascontiguousarray(one), cv2.COLOR_RGB2GRAY), (COLUMNS, ROWS), None, 0, 0, 3)
            for one in pictures
        ]
    ).astype(np.float64)  # 3 is INTER_AREA
    down = np.clip(np.diff(small, axis=1), -MOST_EDGE, MOST_EDGE)
    across = np.clip(np.diff(small, axis=2), -MOST_EDGE, MOST_EDGE)
    return np.concatenate([part.reshape(len(pictures), -1) for part in (np.abs(down), np.abs(across), across)], axis=1)


def edges_within(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the `edges` lie wholly in the part of the picture, bool `[h, w]`, that is known: `[D]`."""
    small = cv2.resize(known.astype(np.float32), (COLUMNS, ROWS), None, 0, 0, 3) > 0.999
    down, across = small[1:] & small[:-1], small[:, 1:] & small[:, :-1]
    return np.concatenate([part.reshape(-1) for part in (down, across, across)])


def far_part(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return detail of a picture's upper part, `[r, w]`, from uint8 `[h, w, 3]`."""
    rows = max(4, round(FAR * picture.shape[0]))
    grey = cv2.cvtColor(np.ascontiguousarray(picture[:rows]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(grey, (0, 0), 0.8), np.float32)
    return np.asarray(soft - cv2.GaussianBlur(soft, (0, 0), 6.0), np.float32)


def turn_between(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """How far the second picture lies to the right of the first, pixels; NaN where they do not match.

    The picture moves to the right as the car turns to the left.
    """
    most = max(2, round(TURN * first.shape[1]))
    middle_part = second[:, most:-most]
    if first.std() < LEAST_DETAIL or middle_part.std() < LEAST_DETAIL:
        return math.nan
    # A match at column n of the first picture stands at `most` in the second one.
    found = cv2.matchTemplate(first, middle_part, cv2.TM_CCOEFF_NORMED)[0, ::-1]
    best = int(found.argmax())
    if found[best] < LEAST_MATCH or best in (0, 2 * most):
        return math.nan
    low, middle, high = found[best - 1 : best + 2]
    bend = low - 2 * middle + high
    return best - most + (0.5 * float(low - high) / float(bend) if bend < 0 else 0.0)


def follow(wheels: float, told: float, elapsed: float, lag: float) -> tuple[float, float]:
    """Let the wheels follow the steering, a first-order lag behind it.

    Args:
        wheels: where they are, full locks.
        told: where they are to go.
        elapsed: for how long, nominal periods.
        lag: time constant, nominal periods.

    Returns:
        Where they are then, and what they held on the way times the time.
    """
    after = wheels + (told - wheels) * -math.expm1(-elapsed / lag)
    return after, 0.5 * (wheels + after) * elapsed


@dataclass(frozen=True)
class PictureSign:
    """A weighted sum of edges."""

    weights: Floats
    """`[D]`."""
    bias: float
    """Added to the sum."""

    def values(self, pictures: NDArray[np.uint8]) -> Floats:
        """Return the sign of each picture, uint8 `[N, h, w, 3]`: `[N]`."""
        return np.asarray(edges(pictures) @ self.weights + self.bias)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"kind": "picture", "weights": [float(f"{one:.6g}") for one in self.weights], "bias": self.bias}


@dataclass(frozen=True)
class MotionSign:
    """What the car makes of its steering, in pixels of the turning picture."""

    old: float
    """Pixels a nominal period at full lock, in the old world."""
    shifted: float
    """The same in the shifted one."""
    lag: float
    """Time constant with which the car follows its steering, nominal periods."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"kind": "motion", "old": self.old, "shifted": self.shifted, "lag": self.lag}


Sign = PictureSign | MotionSign


def sign_from_json(values: dict[str, Any]) -> Sign:
    """Build a sign from what `to_json` returned.

    Raises:
        ValueError: if it is none.
        KeyError: if something is missing.
        TypeError: if a value is of another type.
    """
    if values["kind"] == "motion":
        old, shifted, lag = (float(values[name]) for name in ("old", "shifted", "lag"))
        if not (np.isfinite([old, shifted, lag]).all() and old != shifted and lag > 0):
            raise ValueError("a sign of motion needs two different answers and a lag above 0.")
        return MotionSign(old, shifted, lag)
    if values["kind"] != "picture":
        raise ValueError(f"a sign is a picture or a motion, got {values['kind']!r:.40}.")
    weights = np.asarray(values["weights"], np.float64)
    wanted = 2 * ROWS * (COLUMNS - 1) + (ROWS - 1) * COLUMNS
    if weights.shape != (wanted,) or not np.isfinite([*weights, float(values["bias"])]).all():
        raise ValueError(f"a sign of the picture has {wanted} finite weights and a bias.")
    return PictureSign(weights, float(values["bias"]))


class Averages:
    """The sign of each of B drives, averaged over its last moments."""

    def __init__(self, sign: Sign, period_s: float):
        """Begin; `period_s` is the nominal period."""
        self.sign = sign
        self._span = (PICTURE_S if isinstance(sign, PictureSign) else MOTION_S) / period_s
        self._rows: list[_Row] = []

    def __call__(
        self,
        pictures: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        steered: NDArray[np.float32],
    ) -> Floats:
        """See another frame of each drive.

        Args:
            pictures: uint8 `[B, h, w, 3]`, as the policy's head sees them, not redrawn.
            elapsed: `[B]` since the frame before, nominal periods.
            starts: `[B]` True where a drive begins.
            steered: `[B]` what the car was told since the frame before; not used where a drive begins.

        Returns:
            `[B]` averages: 0 as in the old world, 1 as in the shifted one.
        """
        if len(self._rows) != len(pictures):
            self._rows = [_Row() for _ in pictures]
        for number in np.flatnonzero(starts):
            self._rows[number] = _Row()
        if isinstance(self.sign, PictureSign):
            values = self.sign.values(pictures)
            return np.array([self._picture(*one) for one in zip(self._rows, values, elapsed, strict=True)])
        return np.array(
            [self._motion(self.sign, *one) for one in zip(self._rows, pictures, elapsed, steered.tolist(), strict=True)]
        )

    def _picture(self, row: _Row, value: float, elapsed: float) -> float:
        keep = math.exp(-float(elapsed) / self._span) if row.weight else 0.0
        row.sums[0] = keep * row.sums[0] + value
        row.weight = keep * row.weight + 1.0
        return row.sums[0] / row.weight

    def _motion(self, sign: MotionSign, row: _Row, picture: NDArray[np.uint8], elapsed: float, told: float) -> float:
        before, row.far = row.far, far_part(picture)
        if before is not None:
            row.wheels, held = follow(row.wheels, told, float(elapsed), sign.lag)
            turn = turn_between(before, row.far)
            keep = math.exp(-float(elapsed) / self._span)
            row.sums *= keep
            if math.isfinite(turn):
                row.sums += (turn * held, held * held)
        answer = (row.sums[0] + LITTLE * sign.old) / (row.sums[1] + LITTLE)
        return float((sign.old - answer) / (sign.old - sign.shifted))


class _Row:
    """What is remembered of a drive."""

    def __init__(self) -> None:
        self.sums = np.zeros(2)
        self.weight = self.wheels = 0.0
        self.far: NDArray[np.float32] | None = None


class Watch:
    """Says which of B drives are in the shifted world."""

    def __init__(self, averages: Averages, enter: float, leave: float):
        """Watch averages: from `enter` on it is the shifted world, until they fall below `leave`."""
        self.averages, self.enter, self.leave = averages, enter, leave
        self.inside = np.zeros(0, bool)
        self.value = np.zeros(0)

    def __call__(
        self,
        pictures: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        steered: NDArray[np.float32],
    ) -> NDArray[np.bool_]:
        """See another frame of each drive, as `Averages` does; bool `[B]`, True in the shifted world."""
        self.value = self.averages(pictures, elapsed, starts, steered)
        if len(self.inside) != len(pictures):
            self.inside = np.zeros(len(pictures), bool)
        self.inside = np.where(self.inside & ~starts, self.value >= self.leave, self.value >= self.enter)
        return self.inside
