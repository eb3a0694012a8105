"""The panels of a film that show the inside of a driver: its wiring, alive, and its neurons over the last seconds.

Each knows its box, keeps what it has to remember, and draws itself in about a millisecond.

    panel = CircuitPanel(Box(648, 368, 300, 160), wiring)
    panel.draw(picture, features, activity, sensory_currents, recurrent_currents)
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.film import canvas as drawing
from experiments.film.canvas import FAINT, MUTED, PANEL, TEXT, Box, Color, Picture
from policies.wiring.plot import EXCITATORY, INHIBITORY
from policies.wiring.wiring import Wiring

_EXCITES, _INHIBITS = drawing.rgb(EXCITATORY), drawing.rgb(INHIBITORY)
_POSITIVE: Color = (255, 190, 92)
_NEGATIVE: Color = (64, 148, 255)
_ZERO: Color = (30, 37, 51)


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
