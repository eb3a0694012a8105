"""The panels of a film that show the drive: the map, what the driver sees, its steering, a line over the last seconds.

Each knows its box, keeps what it has to remember, and draws itself in about a millisecond.

    panel = SteeringPanel(Box(12, 336, 150, 192))
    panel.draw(picture, steering=0.3)
"""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.road.track import Track
from experiments.film import canvas as drawing
from experiments.film.canvas import ACCENT, ALARM, FAINT, MUTED, PANEL, SECOND, TEXT, Box, Color, Picture, enlarge, fit

_HEAT: Color = (255, 196, 60)


class MapPanel:
    """The road from above with the car and where it has been."""

    def __init__(self, box: Box, track: Track, caption: str = "MAP"):
        """Draw what does not move."""
        self.box = box
        inner = box.inset(14, 26, 14, 12)
        edge = np.concatenate([track.edge(track.lane_width_m), track.edge(-track.lane_width_m)])
        low, high = edge.min(0), edge.max(0)
        span = np.maximum(high - low, 1e-6)
        # A road that is taller than wide is laid on its side.
        self._turned = bool(span[1] > span[0] and inner.width > inner.height)
        if self._turned:
            span = span[::-1]
        self._scale = min(inner.width / span[0], inner.height / span[1])
        self._middle = 0.5 * (low + high)
        self._centre = np.array([inner.x + 0.5 * inner.width - box.x, inner.y + 0.5 * inner.height - box.y])
        self._background = np.full((box.height, box.width, 3), drawing.BACKGROUND, np.uint8)
        whole = Box(0, 0, box.width, box.height)
        drawing.panel(self._background, whole, caption, f"{track.length_m:.0f} m a lap")
        road = self.pixels(track.points)
        width = max(2, round(2 * track.lane_width_m * self._scale))
        drawing.line(self._background, road, FAINT, width + 2, closed=True)
        drawing.line(self._background, road, (44, 52, 68), width, closed=True)
        drawing.line(self._background, road, FAINT, 1, closed=True)
        self._trail = self._background.copy()
        self._last: NDArray[np.float64] | None = None

    def pixels(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Turn metres `[..., 2]` into pixels of the panel."""
        away = (np.asarray(points) - self._middle) * self._scale
        right, up = (away[..., 1], -away[..., 0]) if self._turned else (away[..., 0], away[..., 1])
        return np.stack([self._centre[0] + right, self._centre[1] - up], axis=-1)

    def draw(self, picture: Picture, x: float, y: float, yaw: float, crashed: bool) -> None:
        """Move the car to a pose (m, m, rad) and draw."""
        at = self.pixels(np.array([x, y]))
        if self._last is not None and np.abs(at - self._last).max() < 40:
            drawing.line(self._trail, np.stack([self._last, at]), ACCENT, 2)
        self._last = at
        view = self.box.of(picture)
        view[:] = self._trail
        colour = ALARM if crashed else TEXT
        drawing.dot(view, at[0], at[1], 8.5, drawing.mix(PANEL, colour, 0.35))
        nose = self.pixels(np.array([x + math.cos(yaw), y + math.sin(yaw)])) - at
        nose *= 6.5 / max(float(np.hypot(*nose)), 1e-6)
        side = np.array([-nose[1], nose[0]]) * 0.62
        corners = np.stack([at + nose, at - 0.75 * nose + side, at - 0.75 * nose - side])
        cv2.fillPoly(view, [np.round(corners * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)


class SeenPanel:
    """The small picture that the driver sees, and where it looks."""

    def __init__(self, box: Box, caption: str, note: str = ""):
        """Make the panel."""
        self.box = box
        self._background = np.full((box.height, box.width, 3), drawing.BACKGROUND, np.uint8)
        drawing.panel(self._background, Box(0, 0, box.width, box.height), caption, note)

    def draw(self, picture: Picture, seen: NDArray[np.uint8], saliency: NDArray[np.floating]) -> None:
        """Draw a frame `[h, w, 3]` with its saliency `[h, w]` in [0, 1]."""
        view = self.box.of(picture)
        view[:] = self._background
        room = Box(0, 0, self.box.width, self.box.height).inset(10, 26, 10, 10)
        inner = fit(room, seen.shape[1], seen.shape[0])
        inner.of(view)[:] = highlight(seen, saliency, inner.width, inner.height)


class StripPanel:
    """One or two lines over the last seconds."""

    def __init__(
        self, box: Box, caption: str, note: str, limit: float, steps: int, colors: tuple[Color, ...], band: float = 0.0
    ):
        """Lay out the strip.

        Args:
            box: where to draw.
            caption: of the panel.
            note: on the right.
            limit: largest value shown; the strip reaches from it to its negative.
            steps: frames that fit from left to right.
            colors: of the lines; the last one is drawn on top.
            band: values within ± this lie on a lighter band; 0 for none.
        """
        self.box, self._limit, self._steps, self._colors = box, limit, steps, colors
        self._background = np.full((box.height, box.width, 3), drawing.BACKGROUND, np.uint8)
        drawing.panel(self._background, Box(0, 0, box.width, box.height), caption, note)
        self._inner = Box(0, 0, box.width, box.height).inset(74, 27, 12, 9)
        middle = self._inner.y + 0.5 * self._inner.height
        if band:
            half = 0.5 * self._inner.height * band / limit
            top, bottom = round(middle - half), round(middle + half)
            self._background[top : bottom + 1, self._inner.x : self._inner.x + self._inner.width] = (34, 42, 58)
        middle_row = round(middle)
        self._background[middle_row, self._inner.x : self._inner.x + self._inner.width] = FAINT
        for name, y in (("left", self._inner.y - 1), ("right", self._inner.y + self._inner.height - 9)):
            drawing.text(self._background, name, self._inner.x - 8, y, 10, MUTED, anchor="r")
        self._values: deque[tuple[float, ...]] = deque(maxlen=steps)

    def draw(self, picture: Picture, *values: float) -> None:
        """Add one value for each line and draw."""
        self._values.append(values)
        view = self.box.of(picture)
        view[:] = self._background
        inner, history = self._inner, np.asarray(self._values)
        x = inner.x + inner.width - 1 - (inner.width - 1) / (self._steps - 1) * np.arange(len(history))[::-1]
        for number, colour in enumerate(self._colors):
            share = np.clip(history[:, number] / self._limit, -1, 1)
            y = inner.y + 0.5 * (inner.height - 1) * (1 - share)
            drawing.line(view, np.stack([x, y], axis=1), colour, 2)
            drawing.dot(view, x[-1], y[-1], 3.2, colour)


class SteeringPanel:
    """A steering wheel that turns, and a scale from full lock to full lock."""

    def __init__(self, box: Box, caption: str = "STEERING", reference: str = ""):
        """Draw the scale; `reference` names a second needle."""
        self.box = box
        self._background = np.full((box.height, box.width, 3), drawing.BACKGROUND, np.uint8)
        drawing.panel(self._background, Box(0, 0, box.width, box.height), caption)
        self._centre = np.array([0.5 * box.width, 0.5 * box.height + (10 if not reference else 4)])
        self._radius = 0.5 * min(box.width - 24, box.height - 66)
        for value in np.linspace(-1, 1, 21):
            strong = round(value * 10) % 5 == 0
            self._mark(self._background, value, 1.0, 1.09 if strong else 1.05, MUTED if strong else FAINT, 1)
        if reference:
            y = box.height - 34
            for name, colour, x in (("driver", ACCENT, 0.30), (reference, SECOND, 0.70)):
                drawing.text(self._background, name, x * box.width, y, 10, colour, anchor="m")

    def draw(self, picture: Picture, steering: float, reference: float | None = None) -> None:
        """Turn the wheel to steering in [−1, 1], positive left."""
        view = self.box.of(picture)
        view[:] = self._background
        centre, radius = self._centre, 0.72 * self._radius
        turn = -steering * math.radians(120)
        at = (round(16 * centre[0]), round(16 * centre[1]))
        cv2.circle(view, at, round(16 * radius), (70, 80, 98), 7, cv2.LINE_AA, 4)
        for spoke in (0.0, math.pi, math.pi / 2):
            way = np.array([math.cos(spoke + turn), math.sin(spoke + turn)])
            drawing.line(view, np.stack([centre + 0.2 * radius * way, centre + 0.93 * radius * way]), (70, 80, 98), 6)
        cv2.circle(view, at, round(16 * 0.24 * radius), (70, 80, 98), -1, cv2.LINE_AA, 4)
        top = centre + radius * np.array([math.sin(turn), -math.cos(turn)])
        drawing.dot(view, top[0], top[1], 4.5, ACCENT)
        # The arc from straight ahead to where the wheel points.
        angles = np.linspace(0, turn, 24)
        arc = centre + 0.9 * self._radius * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
        drawing.line(view, arc, ACCENT, 3)
        self._mark(view, steering, 0.86, 1.12, ACCENT, 2)
        if reference is not None:
            self._mark(view, reference, 0.86, 1.12, SECOND, 2)
        side = "left" if steering > 0.005 else "right" if steering < -0.005 else ""
        words = f"{abs(100 * steering):.0f} % {side}".strip()
        drawing.text(view, words, 0.5 * self.box.width, self.box.height - 18, 12, TEXT, anchor="m")

    def _mark(self, picture: Picture, value: float, inner: float, outer: float, color: Color, width: int) -> None:
        angle = -value * math.radians(120)
        way = self._radius * np.array([math.sin(angle), -math.cos(angle)])
        drawing.line(picture, np.stack([self._centre + inner * way, self._centre + outer * way]), color, width)


def highlight(seen: NDArray[np.uint8], saliency: NDArray[np.floating], width: int, height: int) -> Picture:
    """Lay saliency over a frame: what does not matter is dim and grey, what matters glows.

    Args:
        seen: uint8 `[h, w, 3]`.
        saliency: `[h, w]` in [0, 1].
        width: columns of the result.
        height: rows of the result.
    """
    frame = enlarge(seen, width, height).astype(np.float32)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None]
    glow = np.clip(cv2.resize(saliency.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    glow = glow[..., None]
    dim = 0.5 * grey + 0.15 * frame
    lit = dim + glow * (0.35 * frame + 0.75 * np.array(_HEAT, np.float32) - 0.25 * dim)
    return np.clip(lit, 0, 255).astype(np.uint8)
