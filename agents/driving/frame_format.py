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


def fit_preprocessing(
    fit: Preprocessing, name: str, frame_size: tuple[int, int], crops: dict[str, int] | None
) -> Preprocessing:
    """Return how frames of a size are cropped and resized for a policy, by the crops that were given.

    Args:
        fit: the policy's own preprocessing.
        name: of the policy, for the error.
        frame_size: rows and columns of the frames.
        crops: by their names in `Preprocessing`; None when none was given.

    Raises:
        ValueError: if the size differs and no crop was given, or nothing is left after it.
    """
    rows, columns = frame_size
    if crops is None:
        if frame_size == (fit.source_height, fit.source_width):
            return fit
        guess = max(0, rows - round(columns * fit.height / fit.width))
        raise ValueError(
            f"the policy {name} takes frames of {fit.source_width}×{fit.source_height} pixels and these have "
            f"{columns}×{rows}: say how to fit them, such as --crop-top {guess} (then resized)."
        )
    return replace(fit, source_height=rows, source_width=columns, **crops)
