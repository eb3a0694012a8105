"""The conv heads and the whitening of frames."""

from __future__ import annotations

import pytest
import torch

from policies.perception import HEADS, ConvHead, HeadConfig, whiten


def test_published_head_has_the_published_size():
    head = ConvHead(HEADS["published"], height=78, width=200)
    assert sum(p.numel() for p in head.parameters()) == 79_420
    assert head(torch.zeros(1, 2, 3, 78, 200)).shape == (1, 2, 32)


def test_features_of_a_frame_do_not_depend_on_its_neighbours():
    head = ConvHead(HEADS["small"], 48, 96, torch.Generator().manual_seed(0))
    frames = torch.randn(2, 3, 3, 48, 96)
    alone = torch.stack([head(frames[b : b + 1, t : t + 1])[0, 0] for b in range(2) for t in range(3)])
    torch.testing.assert_close(head(frames).flatten(0, 1), alone, rtol=1e-4, atol=1e-5)


def test_each_feature_comes_from_one_channel():
    """A feature's gradient reaches the last map in its own channel only."""
    head = ConvHead(HEADS["small"], 48, 96)
    maps = head.feature_maps(torch.randn(1, 3, 48, 96))[-1].detach().requires_grad_()
    features = torch.bmm(maps.flatten(2).transpose(0, 1), head.readout_weight).transpose(0, 1).flatten()
    features[4 * 3].backward()
    assert maps.grad is not None
    assert maps.grad[0].abs().sum((1, 2)).nonzero().flatten().tolist() == [3]


def test_the_seed_owns_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (ConvHead(HEADS["small"], 48, 96, torch.Generator().manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r"H×W = 48×96, got \(1, 1, 3, 40, 96\)"):
        ConvHead(HEADS["small"], 48, 96)(torch.zeros(1, 1, 3, 40, 96))
    with pytest.raises(ValueError, match="same number of layers"):
        HeadConfig(channels=(8,), kernels=(3, 3), strides=(1,))
    for none in ({"kernels": (0, 3, 3, 3, 3)}, {"strides": (2, 0, 2, 1, 1)}, {"channels": (16, 0, 32, 32, 8)}):
        with pytest.raises(ValueError, match="greater than or equal to 1"):
            HeadConfig(**none)
    with pytest.raises(ValueError, match="dropout"):
        HeadConfig(dropout=1.0)


def test_whitened_frames_have_zero_mean_and_unit_variance_whatever_the_exposure():
    frames = torch.randint(0, 256, (4, 48, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    white = whiten(frames)
    assert white.shape == (4, 3, 48, 96)
    torch.testing.assert_close(white.mean((1, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(white.std((1, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    darker = (frames.float() / 4).round().to(torch.uint8)
    assert (whiten(darker) - white).abs().mean() < 0.03
    black = torch.zeros(1, 48, 96, 3, dtype=torch.uint8)
    assert whiten(black).abs().max() == 0


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("size", [(48, 96), (720, 1280)])
@pytest.mark.parametrize("level", [0, 128, 250])
def test_flat_frames_are_whitened_exactly_however_bright(size, level, with_gradient):
    """A whitewashed wall: the spread of one grey level must not be lost beside the squares of 250."""
    generator = torch.Generator().manual_seed(0)
    frames = level + (torch.rand(1, *size, 3, generator=generator) < 0.3).to(torch.uint8)
    exact = frames.double() - frames.double().mean()
    exact = (exact / (exact.square().mean() + 0.25).sqrt()).permute(0, 3, 1, 2)
    given = frames.float().requires_grad_() if with_gradient else frames
    torch.testing.assert_close(whiten(given).detach().double(), exact, rtol=0, atol=1e-4)


def test_no_frames_are_no_matter():
    assert whiten(torch.zeros(0, 48, 96, 3, dtype=torch.uint8)).shape == (0, 3, 48, 96)
