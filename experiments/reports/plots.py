"""Figures for reports and for the README, in one look.

Every function returns a matplotlib `Figure` of its own: nothing is registered with pyplot and no global setting is
changed. `as_svg` turns a figure into inline SVG whose colours follow the page, light or dark; `save` writes a file.

    save(noise_figure(levels, LIGHT), Path("noise.png"))
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agents.driving.statistics import Estimate
from agents.runs.files import replacing
from agents.runs.ours import MARK, check_ours
from experiments.console import check_place
from policies.wiring.plot import plot
from policies.wiring.wiring import Wiring

_MARKED = {"png": "Software", "svg": "Creator", "pdf": "Creator"}
"""Kinds of files that are written, and where each says that it was made here."""


@dataclass(frozen=True)
class Theme:
    """Colours of a figure, as `#rrggbb`."""

    text: str
    """Labels and numbers."""
    muted: str
    """Ticks and remarks."""
    grid: str
    """Grid lines and frames."""
    surface: str
    """What lies behind the figure."""
    first: str
    """The driver."""
    second: str
    """What it is compared with."""
    alarm: str
    """Crashes."""


LIGHT = Theme("#1d2430", "#5c6778", "#dfe4ec", "#ffffff", "#c2570c", "#1f6fb2", "#c62828")
DARK = Theme("#e8eef7", "#97a3b6", "#2c3546", "#161c28", "#ffb74d", "#5cbfff", "#ff635c")
PAGE = Theme("#010203", "#010204", "#010205", "#010206", "#010207", "#010208", "#010209")
"""Place holders that `as_svg` replaces with the page's own `--text`, `--muted`, …"""

_FONT: dict[str, Any] = {"fontsize": 9.5}
_WIDTH_IN = 4.6
"""Width of a figure: one point is about one pixel on a phone, so that its labels stay readable there."""


def noise_figure(levels: Mapping[float, Mapping[str, Estimate]], theme: Theme = PAGE) -> Figure:
    """Draw crashes and lateral offset against the variance of the noise, with 95 % intervals.

    Args:
        levels: for each variance, the figures of `agents.driving.metrics.closed_loop`.
        theme: colours.
    """
    figure, (above, below) = _figure(theme, rows=2, height=3.9, share_x=True)
    variances = sorted(levels)
    for axes, name, label, scale, colour in (
        (above, "crashes_per_km", "crashes per km", 1.0, theme.alarm),
        (below, "mean_offset_lane", "mean offset, % of lane", 100.0, theme.first),
    ):
        found = [levels[variance][name] for variance in variances]
        value = scale * np.array([estimate.value for estimate in found])
        low, high = (scale * np.array([getattr(estimate, end) for estimate in found]) for end in ("low", "high"))
        low = np.where(np.isfinite(low), low, np.where(np.isfinite(high), np.minimum(value, 0.0), np.nan))
        axes.fill_between(variances, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(variances, value, color=colour, linewidth=2, marker="o", markersize=5, clip_on=False, zorder=3)
        axes.set_ylabel(label, color=theme.text, **_FONT)
        top = float(np.nanmax(np.where(np.isfinite(high), high, value), initial=0.0))
        axes.set_ylim(0, 1.12 * top if top > 0 else 1.0)
    below.set_xlabel("variance of the noise on pixels in [0, 1]", color=theme.text, **_FONT)
    below.set_xticks(variances)
    return figure


def learning_figure(history: Sequence[Mapping[str, float]], theme: Theme = PAGE) -> Figure:
    """Draw the error on training and validation frames, epoch by epoch.

    Args:
        history: records of `agents.imitation.train`: `epoch`, `train_loss` and `validation_rmse`, steering in [−1, 1].
        theme: colours.
    """
    figure, (axes,) = _figure(theme, height=2.7)
    epochs = [record["epoch"] for record in history]
    training = np.sqrt([record["train_loss"] for record in history])
    validation = np.array([record["validation_rmse"] for record in history])
    style: dict[str, Any] = {"linewidth": 2, "marker": "o", "markersize": 4}
    axes.plot(epochs, training, color=theme.second, label="training", **style)
    axes.plot(epochs, validation, color=theme.first, label="validation", **style)
    best = int(np.argmin(validation))
    axes.annotate(
        f"best: {validation[best]:.3f}",
        (epochs[best], validation[best]),
        xytext=(0, -16 if training[best] > validation[best] else 12),
        textcoords="offset points",
        ha="right" if best > len(epochs) / 2 else "left",
        color=theme.text,
        **_FONT,
    )
    axes.plot(epochs[best], validation[best], "o", color=theme.first, markersize=9, fillstyle="none")
    axes.set_ylim(0, 1.1 * float(max(training.max(), validation.max())))
    axes.set_xlabel("epoch", color=theme.text, **_FONT)
    axes.set_ylabel("steering error (RMS)", color=theme.text, **_FONT)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    _legend(axes, theme)
    return figure


@dataclass(frozen=True)
class Curves:
    """A quantity of several runs at the same points, and what is said of them together."""

    at: NDArray[np.float64]
    """`[P]` places on the horizontal axis."""
    mean: NDArray[np.float64]
    """`[P]` over the runs."""
    low: NDArray[np.float64]
    """`[P]` lower end of its interval."""
    high: NDArray[np.float64]
    """`[P]` upper end."""
    runs: NDArray[np.float64]
    """`[R, P]` each run."""


def curves_figure(
    series: Mapping[str, Sequence[Curves]], along: str, names: Sequence[str], theme: Theme = PAGE
) -> Figure:
    """Draw mean, interval and single runs of several kinds, one quantity below the other.

    Args:
        series: for each kind, up to four, its quantities.
        along: what the horizontal axis is.
        names: of the quantities, with units.
        theme: colours.
    """
    figure, panels = _figure(theme, rows=len(names), height=0.4 + 2.2 * len(names), share_x=True)
    colours = (theme.first, theme.second, theme.muted, theme.alarm)
    for row, (axes, name) in enumerate(zip(panels, names, strict=True)):
        for number, (kind, quantities) in enumerate(series.items()):
            one, colour = quantities[row], colours[number % len(colours)]
            axes.fill_between(one.at, one.low, one.high, color=colour, alpha=0.14, linewidth=0)
            axes.plot(one.at, one.runs.T, color=colour, linewidth=0.7, alpha=0.6)
            axes.plot(one.at, one.mean, color=colour, linewidth=2.2, label=kind, zorder=3)
        axes.set_ylabel(name, color=theme.text, **_FONT)
    panels[-1].set_xlabel(along, color=theme.text, **_FONT)
    panels[-1].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))  # Millions are wide.
    panels[-1].xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    _legend(panels[-1], theme)
    return figure


