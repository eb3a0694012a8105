"""Pathfinder: are two dots on one dashed path? A picture read pixel by pixel, row after row.

After Linsley et al. (2018), as the Long Range Arena reads it (Tay et al. 2021): two long dashed curves and shorter ones
that distract, two dots at ends of long curves; the answer is whether the two dots are ends of the same one. The arena's
pictures have 32 × 32 pixels, 1,024 steps. The curves here are drawn by this file: smooth random walks cut into dashes,
so the published figures stand on other pictures.

    python -m experiments.tasks.path_finder --side 16 --steps 500
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from experiments.cli import run_script
from experiments.console import progress
from experiments.tasks.comparison import compare, open_task, report
from experiments.tasks.long_memory import accuracy, contenders, cross_entropy
from experiments.tasks.training import Batch, Problem, Training

PUBLISHED = {"liquid_s4": "94.80 (arena)", "transformer": "71.40 (arena)"}
"""Accuracies in per cent on the arena's set: Hasani et al. 2022, table of the Long Range Arena; Tay et al. 2021."""

FINE = 4
"""Pixels of the drawing along each side of a pixel of the picture."""


@dataclass(frozen=True)
class Options:
    """The Pathfinder task."""

    training: Training = field(default_factory=lambda: Training(seeds=5, steps=5000, batch_size=32))

    pictures: int = 20_000
    """Pictures to learn from."""

    test_pictures: int = 2000
    """Pictures to score on."""

    side: int = 32
    """Rows and columns of a picture; a sequence is side² steps long."""

    distractors: int = 3
    """Short curves that belong to no dot."""

    data_seed: int = 0
    """Seed of the pictures."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is out of range.
        """
        if not 8 <= self.side <= 512:
            raise ValueError(f"side must be from 8 to 512 pixels, got {self.side}.")
        if self.distractors < 0 or min(self.pictures, self.test_pictures) < 1:
            raise ValueError("distractors must be at least 0; pictures and test_pictures at least 1.")


def run(options: Options) -> None:
    """Draw the pictures, train the cores and print the table."""
    if options.training.quick:
        training = replace(options.training, steps=10, batch_size=8, seeds=1, evaluate_every=5)
        options = replace(options, training=training, pictures=64, test_pictures=32, side=8)
    cores = contenders(PUBLISHED, options.side**2)
    with open_task("path_finder", options, cores) as place:
        problem = make_problem(options)
        entries = compare(cores, problem, options.training, place)
        title = f"Pathfinder, {options.side} × {options.side} pixels one by one"
        often = torch.bincount(problem.test.targets).max() / len(problem.test) * 100
        report(title, "accuracy, %", entries, place, options, {"the more frequent answer": float(often)}, digits=1)


def make_problem(options: Options) -> Problem:
    """Draw the pictures and lay them out, `[n, side², 1]` in [−1, 1]."""
    rng = np.random.default_rng(options.data_seed)
    parts = []
    for count in (options.pictures, options.test_pictures):
        answers = rng.permutation(np.arange(count) % 2)
        pictures = np.empty((count, options.side, options.side), np.uint8)
        with progress("drawing pictures", count, "pictures") as bar:
            for picture, same in zip(pictures, answers, strict=True):
                picture[:] = draw(rng, options.side, options.distractors, bool(same))
                bar.advance()
        inputs = torch.from_numpy(pictures.reshape(count, -1, 1)).float() / 127.5 - 1
        parts.append(Batch(inputs, torch.from_numpy(answers)))
    train, test = parts
    return Problem(train, test, cross_entropy, accuracy, output_size=2, best="max")


def draw(rng: np.random.Generator, side: int, distractors: int, same: bool) -> NDArray[np.uint8]:
    """Draw a picture, uint8 `[side, side]`, whose dots lie on the same path, or do not."""
    long = [curve(rng, side, 0.9 * side) for _ in range(2)]
    first, second = (long[0][0], long[0][-1]) if same else (long[0][0], long[1][-1])
    canvas = np.zeros((FINE * side, FINE * side), np.uint8)
    for points in (*long, *(curve(rng, side, 0.3 * side) for _ in range(distractors))):
        for k in range(0, len(points) - 2, 3):  # two steps drawn, one left out
            dash = np.rint(FINE * points[k : k + 3]).astype(np.int32)
            cv2.polylines(canvas, [dash], False, 200, FINE, cv2.LINE_AA)
    for dot in (first, second):
        cv2.circle(canvas, np.rint(FINE * dot).astype(int).tolist(), round(1.1 * FINE), 255, -1, cv2.LINE_AA)
    return np.asarray(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def curve(rng: np.random.Generator, side: int, length: float) -> NDArray[np.float64]:
    """Return points `[K, 2]` of a smooth random walk of about that length, a pixel apart, inside the picture."""
    margin = 2.0
    steps = max(4, round(length))
    while True:
        heading = rng.uniform(0, 2 * np.pi)
        turns = np.cumsum(rng.normal(0, 0.12, steps))
        angles = heading + np.cumsum(0.3 * turns)
        walk = np.cumsum(np.stack((np.cos(angles), np.sin(angles)), axis=1), axis=0)
        extent = np.ptp(walk, axis=0)
        if (extent < side - 2 * margin).all():
            return walk - walk.min(axis=0) + margin + rng.uniform(0, side - 2 * margin - extent)


if __name__ == "__main__":
    run_script(Options, run, description=__doc__)
