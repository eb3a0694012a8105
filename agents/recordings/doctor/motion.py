"""Labels against pictures: a car that steers left sees the world move to the right, a moment later.

The sideways shift from frame to frame is measured by phase correlation (Kuglin and Hines 1975) on the upper part of the
pictures, where things are far and the shift is the car's turning. Its cross-correlation with the steering tells three
things: the sign (a negative peak is a flipped one), the lag (the car follows the wheel after 0 to 0.2 s; earlier cannot
be, later means that labels run ahead of the pictures), and, at that lag, the steering when the car goes straight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.doctor.finding import Finding
from agents.recordings.episodes import Episode, EpisodeSet

MOST_FRAMES = 3000
"""Frames that are looked at, in stretches spread over the recording."""
STRETCH = 300
"""Longest stretch, frames."""
BAND = 0.6
"""Share of the rows, from the top, that are looked at."""
WIDTH = 96
"""Columns that pictures are shrunk to."""
LONGEST_LAG_S = 0.8
"""Lags up to this are tried, seconds either way."""
LATEST_S = 0.225
"""A car follows its wheel within this time, camera and servo included, seconds. Measured: 0.20 s in a tub of a real
car, 0.04 s in a simulator's log."""
EARLIEST_PERIODS = -0.75
"""The pictures may seem to turn before the wheel by this much, in periods: exposure and rounding."""
LEAST_CORRELATION = 0.3
"""Below this, pictures and labels are not alike enough to judge the lag."""
LEAST_FRAMES = 200
"""With fewer frames nothing is judged."""
MOST_OFFSET = 0.12
"""Steering on straight ways from which on it counts as an offset, full locks."""


@dataclass(frozen=True)
class Motion:
    """Turning as pictures show it, beside the steering, in stretches."""

    turning: tuple[NDArray[np.float64], ...]
    """`[n]` shift to the right from each frame to the next, shares of the width; NaN where it cannot be told."""
    steering: tuple[NDArray[np.float64], ...]
    """`[n]` labels of the same frames."""
    time_s: tuple[NDArray[np.float64], ...]
    """`[n]` seconds on the recording's time line."""
    period_s: float
    """Median time between frames, seconds."""

    @property
    def frames(self) -> int:
        """Frames looked at."""
        return sum(map(len, self.turning))


