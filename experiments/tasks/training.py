"""How the tasks train: sequences, a loss and a score in, a trained core out.

Every core of a task sees the same batches in the same order, for the same number of steps of Adam (learning rate up in
a line, down in half a cosine). Only the peak learning rate may differ between cores, as in the published experiments.

    model = Model(contender, input_size=1, output_size=1, seed=0)
    losses, curve = train(model, problem, Training(steps=1000), contender.learning_rate, seed=0)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policies.cores import make_core

POOL = 16
"""Batches that are sorted by length together."""

SCORED_STEPS = 1 << 16
"""Most steps that are scored at once, over all sequences of a part: long sequences need much memory."""


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

    device: str = "cpu"
    """Where the cores train: cpu, cuda or cuda:N."""

    out: Path | None = None
    """Where plots, curves and figures go; `runs/tasks/NAME` when left out."""

    json: Path | None = None
    """A file for the figures of the table, besides the one in `out`."""

    resume: bool = False
    """Continue the run in `out`: trainings that are complete are kept; more cores and more seeds may be asked for."""

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

    def to(self, device: torch.device | str) -> Batch:
        """Return the sequences on a device; the same ones where they lie there already."""
        optional = (None if x is None else x.to(device) for x in (self.elapsed, self.last))
        return Batch(self.inputs.to(device), self.targets.to(device), *optional)

    def pick(self, index: Tensor) -> Batch:
        """Return the sequences at `index` `[n]`, cut after the last real step of the longest."""
        index = index.to(self.inputs.device)
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

    def to(self, device: torch.device | str) -> Problem:
        """Return the problem with its sequences on a device."""
        validation = None if self.validation is None else self.validation.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)


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
    optimizer = torch.optim.Adam(model.parameters(), lr=peak, fused=True)
    warmup = max(1, training.steps // 50)
    rng = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    curve: list[tuple[int, float]] = []
    kept: tuple[float, dict[str, Tensor]] | None = None
    order = batches(problem.train, training.batch_size, rng)
    for step in range(1, training.steps + 1):
        batch = problem.train.pick(next(order))
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


def batches(data: Batch, batch_size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of one batch after the other, for ever; every sequence comes once in a round.

    Where sequences differ in length, those of like length share a batch: pools of `POOL` batches are sorted by length,
    cut, and the batches of a round shuffled. A step then costs what its sequences need, not what the longest of all do.
    """
    last = None if data.last is None else data.last.cpu()
    while True:
        order = torch.randperm(len(data), generator=rng)
        if last is not None:
            pools = order.split(POOL * batch_size)
            order = torch.cat([pool[last[pool].argsort(stable=True)] for pool in pools])
        cut = order.split(batch_size)
        for k in torch.randperm(len(cut), generator=rng).tolist():
            yield cut[k]


def schedule(step: int, warmup: int, steps: int) -> float:
    """Return the share of the peak learning rate at `step` of 1 … `steps`: up in a line, down in half a cosine."""
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


@torch.no_grad()
def evaluate(model: nn.Module, data: Batch, score: Callable[[Tensor, Batch], Tensor]) -> float:
    """Return the mean score of all sequences; `score` must be a mean over the sequences it is given."""
    model.eval()
    total = 0.0
    chunk = min(1000, max(1, SCORED_STEPS // data.inputs.shape[1]))
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
