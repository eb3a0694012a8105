"""A doctor for recordings: what would spoil the learning or flatter the test, how it shows, and what to do.

    report = examine(load_episodes("tub"), training, held_out)
    for finding in report.findings: print(finding.line)

Each check is a function of the episodes that returns findings; what they look at is decoded once, and no more of it
than a few thousand frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents.recordings.doctor.finding import Finding
from agents.recordings.doctor.labels import check_labels, steering_facts
from agents.recordings.doctor.leaks import check_leaks
from agents.recordings.doctor.motion import YAW_RATE, Motion, check_motion, fits_its_clock, measure_motion, motion_facts
from agents.recordings.doctor.order import check_order, check_repeats
from agents.recordings.doctor.timing import check_clock, clock_facts, with_slow_cars
from agents.recordings.doctor.view import check_direction, check_light, view_facts
from agents.recordings.episodes import EpisodeSet


@dataclass(frozen=True)
class Report:
    """What the doctor found."""

    findings: tuple[Finding, ...]
    """Faults first, then notes."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was measured, JSON values."""
    motion: Motion | None = None
    """Turning of the car as the pictures show it; None without pictures."""

    @property
    def faults(self) -> list[Finding]:
        """What should be mended before this recording is learnt from."""
        return [finding for finding in self.findings if finding.fault]


def examine(
    episodes: EpisodeSet,
    training: EpisodeSet | None = None,
    held_out: EpisodeSet | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Report:
    """Examine a recording.

    Args:
        episodes: All of it.
        training: The part that is learnt from; no leak is looked for when None.
        held_out: The part that is tested on.
        on_progress: Called with the name of each part as it begins.
    """
    report = on_progress or (lambda part: None)
    report("labels and clock")
    findings = [*check_reading(episodes), *check_clock(episodes), *check_labels(episodes)]
    facts: dict[str, Any] = {"clock": clock_facts(episodes), "steering": steering_facts(episodes)}
    motion, against, order = None, [], []
    pictured = all(episode.source is not None for episode in episodes)
    if pictured or any(YAW_RATE in episode.extras for episode in episodes):
        report("labels against pictures" if pictured else "labels against the car's instruments")
        motion = measure_motion(episodes)
        against = check_motion(motion)
        if motion.vehicle == "donkeycar" and fits_its_clock(motion):
            findings = with_slow_cars(findings)
        facts["motion"] = motion_facts(motion)
    if pictured:
        report("view, light and order")
        facts["view"] = view_facts(episodes)
        order = check_order(episodes) or check_direction(facts["view"])
        findings += [*check_light(facts["view"]), *order]
    else:
        findings.append(Finding("pictures", False, "there are no pictures, only logs", "nothing can be learnt from it"))
    # Pictures in the wrong order tell neither the side nor the lag.
    findings += [] if order else against
    if training is not None and held_out is not None:
        report("leaks")
        leaks = check_leaks(training, held_out)
        findings += leaks or (check_repeats(episodes) if pictured else [])
    return Report(tuple(sorted(findings, key=lambda finding: not finding.fault)), facts, motion)


def check_reading(episodes: EpisodeSet) -> list[Finding]:
    """Judge what was left out when the recording was read, and what had to be decided."""
    findings = []
    lost = sum(episodes.skipped.values())
    if lost:
        # A record that was left out would have been one frame of the centre camera, anywhere in the recording.
        centre = sum(len(episode) for episode in episodes if episode.is_centre) or episodes.frame_count
        share = lost / (lost + max(centre, episodes.read))
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in episodes.skipped.items())
        what = f"{lost:,} records ({share:.1%}) are left out: {reasons}"
        findings.append(
            Finding("records", share > 0.05, what, "see whether that is as meant; fix writes a copy without them")
        )
    for notice in episodes.notices:
        fault = "time stamps cannot be used" in notice
        do = "give the camera's true rate by --nominal-rate" if fault else "nothing, if that is right"
        findings.append(Finding("clock" if fault else "reading", fault, notice, do))
    return findings
