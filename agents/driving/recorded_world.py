"""Recordings of any format as worlds to drive in: `wormwheel/Recorded-v0` made of episodes.

    world = recorded_world(["tub"], RigOptions(hfov_deg=110))
    env = make_world_env(world)

What the recording does not know of its camera and its car is guessed by the kind of car (`RIGS`), and can be given. The
horizon is taken from the frames. Of the guesses, height and speed matter together: twice the height with twice the
speed is the same picture, in a larger world.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from agents.recordings import load_episodes
from agents.recordings.episodes import Episode, EpisodeSet
from agents.recordings.options import ReadOptions
from agents.recordings.view_estimate import estimate_view, frames_of
from envs import LANE_KEEPING, RECORDED
from envs.camera.lens import CameraParams, pitch_for_horizon
from envs.lane_keeping.config import LaneKeepingConfig
from envs.recorded.config import RecordedConfig
from envs.recorded.footage import Footage
from envs.vehicle.vehicle import VehicleParams

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above 0."""


@dataclass(frozen=True, config={"extra": "forbid"})
class RigOptions:
    """Camera and car of a recording, where it does not know them itself; guessed by the kind of car when left out."""

    camera_height_m: Positive | None = None
    """Height of the camera above the road, m."""
    camera_forward_m: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Distance of the camera ahead of the rear axle, m."""
    hfov_deg: Annotated[float, Field(ge=10, le=170)] | None = None
    """Horizontal field of view of the camera, degrees; it is taken for a pinhole."""
    horizon: Annotated[float, Field(ge=-0.5, le=0.95)] | None = None
    """Height of the horizon in the frame, 0 at the top, 1 at the bottom; from the frames when left out."""
    full_lock_curvature_per_m: Positive | None = None
    """Curvature of the car's path at full lock, 1/m."""
    wheelbase_m: Positive | None = None
    """Distance between the axles, m."""
    speed_mps: Positive | None = None
    """Speed of the car, m/s, where the recording has none."""
    lane_width_m: Positive | None = None
    """Width of the lane, m, that offsets are compared with."""


RIGS: Mapping[str, RigOptions] = {
    # Its wide camera, some 15 cm above the floor; full lock turns in a circle of half a metre.
    "donkeycar": RigOptions(0.15, 0.2, 110.0, None, 1.6, 0.25, 1.2),
    # The simulator's car: a camera of 60 degrees in height on a car of full size, 25 degrees of lock.
    "udacity": RigOptions(1.4, 1.7, 98.0, None, 0.175, 2.67, 10.0),
    # A road car: a camera behind the windscreen, a third of a turn at the front wheels.
    "car": RigOptions(1.25, 1.5, 65.0, None, 0.17, 2.7, 25.0),
}
"""What is taken for the cars of some formats, by `EpisodeMeta.vehicle`."""
UNKNOWN_RIG = RigOptions(0.2, 0.25, 90.0, None, 1.6, 0.325, 1.5)
"""What is taken for any other car: that of LaneKeeping."""
DEFAULT_HORIZON = 0.35
"""Height of the horizon in the frame where the frames do not show it."""


@dataclass(frozen=True, config={"extra": "forbid"})
class RecordedWorld:
    """Recordings to drive along; takes the place of a `LaneKeepingConfig`, and can be sent to another process."""

    data: tuple[Path, ...]
    """Recordings, each in any format."""
    rig: RigOptions = RigOptions()
    """Camera and car."""
    reading: ReadOptions = ReadOptions()
    """How the recordings are read."""
    height: NonNegativeInt = 0
    """Rows of the frames that drivers get, pixels; 0 for those of the recording."""
    width: NonNegativeInt = 0
    """Columns of the frames that drivers get, pixels; 0 for those of the recording."""
    period_s: Positive = 0.05
    """Time between two actions, s."""
    episode_s: Positive = 20.0
    """Length of an episode, s; where the recording ends it ends earlier."""
    start_offset: Annotated[float, Field(ge=0, le=0.9)] = 0.3
    """The start is drawn within this share of the way to where the car counts as lost."""
    limit_m: Positive | None = None
    """Distance from the line at which the car counts as lost, m; what the frames can show when None."""

    throttle: bool = False
    """There is no second action."""
    track: str = "random"
    """Where a drive begins is drawn."""

    def make(self, height: int, width: int) -> gymnasium.Env[Any, Any]:
        """Make the env, its frames of a size."""
        return make_world_env(replace(self, height=height, width=width))

    @property
    def speed_mps(self) -> tuple[float, float]:
        """Range of the recorded speeds, m/s."""
        speeds = np.concatenate([one.moving_mps for one in footage_of(self)])
        return float(speeds.min()), float(speeds.max())


