"""From a camera's frame to the policy's: crop, then resize. A negative crop adds pixels that repeat the edge.

Part of every policy and of its checkpoint, so whoever loads a policy needs nothing else:

    fit = Preprocessing(source_height=120, source_width=160, crop_top=40, height=48, width=96)
    small = fit(frames)  # uint8 [..., 120, 160, 3] → uint8 [..., 48, 96, 3]
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

Side = Annotated[int, Field(ge=1, le=16384)]
Crop = Annotated[int, Field(ge=-16384, le=16384)]


@dataclass(frozen=True, config={"extra": "forbid"})
class Preprocessing:
    """Crop and resize of a frame.

    Attributes:
        source_height: rows of the camera's frame, pixels.
        source_width: columns of the camera's frame, pixels.
        crop_top: rows cut off at the top, pixels of the source; negative for rows that repeat the first one.
        crop_bottom: rows cut off at the bottom, pixels of the source.
        crop_left: columns cut off on the left, pixels of the source.
        crop_right: columns cut off on the right, pixels of the source.
        crop_horizon: row of the horizon, pixels of the source. Rows that a negative `crop_bottom` adds go on from the
            last one as a straight road would, away from the vanishing point in the middle of this row; they repeat the
            last one where it is None.
        height: rows that the head sees, pixels.
        width: columns that the head sees, pixels.
    """

    source_height: Side = 48
    source_width: Side = 96
    crop_top: Crop = 0
    crop_bottom: Crop = 0
    crop_left: Crop = 0
    crop_right: Crop = 0
    crop_horizon: int | None = None
    height: Side = 48
    width: Side = 96

    def __post_init__(self) -> None:
        """Check that something is left after the crop."""
        rows = self.source_height - self.crop_top - self.crop_bottom
        columns = self.source_width - self.crop_left - self.crop_right
        seen = (
            self.source_height - max(self.crop_top, 0) - max(self.crop_bottom, 0),
            self.source_width - max(self.crop_left, 0) - max(self.crop_right, 0),
        )
        if min(rows, columns, *seen) < 1:
            raise ValueError(
                f"nothing is left of a {self.source_height}×{self.source_width} frame after cropping {self.crop_top} + "
                f"{self.crop_bottom} rows and {self.crop_left} + {self.crop_right} columns; crop less."
            )

    @property
    def _crops(self) -> tuple[int, int, int, int]:
        return self.crop_top, self.crop_bottom, self.crop_left, self.crop_right

    @cached_property
    def is_identity(self) -> bool:
        """Whether frames pass unchanged."""
        return (self.source_height, self.source_width) == (self.height, self.width) and not (any(self._crops))

    @cached_property
    def after(self) -> Preprocessing:
        """What is left to do to frames that have been through this: nothing."""
        return Preprocessing(self.height, self.width, height=self.height, width=self.width)

    def __call__(self, frames: Tensor) -> Tensor:
        """Crop, then resize by area averaging.

        Args:
            frames: `[..., source_height, source_width, 3]`, uint8; or float32 in [0, 255] that require a gradient,
                for attacks.

        Returns:
            `[..., height, width, 3]` of the same type, rounded to whole grey levels where it is uint8.

        Raises:
            ValueError: if the frames have another size or type.
        """
        expected = (self.source_height, self.source_width, 3)
        differentiable = frames.dtype == torch.float32 and frames.requires_grad
        if not (frames.dtype == torch.uint8 or differentiable) or tuple(frames.shape[-3:]) != expected:
            raise ValueError(
                f"this policy sees uint8 frames of {self.source_height}×{self.source_width}×3 pixels, got "
                f"{str(frames.dtype).removeprefix('torch.')} {'×'.join(map(str, frames.shape[-3:]))}. Record at that "
                "size, or say how to fit the frames (--crop-top, --crop-bottom: they are then resized)."
            )
        if self.is_identity:
            return frames
        top, bottom, left, right = (max(crop, 0) for crop in self._crops)
        frames = frames[..., top : self.source_height - bottom, left : self.source_width - right, :]
        leading = frames.shape[:-3]
        pixels = frames.reshape(-1, *frames.shape[-3:]).permute(0, 3, 1, 2).float()  # [N, 3, h, w]
        if self.crop_bottom < 0 and self.crop_horizon is not None:
            pixels = self._with_road(pixels, self.crop_horizon)
        if min(self._crops) < 0:
            top, bottom, left, right = (max(-crop, 0) for crop in self._crops)
            if self.crop_horizon is not None:
                bottom = 0  # drawn already
            pixels = functional.pad(pixels, (left, right, top, bottom), mode="replicate")
        pixels = functional.interpolate(pixels, size=(self.height, self.width), mode="bilinear", antialias=True)
        if not differentiable:
            pixels = pixels.round_().clamp_(0, 255).to(torch.uint8)
        pixels = pixels.permute(0, 2, 3, 1)
        return pixels.reshape(*leading, self.height, self.width, 3).contiguous()

    def _with_road(self, pixels: Tensor, horizon: int) -> Tensor:
        """Add rows at the bottom of `[N, 3, h, w]` in which lines go on straight, away from the vanishing point."""
        count, last = -self.crop_bottom, pixels.shape[-2] - 1
        reach = float(last - (horizon - max(self.crop_top, 0)))  # rows from the vanishing point to the last row
        middle = 0.5 * (self.source_width - 1) - max(self.crop_left, 0)
        columns = torch.arange(pixels.shape[-1], dtype=torch.float32, device=pixels.device)
        below = torch.arange(1, count + 1, dtype=torch.float32, device=pixels.device)
        nearer = (
            reach / (reach + below) if reach >= 1 else torch.ones_like(below)
        )  # no road is seen: the last row, again
        seen = (middle + (columns - middle) * nearer[:, None]).clamp(0, len(columns) - 1)  # [count, w]
        left = seen.floor().long().clamp(max=max(len(columns) - 2, 0))
        part = seen - left
        row = pixels[:, :, -1]
        added = row[:, :, left] * (1 - part) + row[:, :, (left + 1).clamp(max=len(columns) - 1)] * part
        return torch.cat([pixels, added], dim=-2)
