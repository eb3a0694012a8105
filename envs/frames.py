"""Kinds of frames: type, range, layout and channels, and the way to uint8 `[H, W, 3]` and back.

Perturbations work on uint8 `[H, W, 3]` RGB. Other frames are taken there and back, so that they keep their type, their
range and their shape: float16 to float64 within declared bounds, channels first or last, grey or RGB. Whatever else
comes is refused.

    kind = FrameKind.of_space(spaces.Box(0.0, 1.0, (1, 84, 84), np.float32))
    kind.restore(perturbed(kind.to_rgb(frame)), frame)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

ACCEPTED = (
    "uint8 in [0, 255] or floats within finite bounds, [H, W, C], [C, H, W] or [H, W], with C = 1 (grey) or 3 (RGB)"
)
"""What frames may be, for errors."""


@dataclass(frozen=True)
class FrameKind:
    """How frames of one source are kept."""

    shape: tuple[int, ...]
    """Of a frame."""
    dtype: str = "uint8"
    """Name of the type of its numbers."""
    low: float = 0.0
    """What black is."""
    high: float = 255.0
    """What white is."""
    channels_first: bool = False
    """Whether the shape is `[C, H, W]` instead of `[H, W, C]`."""

    @classmethod
    def of_space(cls, space: Any) -> FrameKind:
        """Read the kind from an observation space.

        Raises:
            ValueError: if frames of that space are not accepted.
        """
        if not isinstance(space, spaces.Box):
            raise ValueError(f"frames must be {ACCEPTED}; got the space {space}.")
        low, high = float(space.low.min()), float(space.high.max())
        even = bool((space.low == low).all() and (space.high == high).all())
        if not (even and np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(f"frames must be {ACCEPTED}; got the bounds [{low}, {high}] of {space}.")
        return cls._checked(space.shape, space.dtype, low, high)

    @classmethod
    def of_frame(cls, frame: NDArray[Any]) -> FrameKind:
        """Read the kind from a frame; floats are taken to lie in [0, 1].

        Raises:
            ValueError: if such frames are not accepted.
        """
        whole = frame.dtype == np.uint8
        return cls._checked(frame.shape, frame.dtype, 0.0, 255.0 if whole else 1.0)

    @classmethod
    def _checked(cls, shape: tuple[int, ...], dtype: Any, low: float, high: float) -> FrameKind:
        dtype = np.dtype(dtype)
        last = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
        first = len(shape) == 3 and shape[0] in (1, 3) and not last
        whole = dtype == np.uint8 and (low, high) == (0.0, 255.0)
        if not (last or first) or 0 in shape or not (whole or dtype.kind == "f"):
            raise ValueError(f"frames must be {ACCEPTED}; got {dtype} {tuple(shape)} in [{low:g}, {high:g}].")
        return cls(tuple(shape), dtype.name, low, high, first)

    @property
    def plain(self) -> bool:
        """Whether frames are uint8 `[H, W, 3]` already."""
        return self.dtype == "uint8" and len(self.shape) == 3 and self.shape[2] == 3 and not self.channels_first

    @property
    def grey(self) -> bool:
        """Whether there is one channel."""
        return len(self.shape) == 2 or self.shape[0 if self.channels_first else 2] == 1

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.shape[1], self.shape[2]) if self.channels_first else (self.shape[0], self.shape[1])

    def check(self, frame: Any) -> None:
        """Check that a frame is of this kind; floats may leave their range by a ten-thousandth.

        Raises:
            ValueError: if it is not.
        """
        if not isinstance(frame, np.ndarray) or frame.shape != self.shape or frame.dtype != self.dtype:
            got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ValueError(f"expected frames {self.dtype} {self.shape}, got {got}.")
        if self.dtype != "uint8":
            least, most, slack = float(frame.min()), float(frame.max()), 1e-4 * (self.high - self.low)
            if not (self.low - slack <= least and most <= self.high + slack):
                raise ValueError(
                    f"expected float frames in [{self.low:g}, {self.high:g}], got values from {least:g} to {most:g}. "
                    "Frames in another range need a Box with those bounds."
                )

    def to_rgb(self, frame: NDArray[Any]) -> NDArray[np.uint8]:
        """Take a frame to uint8 `[H, W, 3]`; floats are rounded to 256 levels of their range.

        Raises:
            ValueError: if it is not of this kind.
        """
        self.check(frame)
        if self.plain:
            return frame
        if self.channels_first:
            frame = frame.transpose(1, 2, 0)
        elif frame.ndim == 2:
            frame = frame[..., None]
        if self.dtype != "uint8":
            levels = (frame.astype(np.float64) - self.low) * (255.0 / (self.high - self.low))
            frame = np.rint(levels).clip(0.0, 255.0).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame)

    def restore(self, picture: NDArray[np.uint8], frame: NDArray[Any]) -> NDArray[Any]:
        """Take a changed picture back to this kind.

        Args:
            picture: uint8 `[H, W, 3]`.
            frame: the frame that the picture was made from, which is given back where it is still the same.
        """
        if self.plain:
            return picture
        if np.array_equal(picture, self.to_rgb(frame)):
            return frame
        shown: NDArray[Any] = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))[..., None] if self.grey else picture
        if self.dtype != "uint8":
            shown = (self.low + shown * ((self.high - self.low) / 255.0)).astype(self.dtype)
        if self.channels_first:
            shown = shown.transpose(2, 0, 1)
        return np.ascontiguousarray(shown.reshape(self.shape))
