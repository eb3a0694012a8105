"""The conv head's kernel: what torch's operations give, whatever the shapes, and never an old weight."""

from __future__ import annotations

import copy
import ctypes
import pickle

import pytest
import torch

from policies.kernels.threads import scratch_addresses
from policies.perception import ConvHead, HeadConfig, whiten

pytest.importorskip("numba")

SIZES = {
    "shipped": (HeadConfig(), 48, 96),
    "five vectors, then three": (HeadConfig((40, 24, 5), (5, 3, 1), (2, 1, 2), 3), 13, 22),
    "nine vectors": (HeadConfig((66,), (3,), (3,), 1), 9, 31),
    "even kernels, one column": (HeadConfig((3, 12), (4, 2), (3, 2), 2), 7, 5),
    "one pixel": (HeadConfig((8,), (1,), (1,), 1), 1, 1),
}


def make_head(config: HeadConfig, height: int, width: int) -> ConvHead:
    """A head whose biases are not zero."""
    rng = torch.Generator().manual_seed(1)
    head = ConvHead(config, height, width, rng).eval()
    for layer in head.convolutions:
        assert isinstance(layer.bias, torch.Tensor)
        torch.nn.init.normal_(layer.bias, generator=rng)
    torch.nn.init.normal_(head.readout_bias, generator=rng)
    return head


def make_frames(count: int, height: int, width: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=rng)


def in_float64(head: ConvHead, frames: torch.Tensor) -> torch.Tensor:
    """The features without rounding."""
    pixels = frames.double().flatten(1)
    variance, mean = torch.var_mean(pixels, dim=1, correction=0, keepdim=True)
    white = ((pixels - mean) / (variance + 0.25).sqrt()).view(frames.shape).permute(0, 3, 1, 2)
    return copy.deepcopy(head).double().encode(white).float()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", SIZES)
def test_features_are_those_of_the_reference(name: str, threads: int, monkeypatch: pytest.MonkeyPatch):
    head = make_head(*SIZES[name])
    frames = make_frames(3, head.height, head.width)
    frames[1] = 255  # bright and flat: nothing but the floor of the variance
    frames[1, 0, 0] = 254
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("policies.kernels.head.inference.LEAST_WORK", 1)
    with torch.no_grad():
        encoder = head._choose_encoder(frames)
        assert encoder is not None
        for address in scratch_addresses(encoder._scratch, threads):
            memory = (ctypes.c_float * encoder._scratch).from_address(address)
            torch.frombuffer(memory, dtype=torch.float32).fill_(torch.nan)
        torch.testing.assert_close(encoder.run(frames), in_float64(head, frames), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", SIZES)
def test_maps_are_those_of_the_reference(name: str):
    head = make_head(*SIZES[name])
    frame = make_frames(1, head.height, head.width)
    with torch.no_grad():
        assert head._choose_encoder(frame) is not None
        for found, wanted in zip(head.maps_of_pixels(frame), head.feature_maps(whiten(frame)), strict=True):
            torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


def test_a_frame_has_the_same_features_alone_and_in_a_batch_and_out_of_a_strided_tensor():
    head = make_head(*SIZES["shipped"])
    frames = make_frames(6, 48, 96)
    with torch.inference_mode():
        together = head.encode_pixels(frames)
        assert torch.equal(together[4:5], head.encode_pixels(frames[4:5]))
        assert torch.equal(together[::2], head.encode_pixels(frames[::2]))
        assert head.encode_pixels(frames[:0]).shape == (0, 32)


@pytest.mark.parametrize("change", ["in place", "past the version counter", "another tensor"])
def test_a_changed_weight_counts_at_once(change: str):
    head = make_head(*SIZES["even kernels, one column"])
    frames = make_frames(1, 7, 5)
    with torch.no_grad():
        before = head.encode_pixels(frames)
        weight = head.convolutions[1].weight
        assert isinstance(weight, torch.Tensor)
        if change == "in place":
            weight.mul_(1.5)
        elif change == "past the version counter":
            weight.data.mul_(1.5)
        else:
            head.convolutions[1].weight = torch.nn.Parameter(weight * 1.5)
        assert not torch.equal(head.encode_pixels(frames), before)
        torch.testing.assert_close(head.encode_pixels(frames), in_float64(head, frames), rtol=2e-5, atol=2e-5)


def test_a_copy_has_a_kernel_of_its_own():
    head = make_head(*SIZES["even kernels, one column"])
    frames = make_frames(2, 7, 5)
    with torch.no_grad():
        features = head.encode_pixels(frames)
        for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
            assert torch.equal(other.encode_pixels(frames), features)
            other.readout_bias.add_(1)
            assert torch.equal(head.encode_pixels(frames), features)


def test_what_is_not_a_number_stays_visible():
    head = make_head(*SIZES["shipped"])
    with torch.no_grad():
        weight = head.convolutions[0].weight
        assert isinstance(weight, torch.Tensor)
        weight[3] = torch.nan
        assert head.encode_pixels(make_frames(1, 48, 96)).isnan().all()


def test_where_gradients_dropout_other_numbers_or_a_mode_are_wanted_torch_runs():
    config = HeadConfig((3, 12), (4, 2), (3, 2), 2, dropout=0.5)
    head, frames = make_head(config, 7, 5), make_frames(2, 7, 5)
    assert head.encode_pixels(frames).requires_grad
    with torch.no_grad():
        assert head._choose_encoder(frames) is not None
        assert head._choose_encoder(frames.float()) is None
        assert head.train()._choose_encoder(frames) is None
        head.eval()
        with torch.autocast("cpu"):
            assert head._choose_encoder(frames) is None
        assert head._choose_encoder(frames[:, 1:]) is None
        with head.convolutions[1].register_forward_hook(lambda *_: None):
            assert head._choose_encoder(frames) is None
        assert head._choose_encoder(frames) is not None
        assert copy.deepcopy(head).double()._choose_encoder(frames) is None
        assert torch.equal(
            torch.vmap(lambda one: head.encode(whiten(one[None]))[0])(frames),
            torch.vmap(lambda one: head.encode_pixels(one[None])[0])(frames),
        )
