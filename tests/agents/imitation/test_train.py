"""The learner, held to problems whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.driving.open_loop import predict, score
from agents.imitation import train as imitation
from agents.imitation.augmentation import AugmentationConfig
from agents.imitation.train import ImitationConfig, train_imitation, weighted_squared_error
from agents.runs.directory import RunDirectory
from policies.checkpoint import load_policy
from policies.perception import HeadConfig
from policies.policy import PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.toys import HEIGHT, WIDTH, episodes

STILL = AugmentationConfig(brightness=0, contrast=0, colour=0, noise=0, blur=0, shadow=0)
QUICK = ImitationConfig(epochs=3, batch_size=8, window=16, burn_in=4, augmentation=STILL, core_learning_rate=3e-2)


def toy_policy(core: str = "lstm", **options: object) -> PolicyConfig:
    return PolicyConfig(
        core=core,
        core_options=options,
        head=HeadConfig(channels=(8, 8), kernels=(3, 3), strides=(2, 2), features_per_channel=2),
        preprocessing=Preprocessing(HEIGHT, WIDTH, height=HEIGHT, width=WIDTH),
    )


def run(path: Path, resume: bool = False) -> RunDirectory:
    return RunDirectory(path, "test", {}, resume)


@pytest.mark.parametrize("core", ["ltc", "feedforward"])  # an LSTM does below
def test_learns_to_follow_what_it_sees(tmp_path: Path, core: str):
    config = replace(QUICK, epochs=14)
    result = train_imitation(config, toy_policy(core), episodes(8), episodes(2, seed=9), run(tmp_path))
    assert score(result.policy, episodes(2, seed=5))["r2"] > 0.9


def test_what_needs_memory_is_learnt_by_a_recurrent_core_only(tmp_path: Path):
    """The steering is the bar's place four frames ago: a feed-forward driver cannot know it."""
    config = replace(QUICK, epochs=15, window=24, burn_in=8)
    r2 = {}
    for core in ("lstm", "feedforward"):
        data, held_out = episodes(8, delay=4), episodes(2, seed=9, delay=4)
        r2[core] = score(
            train_imitation(config, toy_policy(core), data, held_out, run(tmp_path / core)).policy, held_out
        )
    assert r2["lstm"]["r2"] > 0.85
    assert r2["feedforward"]["r2"] < 0.6


def test_carried_state_learns_too(tmp_path: Path):
    config = replace(QUICK, epochs=8, carry_state=True, burn_in=0)
    result = train_imitation(config, toy_policy(), episodes(8), episodes(2, seed=9), run(tmp_path))
    assert score(result.policy, episodes(2, seed=5))["r2"] > 0.9


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("core", ["ltc", "lstm"])
def test_a_killed_run_resumes_exactly(tmp_path: Path, core: str):
    config = replace(QUICK, augmentation=AugmentationConfig(flip=0.5))
    data, held_out = episodes(4), episodes(2, seed=9)
    whole = train_imitation(config, toy_policy(core), data, held_out, run(tmp_path / "whole"))

    def kill(progress: imitation.Progress, total: int, loss: float) -> None:
        if progress.epoch == 1 and progress.step > total // 2 - 1:
            raise Stop

    with pytest.raises(Stop):
        train_imitation(config, toy_policy(core), data, held_out, run(tmp_path / "part"), on_step=kill)
    again = train_imitation(config, toy_policy(core), data, held_out, run(tmp_path / "part", True), resume=True)
    for name in ("policy", "last"):
        first, second = (load_policy(tmp_path / kind / name).state_dict() for kind in ("whole", "part"))
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert again.progress.step == whole.progress.step
    assert again.progress.history == whole.progress.history


def test_nothing_to_resume_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="no run to resume"):
        train_imitation(QUICK, toy_policy(), episodes(2), episodes(1), run(tmp_path), resume=True)


def test_a_run_of_another_driver_is_not_resumed(tmp_path: Path):
    short = replace(QUICK, epochs=1)
    train_imitation(short, toy_policy("lstm"), episodes(2), episodes(1), run(tmp_path))
    with pytest.raises(ValueError, match="another driver"):
        train_imitation(QUICK, toy_policy("ltc"), episodes(2), episodes(1), run(tmp_path, True), resume=True)


def test_the_best_epoch_is_kept_and_patience_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scores = iter([0.5, 0.2, 0.3, 0.4, 0.1])
    monkeypatch.setattr(imitation, "score", lambda *_, **__: {"rmse": next(scores), "r2": 0.0, "correlation": 0.0})
    config = replace(QUICK, epochs=5, patience=2)
    directory = run(tmp_path)
    result = train_imitation(config, toy_policy(), episodes(2), episodes(1), directory)
    assert (result.progress.best_epoch, result.progress.epoch) == (2, 4)
    returned = result.policy.state_dict()
    best, last = (load_policy(place).state_dict() for place in (directory.policy, directory.last))
    assert all(torch.equal(returned[name], best[name]) for name in best)
    assert any(not torch.equal(returned[name], last[name]) for name in last)
    notes = json.loads((tmp_path / "policy" / "config.json").read_text())["notes"]
    assert notes["epoch"] == 2
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path):
    config = replace(QUICK, core_learning_rate=1e30, head_learning_rate=1e30, gradient_clip=1e30, warmup=0.0)
    with pytest.raises(ValueError, match="no longer finite at step .* lower the learning rates"):
        train_imitation(config, toy_policy(), episodes(2), episodes(1), run(tmp_path))


def test_steering_weight_makes_bends_count():
    predicted = torch.zeros(1, 2)
    steering = torch.tensor([[0.1, 1.0]])
    even = weighted_squared_error(predicted, steering, torch.ones(1, 2), 0.0)
    assert float(even) == pytest.approx((0.01 + 1) / 2)
    bends = weighted_squared_error(predicted, steering, torch.ones(1, 2), 3.0)
    weights = np.exp([0.3, 3.0])
    assert float(bends) == pytest.approx((weights * [0.01, 1]).sum() / weights.sum(), rel=1e-6)
    masked = weighted_squared_error(predicted, steering, torch.tensor([[1.0, 0.0]]), 3.0)
    assert float(masked) == pytest.approx(0.01)


def test_prediction_over_episodes_of_different_length_equals_one_long_call():
    from policies.policy import DrivingPolicy

    policy = DrivingPolicy.create(toy_policy("ltc"), seed=0)
    data = [*episodes(2, steps=70), *episodes(2, steps=33, seed=3), *episodes(1, steps=1, seed=4)]
    predictions = predict(policy, data, side_by_side=3, steps=16)
    assert policy.training
    for predicted, one in zip(predictions, data, strict=True):
        whole, _ = policy.eval()(torch.from_numpy(one.frames())[None], None, torch.from_numpy(one.elapsed())[None])
        np.testing.assert_allclose(predicted, whole[0, :, 0].detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"burn_in": 16}, {"head_learning_rate": 0.0}, {"warmup": 1.0}, {"patience": -1}]
)
def test_senseless_options_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(QUICK, **wrong)  # type: ignore[arg-type]
