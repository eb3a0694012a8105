"""How the tasks compare: every core from several seeds, progress bars, a table with intervals beside published figures.

entries, run = compare("sine_to_cosine", options, options.training, CONTENDERS, problem)
report("Sine to cosine", "mean squared error", entries, run, options.training)
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from agents.driving.statistics import ENOUGH_VALUES, student_mean
from agents.runs.device import check_device
from agents.runs.directory import RunDirectory, to_json
from agents.runs.files import replacing
from experiments.console import check_json, progress, say, table, write_results
from experiments.tasks.training import Contender, Model, Problem, Training, evaluate, train


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


def compare(
    name: str, options: Any, training: Training, contenders: Sequence[Contender], problem: Problem
) -> tuple[list[Entry], RunDirectory]:
    """Train all chosen cores with progress bars, logging each core's figures as soon as they are there."""
    chosen = choose(contenders, training.cores)
    check_json(training.json)
    device = check_device(training.device)
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    problem = problem.to(device)
    run = RunDirectory(training.out or Path("runs/tasks") / name, f"tasks {name}", options)
    entries = []
    for contender in chosen:
        entries.append(run_contender(contender, problem, training))
        run.log(**entries[-1].to_json())
    return entries, run


def run_contender(contender: Contender, problem: Problem, training: Training) -> Entry:
    """Train and score one core from every seed."""
    entry: Entry | None = None
    for seed in range(training.seeds):
        model = Model(contender, problem.train.inputs.shape[2], problem.output_size, seed, problem.learn_scale)
        model.to(training.device)
        if entry is None:
            entry = Entry(contender, sum(p.numel() for p in model.parameters() if p.requires_grad))
        with progress(f"{contender.label}, seed {seed + 1} of {training.seeds}", training.steps, "steps") as bar:
            start = time.perf_counter()
            losses, curve = train(model, problem, training, contender.learning_rate, seed, bar.advance)
            entry.seconds.append(time.perf_counter() - start)
            entry.scores.append(evaluate(model, problem.test, problem.score))
            bar.update(training.steps, note=f"scores {entry.scores[-1]:.4g}")
        entry.losses.append(losses)
        entry.curves.append(curve)
        entry.models.append(model.cpu())
    assert entry is not None
    return entry


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
