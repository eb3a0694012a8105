"""What several families need: blending, random textures, and where the ground lies in a frame.

Depths are counted in heights of the camera above the road: for a camera of that field of view and horizon they follow
from the row alone, on a model road as on a motorway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.perturbations.perturbation import Effect, Frame, Moment

FloatMap = NDArray[np.float32]
"""float32 `[H, W]`."""

_FARTHEST = 400.0
"""Depth of what lies at or above the horizon, camera heights."""


class StillFrame(Effect):
    """Does the same to every frame."""

    def __init__(self, change: Callable[[Frame], Any]):
        self._change = change

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        """Change a frame, which is left as it is, into a new one."""
        return np.asarray(self._change(frame), np.uint8)


class Overlay:
    """A picture that lies on every frame: x' = (1 − α) x + α c, with constant α and c."""

    def __init__(self, alpha: NDArray[np.floating], color: NDArray[np.floating]):
        """Prepare the two constant pictures of the blend.

        Args:
            alpha: `[H, W]` in [0, 1].
            color: in [0, 255], `[H, W, 3]` or `[3]`.
        """
        alpha3 = np.repeat(np.clip(alpha, 0.0, 1.0)[..., None], 3, axis=2).astype(np.float32)
        self._keep = np.rint(255.0 * (1.0 - alpha3)).astype(np.uint8)
        self._add = np.rint(np.clip(alpha3 * np.asarray(color, np.float32), 0.0, 255.0)).astype(np.uint8)

    def __call__(self, frame: Frame) -> Any:
        """Blend the picture over a frame."""
        return cv2.add(cv2.multiply(frame, self._keep, scale=1.0 / 255.0), self._add)


def to_grey_levels(values: NDArray[np.float32]) -> Frame:
    """Round and camera values to uint8; the given array is used up."""
    return np.rint(values, out=values).clip(0, 255, out=values).astype(np.uint8)


def table(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A look-up table for `cv2.LUT` from what the grey levels 0 to 255 become, `[256]` or `[256, 3]` in [0, 255]."""
    levels = np.rint(np.clip(values, 0.0, 255.0)).astype(np.uint8)
    return levels if levels.ndim == 1 else np.ascontiguousarray(levels[None])


def clouds(generator: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4) -> FloatMap:
    """A fractal texture that repeats without a seam: smooth noise of several sizes, each half as large and strong.

    Args:
        generator: owner of the draws.
        height: rows.
        width: columns.
        cell: size of the largest spots, pixels.
        octaves: sizes.

    Returns:
        float32 `[height, width]`, evenly spread over [0, 1].
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(1.0, cell / 2**octave)
        rows, columns = max(2, round(height / size)), max(2, round(width / size))
        coarse = generator.standard_normal((rows, columns), dtype=np.float32)
        wrapped = cv2.copyMakeBorder(coarse, 2, 2, 2, 2, cv2.BORDER_WRAP)
        total += 0.5**octave * cv2.remap(wrapped, *_stretch(rows, columns, height, width), cv2.INTER_CUBIC)
    # The normal distribution function spreads the values evenly.
    total *= 1.0 / float(total.std() or 1.0)
    return (1.0 / (1.0 + np.exp(-1.702 * (total - total.mean())))).astype(np.float32)


@lru_cache(maxsize=64)
def _stretch(rows: int, columns: int, height: int, width: int) -> tuple[Any, Any]:
    """Maps that blow a texture with a border of 2 up to a size."""
    across = (np.arange(width, dtype=np.float32) + 0.5) * np.float32(columns / width) + 1.5
    down = (np.arange(height, dtype=np.float32) + 0.5) * np.float32(rows / height) + 1.5
    maps = np.meshgrid(across.astype(np.float32), down.astype(np.float32))
    return cv2.convertMaps(maps[0], maps[1], cv2.CV_16SC2)


def cover(field: NDArray[np.floating], share: float, soft: float) -> FloatMap:
    """Turn a texture into a mask that covers a share of it, with soft edges.

    Args:
        field: `[H, W]`; where it is highest is covered.
        share: mean of the mask, about.
        soft: width of the edge, in units of the field.
    """
    if share <= 0.0:
        return np.zeros(field.shape, np.float32)
    edge = float(np.quantile(field, 1.0 - min(share, 1.0)))
    return np.clip((field - edge) / soft + 0.5, 0.0, 1.0).astype(np.float32)


class Geometry:
    """Where the flat ground lies in the frames of a level pinhole camera.

    Attributes:
        focal_px: focal length, pixels.
        horizon_px: row of the horizon.
        centre_px: column straight ahead.
        across: `[H, W]` columns from the middle, divided by the focal length.
        below: `[H, W]` rows below the horizon, divided by the focal length.
        depth: `[H, W]` distance ahead of the ground point, camera heights; large at and above the horizon.
        ground: `[H, W]` bool, below the horizon.
    """

    def __init__(self, camera: CameraInfo):
        self.focal_px = 0.5 * camera.width / math.tan(0.5 * min(camera.fov_rad, 2.9))
        self.horizon_px = camera.horizon * camera.height - 0.5
        self.centre_px = 0.5 * (camera.width - 1)
        columns = (np.arange(camera.width, dtype=np.float32) - self.centre_px) / self.focal_px
        rows = (np.arange(camera.height, dtype=np.float32) - self.horizon_px) / self.focal_px
        across, below = np.meshgrid(columns, rows)
        self.across: FloatMap = across.astype(np.float32)
        self.below: FloatMap = below.astype(np.float32)
        self.ground = self.below > 1.0 / _FARTHEST
        self.depth: FloatMap = np.where(self.ground, 1.0 / np.maximum(self.below, 1.0 / _FARTHEST), _FARTHEST).astype(
            np.float32
        )


def pixel_grid(camera: CameraInfo) -> tuple[FloatMap, FloatMap]:
    """`[H, W]` column and row of each pixel: the maps of a remap that changes nothing."""
    columns, rows = np.meshgrid(np.arange(camera.width, dtype=np.float32), np.arange(camera.height, dtype=np.float32))
    return columns, rows


def smear(frame: Frame, moves: list[tuple[Any, Any]]) -> Any:
    """Average over a path, 2^n samples in n steps: each step averages the picture with itself moved along.

    Args:
        frame: uint8 `[H, W, 3]`.
        moves: pairs of maps for `cv2.remap`, the k-th moving 2^k times as far as the first.
    """
    for first, second in moves:
        moved = cv2.remap(frame, first, second, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        frame = cv2.addWeighted(frame, 0.5, moved, 0.5, 0.0)  # type: ignore[assignment]
    return frame
