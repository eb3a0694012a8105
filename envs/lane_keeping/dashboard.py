"""A picture for people of what the car sees and does: camera, map, steering, offset, speed, time.

The large picture is drawn again, finer than the frame that the driver gets; that frame stands below it as it is.

view = HumanView(scene, height=48, width=96)
picture = view.draw(moment)  # uint8 [540, 960, 3]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from envs.camera.warp import Image
from envs.scene.scene import Scene

HEIGHT, WIDTH = 540, 960

_PANEL = 280
_INK = (228, 232, 236)
_DIM = (128, 136, 146)
_PAPER = (24, 27, 32)
_ROAD = (74, 80, 90)
_LINE = (232, 190, 60)
_CAR = (96, 190, 255)
_BAD = (240, 96, 84)
_GOOD = (120, 210, 130)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Moment:
    """What there is to show.

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


class HumanView:
    """Draws moments of one scene; the map is drawn once."""

    def __init__(self, scene: Scene, height: int, width: int):
        """Draw the map, and make the scene anew in the size of the large picture, without noise or blur.

        Args:
            scene: road, look and camera.
            height: rows of the driver's frames.
            width: columns of the driver's frames.
        """
        track = scene.track
        look = replace(scene.look, noise=0.0, blur_px=0.0, exposure_s=0.0)
        self._fine = Scene(track, look, scene.params, *_fine_size(height, width), 1.5 * scene.pixels_per_m)
        self._size = _PANEL - 24
        low, high = track.points.min(axis=0) - track.lane_width_m, track.points.max(axis=0) + track.lane_width_m
        self._scale = (self._size - 8) / float((high - low).max())
        self._middle = 0.5 * (low + high)
        self._map = np.full((self._size, self._size, 3), _PAPER, np.uint8)
        line = np.array([self._place(x, y) for x, y in track.points[::2]], np.int32)
        width = max(2, round(2.0 * track.lane_width_m * self._scale))
        cv2.polylines(self._map, [line], True, _ROAD, width, cv2.LINE_AA)
        cv2.polylines(self._map, [line], True, _LINE, 1, cv2.LINE_AA)

    def draw(self, moment: Moment) -> Image:
        """Draw one moment; uint8 `[540, 960, 3]` RGB."""
        sheet = np.full((HEIGHT, WIDTH, 3), _PAPER, np.uint8)
        fine = self._fine.frame(moment.x, moment.y, moment.yaw, moment.s)
        height, width = fine.shape[:2]
        sheet[12 : 12 + height, 12 : 12 + width] = fine
        _draw_frame(sheet, moment.frame, 12 + height + 30)
        cv2.putText(sheet, "what the driver gets", (12, 12 + height + 20), _FONT, 0.45, _DIM, 1, cv2.LINE_AA)
        left, top = WIDTH - _PANEL, 12
        chart = self._map.copy()
        column, row = self._place(moment.x, moment.y)
        nose = (round(column + 14 * math.cos(moment.yaw)), round(row - 14 * math.sin(moment.yaw)))
        cv2.line(chart, (column, row), nose, _CAR, 2, cv2.LINE_AA)
        cv2.circle(chart, (column, row), 5, _BAD if moment.crashed else _CAR, -1, cv2.LINE_AA)
        sheet[top : top + self._size, left + 12 : left + 12 + self._size] = chart
        self._draw_wheel(sheet, (left + 72, 342), moment.steering)
        cv2.putText(sheet, f"{moment.speed_mps:.1f} m/s", (left + 142, 320), _FONT, 0.7, _INK, 1, cv2.LINE_AA)
        cv2.putText(sheet, f"{moment.time_s:.1f} s", (left + 142, 350), _FONT, 0.6, _DIM, 1, cv2.LINE_AA)
        cv2.putText(sheet, f"{moment.progress_m:.0f} m", (left + 142, 378), _FONT, 0.6, _DIM, 1, cv2.LINE_AA)
        share = moment.lateral_offset_m / (0.5 * moment.lane_width_m)
        text = f"offset {100 * moment.lateral_offset_m:+.1f} cm"
        _draw_scale(sheet, (left + 24, 446), _PANEL - 48, -share, text, "left", "right")
        _draw_scale(
            sheet, (left + 24, 506), _PANEL - 48, -moment.steering, f"steering {moment.steering:+.2f}", "left", "right"
        )
        if moment.crashed:
            cv2.putText(sheet, "off the road", (24, HEIGHT - 24), _FONT, 1.0, _BAD, 2, cv2.LINE_AA)
        return sheet

    def _place(self, x: float, y: float) -> tuple[int, int]:
        half = self._size / 2
        column = round(half + (x - float(self._middle[0])) * self._scale)
        return column, round(half - (y - float(self._middle[1])) * self._scale)

    def _draw_wheel(self, sheet: Image, centre: tuple[int, int], steering: float) -> None:
        radius = 46
        cv2.circle(sheet, centre, radius, _INK, 5, cv2.LINE_AA)
        angle = -steering * 0.5 * math.pi
        for spoke in (0.0, math.pi, 0.5 * math.pi):
            end = (
                round(centre[0] + radius * math.cos(angle + spoke)),
                round(centre[1] + radius * math.sin(angle + spoke)),
            )
            cv2.line(sheet, centre, end, _INK, 5, cv2.LINE_AA)
        cv2.circle(sheet, centre, 9, _INK, -1, cv2.LINE_AA)


def _fine_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the large picture for frames of a size."""
    zoom = min((WIDTH - _PANEL - 12) / width, (HEIGHT - 190) / height)
    return round(height * zoom), round(width * zoom)


def _draw_frame(sheet: Image, frame: Image, top: int) -> None:
    zoom = min((WIDTH - _PANEL - 12) / frame.shape[1], (HEIGHT - 12 - top) / frame.shape[0])
    width, height = round(frame.shape[1] * zoom), round(frame.shape[0] * zoom)
    sheet[top : top + height, 12 : 12 + width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST)


def _draw_scale(
    sheet: Image, corner: tuple[int, int], width: int, value: float, title: str, low: str, high: str
) -> None:
    """A bar from −1 to 1 with a mark at `value`."""
    left, row = corner
    cv2.putText(sheet, title, (left, row - 18), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    cv2.line(sheet, (left, row), (left + width, row), _ROAD, 8, cv2.LINE_AA)
    middle = left + width // 2
    cv2.line(sheet, (middle, row - 8), (middle, row + 8), _DIM, 1, cv2.LINE_AA)
    place = round(middle + max(-1.0, min(1.0, value)) * width / 2)
    cv2.circle(sheet, (place, row), 8, _GOOD if abs(value) < 1.0 else _BAD, -1, cv2.LINE_AA)
    cv2.putText(sheet, low, (left, row + 22), _FONT, 0.4, _DIM, 1, cv2.LINE_AA)
    size = cv2.getTextSize(high, _FONT, 0.4, 1)[0][0]
    cv2.putText(sheet, high, (left + width - size, row + 22), _FONT, 0.4, _DIM, 1, cv2.LINE_AA)
