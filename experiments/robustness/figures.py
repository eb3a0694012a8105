"""Panels of the robustness report: where curves, bands, dots and bars lie; `templates/figures.html` draws them.

Panels are small and stand in a grid that breaks by itself: one labelled width serves a phone and a wide screen.

    curves("fog", [driver.curves["weather"] for driver in drivers], 0.5, ticks, columns, bands=True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agents.driving.statistics import Estimate, Profile

COLOURS = 10
"""Series colours of the style sheet; more drivers than that share them."""
_WIDTH, _HEIGHT = 200, 128
_LEFT, _RIGHT, _TOP, _BOTTOM = 27, 6, 6, 18
_LARGE_WIDTH, _LARGE_HEIGHT, _LARGE_LEFT = 400, 240, 40
"""Size of a panel that has a box for itself."""

Points = tuple[tuple[float, float], ...]
Tick = tuple[float, str]
"""A place on an axis and its label."""


@dataclass(frozen=True)
class Label:
    """Words in a panel."""

    x: float
    """Pixels of the panel's own width."""
    y: float
    """Pixels of its height, downwards."""
    words: str
    """What is written there."""
    anchor: str = "start"
    """SVG's `text-anchor`."""


@dataclass(frozen=True)
class Series:
    """What belongs to one driver in a panel."""

    colour: str
    """CSS value."""
    band: Points = ()
    """Corners of the interval."""
    line: Points = ()
    """The curve."""
    dots: tuple[tuple[float, float, str], ...] = ()
    """Places of dots, and what is shown when the pointer rests on one."""
    radius: float = 2.4
    """Of the dots."""
    keys: tuple[dict[str, str], ...] = ()
    """For each dot, the attributes that say which drives it stands for; empty where it opens nothing."""


@dataclass(frozen=True)
class Panel:
    """A figure with its axes."""

    title: str
    """Above it."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    rules: tuple[tuple[float, float, float], ...]
    """Horizontal lines: from, to, height; the first is the base."""
    labels: tuple[Label, ...]
    """Of the axes."""
    series: tuple[Series, ...]
    """The first driver's is drawn last."""
    large: bool = False
    """Whether it has a box for itself."""


@dataclass(frozen=True)
class Bar:
    """A row of a forest plot: places in % of the axis."""

    name: str
    """Of the driver."""
    colour: str
    """CSS value."""
    value: float
    """Place of the dot."""
    intervals: tuple[tuple[str, float, float], ...]
    """Class, left end and width: the wide interval, then the narrow one."""
    runs: tuple[float, ...] = ()
    """Places of single training runs."""


def colour(number: int) -> str:
    """Return the colour of a series as a CSS value."""
    return f"var(--c{number % COLOURS})"


def curves(
    title: str,
    series: Sequence[Mapping[float, Estimate]],
    top: float,
    ticks: Sequence[Tick],
    columns: Sequence[Tick],
    bands: bool,
    key: Callable[[int, float], dict[str, str]] | None = None,
) -> Panel:
    """Place one curve for each series.

    Args:
        title: above it.
        series: for each, values by place on the horizontal axis; those that are not finite are left out.
        top: upper end of the vertical axis, which begins at 0.
        ticks: of the vertical axis.
        columns: of the horizontal axis, at least two.
        bands: whether to shade intervals.
        key: the attributes of a dot, from the number of its series and its place.
    """
    first, last = columns[0][0], columns[-1][0]

    def x(place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place - first) / (last - first)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(max(value, 0.0), top) / top)

    drawn = []
    for number, values in reversed(list(enumerate(series))):
        places = [place for place in sorted(values) if math.isfinite(values[place].value)]
        if not places:
            continue
        line = tuple((x(place), y(values[place].value)) for place in places)
        known = [place for place in places if math.isfinite(values[place].low) and math.isfinite(values[place].high)]
        upper = tuple((x(place), y(values[place].high)) for place in known)
        lower = tuple((x(place), y(values[place].low)) for place in reversed(known))
        keys = () if key is None else tuple(key(number, place) for place in places)
        dots = tuple((*at, "") for at in line)
        drawn.append(Series(colour(number), upper + lower if bands else (), line, dots, keys=keys))
    rules, labels = _axes(x, y, ticks, columns)
    return Panel(title, _WIDTH, _HEIGHT, rules, labels, tuple(drawn))


