"""Another car: grip, mass, geometry, steering, speed, and wind against it.

All of it needs a world that answers. Bullet's car has one wheelbase and no wind; what a longer wheelbase or a side
wind does to the path is done to the steering instead, for both vehicles alike (the docstrings say how).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.lane_keeping.episode import World
from envs.perturbations.perturbation import Clip, Effect, Frame, Moment, Perturbation
from envs.vehicle.vehicle import VehicleParams

Action = NDArray[np.float32]


@dataclass(frozen=True)
class Friction(Perturbation):
    """μ' = f μ: less grip between tyres and road, down to ice.

    Source: Coulomb's law; dynamics randomisation of Peng et al. (ICRA 2018).
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "friction"
    unit: ClassVar[str] = "share f of the friction"
    frames: ClassVar[bool] = False
    random: ClassVar[bool] = False
    changes_world: ClassVar[bool] = True
    doses = (0.5, 0.4, 0.3, 0.23, 0.16)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        share = self.dose
        return _OtherCar(lambda car: replace(car, friction=share * car.friction))


@dataclass(frozen=True)
class Mass(Perturbation):
    """m' = f m with the same motor and brakes: the car also takes f times as long to change its speed.

    The kinematic bicycle has no mass; its speed lags all the same. At a constant speed little is to be expected: the
    grip grows with the mass that it has to hold. So the doses go beyond what a car carries.

    Source: Newton's second law; dynamics randomisation of Peng et al. (ICRA 2018).
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "mass"
    unit: ClassVar[str] = "factor f on the mass"
    frames: ClassVar[bool] = False
    random: ClassVar[bool] = False
    changes_world: ClassVar[bool] = True
    doses = (1.5, 2.3, 3.5, 5.5, 9.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        factor = self.dose
        return _OtherCar(
            lambda car: replace(
                car,
                mass_kg=factor * car.mass_kg,
                acceleration_mps2=car.acceleration_mps2 / factor,
                speed_lag_s=factor * car.speed_lag_s,
            )
        )


@dataclass(frozen=True)
class Wheelbase(Perturbation):
    """tan δ' = tan δ / f: the wheels are turned so that the car takes the bends of one with f times its wheelbase.

    A car of wheelbase L with its wheels at δ drives a curvature tan δ / L. For the kinematic bicycle this is the longer
    car itself, but for the rate limit; for Bullet's, it is its path where tyres do not slip.

    Source: Rajamani, *Vehicle Dynamics and Control*, section 2.2.
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "wheelbase"
    unit: ClassVar[str] = "factor f on the wheelbase"
    frames: ClassVar[bool] = False
    random: ClassVar[bool] = False
    doses = (1.15, 1.3, 1.5, 1.8, 2.2)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _Geared(self.dose)


@dataclass(frozen=True)
class SteeringGain(Perturbation):
    """a' = g a: the steering answers more than it used to, up to full lock.

    Source: ours.
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "steering_gain"
    unit: ClassVar[str] = "factor g"
    frames: ClassVar[bool] = False
    random: ClassVar[bool] = False
    doses = (1.2, 1.5, 1.9, 2.5, 3.5)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        gain = self.dose
        return _OtherSteering(lambda steering: gain * steering)


@dataclass(frozen=True)
class SteeringBias(Perturbation):
    """a' = a ± b: a trim that is off, to one side drawn for the episode.

    Source: the trim of gym-duckietown's domain randomisation.
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "steering_bias"
    unit: ClassVar[str] = "b, share of full lock"
    frames: ClassVar[bool] = False
    doses = (0.04, 0.08, 0.13, 0.2, 0.3)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        bias = self.dose * float(generator.choice([-1.0, 1.0]))
        return _OtherSteering(lambda steering: steering + bias)