def measure_motion(episodes: EpisodeSet, most: int = MOST_FRAMES) -> Motion:
    """Measure the turning in stretches of the centre cameras' episodes, up to `most` frames."""
    centre = [e for e in episodes if e.meta.extra.get("camera", "centre") == "centre"]
    pieces = [
        (episode, start, min(start + STRETCH, len(episode)))
        for episode in centre
        for start in range(0, len(episode), STRETCH)
        if min(start + STRETCH, len(episode)) - start >= 20
    ]
    wanted = max(1, most * len(pieces) // max(1, sum(stop - start for _, start, stop in pieces)))
    if len(pieces) > wanted:
        pieces = [pieces[i] for i in np.linspace(0, len(pieces) - 1, wanted).round().astype(int)]
    found = [(_turning(*piece), piece) for piece in pieces]
    steps = [np.diff(episode.time_s[start:stop]) for episode, start, stop in pieces]
    return Motion(
        tuple(turning for turning, _ in found),
        tuple(episode.steering[start : stop - 1].astype(np.float64) for _, (episode, start, stop) in found),
        tuple(
            episode.meta.start_s + episode.time_s[start : stop - 1] - episode.time_s[0]
            for _, (episode, start, stop) in found
        ),
        float(np.median(np.concatenate(steps))) if steps else 0.05,
    )


def _turning(episode: Episode, start: int, stop: int) -> NDArray[np.float64]:
    """Return the shift from each frame to the next, `[stop − start − 1]`."""
    shifts: list[float] = []
    before: NDArray[np.float32] | None = None
    window = None
    for first in range(start, stop, 100):
        frames, good = episode.checked_frames(first, min(first + 100, stop))
        for frame, is_good in zip(frames, good, strict=True):
            small = _band(frame)
            if window is None:
                window = cv2.createHanningWindow((small.shape[1], small.shape[0]), cv2.CV_32F)
            if before is not None:
                (shift, _), response = cv2.phaseCorrelate(before, small, window)
                sure = is_good and response > 0.1 and abs(shift) < 0.15 * WIDTH
                shifts.append(shift / WIDTH if sure else np.nan)
            before = small
    return np.asarray(shifts)


def _band(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = frame.shape[:2]
    band = np.ascontiguousarray(frame[: max(8, int(BAND * height))])
    gray = cv2.cvtColor(band, cv2.COLOR_RGB2GRAY)
    rows = max(8, round(gray.shape[0] * WIDTH / width))
    return cv2.resize(gray, (WIDTH, rows), interpolation=cv2.INTER_AREA).astype(np.float32)


def lags(motion: Motion) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return lags in frames, and the correlation of steering with the turning so many frames later."""
    longest = int(np.clip(round(LONGEST_LAG_S / motion.period_s), 4, 24))
    tried = np.arange(-longest, longest + 1)
    return tried, np.asarray([_correlation(motion, int(lag)) for lag in tried])


def _pairs(motion: Motion, lag: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steering and the turning `lag` frames later, where both are known."""
    steering, turning = [], []
    for s, t in zip(motion.steering, motion.turning, strict=True):
        if len(s) > abs(lag):
            steering.append(s[: len(s) - lag] if lag >= 0 else s[-lag:])
            turning.append(t[lag:] if lag >= 0 else t[:lag])
    if not steering:
        return np.zeros(0), np.zeros(0)
    a, b = np.concatenate(steering), np.concatenate(turning)
    known = np.isfinite(b)
    return a[known], b[known]


def _correlation(motion: Motion, lag: int) -> float:
    a, b = _pairs(motion, lag)
    if len(a) < 20 or a.std() < 1e-6 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def peak(tried: NDArray[np.int64], correlation: NDArray[np.float64]) -> float:
    """Return where the magnitude is largest, in frames, between the lags by a parabola."""
    values = np.abs(correlation)
    best = int(values.argmax())
    if 0 < best < len(values) - 1:
        low, mid, high = values[best - 1 : best + 2]
        bend = low - 2 * mid + high
        if bend < 0:
            return float(tried[best] + 0.5 * (low - high) / bend)
    return float(tried[best])


def _thirds(motion: Motion, sign: float) -> list[float]:
    """Return the peak's lag in each third of the stretches, to know how sure it is; fewer when there are few."""
    count = len(motion.turning)
    if count < 3:
        return []
    found = []
    for part in np.array_split(np.arange(count), 3):
        one = Motion(
            tuple(motion.turning[i] for i in part),
            tuple(motion.steering[i] for i in part),
            tuple(motion.time_s[i] for i in part),
            motion.period_s,
        )
        tried, correlation = lags(one)
        # Of the sign that all have together: in a straight third the other one may peak by chance.
        if (sign * correlation).max() >= LEAST_CORRELATION:
            found.append(peak(tried, np.maximum(sign * correlation, 0.0)))
    return found


def motion_facts(motion: Motion) -> dict[str, Any]:
    """Return the best lag, the correlation there, and the offset."""
    if motion.frames < 20:
        return {"frames": motion.frames}
    tried, correlation = lags(motion)
    lag = peak(tried, correlation)
    best = float(correlation[np.abs(correlation).argmax()])
    return {
        "frames": motion.frames,
        "correlation": best,
        "lag_frames": lag,
        "lag_s": lag * motion.period_s,
        "lag_frames_by_thirds": _thirds(motion, np.sign(best)),
        "offset": _offset(motion, round(lag)),
        "lags": tried.tolist(),
        "correlations": correlation.tolist(),
    }


def _offset(motion: Motion, lag: int) -> float:
    """Return the steering at which the pictures do not turn, by a robust straight line."""
    steering, turning = _pairs(motion, lag)
    if len(steering) < 50 or turning.std() < 1e-9:
        return 0.0
    low, high = np.quantile(turning, [0.02, 0.98])
    within = (turning >= low) & (turning <= high)
    slope, offset = np.polyfit(turning[within], steering[within], 1)
    return float(offset)


def check_motion(motion: Motion) -> list[Finding]:
    """Look for a flipped sign, for labels ahead of or behind the pictures, and for an offset."""
    if motion.frames < LEAST_FRAMES or np.concatenate(motion.steering).std() < 0.005:
        return []
    facts = motion_facts(motion)
    best, lag, lag_s = facts["correlation"], facts["lag_frames"], facts["lag_s"]
    figures = {"correlation": best, "lag_frames": lag, "lag_s": lag_s, "offset": facts["offset"]}
    positive = max(max(facts["correlations"]), 0.0)
    if best < -LEAST_CORRELATION and positive < 0.7 * -best:
        what = f"steering looks flipped: the pictures turn against it (correlation {best:.2f})"
        return [Finding("sign", True, what, "read it with --positive left or right, or let fix turn it round", figures)]
    findings = []
    if best >= LEAST_CORRELATION:
        thirds = facts["lag_frames_by_thirds"]
        sure = [lag, *thirds]
        early = float(np.median(sure)) < EARLIEST_PERIODS and lag < EARLIEST_PERIODS
        late = float(np.median(sure)) * motion.period_s > LATEST_S and lag_s > LATEST_S
        if early or late:
            side = "behind" if early else "ahead of"
            shift = -lag if early else lag - 1
            what = (
                f"labels are {side} the pictures: these turn {abs(lag_s) * 1000:.0f} ms ({abs(lag):.1f} frames) "
                f"{'before' if early else 'after'} the steering (correlation {best:.2f}; a car follows within "
                f"{1000 * LATEST_S:.0f} ms, and never comes before)"
            )
            do = f"shift the labels: fix does so by {abs(shift):.0f} frames; for a table, --offset-s"
            findings.append(Finding("lag", True, what, do, figures))
        if abs(facts["offset"]) > MOST_OFFSET:
            what = f"steering is {facts['offset']:+.2f} where the car goes straight"
            findings.append(Finding("offset", True, what, "trim the car, or let fix take it off", figures))
    return findings
