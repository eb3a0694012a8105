"""The clock by itself: rate, jitter, gaps, and stamps that cannot be those of a camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.doctor.finding import Finding
from agents.recordings.episodes import EpisodeSet

USUAL_HZ = {"udacity": 15.0, "donkeycar": 20.0, "car": 20.0}
"""Frames a second that the programs of known vehicles record."""
MOST_RATIO = 2.9
"""A rate further from the usual one than this factor is doubted."""
MOST_BURSTS = 0.05
"""Share of frames that follow the one before within a fifth of the period: the camera did not set these stamps."""
MOST_ODD = 0.15
"""Share of steps more than half a period from the median from which on the clock counts as irregular."""


def steps_of(episodes: EpisodeSet) -> NDArray[np.float64]:
    """Return the times between frames of one episode, seconds, all episodes together."""
    steps = [np.diff(episode.time_s) for episode in episodes if len(episode) > 1]
    return np.concatenate(steps) if steps else np.zeros(0)


def check_clock(episodes: EpisodeSet) -> list[Finding]:
    """Look for rates that no such car has, bursts, irregular steps, and recordings in shreds."""
    steps = steps_of(episodes)
    findings: list[Finding] = []
    if len(steps) < 10:
        return findings
    median = float(np.median(steps))
    nominal = float(np.median([episode.meta.nominal_period_s for episode in episodes]))
    usual = USUAL_HZ.get(episodes[0].meta.vehicle)
    do = "give the camera's true rate by --nominal-rate; fix writes a copy with that clock"
    if usual is not None and max(median * usual, 1 / (median * usual)) > MOST_RATIO:
        what = f"frames are {1000 * median:.3g} ms apart, {1 / median:.3g} a second, where {usual:g} are usual"
        findings.append(Finding("clock", True, what, do, {"median_s": median}))
    if max(median / nominal, nominal / median) > 1.5:
        what = f"frames are {1000 * median:.3g} ms apart and the nominal period is {1000 * nominal:.3g} ms"
        findings.append(Finding("clock", True, what, do, {"median_s": median, "nominal_s": nominal}))
    bursts = float((steps < 0.2 * median).mean())
    odd = float((np.abs(steps - median) > 0.5 * median).mean())
    if bursts > MOST_BURSTS:
        what = (
            f"{bursts:.0%} of the frames come within a fifth of the usual {1000 * median:.3g} ms: stamps come in bursts"
        )
        findings.append(Finding("clock", True, what, do, {"bursts": bursts}))
    elif odd > MOST_ODD:
        what = f"{odd:.0%} of the steps are more than half a period off: the time between frames is irregular"
        findings.append(Finding("clock", True, what, f"if the camera was regular, {do}", {"odd": odd}))
    shreds = len(episodes) / episodes.frame_count
    if shreds > 0.05 and len(episodes) > 5:
        mean = episodes.frame_count / len(episodes)
        what = f"{len(episodes):,} episodes of {mean:.0f} frames each: cut to shreds by its gaps"
        findings.append(Finding("clock", True, what, f"raise --max-gap-s, or {do}", {"episodes": len(episodes)}))
    return findings


def clock_facts(episodes: EpisodeSet) -> dict[str, Any]:
    """Return rate, jitter and gaps."""
    steps = steps_of(episodes)
    if len(steps) == 0:
        return {}
    median = float(np.median(steps))
    low, high = np.quantile(steps, [0.05, 0.95])
    return {
        "rate_hz": 1 / median,
        "median_s": median,
        "from_5_to_95_percent_s": [float(low), float(high)],
        "longest_s": float(steps.max()),
        "frames_missing": int(np.maximum(np.round(steps / median) - 1, 0).sum()),
        "cuts": len(episodes) - 1,
    }
