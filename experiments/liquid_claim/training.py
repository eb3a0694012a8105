"""Who is compared, and how each is trained: same head, same data, same steps, the same search for a learning rate.

Every training is a process of its own with one thread and a directory of its own. One that is finished is not done
again; one that was killed resumes from its last complete epoch, to the same weights.

    trainings = [Training("ltc-ncp", 0.02, seed=0, ...)]
    run_jobs(train_some, trainings, workers=2, on_news=...)  # news: steps made
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from agents.imitation.train import ImitationConfig, Progress, make_windows, train_imitation
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.splits import split_by_episode
from agents.runs.directory import RunDirectory
from agents.runs.files import write_json
from policies.policy import PolicyConfig
from policies.preprocessing import Preprocessing

VALIDATION = 0.12
"""Share of the recorded episodes that chooses learning rate and epoch."""
WIRING_SEED = 22222
"""Seed of the first training run's wiring; the next ones follow it, so that no one drawing stands for its kind."""
NEWS_EVERY = 10
"""Steps between two reports of a training."""


@dataclass(frozen=True)
class Contender:
    """A kind of driver."""

    core: str
    """Name of the core."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its config that differ from the defaults."""
    liquid: bool = False
    """Whether its time constants depend on what it hears: LTC, CfC, its closed form, LrcSSM; and Liquid-S4, whose
    products of inputs are what is left of that."""
    drawn: bool = False
    """Whether its wiring is drawn by chance, again for each training run."""


CONTENDERS: dict[str, Contender] = {
    "ltc-ncp": Contender("ltc", {"wiring": "ncp"}, liquid=True, drawn=True),
    "ltc-full": Contender("ltc", {"wiring": "fully_connected"}, liquid=True, drawn=True),
    "ltc-random": Contender("ltc", {"wiring": "random"}, liquid=True, drawn=True),
    "cfc-wired": Contender("cfc", {"wiring": "ncp"}, liquid=True, drawn=True),
    "cfc-full": Contender("cfc", {"wiring": None}, liquid=True),
    "liquid-s4": Contender("liquid_s4", liquid=True),
    "lrc-ssm": Contender("lrc_ssm", liquid=True),
    "ctrnn": Contender("ctrnn"),
    "lstm": Contender("lstm"),
    "gru": Contender("gru"),
    "transformer": Contender("transformer"),
    "feedforward": Contender("feedforward"),
}
"""What can be compared, each at its default size."""

USUAL = tuple(label for label in CONTENDERS if label not in ("liquid-s4", "lrc-ssm"))
"""What is compared when nothing is said: the cores of the published figures."""


@dataclass(frozen=True)
class Training:
    """One training run."""

    label: str
    """A key of `CONTENDERS`."""
    rate: float
    """Largest learning rate of the core."""
    seed: int
    """Of weights, order and augmentation."""
    root: Path
    """Directory of all trainings."""
    data: Path
    """The recording."""
    learning: ImitationConfig
    """How to learn; seed and rate are those above."""

    @property
    def directory(self) -> Path:
        """Its own directory."""
        return self.root / self.label / f"rate-{self.rate:g}" / f"seed-{self.seed}"

    def outcome(self) -> Outcome | None:
        """Return how it ended; None when it has not."""
        try:
            content = json.loads((self.directory / "outcome.json").read_text(encoding="utf-8"))
            return Outcome(**content)
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    validation_rmse: float | None
    """Of its best epoch, steering in [−1, 1]; None where it diverged before its first epoch was complete."""
    best_epoch: int
    """Which one that was."""
    parameters: int
    """In all, head and core."""
    seconds: float
    """Time of the process that finished it."""
    diverged: str = ""
    """What was said when the loss was no longer finite; "" otherwise."""


def plan_tuning(labels: Sequence[str], rates: Sequence[float], **common: Any) -> list[Training]:
    """List the trainings that choose each core's learning rate: every rate, the first seed."""
    return [Training(label, rate, 0, **common) for label in labels for rate in rates]


def choose_rates(trainings: Sequence[Training]) -> dict[str, float]:
    """Return, for each core, the rate with the least validation error.

    Raises:
        ValueError: if a core diverged with every rate.
    """
    chosen = {}
    for label in dict.fromkeys(training.label for training in trainings):
        errors = {training.rate: _error(training) for training in trainings if training.label == label}
        best = min(errors, key=lambda rate: errors[rate])
        if not math.isfinite(errors[best]):
            raise ValueError(f"{label} diverged with every rate of {', '.join(map(str, errors))}: give lower --rates.")
        chosen[label] = best
    return chosen


def _error(training: Training) -> float:
    outcome = training.outcome()
    return math.inf if outcome is None or outcome.validation_rmse is None else outcome.validation_rmse


@lru_cache(maxsize=1)
def load_sets(data: Path) -> tuple[EpisodeSet, EpisodeSet]:
    """Read the recording, once in a process; training and validation set, the same for every core."""
    return split_by_episode(load_episodes(data), VALIDATION)


def steps_of(training: Training) -> int:
    """Return the optimizer steps of a training."""
    return training.learning.epochs * len(make_windows(training.learning, load_sets(training.data)[0]))


def train_some(trainings: Iterable[Training], report: Callable[[int], None]) -> None:
    """Train one after the other on one thread; for `agents.runs.workers.run_jobs`. News are steps made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for training in trainings:
            _train(training, report)
    finally:
        torch.set_num_threads(threads)


def _train(training: Training, report: Callable[[int], None]) -> None:
    sets = load_sets(training.data)
    height, width = sets[0].frame_size
    contender = CONTENDERS[training.label]
    options = dict(contender.options)
    if contender.drawn:
        options["wiring_seed"] = WIRING_SEED + training.seed
    policy = PolicyConfig(
        core=contender.core,
        core_options=options,
        preprocessing=Preprocessing(source_height=height, source_width=width, height=height, width=width),
        nominal_period_s=sets[0].nominal_period_s,
    )
    learning = replace(training.learning, seed=training.seed, core_learning_rate=training.rate)
    path = training.directory
    resume = any(path.glob("last*/training.safetensors"))
    directory = RunDirectory(path, "liquid_claim", learning, resume)
    made, total, begun_s = 0, steps_of(training), time.perf_counter()

    def note(progress: Progress, steps: int, loss: float) -> None:
        nonlocal made
        if progress.step - made >= NEWS_EVERY:
            report(progress.step - made)
            made = progress.step

    diverged, best_rmse, best_epoch, parameters = "", None, 0, 0
    try:
        notes: dict[str, object] = {"seed": training.seed, "core_learning_rate": training.rate}
        result = train_imitation(learning, policy, *sets, directory, resume, note, notes)
        best_rmse, best_epoch = result.progress.best_rmse, result.progress.best_epoch
        parameters = result.policy.parameter_count
    except ValueError as error:
        if "no longer finite" not in str(error):
            raise
        diverged = str(error)
    report(total - made)
    outcome = Outcome(best_rmse, best_epoch, parameters, round(time.perf_counter() - begun_s, 1), diverged)
    write_json(path / "outcome.json", vars(outcome))
