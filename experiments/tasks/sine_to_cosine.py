"""Sine to cosine: hear sin(ωt + φ), answer cos(ωt + φ).

The smallest task with a hidden state: the answer is not a function of the input alone, as a sine passes every value
once rising and once falling, so a core has to remember where it came from. Frequency and phase are drawn for every
sequence. The score is the mean squared error after the first `warm_up` steps; always answering 0 scores 0.5.

    python -m experiments.tasks.sine_to_cosine --seeds 3
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.cli import run_script
from experiments.tasks.comparison import Entry, compare, open_task, report, save
from experiments.tasks.training import Batch, Contender, Problem, Training


@dataclass(frozen=True)
class Options:
    """The sine task."""

    training: Training = field(default_factory=lambda: Training(steps=1000, batch_size=64, evaluate_every=100))

    train_sequences: int = 2000
    """Sequences to learn from."""

    test_sequences: int = 500
    """Sequences to score on."""

    length: int = 64
    """Steps a sequence."""

    period_range: tuple[float, float] = (16.0, 48.0)
    """Shortest and longest period of a sine, in steps."""

    warm_up: int = 4
    """First steps that are left out of loss and score: nobody can know the direction from one value."""

    data_seed: int = 0
    """Seed of the sequences."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is out of range.
        """
        if self.train_sequences < 1 or self.test_sequences < 1:
            raise ValueError(
                "train_sequences and test_sequences must be at least 1, got "
                f"{self.train_sequences} and {self.test_sequences}."
            )
        if not 0 <= self.warm_up < self.length:
            raise ValueError(f"warm_up must be from 0 to length - 1 = {self.length - 1}, got {self.warm_up}.")
        if not 2 < self.period_range[0] <= self.period_range[1]:
            raise ValueError(f"period_range must be (shortest, longest) with shortest > 2, got {self.period_range}.")


CONTENDERS = (
    Contender("ltc", "ltc", {"wiring": "ncp", "units": 19}, 1e-2),
    Contender("cfc", "cfc", {"wiring": None, "units": 19, "backbone_units": 32}, 1e-2),
    Contender("cfc_ncp", "cfc", {"wiring": "ncp", "units": 19}, 1e-2),
    Contender("ctrnn", "ctrnn", {"units": 19}, 1e-2),
    Contender("gru", "gru", {"hidden_size": 19}, 1e-2),
    Contender("lstm", "lstm", {"hidden_size": 19}, 1e-2),
)


def run(options: Options) -> None:
    """Train the cores, draw the plots and print the table."""
    if options.training.quick:
        training = replace(options.training, steps=30, batch_size=16, seeds=1, evaluate_every=10)
        options = replace(options, training=training, train_sequences=64, test_sequences=32)
    with open_task("sine_to_cosine", options, CONTENDERS) as place:
        problem = make_problem(options)
        entries = compare(CONTENDERS, problem, options.training, place)
        draw_losses(entries, place.path / "loss.png")
        draw_predictions(entries, problem.test, place.path / "predictions.png")
        report("Sine to cosine", "mean squared error", entries, place, options, {"always 0": 0.5}, digits=5)


def make_problem(options: Options) -> Problem:
    """Draw the sequences."""
    rng = torch.Generator().manual_seed(options.data_seed)
    train, test = (draw_sines(rng, n, options) for n in (options.train_sequences, options.test_sequences))

    def error(predictions: Tensor, batch: Batch) -> Tensor:
        return (predictions - batch.targets)[:, options.warm_up :].square().mean()

    return Problem(train, test, error, error, output_size=1)


def draw_sines(rng: torch.Generator, count: int, options: Options) -> Batch:
    """Draw `[count, length, 1]` sines and the cosines of the same frequency and phase."""
    shortest, longest = options.period_range
    period = torch.rand(count, 1, generator=rng) * (longest - shortest) + shortest
    phase = torch.rand(count, 1, generator=rng) * (2 * math.pi)
    angle = 2 * math.pi / period * torch.arange(options.length) + phase  # [count, length]
    return Batch(angle.sin().unsqueeze(-1), angle.cos().unsqueeze(-1))


def draw_losses(entries: list[Entry], path: Path) -> None:
    """Plot the training loss of every core: the mean over the seeds, smoothed over steps, and the spread."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for k, entry in enumerate(entries):
        losses = smooth(torch.tensor(entry.losses))  # [seeds, steps]
        steps = torch.arange(1, losses.shape[1] + 1)
        axes.plot(steps, losses.mean(0), color=f"C{k}", label=entry.contender.label)
        axes.fill_between(steps, losses.amin(0), losses.amax(0), color=f"C{k}", alpha=0.2, linewidth=0)
    axes.set(
        xlabel="optimizer steps", ylabel="training loss (mean squared error)", yscale="log", title="Sine to cosine"
    )
    axes.legend()
    save(figure, path)


def smooth(losses: Tensor, share: float = 0.02) -> Tensor:
    """Return the running mean of `[seeds, steps]` losses over `share` of the steps, shorter at the beginning."""
    width = max(1, int(losses.shape[1] * share))
    sums = torch.cat((torch.zeros(len(losses), 1), losses.cumsum(1)), dim=1)
    ends = torch.arange(1, losses.shape[1] + 1)
    begins = (ends - width).clamp_min(0)
    return (sums[:, ends] - sums[:, begins]) / (ends - begins)


@torch.no_grad()
def draw_predictions(entries: list[Entry], test: Batch, path: Path) -> None:
    """Plot, for the first test sequence, input, truth and what the first seed of every core predicts."""
    one = test.pick(torch.tensor([0]))
    columns = min(3, len(entries))
    rows = math.ceil(len(entries) / columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(entries) :]:
        axes.set_visible(False)
    for k, (axes, entry) in enumerate(zip(grid.flat, entries, strict=False)):
        axes.plot(one.inputs[0, :, 0], color="lightgrey", label="input")
        axes.plot(one.targets[0, :, 0], color="black", linestyle="--", label="truth")
        axes.plot(entry.models[0](one)[0, :, 0], color=f"C{k}", label="prediction")
        axes.set(title=entry.contender.label, xlabel="step")
    grid[0, 0].legend(fontsize="small")
    save(figure, path)


if __name__ == "__main__":
    run_script(Options, run, description=__doc__)
