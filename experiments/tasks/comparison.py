"""How the tasks compare: every core from several seeds, progress bars, a table with intervals beside published figures.

with open_task("sine_to_cosine", options, CONTENDERS) as run:
    entries = compare(CONTENDERS, make_problem(options), options.training, run)
    report("Sine to cosine", "mean squared error", entries, run, options)
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from agents.driving.statistics import ENOUGH_VALUES, student_mean
from agents.runs.device import check_device
from agents.runs.directory import RunDirectory, check_directory, open_run, to_json
from agents.runs.files import replacing
from experiments.console import check_json, progress, say, table, write_results
from experiments.options import check_resume
from experiments.tasks.kept import Outcome, fingerprint, keep, recall
from experiments.tasks.training import Contender, Model, Problem, Training, evaluate, train

KEPT = "trainings"
"""Folder of the trainings that are complete, in the run's directory."""
RESULTS = (KEPT, "results.json")
"""What in the directory is worth keeping."""
FREE = tuple(f"training.{name}" for name in ("cores", "seeds", "threads", "device", "out", "json", "resume"))
"""Options that may change from one start to the next."""


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

    def add(self, model: nn.Module, outcome: Outcome) -> None:
        """Add a training."""
        self.scores.append(outcome.score)
        self.losses.append(outcome.losses)
        self.curves.append(outcome.curve)
        self.seconds.append(outcome.seconds)
        self.models.append(model)

    def to_json(self) -> dict[str, Any]:
        """Return the figures, without the models and the step-by-step losses."""
        mean = student_mean(self.scores)
        contender = self.contender
        return {
            "label": contender.label,
            "core": contender.core,
            "config": to_json(dict(contender.config)),
            "learning_rate": contender.learning_rate,
            "parameters": self.parameters,
            "mean": mean.value,
            "half_width_95": mean.high - mean.value if mean.bounded else None,
            "scores": self.scores,
            "seconds": [round(s, 2) for s in self.seconds],
            "curves": self.curves,
            "published": contender.published,
        }


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


@contextmanager
def open_task(name: str, options: Any, contenders: Sequence[Contender]) -> Iterator[RunDirectory]:
    """Check what was asked for, before data are made, and open the directory of the task.

    Args:
        name: of the task, as in its module.
        options: of the task; `options.training` is the budget.
        contenders: cores that the task knows.

    Yields:
        The directory; every training that is complete is kept in it.

    Raises:
        ValueError: if the cores, the device or the directory are not to be had, or a resumed run had other options.
    """
    training: Training = options.training
    choose(contenders, training.cores)
    check_json(training.json)
    check_device(training.device)
    out, verb = training.out or Path("runs/tasks") / name, f"tasks {name}"
    check_directory(out, verb, training.resume, RESULTS)
    if training.resume:
        check_resume(out, options, FREE)
    with open_run(out, verb, options, training.resume, RESULTS) as run:
        yield run


def compare(contenders: Sequence[Contender], problem: Problem, training: Training, run: RunDirectory) -> list[Entry]:
    """Train all chosen cores with progress bars, logging each core's figures as soon as they are there.

    Args:
        contenders: cores that the task knows.
        problem: what they learn.
        training: the budget.
        run: where each training is kept once it is complete; one that is there is not made again.
    """
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    run.begin()
    run.rewrite_log(())
    data = fingerprint(problem)
    problem = problem.to(training.device)
    entries = []
    for contender in choose(contenders, training.cores):
        entries.append(run_contender(contender, problem, training, run.path / KEPT, data))
        run.log(**entries[-1].to_json())
    return entries


def run_contender(contender: Contender, problem: Problem, training: Training, place: Path, data: str) -> Entry:
    """Train and score one core from every seed; trainings that are complete in `place` are read instead."""
    entry: Entry | None = None
    for seed in range(training.seeds):
        model = Model(contender, problem.train.inputs.shape[2], problem.output_size, seed, problem.learn_scale)
        if entry is None:
            entry = Entry(contender, sum(p.numel() for p in model.parameters() if p.requires_grad))
        file = place / f"{contender.label}-seed-{seed}.safetensors"
        outcome = recall(file, model, data)
        if outcome is None:
            outcome = _train(model, contender, problem, training, seed)
            keep(file, model, outcome, data)
        entry.add(model, outcome)
    assert entry is not None
    return entry


def _train(model: Model, contender: Contender, problem: Problem, training: Training, seed: int) -> Outcome:
    """Train and score one core from one seed."""
    model.to(training.device)
    with progress(f"{contender.label}, seed {seed + 1} of {training.seeds}", training.steps, "steps") as bar:
        start = time.perf_counter()
        losses, curve = train(model, problem, training, contender.learning_rate, seed, bar.advance)
        seconds = time.perf_counter() - start
        score = evaluate(model, problem.test, problem.score)
        bar.update(training.steps, note=f"scores {score:.4g}")
    model.cpu()
    return Outcome(score, losses, curve, seconds)


def report(
    title: str,
    score_name: str,
    entries: Sequence[Entry],
    run: RunDirectory,
    options: Any,
    baselines: Mapping[str, float] | None = None,
    digits: int = 3,
) -> None:
    """Print the table and write the figures to `results.json` in the run directory, and to the `json` of the options.

    Args:
        title: above the table.
        score_name: what the scores are, with its unit.
        entries: one a core.
        run: where the figures go.
        options: of the task; `options.training` is the budget.
        baselines: scores that need no training, by label.
        digits: decimals of the scores.
    """
    training: Training = options.training
    baselines = dict(baselines or {})
    rows = []
    for entry in entries:
        mean = student_mean(entry.scores)
        shown = f"{mean.value:.{digits}f}" + (f" ± {mean.high - mean.value:.{digits}f}" if mean.bounded else "")
        seconds = f"{math.fsum(entry.seconds) / len(entry.seconds):.0f}"
        contender = entry.contender
        rows.append([contender.label, f"{entry.parameters:,}", f"{training.steps:,}", seconds, shown])
        rows[-1].append(contender.published)
    rows += [[label, "", "", "", f"{score:.{digits}f}", ""] for label, score in baselines.items()]
    table(title, ["core", "parameters", "steps", "s a training", score_name, "published"], rows)
    if training.seeds >= ENOUGH_VALUES:
        say(f"± is a 95 % interval of the mean over {training.seeds} seeds (Student's t).")
    figures = {
        "score": score_name,
        "cores": {entry.contender.label: entry.to_json() for entry in entries},
        "baselines": baselines,
    }
    for path in (run.path / "results.json", training.json):
        write_results(path, f"tasks {title}", options, figures)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in one piece."""
    with replacing(path) as partial_path:
        figure.savefig(partial_path, dpi=120)
