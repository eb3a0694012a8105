"""The papers' tasks: what they feed the cores, how they train and what they report."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli import run_script
from experiments.tasks import comparison, digits, half_cheetah, sine_to_cosine, training, xor_stream
from experiments.tasks.training import Batch, Contender, Model, Problem, Training

LSTM = Contender("lstm", "lstm", {"hidden_size": 8}, 1e-2)


# ---------------------------------------------------------------- XOR streams


def test_xor_events_of_a_stream_written_out():
    batch = xor_stream.encode(np.array([[1, 1, 0, 0, 0, 1, 1, 1]]), np.array([7]))
    assert batch.last.tolist() == [3]
    assert batch.inputs[0, :4, 0].tolist() == [1, -1, 1, 1]  # 1 begins, 0 begins, 1 begins, the stream ends with 1
    assert batch.elapsed[0, :4].tolist() == [1, 2, 3, 1]
    assert batch.targets.tolist() == [0]  # four ones among the first seven bits


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=31), st.sampled_from([1.0, 0.25]))
def test_xor_events_tell_the_stream(bits, bit_time):
    padded = np.array([bits + [1] * (31 - len(bits))])
    batch = xor_stream.encode(padded, np.array([len(bits)]), bit_time)
    told, previous = [], None
    for event in range(int(batch.last[0]) + 1):
        bit, duration = int(batch.inputs[0, event, 0] > 0), round(float(batch.elapsed[0, event]) / bit_time)
        told += [bit] if previous is None else [previous] * (duration - 1) + [bit]
        previous = bit
    assert told == bits
    assert int(batch.targets[0]) == sum(bits) % 2
    assert float(batch.elapsed.min()) > 0  # the cores ask for it, after the last event as well
    assert not batch.inputs[0, int(batch.last[0]) + 1 :].any()


def test_xor_labels_need_the_time_stamps():
    """Streams of the same events and different times have different labels: nobody can do the task without time."""
    batch = xor_stream.encode(np.array([[0, 1, 1, 0], [0, 1, 0, 0]]), np.array([4, 3]))
    assert torch.equal(batch.inputs[0], batch.inputs[1]) and batch.targets.tolist() == [0, 1]
    assert not torch.equal(batch.elapsed[0], batch.elapsed[1])


def test_xor_streams_are_balanced_and_of_all_lengths():
    batch = xor_stream.draw_streams(np.random.default_rng(0), 4000, 1.0)
    assert 0.47 < float(batch.targets.mean()) < 0.53
    real = torch.arange(31) <= batch.last[:, None]
    bits = (batch.elapsed * real).sum(1)
    assert sorted(set(bits.int().tolist())) == list(range(2, 32))


def test_xor_prediction_is_read_after_the_last_event():
    batch = xor_stream.encode(np.array([[1, 0, 1, 0], [1, 1, 1, 1]]), np.array([4, 4]))
    predictions = torch.arange(8.0).reshape(2, 4, 1)
    assert xor_stream.logits(predictions, batch).tolist() == [3, 5]


def test_cutting_a_batch_does_not_change_its_predictions():
    data = xor_stream.draw_streams(np.random.default_rng(1), 50, 1.0)
    short = (data.last < 6).nonzero().flatten()[:4]
    cut = data.pick(short)
    assert cut.inputs.shape[1] == int(cut.last.max()) + 1 < 31
    whole = Batch(data.inputs[short], data.targets[short], data.elapsed[short], data.last[short])
    model = Model(LSTM, 1, 1, seed=0)
    torch.testing.assert_close(xor_stream.logits(model(cut), cut), xor_stream.logits(model(whole), whole))


# ---------------------------------------------------------------- sine to cosine


def test_sines_and_cosines_belong_together():
    options = sine_to_cosine.Options(test_sequences=20)
    batch = sine_to_cosine.make_problem(options).test
    assert batch.inputs.shape == batch.targets.shape == (20, 64, 1)
    torch.testing.assert_close(batch.inputs**2 + batch.targets**2, torch.ones(20, 64, 1))
    # Between two steps the sine moves by less than the angle, and upwards exactly where the cosine is positive.
    rises = batch.inputs.diff(dim=1)
    middle = (batch.targets[:, 1:] + batch.targets[:, :-1]) / 2
    assert bool((rises.sign() == middle.sign()).all())
    assert float(rises.abs().max()) <= 2 * math.pi / options.period_range[0]


def test_always_zero_scores_a_half():
    problem = sine_to_cosine.make_problem(sine_to_cosine.Options(test_sequences=500))
    assert float(problem.score(torch.zeros(500, 64, 1), problem.test)) == pytest.approx(0.5, abs=0.02)


def test_smoothing_keeps_a_constant_and_averages_a_step():
    assert torch.equal(sine_to_cosine.smooth(torch.full((1, 100), 3.0), 0.1), torch.full((1, 100), 3.0))
    step = torch.cat((torch.zeros(1, 50), torch.ones(1, 50)), dim=1)
    assert sine_to_cosine.smooth(step, 0.1)[0, [49, 54, 59]].tolist() == pytest.approx([0, 0.5, 1])


# ---------------------------------------------------------------- digits


def test_a_quarter_of_the_digits_is_scored_on_in_the_order_of_their_seed(monkeypatch):
    pixels = np.random.default_rng(0).random((40, 64), np.float32)
    monkeypatch.setattr(digits, "load_digits", lambda: (pixels, np.arange(40)))
    plain, mixed = (digits.make_problem(digits.Options(data_seed=1, permuted=permuted)) for permuted in (False, True))
    assert (len(plain.train), len(plain.test)) == (30, 10)
    labels = torch.cat((plain.test.targets, plain.train.targets)).numpy()
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(labels, rng.permutation(40))
    np.testing.assert_allclose(torch.cat((plain.test.inputs, plain.train.inputs))[..., 0], pixels[labels] * 2 - 1)
    assert torch.equal(mixed.train.targets, plain.train.targets)
    order = rng.permutation(64)
    for one, other in ((mixed.train, plain.train), (mixed.test, plain.test)):
        assert torch.equal(one.inputs, other.inputs[:, order]), "one order for all pictures"


# ---------------------------------------------------------------- half-cheetah


def test_cheetah_windows_pair_states_with_the_next():
    rollouts = np.random.default_rng(0).normal(3, 2, (5, 60, 17)).astype(np.float32)
    problem, mean, scale = half_cheetah.make_problem(rollouts, half_cheetah.Options())
    assert len(problem.validation) == len(problem.test) / 2 == len(problem.train) / 2 == 4  # windows at 0, 10, 20, 30
    for batch, first in ((problem.validation, 0), (problem.test, 1), (problem.train, 3)):
        states = torch.from_numpy(rollouts[first])
        torch.testing.assert_close(batch.inputs[1] * scale + mean, states[10:30])
        torch.testing.assert_close(batch.targets[1] + mean, states[11:31])


def test_cheetah_baselines_on_a_system_whose_answer_is_known():
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.normal(size=(17, 17)))[0]
    rollouts = np.empty((5, 100, 17))
    rollouts[:, 0] = rng.normal(size=(5, 17))
    for step in range(1, 100):
        rollouts[:, step] = rollouts[:, step - 1] @ matrix
    rollouts *= np.geomspace(0.1, 10, 17)  # each number in its own unit
    problem, mean, scale = half_cheetah.make_problem(rollouts.astype(np.float32), half_cheetah.Options())
    figures = half_cheetah.baselines(problem, mean, scale)
    moved = np.square(np.diff(rollouts[1:3], axis=1)).mean()
    assert figures["linear in the state"] < 1e-9
    assert figures["same state again"] == pytest.approx(moved, rel=0.1)


def test_cheetah_is_split_by_rollouts_and_measured_by_those_that_train():
    options = half_cheetah.Options(rollouts=25, rollout_steps=12, window=4, stride=4)
    rollouts = np.arange(25, dtype=np.float32)[:, None, None] + np.random.default_rng(0).random(
        (25, 12, 17), np.float32
    )
    problem, mean, scale = half_cheetah.make_problem(rollouts, options)
    np.testing.assert_allclose(mean, rollouts[15:].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(scale, rollouts[15:].std((0, 1), ddof=1), rtol=1e-5)

    def whole(batch):
        return sorted({int(number) for number in (batch.inputs * scale + mean).floor().flatten().tolist()})

    parts = problem.validation, problem.test, problem.train
    assert [whole(part) for part in parts] == [[*range(5)], [*range(5, 15)], [*range(15, 25)]]


def test_cheetah_without_mujoco_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"\[mujoco\]"):
        half_cheetah.record(half_cheetah.Options())


@pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="needs MuJoCo: pip install -e '.[mujoco]'")
def test_cheetah_rollouts_repeat_and_move(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo likes to leave a log file there
    options = half_cheetah.Options(rollouts=5, rollout_steps=40)
    first, second = half_cheetah.record(options), half_cheetah.record(options)
    assert first.shape == (5, 40, 17) and np.array_equal(first, second)
    assert np.isfinite(first).all() and first.std(axis=1).min() > 0.01
    assert not np.allclose(first[0], first[1])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- training


def sign_problem(validation=None):
    """The sign of the sum of the inputs so far, read at the end."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 5, 1, generator=rng)
    data = Batch(inputs, (inputs.sum((1, 2)) > 0).float())

    def loss(predictions, batch):
        return torch.nn.functional.binary_cross_entropy_with_logits(predictions[:, -1, 0], batch.targets)

    def accuracy(predictions, batch):
        return ((predictions[:, -1, 0] > 0) == (batch.targets > 0.5)).float().mean()

    return Problem(data, data, loss, accuracy, 1, best="max", validation=validation)


