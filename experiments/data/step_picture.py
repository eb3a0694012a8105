"""A picture that shows whether pictures and labels are in step: steering and turning over time, and their lags."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.recordings.doctor.motion import Motion, following_s, lags
from agents.runs.files import replacing
from agents.runs.ours import MARK

LONGEST_S = 30.0
"""Driving that is drawn, seconds: the stretch with most steering in it."""


def check_picture(path: Path | None) -> None:
    """Check before anything is measured that a picture can be written under a name.

    Raises:
        ValueError: if it does not end in .png.
    """
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"the picture is written as PNG: give a name that ends in .png, got {str(path)!r}.")


def draw_step(motion: Motion, path: Path, title: str) -> None:
    """Draw it.

    Args:
        motion: Of the recording.
        path: The PNG file.
        title: Above it.

    Raises:
        ValueError: if the name does not end in .png, or nothing was measured.
        OSError: if it cannot be written.
    """
    check_picture(path)
    if motion.frames == 0:
        raise ValueError("the recording is too short to be compared with its pictures.")
    from matplotlib.figure import Figure

    busiest = int(np.argmax([steering.std() for steering in motion.steering]))
    time_s = motion.time_s[busiest]
    within = time_s <= time_s[0] + LONGEST_S
    steering, turning = motion.steering[busiest][within], motion.turning[busiest][within]
    tried, correlation = lags(motion)
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1)
    above.set_title(title, fontsize=10)
    above.plot(time_s[within], steering, color="#c05a00", label="steering, full locks, positive left")
    scale = np.nanstd(steering) / max(float(np.nanstd(turning)), 1e-9)
    above.plot(time_s[within], turning * scale, color="#1f77b4", alpha=0.8, label="turning in the pictures, scaled")
    above.set_xlabel("seconds")
    above.legend(loc="upper right", fontsize=8)
    below.axvspan(
        *(1000 * at for at in following_s(motion)), color="#2ca02c", alpha=0.12, label="where a car follows its wheel"
    )
    below.plot(1000 * tried * motion.period_s, correlation, marker=".", color="#333333")
    below.axvline(0, color="#999999", linewidth=0.8)
    below.set_xlabel("turning comes so many ms after the steering")
    below.set_ylabel("correlation")
    below.legend(loc="upper right", fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110, metadata={"Comment": MARK})
