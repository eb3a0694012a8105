"""What a step of imitation learns from: labels as they were prepared, weights, state, gradients, averaged weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.ndimage import gaussian_filter1d
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from agents.imitation.augmentation import AugmentationConfig
from agents.imitation.batches import Batch
from agents.imitation.train import (
    STRAIGHT,
    ImitationConfig,
    adopt,
    head_in_bfloat16,
    make_optimizer,
    make_windows,
    smoothed,
    train_imitation,
)
from agents.recordings.episodes import EpisodeSet
from agents.runs.training_state import TRAINING_STATE
from policies.checkpoint import read_config
from policies.policy import DrivingPolicy, PolicyConfig
from tests.agents.imitation.test_loss import FirstStep
from tests.agents.imitation.test_train import STILL, run, toy_policy
from tests.agents.toys import episodes

SLOW = ImitationConfig(
    epochs=1,
    batch_size=4,
    window=10,
    burn_in=0,
    augmentation=STILL,
    core_learning_rate=1e-12,
    head_learning_rate=1e-12,
    seed=3,
)
"""Weights stay as they were drawn, so that any loss can be worked out by hand."""
DATA = episodes(4, 40)


def losses(config: ImitationConfig, path: Path, count: int = 1, policy: PolicyConfig | None = None, **more: Any) -> Any:
    """The losses that training reports for its first batches."""
    seen: list[float] = []

    def stop(progress: Any, total: int, loss: float) -> None:
        seen.append(loss)
        if len(seen) == count:
            raise FirstStep

    data = more.pop("data", DATA)
    with pytest.raises(FirstStep):
        train_imitation(config, policy or toy_policy(), data, data, run(path), on_step=stop, **more)
    return seen[0] if count == 1 else seen


def motors(batch: Batch, seed: int = 3, state: torch.Tensor | None = None) -> tuple[np.ndarray, torch.Tensor]:
    """What the driver of a seed, in evaluation mode, says to a batch, and its state after it."""
    policy = DrivingPolicy.create(toy_policy(), seed=seed).eval()
    with torch.no_grad():
        answers, state = policy.motors(
            torch.from_numpy(batch.frames), state, torch.from_numpy(batch.elapsed), torch.from_numpy(batch.starts)
        )
    return answers[..., 0].numpy(), state


def squared(batch: Batch, weights: np.ndarray | float = 1.0, **more: Any) -> float:
    """The weighted mean squared error by hand."""
    weights = batch.valid * weights
    return float((weights * np.square(motors(batch, **more)[0] - batch.steering)).sum() / weights.sum())


def first(config: ImitationConfig, data: EpisodeSet = DATA) -> Batch:
    return next(iter(make_windows(config, data)))


def test_the_seed_draws_weights_and_windows(tmp_path: Path):
    loss = losses(SLOW, tmp_path)
    assert loss == pytest.approx(squared(first(SLOW)), rel=1e-4)
    assert loss != pytest.approx(squared(first(SLOW), seed=0), rel=1e-3)
    assert loss != pytest.approx(squared(first(replace(SLOW, seed=0))), rel=1e-3)


def test_labels_are_learnt_as_smoothed_over_seconds_whatever_the_period(tmp_path: Path):
    slow = replace(DATA, episodes=tuple(replace(one, time_s=2.0 * one.time_s) for one in DATA))  # 0.1 s apart
    for odd in (slow, slow.with_nominal_period(0.02)):
        np.testing.assert_array_equal(smoothed(odd, 0.3)[0].steering, smoothed(slow, 0.3)[0].steering)
    smooth = [gaussian_filter1d(one.steering.astype(float), 0.3 / 0.1, mode="nearest") for one in slow]
    for one, expected in zip(smoothed(slow, 0.3), smooth, strict=True):
        np.testing.assert_allclose(one.steering, expected, atol=1e-6)
    config = replace(SLOW, label_smoothing_s=0.3)
    assert losses(config, tmp_path, data=slow) == pytest.approx(squared(first(SLOW, smoothed(slow, 0.3))), rel=1e-4)


def test_dropout_is_drawn_anew_in_every_epoch(tmp_path: Path):
    """One window, shown in each of two epochs: what differs is what was dropped."""
    once = episodes(1, 10)
    plain = losses(replace(SLOW, epochs=2), tmp_path / "plain", 2, data=once)
    assert plain[0] == pytest.approx(plain[1], rel=1e-6)
    policy = replace(toy_policy(), head=replace(toy_policy().head, dropout=0.5))
    dropped = losses(replace(SLOW, epochs=2), tmp_path / "dropped", 2, policy=policy, data=once)
    assert dropped[0] != pytest.approx(dropped[1], rel=1e-3)


def test_straight_frames_weigh_their_share_and_bends_to_either_side_weigh_one(tmp_path: Path):
    batch = first(SLOW)
    straight = np.abs(batch.steering) < STRAIGHT
    assert 0 < straight.mean() < 0.5 and (batch.steering < -STRAIGHT).any()
    loss = losses(replace(SLOW, straight_share=0.2), tmp_path)
    assert loss == pytest.approx(squared(batch, np.where(straight, 0.2, 1.0)), rel=1e-4)


def test_each_window_has_the_weight_of_its_episode(tmp_path: Path):
    weights = [1.0, 3.0, 0.5, 2.0]
    batch = first(SLOW)
    assert len(set(batch.episodes.tolist())) > 1
    expected = squared(batch, np.array(weights)[batch.episodes][:, None])
    assert losses(SLOW, tmp_path, weights=weights) == pytest.approx(expected, rel=1e-4)


def test_where_state_is_carried_each_frame_has_the_weight_of_its_episode(tmp_path: Path):
    """Episodes are cut there, and a row goes from one to the next within a window."""
    walk = replace(SLOW, carry_state=True, batch_size=2, window=24)
    weights = [1.0, 3.0, 0.5, 2.0]
    batch = first(walk)
    labels = [set(one.steering.tolist()) for one in DATA]
    of = [
        [next(n for n, some in enumerate(labels) if value in some) for value in row] for row in batch.steering.tolist()
    ]
    assert any(len(set(row)) > 1 for row in of), "a row of this batch shows two episodes"
    expected = squared(batch, np.array(weights)[of])
    assert losses(walk, tmp_path, weights=weights) == pytest.approx(expected, rel=1e-4)


def test_the_state_is_carried_from_window_to_window_if_asked_to(tmp_path: Path):
    walk = replace(SLOW, carry_state=True, batch_size=1)
    one, two = list(make_windows(walk, DATA))[:2]
    second = losses(walk, tmp_path, 2)[1]
    assert not two.starts.any()
    assert second == pytest.approx(squared(two, state=motors(one)[1]), rel=1e-4)
    assert second != pytest.approx(squared(two), rel=1e-3)


def test_what_augmentation_and_dropped_patches_make_is_what_is_learnt_from(tmp_path: Path):
    batch = first(SLOW)
    mirrored = replace(batch, frames=batch.frames[:, :, :, ::-1].copy(), steering=-batch.steering)
    flipping = replace(SLOW, augmentation=replace(STILL, flip=1.0))
    assert losses(flipping, tmp_path / "flip") == pytest.approx(squared(mirrored), rel=1e-4)
    grey = replace(batch, frames=np.full_like(batch.frames, 127))
    dropping = replace(SLOW, patch_dropping=0.9999999)
    assert losses(dropping, tmp_path / "drop") == pytest.approx(squared(grey), rel=1e-3)


def test_synthesised_views_bring_their_labels(tmp_path: Path):
    def synthesis(frames: torch.Tensor, steering: torch.Tensor, generator: torch.Generator) -> Any:
        return 255 - frames, 0.5 - steering

    batch = first(SLOW)
    changed = replace(batch, frames=255 - batch.frames, steering=np.float32(0.5) - batch.steering)
    assert losses(SLOW, tmp_path, synthesis=synthesis) == pytest.approx(squared(changed), rel=1e-4)


def test_dropout_acts_while_learning_and_is_drawn_from_the_seed_and_the_epoch(tmp_path: Path):
    dropping = toy_policy()
    dropping = replace(dropping, head=replace(dropping.head, dropout=0.5))
    found = []
    for others in (5, 6):  # What else draws from torch's own generator changes nothing.
        torch.manual_seed(others)
        found.append(losses(SLOW, tmp_path / str(others), policy=dropping))
    loss, again = found
    assert loss == again != pytest.approx(squared(first(SLOW)), rel=1e-3)
    assert loss != losses(replace(SLOW, seed=4), tmp_path / "other", policy=dropping)


@contextmanager
def watched(before: list[list[float]], after: list[dict[str, torch.Tensor]] | None = None) -> Iterator[None]:
    """Note the norm of each group's gradient before every step, and the weights after it."""

    def norms(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        grads = [[p.grad.flatten() for p in group["params"]] for group in optimizer.param_groups]
        before.append([float(torch.cat(grad).norm()) for grad in grads])

    def weights(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if after is not None:
            after.append(copy.deepcopy([p.detach() for group in optimizer.param_groups for p in group["params"]]))

    hooks = register_optimizer_step_pre_hook(norms), register_optimizer_step_post_hook(weights)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def test_gradients_of_head_and_core_are_clipped_each_for_itself(tmp_path: Path):
    free: list[list[float]] = []
    held: list[list[float]] = []
    with watched(free):
        losses(replace(SLOW, gradient_clip=1e9), tmp_path / "free")
    limit = 0.5 * min(free[0])
    with watched(held):
        losses(replace(SLOW, gradient_clip=limit), tmp_path / "held")
    assert held[0] == pytest.approx([limit, limit], rel=1e-3)


def test_the_average_is_that_of_a_share_of_the_whole_training(tmp_path: Path):
    config = replace(SLOW, epochs=2, average=0.5, core_learning_rate=5e-2, head_learning_rate=5e-3)
    after: list[Any] = []
    seen: list[float] = []
    directory = run(tmp_path)
    with watched([], after):
        result = train_imitation(
            config, toy_policy(), DATA, DATA, directory, on_step=lambda state, total, loss: seen.append(loss)
        )
    steps = len(after)
    assert steps == 2 * len(make_windows(config, DATA)) == result.progress.step
    average = [p.detach() for p in DrivingPolicy.create(toy_policy(), seed=3).parameters()]
    for weights in after:
        average = [old + (new - old) / (0.5 * steps) for old, new in zip(average, weights, strict=True)]
    state = safetensors.torch.load_file(directory.last / TRAINING_STATE)
    names = [name for name, _ in DrivingPolicy.create(toy_policy()).named_parameters()]
    for name, expected in zip(names, average, strict=True):
        torch.testing.assert_close(state[f"model.average.{name}"], expected, rtol=1e-4, atol=1e-6)
    half = steps // 2
    assert [one["train_loss"] for one in result.progress.history] == pytest.approx(
        [np.mean(seen[:half]), np.mean(seen[half:])]
    )


def test_only_the_head_decays():
    policy = DrivingPolicy.create(toy_policy())
    optimizer = make_optimizer(policy, replace(SLOW, weight_decay=0.3))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {decays[id(p)] for p in policy.head.parameters()} == {0.3}
    assert {decays[id(p)] for p in policy.core.parameters()} == {0.0}


@pytest.mark.parametrize("head_only", [False, True])
def test_the_weights_of_another_driver_are_taken_whole_or_those_of_its_head(head_only: bool):
    mine, other = (DrivingPolicy.create(toy_policy(), seed=seed) for seed in (1, 2))
    adopt(mine, other, head_only)
    for name, weight in mine.state_dict().items():
        fresh = DrivingPolicy.create(toy_policy(), seed=1).state_dict()[name]
        expected = fresh if head_only and name.startswith("core.") else other.state_dict()[name]
        assert torch.equal(weight, expected), name


def test_bfloat16_where_it_is_asked_for_and_by_itself_where_it_gains(monkeypatch: pytest.MonkeyPatch):
    for gains in (False, True):
        monkeypatch.setattr("agents.imitation.train.gains_by_bfloat16", lambda device, gains=gains: gains)
        found = [head_in_bfloat16(replace(SLOW, bfloat16=word), "cpu") for word in ("off", "auto", "on")]
        assert found == [False, gains, True]


def test_windows_overlap_by_the_stride_that_is_asked_for():
    assert len(make_windows(replace(SLOW, batch_size=1, stride=5), DATA)) == 4 * 7  # of 40 frames, from 0, 5, … 30 on
    assert len(make_windows(replace(SLOW, batch_size=1), DATA)) == 4 * 4


def test_notes_are_kept_beside_the_epoch(tmp_path: Path):
    directory = run(tmp_path)
    train_imitation(SLOW, toy_policy(), DATA, DATA, directory, notes={"data": "toys"})
    notes = read_config(directory.policy)["notes"]
    assert notes["data"] == "toys" and notes["epoch"] == 1


def test_augmentation_is_drawn_from_the_seed(tmp_path: Path):
    bright = AugmentationConfig(**{**vars(STILL), "brightness": 0.5})
    one, again, other = (
        losses(replace(SLOW, augmentation=bright, seed=seed), tmp_path / name)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert one == again != other
