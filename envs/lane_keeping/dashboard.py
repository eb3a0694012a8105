"""A picture for people of what the car sees and does: camera, map, steering, offset, speed, time.

The large picture is drawn again, finer than the frame that the driver gets; that frame stands beside it as it is.

dashboard = Dashboard(scene, height=48, width=96, period_s=0.05)
picture = dashboard.draw(state)  # uint8 [720, 1280, 3]
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from envs.camera.warp import Image
from envs.dashboard.canvas import ALARM, DRIVER, Box, Color, blank_picture
from envs.dashboard.layout import plan
from envs.dashboard.panels import Header, MapPanel, SeenPanel, SteeringPanel, StripPanel
from envs.scene.scene import Scene

OFFSET_SCALES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Limits of the strip of offsets, shares of the lane width."""


@dataclass(frozen=True)
class DashboardState:
    """One picture's worth of what the car sees and does.

    Attributes:
        frame: uint8 `[h, w, 3]` RGB, the frame that the driver gets.
        x: position of the car, m.
        y: position of the car, m.
        yaw: direction of the car, rad.
        s: arc length along the centre line, m.
        steering: in [−1, 1], positive to the left.
        lateral_offset_m: distance from the middle of the lane, positive to the left.
        lane_width_m: width of the lane.
        speed_mps: speed.
        time_s: since the start.
        progress_m: way made.
        crashed: whether the car left the road.
    """

    frame: Image
    x: float
    y: float
    yaw: float
    s: float
    steering: float
    lateral_offset_m: float
    lane_width_m: float
    speed_mps: float
    time_s: float
    progress_m: float
    crashed: bool


class Dashboard:
    """Draws the pictures of one scene; what does not move is drawn once."""

    def __init__(self, scene: Scene, height: int, width: int, period_s: float):
        """Lay out the panels, and make the scene again in the size of the large picture, without noise or blur.

        Args:
            scene: road, look and camera.
            height: rows of the driver's frames.
            width: columns of the driver's frames.
            period_s: time from one picture to the next, s.
        """
        boxes = plan(width / height)
        look = replace(scene.look, noise=0.0, blur_px=0.0, exposure_s=0.0)
        size = boxes.view.height, boxes.view.width
        self._fine = Scene(scene.track, look, scene.params, *size, 1.5 * scene.pixels_per_m)
        self._view = boxes.view
        self._header = Header(boxes.header, "LaneKeeping", "")
        self._map = MapPanel(boxes.side_top, scene.track)
        self._seen = SeenPanel(boxes.side_bottom, "WHAT THE DRIVER GETS", f"{width}×{height} pixels")
        self._steering = SteeringPanel(boxes.steering)
        self._offset = offset_strip(boxes.below, period_s)

    def draw(self, state: DashboardState) -> Image:
        """Draw one picture, uint8 `[720, 1280, 3]` RGB."""
        picture = blank_picture()
        self._view.of(picture)[:] = self._fine.frame(state.x, state.y, state.yaw, state.s)
        status = f"{state.time_s:.1f} s   {state.progress_m:.0f} m   {state.speed_mps:.1f} m/s"
        self._header.draw(picture, f"off the road   {status}" if state.crashed else status, state.crashed)
        self._map.draw(picture, (state.x, state.y, state.yaw, state.crashed, ALARM if state.crashed else DRIVER))
        self._seen.draw(picture, state.frame)
        self._steering.draw(picture, state.steering)
        self._offset.draw(picture, state.lateral_offset_m / state.lane_width_m)
        return picture


def offset_strip(box: Box, period_s: float, color: Color = DRIVER) -> StripPanel:
    """Return the strip of the offset from the middle of the lane, as a share of the lane width.

    Args:
        box: where to draw.
        period_s: time from one value to the next, s.
        color: of the line.
    """
    caption, note = "OFFSET FROM THE LANE'S MIDDLE", "share of its width; a flat line is good"
    return StripPanel(
        box, caption, note, period_s, OFFSET_SCALES, lambda limit: f"{100 * limit:.0f} %", (("driver", color),)
    )