World = LaneKeepingConfig | RecordedWorld
"""Where drivers drive."""


def recorded_world(
    data: Sequence[str | os.PathLike[str]],
    rig: RigOptions | None = None,
    reading: ReadOptions | None = None,
    **more: Any,
) -> RecordedWorld:
    """Return recordings as a world: frames of their size, at their period.

    Args:
        data: at least one recording.
        rig: camera and car, where the recordings do not know them.
        reading: how they are read.
        **more: other fields of `RecordedWorld`.

    Raises:
        ValueError: if a recording cannot be driven along.
        OSError: if one cannot be read.
    """
    paths = tuple(Path(path) for path in data)
    world = RecordedWorld(paths, rig or RigOptions(), reading or ReadOptions(), **more)
    episodes = _load(world.data, world.reading)
    rows, columns = episodes.frame_size
    if not rows:
        raise ValueError(f"{paths[0]} has no pictures, only logs: there is nothing to drive along.")
    given = {"height": world.height or rows, "width": world.width or columns}
    return replace(world, period_s=more.get("period_s", episodes.nominal_period_s), **given)  # type: ignore[arg-type]


def make_world_env(world: World) -> gymnasium.Env[Any, Any]:
    """Make the env of a world."""
    if isinstance(world, LaneKeepingConfig):
        return gymnasium.make(LANE_KEEPING, config=world, disable_env_checker=True)
    config = RecordedConfig(
        height=world.height,
        width=world.width,
        period_s=world.period_s,
        episode_s=world.episode_s,
        start_offset=world.start_offset,
        limit_m=world.limit_m,
    )
    return gymnasium.make(RECORDED, footage=footage_of(world), config=config, disable_env_checker=True)


def footage_of(world: RecordedWorld) -> tuple[Footage, ...]:
    """Return the recordings of a world as the env takes them; read once in a process."""
    return _footage(world.data, world.reading, world.rig)


def footage_of_episode(episode: Episode, rig: RigOptions, horizon: float = DEFAULT_HORIZON) -> Footage:
    """Return one episode as the env takes it.

    Args:
        episode: with pictures.
        rig: what is given of camera and car; it comes before what the episode knows, and that before `RIGS`.
        horizon: height of the horizon in the frame, where neither knows it.
    """
    meta, extras = episode.meta, episode.extras
    camera = _camera(episode, rig, horizon)
    known = rig_of(episode, rig)
    speed = extras.get("speed_mps")
    speed_mps = np.full(len(episode), known.speed_mps) if speed is None or rig.speed_mps else np.asarray(speed, float)
    poses = None
    if {"x_m", "y_m", "yaw_rad"} <= set(extras):
        poses = np.stack([np.asarray(extras[name], np.float64) for name in ("x_m", "y_m", "yaw_rad")], axis=1)
    lane = extras.get("lateral_offset_m") if poses is not None else None
    return Footage(
        read=lambda step: episode.frames(step, step + 1)[0],
        steering=episode.steering,
        time_s=episode.time_s,
        speed_mps=np.where(np.isfinite(speed_mps), speed_mps, float(known.speed_mps or 1.0)),
        height=meta.height,
        width=meta.width,
        camera=camera,
        car=_car(episode, known),
        period_s=meta.nominal_period_s,
        poses=poses,
        lateral_offset_m=lane,
        heading_error_rad=None if lane is None else extras.get("heading_error_rad"),
        lane_width_m=known.lane_width_m,
        name=Path(meta.source).name or "recording",
    )


