"""From the camera's frame to what a driver of somebody else takes: crop, size, colours, range, order of axes.

    fit = FrameFormat(66, 200, layout="CHW", range="-1..1", colour="yuv")
    pixels = fit(frames)  # uint8 [B, H, W, 3] → float32 [B, 3, 66, 200]

It is written in torch, so a gradient with regard to the frame goes through it. YUV is that of OpenCV (BT.601, full
range, chroma around 128).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from policies.preprocessing import Preprocessing

_LUMA = (0.299, 0.587, 0.114)
_YUV = ((0.299, 0.587, 0.114), (-0.147, -0.289, 0.436), (0.615, -0.515, -0.1))


@dataclass(frozen=True)
class FrameFormat:
    """What a driver takes."""

    height: int | None = None
    """Rows; those of the camera, after the crop, when None."""
    width: int | None = None
    """Columns; those of the camera, after the crop, when None."""
    layout: str = "HWC"
    """"CHW" or "HWC"."""
    range: str = "0..255"
    """"0..1", "-1..1" or "0..255"."""
    colour: str = "rgb"
    """"rgb", "bgr", "grey" (one channel) or "yuv"."""
    integer: bool = False
    """Whether pixels are uint8; `range` is 0..255 then."""
    crops: dict[str, int] = field(default_factory=dict)
    """Crops of the camera's frame by their names in `Preprocessing`, pixels."""

    def with_crops(self, crops: dict[str, int] | None) -> FrameFormat:
        """Return the same format behind other crops; as it is for None."""
        return self if crops is None else replace(self, crops=crops)

    @property
    def camera_size(self) -> tuple[int, int] | None:
        """Rows and columns that the camera is asked for; None where any size will do."""
        if self.height is None or self.width is None or any(self.crops.values()):
            return None
        return self.height, self.width

    def preprocessing(self, rows: int, columns: int) -> Preprocessing:
        """Return the crop and resize of a camera's frames of that size.

        Raises:
            ValueError: if nothing is left after the crop.
        """
        crops = {"crop_top": 0, "crop_bottom": 0, "crop_left": 0, "crop_right": 0, **self.crops}
        height = self.height or rows - crops["crop_top"] - crops["crop_bottom"]
        width = self.width or columns - crops["crop_left"] - crops["crop_right"]
        return Preprocessing(rows, columns, **crops, height=max(height, 1), width=max(width, 1))

    def __call__(self, frames: Tensor) -> Tensor:
        """Convert frames.

        Args:
            frames: `[B, H, W, 3]` RGB, uint8, or float32 in [0, 255] that require a gradient.

        Returns:
            `[B, C, h, w]` or `[B, h, w, C]`, float32 or uint8.
        """
        pixels = self.preprocessing(frames.shape[1], frames.shape[2])(frames)
        if self.integer and self.colour == "rgb":
            return pixels.permute(0, 3, 1, 2).contiguous() if self.layout == "CHW" else pixels
        pixels = pixels.float()
        if self.colour == "bgr":
            pixels = pixels.flip(-1)
        elif self.colour == "grey":
            pixels = (pixels * torch.tensor(_LUMA)).sum(-1, keepdim=True)
        elif self.colour == "yuv":
            pixels = pixels @ torch.tensor(_YUV).T + torch.tensor([0.0, 128.0, 128.0])
        if self.range == "0..1":
            pixels = pixels / 255.0
        elif self.range == "-1..1":
            pixels = pixels / 127.5 - 1.0
        if self.integer:
            pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 3, 1, 2).contiguous() if self.layout == "CHW" else pixels.contiguous()
