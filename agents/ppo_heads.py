"""What turns the content of an observation into features, on flat batches: frames through convolutions, vectors
through one linear layer.

    head = make_head(adapter, HEADS["small"], {}, vector_features=32, generator=generator)
    features = head(content)  # uint8 [N, H, W, 3] or float32 [N, D] → [N, F]
"""  # noqa: D205

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agents.ppo_observations import ObservationAdapter
from policies.perception import ConvHead, HeadConfig, whiten
from policies.preprocessing import Preprocessing


class FrameHead(nn.Module):
    """Frames to features: preprocessing, whitening, conv head."""

    def __init__(self, preprocessing: Preprocessing, head: HeadConfig, generator: torch.Generator):
        """Draw the weights from `generator`."""
        super().__init__()
        self.preprocessing = preprocessing
        self.conv = ConvHead(head, preprocessing.height, preprocessing.width, generator)
        self.output_size = self.conv.output_size

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 `[N, H, W, 3]` → `[N, F]`."""
        return self.conv(whiten(self.preprocessing(frames))[:, None])[:, 0]


class VectorHead(nn.Module):
    """A vector to features: one linear layer with tanh, or nothing."""

    def __init__(self, input_size: int, output_size: int, generator: torch.Generator):
        """Draw the weights from `generator`; an `output_size` of 0 passes the vector on."""
        super().__init__()
        self.output_size = output_size or input_size
        self.linear = linear(input_size, output_size, math.sqrt(2), generator) if output_size else None

    def forward(self, vectors: Tensor) -> Tensor:
        """`[N, D]` → `[N, F]`."""
        return vectors if self.linear is None else torch.tanh(self.linear(vectors))


def make_head(
    adapter: ObservationAdapter,
    frames: HeadConfig,
    preprocessing: Mapping[str, int],
    vector_features: int,
    generator: torch.Generator,
) -> FrameHead | VectorHead:
    """Make the head that suits a kind of observation.

    Args:
        adapter: knows the kind and the size.
        frames: conv head for frames.
        preprocessing: fields of `Preprocessing` for frames; what is missing keeps them as they are.
        vector_features: F for vectors; 0 passes them on.
        generator: owner of the weights.
    """
    if not adapter.is_visual:
        return VectorHead(adapter.shape[0], vector_features, generator)
    height, width, _ = adapter.shape
    as_they_are = {"source_height": height, "source_width": width, "height": height, "width": width}
    return FrameHead(Preprocessing(**{**as_they_are, **preprocessing}), frames, generator)


def linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """Make a linear layer with orthogonal weights and no bias at first."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
