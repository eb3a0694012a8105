"""What a camera might have seen instead: flips, light, colour, blur, shadow, noise, shifts.

One draw for a whole window, so that a window stays coherent in time; only sensor noise is fresh in every frame. All
draws come from the caller's generator. Pixels are gone over once, from uint8 to uint8, in compiled code that holds no
interpreter lock: a thread that reads ahead does it while the network learns.

    frames, steering = augment(frames, steering, AugmentationConfig(), generator)
"""

from __future__ import annotations

from dataclasses import dataclass as plain
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from policies.kernels.jit import compiled, inlined

BANK = 1 << 20
"""Normal values that noise is taken from."""
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


@plain
class Draws:
    """What happens to each of B windows of T frames, H × W pixels."""

    flipped: NDArray[np.bool_]
    """`[B]` whether left and right are exchanged."""
    gain: NDArray[np.float32]
    """`[B, 3]` factor of each channel."""
    bias: NDArray[np.float32]
    """`[B]` added after it, grey levels."""
    shadow: NDArray[np.float32]
    """`[S, H, W]` factors of the windows in the shade."""
    shadow_of: NDArray[np.int64]
    """`[B]` which of them, −1 for none."""
    patch: NDArray[np.int64]
    """`[B, 4]` first row, first column, end row, end column of what is painted over; empty for nothing."""
    paint: NDArray[np.float32]
    """`[B, 3]` its colour, grey levels."""
    blurred: NDArray[np.bool_]
    """`[B]` whether a 3×3 mean is taken."""
    rows: NDArray[np.int64]
    """`[B]` rows that the frame is moved up by, down when negative; the edge is repeated."""
    noise: NDArray[np.float32]
    """`[N]` normal draws."""
    begins: NDArray[np.int64]
    """`[B, T]` where in `noise` the noise of a frame begins."""
    strength: NDArray[np.float32]
    """`[B]` standard deviation of the noise, grey levels."""


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
    draws = draw(frames.shape, config, generator)
    changed = apply(frames.contiguous().numpy(), draws)
    signs = torch.from_numpy(np.where(draws.flipped, -1, 1)).to(steering.dtype)
    # Plus zero, for no label becomes −0.
    return torch.from_numpy(changed), steering * signs[:, None] + 0.0


def draw(shape: torch.Size, config: AugmentationConfig, generator: torch.Generator) -> Draws:
    """Draw what happens to frames `[B, T, H, W, 3]`."""
    batch_size, steps, height, width, _ = shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def chosen(probability: float) -> NDArray[np.bool_]:
        return (uniform(batch_size) < probability).numpy()

    flipped = chosen(config.flip)
    contrast = 1 + config.contrast * (2 * uniform(batch_size, 1) - 1)  # turns about mid-grey
    gain = contrast * (1 + config.colour * (2 * uniform(batch_size, 3) - 1))
    bias = 255 * config.brightness * (2 * uniform(batch_size, 1) - 1) + 127.5 * (1 - contrast)
    shaded = chosen(config.shadow)
    shadows = [_shadow(height, width, generator) for _ in range(int(shaded.sum()))]
    patched = chosen(config.patch)
    patch, paint = np.zeros((batch_size, 4), np.int64), np.zeros((batch_size, 3), np.float32)
    for index in np.flatnonzero(patched):
        top, left, rows, columns = (uniform(4) * torch.tensor([height, width, height / 2, width / 2])).int().tolist()
        patch[index] = top, left, min(top + rows + 1, height), min(left + columns + 1, width)
        paint[index] = (255 * uniform(3)).numpy()
    blurred = chosen(config.blur)
    moved = np.zeros(batch_size, np.int64)
    if config.shift:
        moved = torch.round((2 * uniform(batch_size) - 1) * config.shift * height).long().numpy()
    noisy = chosen(config.noise)
    strength = np.where(noisy, (255 * config.noise_std * uniform(batch_size)).numpy(), np.float32(0))
    noise, begins = np.zeros(0, np.float32), np.zeros((batch_size, steps), np.int64)
    if strength.any():
        values = height * width * 3
        noise = _bank(max(BANK, values + LEAST_OFFSETS))
        begins = torch.randint(0, len(noise) - values, (batch_size, steps), generator=generator).numpy()
    return Draws(
        flipped,
        gain.numpy(),
        bias[:, 0].numpy(),
        torch.stack(shadows).numpy() if shadows else np.zeros((0, height, width), np.float32),
        np.where(shaded, np.cumsum(shaded) - 1, -1),
        patch,
        paint,
        blurred,
        moved,
        noise,
        begins,
        strength.astype(np.float32),
    )


def apply(frames: NDArray[np.uint8], draws: Draws) -> NDArray[np.uint8]:
    """Change frames uint8 `[B, T, H, W, 3]` as was drawn; in the order of the fields of `Draws`."""
    out = np.empty_like(frames)
    lines = frames.reshape(*frames.shape[:3], -1)  # [B, T, H, W·3]
    _compiled(
        lines,
        out.reshape(lines.shape),
        draws.flipped,
        draws.gain,
        draws.bias,
        np.repeat(draws.shadow, 3, axis=2),
        draws.shadow_of,
        draws.patch,
        draws.paint,
        draws.blurred,
        draws.rows,
        draws.noise,
        draws.begins,
        draws.strength,
    )
    return out


