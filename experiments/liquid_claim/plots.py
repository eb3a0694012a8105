"""Pictures of the experiment: ranking, heat map, dose and response, what the elapsed time is worth.

save(ranking(findings, liquid={"ltc-ncp"}), Path("ranking.png"))
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

import matplotlib
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.liquid_claim.comparisons import Clock
from experiments.liquid_claim.pairs import UNDECIDED, Pair
from experiments.reports.plots import LIGHT, Theme
from experiments.robustness.findings import Findings

_SERIES = ("#c2570c", "#e08a1e", "#8a6d00", "#c2185b", "#8b3fb5", "#1f6fb2", "#00838f", "#1d7a3e", "#455a64", "#3949ab")
"""Colours of drivers: warm for the first five, which are the liquid ones, cold for the others."""
_SMALL: dict[str, Any] = {"fontsize": 8.5}


def ranking(found: Findings, liquid: Collection[str], theme: Theme = LIGHT) -> Figure:
    """Draw the lane error of every driver with its interval, the best one on top, and its clean error as a ring."""
    drivers = found.drivers
    figure, axes = _figure(6.4, 0.9 + 0.34 * len(drivers), theme)
    for place, driver in enumerate(drivers):
        colour = theme.first if driver.name in liquid else theme.second
        wide, clean = driver.error_iqm_runs, driver.clean_error
        axes.plot([100 * wide.low, 100 * wide.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(100 * wide.value, place, "o", color=colour, markersize=8)
        axes.plot(100 * clean.value, place, "o", color=colour, markersize=6, fillstyle="none")
    _names(axes, [driver.name for driver in drivers], theme)
    axes.set_xlim(left=0)
    axes.set_xlabel("lane error, % (dot: under shift, ring: clean)", color=theme.text, **_SMALL)
    handles = [
        matplotlib.lines.Line2D([], [], color=colour, marker="o", label=label)
        for colour, label in ((theme.first, "liquid"), (theme.second, "others"))
    ]
    figure.legend(
        handles=handles, frameon=False, fontsize=8.5, labelcolor=theme.text, loc="outside upper right", ncols=2
    )
    return figure


def heat(found: Findings, theme: Theme = LIGHT) -> Figure:
    """Draw the mean lane error over severities for every driver and perturbation."""
    names = list(dict.fromkeys(condition.name for condition in found.conditions))
    values = np.array(
        [
            [driver.clean_error.value]
            + [
                np.mean([driver.by_condition[c.perturbation].error.value for c in found.conditions if c.name == name])
                for name in names
            ]
            for driver in found.drivers
        ]
    )
    figure, axes = _figure(1.6 + 0.46 * (len(names) + 1), 1.5 + 0.34 * len(found.drivers), theme)
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("heat", ["#f7f3ee", "#f2b37e", "#c2570c", "#5c1a05"])
    axes.imshow(100 * values, cmap=colours, vmin=0, vmax=100, aspect="auto")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            shade = "#ffffff" if value > 0.45 else theme.text
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=shade, fontsize=7.5)
    axes.set_xticks(range(len(names) + 1), ["clean", *(name.replace("_", " ") for name in names)], rotation=45)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
        label.set_rotation_mode("anchor")
    axes.set_yticks(range(len(found.drivers)), [driver.name for driver in found.drivers])
    axes.tick_params(colors=theme.text, labelsize=8.5, length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def dose(found: Findings, liquid: Collection[str], theme: Theme = LIGHT) -> Figure:
    """Draw the mean lane error against severity, one panel for each family; others than liquid drivers are dashed."""
    families = list(dict.fromkeys(condition.family for condition in found.conditions))
    columns = min(4, len(families))
    rows = math.ceil(len(families) / columns)
    figure = Figure(figsize=(2.35 * columns, 1.9 * rows + 0.7), layout="constrained", facecolor=theme.surface)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(families) :]:
        axes.set_visible(False)
    order = sorted(found.drivers, key=lambda driver: (driver.name not in liquid, driver.name))
    for axes, family in zip(grid.flat, families, strict=False):
        _quiet(axes, theme, "y")
        for number, driver in enumerate(order):
            curve = driver.curves[family]
            axes.plot(
                list(curve),
                [100 * one.value for one in curve.values()],
                color=_SERIES[_place(number, driver.name in liquid, liquid, order) % len(_SERIES)],
                linestyle="-" if driver.name in liquid else (0, (3, 1.4)),
                linewidth=1.5,
                marker="o",
                markersize=2.6,
                label=driver.name,
            )
        axes.set_title(family, color=theme.text, fontsize=9.5, loc="left")
        axes.set_ylim(0, 102)
        axes.set_xlim(-0.2, 5.2)
        axes.set_xticks([0, 1, 3, 5], ["clean", "1", "3", "5"])
    for axes in grid[-1]:
        axes.set_xlabel("severity", color=theme.text, **_SMALL)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8.5, labelcolor=theme.text
    )
    figure.supylabel("lane error, %", color=theme.text, fontsize=9)
    return figure


def timing(clocks: Sequence[Clock], liquid: Collection[str], theme: Theme = LIGHT) -> Figure:
    """Draw how much worse each driver drives without the elapsed time, one panel for each perturbation."""
    kinds = list(dict.fromkeys(clock.perturbation for clock in clocks))
    labels = list(dict.fromkeys(clock.label for clock in clocks))
    figure = Figure(
        figsize=(1.4 + 3.1 * len(kinds), 1.1 + 0.32 * len(labels)), layout="constrained", facecolor=theme.surface
    )
    grid = figure.subplots(1, len(kinds), squeeze=False, sharey=True)
    for axes, kind in zip(grid[0], kinds, strict=True):
        _quiet(axes, theme, "x")
        axes.axvline(0, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
        for place, label in enumerate(labels):
            clock = next(one for one in clocks if (one.label, one.perturbation) == (label, kind))
            difference = clock.comparison.difference
            colour = theme.first if label in liquid else theme.second
            axes.plot([-100 * difference.high, -100 * difference.low], [place, place], color=colour, linewidth=2)
            axes.plot(-100 * difference.value, place, "o", color=colour, markersize=7)
        axes.set_title(kind.replace("_", " "), color=theme.text, fontsize=9.5, loc="left")
        axes.set_xlabel("hidden minus known, points", color=theme.text, **_SMALL)
    _names(grid[0, 0], labels, theme)
    return figure


def matrix(pairs: Sequence[Pair], theme: Theme = LIGHT) -> Figure:
    """Draw what each two shifts do to each driver beyond the sum of both, in points; bold where the interval leaves 0.

    Args:
        pairs: of one driver or more, each with all pairs of the same shifts.
        theme: colours.
    """
    drivers = list(dict.fromkeys(pair.driver for pair in pairs))
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    side = 1.2 + 0.36 * len(names)
    figure = Figure(figsize=(side * len(drivers), side), layout="constrained", facecolor=theme.surface)
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("matrix", ["#1f6fb2", "#f7f3ee", "#c2570c"])
    shown = [name.split(":")[0].replace("_", " ") for name in names]
    for place, driver in enumerate(drivers, start=1):
        axes = figure.add_subplot(1, len(drivers), place)
        values = np.full((len(names), len(names)), np.nan)
        for pair in (pair for pair in pairs if pair.driver == driver):
            row, column = sorted((names.index(pair.first), names.index(pair.second)), reverse=True)
            values[row, column] = 100 * pair.interaction.value
            weight = "normal" if pair.verdict == UNDECIDED else "bold"
            axes.text(
                column, row, f"{round(values[row, column])}", ha="center", va="center", fontsize=7.5, fontweight=weight
            )
        axes.imshow(values, cmap=colours, vmin=-60, vmax=60)
        axes.set_title(driver, color=theme.text, fontsize=10)
        axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), shown)
        axes.tick_params(colors=theme.text, labelsize=8.5, length=0)
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def _place(number: int, is_liquid: bool, liquid: Collection[str], order: Sequence[Any]) -> int:
    """Return the place of a driver's colour: warm ones for liquid drivers, cold ones for the others."""
    count = sum(driver.name in liquid for driver in order)
    return number if is_liquid else 5 + number - count


def _figure(width: float, height: float, theme: Theme) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=theme.surface)
    axes = figure.add_subplot()
    _quiet(axes, theme, "x")
    return figure, axes


def _quiet(axes: Axes, theme: Theme, grid: Literal["x", "y"]) -> None:
    axes.set_facecolor("none")
    axes.grid(axis=grid, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)


def _names(axes: Axes, names: Sequence[str], theme: Theme) -> None:
    """Write the names from top to bottom."""
    axes.set_yticks(range(len(names)), names, color=theme.text)
    axes.set_ylim(len(names) - 0.5, -0.5)
