"""The geometric driver that labels data: pure pursuit of the line to keep, such as the middle of the right-hand lane.

It sees what no camera sees: where the car is on the road. A circle through the rear axle, tangent to the car, is laid
through a point ahead on the lane; the front wheels are turned to follow it (Coulter, *Implementation of the Pure
Pursuit Path Tracking Algorithm*, CMU 1992):

    delta = atan(2 L sin(alpha) / d)

with wheelbase L, distance d and bearing alpha of that point.

`Expert` is a `Driver` (`agents.driving.driver`) that looks at the envs. `Disturbance` pushes the wheel smoothly while a
recording is made; the label stays the expert's, so the data show how to come back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.driving.rollout import perturbed_layer

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above 0."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""


@dataclass(frozen=True, config={"extra": "forbid"})
class ExpertConfig:
    """How the expert looks ahead."""

    lookahead_s: Positive = 0.3
    """Time ahead of the point it aims at, seconds."""
    lookahead_min_m: Positive = 0.35
    """Least distance of that point along the lane, metres; about one wheelbase."""


class Expert:
    """Pure pursuit on the true pose of a `LaneKeeping` or a `Recorded` env."""

    def __init__(self, config: ExpertConfig | None = None):
        """Make an expert that looks ahead as `config` says; as by default when None."""
        self.config = config or ExpertConfig()

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by the true pose of each env; a throttle, where there is one, keeps the drawn speed."""
        actions = [np.zeros(env.action_space.shape or 1, np.float32) for env in envs]
        for action, env in zip(actions, envs, strict=True):
            action[0] = self.steer(env)
        return np.stack(actions)

    def steer(self, env: Any) -> float:
        """Return the steering in [−1, 1], positive left, for the env's present state.

        Where a perturbation exchanges left and right, so does it: the wheel is behind the mirror, too.

        Args:
            env: a `LaneKeeping` or a `Recorded` env, wrapped or not.
        """
        layer = perturbed_layer(env)
        side = -1.0 if layer is not None and layer.mirrors else 1.0
        world = env.unwrapped
        vehicle, track, params = world.vehicle_state, world.track, world.vehicle_params
        x, y, yaw = vehicle.x, vehicle.y, vehicle.yaw
        ahead_m = max(self.config.lookahead_min_m, vehicle.speed * self.config.lookahead_s)
        target_x, target_y = track.point(world.road_position_m + ahead_m, world.target_offset_m)
        dx, dy = float(target_x) - x, float(target_y) - y
        left_m = -math.sin(yaw) * dx + math.cos(yaw) * dy
        angle_rad = math.atan2(2 * params.wheelbase_m * left_m, dx * dx + dy * dy)
        return side * max(-1.0, min(1.0, angle_rad / params.steering_limit_rad))


@dataclass(frozen=True, config={"extra": "forbid"})
class DisturbanceConfig:
    """How hard and how often the wheel is pushed while recording."""

    interval_s: Positive = 2.0
    """Mean time between two pushes, seconds."""
    duration_s: tuple[Positive, Positive] = (0.4, 1.2)
    """Shortest and longest push, seconds."""
    strength: tuple[Share, Share] = (0.3, 1.0)
    """Weakest and strongest push, as a fraction of full lock, to either side."""
    jitter: Share = 0.05
    """Standard deviation of a slow wander on top, as a fraction of full lock."""

    def __post_init__(self) -> None:
        """Check that ranges begin with their smaller end."""
        for name in ("duration_s", "strength"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is a range and begins with its smaller end, got {low:g} to {high:g}.")


class Disturbance:
    """A smooth push on the wheel: half sines at random times, and a slow wander (an Ornstein–Uhlenbeck process)."""

    def __init__(self, config: DisturbanceConfig, period_s: float, generator: np.random.Generator):
        """Start with quiet hands.

        Args:
            config: how hard and how often.
            period_s: time between two calls, seconds.
            generator: owner of the draws.
        """
        self.config, self.period_s, self.generator = config, period_s, generator
        self._wander = 0.0
        self._strength = self._duration_s = self._age_s = 0.0

    def step(self) -> float:
        """Return what to add to the steering for the next period, as a fraction of full lock."""
        config, rng = self.config, self.generator
        decay = math.exp(-self.period_s / 0.5)
        self._wander = decay * self._wander + math.sqrt(1 - decay * decay) * config.jitter * rng.standard_normal()
        if self._age_s >= self._duration_s and rng.random() < self.period_s / config.interval_s:
            self._duration_s = rng.uniform(*config.duration_s)
            self._strength = rng.uniform(*config.strength) * rng.choice((-1.0, 1.0))
            self._age_s = 0.0
        push = 0.0
        if self._age_s < self._duration_s:
            push = self._strength * math.sin(math.pi * (self._age_s + 0.5 * self.period_s) / self._duration_s)
            self._age_s += self.period_s
        return push + self._wander
