"""Long sequences: time and memory of a training step to 16,384 steps, for the cores with a long memory and others.

    python -m experiments.benchmarks.long --json long.json --plot docs/long_memory.png
    python -m experiments.benchmarks.long --quick

A training step is forward and backward on `[B, T, 32]` inputs, on one thread. Every core has a process of its own that
goes from short to long sequences and reports the median processor time of some steps, which does not count what else
the machine does, and by how much its memory has grown at most. Both forms of
Liquid-S4 and both methods of LrcSSM are measured, and are seen to agree first: no speed is printed before.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from experiments.cli import run_script
from experiments.console import check_json, progress, say, table, write_results
from experiments.peak_memory import peak_mib
from policies.cores import make_core

INPUTS = 32

CONTESTANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Liquid-S4, convolution": ("liquid_s4", {"form": "convolution"}),
    "Liquid-S4, scan": ("liquid_s4", {"form": "scan"}),
    "LrcSSM, step by step": ("lrc_ssm", {"method": "sequential"}),
    "LrcSSM, Newton": ("lrc_ssm", {"method": "parallel"}),
    "LTC": ("ltc", {"units": 32, "wiring": "fully_connected"}),
    "LSTM": ("lstm", {"hidden_size": 32}),
    "Transformer, all of it": ("transformer", {}),
}
"""Cores by the name in the table; the Transformer's window is the sequence."""

PAIRS = (
    ("Liquid-S4, convolution", "Liquid-S4, scan"),
    ("LrcSSM, step by step", "LrcSSM, Newton"),
)
AGREEMENT = 1e-4