def camera_of(episodes: EpisodeSet, rig: RigOptions) -> tuple[CameraParams, float]:
    """Return the camera of recordings, that of their first episode, and the curvature at full lock of its car, 1/m.

    Args:
        episodes: with pictures, of one camera.
        rig: what is given of camera and car.
    """
    first = episodes[0]
    horizon = rig_of(first, rig).horizon
    if horizon is None:
        found = estimate_view(frames_of(episodes))
        horizon = found.horizon if found.is_sure and found.horizon is not None else DEFAULT_HORIZON
    car = _car(first, rig_of(first, rig))
    return _camera(first, rig, min(max(horizon, 0.0), 0.9)), math.tan(car.steering_limit_rad) / car.wheelbase_m


def rig_of(episode: Episode, rig: RigOptions) -> RigOptions:
    """Return camera and car of an episode: what is given, then what it knows, then what its kind of car has."""
    extra = episode.meta.extra
    said = extra.get("car")
    car = said if isinstance(said, Mapping) else {}
    known = {
        "camera_height_m": car.get("camera_height_m"),
        "hfov_deg": car.get("camera_hfov_deg"),
        "horizon": car.get("camera_horizon"),
        "full_lock_curvature_per_m": car.get("full_lock_curvature_per_m"),
        "speed_mps": car.get("speed_mps"),
        "lane_width_m": car.get("lane_width_m") or extra.get("lane_width_m"),
    }
    guess = RIGS.get(episode.meta.vehicle, UNKNOWN_RIG)
    found = {}
    for item in dataclasses.fields(RigOptions):
        values = (getattr(rig, item.name), known.get(item.name), getattr(guess, item.name))
        found[item.name] = next((value for value in values if value is not None), None)
    return RigOptions(**found)


def _camera(episode: Episode, rig: RigOptions, horizon: float) -> CameraParams:
    exact = episode.meta.extra.get("camera_params")
    given = any(value is not None for value in (rig.camera_height_m, rig.camera_forward_m, rig.hfov_deg, rig.horizon))
    if isinstance(exact, Mapping) and not given:
        return CameraParams(**exact)
    known = rig_of(episode, rig)
    camera = CameraParams(
        height_m=float(known.camera_height_m or 0.2),
        forward_m=float(known.camera_forward_m or 0.0),
        hfov_deg=float(known.hfov_deg or 90.0),
    )
    at = known.horizon if known.horizon is not None else horizon
    return pitch_for_horizon(camera, episode.meta.height, episode.meta.width, at)


def _car(episode: Episode, known: RigOptions) -> VehicleParams:
    exact = episode.meta.extra.get("vehicle_params")
    if isinstance(exact, Mapping):
        return VehicleParams(**exact)
    wheelbase_m, curvature = float(known.wheelbase_m or 0.325), float(known.full_lock_curvature_per_m or 1.6)
    return VehicleParams(wheelbase_m=wheelbase_m, steering_limit_rad=min(math.atan(wheelbase_m * curvature), 1.0))


@lru_cache(maxsize=8)
def _load(data: tuple[Path, ...], reading: ReadOptions) -> EpisodeSet:
    return load_episodes(data, options=reading)


@lru_cache(maxsize=8)
def _footage(data: tuple[Path, ...], reading: ReadOptions, rig: RigOptions) -> tuple[Footage, ...]:
    episodes = _load(data, reading)
    kept = [
        episode
        for episode in episodes
        if len(episode) > 1 and episode.meta.extra.get("camera", "centre") == "centre" and episode.meta.height
    ]
    if not kept:
        raise ValueError(
            f"{data[0]} has no episode of two frames or more with pictures: there is nothing to drive along."
        )
    horizon: float | None = rig.horizon
    unknown = [episode for episode in kept if rig_of(episode, rig).horizon is None]
    if unknown:
        frames: NDArray[np.uint8] = frames_of(replace(episodes, episodes=tuple(unknown)))
        found = estimate_view(frames)
        horizon = found.horizon if found.is_sure else DEFAULT_HORIZON
    shown = DEFAULT_HORIZON if horizon is None else min(max(horizon, 0.0), 0.9)
    return tuple(footage_of_episode(episode, rig, shown) for episode in kept)
