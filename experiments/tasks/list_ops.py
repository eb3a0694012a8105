"""ListOps: the value of a nested list of operations, read token by token.

    [MAX 2 9 [MIN 4 7 ] 0 ]  →  9

After Nangia & Bowman (2018), in the lengths of the Long Range Arena (Tay et al. 2021): MAX, MIN, MED (median) and SM
(sum modulo 10) of up to ten arguments, nested up to ten deep, up to 2,000 tokens. An answer is one of ten digits, read
after the last token. The published set is drawn from the same grammar, and is not this one: the arena keeps lists of
500 to 2,000 tokens and learns from 96,000 of them; `--most-tokens`, `--least-tokens` and `--sequences` say otherwise.

    python -m experiments.tasks.list_ops --most-tokens 100 --least-tokens 5 --steps 500
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn.functional import one_hot

from experiments.cli import run_script
from experiments.console import progress
from experiments.tasks.comparison import compare, open_task, report
from experiments.tasks.long_memory import accuracy, contenders, cross_entropy, padded
from experiments.tasks.training import Batch, Problem, Training

OPERATIONS = ("MAX", "MIN", "MED", "SM")
TOKENS = (*(str(digit) for digit in range(10)), *(f"[{name}" for name in OPERATIONS), "]")
CLASSES = 10

NESTING = 0.25
"""Probability that an argument is an operation."""

PUBLISHED = {
    "liquid_s4": "62.75 (arena)",
    "transformer": "36.37 (arena)",
}
"""Accuracies in per cent on the arena's set: Hasani et al. 2022, table of the Long Range Arena; Tay et al. 2021."""


@dataclass(frozen=True)
class Options:
    """The ListOps task."""

    training: Training = field(default_factory=lambda: Training(seeds=5, steps=5000, batch_size=32))

    sequences: int = 20_000
    """Lists to learn from."""

    test_sequences: int = 2000
    """Lists to score on."""

    least_tokens: int = 500
    """Fewest tokens of a list."""

    most_tokens: int = 2000
    """Most tokens of a list."""

    most_arguments: int = 10
    """Most arguments of an operation."""

    depth: int = 10
    """Deepest nesting."""

    data_seed: int = 0
    """Seed of the lists."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is out of range.
        """
        if not 4 <= self.least_tokens <= self.most_tokens:
            raise ValueError(
                f"least_tokens must be from 4 to most_tokens, got {self.least_tokens} and {self.most_tokens}."
            )
        if self.most_arguments < 2 or self.depth < 1 or min(self.sequences, self.test_sequences) < 1:
            raise ValueError("most_arguments must be at least 2; depth, sequences and test_sequences at least 1.")


def run(options: Options) -> None:
    """Draw the lists, train the cores and print the table."""
    if options.training.quick:
        training = replace(options.training, steps=10, batch_size=8, seeds=1, evaluate_every=5)
        options = replace(
            options, training=training, sequences=64, test_sequences=32, least_tokens=5, most_tokens=30, depth=3
        )
    cores = contenders(PUBLISHED, options.most_tokens)
    with open_task("list_ops", options, cores) as place:
        problem = make_problem(options)
        entries = compare(cores, problem, options.training, place)
        often = torch.bincount(problem.test.targets, minlength=CLASSES).max() / len(problem.test) * 100
        title = f"ListOps, {options.least_tokens} to {options.most_tokens} tokens"
        report(title, "accuracy, %", entries, place, options, {"the most frequent answer": float(often)}, digits=1)


def make_problem(options: Options) -> Problem:
    """Draw lists and lay them out, one-hot."""
    rng = np.random.default_rng(options.data_seed)
    lists = draw_lists(rng, options)
    parts = []
    for count in (options.sequences, options.test_sequences):
        drawn = []
        with progress("drawing lists", count, "lists") as bar:
            for _ in range(count):
                drawn.append(next(lists))
                bar.advance()
        tokens, last = padded([tokens for tokens, _ in drawn])
        values = torch.tensor([value for _, value in drawn])
        parts.append(Batch(one_hot(tokens, len(TOKENS)).float(), values, last=last))
    train, test = parts
    return Problem(train, test, cross_entropy, accuracy, output_size=CLASSES, best="max")


def draw_lists(rng: np.random.Generator, options: Options) -> Iterator[tuple[list[int], int]]:
    """Yield lists as numbers of tokens, and their values, for ever."""
    while True:
        tokens: list[int] = []
        value = _draw(rng, options, 1, tokens, options.most_tokens)
        if options.least_tokens <= len(tokens) <= options.most_tokens:
            yield tokens, value


def _draw(rng: np.random.Generator, options: Options, depth: int, tokens: list[int], room: int) -> int:
    """Append an operation and its arguments; past `room` tokens no more are nested. Returns its value."""
    operation = int(rng.integers(len(OPERATIONS)))
    tokens.append(CLASSES + operation)
    values = []
    for _ in range(int(rng.integers(2, options.most_arguments + 1))):
        if depth < options.depth and len(tokens) < room and rng.random() < NESTING:
            values.append(_draw(rng, options, depth + 1, tokens, room))
        else:
            values.append(int(rng.integers(10)))
            tokens.append(values[-1])
    tokens.append(len(TOKENS) - 1)
    return apply(operation, values)


def apply(operation: int, values: list[int]) -> int:
    """Return the value of an operation."""
    name = OPERATIONS[operation]
    if name == "MAX":
        return max(values)
    if name == "MIN":
        return min(values)
    if name == "MED":
        return int(np.median(values))
    return sum(values) % 10


if __name__ == "__main__":
    run_script(Options, run, description=__doc__)
