"""The panels of a film that show the inside of a driver: its wiring, alive, and its neurons over the last seconds.

Each knows its box, keeps what it has to remember, and draws itself in about a millisecond. Brightness is activity,
green a current that excites, violet one that inhibits.

    panel = CircuitPanel(Box(840, 482, 428, 226), wiring)
    panel.draw(picture, features, activity, sensory_currents, recurrent_currents)
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.dashboard import canvas
from envs.dashboard.canvas import CAPTION_ROWS, EXCITES, FAINT, INHIBITS, LABEL, MUTED, PANEL, TEXT, Box, Color, Picture
from envs.dashboard.panels import LEFT_OF_STRIP, at_origin, blank, draw_time_axis
from policies.wiring.wiring import Wiring

_LOW: Color = (38, 46, 62)
_HIGH: Color = (250, 250, 245)
_STRONGEST = 6
"""Synapses drawn into each layer at a time: all of them would be a thicket."""


class CircuitPanel:
    """The wiring, alive: neurons glow with their activity, synapses with their current."""

    def __init__(self, box: Box, wiring: Wiring):
        """Place the neurons."""
        self.box, self.wiring = box, wiring
        self._background = blank(box)
        canvas.panel(self._background, at_origin(box), f"{wiring.units} NEURONS")
        right = box.width - 12
        for words, colour in (("inhibits", INHIBITS), ("excites", EXCITES), ("active", _HIGH)):
            canvas.text(self._background, words, right, 12, LABEL - 3, colour, anchor="r")
            right -= canvas.text_width(words, LABEL - 3) + 12
        names = ["features", *(name for name, _ in reversed(wiring.layers))]
        columns = np.linspace(40, box.width - 44, len(names))
        for x, name in zip(columns, names, strict=True):
            canvas.text(self._background, name, x, box.height - 22, LABEL - 3, MUTED, anchor="m")
        top, bottom = CAPTION_ROWS + 10, box.height - 36
        self._inputs = _column(wiring.inputs, columns[0], top, bottom)
        self._neurons = np.zeros((wiring.units, 2))
        for x, name in zip(columns[1:], names[1:], strict=True):
            self._neurons[wiring.layer(name)] = _column(len(wiring.layer(name)), x, top, bottom)
        crowd = max(size for _, size in wiring.layers)
        self._radius = max(2.5, min(9.0, 0.36 * (bottom - top) / max(crowd, 8)))
        self._input_dots = Dots(box, self._inputs, 2.6)
        self._rims, self._neuron_dots = (Dots(box, self._neurons, self._radius + more) for more in (2.0, 0.0))
        sensory, recurrent = wiring.sensory_array, wiring.recurrent_array
        self._paths = [np.stack([self._inputs[s], self._neurons[t]]) for s, t, _ in sensory]
        self._paths += [_bow(self._neurons[s], self._neurons[t]) for s, t, _ in recurrent]
        for path in self._paths:
            canvas.line(self._background, path, canvas.mix(PANEL, FAINT, 0.22))
        targets = np.concatenate([sensory[:, 1], recurrent[:, 1]]).astype(int)
        self._into = [np.flatnonzero(np.isin(targets, list(wiring.layer(name)))) for name, _ in reversed(wiring.layers)]
        self._largest = np.full(len(self._into), 1e-6)

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
        currents = np.concatenate([sensory, recurrent])
        # The synapses into each layer use the full range of brightness: the first ones are many and strong.
        found = [np.abs(currents[numbers]).max(initial=1e-6) for numbers in self._into]
        self._largest = np.maximum(0.98 * self._largest, found)
        for numbers, largest in zip(self._into, self._largest, strict=True):
            for number in numbers[np.argsort(np.abs(currents[numbers]))[-_STRONGEST:]]:
                strength = abs(float(currents[number])) / largest
                if strength > 0.12:
                    colour = EXCITES if currents[number] > 0 else INHIBITS
                    canvas.line(view, self._paths[number], canvas.mix(PANEL, colour, 0.25 + 0.75 * strength), 2)
        self._input_dots.draw(view, blend(FAINT, TEXT, np.abs(features) / np.abs(features).max(initial=1e-6)))
        self._rims.draw(view, blend(PANEL, PANEL, np.zeros(len(activity))))
        self._neuron_dots.draw(view, blend(_LOW, _HIGH, 0.5 + 0.5 * activity))


class Dots:
    """Filled circles that stay where they are and change their colours, all drawn at once."""

    def __init__(self, box: Box, places: NDArray[np.float64], radius: float):
        """Work out which pixels each covers, and by how much.

        Args:
            box: of the picture that they are drawn on.
            places: centres `[D, 2]`.
            radius: of all, pixels.
        """
        rows, columns, dots, shares = [], [], [], []
        for number, (x, y) in enumerate(places):
            cover = np.zeros((box.height, box.width, 3), np.uint8)
            canvas.dot(cover, x, y, radius, (255, 255, 255))
            covered = np.nonzero(cover[..., 0])
            rows.append(covered[0])
            columns.append(covered[1])
            dots.append(np.full(len(covered[0]), number))
            shares.append(cover[..., 0][covered] / 255.0)
        self._rows, self._columns, self._dots = (np.concatenate(each) for each in (rows, columns, dots))
        self._shares = np.concatenate(shares)[:, None].astype(np.float32)

    def draw(self, picture: Picture, colors: NDArray[np.float32]) -> None:
        """Draw them in colours `[D, 3]`."""
        below = picture[self._rows, self._columns]
        made = below + self._shares * (colors[self._dots] - below)
        picture[self._rows, self._columns] = (made + 0.5).astype(np.uint8)


class ActivityPanel:
    """The neurons over the last seconds, one row each, grouped by layer."""

    def __init__(
        self,
        box: Box,
        groups: list[tuple[str, list[int]]],
        steps: int,
        caption: str,
        note: str = "",
        axis: bool = False,
    ):
        """Lay out the rows.

        Args:
            box: where to draw.
            groups: name and neuron ids of each group, from top to bottom.
            steps: frames that fit from left to right.
            caption: of the panel.
            note: what to look for.
            axis: write the seconds below; a strip above it may have them already.
        """
        self.box, self._groups = box, groups
        self._background = blank(box)
        canvas.panel(self._background, at_origin(box), caption, note)
        inner = at_origin(box).inset(LEFT_OF_STRIP, CAPTION_ROWS, 16, 32 if axis else 12)
        rows = sum(len(ids) for _, ids in groups)
        gap = 3
        self._row = max(1, (inner.height - gap * (len(groups) - 1)) // max(rows, 1))
        self._parts: list[tuple[Box, list[int]]] = []
        top = inner.y
        for name, ids in groups:
            # What does not fit is left out rather than squeezed to nothing.
            ids = ids[: max(1, (inner.y + inner.height - top) // self._row)]
            part = Box(inner.x, top, inner.width, self._row * len(ids))
            middle = part.y + 0.5 * part.height - 6
            canvas.text(self._background, name, inner.x - 10, middle, LABEL - 3, MUTED, anchor="r")
            self._parts.append((part, ids))
            top += part.height + gap
        if axis:
            draw_time_axis(self._background, inner)
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
            colours = activity_colors(self._history[ids])
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


def blend(low: Color, high: Color, share: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return colours `[..., 3]` between two, `share` `[...]` in [0, 1] of the way."""
    share = np.clip(share, 0.0, 1.0)[..., None]
    return (np.array(low) + share * (np.array(high, np.float64) - np.array(low))).astype(np.float32)


def activity_colors(values: NDArray[np.floating]) -> Picture:
    """Colours `[..., 3]` of activities in [−1, 1], dark to bright; NaN is the colour of the panel."""
    colours = blend(_LOW, _HIGH, 0.5 + 0.5 * values)
    return np.where(np.isnan(colours), np.array(PANEL), colours).astype(np.uint8)


def _column(count: int, x: float, top: float, bottom: float) -> NDArray[np.float64]:
    """Places of `count` neurons in a column, spread evenly; a few stand closer together."""
    middle, half = 0.5 * (top + bottom), 0.5 * min(bottom - top, 26.0 * (count - 1))
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
