"""How wide the lane is that the camera looks down, in heights of the camera, from the frames alone.

Frames are drawn from above, over the flat road (`envs.camera.plane`). Painted lines are narrow, brighter than what lies
beside them, and longer than specks: a white top-hat (Serra 1982) across the road keeps them. In every row that has one
on either side of the camera, the two nearest are so far apart; over all frames that distance piles up at the lane's
width. Reflections and cracks do not pile up anywhere.

    found = estimate_lane(frames, CameraParams(height_m=1.0, hfov_deg=90), horizon=0.35)
    found.width_heights, found.is_sure
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.lens import CameraParams, pitch_for_horizon
from envs.camera.plane import View

STEP = 0.05
"""Size of a pixel of the view from above, heights of the camera."""
REACH = 2.7
"""How far beyond the nearest visible road rows are taken, heights."""
ASIDE = 7.0
"""How far to the sides, heights."""
LINE = 0.6
"""Widest line, heights."""
LONG = 0.35
"""Shortest piece of a line, heights."""
CONTRASTS = (15, 25, 40, 60)
"""Grey levels by which a line is brighter than what lies beside it, tried in turn: floors differ."""
WIDTHS = np.arange(0.5, 12.0, 0.1)
"""Widths that are told apart, heights."""
AGREE = 0.12
"""Widths this near to the estimate, as a share of it, agree with it."""
LEAST_AGREEING, LEAST_ROWS = 0.25, 0.1
"""Share of the rows that agree, and share of all rows that have lines on both sides, from which on it counts."""


@dataclass(frozen=True)
class LaneEstimate:
    """What the frames say of the lane."""

    width_heights: float
    """Distance between the nearest lines to the left and to the right of the camera, in its heights."""
    agreeing: float
    """Share of the rows with lines on both sides that agree with it, in [0, 1]."""
    rows: float
    """Share of all rows that have lines on both sides, in [0, 1]."""

    @property
    def is_sure(self) -> bool:
        """Whether it may be relied on."""
        return self.agreeing >= LEAST_AGREEING and self.rows >= LEAST_ROWS


def estimate_lane(frames: NDArray[np.uint8], camera: CameraParams, horizon: float) -> LaneEstimate:
    """Estimate the width of the lane.

    Args:
        frames: uint8 `[N, H, W, 3]`, spread over a drive; some 50 do.
        camera: its field of view and lens; its height is the unit.
        horizon: its height in the frames, 0 at the top, 1 at the bottom.
    """
    places, seen, across = _from_above(frames.shape[1:3], camera, horizon)
    size = int(LINE / STEP) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (size, 1))
    ridges: list[Any] = []
    for frame in frames:
        above = cv2.remap(  # type: ignore[call-overload]
            np.ascontiguousarray(frame), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        bright = above[..., :2].max(axis=-1)  # red or green: white and yellow lines alike
        ridges.append(cv2.morphologyEx(bright, cv2.MORPH_TOPHAT, kernel))
    found = [_widths(ridges, seen, across, contrast) for contrast in CONTRASTS]
    return max(found, key=lambda one: one.agreeing if one.rows >= LEAST_ROWS else -1.0)


def _from_above(
    size: tuple[int, ...], camera: CameraParams, horizon: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """Where the pixels of the view from above lie in the frame, which of them it shows, and how far left they are."""
    height, width = size[0], size[1]
    view = View(pitch_for_horizon(camera, height, width, horizon), height, width)
    points, _ = view.points()
    nearest = float(points[-1, width // 2, 0]) / camera.height_m
    ahead = np.arange(nearest + 0.2, nearest + REACH, STEP)[::-1] * camera.height_m
    across: NDArray[np.float64] = np.arange(ASIDE, -ASIDE - 1e-9, -STEP)
    x, y = np.meshgrid(ahead, across * camera.height_m, indexing="ij")
    pixels = view.pixels(np.stack([x, y, np.zeros_like(x)], axis=-1))
    with np.errstate(invalid="ignore"):
        inside = (pixels >= 0) & (pixels <= [width - 1, height - 1])  # not where NaN says that the lens draws nothing
    seen = inside[..., 0] & inside[..., 1]
    return np.where(seen[..., None], pixels, -9.0).astype(np.float32), seen, across


def _widths(
    ridges: list[NDArray[np.uint8]], seen: NDArray[np.bool_], across: NDArray[np.float64], contrast: int
) -> LaneEstimate:
    """The distance between the nearest lines on both sides that most rows have."""
    found = []
    rows = 0
    for ridge in ridges:
        marked = ((ridge > contrast) & seen).astype(np.uint8)
        count, labels, facts, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
        long = np.zeros(count, bool)
        long[1:] = facts[1:, cv2.CC_STAT_HEIGHT] * STEP >= LONG
        lines = long[labels]
        rows += len(lines)
        for row in lines:
            left, right = np.flatnonzero(row & (across > 0)), np.flatnonzero(row & (across < 0))
            if len(left) and len(right):
                found.append(_middle(row, across, left[-1], -1) - _middle(row, across, right[0], 1))
    if not found:
        return LaneEstimate(0.0, 0.0, 0.0)
    widths = np.array(found)
    piled = np.histogram(widths, WIDTHS)[0].astype(np.float64)
    bell = np.exp(-0.5 * (np.arange(-6, 7) / 2.5) ** 2)
    best = float(WIDTHS[np.convolve(piled, bell, "same").argmax()] + 0.5 * (WIDTHS[1] - WIDTHS[0]))
    near = np.abs(widths - best) < AGREE * best
    return LaneEstimate(best, float(near.mean()), len(widths) / rows)


def _middle(row: NDArray[np.bool_], across: NDArray[np.float64], at: int, way: int) -> float:
    """Middle of the line whose inner edge is at a column."""
    end = at
    while 0 <= end + way < len(row) and row[end + way]:
        end += way
    return float(0.5 * (across[at] + across[end]))
