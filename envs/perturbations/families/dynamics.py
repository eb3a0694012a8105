"""Another car: grip, mass, geometry, steering, speed, and wind against it.

All of it needs an env that answers. Bullet's car has one wheelbase and no wind; what a longer wheelbase or a side
wind does to the path is done to the steering instead, for both vehicles alike (the docstrings say how).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from envs.camera.info import CameraInfo
from envs.lane_keeping.scenario import Scenario
from envs.perturbations.perturbation import Action, Effect, Frame, Moment, declare_perturbation
from envs.perturbations.steered import steered
from envs.vehicle.vehicle import VehicleParams


@declare_perturbation(
    "dynamics",
    unit="share f of the friction",
    doses=(0.5, 0.4, 0.3, 0.23, 0.16),
    frames=False,
    random=False,
    changes_scenario=True,
)
def friction(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """μ' = f μ: less grip between tyres and road, down to ice.

    Source: Coulomb's law; dynamics randomisation of Peng et al. (ICRA 2018).
    """
    share = dose
    return _OtherCar(lambda car: replace(car, friction=share * car.friction))


@declare_perturbation(
    "dynamics",
    unit="factor f on the mass",
    doses=(1.5, 2.3, 3.5, 5.5, 9.0),
    frames=False,
    random=False,
    changes_scenario=True,
)
def mass(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """m' = f m with the same motor and brakes: the car also takes f times as long to change its speed.

    The kinematic bicycle has no mass; its speed lags all the same. At a constant speed little is to be expected: the
    grip grows with the mass that it has to hold. So the doses go beyond what a car carries.

    Source: Newton's second law; dynamics randomisation of Peng et al. (ICRA 2018).
    """
    factor = dose
    return _OtherCar(
        lambda car: replace(
            car,
            mass_kg=factor * car.mass_kg,
            acceleration_mps2=car.acceleration_mps2 / factor,
            speed_lag_s=factor * car.speed_lag_s,
        )
    )


@declare_perturbation(
    "dynamics", unit="factor f on the wheelbase", doses=(1.15, 1.3, 1.5, 1.8, 2.2), frames=False, random=False
)
def wheelbase(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """tan δ' = tan δ / f: the wheels are turned so that the car takes the bends of one with f times its wheelbase.

    A car of wheelbase L with its wheels at δ drives a curvature tan δ / L. For the kinematic bicycle this is the longer
    car itself, but for the rate limit; for Bullet's, it is its path where tyres do not slip.

    Source: Rajamani, *Vehicle Dynamics and Control*, section 2.2.
    """
    return _Geared(dose)


@declare_perturbation("dynamics", unit="factor g", doses=(1.2, 1.5, 1.9, 2.5, 3.5), frames=False, random=False)
def steering_gain(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """a' = g a: the steering answers more than it used to, up to full lock.

    Source: ours.
    """
    gain = dose
    return _OtherSteering(lambda steering: gain * steering)


@declare_perturbation("dynamics", unit="b, share of full lock", doses=(0.04, 0.08, 0.13, 0.2, 0.3), frames=False)
def steering_bias(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """a' = a ± b: a trim that is off, to one side drawn for the episode.

    Source: the trim of gym-duckietown's domain randomisation.
    """
    bias = dose * float(generator.choice([-1.0, 1.0]))
    return _OtherSteering(lambda steering: steering + bias)


@declare_perturbation(
    "dynamics",
    unit="half width z, share of full lock",
    doses=(0.04, 0.08, 0.14, 0.22, 0.32),
    frames=False,
    random=False,
)
def dead_zone(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """a' = sign(a) max(|a| − z, 0): a servo that does not answer to small commands and gives less on large ones.

    Source: Khalil, *Nonlinear Systems*, chapter 1.
    """
    zone = dose
    return _OtherSteering(lambda steering: math.copysign(max(abs(steering) - zone, 0.0), steering))


@declare_perturbation(
    "dynamics",
    unit="factor f on the time constant",
    doses=(2.0, 3.5, 5.5, 8.0, 12.0),
    frames=False,
    random=False,
    changes_scenario=True,
)
def steering_lag(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """τ' = f τ: the wheels follow the command f times as slowly.

    τ dδ/dt = command − δ. Source: the first-order servo of `envs.vehicle.vehicle`.
    """
    factor = dose
    return _OtherCar(lambda car: replace(car, steering_lag_s=factor * car.steering_lag_s))


@declare_perturbation(
    "dynamics",
    unit="factor f on the speed",
    doses=(1.15, 1.3, 1.5, 1.75, 2.1),
    frames=False,
    random=False,
    changes_scenario=True,
)
def speed(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """v' = f v: the cruise controller holds a higher speed.

    Source: ours.
    """
    return _Faster(dose)


@declare_perturbation("dynamics", unit="w, share of full lock", doses=(0.06, 0.12, 0.2, 0.3, 0.45), frames=False)
def side_wind(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """a' = a + w (1 + g) sin(β): a wind from a fixed direction, at the angle β to the car, with gusts g.

    Its force is given as the steering that it takes to hold against it, w of full lock when it blows from the side.
    g is normal with deviation .5 and forgets in .5 s. β starts anywhere and follows the turning of the car.

    Source: ours; gusts that forget exponentially are those of Dryden (MIL-F-8785C).
    """
    return _Wind(generator, dose, camera)


_GUST_S, _GUST = 0.5, 0.5


class _OtherCar(Effect):
    def __init__(self, change: Callable[[VehicleParams], VehicleParams]):
        self._change = change

    def scenario(self, scenario: Scenario) -> Scenario:
        return scenario.with_config(vehicle_params=self._change(scenario.config.vehicle_params))


class _Faster(Effect):
    def __init__(self, factor: float):
        self._factor = factor

    def scenario(self, scenario: Scenario) -> Scenario:
        slow, fast = scenario.config.speed_mps
        return scenario.with_config(speed_mps=(self._factor * slow, self._factor * fast))


class _OtherSteering(Effect):
    def __init__(self, change: Callable[[float], float]):
        self._change = change

    def action(self, action: Action, held: float) -> Action:
        return steered(action, self._change(min(max(float(action[0]), -1.0), 1.0)))


class _Geared(Effect):
    def __init__(self, factor: float):
        self._factor, self._lock_rad = factor, VehicleParams().steering_limit_rad

    def scenario(self, scenario: Scenario) -> Scenario:
        self._lock_rad = scenario.config.vehicle_params.steering_limit_rad
        return scenario

    def action(self, action: Action, held: float) -> Action:
        angle = min(max(float(action[0]), -1.0), 1.0) * self._lock_rad
        return steered(action, math.atan(math.tan(angle) / self._factor) / self._lock_rad)


class _Wind(Effect):
    def __init__(self, generator: np.random.Generator, strength: float, camera: CameraInfo):
        self._generator, self._strength, self._period_s = generator, strength, camera.period_s
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
