"""Irregular XOR: say whether a stream of bits had an even or an odd number of ones, from its events alone.

The protocol of the CfC and ODE-LSTM papers (Hasani et al., Nature Machine Intelligence 2022; Lechner & Hasani,
arXiv:2006.04418): a stream of 2 to 31 random bits, one a time unit, is sent as events. An event comes when the bit
changes (and at the first and the last bit); it carries the bit and the time since the previous event. A run of equal
bits is thus one event and a number of time units, and whoever does not measure time cannot count it. The label is the
parity of the ones, the prediction is read after the last event.

    python -m experiments.tasks.xor_stream --seeds 3
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from experiments.cli import run_script
from experiments.tasks.comparison import Entry, compare, open_task, report, save
from experiments.tasks.training import Batch, Contender, Problem, Training

LONGEST = 31
"""Most bits in a stream."""


@dataclass(frozen=True)
class Options:
    """The XOR task."""

    training: Training = field(default_factory=lambda: Training(steps=12_000, batch_size=128, evaluate_every=1000))

    train_streams: int = 100_000
    """Streams to learn from; 100,000 in the papers."""

    test_streams: int = 10_000
    """Streams to score on; 10,000 in the papers."""

    bit_time: float = 1.0
    """Elapsed time that one bit stands for. The papers divide by 32; a core whose nominal period is one bit gets 1."""

    data_seed: int = 0
    """Seed of the streams."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.train_streams < 1 or self.test_streams < 1:
            raise ValueError(
                f"train_streams and test_streams must be at least 1, got {self.train_streams} and {self.test_streams}."
            )
        if not self.bit_time > 0:
            raise ValueError(f"bit_time must be positive, got {self.bit_time}.")


# The gates' opening times are spread over 16 bits. Drawn as published, the cores learn to count runs of some six ones
# and then stand still: their gates, and with them the gradient, do not tell longer runs apart.
CFC = {"gate_span": 16.0}

# Fully connected with a backbone of 128 units, as published. For layers this wide torch's own matrix products are the
# faster way on a CPU.
FULL = {"wiring": None, "units": 64, "kernel": "reference"}

CONTENDERS = (
    Contender("cfc", "cfc", {**FULL, **CFC}, 1e-3, published="99.42 ± .42"),
    Contender("cfc_mixed", "cfc", {**FULL, **CFC, "mixed_memory": True}, 1e-3, published="99.72 ± .08"),
    Contender("ltc", "ltc", {"wiring": "fully_connected", "units": 32}, 3e-3, motors=32, published="49.11 ± .00"),
    Contender("lstm", "lstm", {"hidden_size": 64}, 3e-3),
    Contender("ctrnn", "ctrnn", {"units": 64, "kernel": "reference"}, 3e-3),
)


def run(options: Options) -> None:
    """Train the cores and print the table."""
    if options.training.quick:
        training = replace(options.training, steps=40, batch_size=32, seeds=1, evaluate_every=20)
        options = replace(options, training=training, train_streams=500, test_streams=200)
    with open_task("xor_stream", options, CONTENDERS) as place:
        problem = make_problem(options)
        entries = compare(CONTENDERS, problem, options.training, place)
        draw_curves(entries, place.path / "accuracy.png")
        chance = 100 * max(float(problem.test.targets.mean()), 1 - float(problem.test.targets.mean()))
        baselines = {"always the more frequent answer": chance}
        report("Irregular XOR bit streams", "accuracy, %", entries, place, options, baselines, digits=2)


def make_problem(options: Options) -> Problem:
    """Draw the streams."""
    rng = np.random.default_rng(options.data_seed)
    train, test = (draw_streams(rng, n, options.bit_time) for n in (options.train_streams, options.test_streams))
    return Problem(train, test, loss, accuracy, output_size=1, best="max")


def draw_streams(rng: np.random.Generator, count: int, bit_time: float) -> Batch:
    """Draw streams of 2 to 31 bits and encode them."""
    length = rng.integers(2, LONGEST + 1, count)
    bits = rng.integers(0, 2, (count, LONGEST))
    return encode(bits, length, bit_time)


def encode(bits: NDArray[np.int64], length: NDArray[np.int64], bit_time: float = 1.0) -> Batch:
    """Turn streams of bits into streams of events.

    Args:
        bits: `[n, L]`, 0 or 1; what lies beyond `length` is ignored.
        length: `[n]` bits in each stream, at least 1.
        bit_time: elapsed time of one bit.

    Returns:
        inputs `[n, L, 1]`: the bit, as −1 or 1, of each event, 0 after the last; elapsed `[n, L]`: time since the
        previous event (since one bit before the stream for the first), `bit_time` after the last; last `[n]`; targets
        `[n]`: 1 where the number of ones is odd.
    """
    count, longest = bits.shape
    place = np.arange(longest)
    real = place < length[:, None]
    changes = np.concatenate((np.ones((count, 1), bool), bits[:, 1:] != bits[:, :-1]), axis=1)
    is_event = real & (changes | (place == length[:, None] - 1))
    stream, at = np.nonzero(is_event)  # in order of stream, then of time
    rank = (np.cumsum(is_event, axis=1) - 1)[stream, at]
    before = np.concatenate(([-1], at[:-1]))
    before[rank == 0] = -1
    inputs = np.zeros((count, longest, 1), np.float32)
    elapsed = np.full((count, longest), bit_time, np.float32)
    inputs[stream, rank, 0] = 2 * bits[stream, at] - 1
    elapsed[stream, rank] = np.subtract(at, before) * bit_time
    parity = (bits * real).sum(axis=1) % 2
    last = is_event.sum(axis=1) - 1
    targets = parity.astype(np.float32)
    return Batch(*map(torch.from_numpy, (inputs, targets, elapsed, last)))


def logits(predictions: Tensor, batch: Batch) -> Tensor:
    """Return the prediction `[B]` after the last event, from `[B, T, 1]`."""
    assert batch.last is not None
    return predictions[torch.arange(len(predictions)), batch.last, 0]


def loss(predictions: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy."""
    return functional.binary_cross_entropy_with_logits(logits(predictions, batch), batch.targets)


def accuracy(predictions: Tensor, batch: Batch) -> Tensor:
    """Share of right answers, %."""
    return 100 * ((logits(predictions, batch) > 0) == (batch.targets > 0.5)).float().mean()


def draw_curves(entries: list[Entry], path: Path) -> None:
    """Plot accuracy against steps, a line a seed."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for k, entry in enumerate(entries):
        for i, curve in enumerate(entry.curves):
            axes.plot(*zip(*curve, strict=True), color=f"C{k}", label=entry.contender.label if i == 0 else None)
    axes.axhline(98, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="optimizer steps", ylabel="test accuracy, %", title="Irregular XOR bit streams")
    axes.legend()
    save(figure, path)


if __name__ == "__main__":
    run_script(Options, run, description=__doc__)
