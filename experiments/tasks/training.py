"""What the tasks share: several cores, one budget, a table with intervals.

A task gives sequences and a score. Every core sees the same batches in the same order, is trained for the same number
of steps with Adam (linear warm-up, then cosine decay), from several seeds, and is scored on sequences it never saw:

    entries = [run_contender(contender, problem, training, progress) for contender in contenders]

Only the learning rate may differ between cores, as in the published experiments.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

from agents.files import write_json
from agents.run_directory import RunDirectory, to_json
from policies.cores import make_core

# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom; beyond the list the normal one is near enough.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Training:
    """The budget that every core gets, and where the results go."""

    cores: tuple[str, ...] = ()
    """Which of the task's cores to train; all when empty."""

    seeds: int = 3
    """Trainings a core, each with its own initial weights and order of batches."""

    steps: int = 2000
    """Optimizer steps a training."""

    batch_size: int = 128
    """Sequences a step."""

    learning_rate: float | None = None
    """Peak learning rate for every core; the task's own choice for each when left out."""

    clip: float = 1.0
    """Largest norm of the gradient; longer ones are shortened to it."""

    evaluate_every: int = 250
    """Steps between two points of the score curve."""

    threads: int | None = None
    """CPU threads; torch's own choice when left out."""

    out: Path | None = None
    """Where plots, curves and figures go; `runs/tasks/NAME` when left out."""

    json: Path | None = None
    """A file for the figures of the table, besides the one in `out`."""

    quick: bool = False
    """A smoke test of some seconds: one seed, few steps, small data. Its figures mean nothing."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is out of range.
        """
        for name in ("seeds", "steps", "batch_size", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}.")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}.")


@dataclass(frozen=True)
class Contender:
    """A core as a task trains it.

    Attributes:
        label: its name in the table and on the command line.
        core: its name in the registry of cores.
        config: options of the core that differ from the defaults.
        learning_rate: peak learning rate.
        motors: motor neurons that a linear read-out maps to the outputs; None when the core's outputs are the outputs.
        published: the figure that a paper reports for this kind of core, as text; empty when there is none.
    """

    label: str
    core: str
    config: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 1e-3
    motors: int | None = None
    published: str = ""


@dataclass(frozen=True)
class Batch:
    """Sequences of one step.

    Attributes:
        inputs: `[B, T, F]`.
        targets: what the loss compares with, first dimension B.
        elapsed: `[B, T]` time since the previous input, > 0; None when all are on time.
        last: `[B]` int64 index of the last real step; None when all T are real.
    """

    inputs: Tensor
    targets: Tensor
    elapsed: Tensor | None = None
    last: Tensor | None = None

    def __len__(self) -> int:
        """Return B."""
        return len(self.inputs)

    def pick(self, index: Tensor) -> Batch:
        """Return the sequences at `index` `[n]`, cut after the last real step of the longest."""
        last = None if self.last is None else self.last[index]
        steps = self.inputs.shape[1] if last is None else int(last.max()) + 1
        elapsed = None if self.elapsed is None else self.elapsed[index, :steps]
        return Batch(self.inputs[index, :steps], self.targets[index], elapsed, last)


@dataclass(frozen=True)
class Problem:
    """What is learned.

    Attributes:
        train: sequences to learn from.
        test: sequences to score on.
        loss: predictions `[B, T, M]` and batch → a number to minimise.
        score: predictions and batch → the figure of the table.
        output_size: M.
        best: "min" or "max": which end of the score is good.
        validation: sequences that choose the step whose weights are scored; the last step's are when None.
        learn_scale: factors `[M]` that turn a model's raw outputs into the unit of the targets; ones when None.
    """

    train: Batch
    test: Batch
    loss: Callable[[Tensor, Batch], Tensor]
    score: Callable[[Tensor, Batch], Tensor]
    output_size: int
    best: str = "min"
    validation: Batch | None = None
    learn_scale: Tensor | None = None


