"""The clock by itself: rate, jitter, gaps, and stamps that cannot be those of a camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.doctor.finding import Finding
from agents.recordings.episodes import EpisodeSet

USUAL_HZ = {"udacity": 15.0, "donkeycar": 20.0, "car": 20.0}
"""Frames a second that the programs of known vehicles record."""
MOST_RATIO = {"udacity": 2.9, "donkeycar": 1.8, "car": 1.15}
"""A rate further from the usual one than this factor is doubted: the Udacity simulator records as fast as the computer
draws, Donkeycar's loop is set by hand now and then, comma2k19's camera always runs at 20 Hz."""
SET_SO = "nothing, if the car was set so; else --nominal-rate"
"""What to do about a rate that may be the car's own."""
WORTH_SAYING = 1.2
"""A rate further from the usual one than this factor is said."""
MOST_SPEED_RATIO = 1.15
"""Speeds by the bus and by the satellites that differ more than this: the clock runs at another rate. Measured: 1.009
in comma2k19."""
PARTS = 8
"""Parts of a recording whose rates are compared."""
MOST_CHANGE = 1.5
"""Rates of parts that differ by more than this factor."""
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
    ratio = 1.0 if usual is None else max(median * usual, 1 / (median * usual))
    if ratio > MOST_RATIO.get(episodes[0].meta.vehicle, WORTH_SAYING):
        what = f"frames are {1000 * median:.3g} ms apart, {1 / median:.3g} a second, where {usual:g} are usual"
        findings.append(Finding("clock", True, what, do, {"median_s": median, "usual_hz": usual}))
    elif ratio > WORTH_SAYING and episodes[0].meta.vehicle == "donkeycar":
        what = f"frames are {1000 * median:.3g} ms apart, {1 / median:.3g} a second, where {usual:g} are the default"
        findings.append(Finding("rate", False, what, SET_SO))
    findings += _check_speed(episodes, do)
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
    elif not findings and (change := _change(steps)) > MOST_CHANGE:
        what = f"the time between frames changes by a factor of {change:.2g} from one part of the recording to another"
        findings.append(Finding("clock", True, what, f"if the camera was regular, {do}", {"change": change}))
    shreds = len(episodes) / episodes.frame_count
    if shreds > 0.05 and len(episodes) > 5:
        mean = episodes.frame_count / len(episodes)
        what = f"{len(episodes):,} episodes of {mean:.0f} frames each: cut to shreds by its gaps"
        findings.append(Finding("clock", True, what, f"raise --max-gap-s, or {do}", {"episodes": len(episodes)}))
    return findings


def with_slow_cars(findings: list[Finding]) -> list[Finding]:
    """Return findings in which a rate far below the usual one is the car's own: it follows its wheel in time by it."""

    def one(finding: Finding) -> Finding:
        slow = finding.figures.get("median_s", 0.0) * finding.figures.get("usual_hz", 0.0) > 1
        return Finding("rate", False, finding.what, SET_SO, finding.figures) if slow else finding

    return [one(finding) if finding.about == "clock" else finding for finding in findings]


def _check_speed(episodes: EpisodeSet, do: str) -> list[Finding]:
    """Compare the speed that the car says with the way it made on the clock, where both are recorded."""
    ratios = []
    for episode in episodes:
        if "speed_mps" in episode.extras and "pose_speed_mps" in episode.extras:
            said, made = (np.asarray(episode.extras[name]) for name in ("speed_mps", "pose_speed_mps"))
            moving = (said > 2) & np.isfinite(made)
            ratios += (made[moving] / said[moving]).tolist()
    if len(ratios) < 20:
        return []
    ratio = float(np.median(ratios))
    if max(ratio, 1 / max(ratio, 1e-9)) <= MOST_SPEED_RATIO:
        return []
    what = f"by its positions and this clock the car drives {ratio:.2f} times as fast as it says"
    return [Finding("clock", True, what, do, {"speed_ratio": ratio})]


def _change(steps: NDArray[np.float64]) -> float:
    """Return by what factor the median step differs between parts of a recording."""
    if len(steps) < 20 * PARTS:
        return 1.0
    medians = [float(np.median(part)) for part in np.array_split(steps, PARTS)]
    return max(medians) / min(medians)


def clock_facts(episodes: EpisodeSet) -> dict[str, Any]:
    """Return rate, jitter and gaps, of the centre camera where there are others at its side."""
    episodes = episodes.centre if len(episodes.centre) else episodes
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