def profiles(title: str, series: Sequence[Profile], columns: Sequence[Tick]) -> Panel:
    """Place the share of drives whose error is at most so much, for each series."""

    def x(value: float) -> float:
        return _LARGE_LEFT + (_LARGE_WIDTH - _LARGE_LEFT - _RIGHT) * value

    def y(share: float) -> float:
        return _TOP + (_LARGE_HEIGHT - _TOP - _BOTTOM) * (1 - share)

    drawn = []
    for number, profile in reversed(list(enumerate(series))):
        places = [x(float(value)) for value in profile.thresholds]
        upper = tuple((p, y(1 - low)) for p, low in zip(places, profile.low, strict=True) if math.isfinite(low))
        lower = tuple((p, y(1 - high)) for p, high in zip(places, profile.high, strict=True) if math.isfinite(high))
        line = tuple((p, y(1 - share)) for p, share in zip(places, profile.share, strict=True))
        drawn.append(Series(colour(number), upper + lower[::-1], line))
    rules, labels = _axes(x, y, [(0, "0"), (0.5, "50"), (1, "100 %")], columns)
    return Panel(title, _LARGE_WIDTH, _LARGE_HEIGHT, rules, labels, tuple(drawn), large=True)


def scatter(
    title: str, series: Sequence[Sequence[tuple[float, float, str]]], ends: tuple[float, float], names: tuple[str, str]
) -> Panel:
    """Place a dot for each pair.

    Args:
        title: above it.
        series: for each, pairs from 0 to `ends` and what they stand for.
        ends: upper ends of the axes.
        names: of the axes.
    """

    def x(value: float) -> float:
        return _LARGE_LEFT + (_LARGE_WIDTH - _LARGE_LEFT - _RIGHT) * min(value / ends[0], 1.0)

    def y(value: float) -> float:
        return _TOP + (_LARGE_HEIGHT - _TOP - _BOTTOM - 16) * (1 - min(value / ends[1], 1.0))

    columns = [(0.0, "0"), (ends[0] / 2, f"{ends[0] / 2:.2g}"), (ends[0], f"{ends[0]:.2g}")]
    ticks = [(0.0, "0"), (ends[1] / 2, f"{100 * ends[1] / 2:.0f}"), (ends[1], f"{100 * ends[1]:.0f} %")]
    rules, labels = _axes(x, y, ticks, columns)
    labels += (
        Label(_LARGE_WIDTH - _RIGHT, _LARGE_HEIGHT - 3, names[0], "end"),
        Label(_LARGE_LEFT + 4, _TOP + 11, names[1]),
    )
    drawn = tuple(
        Series(colour(number), dots=tuple((x(a), y(b), words) for a, b, words in pairs), radius=3.2)
        for number, pairs in enumerate(series)
    )
    return Panel(title, _LARGE_WIDTH, _LARGE_HEIGHT, rules, labels, drawn, large=True)


def forest(
    rows: Sequence[tuple[str, Estimate, Estimate]], top: float, runs: Mapping[str, Sequence[float]] | None = None
) -> list[Bar]:
    """Place figures with two intervals each on one axis from 0 to `top`.

    Args:
        rows: name, figure with the narrow interval, figure with the wide one.
        top: right end.
        runs: figures of single training runs by name.
    """

    def place(value: float) -> float:
        return 100 * min(max(value / top, 0.0), 1.0)

    return [
        Bar(
            name,
            colour(number),
            place(narrow.value),
            tuple(
                (kind, place(one.low), place(one.high) - place(one.low))
                for kind, one in (("wide", wide), ("", narrow))
                if math.isfinite(one.low) and math.isfinite(one.high)
            ),
            tuple(place(value) for value in (runs or {}).get(name, ())),
        )
        for number, (name, narrow, wide) in enumerate(rows)
    ]


def _axes(
    x: Callable[[float], float], y: Callable[[float], float], ticks: Sequence[Tick], columns: Sequence[Tick]
) -> tuple[tuple[tuple[float, float, float], ...], tuple[Label, ...]]:
    """Place horizontal rules with their labels, and labels along the bottom."""
    left, right = x(columns[0][0]), x(columns[-1][0])
    labels = [Label(left - 4, y(value) + 3, words, "end") for value, words in ticks]
    below = y(ticks[0][0]) + 13
    for place, words in columns:
        anchor = "end" if place == columns[-1][0] and len(words) > 2 else "middle"
        labels.append(Label(x(place), below, words, anchor))
    return tuple((left, right, y(value)) for value, _ in ticks), tuple(labels)
