"""Steering labels by themselves: are they all equal, do they show both sides, do they stop at the ends?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.doctor.finding import Finding
from agents.recordings.episodes import EpisodeSet

MOST_EQUAL = 0.95
"""Share of labels with one value from which on there is nothing to learn; a keyboard driver of the Udacity simulator
stands at 0 for 72 % of the frames."""
LEAST_SPREAD = 0.0005
"""Standard deviation of steering below which there is nothing to learn, full locks. A minute of straight motorway has
0.0017 of a full lock of 450°."""
SMALL_SPREAD = 0.01
"""Standard deviation below which labels hardly vary, full locks."""
BEND = 0.1
"""Steering from which on a frame counts as one of a bend, full locks."""
EDGES = np.linspace(-1, 1, 22)
"""Of the histogram of steering."""


def all_steering(episodes: EpisodeSet) -> NDArray[np.float64]:
    """Return the labels of the centre cameras, `[n]`."""
    centre = [e for e in episodes if e.is_centre] or list(episodes)
    return np.concatenate([episode.steering for episode in centre]).astype(np.float64)


def check_labels(episodes: EpisodeSet) -> list[Finding]:
    """Look for labels that are all equal or nearly so, for one side that is missing, and for cut-off ends."""
    steering = all_steering(episodes)
    findings = []
    values, times = np.unique(np.round(steering, 4), return_counts=True)
    share, common = float(times.max() / len(steering)), float(values[times.argmax()])
    if share >= MOST_EQUAL or steering.std() < LEAST_SPREAD:
        what = f"{share:.0%} of the labels are {common:+.3f}, spread {steering.std():.4f}"
        do = "see that the right column is read (--steering-column) and that a person steered"
        findings.append(Finding("labels", True, f"labels are all equal or nearly so: {what}", do, {"share": share}))
        return findings
    if steering.std() < SMALL_SPREAD:
        what = f"labels hardly vary (spread {steering.std():.4f} of full lock)"
        do = "set full lock to what this driving needs (--degrees, --full-lock-deg), or record bends as well"
        return [Finding("spread", False, what, do)]
    left, right = float((steering > BEND).mean()), float((steering < -BEND).mean())
    low, high = sorted((left, right))
    if high > 0.05 and low < 0.05 * high:
        side = "left" if left < right else "right"
        what = f"bends to the {side} are hardly shown ({low:.1%} of the frames, {high:.0%} to the other side)"
        findings.append(Finding("bends", False, what, "drive the other way round too, or mirror frames in training"))
    elif high <= 0.02:
        what = f"there are hardly any bends ({left + right:.1%} of the frames steer more than {BEND:g})"
        findings.append(Finding("bends", False, what, "record bends as well"))
    ends = float((np.abs(steering) > 0.999).mean())
    if ends > 0.2:
        what = f"{ends:.0%} of the labels stand at full lock"
        findings.append(Finding("ends", False, what, "see whether full lock is set too small (--degrees)"))
    return findings


def steering_facts(episodes: EpisodeSet) -> dict[str, Any]:
    """Return mean, spread, shares and a histogram of the steering."""
    steering = all_steering(episodes)
    counts, _ = np.histogram(steering, EDGES)
    return {
        "mean": float(steering.mean()),
        "spread": float(steering.std()),
        "left": float((steering > 0.02).mean()),
        "straight": float((np.abs(steering) <= 0.02).mean()),
        "right": float((steering < -0.02).mean()),
        "zero": float((steering == 0).mean()),
        "histogram": counts.tolist(),
        "edges": EDGES.tolist(),
    }
