"""A drive in LaneKeeping, kept as footage."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from envs.lane_keeping.env import LaneKeepingEnv
from envs.recorded.footage import Footage

SEED = 5


def world() -> LaneKeepingEnv:
    return LaneKeepingEnv(vehicle="bicycle", start_offset=0.3, variety=0.5)


def follow(env: Any, lookahead_m: float = 0.5) -> float:
    """Pure pursuit of the line to keep; for LaneKeeping and for Recorded."""
    state, params = env.vehicle_state, env.vehicle_params
    x, y = env.track.point(env.road_position_m + lookahead_m, env.target_offset_m)
    dx, dy = float(x) - state.x, float(y) - state.y
    left_m = -math.sin(state.yaw) * dx + math.cos(state.yaw) * dy
    return math.atan2(2 * params.wheelbase_m * left_m, dx * dx + dy * dy) / params.steering_limit_rad


@lru_cache(maxsize=1)
def drive(steps: int = 120) -> dict[str, Any]:
    """Drive in wide curves about the lane; what an env with a camera gives at each step."""
    env = world()
    observation, info = env.reset(seed=SEED)
    kept: dict[str, list[Any]] = {
        name: [] for name in ("frame", "pose", "speed", "time", "offset", "steering", "heading")
    }
    for step in range(steps):
        state = env.vehicle_state
        steering = float(np.clip(follow(env) + 0.2 * math.sin(step / 7), -1, 1))
        row = (observation["camera"], state[:3], state.speed, info["time_s"], info["lateral_offset_m"], steering)
        for name, value in zip(kept, (*row, info["heading_error_rad"]), strict=True):
            kept[name].append(value)
        observation, _, terminated, _, info = env.step(np.array([steering], np.float32))
        assert not terminated
    drive: dict[str, Any] = {name: np.array(values) for name, values in kept.items()}
    return drive | {"camera": env.scene.params, "car": env.vehicle_params, "lane_width_m": info["lane_width_m"]}


def footage(posed: bool = True) -> Footage:
    """That drive, with its poses and offsets or with its steering alone."""
    kept = drive()
    frames = kept["frame"]
    extra: dict[str, Any] = {}
    if posed:
        extra = {"poses": kept["pose"], "lateral_offset_m": kept["offset"], "heading_error_rad": kept["heading"]}
    return Footage(
        read=lambda step: frames[step],
        steering=kept["steering"],
        time_s=kept["time"],
        speed_mps=kept["speed"],
        height=48,
        width=96,
        camera=kept["camera"],
        car=kept["car"],
        lane_width_m=kept["lane_width_m"],
        name="laps",
        **extra,
    )
