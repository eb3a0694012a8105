"""How fast the cores learn and step, beside the reference package and `torch.nn.LSTM`, in one process.

    python -m experiments.benchmarks.cores --json cores.json --plot cores.png
    python -m experiments.benchmarks.cores --grid    # all sizes; a quarter of an hour

A training step is forward, backward and Adam (torch's fused one, for all) on `[B, T, 32]` inputs. The contestants take
turns, so that whatever else the machine does falls on all alike; a figure is the median over the turns, a ratio the
median of the ratios within a turn. No speed is printed before outputs and input gradients were seen to agree with the
reference package.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from experiments.benchmarks.cores_peers import INPUTS, check_agreement, peers
from experiments.benchmarks.cores_tables import plot_lengths, show, show_lengths
from experiments.cli import run_script
from experiments.console import check_json, progress, say, write_results
from policies.cores import CORES, make_config, make_core


@dataclass(frozen=True)
class CoresBenchmark:
    """What to measure."""

    turns: int = 7
    """Turns that each contestant takes in each case."""
    grid: bool = False
    """All sizes B in {1, 32, 256, 2048}, T in {1, 16, 64, 512}, N in {19, 64, 302} instead of the headline cases."""
    lengths: bool = True
    """Also the curve of cost against sequence length, for every core, to --longest steps."""
    longest: int = 16384
    """Longest sequence of that curve, steps."""
    peer_memory_gib: float = 8.0
    """The reference package's LTC, which keeps every dense substep, is left out where it would need more than this."""
    slowest_s: float = 30.0
    """A contestant that needs longer than this for one training step is left out, seconds."""
    quick: bool = False
    """Few turns, small cases: shows that it runs."""
    threads: int = 2
    """Threads that torch and the kernels may use."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the figures as JSON."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to draw the curve of cost against sequence length, as PNG or SVG."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if min(self.turns, self.threads) < 1 or self.longest < 16 or not self.slowest_s > 0:
            raise ValueError("turns and threads must be at least 1, longest at least 16 and slowest_s positive.")


@dataclass(frozen=True)
class Case:
    """A size.

    Attributes:
        batch: B.
        steps: T.
        units: N, neurons of the circuit.
    """

    batch: int
    steps: int
    units: int

    @property
    def name(self) -> str:
        """As shown in tables."""
        return f"B {self.batch}, T {self.steps}, N {self.units}"


HEADLINES = (Case(32, 64, 19), Case(256, 64, 19), Case(32, 16, 302))
GRID = tuple(Case(b, t, n) for n, b, t in product((19, 64, 302), (1, 32, 256, 2048), (1, 16, 64, 512)))


def main(config: CoresBenchmark) -> dict[str, Any]:
    """Measure and print; returns what goes into the JSON file."""
    check_json(config.json)
    if config.plot is not None:
        from experiments.reports.plots import check_plot

        check_plot(config.plot)
    if config.quick:
        config = replace(config, turns=2, longest=min(config.longest, 256))
    torch.set_num_threads(config.threads)
    cases = (Case(4, 8, 19),) if config.quick else GRID if config.grid else HEADLINES
    for units in sorted({case.units for case in cases}):
        check_agreement(units)
    figures: dict[str, Any] = {"training": [], "lengths": {}}
    with progress("training steps", len(cases), "cases") as bar:
        for case in cases:
            figures["training"].append(measure_training(case, config))
            bar.advance()
    figures["step"] = measure_step(config)
    show(figures)
    if config.lengths:
        figures["lengths"] = measure_lengths(config)
        show_lengths(figures["lengths"])
        if config.plot is not None:
            plot_lengths(figures["lengths"], config.plot)
            say(f"plot: {config.plot}")
    write_results(config.json, "benchmark cores", config, figures)
    return figures


def measure_training(case: Case, config: CoresBenchmark) -> dict[str, Any]:
    """Time training steps of one size; milliseconds, bytes kept for the backward pass, and ratios."""
    inputs = torch.randn(case.batch, case.steps, INPUTS, generator=torch.Generator().manual_seed(2))
    steps: dict[str, Callable[[], None]] = {}
    kept: dict[str, int] = {}
    for name, model in peers(case.units).items():
        if name == "LTC, ncps" and dense_gib(case) > config.peer_memory_gib:
            continue
        step = training_step(model, inputs)
        started_s = time.perf_counter()
        kept[name] = bytes_kept(model, inputs)
        if time.perf_counter() - started_s < config.slowest_s:
            steps[name] = step
    turns = interleave(steps, config.turns, 0.1)
    ratios = {}
    for ours, theirs in (("LTC", "LTC, ncps"), ("LTC", "LSTM, torch"), ("wired CfC", "wired CfC, ncps")):
        if ours in turns and theirs in turns:
            pairs = zip(turns[theirs], turns[ours], strict=True)
            ratios[f"{theirs} / {ours}"] = spread([slow / fast for slow, fast in pairs])
    return {
        "case": case.name,
        "ms": {name: spread([1e3 * s for s in seconds]) for name, seconds in turns.items()},
        "kept_bytes": kept,
        "ratio": ratios,
    }


def dense_gib(case: Case) -> float:
    """Estimate what the reference's LTC keeps for the backward pass: some 6 dense arrays for each of 6 substeps."""
    return 6 * 6 * 4 * case.batch * case.steps * case.units**2 / 2**30


