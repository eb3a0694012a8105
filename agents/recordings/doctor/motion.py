"""Labels against pictures: a car that steers left sees the world move to the right, a moment later.

The sideways shift from frame to frame is measured by phase correlation (Kuglin and Hines 1975) on the upper part of the
pictures, where things are far and the shift is the car's turning. Logs without pictures are held against the yaw rate
of the car's own instruments, where they have one. The cross-correlation with the steering tells three things: the sign
(a negative peak is a flipped one), the lag (a car follows its wheel after a time that is known of its kind; earlier
cannot be, later means that labels run ahead of the pictures), and, at that lag, the steering when the car goes
straight. Where the car's speed is known and its kind as well, the turning tells the clock, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.doctor.finding import Finding
from agents.recordings.episodes import Episode, EpisodeSet

YAW_RATE, SPEED = "yaw_rate_radps", "speed_mps"
"""Columns of episodes that are looked at."""
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
LATEST_S = {"car": 0.175, "udacity": 0.15}
"""Cars of a kind follow their wheel within this time, camera and servo included, seconds. Measured: 0.04 s in a log of
the Udacity simulator, 0.05 s in a car (comma2k19)."""
LATEST_OTHERWISE_S = 0.225
"""The same for other vehicles; measured: 0.19 s in a tub of a real model car, 0.11 s in this project's simulation."""
EARLIEST_S = {"donkeycar": 0.06}
"""Cars of a kind follow their wheel no sooner than this, seconds: a model car's servo takes 0.1 s to full lock, and its
camera's picture is one loop old when it is recorded."""
USUAL_S = {"donkeycar": 0.19, "udacity": 0.045, "car": 0.05}
"""When cars of a kind follow their wheel, as measured, seconds; others after one frame."""
EARLIEST_PERIODS = -0.75
"""In other vehicles the pictures may seem to turn before the wheel by this much, in periods: exposure and rounding."""
USUAL_PERIOD_S = 0.05
"""Cars' following was measured with cameras of this period, seconds."""
FOLLOWING_MARGIN_S = 0.1
"""A flipped sign is looked for so much beyond the times after which cars follow, seconds."""
LEAST_CORRELATION = 0.3
"""Below this, pictures and labels are not alike enough to judge the lag."""
LEAST_FRAMES = 200
"""With fewer frames nothing is judged but a sign that is plain."""
LEAST_FRAMES_PLAIN, LEAST_CORRELATION_PLAIN = 100, 0.7
"""A sign is plain from so many frames and such a correlation on."""
LEAST_SPREAD = {True: 0.005, False: 0.0005}
"""Standard deviation of steering from which on it is held against pictures (True) or instruments, full locks."""
TURN_PER_METRE = {"udacity": 0.080}
"""Shift of the pictures for each metre driven at full lock, shares of the width, small angles: a property of car and
camera. Measured on the simulator's lake track: 0.077 to 0.084 in six of eight stretches."""
MOST_CLOCK_RATIO = 1.4
"""A clock that differs by more than this factor from what turning and speed say is wrong."""
ANOTHER_CAR = 4.0
"""By more than this factor another car turns than the simulator's: other programs write such logs."""
SMOOTH = 15
"""Frames over which turning and steering are averaged for that, so that the car's lag does not count."""
MOST_OFFSET = 0.12
"""Steering on straight ways from which on it counts as an offset, full locks."""
SURE_OFFSET = 2.5
"""So many times its standard error it has to be: a short drive to one side tells little of it."""


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
    vehicle: str = ""
    """The vehicle's kind."""
    by_pictures: bool = True
    """False when the turning was taken from the car's instruments, in radians."""
    metres: tuple[NDArray[np.float64], ...] = ()
    """`[n]` way from each frame to the next by the recorded speed and the clock; empty where there is no speed."""

    @property
    def frames(self) -> int:
        """Frames looked at."""
        return sum(map(len, self.turning))