@dataclass(frozen=True)
class SteeringDeadZone(Perturbation):
    """a' = sign(a) max(|a| − z, 0): a servo that does not answer to small commands and gives less on large ones.

    Source: Khalil, *Nonlinear Systems*, chapter 1.
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "dead_zone"
    unit: ClassVar[str] = "half width z, share of full lock"
    frames: ClassVar[bool] = False
    random: ClassVar[bool] = False
    doses = (0.04, 0.08, 0.14, 0.22, 0.32)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        zone = self.dose
        return _OtherSteering(lambda steering: math.copysign(max(abs(steering) - zone, 0.0), steering))


@dataclass(frozen=True)
class SteeringLag(Perturbation):
    """τ' = f τ: the wheels follow the command f times as slowly.

    τ dδ/dt = command − δ. Source: the first-order servo of `envs.vehicle.vehicle`.
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "steering_lag"
    unit: ClassVar[str] = "factor f on the time constant"
    frames: ClassVar[bool] = False
    random: ClassVar[bool] = False
    changes_world: ClassVar[bool] = True
    doses = (2.0, 3.5, 5.5, 8.0, 12.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        factor = self.dose
        return _OtherCar(lambda car: replace(car, steering_lag_s=factor * car.steering_lag_s))


@dataclass(frozen=True)
class Speed(Perturbation):
    """v' = f v: the cruise controller holds a higher speed.

    Source: ours.
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "speed"
    unit: ClassVar[str] = "factor f on the speed"
    frames: ClassVar[bool] = False
    random: ClassVar[bool] = False
    changes_world: ClassVar[bool] = True
    doses = (1.15, 1.3, 1.5, 1.75, 2.1)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _Faster(self.dose)


@dataclass(frozen=True)
class SideWind(Perturbation):
    """a' = a + w (1 + g) sin(β): a wind from a fixed direction, at the angle β to the car, with gusts g.

    Its force is given as the steering that it takes to hold against it, w of full lock when it blows from the side.
    g is normal with deviation .5 and forgets in .5 s. β starts anywhere and follows the turning of the car.

    Source: ours; gusts that forget exponentially are those of Dryden (MIL-F-8785C).
    """

    family: ClassVar[str] = "dynamics"
    name: ClassVar[str] = "side_wind"
    unit: ClassVar[str] = "w, share of full lock"
    frames: ClassVar[bool] = False
    doses = (0.06, 0.12, 0.2, 0.3, 0.45)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _Wind(generator, self.dose, clip)


PERTURBATIONS: tuple[type[Perturbation], ...] = (
    Friction,
    Mass,
    Wheelbase,
    SteeringGain,
    SteeringBias,
    SteeringDeadZone,
    SteeringLag,
    Speed,
    SideWind,
)
"""What this file adds to the registry."""

_GUST_S, _GUST = 0.5, 0.5


def steered(action: Action, steering: float) -> Action:
    """The action with another steering, clipped to [−1, 1]; a new array."""
    changed = np.array(action, np.float32)
    changed[0] = min(max(steering, -1.0), 1.0)
    return changed


class _OtherCar(Effect):
    def __init__(self, change: Callable[[VehicleParams], VehicleParams]):
        self._change = change

    def world(self, world: World) -> World:
        return world.with_config(vehicle_params=self._change(world.config.vehicle_params))


class _Faster(Effect):
    def __init__(self, factor: float):
        self._factor = factor

    def world(self, world: World) -> World:
        slow, fast = world.config.speed_mps
        return world.with_config(speed_mps=(self._factor * slow, self._factor * fast))


class _OtherSteering(Effect):
    def __init__(self, change: Callable[[float], float]):
        self._change = change

    def action(self, action: Action, held: float) -> Action:
        return steered(action, self._change(min(max(float(action[0]), -1.0), 1.0)))


class _Geared(Effect):
    def __init__(self, factor: float):
        self._factor, self._lock_rad = factor, VehicleParams().steering_limit_rad

    def world(self, world: World) -> World:
        self._lock_rad = world.config.vehicle_params.steering_limit_rad
        return world

    def action(self, action: Action, held: float) -> Action:
        angle = min(max(float(action[0]), -1.0), 1.0) * self._lock_rad
        return steered(action, math.atan(math.tan(angle) / self._factor) / self._lock_rad)


class _Wind(Effect):
    def __init__(self, generator: np.random.Generator, strength: float, clip: Clip):
        self._generator, self._strength, self._period_s = generator, strength, clip.period_s
        self._angle = float(generator.uniform(-math.pi, math.pi))
        self._gust = float(generator.standard_normal())

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        self._angle -= moment.yaw_rate_radps * moment.elapsed * self._period_s
        return frame

    def action(self, action: Action, held: float) -> Action:
        keep = math.exp(-held * self._period_s / _GUST_S)
        self._gust = keep * self._gust + math.sqrt(1.0 - keep**2) * float(self._generator.standard_normal())
        push = self._strength * (1.0 + _GUST * self._gust) * math.sin(self._angle)
        return steered(action, min(max(float(action[0]), -1.0), 1.0) + push)
