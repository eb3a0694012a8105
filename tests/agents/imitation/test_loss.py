"""What counts in the imitation loss, and which weights are kept: by hand, against what training reports and saves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from agents.driving.open_loop import score
from agents.imitation.batches import Batch
from agents.imitation.train import ImitationConfig, make_windows, train_imitation
from agents.recordings.episodes import EpisodeSet
from agents.runs.training_state import TRAINING_STATE
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy
from tests.agents.imitation.test_train import STILL, run, toy_policy
from tests.agents.toys import episodes

CONFIG = ImitationConfig(epochs=1, batch_size=6, window=16, burn_in=6, augmentation=STILL)


def irregular(count: int, steps: int, seed: int = 0) -> EpisodeSet:
    """Episodes whose frames come early and late, so that `elapsed` matters."""
    rng = np.random.default_rng(seed)
    found = []
    for one in episodes(count, steps, seed):
        gaps_s = one.meta.nominal_period_s * rng.choice([0.4, 1.0, 3.0], len(one))
        found.append(replace(one, time_s=np.cumsum(gaps_s)))
    return EpisodeSet(tuple(found))


class FirstStep(Exception):
    """Ends training."""


def first_loss(config: ImitationConfig, data: EpisodeSet, path: Path) -> float:
    """The loss that training reports for its first batch."""
    seen: list[float] = []

    def stop(progress: Any, total: int, loss: float) -> None:
        seen.append(loss)
        raise FirstStep

    with pytest.raises(FirstStep):
        train_imitation(config, toy_policy("ltc"), data, data, run(path), on_step=stop)
    return seen[0]


def loss_by_hand(batch: Batch, counts: np.ndarray, elapsed: bool = True, starts: bool = True) -> float:
    """The mean squared error over the frames that count, of the driver before its first step."""
    policy = DrivingPolicy.create(toy_policy("ltc"), seed=0)
    with torch.no_grad():
        motors, _ = policy.motors(
            torch.from_numpy(batch.frames),
            None,
            torch.from_numpy(batch.elapsed) if elapsed else None,
            torch.from_numpy(batch.starts) if starts else None,
        )
    return float(np.square(motors[..., 0].numpy() - batch.steering)[counts].mean())


def test_burn_in_is_not_in_the_loss_and_the_clock_is_in_the_core(tmp_path: Path):
    data = irregular(4, 60)
    batch = next(iter(make_windows(CONFIG, data)))
    warming_up = ~batch.starts[:, 0]  # A window that begins with its episode has no burn-in.
    assert warming_up.any() and not batch.valid[warming_up, : CONFIG.burn_in].any()
    loss = first_loss(CONFIG, data, tmp_path)
    assert loss == pytest.approx(loss_by_hand(batch, batch.valid), rel=1e-4)
    everything = np.ones_like(batch.valid)
    for wrong in (loss_by_hand(batch, everything), loss_by_hand(batch, batch.valid, elapsed=False)):
        assert loss != pytest.approx(wrong, rel=1e-3)


def test_the_steering_weight_is_in_the_loss(tmp_path: Path):
    data = irregular(4, 60)
    plain = first_loss(CONFIG, data, tmp_path / "plain")
    bends = first_loss(replace(CONFIG, steering_weight=3.0), data, tmp_path / "bends")
    assert bends != pytest.approx(plain, rel=1e-2)


def test_every_epoch_draws_other_batches(tmp_path: Path):
    slow = replace(CONFIG, epochs=2, core_learning_rate=1e-12, head_learning_rate=1e-12)
    losses: list[float] = []
    data = irregular(6, 60)
    train_imitation(
        slow, toy_policy("lstm"), data, data, run(tmp_path), on_step=lambda state, total, loss: losses.append(loss)
    )
    first, second = np.split(np.array(losses), 2)
    assert len(first) > 1 and not np.allclose(first, second, rtol=1e-3), "the driver is the same, the batches are not"


def test_a_new_episode_within_a_row_begins_from_rest(tmp_path: Path):
    config = replace(CONFIG, carry_state=True, burn_in=0, window=24, batch_size=1)
    data = irregular(6, 10)  # A row walks through several of them in one window.
    batch = next(iter(make_windows(config, data)))
    assert batch.starts[:, 1:].any()
    loss = first_loss(config, data, tmp_path)
    assert loss == pytest.approx(loss_by_hand(batch, batch.valid), rel=1e-4)
    assert loss != pytest.approx(loss_by_hand(batch, batch.valid, starts=False), rel=1e-3)


def test_the_averaged_weights_are_judged_and_kept(tmp_path: Path):
    config = replace(CONFIG, epochs=2, average=0.9, core_learning_rate=5e-2)
    held = episodes(2, seed=9)
    directory = run(tmp_path)
    result = train_imitation(config, toy_policy("lstm"), episodes(4), held, directory)
    state = safetensors.torch.load_file(directory.last / TRAINING_STATE)
    saved = safetensors.torch.load_file(directory.last / "model.safetensors")
    assert all(torch.equal(saved[name], state[f"model.average.{name}"]) for name in saved)
    assert any(not torch.equal(saved[name], state[f"model.policy.{name}"]) for name in saved)
    assert result.progress.history[-1]["validation_rmse"] == pytest.approx(
        score(load_policy(directory.last), held)["rmse"], rel=1e-5
    )
    raw = load_policy(directory.last)
    raw.load_state_dict({name: state[f"model.policy.{name}"] for name in saved})
    assert score(raw, held)["rmse"] != pytest.approx(result.progress.history[-1]["validation_rmse"], rel=1e-3)


def test_without_averaging_the_last_weights_are_kept(tmp_path: Path):
    directory = run(tmp_path)
    train_imitation(replace(CONFIG, average=0.0), toy_policy("lstm"), episodes(2), episodes(1, seed=9), directory)
    state = safetensors.torch.load_file(directory.last / TRAINING_STATE)
    saved = safetensors.torch.load_file(directory.last / "model.safetensors")
    for name, weight in saved.items():
        torch.testing.assert_close(weight, state[f"model.policy.{name}"], rtol=0, atol=1e-7)


def test_walks_are_cut_into_four_pieces_a_row_and_never_shorter_than_a_window():
    walk = replace(CONFIG, carry_state=True, burn_in=0, batch_size=3)
    assert [len(piece) for piece in make_windows(walk, episodes(1, 240)).episodes] == [20] * 12
    assert [len(piece) for piece in make_windows(walk, episodes(1, 120)).episodes] == [16] * 7 + [8]


def test_a_validation_error_that_is_no_number_is_said_and_not_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "agents.imitation.train.score", lambda *_, **__: {"rmse": float("nan"), "r2": 0.0, "correlation": 0.0}
    )
    directory = run(tmp_path)
    with pytest.raises(ValueError, match="validation error is no longer finite after epoch 1"):
        train_imitation(CONFIG, toy_policy(), episodes(3), episodes(1, seed=9), directory)
    assert directory.read_log() == [] and not directory.policy.exists() and not directory.last.exists()