def _apply(  # noqa: PLR0913 - compiled code takes arrays, no objects
    frames: NDArray[np.uint8],
    out: NDArray[np.uint8],
    flipped: NDArray[np.bool_],
    gain: NDArray[np.float32],
    bias: NDArray[np.float32],
    shadow: NDArray[np.float32],
    shadow_of: NDArray[np.int64],
    patch: NDArray[np.int64],
    paint: NDArray[np.float32],
    blurred: NDArray[np.bool_],
    rows: NDArray[np.int64],
    noise: NDArray[np.float32],
    begins: NDArray[np.int64],
    strength: NDArray[np.float32],
) -> None:
    """Go over the pixels; frames and out `[B, T, H, W·3]`, shadow `[S, H, W·3]`, the rest as in `Draws`."""
    batch_size, steps, height, values = frames.shape
    pixels = np.empty((height, values), np.float32)
    above = np.empty(values, np.float32)
    scale = np.empty(values, np.float32)
    for b in range(batch_size):
        for i in range(values):
            scale[i] = gain[b, i % 3]
        offset = bias[b]
        shade = shadow_of[b]
        top, left, end_row, end_column = patch[b, 0], 3 * patch[b, 1], patch[b, 2], 3 * patch[b, 3]
        for t in range(steps):
            for y in range(height):
                line = frames[b, t, y]
                here = pixels[y]
                if flipped[b]:
                    for x in range(0, values, 3):
                        for c in range(3):
                            here[x + c] = np.float32(line[values - 3 - x + c]) * scale[c] + offset
                else:
                    for i in range(values):
                        here[i] = np.float32(line[i]) * scale[i] + offset
                if shade >= 0:
                    dark = shadow[shade, y]
                    for i in range(values):
                        here[i] *= dark[i]
                if top <= y < end_row:
                    for i in range(left, end_column):
                        here[i] = paint[b, i % 3]
            if blurred[b] and height > 1 and values > 3:
                _blur(pixels, above)
            for y in range(height):
                here = pixels[min(max(y + rows[b], 0), height - 1)]
                there = out[b, t, y]
                if strength[b] > 0:
                    start = begins[b, t] + y * values
                    grain = noise[start : start + values]
                    level = strength[b]
                    for i in range(values):
                        value = here[i] + level * grain[i]
                        there[i] = np.uint8(min(max(value, np.float32(0)), np.float32(255)) + np.float32(0.5))
                else:
                    for i in range(values):
                        there[i] = np.uint8(min(max(here[i], np.float32(0)), np.float32(255)) + np.float32(0.5))


def _blur_lines(pixels: NDArray[np.float32], above: NDArray[np.float32]) -> None:
    """Take the 3×3 mean of `[H, W·3]` in place, edges over what is there; `above` `[W·3]` is scratch."""
    height, values = pixels.shape
    for y in range(height):  # along the rows
        line = pixels[y]
        for i in range(values):
            above[i] = line[i]
        line[0:3] = (above[0:3] + above[3:6]) * np.float32(0.5)
        for i in range(3, values - 3):
            line[i] = (above[i - 3] + above[i] + above[i + 3]) * np.float32(1 / 3)
        line[values - 3 :] = (above[values - 6 : values - 3] + above[values - 3 :]) * np.float32(0.5)
    for i in range(values):
        above[i] = pixels[0, i]
    for y in range(height):  # and down the columns; `above` keeps the line before as it was
        line = pixels[y]
        if y == 0:
            below = pixels[1]
            for i in range(values):
                line[i] = (above[i] + below[i]) * np.float32(0.5)
        elif y == height - 1:
            for i in range(values):
                line[i] = (above[i] + line[i]) * np.float32(0.5)
        else:
            below = pixels[y + 1]
            for i in range(values):
                was = line[i]
                line[i] = (above[i] + was + below[i]) * np.float32(1 / 3)
                above[i] = was


_blur = inlined(_blur_lines)
_compiled = compiled(_apply)


@lru_cache(maxsize=2)
def _bank(size: int) -> NDArray[np.float32]:
    """Return normal values that are always the same ones.

    Drawing a normal for every pixel would cost as much as the conv head: frames take runs of them from random places.
    """
    return np.random.default_rng(0).standard_normal(size, np.float32)


def _shadow(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return gains `[H, W]`: a half-plane is darkened to between 35 and 85 %, with a soft edge."""
    angle, offset, depth = torch.rand(3, generator=generator).tolist()
    rows = torch.linspace(-0.5, 0.5, height).view(-1, 1)
    columns = torch.linspace(-0.5, 0.5, width).view(1, -1)
    turn = torch.tensor(6.2832 * angle)
    distance = torch.cos(turn) * columns + torch.sin(turn) * rows - 0.6 * (offset - 0.5)
    return 1 - (0.15 + 0.5 * depth) * torch.sigmoid(40 * distance)
