"""The panels that show a drive: the map, what the driver sees, its steering, lines over the last seconds.

Each knows its box, keeps what it has to remember, and draws itself in about a millisecond.

    panel = SteeringPanel(Box(12, 478, 200, 230))
    panel.draw(picture, steering=0.3)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.dashboard import canvas
from envs.dashboard.canvas import (
    ALARM,
    CAPTION_ROWS,
    DRIVER,
    FAINT,
    LABEL,
    MUTED,
    PANEL,
    REFERENCE,
    TEXT,
    Box,
    Color,
    Picture,
    enlarge,
    fit,
)
from envs.road.track import Track

MEMORY_S = 10.0
"""Time that the lines reach back, s."""
LEFT_OF_STRIP = 114
"""Columns left of a strip's lines, for its labels."""
_WHEEL_RAD = math.radians(120)
"""What the wheel turns at full lock."""
_ROAD: Color = (44, 52, 68)
_WHEEL: Color = (78, 88, 106)


class MapPanel:
    """The road from above with the car, where it has been and, as a ghost, where a reference drove."""

    def __init__(self, box: Box, track: Track, ghost: NDArray[np.floating] | None = None, note: str = ""):
        """Draw what does not move.

        Args:
            box: where to draw.
            track: the road.
            ghost: path `[N, 2]` of the expert, m.
            note: which road it is.
        """
        self.box = box
        inner = box.inset(16, CAPTION_ROWS, 16, 14)
        edge = np.concatenate([track.edge(track.lane_width_m), track.edge(-track.lane_width_m)])
        low, high = edge.min(0), edge.max(0)
        span = np.maximum(high - low, 1e-6)
        # A road that is taller than wide is laid on its side.
        self._turned = bool((span[1] > span[0]) == (inner.width > inner.height))
        if self._turned:
            span = span[::-1]
        self._scale = min(inner.width / span[0], inner.height / span[1])
        self._middle = 0.5 * (low + high)
        self._centre = np.array([inner.x + 0.5 * inner.width - box.x, inner.y + 0.5 * inner.height - box.y])
        self._background = blank(box)
        canvas.panel(self._background, at_origin(box), "MAP", note or f"{track.length_m:.0f} m a lap")
        road = self.pixels(track.points)
        width = max(3, round(2 * track.lane_width_m * self._scale))
        canvas.line(self._background, road, FAINT, width + 2, closed=True)
        canvas.line(self._background, road, _ROAD, width, closed=True)
        canvas.line(self._background, road, FAINT, 1, closed=True)
        if ghost is not None and len(ghost):
            canvas.line(self._background, self.pixels(ghost), REFERENCE, 1)
            canvas.text(self._background, "the expert's path", box.width - 12, 12, LABEL - 2, REFERENCE, anchor="r")
        self._trails = self._background.copy()
        self._last: dict[Color, NDArray[np.float64]] = {}

    def pixels(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Turn metres `[..., 2]` into pixels of the panel."""
        away = (np.asarray(points) - self._middle) * self._scale
        right, up = (away[..., 1], -away[..., 0]) if self._turned else (away[..., 0], away[..., 1])
        return np.stack([self._centre[0] + right, self._centre[1] - up], axis=-1)

    def draw(self, picture: Picture, *cars: tuple[float, float, float, bool, Color]) -> None:
        """Move each car to its pose and draw: x (m), y (m), yaw (rad), crashed, colour."""
        places = []
        for x, y, _, _, colour in cars:
            at = self.pixels(np.array([x, y]))
            last = self._last.get(colour)
            if last is not None and np.abs(at - last).max() < 60:
                canvas.line(self._trails, np.stack([last, at]), colour, 2)
            self._last[colour] = at
            places.append(at)
        view = self.box.of(picture)
        view[:] = self._trails
        for at, (x, y, yaw, crashed, car_colour) in zip(places, cars, strict=True):
            colour = ALARM if crashed else TEXT if len(cars) == 1 else car_colour
            canvas.dot(view, at[0], at[1], 11, canvas.mix(PANEL, colour, 0.35))
            nose = self.pixels(np.array([x + math.cos(yaw), y + math.sin(yaw)])) - at
            nose *= 8.5 / max(float(np.hypot(*nose)), 1e-6)
            side = np.array([-nose[1], nose[0]]) * 0.62
            corners = np.stack([at + nose, at - 0.75 * nose + side, at - 0.75 * nose - side])
            cv2.fillPoly(view, [np.round(corners * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)


class SeenPanel:
    """The small picture that the driver gets; where it looks is lit, the rest is dim and grey."""

    def __init__(self, box: Box, caption: str = "WHAT IT SEES", note: str = "lit: where it looks"):
        self.box = box
        self._background = blank(box)
        canvas.panel(self._background, at_origin(box), caption, note)

    def draw(self, picture: Picture, seen: NDArray[np.uint8], saliency: NDArray[np.floating] | None = None) -> None:
        """Draw a frame `[h, w, 3]`, lit by its saliency `[h, w]` in [0, 1] where there is one."""
        view = self.box.of(picture)
        view[:] = self._background
        inner = fit(at_origin(self.box).inset(12, CAPTION_ROWS, 12, 12), seen.shape[1], seen.shape[0])
        size = inner.width, inner.height
        inner.of(view)[:] = enlarge(seen, *size) if saliency is None else highlight(seen, saliency, *size)


class StripPanel:
    """Lines over the last seconds, on a scale that grows to what there is to show."""

    def __init__(
        self,
        box: Box,
        caption: str,
        note: str,
        period_s: float,
        scales: Sequence[float],
        label: Callable[[float], str],
        lines: Sequence[tuple[str, Color]],
        sides: tuple[str, str] = ("left", "right"),
    ):
        """Lay out the strip.

        Args:
            box: where to draw.
            caption: of the panel.
            note: what to look for.
            period_s: time from one value to the next, s.
            scales: limits to choose from, ascending; the smallest that holds the last seconds is taken.
            label: writes a limit with its unit.
            lines: name and colour of each line; the last one is drawn on top. One line needs no name.
            sides: what values above and below zero are called.
        """
        self.box, self._scales, self._label, self._lines, self._sides = box, tuple(scales), label, tuple(lines), sides
        self._steps = max(2, round(MEMORY_S / period_s))
        self._background = blank(box)
        canvas.panel(self._background, at_origin(box), caption, note)
        right = box.width - 12
        for name, colour in reversed(self._lines) if len(self._lines) > 1 else ():
            canvas.text(self._background, name, right, 11, LABEL, colour, anchor="r")
            right -= canvas.text_width(name) + 16
        self._inner = at_origin(box).inset(LEFT_OF_STRIP, CAPTION_ROWS + 2, 16, 32)
        self._middle = self._inner.y + 0.5 * (self._inner.height - 1)
        draw_time_axis(self._background, self._inner)
        self._background[round(self._middle), self._inner.x : self._inner.x + self._inner.width] = FAINT
        self._values: deque[tuple[float, ...]] = deque(maxlen=self._steps)

    def draw(self, picture: Picture, *values: float) -> None:
        """Add one value for each line and draw."""
        self._values.append(values)
        view = self.box.of(picture)
        view[:] = self._background
        inner, history = self._inner, np.asarray(self._values)
        largest = 1.05 * float(np.nanmax(np.abs(history), initial=0.0))
        limit = next((scale for scale in self._scales if scale >= largest), self._scales[-1])
        for side, y in zip(self._sides, (inner.y - 5, inner.y + inner.height - 10), strict=True):
            canvas.text(view, f"{side} {self._label(limit)}", inner.x - 10, y, LABEL - 3, MUTED, anchor="r")
        x = inner.x + inner.width - 1 - (inner.width - 1) / (self._steps - 1) * np.arange(len(history))[::-1]
        for number, (_, colour) in enumerate(self._lines):
            share = np.clip(history[:, number] / limit, -1, 1)
            there = np.isfinite(share)
            points = np.stack([x, self._middle - 0.5 * (inner.height - 1) * share], axis=1)[there]
            canvas.line(view, points, colour, 2)
            if there.any() and there[-1]:
                canvas.dot(view, points[-1, 0], points[-1, 1], 4.5, colour)


class SteeringPanel:
    """A steering wheel that turns, a scale from full lock to full lock, and figures below."""

    def __init__(self, box: Box, names: tuple[str, str] | None = None, color: Color = DRIVER):
        """Draw the scale.

        Args:
            box: where to draw.
            names: of the driver and of what it is compared with, where there is such a thing.
            color: of the driver.
        """
        self.box, self._names, self._color = box, names, color
        self._background = blank(box)
        canvas.panel(self._background, at_origin(box), "STEERING")
        below = 60 if names else 34
        room = at_origin(box).inset(14, CAPTION_ROWS, 14, below)
        self._radius = min(0.46 * room.width, room.height / (1.14 + 0.78))  # Marks above the hub, the rim below it.
        self._centre = np.array([0.5 * box.width, room.y + 1.14 * self._radius])
        for value in np.linspace(-1, 1, 21):
            strong = round(value * 10) % 5 == 0
            self._mark(self._background, value, 1.0, 1.1 if strong else 1.05, MUTED if strong else FAINT, 1)

    def draw(self, picture: Picture, steering: float, reference: float | None = None) -> None:
        """Turn the wheel to steering in [−1, 1], positive left."""
        view = self.box.of(picture)
        view[:] = self._background
        centre, radius = self._centre, 0.72 * self._radius
        turn = -steering * _WHEEL_RAD
        at = (round(16 * centre[0]), round(16 * centre[1]))
        cv2.circle(view, at, round(16 * radius), _WHEEL, 9, cv2.LINE_AA, 4)
        for spoke in (0.0, math.pi, math.pi / 2):
            way = np.array([math.cos(spoke + turn), math.sin(spoke + turn)])
            canvas.line(view, np.stack([centre + 0.2 * radius * way, centre + 0.93 * radius * way]), _WHEEL, 8)
        cv2.circle(view, at, round(16 * 0.24 * radius), _WHEEL, -1, cv2.LINE_AA, 4)
        top = centre + radius * np.array([math.sin(turn), -math.cos(turn)])
        canvas.dot(view, top[0], top[1], 5.5, self._color)
        # The arc from straight ahead to where the wheel points.
        angles = np.linspace(0, turn, 24)
        arc = centre + 0.9 * self._radius * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
        canvas.line(view, arc, self._color, 4)
        self._mark(view, steering, 0.86, 1.14, self._color, 3)
        middle, bottom = 0.5 * self.box.width, self.box.height - 24
        if reference is not None:
            self._mark(view, reference, 0.86, 1.14, REFERENCE, 3)
        if self._names is None:
            canvas.text(view, steering_words(steering), middle, bottom, LABEL, self._color, anchor="m")
            return
        rows = (self._names[0], steering, self._color), (self._names[1], reference, REFERENCE)
        for row, (name, value, colour) in enumerate(rows):
            words = f"{name} {'–' if value is None else steering_words(value)}"
            canvas.text(view, words, middle, bottom - 24 * (1 - row), LABEL - 2, colour, anchor="m")

    def _mark(self, picture: Picture, value: float, inner: float, outer: float, color: Color, width: int) -> None:
        angle = -value * _WHEEL_RAD
        way = self._radius * np.array([math.sin(angle), -math.cos(angle)])
        canvas.line(picture, np.stack([self._centre + inner * way, self._centre + outer * way]), color, width)


class Header:
    """The line at the top of a picture: who drives, under what, and how it stands."""

    def __init__(self, box: Box, name: str, condition: str, is_clean: bool = True, color: Color = DRIVER):
        """Write what does not change.

        Args:
            box: where to draw.
            name: of the driver.
            condition: the road and what is wrong with the world.
            is_clean: whether nothing is wrong.
            color: of the name.
        """
        self.box = box
        self._background = blank(box)
        canvas.text(self._background, name, 4, 15, canvas.TITLE, color, bold=True)
        left = 4 + canvas.text_width(name, canvas.TITLE, bold=True) + 24
        canvas.text(self._background, condition, left, 17, LABEL + 2, MUTED if is_clean else TEXT)

    def draw(self, picture: Picture, status: str, alarm: bool = False) -> None:
        """Draw the line with what changes at its right end."""
        view = self.box.of(picture)
        view[:] = self._background
        if alarm:
            left = self.box.width - canvas.text_width(status, LABEL + 2, bold=True) - 28
            view[4 : self.box.height - 2, left:] = ALARM
            canvas.text(view, status, self.box.width - 14, 17, LABEL + 2, canvas.BACKGROUND, bold=True, anchor="r")
        else:
            canvas.text(view, status, self.box.width - 6, 17, LABEL + 2, TEXT, anchor="r")


def highlight(seen: NDArray[np.uint8], saliency: NDArray[np.floating], width: int, height: int) -> Picture:
    """Light a frame by its saliency: what matters is bright and in colour, the rest dim and grey.

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
    dim = 0.35 * grey + 0.06 * frame
    bright = 1.25 * frame + 45
    return np.clip(dim + glow * (bright - dim), 0, 255).astype(np.uint8)


def steering_words(steering: float) -> str:
    """Write steering in [−1, 1] as a share of full lock with its side."""
    side = "left" if steering > 0.005 else "right" if steering < -0.005 else ""
    return f"{abs(100 * steering):.0f} % {side}".strip()


def draw_time_axis(picture: Picture, inner: Box) -> None:
    """Write the seconds below lines that end now at their right edge and began `MEMORY_S` ago at their left."""
    y = inner.y + inner.height + 8
    canvas.text(picture, f"{MEMORY_S:g} s ago", inner.x, y, LABEL - 3, MUTED)
    canvas.text(picture, f"{MEMORY_S / 2:g} s ago", inner.x + inner.width / 2, y, LABEL - 3, MUTED, anchor="m")
    canvas.text(picture, "now", inner.x + inner.width, y, LABEL - 3, MUTED, anchor="r")
    for share in (0.0, 0.5, 1.0):
        x = round(inner.x + share * (inner.width - 1))
        picture[inner.y + inner.height : inner.y + inner.height + 5, x] = FAINT


def blank(box: Box) -> Picture:
    """Return an empty picture of a box's size."""
    return np.full((box.height, box.width, 3), canvas.BACKGROUND, np.uint8)


def at_origin(box: Box) -> Box:
    """Return a box of the same size at the top left."""
    return Box(0, 0, box.width, box.height)
