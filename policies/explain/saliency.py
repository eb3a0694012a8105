"""Looking inside a driver: where it looks, what its neurons do, what runs through its synapses.

    insight = look_inside(policy, frame, state)  # frame uint8 [H, W, 3], state [1, S] after it
    insight.saliency  # [h, w] in [0, 1], on the picture that the head saw

Saliency is VisualBackProp (Bojarski et al., arXiv:1611.05418): the mean activation of each convolution, from the last
to the first, is scaled up to the size of the one before it and multiplied with it. What is left is where every layer
was active: the pixels that the features come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from policies.cores import LTC
from policies.perception import ConvHead, whiten
from policies.policy import DrivingPolicy


@dataclass(frozen=True)
class Insight:
    """What went on inside a driver at one frame.

    Attributes:
        seen: uint8 `[h, w, 3]` picture that the head saw, after crop and resize.
        saliency: `[h, w]` in [0, 1], where the features come from.
        features: `[F]` what the head made of the picture.
        activity: `[N]` voltages of the neurons; of other cores the state, or the features where there is no state.
        sensory_currents: `[S_in]` current through each sensory synapse; empty for cores without a wiring.
        recurrent_currents: `[S_rec]` current through each synapse among the neurons; empty likewise.
    """

    seen: Tensor
    saliency: Tensor
    features: Tensor
    activity: Tensor
    sensory_currents: Tensor
    recurrent_currents: Tensor


def look_inside(policy: DrivingPolicy, frame: Tensor, state: Tensor, preprocessed: bool = False) -> Insight:
    """Say what went on inside a driver at one frame.

    Args:
        policy: the driver.
        frame: uint8 `[H, W, 3]` RGB that it has just seen.
        state: `[1, S]` or `[S]` state after that frame.
        preprocessed: whether the frame is cropped and resized already.

    Returns:
        The insight, all tensors without gradients.
    """
    with torch.no_grad():
        seen = frame if preprocessed else policy.config.preprocessing(frame)
        maps = policy.head.maps_of_pixels(seen[None])
        features = policy.head.read_out(maps[-1])[0]
        state = state.reshape(-1)
        currents = torch.zeros(0), torch.zeros(0)
        if isinstance(policy.core, LTC):
            currents = policy.core.synaptic_currents(features, state)
        return Insight(
            seen=seen,
            saliency=_back_project(policy.head, maps, seen.shape[0], seen.shape[1])[0],
            features=features,
            activity=state if state.numel() else features,
            sensory_currents=currents[0],
            recurrent_currents=currents[1],
        )


def saliency(policy: DrivingPolicy, frames: Tensor) -> Tensor:
    """Return where a driver looks: VisualBackProp of each frame.

    Args:
        policy: the driver.
        frames: uint8 `[N, H, W, 3]` at the size that its preprocessing names as source.

    Returns:
        `[N, h, w]` in [0, 1] on the picture after crop and resize; the largest value of each is 1, or all are 0 where
        no layer answers.

    Raises:
        ValueError: if the frames have another size or type.
    """
    with torch.no_grad():
        seen = policy.config.preprocessing(frames)
        return _back_project(policy.head, policy.head.feature_maps(whiten(seen)), seen.shape[1], seen.shape[2])


def gradient_saliency(policy: DrivingPolicy, frames: Tensor, states: Tensor, elapsed: Tensor | None = None) -> Tensor:
    """Return how strongly the steering answers to each pixel: the size of its gradient, to compare with `saliency`.

    Exact for an infinitely small change of one pixel and for nothing else: a saturated neuron hides what matters, and
    single pixels are noisy. VisualBackProp shows where the features come from, whether or not they steer.

    Args:
        policy: the driver.
        frames: uint8 `[N, H, W, 3]` at the size that its preprocessing names as source.
        states: `[N, S]` before each frame.
        elapsed: `[N]` in frame periods; ones when None.

    Returns:
        `[N, h, w]` in [0, 1], like `saliency`: Σ over colours of |∂ steering / ∂ pixel|, steering before its clamp.
    """
    times = torch.ones(len(frames)) if elapsed is None else elapsed
    with torch.enable_grad():
        pixels = policy.config.preprocessing(frames).float().requires_grad_(True)
        features = policy.features(pixels[:, None], preprocessed=True)
        motors, _ = policy.core(features, states, times[:, None])
        (gradient,) = torch.autograd.grad(motors[:, 0, 0].sum(), pixels)
    size = gradient.abs().sum(-1)
    return size / size.amax((1, 2), keepdim=True).clamp_min(1e-12)


def _back_project(head: ConvHead, maps: list[Tensor], height: int, width: int) -> Tensor:
    """Multiply the layers' mean activations from the last to the first: maps `[N, C, h, w]` → `[N, height, width]`."""
    means = [layer.mean(1, keepdim=True) for layer in maps]  # [N, 1, h, w] each
    sizes = [(height, width), *((mean.shape[2], mean.shape[3]) for mean in means[:-1])]
    mask = means[-1]
    for number in range(len(means) - 1, -1, -1):
        convolution = head.convolutions[number]
        assert isinstance(convolution, nn.Conv2d)
        mask = _scale_up(mask, convolution, sizes[number])
        # The size of a map carries no meaning, only where it is large; this keeps the product within float range.
        mask = mask / mask.amax((2, 3), keepdim=True).clamp_min(1e-12)
        if number:
            mask = mask * means[number - 1]
    return mask[:, 0]


def _scale_up(mask: Tensor, convolution: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """Spread each value over the pixels that its convolution saw, evenly: a transposed convolution with ones.

    Where a stride makes the windows overlap, a pixel gets the mean: ones alone would leave a chequer. Rows and columns
    are spread one after the other, by matrices.
    """
    padding = convolution.padding
    assert not isinstance(padding, str)
    rows, columns = (
        _spread(*given)
        for given in zip(mask.shape[2:], size, convolution.kernel_size, convolution.stride, padding, strict=True)
    )
    return rows @ mask @ columns.T


@lru_cache(maxsize=64)
def _spread(have: int, want: int, kernel: int, stride: int, padding: int) -> Tensor:
    """Return the matrix `[want, have]` that gives each pixel the mean of the windows that saw it."""
    with torch.inference_mode(False):
        away = torch.arange(want)[:, None] + padding - stride * torch.arange(have)
        seen = ((away >= 0) & (away < kernel)).float()
        return seen / seen.sum(1, keepdim=True).clamp_min(1.0)
