"""The cars: one interface, a kinematic bicycle and the MIT racecar in PyBullet.

The pose of a car is that of the middle of its rear axle. The bicycle follows

    dx/dt = v cos ψ,  dy/dt = v sin ψ,  dψ/dt = v tan(δ) / L,  dδ/dt = (command − δ) / lag, |dδ/dt| ≤ rate

(Rajamani, Vehicle Dynamics and Control, section 2.2, with the reference point on the rear axle), and its yaw rate
never asks for more sideways acceleration than friction gives.

    vehicle = BicycleVehicle(VehicleParams())
    vehicle.reset(x=0.0, y=0.0, yaw=0.0, speed=1.5)
    state = vehicle.step(steering=0.2, speed_target=1.5, dt_s=0.05)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

GRAVITY = 9.81
"""m/s²."""
CAR_WIDTH_M = 0.2
"""Distance between the left and right wheels of the cars here, m."""


@dataclass(frozen=True, config={"extra": "forbid"})
class VehicleParams:
    """What a car can do; the defaults are those of the 1:10 MIT racecar."""

    wheelbase_m: Annotated[float, Field(gt=0.0, le=100.0)] = 0.325
    """Distance between the axles, m. PyBullet's car has 0.325 m and takes no other value."""
    mass_kg: Annotated[float, Field(gt=0.0, le=100000.0)] = 5.9
    """Mass of the whole car, kg; matters to the Bullet vehicle only."""
    friction: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    """Coefficient of friction between tyres and road."""
    steering_limit_rad: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Angle of the front wheels at full steering, rad; an action of ±1 asks for it."""
    steering_rate_radps: Annotated[float, Field(gt=0.0, le=1000.0)] = 6.0
    """Fastest change of that angle, rad/s."""
    steering_lag_s: Annotated[float, Field(gt=0.0, le=100.0)] = 0.05
    """Time constant with which the angle follows the command, s."""
    speed_lag_s: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.25
    """Time constant with which the cruise controller reaches the wanted speed, s."""
    acceleration_mps2: Annotated[float, Field(gt=0.0, le=1000.0)] = 4.0
    """Largest acceleration and braking, m/s²."""


class VehicleState(NamedTuple):
    """Where a car is and what it does."""

    x: float
    """Position of the middle of the rear axle, m."""
    y: float
    """Position of the middle of the rear axle, m."""
    yaw: float
    """Direction of travel, rad, counter-clockwise from the x axis, any turn."""
    speed: float
    """Forward speed, m/s."""
    steer: float
    """Angle of the front wheels, rad, positive to the left."""


class Vehicle(ABC):
    """A car that can be placed on the ground and driven in small steps."""

    params: VehicleParams

    @abstractmethod
    def reset(self, x: float, y: float, yaw: float, speed: float) -> VehicleState:
        """Place the car at a pose, rolling straight on at a speed (m/s); what it did before is forgotten."""

    @abstractmethod
    def step(self, steering: float, speed_target: float, dt_s: float) -> VehicleState:
        """Drive for a while with one command.

        Args:
            steering: in [−1, 1] of the steering limit, positive to the left; clipped.
            speed_target: speed the cruise controller holds, m/s.
            dt_s: how long, s.

        Returns:
            The state at the end.

        Raises:
            ValueError: if a number is NaN or infinite, or `dt_s` is not positive.
        """

    def close(self) -> None:  # noqa: B027 - a vehicle without resources has nothing to release
        """Release what the vehicle holds, until the next reset."""


def check_command(steering: float, speed_target: float, dt_s: float) -> None:
    """Check what `Vehicle.step` was given; a NaN would stay in the state for ever.

    Raises:
        ValueError: if a number is NaN or infinite, or the time is not positive.
    """
    if not (math.isfinite(steering) and math.isfinite(speed_target) and 0.0 < dt_s < math.inf):
        raise ValueError(
            f"a command must be finite numbers over a positive time, got steering {steering}, speed {speed_target} m/s "
            f"for {dt_s} s."
        )


class SteeringServo:
    """The steering angle: first-order lag behind the command, limited in rate."""

    def __init__(self, params: VehicleParams):
        self._params = params
        self.angle = 0.0

    def step(self, steering: float, dt_s: float) -> float:
        """Move towards `steering` in [−1, 1] for `dt_s` seconds and return the angle, rad."""
        params = self._params
        wanted = min(max(steering, -1.0), 1.0) * params.steering_limit_rad
        change = (wanted - self.angle) * -math.expm1(-dt_s / params.steering_lag_s)
        most = params.steering_rate_radps * dt_s
        self.angle += min(max(change, -most), most)
        return self.angle


class BicycleVehicle(Vehicle):
    """The kinematic bicycle with steering lag, integrated by the midpoint rule in steps of 10 ms or less."""

    def __init__(self, params: VehicleParams | None = None):
        self.params = params or VehicleParams()
        self._servo = SteeringServo(self.params)
        self._x = self._y = self._yaw = self._speed = 0.0

    def reset(self, x: float, y: float, yaw: float, speed: float, steer_rad: float = 0.0) -> VehicleState:
        """Place the car at a pose, rolling on at a speed (m/s) with its wheels at an angle."""
        self._servo.angle = steer_rad
        self._x, self._y, self._yaw, self._speed = float(x), float(y), float(yaw), float(speed)
        return self._state()

    def step(self, steering: float, speed_target: float, dt_s: float) -> VehicleState:
        """Drive for `dt_s` seconds with one command; see `Vehicle.step`."""
        check_command(steering, speed_target, dt_s)
        params, servo = self.params, self._servo
        count = max(1, math.ceil(dt_s / 0.01 - 1e-9))
        h = dt_s / count
        speed_gain = -math.expm1(-h / params.speed_lag_s)
        speed_most = params.acceleration_mps2 * h
        x, y, yaw, speed = self._x, self._y, self._yaw, self._speed
        grip = params.friction * GRAVITY
        for _ in range(count):
            before = servo.angle
            angle = 0.5 * (before + servo.step(steering, h))
            change = (speed_target - speed) * speed_gain
            change = min(max(change, -speed_most), speed_most)
            middle = speed + 0.5 * change
            curvature = math.tan(angle) / params.wheelbase_m
            most = grip / max(middle * middle, 1e-6)
            turn = middle * h * min(max(curvature, -most), most)
            x += middle * h * math.cos(yaw + 0.5 * turn)
            y += middle * h * math.sin(yaw + 0.5 * turn)
            yaw += turn
            speed += change
        self._x, self._y, self._yaw, self._speed = x, y, yaw, speed
        return self._state()

    def _state(self) -> VehicleState:
        return VehicleState(self._x, self._y, self._yaw, self._speed, self._servo.angle)
