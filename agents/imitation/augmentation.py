"""What a camera might have seen instead: flips, light, colour, blur, shadow, noise, shifts.

One draw for a whole window, so that a window stays coherent in time; only sensor noise is fresh in every frame. All
draws come from the caller's generator.

    frames, steering = augment(frames, steering, AugmentationConfig(), generator)
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

BANK = 1 << 20
"""Normal draws that the noise of a batch is taken from."""
LEAST_OFFSETS = 1 << 16
"""Places at which a frame's noise may begin in it, at least; larger frames make the bank larger."""
Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config={"extra": "forbid"})
class AugmentationConfig:
    """How strongly frames are changed while training; 0 switches a part off."""

    flip: Probability = 0.0
    """Probability of a mirrored window, its steering negated."""
    brightness: Fraction = 0.2
    """Largest change of brightness, as a fraction of full scale."""
    contrast: Fraction = 0.3
    """Largest change of contrast, as a fraction."""
    colour: Fraction = 0.15
    """Largest change of each colour channel's gain, as a fraction."""
    noise_std: Fraction = 0.06
    """Largest standard deviation of Gaussian sensor noise, as a fraction of full scale."""
    noise: Probability = 0.5
    """Probability that a window is noisy."""
    blur: Probability = 0.2
    """Probability of a 3×3 blur."""
    shadow: Probability = 0.25
    """Probability of a shadow with a straight edge across the frame."""
    shift: Fraction = 0.0
    """Largest vertical shift of the frame, as a fraction of its height (a pitching camera)."""
    patch: Probability = 0.0
    """Probability that a rectangle of up to a quarter of the frame's area is painted over."""


def augment(
    frames: Tensor, steering: Tensor, config: AugmentationConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change a batch of windows.

    Args:
        frames: uint8 `[B, T, H, W, 3]`.
        steering: float `[B, T]`, positive left.
        config: how strongly.
        generator: source of the draws, on the CPU.

    Returns:
        Frames and steering of the same shapes and types.
    """
    batch_size, _, height, width, _ = frames.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def chosen(probability: float) -> Tensor:
        return uniform(batch_size) < probability

    flipped = chosen(config.flip)
    if flipped.any():
        frames = torch.where(flipped.view(-1, 1, 1, 1, 1), frames.flip(3), frames)
        steering = torch.where(flipped.view(-1, 1), -steering, steering)

    # Gain and bias of each channel; contrast turns about mid-grey. [B, 1, 1, 1, 3]
    contrast = 1 + config.contrast * (2 * uniform(batch_size, 1) - 1)
    gain = contrast * (1 + config.colour * (2 * uniform(batch_size, 3) - 1))
    bias = 255 * config.brightness * (2 * uniform(batch_size, 1) - 1) + 127.5 * (1 - contrast)
    pixels = torch.empty(frames.shape, dtype=torch.float32).copy_(frames)
    pixels.mul_(gain.view(-1, 1, 1, 1, 3)).add_(bias.view(-1, 1, 1, 1, 1))

    for index in chosen(config.shadow).nonzero().flatten().tolist():
        pixels[index] *= _shadow(height, width, generator)
    for index in chosen(config.patch).nonzero().flatten().tolist():
        top, left, rows, columns = (uniform(4) * torch.tensor([height, width, height / 2, width / 2])).int().tolist()
        pixels[index, :, top : top + rows + 1, left : left + columns + 1] = 255 * uniform(3)
    for index in chosen(config.blur).nonzero().flatten().tolist():
        pixels[index] = functional.avg_pool2d(
            pixels[index].permute(0, 3, 1, 2), 3, stride=1, padding=1, count_include_pad=False
        ).permute(0, 2, 3, 1)
    if config.shift:
        for index in range(batch_size):
            rows = int(torch.round((2 * uniform(1) - 1) * config.shift * height))
            if rows:
                source = (torch.arange(height) + rows).clamp_(0, height - 1)
                pixels[index] = pixels[index][:, source]

    noisy = chosen(config.noise)
    strength = torch.where(noisy, 255 * config.noise_std * uniform(batch_size), torch.zeros(()))
    if config.noise_std and noisy.any():
        # Drawing a normal for every value would cost as much as the conv head: take runs of a bank at random offsets.
        values = pixels[0, 0].numel()
        bank = torch.randn(max(BANK, values + LEAST_OFFSETS), generator=generator)
        offsets = torch.randint(0, len(bank) - values, (batch_size, frames.shape[1]), generator=generator)
        for index in noisy.nonzero().flatten().tolist():
            for step, offset in enumerate(offsets[index].tolist()):
                noise = bank[offset : offset + values].view(height, width, 3)
                pixels[index, step].add_(noise, alpha=float(strength[index]))
    return pixels.round_().clamp_(0, 255).to(torch.uint8), steering


def _shadow(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return gains `[H, W, 1]`: a half-plane is darkened to between 35 and 85 %, with a soft edge."""
    angle, offset, depth = torch.rand(3, generator=generator).tolist()
    rows = torch.linspace(-0.5, 0.5, height).view(-1, 1)
    columns = torch.linspace(-0.5, 0.5, width).view(1, -1)
    turn = torch.tensor(6.2832 * angle)
    distance = torch.cos(turn) * columns + torch.sin(turn) * rows - 0.6 * (offset - 0.5)
    return 1 - (0.15 + 0.5 * depth) * torch.sigmoid(40 * distance).unsqueeze(2)
