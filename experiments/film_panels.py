"""The panels of a film: each knows its box, keeps what it has to remember, and draws itself in about a millisecond."""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.track import Track
from experiments import drawing
from experiments.drawing import ACCENT, ALARM, FAINT, MUTED, PANEL, SECOND, TEXT, Box, Color, Picture
from policies.wiring import Wiring
from policies.wiring_plot import EXCITATORY, INHIBITORY

_EXCITES, _INHIBITS = drawing.rgb(EXCITATORY), drawing.rgb(INHIBITORY)
_POSITIVE: Color = (255, 190, 92)
_NEGATIVE: Color = (64, 148, 255)
_ZERO: Color = (30, 37, 51)
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


class CircuitPanel:
    """The wiring, alive: neurons glow with their activity, synapses with their current."""

    def __init__(self, box: Box, wiring: Wiring):
        """Place the neurons."""
        self.box, self.wiring = box, wiring
        self._background = np.full((box.height, box.width, 3), drawing.BACKGROUND, np.uint8)
        drawing.panel(self._background, Box(0, 0, box.width, box.height), f"{wiring.units} NEURONS")
        names = ["features", *(name for name, _ in reversed(wiring.layers))]
        columns = np.linspace(26, box.width - 30, len(names))
        for x, name in zip(columns, names, strict=True):
            anchor = "l" if x == columns[0] else "m"
            left = x - 14 if anchor == "l" else x
            drawing.text(self._background, name, left, box.height - 15, 10, MUTED, anchor=anchor)
        top, bottom = 32, box.height - 26
        self._inputs = _column(wiring.inputs, columns[0], top, bottom)
        self._neurons = np.zeros((wiring.units, 2))
        for x, name in zip(columns[1:], names[1:], strict=True):
            self._neurons[wiring.layer(name)] = _column(len(wiring.layer(name)), x, top, bottom)
        crowd = max(size for _, size in wiring.layers)
        self._radius = max(2.0, min(7.0, 0.36 * (bottom - top) / max(crowd, 8)))
        sensory, recurrent = wiring.sensory_array, wiring.recurrent_array
        self._paths = [np.stack([self._inputs[s], self._neurons[t]]) for s, t, _ in sensory]
        self._paths += [_bow(self._neurons[s], self._neurons[t]) for s, t, _ in recurrent]
        for path in self._paths:
            drawing.line(self._background, path, drawing.mix(PANEL, FAINT, 0.35))
        self._largest = np.full(2, 1e-6)

    def draw(
        self,
        picture: Picture,
        features: NDArray[np.floating],
        activity: NDArray[np.floating],
        sensory: NDArray[np.floating],
        recurrent: NDArray[np.floating],
    ) -> None:
        """Draw features `[F]`, activities `[N]` in [−1, 1] and the synapses' currents `[S_in]` and `[S_rec]`."""
        view = self.box.of(picture)
        view[:] = self._background
        # Both kinds of synapse use the full range of brightness: there are more sensory ones, and they are stronger.
        found = [np.abs(currents).max(initial=1e-6) for currents in (sensory, recurrent)]
        self._largest = np.maximum(0.98 * self._largest, found)
        current = np.concatenate([sensory / self._largest[0], recurrent / self._largest[1]])
        for number in np.argsort(np.abs(current)):
            strength = abs(float(current[number]))
            if strength > 0.12:
                colour = _EXCITES if current[number] > 0 else _INHIBITS
                drawing.line(view, self._paths[number], drawing.mix(PANEL, colour, 0.15 + 0.85 * strength))
        scale = np.abs(features).max(initial=1e-6)
        for (x, y), value in zip(self._inputs, features, strict=True):
            drawing.dot(view, x, y, 2.0, drawing.mix(FAINT, TEXT, abs(float(value)) / scale))
        for (x, y), value in zip(self._neurons, activity, strict=True):
            drawing.dot(view, x, y, self._radius + 1.5, PANEL)
            drawing.dot(view, x, y, self._radius, signed(float(value)))


