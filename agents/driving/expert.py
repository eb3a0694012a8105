"""The geometric driver that labels data: pure pursuit of the middle of the right-hand lane.

It sees what no camera sees: where the car is on the road. A circle through the rear axle, tangent to the car, is laid
through a point ahead on the lane; the front wheels are turned to follow it (Coulter, *Implementation of the Pure
Pursuit Path Tracking Algorithm*, CMU 1992):

    delta = atan(2 L sin(alpha) / d)

with wheelbase L, distance d and bearing alpha of that point.

`Disturbance` pushes the wheel smoothly while a recording is made; the label stays the expert's, so the data show how
to come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ExpertConfig:
    """How the expert looks ahead."""

    lookahead_s: float = 0.3
    """Time ahead of the point it aims at, seconds."""
    lookahead_min_m: float = 0.35
    """Least distance of that point along the lane, metres; about one wheelbase."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (self.lookahead_s > 0 and self.lookahead_min_m > 0):
            raise ValueError("lookahead_s and lookahead_min_m must be positive.")


class Expert:
    """Pure pursuit on the true pose of a `LaneKeeping` env."""

    def __init__(self, config: ExpertConfig | None = None):
        """Build the expert."""
        self.config = config or ExpertConfig()

    def steer(self, env: Any) -> float:
        """Return the steering in [−1, 1], positive left, for the env's present state.

        Args:
            env: a `LaneKeeping` env, wrapped or not.
        """
        world = env.unwrapped
        vehicle, track, params = world.vehicle_state, world.track, world.vehicle_params
        x, y, yaw = vehicle.x, vehicle.y, vehicle.yaw
        ahead_m = max(self.config.lookahead_min_m, vehicle.speed * self.config.lookahead_s)
        target_x, target_y = track.point(world.road_position_m + ahead_m, track.right_lane_offset())
        dx, dy = float(target_x) - x, float(target_y) - y
        left_m = -math.sin(yaw) * dx + math.cos(yaw) * dy
        angle_rad = math.atan2(2 * params.wheelbase_m * left_m, dx * dx + dy * dy)
        return max(-1.0, min(1.0, angle_rad / params.steering_limit_rad))


@dataclass(frozen=True)
class DisturbanceConfig:
    """How hard and how often the wheel is pushed while recording."""

    interval_s: float = 2.0
    """Mean time between two pushes, seconds."""
    duration_s: tuple[float, float] = (0.4, 1.2)
    """Shortest and longest push, seconds."""
    strength: tuple[float, float] = (0.3, 1.0)
    """Weakest and strongest push, as a fraction of full lock, to either side."""
    jitter: float = 0.05
    """Standard deviation of a slow wander on top, as a fraction of full lock."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (self.interval_s > 0 and 0 < self.duration_s[0] <= self.duration_s[1]):
            raise ValueError("interval_s and duration_s must be positive, the shortest push first.")
        if not (0 <= self.strength[0] <= self.strength[1] <= 1 and 0 <= self.jitter <= 1):
            raise ValueError("strength and jitter are fractions of full lock in [0, 1], the weakest push first.")


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
