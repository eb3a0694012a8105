"""Tables and the picture of what the benchmark of cores measured."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from experiments.console import table


def show(figures: dict[str, Any]) -> None:
    """Print the training and step tables."""
    rows, ratios = [], []
    for case in figures["training"]:
        for name, value in case["ms"].items():
            kept = case["kept_bytes"][name] / 2**20
            rows.append([case["case"], name, f"{value['median']:.2f}", between(value, 2), f"{kept:.2f}"])
        ratios += [[case["case"], name, f"{v['median']:.1f}", between(v, 1)] for name, v in case["ratio"].items()]
    title = "a training step (forward, backward, Adam): medians, lowest to highest turn"
    table(title, ["size", "core", "ms", "turns", "MiB kept"], rows, left=2)
    step = figures["step"]
    ratios.append(
        ["B 1, T 1, N 19, forward", "LTC, ncps / LTC", f"{step['ratio']['median']:.1f}", between(step["ratio"], 1)]
    )
    table("ratios within a turn", ["size", "ratio", "times", "turns"], ratios, left=2)
    steps = [[name, f"{value['median']:.1f}", between(value, 1)] for name, value in step["us"].items()]
    table("one step at batch 1, forward, no gradient", ["core", "µs", "turns"], steps)


def show_lengths(curves: dict[str, dict[int, float]]) -> None:
    """Print the cost against sequence length."""
    lengths = sorted({steps for curve in curves.values() for steps in curve})
    rows = [[name, *(f"{curve[t]:.2f}" if t in curve else "–" for t in lengths)] for name, curve in curves.items()]
    table("one sequence, forward, ms by number of steps", ["core", *map(str, lengths)], rows)


def between(value: dict[str, float], digits: int) -> str:
    """Write lowest to highest."""
    return f"{value['low']:.{digits}f}–{value['high']:.{digits}f}"


def plot_lengths(curves: dict[str, dict[int, float]], path: Path) -> None:
    """Draw cost against length on two logarithmic axes."""
    from matplotlib.figure import Figure

    from experiments.reports.plots import save

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="steps of the sequence", ylabel="ms, forward", xscale="log", yscale="log")
    for style, (name, curve) in zip(_styles(), curves.items(), strict=False):
        axes.plot(list(curve), list(curve.values()), style, label=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    save(figure, path)


def _styles() -> Iterator[str]:
    """Line styles that differ in more than colour."""
    for marker, number in product("o^s", range(10)):
        yield f"{marker}-C{number}"
