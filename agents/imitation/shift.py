"""A world that is not the one a driver learnt in: less grip, a camera put on anew, a steering that turns otherwise.

Unlike perturbations, which draw another change in every episode, a shift stays: it is there to be learnt.

    env = shifted_env(LaneKeepingConfig(vehicle="bicycle"), Shift(steering_gain=0.6))
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.driving.expert import Expert, ExpertConfig
from agents.driving.recorded_world import World, make_world_env
from envs.camera.plane import Pose, Reprojector, View
from envs.lane_keeping.config import LaneKeepingConfig

Degrees = Annotated[float, Field(ge=-30, le=30)]


@dataclass(frozen=True, config={"extra": "forbid"})
class Shift:
    """What is different."""

    friction: Annotated[float, Field(gt=0, le=10)] | None = None
    """Coefficient of friction between tyres and road; that of the world when None."""
    steering_gain: Annotated[float, Field(gt=0, le=5)] = 1.0
    """What the car makes of the steering: this much of it, at most full lock."""
    camera_pitch_deg: Degrees = 0.0
    """The camera looks so much lower, degrees."""
    camera_yaw_deg: Degrees = 0.0
    """The camera looks so much further to the left, degrees."""
    camera_height: Annotated[float, Field(gt=0.2, le=5)] = 1.0
    """The camera sits so many times as high."""

    @property
    def is_none(self) -> bool:
        """Whether nothing is different."""
        return self == Shift()


def shifted_env(world: World, shift: Shift) -> gymnasium.Env[Any, Any]:
    """Make the env of a world under a shift.

    Raises:
        ValueError: if the grip of a recording is to change.
    """
    if shift.friction is not None:
        if not isinstance(world, LaneKeepingConfig):
            raise ValueError("friction is for LaneKeeping: along recordings, shift the steering or the camera.")
        world = replace(world, vehicle_params=replace(world.vehicle_params, friction=shift.friction))
    env = make_world_env(world)
    return env if shift.is_none else ShiftedEnv(env, shift)


class ShiftedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """LaneKeeping or Recorded with another steering and another camera, redrawn over the flat road."""

    def __init__(self, env: gymnasium.Env[Any, Any], shift: Shift):
        """Wrap an env with a camera."""
        super().__init__(env)
        self.shift = shift
        self._reprojector: Reprojector | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the camera is shifted from where it is in this one."""
        observation, info = self.env.reset(seed=seed, options=options)
        shift, world = self.shift, self.env.unwrapped
        self._reprojector = None
        if (shift.camera_pitch_deg, shift.camera_yaw_deg, shift.camera_height) != (0.0, 0.0, 1.0):
            height, width, _ = observation["camera"].shape
            here = world.scene.params if hasattr(world, "scene") else world.camera_params  # type: ignore[attr-defined]
            there = replace(
                here,
                pitch_deg=here.pitch_deg + shift.camera_pitch_deg,
                yaw_deg=here.yaw_deg + shift.camera_yaw_deg,
                height_m=here.height_m * shift.camera_height,
            )
            self._reprojector = Reprojector(View(here, height, width), View(there, height, width))
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Drive with the steering as the car takes it."""
        taken: NDArray[np.float32] = np.array(action, np.float32)
        taken[0] = np.clip(taken[0] * self.shift.steering_gain, -1.0, 1.0)
        observation, *rest = self.env.step(taken)
        return (self._seen(observation), *rest)  # type: ignore[return-value]

    def _seen(self, observation: dict[str, Any]) -> dict[str, Any]:
        if self._reprojector is None:
            return observation
        return {**observation, "camera": self._reprojector.warp(observation["camera"], Pose())}


class ShiftedExpert(Expert):
    """The expert as one who knows the shifted car: it turns the wheel by as much more as the car makes less of it."""

    def __init__(self, shift: Shift, config: ExpertConfig | None = None):
        """Seat an expert in a shifted car."""
        super().__init__(config)
        self.shift = shift

    def steer(self, env: Any) -> float:
        """Return the steering in [−1, 1], positive left; see `Expert.steer`."""
        return max(-1.0, min(1.0, super().steer(env) / self.shift.steering_gain))
