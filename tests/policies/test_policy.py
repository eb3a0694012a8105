"""The driver as a whole: shapes, preprocessing, state, what it is saved as."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing


def random_frames(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("core", ["ltc", "lstm", "feedforward"])
def test_one_call_of_many_frames_equals_many_calls_of_one(core: str):
    policy = DrivingPolicy.create(PolicyConfig(core=core), seed=1).eval()
    frames = random_frames(2, 5, 48, 96)
    elapsed = torch.tensor([[1.0, 2.0, 0.5, 1.0, 1.0]] * 2)
    starts = torch.zeros(2, 5, dtype=torch.bool)
    starts[1, 3] = True
    whole, last = policy(frames, None, elapsed, starts)
    state, steps = None, []
    for t in range(5):
        step, state = policy(frames[:, t : t + 1], state, elapsed[:, t : t + 1], starts[:, t : t + 1])
        steps.append(step)
    torch.testing.assert_close(whole, torch.cat(steps, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, state, rtol=1e-4, atol=1e-5)
    assert whole.shape == (2, 5, 1)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("core", ["ltc", "lstm", "transformer"])
def test_a_driver_in_double_precision_steers_as_in_single(core: str, grad: bool):
    config = PolicyConfig(core=core)
    single, double = DrivingPolicy.create(config, 3), DrivingPolicy.create(config, 3).double()
    draws = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 5, 48, 96, 3), dtype=torch.uint8, generator=draws)
    elapsed = 0.5 + 2 * torch.rand(2, 5, generator=draws)
    starts = torch.rand(2, 5, generator=draws) < 0.3
    with torch.set_grad_enabled(grad):
        near, _ = single(frames, None, elapsed, starts)
        steering, state = double(frames, None, elapsed, starts)
    assert steering.dtype == state.dtype == torch.float64
    torch.testing.assert_close(steering, near.double(), atol=1e-4, rtol=1e-4)


def test_steering_stays_within_full_lock():
    policy = DrivingPolicy.create(PolicyConfig(core="lstm"), seed=0)
    with torch.no_grad():
        for parameter in policy.core.parameters():
            parameter.mul_(50)
    motors, _ = policy.motors(random_frames(4, 3, 48, 96))
    steering, _ = policy(random_frames(4, 3, 48, 96))
    assert motors.abs().max() > 1
    assert steering.abs().max() <= 1


def test_the_same_seed_gives_the_same_driver():
    first, second, other = (DrivingPolicy.create(PolicyConfig(), seed) for seed in (4, 4, 5))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.head.readout_weight, other.head.readout_weight)


def test_config_survives_json():
    config = PolicyConfig(core="lstm", core_options={"hidden_size": 16}, preprocessing=Preprocessing(120, 160, 40))
    assert PolicyConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match="fields of this version"):
        PolicyConfig.from_json({**config.to_json(), "surprise": 1})


def test_preprocessing_crops_then_averages_areas():
    fit = Preprocessing(source_height=120, source_width=160, crop_top=40, height=48, width=96)
    frames = torch.zeros(2, 120, 160, 3, dtype=torch.uint8)
    frames[:, :40] = 255  # all of it is cut off
    assert fit(frames).max() == 0
    frames[:, 40:] = torch.arange(160, dtype=torch.uint8).view(1, 160, 1)
    small = fit(frames)
    assert small.shape == (2, 48, 96, 3)
    expected = (torch.arange(96) + 0.5) * 160 / 96 - 0.5
    assert (small[0, 10, 2:-2, 0].float() - expected[2:-2]).abs().max() <= 1


def test_frames_of_another_size_are_refused_with_advice():
    policy = DrivingPolicy.create(PolicyConfig())
    with pytest.raises(ValueError, match=r"48×96×3 pixels, got uint8 120×160×3\. .*--crop-top"):
        policy(random_frames(1, 1, 120, 160))
    with pytest.raises(ValueError, match="float32"):
        policy(torch.zeros(1, 1, 48, 96, 3))
    with pytest.raises(ValueError, match="nothing is left"):
        Preprocessing(source_height=40, source_width=96, crop_top=40)


def test_preprocessed_frames_are_said_to_be_so_and_not_cropped_again():
    """Cropped and resized once, then said to be so: the same as the raw frames, by every way in."""
    fit = Preprocessing(source_height=120, source_width=160, crop_top=40, height=48, width=96)
    policy = DrivingPolicy.create(PolicyConfig(preprocessing=fit)).eval()
    raw = random_frames(2, 3, 120, 160)
    small = fit(raw)
    torch.testing.assert_close(policy.features(small, preprocessed=True), policy.features(raw), rtol=0, atol=0)
    for run in (policy, policy.motors):
        for ours, theirs in zip(run(small, preprocessed=True), run(raw), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    # A picture that happens to have the right size for the wrong reason is still refused.
    with pytest.raises(ValueError, match="48×96×3 pixels, got uint8 120×160×3"):
        policy.motors(raw, preprocessed=True)
    with pytest.raises(ValueError, match="120×160×3 pixels, got uint8 48×96×3"):
        policy.motors(small)
    assert policy.config.preprocessing == fit


@pytest.mark.parametrize("core", ["ltc", "lstm"])
def test_an_empty_batch_drives(core: str):
    policy = DrivingPolicy.create(PolicyConfig(core=core)).eval()
    steering, state = policy(random_frames(0, 3, 48, 96))
    assert steering.shape == (0, 3, 1) and state.shape == (0, policy.core.state_size)
    fit = Preprocessing(source_height=120, source_width=160, height=48, width=96)
    assert (
        DrivingPolicy.create(PolicyConfig(core=core, preprocessing=fit))(random_frames(0, 3, 120, 160))[0].numel() == 0
    )


def test_a_config_that_is_wrong_names_the_field():
    values = PolicyConfig().to_json()
    with pytest.raises(ValueError, match="nominal_period_s: .* greater than 0, got -1"):
        PolicyConfig.from_json({**values, "nominal_period_s": -1})
    with pytest.raises(ValueError, match=r"channels\.0"):
        PolicyConfig.from_json({**values, "head": {**values["head"], "channels": [0, 1, 1, 1, 1]}})


def test_a_head_for_other_frames_than_the_preprocessing_ends_at_is_refused():
    policy = DrivingPolicy.create(PolicyConfig(), seed=0)
    smaller = replace(policy.config, preprocessing=Preprocessing(48, 96, height=40, width=96))
    with pytest.raises(ValueError, match="head sees 48×96 pixels, and the preprocessing ends at 40×96"):
        DrivingPolicy(smaller, policy.head, policy.core)


def test_one_frame_reaches_the_convolutions_in_channels_last_memory():
    """Splitting and joining axes of size 1 makes it look channels-first: torch then copies it at each convolution."""
    policy, given = DrivingPolicy.create(PolicyConfig(), seed=0), []
    policy.head.convolutions[0].register_forward_hook(lambda _, inputs, __: given.append(inputs[0].stride()))
    policy(random_frames(1, 1, 48, 96))
    assert given == [(48 * 96 * 3, 1, 96 * 3, 3)]