def offset_figure(offsets: Mapping[str, Sequence[float]], edges: Sequence[float], theme: Theme = PAGE) -> Figure:
    """Draw how often the car was how far from the middle of its lane.

    Args:
        offsets: for each name, up to four, the share of the time in each bin; the first one is filled.
        edges: of the bins, one more than bins, as shares of the lane width, positive left.
        theme: colours.
    """
    figure, (axes,) = _figure(theme, height=2.7)
    percent = 100 * np.asarray(edges)
    colours = (theme.first, theme.second, theme.muted, theme.alarm)
    for number, (name, share) in enumerate(offsets.items()):
        colour, width = colours[number % len(colours)], 2.0 if number == 0 else 1.4
        heights = 100 * np.asarray(share)
        axes.stairs(heights, percent, color=colour, linewidth=width, label=name, zorder=3 - 0.1 * number)
        if number == 0:
            axes.stairs(heights, percent, fill=True, alpha=0.2, color=colour, linewidth=0)
    axes.axvline(0, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_xlim(percent[-1], percent[0])  # left of the lane on the left
    axes.set_ylim(bottom=0)
    axes.set_xlabel("left of the lane's middle  ←  % of lane width  →  right", color=theme.text, **_FONT)
    axes.set_ylabel("% of the time", color=theme.text, **_FONT)
    _legend(axes, theme)
    return figure


def wiring_figure(wiring: Wiring, theme: Theme = PAGE) -> Figure:
    """Draw a circuit with its excitatory and inhibitory synapses."""
    figure = Figure(figsize=(_WIDTH_IN, 3.6), layout="constrained", facecolor="none")
    axes = figure.add_subplot()
    plot(wiring, axes)
    for label in axes.texts:
        label.set_color(theme.text)
        label.set_fontsize(9)
    for dots in axes.collections:
        if isinstance(dots, PathCollection):
            dots.set_sizes([min(size, 34.0) for size in dots.get_sizes()])
    legend = axes.get_legend()
    if legend is not None:
        for label in legend.get_texts():
            label.set_color(theme.text)
            label.set_fontsize(9)
    return figure


def as_svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as inline SVG that fills its container and takes the page's colours and font.

    Args:
        figure: drawn with the `PAGE` theme.
        name: unique on the page; the ids inside begin from it.
        description: for those who cannot see it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for item in fields(Theme):
        text = text.replace(getattr(PAGE, item.name), f"var(--{item.name})")
    text = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--font)", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids of matplotlib's groups (figure_1, axes_1, …) come in every figure; a page must not hold them twice.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def save(figure: Figure, path: str | Path, theme: Theme = LIGHT) -> None:
    """Write a figure drawn with the same theme to a PNG, SVG or PDF file, by its suffix, with our mark in it.

    Raises:
        WriteError: if the file cannot be written; an older one is still there then.
    """
    FigureCanvasAgg(figure)
    kind = Path(path).suffix.lstrip(".").lower()
    with replacing(path) as partial:
        figure.savefig(partial, dpi=160, facecolor=theme.surface, format=kind, metadata={_MARKED[kind]: MARK})


def check_plot(path: Path | None) -> None:
    """Check before a long run that a figure can be written there.

    Raises:
        OSError: if it could not.
        ValueError: if its suffix is none of .png, .svg and .pdf, or somebody else's file is there.
    """
    if path is None:
        return
    if path.suffix.lstrip(".").lower() not in _MARKED:
        raise ValueError(f"a plot is a .png, .svg or .pdf file, got {path}.")
    check_ours(path)
    check_place(path.parent)


def _figure(theme: Theme, rows: int = 1, height: float = 3.0, share_x: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure with quiet axes, one above the other."""
    figure = Figure(figsize=(_WIDTH_IN, height), layout="constrained", facecolor="none")
    axes_list = list(figure.subplots(rows, 1, sharex=share_x, squeeze=False)[:, 0])
    for axes in axes_list:
        axes.set_facecolor("none")
        axes.grid(axis="y", color=theme.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=theme.muted, labelsize=9, length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(theme.grid)
    return figure, axes_list


def _legend(axes: Axes, theme: Theme) -> None:
    legend = axes.legend(frameon=False, fontsize=9, loc="upper right")
    for label in legend.get_texts():
        label.set_color(theme.text)
