"""Tasks of long memory: lists have the value that they say, paths join the dots that they should, digits keep order."""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from experiments.tasks import digits, half_cheetah, list_ops, path_finder
from experiments.tasks.long_memory import accuracy, at_the_end, contenders
from experiments.tasks.training import Batch, Model, Training, train
from policies.cores import CORES


def read(tokens: list[int]) -> int:
    """Work a list out from its text, by another way than it was drawn."""
    stack: list[list] = []
    for token in tokens:
        name = list_ops.TOKENS[token]
        if name.startswith("["):
            stack.append([name[1:]])
            continue
        if name == "]":
            operation, *values = stack.pop()
            ordered = sorted(values)
            half = len(values) // 2
            median = ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) // 2
            done = {"MAX": ordered[-1], "MIN": ordered[0], "MED": median, "SM": sum(values) % 10}[operation]
            if not stack:
                return done
            stack[-1].append(done)
        else:
            stack[-1].append(int(name))
    raise AssertionError("the list does not end")


def test_lists_have_their_values_and_lengths():
    options = list_ops.Options(least_tokens=5, most_tokens=60, depth=4)
    drawn = list(islice(list_ops.draw_lists(np.random.default_rng(0), options), 200))
    assert all(read(tokens) == value and 5 <= len(tokens) <= 60 for tokens, value in drawn)
    used = {token for tokens, _ in drawn for token in tokens}
    assert used == set(range(len(list_ops.TOKENS)))
    assert max(tokens.count(len(list_ops.TOKENS) - 1) for tokens, _ in drawn) > 5  # some are nested
    long = next(list_ops.draw_lists(np.random.default_rng(1), list_ops.Options()))[0]
    assert 500 <= len(long) <= 2000


def test_an_answer_is_read_at_the_last_token_of_each_list():
    options = list_ops.Options(sequences=20, test_sequences=5, least_tokens=4, most_tokens=30, depth=2)
    problem = list_ops.make_problem(options)
    batch = problem.train
    assert batch.last is not None and len(set(batch.last.tolist())) > 1
    assert (batch.inputs.argmax(-1)[torch.arange(20), batch.last] == len(list_ops.TOKENS) - 1).all()
    told = torch.zeros(*batch.inputs.shape[:2], 10)
    told[torch.arange(20), batch.last, batch.targets] = 1
    assert float(accuracy(told, batch)) == 100 and torch.equal(at_the_end(told, batch).argmax(1), batch.targets)


def joined(picture: np.ndarray) -> bool:
    """Whether the two brightest spots touch one and the same bright path, gaps of dashes closed."""
    side = len(picture)
    spots = np.stack(np.unravel_index(np.argsort(picture, axis=None)[::-1], picture.shape), axis=1)
    far = spots[np.abs(spots - spots[0]).max(axis=1) > 4]
    closed = cv2.morphologyEx((picture > 60).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    labels = cv2.connectedComponents(closed)[1]
    assert side == 64
    return bool(labels[tuple(spots[0])] == labels[tuple(far[0])])


def test_dots_lie_on_one_path_or_on_two():
    """Without distractors, drawn large, joined dots are joined in the picture, and the others mostly are not."""
    rng = np.random.default_rng(0)
    same = [joined(path_finder.draw(rng, 64, 0, True)) for _ in range(60)]
    apart = [joined(path_finder.draw(rng, 64, 0, False)) for _ in range(60)]
    assert np.mean(same) > 0.8 and np.mean(apart) < np.mean(same) - 0.2  # paths may cross


def test_pictures_are_read_row_after_row():
    options = path_finder.Options(pictures=6, test_pictures=4, side=16)
    problem = path_finder.make_problem(options)
    assert problem.train.inputs.shape == (6, 256, 1) and sorted(problem.train.targets.tolist()) == [0, 0, 0, 1, 1, 1]
    again = path_finder.make_problem(options)
    assert torch.equal(problem.test.inputs, again.test.inputs)
    assert -1 <= problem.train.inputs.min() < -0.9 and problem.train.inputs.max() > 0.5


def test_mnist_is_read_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (5, 28, 28), np.uint8),
        "y_train": np.arange(5),
        "x_test": rng.integers(0, 256, (3, 28, 28), np.uint8),
        "y_test": np.arange(3),
    }
    np.savez(tmp_path / "mnist.npz", **arrays)
    problem = digits.make_problem(digits.Options(mnist=tmp_path / "mnist.npz"))
    assert problem.test.inputs.shape == (3, 784, 1)
    pixel = float(problem.test.inputs[1, 28 * 3 + 4, 0])
    assert pixel == pytest.approx(2 * (arrays["x_test"][1, 3, 4] / 255) - 1, abs=1e-6)
    permuted = digits.make_problem(digits.Options(mnist=tmp_path / "mnist.npz", permuted=True))
    assert not torch.equal(permuted.test.inputs, problem.test.inputs)
    assert torch.equal(permuted.test.inputs.sort(1).values, problem.test.inputs.sort(1).values)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz should be an \.npz file with x_train"):
        digits.make_problem(digits.Options(mnist=tmp_path / "other.npz"))


def test_every_core_learns_a_step_of_it():
    generator = torch.Generator().manual_seed(0)
    batch = Batch(torch.randn(8, 12, 3, generator=generator), torch.arange(8) % 4, last=torch.arange(8) + 4)
    made = contenders({}, window=16)
    assert {one.core for one in made} <= set(CORES) and len(made) == 8
    for contender in made:
        model = Model(contender, 3, 4, seed=0)
        problem = list_ops.Problem(batch, batch, list_ops.cross_entropy, accuracy, output_size=4, best="max")
        losses, _ = train(model, problem, Training(steps=3, batch_size=8), contender.learning_rate, seed=0)
        assert losses[-1] < losses[0], contender.label
        assert sum(p.numel() for p in model.parameters()) < 35_000, contender.label


def test_traces_come_in_the_order_of_their_numbers(tmp_path):
    for number in range(25):
        np.save(tmp_path / f"trace_{number}.npy", np.full((40, 17), float(number)))
    rollouts = half_cheetah.load_traces(tmp_path, window=20)
    assert rollouts[:, 0, 0].tolist() == list(range(25))
    problem, mean, scale = half_cheetah.make_problem(
        rollouts + np.random.default_rng(0).normal(0, 0.01, rollouts.shape).astype(np.float32),
        half_cheetah.Options(standardise=False),
    )
    assert float(mean.abs().max()) == 0 and float(scale.max()) == 1
    ranges = [(round(float(b.targets.min())), round(float(b.targets.max()))) for b in (problem.train, problem.test)]
    assert ranges == [(15, 24), (5, 14)] and round(float(problem.validation.targets.max())) == 4
    np.save(tmp_path / "trace_7.npy", np.zeros((40, 16)))
    with pytest.raises(ValueError, match=r"trace_7\.npy should hold finite numbers \[steps, 17\], got \(40, 16\)"):
        half_cheetah.load_traces(tmp_path, window=20)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="25 published"):
        half_cheetah.load_traces(tmp_path / "empty", window=20)
