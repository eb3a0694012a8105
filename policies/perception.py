"""Conv heads: what the road looks like, in a few numbers a frame.

`[B, T, 3, H, W]` whitened frames → `[B, T, F]` features. Convolutions, then each channel of the last map is reduced to
a few features by a linear map of its own, so a feature can be traced back to one channel. Two heads ship: `published`,
the head of Lechner et al., *Neural circuit policies enabling auditable autonomy* (Nature Machine Intelligence 2020,
table S1) for 78×200 frames with its 79,420 parameters, and `small` for 96×48 frames.

    head = ConvHead(HEADS["small"], height=48, width=96)
    features = head(torch.zeros(2, 16, 3, 48, 96))  # [2, 16, 32]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from policies.kernels.choose import Kernels, choose_kernel, is_traced
from policies.limits import Units, check_parameters

if TYPE_CHECKING:
    from policies.kernels.head.inference import Encoder

HEAD_KERNELS = Kernels("conv head", {"cpu": (torch.float32,)})
"""What turns bytes into features without gradients: numba on the CPU."""

Pixels = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True, config={"extra": "forbid"})
class HeadConfig:
    """The shape of a conv head.

    Attributes:
        channels: output channels of each convolution.
        kernels: square kernel size of each convolution, pixels.
        strides: stride of each convolution, pixels.
        features_per_channel: features that each channel of the last map is reduced to.
        dropout: fraction of the last map's values dropped while training.
    """

    channels: tuple[Units, ...] = (16, 24, 32, 32, 8)
    kernels: tuple[Pixels, ...] = (5, 3, 3, 3, 3)
    strides: tuple[Pixels, ...] = (2, 2, 2, 1, 1)
    features_per_channel: Units = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        """Check that the layers agree."""
        if not len(self.channels) == len(self.kernels) == len(self.strides) >= 1:
            raise ValueError(
                "channels, kernels and strides must name the same number of layers, at least one; "
                f"got {len(self.channels)}, {len(self.kernels)} and {len(self.strides)}."
            )


HEADS = {
    "small": HeadConfig(),
    "published": HeadConfig(channels=(24, 36, 48, 64, 8), kernels=(5, 5, 3, 3, 3), strides=(2, 2, 2, 1, 1)),
}
"""Heads by name. `published` has exactly 79,420 parameters on 78×200 frames."""


class ConvHead(nn.Module):
    """A stack of same-padded convolutions with ReLU, then a linear map for each channel."""

    def __init__(self, config: HeadConfig, height: int, width: int, generator: torch.Generator | None = None):
        """Build the head.

        Args:
            config: the layers.
            height: H of the frames, pixels.
            width: W of the frames, pixels.
            generator: owner of the initial weights; torch's global generator when None.
        """
        super().__init__()
        self.config = config
        self.height, self.width = height, width
        convolutions: list[nn.Module] = []
        channels, rows, columns = 3, height, width
        for out_channels, kernel, stride in zip(config.channels, config.kernels, config.strides, strict=True):
            check_parameters("a convolution", channels * out_channels * kernel**2)
            # Weights are drawn below, from the generator that owns them.
            convolutions.append(
                nn.utils.skip_init(nn.Conv2d, channels, out_channels, kernel, stride=stride, padding=kernel // 2)
            )
            channels = out_channels
            rows, columns = (
                (rows + 2 * (kernel // 2) - kernel) // stride + 1,
                (columns + 2 * (kernel // 2) - kernel) // stride + 1,
            )
        if rows < 1 or columns < 1:
            raise ValueError(
                f"frames of {height}×{width} pixels are too small for {len(config.channels)} convolutions."
            )
        check_parameters("the head's read-out", channels * rows * columns * config.features_per_channel)
        self.convolutions = nn.ModuleList(convolutions)
        self.dropout = nn.Dropout(config.dropout)
        self.readout_weight = nn.Parameter(torch.empty(channels, rows * columns, config.features_per_channel))
        self.readout_bias = nn.Parameter(torch.zeros(channels, config.features_per_channel))
        self.output_size = channels * config.features_per_channel
        self._encoder: Encoder | None = None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights: He-normal for the convolutions, LeCun-normal for the readout, zero biases."""
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(convolution.bias)
        nn.init.normal_(self.readout_weight, std=self.readout_weight.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(self.readout_bias)

    def feature_maps(self, frames: Tensor) -> list[Tensor]:
        """Return the map after each convolution, `[N, C, h, w]`, for `[N, 3, H, W]` whitened frames.

        Computed in the precision of the weights, whatever that of the frames.
        """
        maps, frames = [], frames.to(self.readout_weight.dtype)
        for convolution in self.convolutions:
            frames = torch.relu_(convolution(frames))  # In place: nothing needs what was there before.
            maps.append(frames)
        return maps

    def forward(self, frames: Tensor) -> Tensor:
        """Reduce frames to features.

        Args:
            frames: `[B, T, 3, H, W]` float, whitened.

        Returns:
            `[B, T, F]` features.

        Raises:
            ValueError: if the frames have another size than the head was built for.
        """
        if frames.ndim != 5 or frames.shape[2:] != (3, self.height, self.width):
            raise ValueError(
                f"frames must have shape [B, T, 3, H, W] with H×W = {self.height}×{self.width}, got "
                f"{tuple(frames.shape)}."
            )
        return self.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def encode_pixels(self, frames: Tensor) -> Tensor:
        """Whiten and encode: `[N, H, W, 3]` uint8 or float → `[N, F]`.

        Bytes on the CPU without gradients take a kernel that computes each frame alone: at one frame, torch's
        convolutions need four times as long. Its sums are in another order, so the last digits differ.
        """
        encoder = self._choose_encoder(frames)
        return self.encode(whiten(frames)) if encoder is None else encoder.run(frames)

    def maps_of_pixels(self, frame: Tensor) -> list[Tensor]:
        """Whiten one frame `[1, H, W, 3]` and return `feature_maps`; by the kernel where `encode_pixels` takes it."""
        encoder = self._choose_encoder(frame)
        return self.feature_maps(whiten(frame)) if encoder is None else encoder.maps(frame)

    def _choose_encoder(self, frames: Tensor) -> Encoder | None:
        """Return the kernel with this head's present weights; None where torch's own operations run."""
        if torch.is_grad_enabled() or not frames.is_cpu or frames.dtype is not torch.uint8 or is_traced(frames):
            return None
        if (self.training and self.config.dropout) or torch.is_autocast_enabled("cpu"):
            return None
        if choose_kernel(HEAD_KERNELS, "auto", "cpu", torch.float32) != "cpu":
            return None
        if self._encoder is None:
            from policies.kernels.head.inference import Encoder

            config = self.config
            layers = config.kernels, config.strides, config.channels
            self._encoder = Encoder(self.height, self.width, *layers, config.features_per_channel)
        parameters: list[Tensor] = []
        for layer in self.convolutions:
            assert isinstance(layer.weight, Tensor) and isinstance(layer.bias, Tensor)
            if layer._forward_hooks or layer._forward_pre_hooks:
                return None  # somebody watches
            parameters += layer.weight, layer.bias
        fits = self._encoder.adopt([*parameters, self.readout_weight, self.readout_bias])
        return self._encoder if fits and self._encoder.takes(frames) else None

    def encode(self, frames: Tensor) -> Tensor:
        """As `forward`, without the axis of time: `[N, 3, H, W]` → `[N, F]`; the size is not checked.

        What `whiten` returns goes in as it is. Splitting and joining axes of size 1 changes their strides, and torch
        then takes channels-last memory for channels-first and copies the frames.
        """
        return self.read_out(self.feature_maps(frames)[-1])

    def read_out(self, maps: Tensor) -> Tensor:
        """Reduce the last of `feature_maps`, `[N, C, h, w]`, to features, `[N, F]`."""
        maps = self.dropout(maps.flatten(2))  # [N, C, h·w]
        # [C, N, h·w] @ [C, h·w, f] → [C, N, f]: each channel has a linear map of its own.
        features = torch.bmm(maps.transpose(0, 1), self.readout_weight) + self.readout_bias[:, None]
        return features.transpose(0, 1).reshape(maps.shape[0], self.output_size)


def whiten(frames: Tensor) -> Tensor:
    """Give each frame zero mean and unit variance over its pixels and channels.

    Takes out exposure and most of the contrast, as in the published driver's preprocessing.

    Args:
        frames: `[N, H, W, 3]` uint8 or float, any range.

    Returns:
        `[N, 3, H, W]` float32 in channels-last memory.
    """
    # The spread is taken around the mean (Welford): from sums of squares, that of a bright flat frame cancels to noise.
    # A floor of half a grey level: a black frame stays a black frame instead of amplified noise.
    flat = frames.flatten(1).float()
    white = functional.layer_norm(flat, flat.shape[1:], eps=0.25)
    return white.view(frames.shape).permute(0, 3, 1, 2)