@dataclass(frozen=True)
class LongBenchmark:
    """What to measure."""

    lengths: tuple[int, ...] = (256, 1024, 4096, 16384)
    """T, steps of a sequence."""
    batch: int = 1
    """B, sequences."""
    turns: int = 2
    """Training steps of which the median counts."""
    longest_s: float = 60.0
    """A contestant that took longer for a training step is not measured at greater lengths, seconds."""
    most_gib: float = 8.0
    """The Transformer is left out where its attention would take more, GiB."""
    quick: bool = False
    """Short sequences only: shows that it runs."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the figures as JSON."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to draw time and memory against length, as PNG or SVG."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.lengths or min(*self.lengths, self.batch, self.turns) < 1:
            raise ValueError("lengths must name one or more; lengths, batch and turns must be at least 1.")
        if not (self.longest_s > 0 and self.most_gib > 0):
            raise ValueError("longest_s and most_gib must be positive.")


@dataclass(frozen=True)
class Figure:
    """What one contestant needed at one length.

    Attributes:
        contestant: its name.
        steps: T.
        seconds: median processor time of a training step.
        mib: by how much the process grew at most, MiB.
    """

    contestant: str
    steps: int
    seconds: float
    mib: float


def main(config: LongBenchmark) -> list[Figure]:
    """Check, measure, show; returns the figures."""
    check_json(config.json)
    if config.plot is not None:
        from experiments.reports.plots import check_plot

        check_plot(config.plot)
    lengths = (64, 128) if config.quick else tuple(sorted(config.lengths))
    for pair in PAIRS:
        check_agreement(*pair, lengths[-1])
    figures: list[Figure] = []
    with progress("long sequences", len(CONTESTANTS), "cores") as bar:
        for name in CONTESTANTS:
            figures += measure(name, lengths, config)
            bar.advance()
    show(figures, lengths)
    if config.plot is not None:
        plot(figures, config.plot)
        say(f"plot: {config.plot}")
    write_results(config.json, "benchmark long", config, {"figures": [vars(figure) for figure in figures]})
    return figures


def check_agreement(one: str, other: str, steps: int) -> None:
    """Raise RuntimeError unless two ways to run a core give the same outputs."""
    inputs = torch.randn(1, steps, INPUTS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = [build(name, steps)(inputs)[0] for name in (one, other)]
    apart = float((found[0] - found[1]).abs().max())
    if not apart <= AGREEMENT:
        raise RuntimeError(f"{one} and {other} differ by {apart:.1e} over {steps} steps, allowed are {AGREEMENT:.0e}.")
    say(f"{one} and {other}: outputs agree to {apart:.0e} over {steps:,} steps.")


def build(name: str, steps: int) -> torch.nn.Module:
    """Make a contestant for sequences of so many steps."""
    core, options = CONTESTANTS[name]
    if core == "transformer":
        options = {**options, "window": max(2, steps)}
    return make_core(core, INPUTS, 1, options)


def measure(name: str, lengths: tuple[int, ...], config: LongBenchmark) -> list[Figure]:
    """Measure in a process of its own, whose memory nothing else has touched."""
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(_measure_here, (name, lengths, config))
    return [Figure(name, *one) for one in found]


def _measure_here(name: str, lengths: tuple[int, ...], config: LongBenchmark) -> list[tuple[int, float, float]]:
    """Return steps, seconds and MiB for each length that is neither too long nor too large."""
    found: list[tuple[int, float, float]] = []
    for steps in lengths:
        attention_gib = (
            2 * 4 * 4 * 3 * config.batch * steps**2 / 2**30
        )  # layers, heads, bytes; scores and their gradients
        if name.startswith("Transformer") and attention_gib > config.most_gib:
            break
        torch.set_num_threads(1)
        model = build(name, steps)
        inputs = torch.randn(config.batch, steps, INPUTS, generator=torch.Generator().manual_seed(0))
        _train(model, inputs[:, :64])  # compiles what there is to compile
        gc.collect()
        before_mib = _reset_peak_mib()
        times_s: list[float] = []
        while len(times_s) < config.turns and (not times_s or times_s[-1] <= config.longest_s):
            started_s = time.process_time()
            _train(model, inputs)
            times_s.append(time.process_time() - started_s)
        found.append((steps, statistics.median(times_s), peak_mib() - before_mib))
        if found[-1][1] > config.longest_s:
            break
    return found


def _train(model: torch.nn.Module, inputs: torch.Tensor) -> None:
    model.zero_grad(set_to_none=True)
    model(inputs)[0].square().mean().backward()


def _reset_peak_mib() -> float:
    """Forget the largest resident size where the system can, so that compiling hides nothing; returns it, MiB.

    What is free already goes back to the system first: else it would be used again without being seen.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def show(figures: list[Figure], lengths: tuple[int, ...]) -> None:
    """Print the table: seconds and MiB for each length."""
    by_place = {(figure.contestant, figure.steps): figure for figure in figures}
    rows = []
    for name in CONTESTANTS:
        cells = []
        for steps in lengths:
            figure = by_place.get((name, steps))
            cells.append("–" if figure is None else f"{figure.seconds:.3g} s, {figure.mib:,.0f} MiB")
        rows.append([name, *cells])
    table("a training step, processor time and memory", ["core", *(f"T = {steps:,}" for steps in lengths)], rows)


def plot(figures: list[Figure], path: Path) -> None:
    """Draw time and memory against length, both logarithmic."""
    from matplotlib.figure import Figure as Picture

    from experiments.reports.plots import save

    picture = Picture(figsize=(10, 4), layout="constrained")
    times, memory = picture.subplots(1, 2)
    for name in CONTESTANTS:
        mine = [figure for figure in figures if figure.contestant == name]
        for axis, values in ((times, [f.seconds for f in mine]), (memory, [max(f.mib, 0.1) for f in mine])):
            axis.loglog([f.steps for f in mine], values, marker="o", markersize=3, label=name)
    for axis, title in ((times, "processor time of a training step, s"), (memory, "memory of it, MiB")):
        axis.set(xlabel="steps of the sequence", title=title)
        axis.grid(alpha=0.3)
    times.legend(fontsize=7)
    save(picture, path)


if __name__ == "__main__":
    run_script(LongBenchmark, main, description=__doc__)