def test_training_learns_and_repeats():
    options = Training(steps=150, batch_size=64, evaluate_every=50)
    runs = []
    for _ in range(2):
        model = Model(LSTM, 1, 1, seed=0)
        runs.append(training.train(model, sign_problem(), options, LSTM.learning_rate, seed=0))
    assert runs[0] == runs[1]
    losses, curve = runs[0]
    assert len(losses) == 150 and [step for step, _ in curve] == [50, 100, 150]
    assert losses[0] > 0.6 and losses[-1] < 0.25 and curve[-1][1] > 0.93


def test_validation_keeps_the_best_weights_not_the_last():
    """The validation labels are turned round, so learning makes that score worse: the first weights are the best."""
    problem = sign_problem()
    problem = replace(problem, validation=replace(problem.train, targets=1 - problem.train.targets))
    model = Model(LSTM, 1, 1, seed=0)
    _, curve = training.train(model, problem, Training(steps=150, batch_size=64, evaluate_every=10), 1e-2, seed=0)
    scores = [score for _, score in curve]
    assert scores[-1] < 0.1 < max(scores)
    assert training.evaluate(model, problem.validation, problem.score) == pytest.approx(max(scores))


@pytest.mark.parametrize(("clip", "moved"), [(1.0, True), (1e-13, False)])
def test_gradients_are_no_longer_than_was_asked_for(clip: float, moved: bool):
    """Adam takes no step to speak of where gradients are far below its epsilon."""
    model, before = (Model(LSTM, 1, 1, seed=0) for _ in range(2))
    training.train(model, sign_problem(), Training(steps=2, batch_size=64, clip=clip), 1e-2, seed=0)
    change = max(
        float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), before.parameters(), strict=True)
    )
    assert (change > 1e-3) is moved, change