class ActivityPanel:
    """The neurons over the last seconds, one row each, grouped by layer."""

    def __init__(self, box: Box, groups: list[tuple[str, list[int]]], steps: int, caption: str, note: str = ""):
        """Lay out the rows.

        Args:
            box: where to draw.
            groups: name and neuron ids of each group, from top to bottom.
            steps: frames that fit from left to right.
            caption: of the panel.
            note: on the right.
        """
        self.box, self._groups = box, groups
        self._background = np.full((box.height, box.width, 3), drawing.BACKGROUND, np.uint8)
        drawing.panel(self._background, Box(0, 0, box.width, box.height), caption, note)
        inner = Box(0, 0, box.width, box.height).inset(74, 27, 12, 10)
        rows = sum(len(ids) for _, ids in groups)
        gap = 3
        self._row = max(1, (inner.height - gap * (len(groups) - 1)) // max(rows, 1))
        self._parts: list[tuple[Box, list[int]]] = []
        top = inner.y
        for name, ids in groups:
            # What does not fit is left out rather than squeezed to nothing.
            ids = ids[: max(1, (inner.y + inner.height - top) // self._row)]
            part = Box(inner.x, top, inner.width, self._row * len(ids))
            middle = part.y + 0.5 * part.height - 4
            drawing.text(self._background, name, inner.x - 8, middle, 10, MUTED, anchor="r")
            self._parts.append((part, ids))
            top += part.height + gap
        self._history = np.zeros((0, 0))
        self._steps = steps

    def draw(self, picture: Picture, activity: NDArray[np.floating]) -> None:
        """Add activities `[N]` in [−1, 1] on the right and draw."""
        if not self._history.size:
            self._history = np.full((len(activity), self._steps), np.nan)
        self._history[:, :-1] = self._history[:, 1:]
        self._history[:, -1] = activity
        view = self.box.of(picture)
        view[:] = self._background
        for part, ids in self._parts:
            colours = signed_colors(self._history[ids])
            part.of(view)[:] = cv2.resize(colours, (part.width, part.height), interpolation=cv2.INTER_NEAREST)


class OwnRange:
    """Puts each value on a scale from −1, the lowest it has been, to 1, the highest: neurons live at many levels."""

    def __init__(self, least: float = 0.1):
        """Start with nothing seen; a range smaller than `least` is widened to it, so that stillness stays still."""
        self._least = least
        self._low: NDArray[np.float64] = np.array(np.inf)
        self._high: NDArray[np.float64] = np.array(-np.inf)

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Take in values `[N]` and return them on their scales."""
        values = np.array(values, np.float64)
        self._low, self._high = np.minimum(self._low, values), np.maximum(self._high, values)
        half = np.maximum(0.5 * (self._high - self._low), 0.5 * self._least)
        return np.asarray((values - 0.5 * (self._low + self._high)) / half)


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


def fit(room: Box, width: int, height: int) -> Box:
    """Return the largest box of a shape in the middle of another."""
    scale = min(room.width / width, room.height / height)
    w, h = round(scale * width), round(scale * height)
    return Box(room.x + (room.width - w) // 2, room.y + (room.height - h) // 2, w, h)


def enlarge(frame: NDArray[np.uint8], width: int, height: int) -> Picture:
    """Scale a frame to a size."""
    how = cv2.INTER_AREA if width < frame.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(frame, (width, height), interpolation=how), np.uint8)


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


def signed(value: float) -> Color:
    """Colour of an activity: blue below zero, amber above, full at ±1."""
    return drawing.mix(_ZERO, _POSITIVE if value > 0 else _NEGATIVE, abs(value) ** 0.8)


def signed_colors(values: NDArray[np.floating]) -> Picture:
    """Colours `[..., 3]` of activities; NaN is the colour of the panel."""
    share = np.minimum(np.abs(values), 1.0)[..., None] ** 0.8
    ends = np.where(values[..., None] > 0, np.array(_POSITIVE), np.array(_NEGATIVE))
    colours = np.array(_ZERO) + share * (ends - np.array(_ZERO))
    return np.where(np.isnan(colours), np.array(PANEL), colours).astype(np.uint8)


def _column(count: int, x: float, top: float, bottom: float) -> NDArray[np.float64]:
    """Places of `count` neurons in a column, spread evenly; a few stand closer together."""
    middle, half = 0.5 * (top + bottom), 0.5 * min(bottom - top, 22.0 * (count - 1))
    return np.stack([np.full(count, x), np.linspace(middle - half, middle + half, count)], axis=1)


def _bow(start: NDArray[np.floating], end: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the way of a synapse: straight between columns, bent within one, a small loop onto itself."""
    along = np.linspace(0.0, 1.0, 10)[:, None]
    path = start + along * (end - start)
    if start[0] == end[0]:
        if start[1] == end[1]:
            angle = 2 * np.pi * along[:, 0]
            return start + 7.0 * np.stack([1.0 - np.cos(angle), np.sin(angle)], axis=1)
        path[:, 0] += (6.0 + 0.16 * abs(end[1] - start[1])) * np.sin(np.pi * along[:, 0])
    return path
