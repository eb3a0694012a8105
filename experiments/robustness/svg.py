"""Figures of the robustness report as HTML and inline SVG that follow the page's colours and its width.

Panels are small and stand in a grid that breaks by itself: one labelled width serves a phone and a wide screen.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

from agents.driving.metrics import Estimate
from agents.driving.statistics import Profile

COLOURS = 10
"""Series colours of `STYLE`; more drivers than that share them."""

STYLE = """
:root { --c0:#c2570c; --c1:#1f6fb2; --c2:#1d7a3e; --c3:#8b3fb5; --c4:#c2185b; --c5:#00838f; --c6:#8a6d00; --c7:#5d4037;
  --c8:#455a64; --c9:#3949ab; --hot:#d1371f; --cold:var(--page); }
@media (prefers-color-scheme: dark) { :root { --c0:#ffb74d; --c1:#5cbfff; --c2:#5fd38a; --c3:#cf93f5; --c4:#ff7eb0;
  --c5:#4dd0e1; --c6:#e6cf5c; --c7:#c9a493; --c8:#a9bbc6; --c9:#9fa8ff; --hot:#f05a3c; --cold:#222b3b; } }
.legend { display:flex; flex-wrap:wrap; gap:4px 16px; margin:0 0 10px; padding:0; list-style:none; font-size:.9rem; }
.legend li::before { content:""; display:inline-block; width:18px; height:3px; border-radius:2px; margin-right:7px;
  vertical-align:middle; background:var(--c); }
.panels { display:grid; gap:14px 18px; grid-template-columns:repeat(auto-fill, minmax(min(100%, 190px), 1fr)); }
.panels.few { grid-template-columns:repeat(auto-fill, minmax(min(100%, 235px), 1fr)); }
.panel figcaption { color:var(--text); font-weight:600; font-size:.88rem; margin-bottom:2px; }
.panel svg { overflow:visible; }
.panel text { font:9.5px var(--font); fill:var(--muted); } .panel.large text { font-size:12.5px; }
.rule { stroke:var(--grid); stroke-width:.8; } .base { stroke:var(--road); stroke-width:1; }
.curve { fill:none; stroke:var(--c); stroke-width:1.9; stroke-linejoin:round; stroke-linecap:round; }
.band { fill:var(--c); opacity:.15; } .point { fill:var(--c); }
.forest { display:grid; grid-template-columns:max-content 1fr; gap:7px 14px; align-items:center; font-size:.92rem; }
.forest .track { position:relative; height:18px; background:linear-gradient(var(--grid), var(--grid)) center/100% 1px
  no-repeat; }
.forest .track i { position:absolute; top:7px; height:4px; border-radius:2px; background:var(--c); opacity:.45; }
.forest .track i.wide { top:8.5px; height:1.5px; opacity:1; }
.forest .track b { position:absolute; top:3px; width:12px; height:12px; margin-left:-6px; border-radius:50%;
  background:var(--c); border:2px solid var(--surface); }
.forest .axis { display:flex; justify-content:space-between; font-size:.8rem; color:var(--muted); }
.scroll { overflow-x:auto; max-width:100%; }
.heat { border-collapse:separate; border-spacing:3px; }
.heat th, .heat td { border:0; padding:4px 6px; white-space:nowrap; }
.heat th { font-weight:400; } .heat thead th { color:var(--muted); text-align:center; vertical-align:bottom; }
.heat thead th:first-child { text-align:left; }
.heat tbody th { text-align:left; position:sticky; left:0; background:var(--surface); z-index:1; }
.heat thead th.group { font-weight:650; text-align:left; color:var(--text); }
.maps .heat thead th:not(.group) button { font-weight:400; color:var(--muted); }
.maps { columns:3 270px; column-gap:26px; }
.maps .heat { table-layout:fixed; break-inside:avoid; margin-bottom:8px; }
.maps .heat th:first-child { width:40%; white-space:normal; }
.maps .heat td.spot { min-width:0; padding:4px 2px; }
.heat td.spot { min-width:54px; text-align:center; border-radius:5px; line-height:1.15;
  background:color-mix(in oklab, var(--hot) var(--h), var(--cold)); }
.heat td.spot.none { background:none; color:var(--muted); }
.heat td.spot small { font-size:.72rem; color:inherit; opacity:.85; display:block; }
details.part { margin:12px 0; } details.part > summary { padding:4px 0; }
.films { display:grid; gap:18px; grid-template-columns:repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.films .box { overflow:hidden; } .films h3 { margin:10px 0 2px; }
.shots { display:grid; gap:16px; grid-template-columns:repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.shots figure { min-width:0; } .shots img { width:100%; height:auto; border-radius:8px; display:block;
  image-rendering:auto; }
.shots figcaption b { color:var(--text); }
@media (max-width:640px) { .panels, .panels.few { grid-template-columns:1fr 1fr; gap:12px; }
  .heat td.spot { min-width:42px; padding:4px 3px; } .forest { grid-template-columns:1fr; gap:2px; } }
"""

_WIDTH, _HEIGHT = 200, 128
_LEFT, _RIGHT, _TOP, _BOTTOM = 27, 6, 6, 18
_LARGE_WIDTH, _LARGE_HEIGHT, _LARGE_LEFT = 400, 240, 40
"""Size of a panel that has a box for itself."""


def legend(names: Sequence[str]) -> str:
    """Return the names of the series beside their colours."""
    entries = "".join(f'<li style="--c:{colour(n)}">{html.escape(name)}</li>' for n, name in enumerate(names))
    return f'<ul class="legend">{entries}</ul>'


def colour(number: int) -> str:
    """Return the colour of a series as a CSS value."""
    return f"var(--c{number % COLOURS})"


def curves(
    title: str,
    series: Sequence[Mapping[float, Estimate]],
    top: float,
    ticks: Sequence[tuple[float, str]],
    columns: Sequence[tuple[float, str]],
    bands: bool,
) -> str:
    """Return a panel with one curve for each series.

    Args:
        title: above it.
        series: for each, values by place on the horizontal axis; those that are not finite are left out.
        top: upper end of the vertical axis, which begins at 0.
        ticks: values and labels of the vertical axis.
        columns: places and labels of the horizontal axis, at least two.
        bands: whether to shade intervals.
    """
    first, last = columns[0][0], columns[-1][0]

    def x(place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place - first) / (last - first)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(max(value, 0.0), top) / top)

    parts = [_axes(x, y, ticks, columns)]
    for number, values in reversed(list(enumerate(series))):
        places = [place for place in sorted(values) if math.isfinite(values[place].value)]
        if not places:
            continue
        shape = [f'<g style="--c:{colour(number)}">']
        if bands:
            upper = [f"{x(place):.1f},{y(values[place].high):.1f}" for place in places]
            lower = [f"{x(place):.1f},{y(values[place].low):.1f}" for place in reversed(places)]
            shape.append(f'<polygon class="band" points="{" ".join(upper + lower)}"/>')
        line = " ".join(f"{x(place):.1f},{y(values[place].value):.1f}" for place in places)
        shape.append(f'<polyline class="curve" points="{line}"/>')
        shape += [f'<circle class="point" cx="{x(p):.1f}" cy="{y(values[p].value):.1f}" r="2.4"/>' for p in places]
        parts.append("".join(shape) + "</g>")
    return _panel(title, "".join(parts))


def profiles(title: str, series: Sequence[Profile], ticks: Sequence[tuple[float, str]]) -> str:
    """Return a panel with the share of drives whose error is at most so much, for each series."""

    def x(value: float) -> float:
        return _LARGE_LEFT + (_LARGE_WIDTH - _LARGE_LEFT - _RIGHT) * value

    def y(share: float) -> float:
        return _TOP + (_LARGE_HEIGHT - _TOP - _BOTTOM) * (1 - share)

    parts = [_axes(x, y, [(0, "0"), (0.5, "50"), (1, "100 %")], ticks)]
    for number, profile in reversed(list(enumerate(series))):
        places = [float(value) for value in profile.thresholds]
        upper = [f"{x(p):.1f},{y(1 - low):.1f}" for p, low in zip(places, profile.low, strict=True)]
        lower = [f"{x(p):.1f},{y(1 - high):.1f}" for p, high in zip(places, profile.high, strict=True)]
        line = " ".join(f"{x(p):.1f},{y(1 - share):.1f}" for p, share in zip(places, profile.share, strict=True))
        parts.append(
            f'<g style="--c:{colour(number)}"><polygon class="band" points="{" ".join(upper + lower[::-1])}"/>'
            f'<polyline class="curve" points="{line}"/></g>'
        )
    return _panel(title, "".join(parts), large=True)


def scatter(
    title: str, series: Sequence[Sequence[tuple[float, float, str]]], ends: tuple[float, float], names: tuple[str, str]
) -> str:
    """Return a panel with a dot for each pair.

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
    parts = [
        _axes(
            x, y, [(0.0, "0"), (ends[1] / 2, f"{100 * ends[1] / 2:.0f}"), (ends[1], f"{100 * ends[1]:.0f} %")], columns
        )
    ]
    for number, pairs in enumerate(series):
        dots = "".join(
            f'<circle class="point" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.2" opacity=".75"><title>{html.escape(words)}'
            "</title></circle>"
            for a, b, words in pairs
        )
        parts.append(f'<g style="--c:{colour(number)}">{dots}</g>')
    right, bottom = _LARGE_WIDTH - _RIGHT, _LARGE_HEIGHT - 3
    parts.append(f'<text x="{right}" y="{bottom}" text-anchor="end">{html.escape(names[0])}</text>')
    parts.append(f'<text x="{_LARGE_LEFT + 4}" y="{_TOP + 11}">{html.escape(names[1])}</text>')
    return _panel(title, "".join(parts), large=True)


def forest(rows: Sequence[tuple[str, Estimate, Estimate]], low: float, high: float, percent: bool = True) -> str:
    """Return figures with two intervals each on one axis.

    Args:
        rows: name, figure with the narrow interval, figure with the wide one.
        low: left end of the axis.
        high: right end.
        percent: how the axis is labelled.
    """

    def place(value: float) -> float:
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0)

    parts = []
    for number, (name, narrow, wide) in enumerate(rows):
        bars = "".join(
            f'<i class="{kind}" style="left:{place(one.low):.2f}%;width:{place(one.high) - place(one.low):.2f}%"></i>'
            for kind, one in (("wide", wide), ("", narrow))
            if math.isfinite(one.low) and math.isfinite(one.high)
        )
        parts.append(
            f'<span>{html.escape(name)}</span><span class="track" style="--c:{colour(number)}">{bars}'
            f'<b style="left:{place(narrow.value):.2f}%"></b></span>'
        )
    ends = "".join(
        f"<span>{100 * value:.0f}{' %' if percent else ''}</span>" for value in (low, (low + high) / 2, high)
    )
    return f'<div class="forest">{"".join(parts)}<span></span><span class="axis">{ends}</span></div>'


def spot(words: str, share: float, small: str = "", title: str = "", value: float | None = None) -> str:
    """Return a cell of a heat map.

    Args:
        words: in it; a dash where there is no value.
        share: how hot, in [0, 1]; NaN for no value.
        small: below the words.
        title: shown when the pointer rests on it.
        value: by which the column is sorted; `share` when None.
    """
    about = f' title="{html.escape(title, quote=True)}"' if title else ""
    if not math.isfinite(share):
        return f'<td class="spot none" data-value=""{about}>–</td>'
    key = share if value is None else value
    below = f"<small>{html.escape(small)}</small>" if small else ""
    heat = f"{70 * min(max(share, 0.0), 1.0):.0f}%"
    return f'<td class="spot" style="--h:{heat}" data-value="{key:.5g}"{about}>{html.escape(words)}{below}</td>'


def _axes(
    x: Callable[[float], float],
    y: Callable[[float], float],
    ticks: Sequence[tuple[float, str]],
    columns: Sequence[tuple[float, str]],
) -> str:
    """Draw horizontal rules with their labels, and labels along the bottom."""
    left, right = x(columns[0][0]), x(columns[-1][0])
    parts = []
    for number, (value, words) in enumerate(ticks):
        kind = "base" if number == 0 else "rule"
        parts.append(f'<path class="{kind}" d="M{left:.1f} {y(value):.1f}H{right:.1f}"/>')
        parts.append(f'<text x="{left - 4:.1f}" y="{y(value) + 3:.1f}" text-anchor="end">{html.escape(words)}</text>')
    below = y(ticks[0][0]) + 13
    for place, words in columns:
        anchor = "end" if place == columns[-1][0] and len(words) > 2 else "middle"
        parts.append(f'<text x="{x(place):.1f}" y="{below:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>')
    return "".join(parts)


def _panel(title: str, content: str, large: bool = False) -> str:
    words = html.escape(title, quote=True)
    width, height = (_LARGE_WIDTH, _LARGE_HEIGHT) if large else (_WIDTH, _HEIGHT)
    kind = "panel large" if large else "panel"
    return (
        f'<figure class="{kind}"><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{words}">{content}</svg></figure>'
    )
