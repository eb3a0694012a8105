"""Where the horizon and the bonnet are in a camera's frames, from the frames alone: no labels, nothing trained.

Lines painted along a road meet, in the picture, on the horizon. Every two line segments of one frame that lean towards
each other vote, by their lengths, for the row in which they meet; over many frames the votes pile up at the horizon.
The bonnet is what stays the same at the bottom while the rest of the picture changes.

    found = estimate_view(frames)          # uint8 [N, H, W, 3], some 50 frames spread over a drive
    found.horizon_row, found.crops         # 61.5, {"crop_top": 43, "crop_bottom": 0, ...}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeSet

LOOKS = 60
"""Frames that `frames_of` takes from a recording."""
HORIZON_SHARE = 0.3
"""Height of the horizon in the cropped frame, as the standard camera of LaneKeeping has it: 0 top, 1 bottom."""
LEAST_SEGMENT = 0.06
"""Length of a line segment that votes, share of the frame's width."""
STEEPEST, FLATTEST = 4.0, 0.12
"""Slopes of the segments that vote, rows a column: poles and the horizon itself do not."""
LEAST_VOTES = 30
"""Pairs of segments that an estimate is made from, at least."""
SHARP = 0.35
"""Share of the votes near the estimate from which it is to be relied on."""
RIM = 10.0
"""Grey levels by which the mean frame changes over two rows at the rim of a bonnet, at least."""
STILL = 0.7
"""Deviation over time below that rim, relative to that above, up to which it is a bonnet."""


@dataclass(frozen=True)
class ViewEstimate:
    """What the frames say of their camera."""

    horizon_row: float | None
    """Row of the horizon, pixels from the top; None where too few lines meet."""
    sharpness: float
    """Share of the votes that lie within 4 % of the rows around it, in [0, 1]."""
    bonnet_rows: int
    """Rows at the bottom that never change."""
    height: int
    """Rows of the frames."""
    width: int
    """Columns of the frames."""

    @property
    def is_sure(self) -> bool:
        """Whether the horizon may be relied on."""
        return self.horizon_row is not None and self.sharpness >= SHARP

    @property
    def horizon(self) -> float | None:
        """Height of the horizon in the frame: 0 at the top, 1 at the bottom."""
        return None if self.horizon_row is None else self.horizon_row / self.height

    @property
    def crops(self) -> dict[str, int]:
        """What to cut off, pixels, by the names in `policies.preprocessing`.

        The bonnet goes, and of the sky so much that the horizon stands where LaneKeeping's standard camera has it.
        """
        end = self.height - self.bonnet_rows
        top = 0
        if self.horizon_row is not None and self.horizon_row < end - 8:
            top = max(0, round(end - (end - self.horizon_row) / (1.0 - HORIZON_SHARE)))
        return {"crop_top": top, "crop_bottom": self.bonnet_rows, "crop_left": 0, "crop_right": 0}


def frames_of(episodes: EpisodeSet, count: int = LOOKS) -> NDArray[np.uint8]:
    """Take frames, evenly spread over what a recording's centre camera saw.

    Args:
        episodes: with pictures of one size.
        count: frames at most.

    Returns:
        uint8 `[N, H, W, 3]`.
    """
    episodes = episodes.centre if len(episodes.centre) else episodes
    ends = np.cumsum([len(episode) for episode in episodes])
    chosen = np.unique(np.linspace(0, ends[-1] - 1, min(count, int(ends[-1]))).astype(int))
    taken = []
    for step in chosen:
        number = int(np.searchsorted(ends, step, side="right"))
        at = int(step - (ends[number] - len(episodes[number])))
        taken.append(episodes[number].frames(at, at + 1)[0])
    return np.stack(taken)


