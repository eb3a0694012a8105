"""Mending what the doctor found: a view of the episodes with labels turned, shifted or trimmed, and repeats dropped."""

from __future__ import annotations

import dataclasses

import numpy as np

from agents.recordings.doctor import Report
from agents.recordings.doctor.leaks import NEAR, find_repeats
from agents.recordings.episodes import Episode, EpisodeSet


def mend(episodes: EpisodeSet, report: Report) -> tuple[EpisodeSet, list[str]]:
    """Mend every fault that can be mended without knowing more than the recording says.

    Args:
        episodes: What was examined.
        report: What was found.

    Returns:
        The mended episodes (frames stay where they are), and a line for each thing done or left.
    """
    lines: list[str] = []
    if any(finding.about in ("sign", "offset") for finding in report.faults):
        # The labels of side cameras are the person's plus what brings the car back, which does not turn round.
        whole, episodes = episodes, episodes.centre
        lines += episodes.notices[len(whole.notices) :]
    for finding in report.faults:
        if finding.about == "sign":
            episodes = relabelled(episodes, -1.0, 0.0)
            lines.append("steering was turned round")
        elif finding.about == "offset":
            offset = float(finding.figures["offset"])
            episodes = relabelled(episodes, 1.0, -offset)
            lines.append(f"{offset:+.3f} was taken off the steering")
        elif finding.about == "lag":
            frames = int(finding.figures["shift_frames"])
            episodes = shifted(episodes, frames)
            lines.append(f"labels were moved {abs(frames)} frames {'earlier' if frames > 0 else 'later'}")
        elif finding.about in ("leak", "repeats"):
            before = episodes.frame_count
            episodes = without_repeats(episodes)
            lines.append(f"{before - episodes.frame_count:,} frames that stand more than once were dropped")
        elif finding.about == "clock":
            period_s = episodes[0].meta.nominal_period_s
            lines.append(f"the clock stays as it was read ({1000 * period_s:.4g} ms); --nominal-rate sets another")
        else:
            lines.append(f"not mended: {finding.what}")
    return episodes, lines


def relabelled(episodes: EpisodeSet, factor: float, offset: float) -> EpisodeSet:
    """Return the episodes with steering times `factor` plus `offset`, within [-1, 1]."""
    changed = tuple(
        dataclasses.replace(e, steering=np.clip(factor * e.steering + offset, -1, 1).astype(np.float32) + np.float32(0))
        for e in episodes
    )
    return dataclasses.replace(episodes, episodes=changed)


def shifted(episodes: EpisodeSet, frames: int) -> EpisodeSet:
    """Return the episodes with labels moved earlier by so many frames (later when negative); the ends go."""
    kept = []
    for episode in episodes:
        steps = len(episode) - abs(frames)
        if steps < 1:
            continue
        first = max(0, -frames)
        part = episode.slice(first, first + steps)
        moved = episode.steering[first + frames : first + frames + steps]
        kept.append(dataclasses.replace(part, steering=moved))
    return dataclasses.replace(episodes, episodes=tuple(kept))


def without_repeats(episodes: EpisodeSet) -> EpisodeSet:
    """Return the episodes without the frames that an earlier one, of another time, shows already."""
    kept: list[Episode] = []
    for episode, repeated in zip(episodes, find_repeats(episodes, NEAR), strict=True):
        rows = np.flatnonzero(~repeated)
        for part in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            if len(part):
                kept.append(episode.slice(int(part[0]), int(part[-1]) + 1))
    return dataclasses.replace(episodes, episodes=tuple(kept))
