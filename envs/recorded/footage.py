"""One stretch of recorded driving, as the env takes it: arrays, and a function that reads a frame.

    footage = Footage(read=lambda step: frames[step], steering=steering, time_s=time_s, speed_mps=speed_mps,
                      height=120, width=160, camera=CameraParams(height_m=0.15))

`agents.driving.recorded_world` makes them of any recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from envs.camera.lens import CameraParams, FloatArray
from envs.camera.warp import Image
from envs.recorded.line import RecordedLine, reckon, wheel_angles
from envs.vehicle.vehicle import VehicleParams

DIRECTION = 4
"""Frames over which the direction of a lane is taken that the car did not drive in the middle of."""
SLOWEST = 0.2
"""Share of the median speed that a recorded car counts as moving with, at least: a stop would last for ever."""


@dataclass(frozen=True)
class Footage:
    """Frames of one drive, with what was steered and how fast it went.

    Raises:
        ValueError: if lengths disagree, or there are fewer than two frames.
    """

    read: Callable[[int], Image]
    """Gives the frame of a step, uint8 `[height, width, 3]` RGB."""
    steering: NDArray[np.floating]
    """`[T]` in [−1, 1] of full lock, positive left."""
    time_s: NDArray[np.floating]
    """`[T]`, strictly increasing."""
    speed_mps: NDArray[np.floating]
    """`[T]` forward speed."""
    height: int
    """Rows of a frame, pixels."""
    width: int
    """Columns of a frame, pixels."""
    camera: CameraParams
    """Where the camera sat and how its lens draws."""
    car: VehicleParams = VehicleParams()
    """What steering did to the car."""
    period_s: float = 0.05
    """Nominal time between two frames, s."""
    poses: FloatArray | None = None
    """`[T, 3]` x, y (m) and yaw (rad) of the rear axle at each frame, anywhere in the plane; counted out of steering
    and speed when None."""
    lateral_offset_m: NDArray[np.floating] | None = None
    """`[T]` where the recorded car was in its lane, m, positive left; on the line to keep when None."""
    heading_error_rad: NDArray[np.floating] | None = None
    """`[T]` how the recorded car was turned to its lane, rad, positive left; counts beside `lateral_offset_m`, and is
    taken from the line itself when None."""
    lane_width_m: float | None = None
    """Width of the lane, m; None where it is not known."""
    name: str = "recording"
    """What to call it."""

    def __post_init__(self) -> None:
        """Check lengths."""
        steps = len(self.steering)
        if steps < 2:
            raise ValueError(f"{self.name}: at least 2 frames are needed to drive along, got {steps}.")
        given = {"time_s": self.time_s, "speed_mps": self.speed_mps, "poses": self.poses}
        given |= {"lateral_offset_m": self.lateral_offset_m, "heading_error_rad": self.heading_error_rad}
        for name, values in given.items():
            if values is not None and len(values) != steps:
                raise ValueError(f"{self.name}: {name} must have one entry for each of {steps} frames: {len(values)}.")

    def __len__(self) -> int:
        return len(self.steering)

    @cached_property
    def moving_mps(self) -> NDArray[np.float64]:
        """`[T]` the speed, where the car stood that of one which creeps."""
        speed = np.asarray(self.speed_mps, np.float64)
        return np.maximum(speed, max(SLOWEST * float(np.median(speed)), 1e-3))

    @cached_property
    def driven(self) -> FloatArray:
        """`[T, 3]` poses from which the frames were taken."""
        if self.poses is not None:
            return np.asarray(self.poses, np.float64)
        return reckon(self.steering, self.moving_mps, self.time_s, self.car)

    @cached_property
    def wheels_rad(self) -> NDArray[np.float64]:
        """`[T]` where the wheels of the recorded car were, positive left."""
        return wheel_angles(self.steering, self.time_s, self.car)

    @cached_property
    def line(self) -> RecordedLine:
        """The line to keep: the middle of the lane where the recording knows it, else where the car drove."""
        if self.lateral_offset_m is None:
            return RecordedLine(self.driven)
        x, y, yaw = self.driven.T
        offset = np.asarray(self.lateral_offset_m, np.float64)
        known = self.heading_error_rad is not None
        along = yaw - np.asarray(self.heading_error_rad, np.float64) if known else yaw
        x, y = x + offset * np.sin(along), y - offset * np.cos(along)
        if not known:
            even = np.ones(DIRECTION) / DIRECTION
            slopes = [np.convolve(np.pad(np.gradient(c), DIRECTION // 2, "edge"), even, "valid") for c in (x, y)]
            along = np.arctan2(slopes[1], slopes[0])[: len(x)]
        return RecordedLine(np.stack([x, y, along], axis=1))