def training_step(model: nn.Module, inputs: torch.Tensor) -> Callable[[], None]:
    """Return a function that does forward, backward and an optimizer step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(inputs)[0].square().mean().backward()
        optimizer.step()

    return step


def bytes_kept(model: nn.Module, inputs: torch.Tensor) -> int:
    """Return the bytes of activations that autograd keeps for the backward pass; a tensor kept twice counts once."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # alive until the count is done, so that addresses are not used again
        return tensor

    held: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(inputs)[0].square().mean()
    loss.backward()
    return sum(sizes.values())


def measure_step(config: CoresBenchmark) -> dict[str, Any]:
    """Time one step at batch 1 without gradients, as a car takes it; microseconds."""
    models = peers(19)
    inputs = torch.randn(1, 1, INPUTS)
    state = {"LTC": torch.zeros(1, 19), "LTC, ncps": torch.zeros(1, 19)}
    calls = {name: partial(models[name], inputs, state[name]) for name in state}
    with torch.no_grad():
        turns = interleave(calls, max(config.turns, 3), 0.1)
    return {
        "us": {name: spread([1e6 * s for s in seconds]) for name, seconds in turns.items()},
        "ratio": spread([slow / fast for slow, fast in zip(turns["LTC, ncps"], turns["LTC"], strict=True)]),
    }


def measure_lengths(config: CoresBenchmark) -> dict[str, dict[int, float]]:
    """Time a forward pass over one sequence of growing length for every core; milliseconds by length.

    The Transformer comes twice: with its window, and with a window as long as the sequence, whose cost grows with the
    square.
    """
    lengths = [16 * 4**k for k in range(20) if 16 * 4**k <= config.longest]
    names = [*sorted(CORES), "transformer, full window"]
    curves: dict[str, dict[int, float]] = {name: {} for name in names}
    with progress("sequence lengths", len(names) * len(lengths), "points") as bar, torch.inference_mode():
        for name, steps in product(names, lengths):
            bar.advance()
            if curves[name] and max(curves[name].values()) * 16 > 1e3 * 8 * config.slowest_s:
                continue  # the next point of a quadratic curve would take too long
            if name == "transformer, full window":
                core = make_core("transformer", INPUTS, 1, replace(make_config("transformer"), window=steps))
            else:
                core = make_core(name, INPUTS, 1)
            core.eval()
            inputs = torch.randn(1, steps, INPUTS)
            (seconds,) = interleave({name: partial(core, inputs)}, 3, 0.01).values()
            curves[name][steps] = 1e3 * statistics.median(seconds)
    return curves


def interleave(calls: Mapping[str, Callable[[], Any]], turns: int, turn_s: float) -> dict[str, list[float]]:
    """Let callables take turns; returns seconds a call for each turn. The first calls warm up and do not count."""
    counts = {}
    for name, call in calls.items():
        call()
        started_s = time.perf_counter()
        call()
        counts[name] = max(1, int(turn_s / max(time.perf_counter() - started_s, 1e-6)))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            started_s = time.perf_counter()
            for _ in range(counts[name]):
                call()
            taken[name].append((time.perf_counter() - started_s) / counts[name])
    return taken


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


if __name__ == "__main__":
    run_script(CoresBenchmark, main)
