"""Sequential digits: which digit is it, read pixel by pixel, row after row?

By default scikit-learn's 1,797 pictures of 8 × 8 pixels (64 steps; Alpaydin & Kaynak 1998), which come with the
package. `--mnist FILE` reads MNIST's 28 × 28 (784 steps) from an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`,
the usual layout. `--permuted` reads the pixels in one random order.

    python -m experiments.tasks.digits --seeds 3
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.cli import run_script
from experiments.tasks.comparison import compare, open_task, report
from experiments.tasks.long_memory import accuracy, contenders, cross_entropy
from experiments.tasks.training import Batch, Problem, Training

SIDE = 8
TEST_SHARE = 0.25
"""Share of scikit-learn's pictures that are scored on; MNIST has its own split."""


@dataclass(frozen=True)
class Options:
    """The task of sequential digits."""

    training: Training = field(default_factory=lambda: Training(seeds=5, steps=2000, batch_size=64))

    mnist: Path | None = None
    """An .npz file with MNIST's x_train, y_train, x_test and y_test; scikit-learn's digits when left out."""

    permuted: bool = False
    """Read the pixels in one random order, the same for all pictures."""

    data_seed: int = 0
    """Seed of the split of scikit-learn's digits, and of the order."""


def run(options: Options) -> None:
    """Load the pictures, train the cores and print the table."""
    if options.training.quick:
        training = replace(options.training, steps=10, batch_size=8, seeds=1, evaluate_every=5)
        options = replace(options, training=training)
    with open_task("digits", options, contenders({}, 1)) as place:
        problem = make_problem(options)
        steps = problem.test.inputs.shape[1]
        entries = compare(contenders({}, steps), problem, options.training, place)
        name = "scikit-learn's digits" if options.mnist is None else "MNIST"
        order = ", permuted" if options.permuted else ""
        title = f"{name}, {steps} pixels one by one{order}"
        often = torch.bincount(problem.test.targets).max() / len(problem.test) * 100
        report(title, "accuracy, %", entries, place, options, {"the most frequent answer": float(often)}, digits=1)


def make_problem(options: Options) -> Problem:
    """Load the pictures as sequences of pixels in [−1, 1]."""
    rng = np.random.default_rng(options.data_seed)
    if options.mnist is None:
        learn, score = _split(*load_digits(), rng)
    else:
        learn, score = load_mnist(options.mnist)
    order = np.arange(learn[0].shape[1])
    if options.permuted:
        order = rng.permutation(order)
    parts = (
        Batch(torch.from_numpy(pixels[:, order, None]).float() * 2 - 1, torch.from_numpy(labels).long())
        for pixels, labels in (learn, score)
    )
    train, test = parts
    return Problem(train, test, cross_entropy, accuracy, output_size=10, best="max")


Pictures = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Pixels `[n, T]` in [0, 1], and labels `[n]`."""


def load_digits() -> Pictures:
    """Return scikit-learn's digits.

    Raises:
        ModuleNotFoundError: if scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits come with scikit-learn: pip install -e '.[tasks]' in a checkout", name=None
        ) from error
    found = datasets.load_digits()
    return np.asarray(found.data / 16, np.float32), np.asarray(found.target, np.int64)


def load_mnist(file: Path) -> tuple[Pictures, Pictures]:
    """Return MNIST's training and test pictures.

    Raises:
        ValueError: if the file is not such an archive.
    """
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(file, allow_pickle=False) as content:  # pickles can run code
            x_train, y_train, x_test, y_test = (content[name] for name in names)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} should be an .npz file with {', '.join(names)}: {error}.") from error

    def pictures(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> Pictures:
        if pixels.ndim != 3 or len(pixels) != len(labels) or pixels.dtype != np.uint8:
            raise ValueError(f"{file} should hold uint8 pictures [n, H, W] and n labels, got {pixels.shape}.")
        return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255), labels.astype(np.int64)

    return pictures(x_train, y_train), pictures(x_test, y_test)


def _split(
    pixels: NDArray[np.float32], labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Pictures, Pictures]:
    order = rng.permutation(len(pixels))
    test, train = np.split(order, [round(TEST_SHARE * len(pixels))])
    return (pixels[train], labels[train]), (pixels[test], labels[test])


if __name__ == "__main__":
    run_script(Options, run, description=__doc__)
