"""A picture for people of a drive along a recording: frame, steering, offset from the line.

dashboard = RecordedDashboard(height=120, width=160, period_s=0.05)
picture = dashboard.draw(frame, info)  # uint8 [720, 1280, 3]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.camera.warp import Image
from envs.dashboard.canvas import DRIVER, blank_picture, enlarge
from envs.dashboard.layout import plan
from envs.dashboard.panels import Header, SeenPanel, SteeringPanel, StripPanel

OFFSET_SCALES = (0.25, 0.5, 1.0)
"""Limits of the strip of offsets, shares of the distance at which the car counts as lost."""


class RecordedDashboard:
    """Draws the pictures of one episode."""

    def __init__(self, height: int, width: int, period_s: float):
        """Lay out the panels.

        Args:
            height: rows of the driver's frames.
            width: columns of the driver's frames.
            period_s: time from one picture to the next, s.
        """
        boxes = plan(width / height)
        self._view = boxes.view
        self._header = Header(boxes.header, "Recorded", "")
        self._seen = SeenPanel(boxes.side, "WHAT THE DRIVER GETS", f"{width}×{height} pixels")
        self._steering = SteeringPanel(boxes.steering, ("driver", "recorded"))
        self._offset = StripPanel(
            boxes.below,
            "OFFSET FROM THE RECORDED LINE",
            "share of the way to being lost; a flat line is good",
            period_s,
            OFFSET_SCALES,
            lambda limit: f"{100 * limit:.0f} %",
            (("driver", DRIVER),),
        )

    def draw(self, frame: NDArray[np.uint8], info: dict[str, Any]) -> Image:
        """Draw one picture, uint8 `[720, 1280, 3]` RGB, of a frame `[H, W, 3]` and the env's info."""
        picture = blank_picture()
        self._view.of(picture)[:] = enlarge(frame, self._view.width, self._view.height)
        status = f"{info['time_s']:.1f} s   {info['progress_m']:.0f} m   {info['speed_mps']:.1f} m/s"
        self._header.draw(picture, f"lost   {status}" if info["crashed"] else status, info["crashed"])
        self._seen.draw(picture, frame)
        self._steering.draw(picture, info["steering"], info["recorded_steering"])
        self._offset.draw(picture, info["lateral_offset_m"] / info["limit_m"])
        return picture
