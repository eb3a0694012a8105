"""What augmentation may change and what it must not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from agents.imitation.augmentation import AugmentationConfig, _shadow, apply, augment, draw
from tests.agents.toys import episode

OFF = {"brightness": 0.0, "contrast": 0.0, "colour": 0.0, "noise": 0.0, "blur": 0.0, "shadow": 0.0}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.stack([torch.from_numpy(episode(6, seed=s).frames()) for s in range(8)])
    frames[:, :, :8] //= 2  # rows differ too
    return frames, torch.linspace(-1, 1, 48).view(8, 6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_everything_off_changes_nothing():
    frames, steering = batch()
    out, labels = augment(frames, steering, AugmentationConfig(**OFF), generator())
    assert torch.equal(out, frames) and torch.equal(labels, steering)


def test_a_flip_mirrors_frames_and_negates_steering_window_by_window():
    frames, steering = batch()
    out, labels = augment(frames, steering, AugmentationConfig(flip=0.5, **OFF), generator())
    flipped = (labels == -steering).all(1)
    assert 0 < int(flipped.sum()) < 8
    assert torch.equal(out[flipped], frames[flipped].flip(3))
    assert torch.equal(out[~flipped], frames[~flipped])


@pytest.mark.parametrize("part", ["brightness", "contrast", "colour", "noise", "blur", "shadow", "shift", "patch"])
def test_each_part_changes_frames_and_leaves_labels_and_input_alone(part: str):
    frames, steering = batch()
    kept = frames.clone()
    config = AugmentationConfig(**{**OFF, part: 0.5, "noise_std": 0.1})
    out, labels = augment(frames, steering, config, generator())
    assert out.dtype == torch.uint8 and out.shape == frames.shape
    assert not torch.equal(out, frames)
    assert torch.equal(labels, steering) and torch.equal(frames, kept)


def test_light_is_coherent_in_a_window_and_noise_is_not():
    frames = torch.full((4, 5, 16, 32, 3), 120, dtype=torch.uint8)
    steering = torch.zeros(4, 5)
    light, _ = augment(frames, steering, AugmentationConfig(**{**OFF, "brightness": 0.5}), generator())
    assert (light == light[:, :1]).all()
    noise, _ = augment(frames, steering, AugmentationConfig(**{**OFF, "noise": 1.0}), generator())
    assert not torch.equal(noise[:, 0], noise[:, 1])


@pytest.mark.parametrize("size", [(16, 32), (7, 5), (2, 2), (1, 1)])
def test_one_pass_does_what_its_parts_do_one_by_one(size: tuple[int, int]):
    """Everything at once, beside torch's operations in their order."""
    height, width = size
    frames = torch.randint(0, 256, (6, 3, height, width, 3), dtype=torch.uint8, generator=generator(1))
    config = AugmentationConfig(flip=0.5, shift=0.3, patch=0.7, blur=0.5, shadow=0.6, noise=0.6)
    draws = draw(frames.shape, config, generator(5))
    assert all(part.any() for part in (draws.flipped, draws.patch, draws.blurred, draws.strength))
    pixels = frames.float()
    for b in range(6):
        one = pixels[b].flip(2) if draws.flipped[b] else pixels[b]
        one = one * torch.from_numpy(draws.gain[b]) + float(draws.bias[b])
        if draws.shadow_of[b] >= 0:
            one = one * torch.from_numpy(draws.shadow[draws.shadow_of[b]])[..., None]
        top, left, end, right = draws.patch[b].tolist()
        if end:
            one[:, top:end, left:right] = torch.from_numpy(draws.paint[b])
        if draws.blurred[b] and min(size) > 1:
            planes = one.permute(0, 3, 1, 2)
            one = functional.avg_pool2d(planes, 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1)
        one = one[:, (torch.arange(height) + int(draws.rows[b])).clamp(0, height - 1)]
        for t in range(3):
            if draws.strength[b]:
                start = int(draws.begins[b, t])
                grain = torch.from_numpy(draws.noise[start : start + height * width * 3]).view(height, width, 3)
                one[t] = one[t] + float(draws.strength[b]) * grain
        pixels[b] = one
    expected = pixels.clamp(0, 255)
    found = torch.from_numpy(apply(frames.numpy(), draws))
    assert (found.float() - expected).abs().max() <= 0.5 + 1e-3


def test_draws_reach_from_end_to_end_of_their_ranges():
    shape = torch.Size((4000, 2, 8, 16, 3))
    config = AugmentationConfig(**{**OFF, "shift": 0.5, "noise": 0.3, "noise_std": 0.1, "flip": 1.0, "patch": 0.0})
    draws = draw(shape, config, generator())
    assert set(draws.rows.tolist()) == set(range(-4, 5)), "up and down alike"
    assert abs(draws.rows.mean()) < 0.2
    noisy = draws.strength > 0
    assert 0.27 < noisy.mean() < 0.33
    assert 25 < draws.strength.max() <= 25.5 and draws.strength[noisy].mean() == pytest.approx(12.75, rel=0.1)
    assert draws.flipped.all()


@pytest.mark.parametrize("part", ["brightness", "contrast", "colour", "noise", "shift"])
def test_every_window_has_draws_of_its_own(part: str):
    frames = torch.full((1, 1, 24, 24, 3), 60, dtype=torch.uint8) + torch.arange(24, dtype=torch.uint8)[:, None, None]
    chances = {"noise": {"noise": 1.0, "noise_std": 0.2}, "shift": {"shift": 0.3}}
    config = AugmentationConfig(**{**OFF, **chances.get(part, {part: 0.5})})
    out, _ = augment(frames.repeat(8, 1, 1, 1, 1), torch.zeros(8, 1), config, generator())
    assert len({window.numpy().tobytes() for window in out}) >= 4


def test_a_shadow_has_an_edge_in_any_direction_and_darkens_one_side():
    gains = torch.stack([_shadow(24, 48, generator(seed)) for seed in range(60)])
    assert gains.shape == (60, 24, 48) and 0.34 < gains.min() and gains.max() <= 1
    down, across = (gains.diff(dim=dim).abs().amax((1, 2)) for dim in (1, 2))
    assert (down > 2 * across).float().mean() > 0.1, "edges that lie"
    assert (across > 2 * down).float().mean() > 0.1, "edges that stand"
    dark = (gains < 0.99).float().mean((1, 2))
    assert 0.3 < dark.mean() < 0.7


def test_what_has_no_chance_never_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.zeros(*shape))  # as a generator may, once
    draws = draw(torch.Size((4, 2, 8, 16, 3)), AugmentationConfig(**OFF), generator())
    assert not any(part.any() for part in (draws.flipped, draws.patch, draws.blurred, draws.strength))
    assert (draws.shadow_of == -1).all()


def test_the_generator_owns_the_draws():
    frames, steering = batch()
    config = AugmentationConfig(flip=0.5, shift=0.2, patch=0.5)
    first, second = (augment(frames, steering, config, generator(3))[0] for _ in range(2))
    other = augment(frames, steering, config, generator(4))[0]
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_senseless_options_are_refused():
    with pytest.raises(ValueError, match="flip"):
        AugmentationConfig(flip=1.5)
    with pytest.raises(ValueError, match="noise_std"):
        AugmentationConfig(noise_std=-0.1)