def test_a_score_that_is_not_a_number_is_never_better():
    assert training.is_better(1.0, None, "min") and not training.is_better(math.nan, None, "min")
    assert training.is_better(1.0, 2.0, "min") and not training.is_better(1.0, 2.0, "max")


@pytest.mark.parametrize("with_lengths", [False, True])
def test_batches_cover_everything_once_a_round(with_lengths):
    last = torch.randint(0, 31, (330,), generator=torch.Generator().manual_seed(0)) if with_lengths else None
    data = Batch(torch.zeros(330, 31, 1), torch.zeros(330), last=last)
    order = training.batches(data, 32, torch.Generator().manual_seed(1))
    for _ in range(2):
        drawn = [next(order) for _ in range(11)]
        assert sorted(torch.cat(drawn).tolist()) == list(range(330))
    assert sorted(map(len, drawn)) == [10] + [32] * 10
    again = training.batches(data, 32, torch.Generator().manual_seed(1))
    assert not torch.equal(drawn[0], next(again))
    if with_lengths:
        spread = [int(last[batch].max() - last[batch].min()) for batch in drawn]
        assert max(spread) <= 5, spread


def test_learning_rate_goes_up_then_down():
    shares = [training.schedule(step, 10, 100) for step in range(1, 101)]
    assert shares[0] == 0.1 and max(shares) == shares[9] == 1 and shares[-1] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in zip(shares[9:], shares[10:], strict=False))


def test_scale_multiplies_the_outputs():
    plain, scaled = (Model(LSTM, 1, 2, seed=0, scale=scale) for scale in (None, torch.tensor([2.0, 3.0])))
    batch = Batch(torch.randn(3, 4, 1), torch.zeros(3))
    torch.testing.assert_close(scaled(batch), plain(batch) * torch.tensor([2.0, 3.0]))


