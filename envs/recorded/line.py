"""The line that a recorded car drove, with what a driver and an expert ask of it.

Where the recording knows no poses they are counted out of steering and speed (dead reckoning), by the car model that
drives in the env. The line is then wrong in the large, so laps do not close, but right over the few metres that a
camera sees; and a car that repeats the recorded steering stays on it.

    line = RecordedLine(reckon(steering, speed_mps, time_s, VehicleParams()))
    s, lateral_m, heading_rad, frame = line.locate(x, y, near=0)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.road.curves import FloatArray, wrap
from envs.vehicle.vehicle import BicycleVehicle, SteeringServo, VehicleParams

LEAST_STEP_M = 1e-4
"""Way between two frames that counts for a car that stands: stations must rise."""


def reckon(
    steering: NDArray[np.floating], speed_mps: NDArray[np.floating], time_s: NDArray[np.floating], car: VehicleParams
) -> FloatArray:
    """Count poses out of what was steered, from the origin on.

    Args:
        steering: `[T]` in [−1, 1], positive left; each value holds until the next frame.
        speed_mps: `[T]` at each frame.
        time_s: `[T]`, strictly increasing.
        car: that drives.

    Returns:
        `[T, 3]` x, y (m) and yaw (rad) of the rear axle at each frame.
    """
    vehicle = BicycleVehicle(car)
    state = vehicle.reset(0.0, 0.0, 0.0, float(speed_mps[0]))
    poses = np.empty((len(steering), 3))
    for step in range(len(steering)):
        poses[step] = state.x, state.y, state.yaw
        if step + 1 < len(steering):
            held_s = float(time_s[step + 1] - time_s[step])
            state = vehicle.step(float(steering[step]), float(speed_mps[step + 1]), held_s)
    return poses


def wheel_angles(
    steering: NDArray[np.floating], time_s: NDArray[np.floating], car: VehicleParams
) -> NDArray[np.float64]:
    """Return where the wheels were at each frame, `[T]` rad, positive left: the servo follows what was steered."""
    servo = SteeringServo(car)  # straight before the first frame: what was steered there is not known
    angles = np.empty(len(steering))
    for step in range(len(steering)):
        angles[step] = servo.angle
        if step + 1 < len(steering):
            held_s = float(time_s[step + 1] - time_s[step])
            count = max(1, math.ceil(held_s / 0.01 - 1e-9))
            for _ in range(count):
                servo.step(float(steering[step]), held_s / count)
    return angles


class RecordedLine:
    """An open line through the poses of a recording.

    Attributes:
        poses: `[T, 3]` x, y (m) and yaw (rad) at each frame.
        stations_m: `[T]` way along the line at each frame, strictly increasing.
        length_m: way from the first frame to the last.
    """

    def __init__(self, poses: FloatArray):
        """Take poses `[T, 3]`, T at least 2.

        Raises:
            ValueError: if there are fewer, or one is not finite.
        """
        poses = np.asarray(poses, np.float64)
        if poses.ndim != 2 or poses.shape[1] != 3 or len(poses) < 2 or not np.isfinite(poses).all():
            raise ValueError(f"a recorded line takes at least 2 finite poses [T, 3], got shape {poses.shape}.")
        self.poses = poses
        steps = np.maximum(np.hypot(*np.diff(poses[:, :2], axis=0).T), LEAST_STEP_M)
        self.stations_m = np.concatenate([[0.0], np.cumsum(steps)])
        self.length_m = float(self.stations_m[-1])
        self._yaw = np.unwrap(poses[:, 2])
        # Over about half a metre or ten frames: a single step of a recorded clock says nothing about a bend.
        reach = min(10, len(poses) - 1)
        turn = self._yaw[reach:] - self._yaw[:-reach]
        way = self.stations_m[reach:] - self.stations_m[:-reach]
        middle = 0.5 * (self.stations_m[reach:] + self.stations_m[:-reach])
        self._curvature = np.interp(self.stations_m, middle, turn / way)

    def frame_at(self, s: float) -> int:
        """Number of the frame that was taken nearest to a station, m."""
        after = int(np.searchsorted(self.stations_m, s))
        before = max(after - 1, 0)
        after = min(after, len(self.stations_m) - 1)
        return after if self.stations_m[after] - s < s - self.stations_m[before] else before

    def heading(self, s: ArrayLike) -> FloatArray:
        """Direction of the line at a station, rad in (−π, π]."""
        return wrap(np.interp(np.asarray(s, np.float64), self.stations_m, self._yaw))

    def curvature(self, s: ArrayLike) -> FloatArray:
        """Curvature of the line at a station, 1/m, positive to the left."""
        return np.interp(np.asarray(s, np.float64), self.stations_m, self._curvature)

    def point(self, s: ArrayLike, lateral: ArrayLike = 0.0) -> FloatArray:
        """Positions `[..., 2]` at a station and `lateral` metres to the left; straight on beyond the ends."""
        s = np.asarray(s, np.float64)
        inside = np.clip(s, 0.0, self.length_m)
        yaw = np.interp(inside, self.stations_m, self._yaw)
        beyond = s - inside
        lateral = np.asarray(lateral, np.float64)
        x = np.interp(inside, self.stations_m, self.poses[:, 0]) + beyond * np.cos(yaw) - lateral * np.sin(yaw)
        y = np.interp(inside, self.stations_m, self.poses[:, 1]) + beyond * np.sin(yaw) + lateral * np.cos(yaw)
        return np.stack([x, y], axis=-1)

    def locate(self, x: float, y: float, near: int) -> tuple[float, float, int]:
        """Find a position beside the line, searching outwards from a frame: a line may cross itself.

        Args:
            x: position, m.
            y: position, m.
            near: number of the frame to begin at; the last answer.

        Returns:
            Station, m; way to the left of the line, m; number of the nearest frame.
        """
        poses, at = self.poses, near
        best = (poses[at, 0] - x) ** 2 + (poses[at, 1] - y) ** 2
        for way in (1, -1):
            moved = False
            while 0 <= at + way < len(poses):
                square = (poses[at + way, 0] - x) ** 2 + (poses[at + way, 1] - y) ** 2
                if square > best:
                    break
                at, best, moved = at + way, square, True
            if moved:
                break
        answer = (float(self.stations_m[at]), math.inf)
        for first in (at - 1, at):
            if not 0 <= first < len(poses) - 1:
                continue
            along = poses[first + 1, :2] - poses[first, :2]
            to = np.array([x, y]) - poses[first, :2]
            square = float(along @ along)
            part = min(max(float(to @ along) / square, 0.0), 1.0) if square > 0.0 else 0.0
            off = to - part * along
            distance = math.hypot(off[0], off[1])
            if distance < abs(answer[1]):
                side = 1.0 if along[0] * to[1] - along[1] * to[0] >= 0.0 else -1.0
                station = self.stations_m[first] + part * (self.stations_m[first + 1] - self.stations_m[first])
                answer = (float(station), side * distance)
        return (*answer, at)
