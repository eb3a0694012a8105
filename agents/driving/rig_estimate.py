"""How fast a recorded car moved and turned, from its frames: no pose, no speed, nothing trained.

A frame that is redrawn over the flat road from where the car was a moment later looks like the frame that was taken
then. For pairs of frames a moment apart, every way ahead (in heights of the camera) and every turn of a grid is tried,
and the two are compared by normalised correlation of their fine detail. Way over time is the speed in camera heights;
turn over way, against what was steered, is the curvature at full lock; the delay at which they agree best is the car's.

    found = estimate_rig(episodes, CameraParams(height_m=0.15, hfov_deg=110), horizon=0.28)
    found.way_heights_per_s, found.full_lock_curvature_heights, found.steering_lag_s, found.is_sure

A height cannot be told from pictures: twice the height with twice the speed looks the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeSet
from envs.camera.lens import CameraParams, FloatArray, pitch_for_horizon
from envs.camera.plane import Pose, Reprojector, View

PAIRS = 40
"""Pairs of frames that are compared, at most."""
APART_S = 0.15
"""Time between the two frames of a pair, s."""
WIDTH = 64
"""Columns that frames are shrunk to."""
DETAIL = 3.0
"""Detail finer than this counts, pixels of the small frames: lamps that are mirrored in a floor do not."""
MOST_DETAIL = 40.0
"""Grey levels at which detail is clipped."""
TURNS_PX = np.arange(-10.0, 10.5, 1.0)
"""Turns that are tried, pixels of the small frames."""
WAYS_HEIGHTS = 0.03 * 1.4 ** np.arange(17)
"""Ways that are tried, heights of the camera."""
LAGS_S = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4)
"""Time constants of the steering that are tried, s."""
SETTLING_S = 1.0
"""Steering before a pair that counts for where the wheels are, s."""
LEAST_MATCH = 0.25
"""Correlation of a pair from which on its turn counts."""
LEAST_PAIRS, LEAST_AGREEMENT = 15, 0.6
"""Pairs that count, and correlation of their turns with the steering, from which on an estimate is to be relied on."""


@dataclass(frozen=True)
class RigEstimate:
    """What the frames say of the car."""

    hfov_deg: float
    """Field of view with which frames agree best, or that was given, degrees."""
    way_heights_per_s: float
    """Speed, heights of the camera a second; a factor to the recorded speed (1/m) where that was given."""
    full_lock_curvature_heights: float
    """Curvature at full lock, 1 / (height of the camera)."""
    steering_lag_s: float
    """Time constant with which the car follows its steering, s."""
    agreement: float
    """Correlation of the turns in the pictures with what was steered."""
    match: float
    """Mean correlation of redrawn and later frames."""
    pairs: int
    """Pairs that counted."""

    @property
    def is_sure(self) -> bool:
        """Whether it may be relied on."""
        return self.pairs >= LEAST_PAIRS and self.agreement >= LEAST_AGREEMENT


@dataclass(frozen=True)
class _Pair:
    """Two frames, small and with fine detail only, and what was steered up to the second."""

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    time_s: FloatArray
    steering: FloatArray
    start: int  # of the first frame in these arrays, whose last entry is that of the second
    way: float  # by the recorded speed; the time between them where there is none


def estimate_rig(
    episodes: EpisodeSet | Sequence[Episode], camera: CameraParams, horizon: float, hfovs_deg: Sequence[float] = ()
) -> RigEstimate | None:
    """Estimate speed, curvature at full lock and delay.

    Args:
        episodes: with pictures of one camera; a column `speed_mps` counts.
        camera: its height is the unit; its field of view counts unless others are given.
        horizon: its height in the frame, 0 at the top, 1 at the bottom.
        hfovs_deg: fields of view to choose from.

    Returns:
        None where there are too few frames, or none moves.
    """
    pairs = _pairs(list(episodes))
    if len(pairs) < LEAST_PAIRS:
        return None
    if len(hfovs_deg) > 1:
        few = pairs[:: max(1, len(pairs) // LEAST_PAIRS)]
        best = max(hfovs_deg, key=lambda one: _match(few, replace(camera, hfov_deg=one), horizon))
        camera = replace(camera, hfov_deg=best)
    elif hfovs_deg:
        camera = replace(camera, hfov_deg=hfovs_deg[0])
    return _estimate(pairs, camera, horizon)


def _pairs(episodes: Sequence[Episode]) -> list[_Pair]:
    """Take pairs of frames, evenly spread over all episodes."""
    places = []
    for episode in episodes:
        gap = max(1, round(APART_S / episode.meta.nominal_period_s))
        settle = max(1, round(SETTLING_S / episode.meta.nominal_period_s))
        places += [(episode, at, gap, settle) for at in range(min(settle, len(episode) // 2), len(episode) - gap)]
    if not places:
        return []
    chosen = np.unique(np.linspace(0, len(places) - 1, PAIRS).astype(int))
    pairs = []
    for episode, at, gap, settle in (places[i] for i in chosen):
        begin = max(0, at - settle)
        frames = [_detail(episode.frames(step, step + 1)[0]) for step in (at, at + gap)]
        time_s = np.asarray(episode.time_s[begin : at + gap + 1], np.float64)
        way = float(time_s[-1] - time_s[at - begin])
        speed = episode.extras.get("speed_mps")
        if speed is not None:
            way *= float(np.mean(speed[at : at + gap]))
        if not way > 0.0:  # it stands, or the speed is not known there
            continue
        steering = np.asarray(episode.steering[begin : at + gap + 1], np.float64)
        pairs.append(_Pair(frames[0], frames[1], time_s, steering, at - begin, way))
    return pairs


def _detail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = max(8, round(WIDTH * frame.shape[0] / frame.shape[1]))
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (WIDTH, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    soft = cv2.GaussianBlur(small, (0, 0), 0.7)
    return np.clip(soft - cv2.GaussianBlur(soft, (0, 0), DETAIL), -MOST_DETAIL, MOST_DETAIL)


def _match(pairs: Sequence[_Pair], camera: CameraParams, horizon: float) -> float:
    """How well redrawn and later frames agree, at best."""
    return float(_along_ways(pairs, _matches(pairs, camera, horizon))[1].max())


def _along_ways(pairs: Sequence[_Pair], matches: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logarithms of factors from the recorded speed, or from time, to heights, and how well all pairs match with each.

    Args:
        pairs: P of them.
        matches: `[P, turns, ways]`.
    """
    logs, own = np.log(WAYS_HEIGHTS), np.log([pair.way for pair in pairs])
    best_turn = matches.max(axis=1)  # [P, ways]
    tried = np.arange(logs[0], logs[-1], 0.05) - np.median(own)
    found = [
        np.mean([np.interp(x, logs, row, left=0.0, right=0.0) for x, row in zip(own + one, best_turn, strict=True)])
        for one in tried
    ]
    return tried, np.array(found)