def measure_motion(episodes: EpisodeSet, most: int = MOST_FRAMES) -> Motion:
    """Measure the turning in stretches of the centre cameras' episodes, up to `most` frames.

    Episodes without pictures count where they have a column `yaw_rate_radps`, positive left, and none has pictures.
    """
    centre = [e for e in episodes if e.is_centre]
    by_pictures = any(e.source is not None for e in centre)
    centre = [e for e in centre if (e.source is not None if by_pictures else YAW_RATE in e.extras)]
    pieces = [
        (episode, start, min(start + STRETCH, len(episode)))
        for episode in centre
        for start in range(0, len(episode), STRETCH)
        if min(start + STRETCH, len(episode)) - start >= 20
    ]
    wanted = max(1, most * len(pieces) // max(1, sum(stop - start for _, start, stop in pieces)))
    if len(pieces) > wanted:
        pieces = [pieces[i] for i in np.linspace(0, len(pieces) - 1, wanted).round().astype(int)]
    found = [((_turning if by_pictures else _yaw)(*piece), piece) for piece in pieces]
    steps = [np.diff(episode.time_s[start:stop]) for episode, start, stop in pieces]
    return Motion(
        tuple(turning for turning, _ in found),
        tuple(episode.steering[start : stop - 1].astype(np.float64) for _, (episode, start, stop) in found),
        tuple(
            episode.meta.start_s + episode.time_s[start : stop - 1] - episode.time_s[0]
            for _, (episode, start, stop) in found
        ),
        float(np.median(np.concatenate(steps))) if steps else 0.05,
        centre[0].meta.vehicle if centre else "",
        by_pictures,
        tuple(
            np.asarray(episode.extras[SPEED][start : stop - 1], np.float64) * np.diff(episode.time_s[start:stop])
            for episode, start, stop in pieces
        )
        if all(SPEED in episode.extras for episode, _, _ in pieces)
        else (),
    )


def _yaw(episode: Episode, start: int, stop: int) -> NDArray[np.float64]:
    """Return the angle turned from each frame to the next, by the car's instruments, radians `[stop − start − 1]`."""
    rate = np.asarray(episode.extras[YAW_RATE][start : stop - 1], np.float64)
    turned: NDArray[np.float64] = rate * np.diff(episode.time_s[start:stop])
    return turned


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


def cut_motion(motion: Motion, blocks: int) -> list[tuple[Motion, Motion]]:
    """Return for each of so many blocks of frames the rest and the block; what a choice is made on is not scored."""
    ends = np.cumsum([0, *map(len, motion.turning)])
    borders = np.linspace(0, ends[-1], blocks + 1).astype(int)

    def within(values: tuple[NDArray[np.float64], ...], low: int, high: int) -> tuple[NDArray[np.float64], ...]:
        parts = zip(values, ends[:-1], strict=True)
        return tuple(one[max(low - at, 0) : max(high - at, 0)] for one, at in parts)

    def between(*spans: tuple[int, int]) -> Motion:
        kept: dict[str, Any] = {
            name: tuple(part for low, high in spans for part in within(getattr(motion, name), low, high) if len(part))
            for name in ("turning", "steering", "time_s", "metres")
            if getattr(motion, name)
        }
        return replace(motion, **kept)

    whole = int(ends[-1])
    return [
        (between((0, int(low)), (int(high), whole)), between((int(low), int(high))))
        for low, high in zip(borders, borders[1:], strict=False)
    ]


def paired(motion: Motion, lag: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steering and the turning `lag` frames later, `[n]` each, where both are known."""
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
    a, b = paired(motion, lag)
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
        one = replace(
            motion,
            turning=tuple(motion.turning[i] for i in part),
            steering=tuple(motion.steering[i] for i in part),
            time_s=tuple(motion.time_s[i] for i in part),
            metres=(),
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
    offset, error = _offset(motion, round(lag))
    return {
        "frames": motion.frames,
        "correlation": best,
        "lag_frames": lag,
        "lag_s": lag * motion.period_s,
        "lag_frames_by_thirds": _thirds(motion, np.sign(best)),
        "offset": offset,
        "offset_error": error,
        "clock_ratio": _clock_ratio(motion),
        "lags": tried.tolist(),
        "correlations": correlation.tolist(),
    }


def _offset(motion: Motion, lag: int) -> tuple[float, float]:
    """Return the steering at which the pictures do not turn, by a robust straight line, and its standard error.

    What the line leaves over is alike from frame to frame, so that frames count for fewer than they are.
    """
    steering, turning = paired(motion, lag)
    if len(steering) < 50 or turning.std() < 1e-9:
        return 0.0, 0.0
    low, high = np.quantile(turning, [0.02, 0.98])
    within = (turning >= low) & (turning <= high)
    slope, offset = np.polyfit(turning[within], steering[within], 1)
    left = steering[within] - slope * turning[within] - offset
    alike = float(np.clip((left[1:] * left[:-1]).mean() / max(float((left**2).mean()), 1e-12), 0.0, 0.99))
    count = len(left) * (1 - alike) / (1 + alike)
    return float(offset), float(left.std() / np.sqrt(max(count, 1.0)))


def _clock_ratio(motion: Motion) -> float | None:
    """Return by how much the car turns more than its way and its steering say: the true time between frames over that
    of the clock; None where it cannot be told.
    """  # noqa: D205
    usual = TURN_PER_METRE.get(motion.vehicle)
    if usual is None or not motion.metres or not motion.by_pictures:
        return None
    ratios = []
    kernel = np.ones(SMOOTH) / SMOOTH
    for turning, steering, metres in zip(motion.turning, motion.steering, motion.metres, strict=True):
        known = np.isfinite(turning) & np.isfinite(metres)
        if known.mean() < 0.5 or len(turning) < 4 * SMOOTH:
            continue
        expected = np.convolve(np.where(known, usual * steering * metres, 0.0), kernel, "valid")
        seen = np.convolve(np.where(known, turning, 0.0), kernel, "valid")
        if expected.std() > 1e-6 and seen.std() > 1e-9 and np.corrcoef(expected, seen)[0, 1] > 0.8:
            ratios.append(float((expected * seen).sum() / (expected * expected).sum()))
    return float(np.median(ratios)) if ratios else None


def check_motion(motion: Motion) -> list[Finding]:
    """Look for a flipped sign, for labels ahead of or behind the pictures, for an offset, and for a clock that lies."""
    if motion.frames < LEAST_FRAMES_PLAIN or np.concatenate(motion.steering).std() < LEAST_SPREAD[motion.by_pictures]:
        return []
    pictures = "pictures" if motion.by_pictures else "instruments"
    facts = motion_facts(motion)
    best, lag, lag_s = facts["correlation"], facts["lag_frames"], facts["lag_s"]
    figures = {"correlation": best, "lag_frames": lag, "lag_s": lag_s, "offset": facts["offset"]}
    positive = max(0.0, _most_elsewhere(motion, facts))
    enough = motion.frames >= LEAST_FRAMES
    if best < -(LEAST_CORRELATION if enough else LEAST_CORRELATION_PLAIN) and positive < 0.7 * -best:
        what = f"steering looks flipped: the {pictures} turn against it (correlation {best:.2f})"
        return [Finding("sign", True, what, "read it with --positive left or right, or let fix turn it round", figures)]
    findings: list[Finding] = []
    if not enough:
        return findings
    ratio = facts["clock_ratio"]
    if ratio is not None and MOST_CLOCK_RATIO < max(ratio, 1 / ratio) < ANOTHER_CAR:
        what = (
            f"frames are {1000 * motion.period_s:.3g} ms apart by their stamps and some "
            f"{1000 * motion.period_s * ratio:.2g} ms by how far such a car turns at its speed"
        )
        do = f"give the camera's true rate by --nominal-rate, perhaps {1 / (motion.period_s * ratio):.2g}"
        # What the lag is in seconds cannot be told by such a clock.
        return [Finding("clock", True, what, do, {**figures, "clock_ratio": ratio})]
    if best >= LEAST_CORRELATION:
        thirds = facts["lag_frames_by_thirds"]
        sure = float(np.median([lag, *thirds]))
        earliest_s, latest_s = following_s(motion)
        early = max(sure, lag) * motion.period_s < earliest_s
        late = min(sure, lag) * motion.period_s > latest_s
        if early or late:
            side = "behind" if early else "ahead of"
            when = "before" if lag < 0 else "after"
            what = (
                f"labels are {side} the {pictures}: these turn {abs(lag_s) * 1000:.0f} ms ({abs(lag):.1f} frames) "
                f"{when} the steering (correlation {best:.2f}; such a car follows after {1000 * earliest_s:.0f} to "
                f"{1000 * latest_s:.0f} ms)"
            )
            figures["shift_frames"] = shift_of(lag, motion)
            do = f"shift the labels: fix does so by {abs(figures['shift_frames'])} frames; beside a video, --offset-s"
            findings.append(Finding("lag", True, what, do, figures))
        if motion.by_pictures and abs(facts["offset"]) > max(MOST_OFFSET, SURE_OFFSET * facts["offset_error"]):
            what = f"steering is {facts['offset']:+.2f} where the car goes straight"
            findings.append(Finding("offset", True, what, "trim the car, or let fix take it off", figures))
    return findings


def _most_elsewhere(motion: Motion, facts: dict[str, Any]) -> float:
    """Return the largest correlation against which one of the other sign has to stand out.

    Where that one lies at a lag at which cars follow their wheel, only those at such lags count: with a driver who
    swerves to and fro the turning resembles the steering of half a swerve ago, too.
    """
    earliest_s, latest_s = following_s(motion)
    lags_s = np.asarray(facts["lags"]) * motion.period_s
    correlations = np.asarray(facts["correlations"])
    low_s, high_s = earliest_s - FOLLOWING_MARGIN_S, latest_s + FOLLOWING_MARGIN_S
    near = (lags_s >= low_s) & (lags_s <= high_s)
    follows = near.any() and low_s <= facts["lag_s"] <= high_s
    return float(correlations[near].max() if follows else correlations.max())


def fits_its_clock(motion: Motion) -> bool:
    """Say whether the car follows its wheel by this clock as cars of its kind do; False where it cannot be told."""
    if motion.frames < LEAST_FRAMES:
        return False
    facts = motion_facts(motion)
    earliest_s, latest_s = following_s(motion)
    return facts["correlation"] >= LEAST_CORRELATION_PLAIN and earliest_s <= facts["lag_s"] <= latest_s


def following_s(motion: Motion) -> tuple[float, float]:
    """Return after which times cars of a kind follow their wheel, the shortest and the longest, seconds."""
    earliest_s = EARLIEST_S.get(motion.vehicle, EARLIEST_PERIODS * motion.period_s)
    if motion.vehicle in EARLIEST_S:  # of a slow camera lags between its frames are uncertain by half a period
        earliest_s -= 0.5 * max(0.0, motion.period_s - USUAL_PERIOD_S)
    return earliest_s, LATEST_S.get(motion.vehicle, LATEST_OTHERWISE_S)


def shift_of(lag: float, motion: Motion) -> int:
    """Return by how many frames labels are to be moved earlier (later when negative) so that the car follows its wheel
    as cars of its kind do.
    """  # noqa: D205
    usual_s = USUAL_S.get(motion.vehicle)
    usual = 1.0 if usual_s is None else usual_s / motion.period_s
    return round(usual - lag)