def test_same_seed_same_model_whatever_was_drawn_before():
    contender = replace(LSTM, motors=8)
    torch.manual_seed(1)
    first = Model(contender, 1, 2, seed=3)
    torch.randn(7)
    second = Model(contender, 1, 2, seed=3)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("module", "cores", "pictures"),
    [
        (sine_to_cosine, ["lstm", "gru"], ["loss.png", "predictions.png"]),
        (xor_stream, ["lstm"], ["accuracy.png"]),
    ],
)
def test_command_leaves_its_files(module, cores, pictures, tmp_path, monkeypatch, capsys):
    out, file = tmp_path / "run", tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["task", "--quick", "--out", str(out), "--json", str(file), "--cores", *cores])
    with pytest.raises(SystemExit) as stop:
        run_script(module.Options, module.run, "python -m task")
    assert stop.value.code == 0
    figures = json.loads(file.read_text())["figures"]
    assert figures == json.loads((out / "results.json").read_text())["figures"]
    assert list(figures["cores"]) == cores
    entry = figures["cores"]["lstm"]
    assert len(entry["scores"]) == 1 and entry["half_width_95"] is None
    assert entry["mean"] == entry["scores"][0] == entry["curves"][0][-1][1]
    assert len((out / "metrics.jsonl").read_text().splitlines()) == len(cores)
    assert "lstm" in capsys.readouterr().out
    for picture in pictures:
        assert (out / picture).read_bytes()[:4] == b"\x89PNG"
    assert json.loads((out / "config.json").read_text())["options"]["training"]["steps"] < 100


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--cores", "nonsense"], "nonsense"),
        (["--json", "/dev/null/a.json"], "cannot write"),
        (["--steps", "0"], "steps"),
        (["--learning-rate", "-1"], "learning_rate"),
        (["--bad"], "--bad"),
        (["--steps", "many"], "many"),
        (["--device", "cuda:99"], "no such GPU"),
    ],
)
def test_mistakes_end_with_code_2(arguments, word, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sine_to_cosine, "make_problem", lambda options: pytest.fail("refused after the work"))
    monkeypatch.setattr(sys, "argv", ["sine_to_cosine", *arguments, "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        run_script(sine_to_cosine.Options, sine_to_cosine.run, "python -m experiments.tasks.sine_to_cosine")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert word in error and error.startswith("sine_to_cosine: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", [sine_to_cosine, xor_stream, half_cheetah])
def test_every_contender_can_be_built(module):
    sizes = {sine_to_cosine: (1, 1), xor_stream: (1, 1), half_cheetah: (17, 17)}[module]
    labels = [contender.label for contender in module.CONTENDERS]
    assert len(set(labels)) == len(labels) and {"ltc", "cfc"} <= set(labels)
    for contender in module.CONTENDERS:
        Model(contender, *sizes, seed=0)


def command(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["task", *arguments])
    with pytest.raises(SystemExit) as stop:
        run_script(module.Options, module.run, "python -m task")
    return stop.value.code


BUDGET = ["--steps", "12", "--batch-size", "16", "--train-sequences", "64", "--test-sequences", "32"]


def test_a_killed_run_keeps_its_complete_trainings(tmp_path, monkeypatch, capsys):
    """Killed in its third training, resumed with one core and one seed more: the figures of an undisturbed run."""
    out, whole = tmp_path / "killed", tmp_path / "whole"
    real, calls = comparison.train, []

    def train(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(comparison, "train", train)
    asked = [*BUDGET, "--out", str(out)]
    assert command(sine_to_cosine, monkeypatch, *asked, "--cores", "lstm", "gru", "--seeds", "2") == 130
    assert command(sine_to_cosine, monkeypatch, *asked, "--cores", "lstm", "gru", "--seeds", "2") == 2
    assert "--resume" in capsys.readouterr().err
    more = ["--cores", "lstm", "gru", "ctrnn", "--seeds", "3"]
    assert command(sine_to_cosine, monkeypatch, *asked, *more, "--resume") == 0
    assert len(calls) == 2 + 1 + 7  # two complete, one killed, and seven of nine are left
    assert command(sine_to_cosine, monkeypatch, *BUDGET, "--out", str(whole), *more) == 0
    resumed, undisturbed = (json.loads((place / "results.json").read_text())["figures"] for place in (out, whole))
    for figures in (resumed, undisturbed):
        for core in figures["cores"].values():
            del core["seconds"]
    assert resumed == undisturbed
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert (out / "predictions.png").read_bytes() == (whole / "predictions.png").read_bytes()  # drawn by seed 0


def test_a_resumed_run_has_the_options_and_the_data_of_its_first_start(tmp_path, monkeypatch, capsys):
    asked = [*BUDGET, "--out", str(tmp_path), "--cores", "lstm", "--seeds", "1"]
    assert command(sine_to_cosine, monkeypatch, *asked) == 0
    trained = (tmp_path / "trainings" / "lstm-seed-0.safetensors").read_bytes()
    for other, word in ((["--steps", "13"], "steps"), (["--data-seed", "1"], "data_seed")):
        capsys.readouterr()
        assert command(sine_to_cosine, monkeypatch, *asked, *other, "--resume") == 2
        assert word in capsys.readouterr().err
    real = sine_to_cosine.make_problem
    monkeypatch.setattr(sine_to_cosine, "make_problem", lambda options: real(replace(options, data_seed=1)))
    assert command(sine_to_cosine, monkeypatch, *asked, "--resume") == 2
    assert "other data" in capsys.readouterr().err
    (tmp_path / "trainings" / "lstm-seed-0.safetensors").write_bytes(trained[:-9])
    assert command(sine_to_cosine, monkeypatch, *asked, "--resume") == 2
    assert "lstm-seed-0.safetensors is damaged" in capsys.readouterr().err