def _estimate(pairs: Sequence[_Pair], camera: CameraParams, horizon: float) -> RigEstimate | None:
    matches = _matches(pairs, camera, horizon)
    tried, total = _along_ways(pairs, matches)
    factor = float(tried[total.argmax()])
    logs = np.log(WAYS_HEIGHTS)
    at = np.clip(np.log([pair.way for pair in pairs]) + factor, logs[0], logs[-1])
    ways = np.exp(at)
    turns, match = np.empty(len(pairs)), np.empty(len(pairs))
    for row, one in enumerate(matches):
        turns[row], match[row] = _peak(np.array([np.interp(at[row], logs, values) for values in one]))
    focal_px = camera.focal_px(WIDTH)[0]
    good = match >= LEAST_MATCH
    if good.sum() < LEAST_PAIRS:
        return None
    agreement, slope, lag_s = -1.0, 0.0, LAGS_S[0]
    for tried_s in LAGS_S:
        held = np.array([_held(pair, tried_s) for pair in pairs]) * ways  # full locks · heights
        if held[good].std() < 1e-9 or turns[good].std() < 1e-9:
            return None
        correlation = float(np.corrcoef(held[good], turns[good])[0, 1])
        if correlation > agreement:
            agreement, lag_s = correlation, tried_s
            slope = float(np.polyfit(held[good], turns[good] / focal_px, 1)[0])
    if slope <= 0.0:
        return None
    return RigEstimate(camera.hfov_deg, math.exp(factor), slope, lag_s, agreement, float(match.mean()), int(good.sum()))


def _matches(pairs: Sequence[_Pair], camera: CameraParams, horizon: float) -> NDArray[np.float64]:
    """Correlation of each second frame with the first one redrawn, `[pairs, turns, ways]`."""
    rows, columns = pairs[0].first.shape
    camera = pitch_for_horizon(camera, rows, columns, horizon)
    reprojector = Reprojector(View(camera, rows, columns))
    focal_px = camera.focal_px(columns)[0]
    found = np.zeros((len(pairs), len(TURNS_PX), len(WAYS_HEIGHTS)))
    for i, turn in enumerate(TURNS_PX / focal_px):
        for j, way in enumerate(WAYS_HEIGHTS * camera.height_m):
            places = reprojector.map(Pose(way * math.cos(turn / 2), way * math.sin(turn / 2), turn))
            inside = reprojector.inside(places)
            if inside.mean() < 0.2:
                continue
            for k, pair in enumerate(pairs):
                drawn = cv2.remap(pair.first, places, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
                a, b = drawn[inside], pair.second[inside]
                a, b = a - a.mean(), b - b.mean()
                found[k, i, j] = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b) + 1e-9)
    return found


def _peak(profile: FloatArray) -> tuple[float, float]:
    """Where a profile over the turns is largest, pixels, between them by a parabola, and how large it is."""
    best = int(profile.argmax())
    if 0 < best < len(profile) - 1:
        low, middle, high = profile[best - 1 : best + 2]
        bend = low - 2 * middle + high
        if bend < 0:
            return float(TURNS_PX[best] + 0.5 * (low - high) / bend * (TURNS_PX[1] - TURNS_PX[0])), float(middle)
    return float(TURNS_PX[best]), float(profile[best])


def _held(pair: _Pair, lag_s: float) -> float:
    """Mean place of the wheels between the two frames, full locks: a first-order lag behind the steering."""
    wheels, sums = float(pair.steering[0]), 0.0
    for step in range(len(pair.steering) - 1):
        held_s = float(pair.time_s[step + 1] - pair.time_s[step])
        after = wheels + (float(pair.steering[step]) - wheels) * -math.expm1(-held_s / lag_s)
        if step >= pair.start:
            sums += 0.5 * (wheels + after) * held_s
        wheels = after
    return sums / float(pair.time_s[-1] - pair.time_s[pair.start])
