"""The car, lane and camera of an env, and of what was recorded in it; see `policies.car`.

car_of_episodes(load_episodes("runs/record"))  # CarInfo(full_lock_curvature_per_m=1.68, lane_width_m=0.62, …)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from typing import Any

import gymnasium
import numpy as np

from agents.recordings.episodes import Episode
from envs.camera.info import camera_info
from envs.driving.env import DrivingEnv
from envs.lane_keeping.env import LaneKeepingEnv
from policies.car import CarInfo


def car_of_env(env: gymnasium.Env[Any, Any], lane_width_m: float) -> CarInfo:
    """Return the car of a `LaneKeeping` env after its reset, wrapped or not.

    Args:
        env: the env.
        lane_width_m: width of the lane of this episode.
    """
    inside = env.unwrapped
    assert isinstance(inside, LaneKeepingEnv)
    camera, config, vehicle = inside.scene.params, inside.config, inside.vehicle_params
    seen = camera_info(camera, config.height, config.width, config.period_s)
    return CarInfo(
        full_lock_curvature_per_m=math.tan(vehicle.steering_limit_rad) / vehicle.wheelbase_m,
        lane_width_m=lane_width_m,
        speed_mps=0.5 * sum(config.speed_mps),
        camera_height_m=camera.height_m,
        camera_pitch_deg=camera.pitch_deg,
        camera_hfov_deg=camera.hfov_deg,
        camera_horizon=seen.horizon,
    )


def rig_of_env(env: gymnasium.Env[Any, Any]) -> dict[str, dict[str, float]]:
    """Return camera and car of a `LaneKeeping` env in all their parameters: what a recording is driven along with.

    Args:
        env: the env, after its reset, wrapped or not.

    Returns:
        `camera_params` and `vehicle_params`, for the extras of an episode.
    """
    inside = env.unwrapped
    assert isinstance(inside, LaneKeepingEnv)
    return {"camera_params": asdict(inside.scene.params), "vehicle_params": asdict(inside.vehicle_params)}


def car_of_world(make_env: Callable[[], gymnasium.Env[Any, Any]], draws: int = 8) -> CarInfo | None:
    """Return the mean car of some episodes of an env: LaneKeeping, or as far as the names of a `DrivingEnv` say.

    Args:
        make_env: makes it, wrapped or not.
        draws: episodes that are begun.

    Returns:
        None for any other env.
    """
    env = make_env()
    try:
        inside, found = env.unwrapped, []
        if not isinstance(inside, (LaneKeepingEnv, DrivingEnv)):
            return None
        for seed in range(draws if isinstance(inside, LaneKeepingEnv) else 1):
            _, info = env.reset(seed=seed)
            found.append(
                car_of_env(env, float(info["lane_width_m"]))
                if isinstance(inside, LaneKeepingEnv)
                else _car_of_names(inside, info)
            )
        return _mean(car.to_json() for car in found)
    finally:
        env.close()


def _car_of_names(env: DrivingEnv, info: dict[str, Any]) -> CarInfo:
    """Return what the names of an env that others made say."""
    names, lane_width_m = env.names, info.get("lane_width_m")
    return CarInfo(
        lane_width_m=lane_width_m,
        speed_mps=names.speed_mps if names.gas is not None else None,
        camera_height_m=names.camera_height_m,
        camera_hfov_deg=names.hfov_deg,
        camera_horizon=names.horizon,
    )


def car_of_episodes(episodes: Iterable[Episode]) -> CarInfo | None:
    """Return the mean car of recorded episodes; None where no recording knows anything of it."""
    return _mean(said for episode in episodes if isinstance(said := episode.meta.extra.get("car"), dict))


def _mean(cars: Iterable[dict[str, Any]]) -> CarInfo | None:
    """Return the mean of what some cars say of themselves; None where none says anything."""
    known: dict[str, list[float]] = {}
    names = {item.name for item in fields(CarInfo)}
    for car in cars:
        for name, value in car.items():
            if name in names and isinstance(value, (int, float)):
                known.setdefault(name, []).append(float(value))
    if not known:
        return None
    return CarInfo(**{name: float(np.mean(values)) for name, values in known.items()})
