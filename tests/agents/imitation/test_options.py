"""Options of imitation: a head from elsewhere, weights, smoothing, patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.imitation.train import ImitationConfig, adopt, drop_patches, set_learning_rates, smoothed, train_imitation
from agents.recordings.episodes import EpisodeSet
from agents.runs.directory import RunDirectory
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.toys import HEIGHT, WIDTH, episodes

CONFIG = PolicyConfig(
    core="gru", core_options={"hidden_size": 4}, preprocessing=Preprocessing(16, 32, height=16, width=32)
)
LEARNING = ImitationConfig(epochs=1, batch_size=8, window=8, burn_in=2)


def learn(place: Path, learning: ImitationConfig = LEARNING, **more: object) -> DrivingPolicy:
    run = RunDirectory(place, "train imitation", {})
    return train_imitation(learning, CONFIG, episodes(3, 40), episodes(1, 40, 9), run, **more).policy  # type: ignore[arg-type]


def test_a_frozen_head_stays_that_of_the_other_driver(tmp_path: Path):
    other = DrivingPolicy.create(CONFIG, seed=7)
    trained = learn(tmp_path, ImitationConfig(**{**vars(LEARNING), "freeze_head": True}), initial=other, head_only=True)
    for name, weight in other.head.state_dict().items():
        assert torch.equal(weight, trained.head.state_dict()[name])
    assert any(not torch.equal(w, trained.core.state_dict()[n]) for n, w in other.core.state_dict().items())


def test_a_head_that_does_not_fit_is_refused():
    small = PolicyConfig(core="gru", core_options={"hidden_size": 4}, preprocessing=Preprocessing(48, 96))
    with pytest.raises(ValueError, match="give --height"):
        adopt(DrivingPolicy.create(CONFIG), DrivingPolicy.create(small))


def test_episodes_of_no_weight_are_not_learnt_from(tmp_path: Path):
    def with_labels(value: float) -> EpisodeSet:
        # Of two episodes, the second has labels at full lock.
        first, second = episodes(2, 40)
        from dataclasses import replace

        return EpisodeSet((first, replace(second, steering=np.full(40, value, np.float32))))

    def learnt(place: Path, value: float, weights: list[float]) -> DrivingPolicy:
        run = RunDirectory(place, "train imitation", {})
        sets = with_labels(value), episodes(1, 40, 9)
        return train_imitation(LEARNING, CONFIG, *sets, run, weights=weights).policy

    one, other = learnt(tmp_path / "a", 1.0, [1.0, 0.0]), learnt(tmp_path / "b", -1.0, [1.0, 0.0])
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
    counted = learnt(tmp_path / "c", -1.0, [1.0, 1.0])
    assert any(not torch.equal(w, counted.state_dict()[n]) for n, w in one.state_dict().items())


def test_labels_are_smoothed_in_time_and_keep_their_mean():
    (first, *_), steps = episodes(1, 60), np.zeros(60, np.float32)
    steps[30:40] = 1.0
    from dataclasses import replace

    (smooth,) = smoothed(EpisodeSet((replace(first, steering=steps),)), 0.1)
    assert 0.1 < smooth.steering[29] < 0.5 < smooth.steering[30] < 0.9
    assert smooth.steering.sum() == pytest.approx(10.0, rel=1e-3)
    some = episodes(1, 60)
    assert smoothed(some, 0.0) is some


def test_patches_are_the_same_through_a_window():
    frames = torch.randint(0, 100, (6, 5, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    seen = drop_patches(frames, 0.3, torch.Generator().manual_seed(0))
    grey = (seen == 127).all(-1)
    assert 0.15 < grey.float().mean() < 0.45
    assert (grey == grey[:, :1]).all()
    assert torch.equal(seen[~grey], frames[~grey])
    assert drop_patches(frames, 0.0, torch.Generator()) is frames


def test_patches_are_squares_of_an_eighth_of_the_height():
    seen = drop_patches(torch.zeros(1, 1, 24, 48, 3, dtype=torch.uint8), 0.5, torch.Generator().manual_seed(0))
    squares = seen[0, 0, :, :, 0].reshape(8, 3, 16, 3)
    assert torch.equal(squares, squares[:, :1, :, :1].expand_as(squares)) and 0.2 < (squares > 0).float().mean() < 0.8


def test_the_learning_rate_rises_in_a_line_and_falls_along_half_a_cosine():
    config = ImitationConfig(head_learning_rate=1e-3, core_learning_rate=1e-2, warmup=0.2)
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": [weight]} for weight in weights])
    shares = {0.0: 1e-3, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 0.4: 0.5 + 0.5**1.5, 1.0: 1e-3}
    for done, share in shares.items():
        set_learning_rates(optimizer, done, config)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([1e-3 * share, 1e-2 * share]), done