def estimate_view(frames: NDArray[np.uint8]) -> ViewEstimate:
    """Estimate horizon and bonnet.

    Args:
        frames: uint8 `[N, H, W, 3]`, spread over a drive; some 50 do.

    Raises:
        ValueError: if there is no frame.
    """
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"frames [N, H, W, 3] were expected, got shape {list(frames.shape)}.")
    _, height, width, _ = frames.shape
    bonnet = _bonnet(frames)
    rows, weights = _votes(frames[:, : height - bonnet])
    if len(rows) < LEAST_VOTES:
        return ViewEstimate(None, 0.0, bonnet, height, width)
    inside = (rows > -0.5 * height) & (rows < 0.95 * height)
    rows, weights = rows[inside], weights[inside]
    spread = 0.02 * height
    grid = np.arange(-0.5 * height, 0.95 * height, 0.5)
    density = (weights * np.exp(-0.5 * ((grid[:, None] - rows) / spread) ** 2)).sum(axis=1)
    best = float(grid[density.argmax()])
    near = np.abs(rows - best) <= 0.04 * height
    sharpness = float(weights[near].sum() / weights.sum())
    if near.any():
        best = float(np.average(rows[near], weights=weights[near]))
    return ViewEstimate(best, sharpness, bonnet, height, width)


def _votes(frames: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows in which pairs of segments meet, and their weights."""
    detector = cv2.createLineSegmentDetector(cv2.LSD_REFINE_NONE)
    rows: list[NDArray[np.float64]] = [np.zeros(0)]
    weights: list[NDArray[np.float64]] = [np.zeros(0)]
    for frame in frames:
        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        scale = max(1, round(160 / frame.shape[1]))  # the detector needs segments of some ten pixels
        if scale > 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        found = detector.detect(grey)[0]
        if found is None:
            continue
        segments = (np.asarray(found, np.float64).reshape(-1, 4) + 0.5) / scale - 0.5  # [S, 4] x1, y1, x2, y2
        across, down = segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1]
        length = np.hypot(across, down)
        slope = down / np.where(np.abs(across) < 1e-6, 1e-6, across)
        keep = (length > LEAST_SEGMENT * frame.shape[1]) & (np.abs(slope) > FLATTEST) & (np.abs(slope) < STEEPEST)
        segments, length, slope = segments[keep], length[keep], slope[keep]
        left, right = np.flatnonzero(slope < 0), np.flatnonzero(slope > 0)  # leaning to the right, to the left
        if not len(left) or not len(right):
            continue
        a, b = (grid.ravel() for grid in np.meshgrid(left, right, indexing="ij"))
        x = (segments[b, 1] - slope[b] * segments[b, 0]) - (segments[a, 1] - slope[a] * segments[a, 0])
        x = x / (slope[a] - slope[b])
        y = segments[a, 1] + slope[a] * (x - segments[a, 0])
        # They meet above both, and the one that leans right stands on the left.
        tops = np.minimum(segments[:, 1], segments[:, 3])
        middles = 0.5 * (segments[:, 0] + segments[:, 2])
        good = (y <= np.minimum(tops[a], tops[b]) + 1.0) & (middles[a] < middles[b])
        apart = np.abs(np.arctan(slope[a]) - np.arctan(slope[b]))  # a flat angle says where they meet badly
        rows.append(y[good])
        weights.append((length[a] * length[b] * np.sin(apart))[good])
    return np.concatenate(rows), np.concatenate(weights)


def _bonnet(frames: NDArray[np.uint8]) -> int:
    """Count the rows at the bottom below a rim that stands still, up to 40 % of the frame; 0 without one.

    Even asphalt hardly changes either; but a bonnet has a rim, which the mean of all frames keeps and blurs all else.
    """
    if len(frames) < 8:
        return 0
    height, width = frames.shape[1:3]
    middle = frames[:, :, width // 3 : -(width // 3)].astype(np.float32).mean(axis=3)  # [N, H, w]
    mean, deviation = middle.mean(axis=0), np.median(middle.std(axis=0), axis=1)
    step = np.zeros(height)
    step[1:-1] = np.median(np.abs(mean[2:] - mean[:-2]), axis=1)
    lowest = round(0.6 * height)
    rim = lowest + int(step[lowest:].argmax())
    above, below = deviation[max(rim - height // 8, 0) : rim - 1], deviation[rim + 1 :]
    if step[rim] < RIM or not len(below) or np.median(below) > STILL * np.median(above):
        return 0
    return height - rim