@dataclass
class Entry:
    """A core's results: one item of each list for every seed."""

    contender: Contender
    parameters: int
    scores: list[float] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    curves: list[list[tuple[int, float]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    models: list[nn.Module] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the figures, without the models and the step-by-step losses."""
        mean, half = interval(self.scores)
        contender = self.contender
        return {
            "label": contender.label,
            "core": contender.core,
            "config": to_json(dict(contender.config)),
            "learning_rate": contender.learning_rate,
            "parameters": self.parameters,
            "mean": mean,
            "half_width_95": half if math.isfinite(half) else None,
            "scores": self.scores,
            "seconds": [round(s, 2) for s in self.seconds],
            "curves": self.curves,
            "published": contender.published,
        }


class Model(nn.Module):
    """A core, its read-out and its scale: inputs → predictions."""

    def __init__(self, contender: Contender, input_size: int, output_size: int, seed: int, scale: Tensor | None = None):
        """Build the core and the read-out from one seed."""
        super().__init__()
        self.core = make_core(contender.core, input_size, contender.motors or output_size, contender.config, seed)
        self.readout = nn.Linear(contender.motors, output_size) if contender.motors else nn.Identity()
        if contender.motors:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.readout.reset_parameters()  # type: ignore[operator]
        self.register_buffer("scale", torch.ones(output_size) if scale is None else scale)

    def forward(self, batch: Batch) -> Tensor:
        """Return predictions `[B, T, M]`."""
        outputs, _ = self.core(batch.inputs, None, batch.elapsed)
        return self.readout(outputs) * self.scale


def run_contender(contender: Contender, problem: Problem, training: Training, progress: Progress) -> Entry:
    """Train and score one core from every seed."""
    entry: Entry | None = None
    for seed in range(training.seeds):
        model = Model(contender, problem.train.inputs.shape[2], problem.output_size, seed, problem.learn_scale)
        if entry is None:
            entry = Entry(contender, sum(p.numel() for p in model.parameters() if p.requires_grad))
        label = f"{contender.label}, seed {seed + 1} of {training.seeds}"
        bar = progress.add_task(label, total=training.steps)
        start = time.perf_counter()
        losses, curve = train(
            model, problem, training, contender.learning_rate, seed, partial(progress.advance, bar, 1)
        )
        entry.seconds.append(time.perf_counter() - start)
        entry.losses.append(losses)
        entry.curves.append(curve)
        entry.scores.append(evaluate(model, problem.test, problem.score))
        entry.models.append(model)
        progress.update(bar, description=f"{label}: {entry.scores[-1]:.4g}")
    assert entry is not None
    return entry


def train(
    model: nn.Module,
    problem: Problem,
    training: Training,
    learning_rate: float,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[float], list[tuple[int, float]]]:
    """Train a model in place; with validation sequences it ends up with the weights that did best on them.

    Returns:
        The loss of every step, and (step, score) on the validation sequences (the test sequences when there are none).
    """
    peak = training.learning_rate or learning_rate
    optimizer = torch.optim.Adam(model.parameters(), lr=peak)
    warmup = max(1, training.steps // 50)
    rng = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    curve: list[tuple[int, float]] = []
    kept: tuple[float, dict[str, Tensor]] | None = None
    order = torch.empty(0, dtype=torch.long)
    for step in range(1, training.steps + 1):
        if len(order) < training.batch_size:
            order = torch.cat((order, torch.randperm(len(problem.train), generator=rng)))
        batch, order = problem.train.pick(order[: training.batch_size]), order[training.batch_size :]
        for group in optimizer.param_groups:
            group["lr"] = peak * schedule(step, warmup, training.steps)
        loss = problem.loss(model(batch), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimizer.step()
        losses.append(float(loss.detach()))
        advance()
        if step % training.evaluate_every == 0 or step == training.steps:
            score = evaluate(model, problem.validation or problem.test, problem.score)
            curve.append((step, score))
            if problem.validation is not None and is_better(score, kept[0] if kept else None, problem.best):
                kept = score, copy.deepcopy(model.state_dict())
    if kept is not None:
        model.load_state_dict(kept[1])
    return losses, curve


def schedule(step: int, warmup: int, steps: int) -> float:
    """Return the share of the peak learning rate at `step` of 1 … `steps`: up in a line, down in half a cosine."""
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


@torch.no_grad()
def evaluate(model: nn.Module, data: Batch, score: Callable[[Tensor, Batch], Tensor], chunk: int = 1000) -> float:
    """Return the mean score of all sequences; `score` must be a mean over the sequences it is given."""
    model.eval()
    total = 0.0
    for index in torch.arange(len(data)).split(chunk):
        part = data.pick(index)
        total += float(score(model(part), part)) * len(part)
    model.train()
    return total / len(data)


def is_better(score: float, than: float | None, best: str) -> bool:
    """Say whether a score beats another; a score that is not a number never does."""
    if not math.isfinite(score):
        return False
    return than is None or (score < than if best == "min" else score > than)


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval over the seeds (Student's t; infinite for one seed)."""
    count = len(scores)
    mean = math.fsum(scores) / count
    if count == 1:
        return mean, math.inf
    deviation = math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / (count - 1))
    quantile = STUDENT[count - 2] if count - 2 < len(STUDENT) else 1.96
    return mean, quantile * deviation / math.sqrt(count)


def choose(contenders: Sequence[Contender], names: Sequence[str]) -> list[Contender]:
    """Return the named contenders, all when there are no names.

    Raises:
        ValueError: if a name is not among them.
    """
    known = {contender.label: contender for contender in contenders}
    for name in names:
        if name not in known:
            raise ValueError(f"cores must be among {', '.join(known)}, got {name!r}.")
    return [known[name] for name in names] if names else list(contenders)


def compare(
    name: str, options: Any, training: Training, contenders: Sequence[Contender], problem: Problem
) -> tuple[list[Entry], RunDirectory]:
    """Train all chosen cores with progress bars, logging each core's figures as soon as they are there."""
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    run = RunDirectory(training.out or Path("runs/tasks") / name, f"tasks {name}", options)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    entries = []
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        for contender in choose(contenders, training.cores):
            entries.append(run_contender(contender, problem, training, progress))
            run.log(**entries[-1].to_json())
    return entries, run


def report(
    title: str,
    score_name: str,
    entries: Sequence[Entry],
    run: RunDirectory,
    training: Training,
    extra: Mapping[str, Any] | None = None,
    rows: Sequence[tuple[str, str]] = (),
    digits: int = 3,
) -> None:
    """Print the table and write the figures to `results.json` in the run directory, and to `training.json`.

    Args:
        title: above the table.
        score_name: what the scores are, with its unit.
        entries: one a core.
        run: where the figures go.
        training: the budget.
        extra: more for the JSON file.
        rows: label and figure of baselines that are not trained.
        digits: decimals of the scores.
    """
    table = Table(title=title, caption=f"± is a 95 % interval of the mean over {training.seeds} seeds (Student's t).")
    for column in ("core", "parameters", "steps", "s a training", score_name, "published"):
        table.add_column(column, justify="left" if column == "core" else "right")
    for entry in entries:
        mean, half = interval(entry.scores)
        shown = f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if math.isfinite(half) else "")
        seconds = f"{math.fsum(entry.seconds) / len(entry.seconds):.0f}"
        table.add_row(
            entry.contender.label,
            f"{entry.parameters:,}",
            f"{training.steps:,}",
            seconds,
            shown,
            entry.contender.published,
        )
    for label, figure in rows:
        table.add_row(label, "", "", "", figure, "")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    results = {"task": title, "score": score_name, "entries": [e.to_json() for e in entries], **dict(extra or {})}
    for path in (run.path / "results.json", training.json):
        if path is not None:
            write_json(path, results)


def main(options: type[Any], run: Callable[[Any], None], description: str) -> None:
    """Read the command line into `options` and run; a user's mistake is one line on stderr and exit code 2."""
    try:
        run(tyro.cli(options, description=description, config=(tyro.conf.OmitArgPrefixes,)))
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
