"""Where a car is on a road, one query after the other, in about a microsecond each.

cursor = TrackCursor(track)
s, lateral, heading, curvature = cursor.start(x, y)
s, lateral, heading, curvature = cursor.locate(x + 0.05, y)
"""

from __future__ import annotations

import math

from envs.track import Track


class TrackCursor:
    """Follow one car along a road: each query starts at the previous answer, so it takes about a microsecond.

    The answer is that of `Track.project` as long as the car moves less than a metre or so between queries and stays
    near the road; `start` looks at the whole road again.
    """

    def __init__(self, track: Track):
        self.track = track
        self._x: list[float] = track.points[:, 0].tolist()
        self._y: list[float] = track.points[:, 1].tolist()
        self._heading: list[float] = track.headings.tolist()
        self._curvature: list[float] = track.curvatures.tolist()
        self._count = len(self._x)
        self._at = 0

    def start(self, x: float, y: float) -> tuple[float, float, float, float]:
        """Find the position on the whole road; returns what `locate` does."""
        square = (self.track.points[:, 0] - x) ** 2 + (self.track.points[:, 1] - y) ** 2
        self._at = int(square.argmin())
        return self.locate(x, y)

    def locate(self, x: float, y: float) -> tuple[float, float, float, float]:
        """Arc length (m), lateral position (m), road heading (rad) and curvature (1/m) near the previous position."""
        xs, ys, count, at = self._x, self._y, self._count, self._at
        best = (xs[at] - x) ** 2 + (ys[at] - y) ** 2
        for way in (1, -1):
            moved = False
            while True:
                other = (at + way) % count
                square = (xs[other] - x) ** 2 + (ys[other] - y) ** 2
                if square >= best:
                    break
                at, best, moved = other, square, True
            if moved:
                break
        self._at = at
        answer_s, answer_lateral, start, part = 0.0, math.inf, at, 0.0
        for first in ((at - 1) % count, at):
            second = (first + 1) % count
            along_x, along_y = xs[second] - xs[first], ys[second] - ys[first]
            to_x, to_y = x - xs[first], y - ys[first]
            fraction = (to_x * along_x + to_y * along_y) / (along_x * along_x + along_y * along_y)
            fraction = min(max(fraction, 0.0), 1.0)
            distance = math.hypot(to_x - fraction * along_x, to_y - fraction * along_y)
            if distance < abs(answer_lateral):
                answer_lateral = distance if along_x * to_y - along_y * to_x >= 0.0 else -distance
                answer_s, start, part = (first + fraction) * self.track.spacing_m, first, fraction
        after = (start + 1) % count
        turn = (self._heading[after] - self._heading[start] + math.pi) % (2.0 * math.pi) - math.pi
        heading = self._heading[start] + part * turn
        curvature = (1.0 - part) * self._curvature[start] + part * self._curvature[after]
        return answer_s % self.track.length_m, answer_lateral, heading, curvature
