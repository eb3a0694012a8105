"""Recordings of any format as worlds to drive in: `wormwheel/Recorded-v0` made of episodes.

    world = recorded_world(["tub"], RigOptions(hfov_deg=110))
    env = make_world_env(world)

What the recording does not know of its camera and its car is taken from the frames (`agents.driving.rig_estimate`):
horizon, field of view, speed, curvature at full lock and the delay of the steering. Where they do not say, and for the
height, it is guessed by the kind of car (`RIGS`); all of it can be given. Twice the height with twice the speed is the
same picture, in a larger world.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.driving.rig_estimate import RigEstimate, estimate_rig
from agents.recordings import load_episodes
from agents.recordings.episodes import Episode, EpisodeSet
from agents.recordings.fingerprint import changes, fingerprint
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
    """Horizontal field of view of the camera, degrees; from the frames when left out."""
    lens: Annotated[float, Field(ge=0, le=1)] | None = None
    """How its lens draws: 1 pinhole, 0.5 stereographic fisheye, 0 equidistant fisheye."""
    horizon: Annotated[float, Field(ge=-0.5, le=0.95)] | None = None
    """Height of the horizon in the frame, 0 at the top, 1 at the bottom; from the frames when left out."""
    full_lock_curvature_per_m: Positive | None = None
    """Curvature of the car's path at full lock, 1/m; from the frames when left out."""
    wheelbase_m: Positive | None = None
    """Distance between the axles, m."""
    speed_mps: Positive | None = None
    """Speed of the car, m/s, where the recording has none; from the frames when left out."""
    steering_lag_s: Positive | None = None
    """Time constant with which the car follows its steering, s; from the frames when left out."""
    lane_width_m: Positive | None = None
    """Width of the lane, m, that offsets are compared with."""


RIGS: Mapping[str, RigOptions] = {
    # Its wide camera (a fisheye), some 15 cm above the floor; full lock turns in a circle of half a metre.
    "donkeycar": RigOptions(
        camera_height_m=0.15,
        camera_forward_m=0.2,
        hfov_deg=105.0,
        lens=0.0,
        full_lock_curvature_per_m=2.2,
        wheelbase_m=0.25,
        speed_mps=0.6,
        steering_lag_s=0.2,
    ),
    # The simulator's car: a camera of 60 degrees in height on a car of full size, 25 degrees of lock.
    "udacity": RigOptions(
        camera_height_m=1.4,
        camera_forward_m=1.7,
        hfov_deg=98.0,
        full_lock_curvature_per_m=0.175,
        wheelbase_m=2.67,
        speed_mps=10.0,
    ),
    # A road car: a camera behind the windscreen, a third of a turn at the front wheels.
    "car": RigOptions(
        camera_height_m=1.25,
        camera_forward_m=1.5,
        hfov_deg=65.0,
        full_lock_curvature_per_m=0.17,
        wheelbase_m=2.7,
        speed_mps=25.0,
    ),
}
"""What is taken for the cars of some formats, by `EpisodeMeta.vehicle`."""
UNKNOWN_RIG = RigOptions(
    camera_height_m=0.2,
    camera_forward_m=0.25,
    hfov_deg=90.0,
    lens=1.0,
    full_lock_curvature_per_m=1.6,
    wheelbase_m=0.325,
    speed_mps=1.5,
    steering_lag_s=0.05,
)
"""What is taken for any other car: that of LaneKeeping."""
RECORDED_WORLD = "Recorded"
"""Name of the world that recordings are."""
POSE = {"x_m", "y_m", "yaw_rad"}
"""Columns of an episode that knows where the car was."""
DRIVEN_ALONG = POSE | {"speed_mps", "lateral_offset_m", "heading_error_rad"}
"""Columns of an episode that decide how it is driven along."""
HFOV_SHARES = (0.7, 0.85, 1.0, 1.15, 1.3)
"""Fields of view that the frames choose from, shares of that of the kind of car."""
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
    height: Annotated[int, Field(ge=0, le=4096)] = 0
    """Rows of the frames that drivers get, pixels; 0 for those of the recording."""
    width: Annotated[int, Field(ge=0, le=4096)] = 0
    """Columns of the frames that drivers get, pixels; 0 for those of the recording."""
    period_s: Positive = 0.05
    """Time between two actions, s."""
    episode_s: Positive = 20.0
    """Length of an episode, s; where the recording ends it ends earlier."""
    start_offset: Annotated[float, Field(ge=0, le=0.9)] = 0.3
    """The start is drawn within this share of the way to where the car counts as lost."""
    limit_m: Positive | None = None
    """Distance from the line at which the car counts as lost, m; what the frames can show when None."""

    code: str = ""
    """A few letters that change when the recordings do."""
    name: str = RECORDED_WORLD
    """What it is called in tables and at the command line."""
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
    note: Callable[[str], object] | None = None,
    **more: Any,
) -> RecordedWorld:
    """Return recordings as a world: frames of their size, at their period.

    Args:
        data: at least one recording.
        rig: camera and car, where the recordings do not know them.
        reading: how they are read.
        note: is called with what the frames said of camera and car, where they had to be asked.
        **more: other fields of `RecordedWorld`.

    Raises:
        ValueError: if a recording cannot be driven along.
        OSError: if one cannot be read.
    """
    paths = tuple(Path(path) for path in data)
    world = RecordedWorld(paths, rig or RigOptions(), reading or ReadOptions(), **more)
    episodes = episodes_of(world)
    rows, columns = episodes.frame_size
    if not rows:
        raise ValueError(f"{paths[0]} has no pictures, only logs: there is nothing to drive along.")
    given: dict[str, Any] = {"height": world.height or rows, "width": world.width or columns}
    whole = replace(world.reading, from_s=0.0, to_s=None, episodes=())
    fitted, words = _whole_rig(world.data, changes(world.data), whole, world.rig)
    if note is not None and words:
        note(words)
    given |= {"period_s": more.get("period_s", episodes.nominal_period_s), "code": _code(episodes)}
    return replace(world, rig=fitted, **given)


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


def episodes_of(world: RecordedWorld) -> EpisodeSet:
    """Return the recordings of a world; read once in a process as long as their files do not change."""
    return _load(world.data, changes(world.data), world.reading)


def footage_of(world: RecordedWorld) -> tuple[Footage, ...]:
    """Return the recordings of a world as the env takes them; read once as `episodes_of` does."""
    return _footage(world.data, changes(world.data), world.reading, world.rig, bool(world.code))


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
    if POSE <= set(extras):
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


def camera_of(episodes: EpisodeSet, rig: RigOptions) -> tuple[CameraParams, float, str]:
    """Return the camera of recordings, that of their first episode, the curvature at full lock of its car, 1/m, and
    what is to be said of them.

    Args:
        episodes: with pictures, of one camera.
        rig: what is given of camera and car.

    Raises:
        ValueError: if they know of several cameras or cars.
    """  # noqa: D205
    fitted, words = rig_from_frames(episodes, rig)
    cars = [_car(episode, rig_of(episode, fitted)) for episode in episodes]
    found = {
        (_camera(episode, fitted, DEFAULT_HORIZON), math.tan(car.steering_limit_rad) / car.wheelbase_m)
        for episode, car in zip(episodes, cars, strict=True)
    }
    if len(found) > 1:
        raise ValueError(
            f"one camera and one car were expected, these recordings have {len(found)} different ones: take recordings "
            "of one car, without --views.share for the others."
        )
    ((camera, curvature),) = found
    return camera, curvature, words


def rig_from_frames(episodes: EpisodeSet, rig: RigOptions) -> tuple[RigOptions, str]:
    """Fill in from the frames what is neither given nor known of camera and car.

    Args:
        episodes: of one camera and car.
        rig: what is given.

    Returns:
        Camera and car, and what is to be said of them; unchanged and "" where the episodes know their poses.
    """
    unknown = [
        episode
        for episode in episodes
        if episode.meta.height
        and episode.is_centre
        and not (POSE <= set(episode.extras) and isinstance(episode.meta.extra.get("camera_params"), Mapping))
    ]
    if not unknown:
        return rig, ""
    first = unknown[0]
    known, all_of_it = rig_of(first, rig, guess=False), rig_of(first, rig)
    horizon, source = known.horizon, "given"
    if horizon is None:
        view = estimate_view(frames_of(replace(episodes, episodes=tuple(unknown))))
        sure = view.is_sure and view.horizon is not None
        horizon, source = (view.horizon, "from the frames") if sure else (DEFAULT_HORIZON, "a guess")
        horizon = min(max(float(horizon or 0.0), 0.0), 0.9)
    rig = replace(rig, horizon=horizon)
    has_speed = "speed_mps" in first.extras and rig.speed_mps is None
    wanted = [known.hfov_deg, known.full_lock_curvature_per_m, known.camera_height_m]
    if not POSE <= set(first.extras) and (None in wanted or not has_speed and known.speed_mps is None):
        guess_deg = float(all_of_it.hfov_deg or 90.0)
        widest_deg = 150.0 if all_of_it.lens == 1.0 else 170.0
        hfovs = () if known.hfov_deg else tuple(min(share * guess_deg, widest_deg) for share in HFOV_SHARES)
        camera = _camera(first, rig, horizon)
        found = estimate_rig(unknown, camera, horizon, hfovs)
        if found is not None and found.is_sure:
            return _fitted(first, rig, found, has_speed), _words(_fitted(first, rig, found, has_speed), source, found)
    return rig, (
        f"camera and car are guesses (horizon {horizon:.0%} of the height, {source}): the frames do not say how fast "
        "the car moved; --rig.… gives them"
    )


def _fitted(episode: Episode, rig: RigOptions, found: RigEstimate, has_speed: bool) -> RigOptions:
    """Return camera and car with what the frames say, in metres."""
    known, guess = rig_of(episode, rig, guess=False), rig_of(episode, rig)
    height_m, speed_mps = known.camera_height_m, known.speed_mps
    if has_speed and height_m is None:
        height_m = 1.0 / found.way_heights_per_s
    elif not has_speed and speed_mps is not None and height_m is None:
        height_m = speed_mps / found.way_heights_per_s
    elif height_m is None:
        height_m = guess.camera_height_m
    assert height_m is not None
    if not has_speed and speed_mps is None:
        speed_mps = found.way_heights_per_s * height_m
    return replace(
        rig,
        camera_height_m=height_m,
        hfov_deg=found.hfov_deg,
        speed_mps=None if has_speed else speed_mps,
        full_lock_curvature_per_m=known.full_lock_curvature_per_m or found.full_lock_curvature_heights / height_m,
        steering_lag_s=known.steering_lag_s or found.steering_lag_s,
    )


def _words(rig: RigOptions, source: str, found: RigEstimate) -> str:
    speed = "" if rig.speed_mps is None else f"{rig.speed_mps:.2g} m/s "
    return (
        f"camera and car from the frames: horizon {rig.horizon:.0%} of the height ({source}), field of view "
        f"{rig.hfov_deg:.0f}°, {speed}at {rig.camera_height_m:.2g} m above the road, full lock "
        f"{rig.full_lock_curvature_per_m:.2g} /m after {rig.steering_lag_s:.2g} s (turns and steering correlate by "
        f"{found.agreement:.2f})"
    )


def rig_of(episode: Episode, rig: RigOptions, guess: bool = True) -> RigOptions:
    """Return camera and car of an episode: what is given, what it knows, and with `guess` what its kind of car has."""
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
    kinds = (RIGS.get(episode.meta.vehicle, UNKNOWN_RIG), UNKNOWN_RIG) if guess else ()
    found = {}
    for item in dataclasses.fields(RigOptions):
        values = (getattr(rig, item.name), known.get(item.name), *(getattr(kind, item.name) for kind in kinds))
        found[item.name] = next((value for value in values if value is not None), None)
    return RigOptions(**found)


def _camera(episode: Episode, rig: RigOptions, horizon: float) -> CameraParams:
    exact = episode.meta.extra.get("camera_params")
    given = any(
        value is not None for value in (rig.camera_height_m, rig.camera_forward_m, rig.hfov_deg, rig.lens, rig.horizon)
    )
    if isinstance(exact, Mapping) and not given:
        return CameraParams(**exact)
    known = rig_of(episode, rig)
    camera = CameraParams(
        height_m=float(known.camera_height_m or 0.2),
        forward_m=float(known.camera_forward_m or 0.0),
        hfov_deg=float(known.hfov_deg or 90.0),
        lens=1.0 if known.lens is None else known.lens,
    )
    at = known.horizon if known.horizon is not None else horizon
    return pitch_for_horizon(camera, episode.meta.height, episode.meta.width, at)


def _car(episode: Episode, known: RigOptions) -> VehicleParams:
    exact = episode.meta.extra.get("vehicle_params")
    if isinstance(exact, Mapping):
        return VehicleParams(**exact)
    wheelbase_m, curvature = float(known.wheelbase_m or 0.325), float(known.full_lock_curvature_per_m or 1.6)
    return VehicleParams(
        wheelbase_m=wheelbase_m,
        steering_limit_rad=min(math.atan(wheelbase_m * curvature), 1.0),
        steering_lag_s=float(known.steering_lag_s or 0.05),
    )


def _code(episodes: EpisodeSet) -> str:
    """Return what changes when the recordings do: with labels, times and pixels, what else the car drives along."""
    code = fingerprint(episodes)
    columns = [(name, one.extras[name]) for one in episodes for name in sorted(DRIVEN_ALONG) if name in one.extras]
    if not columns:
        return code
    digest = hashlib.sha256(code.encode())
    for name, values in columns:
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[: len(code)]


@lru_cache(maxsize=8)
def _load(data: tuple[Path, ...], state: str, reading: ReadOptions) -> EpisodeSet:
    return load_episodes(data, options=reading)


@lru_cache(maxsize=8)
def _whole_rig(data: tuple[Path, ...], state: str, reading: ReadOptions, rig: RigOptions) -> tuple[RigOptions, str]:
    return rig_from_frames(_load(data, state, reading), rig)


@lru_cache(maxsize=8)
def _footage(
    data: tuple[Path, ...], state: str, reading: ReadOptions, rig: RigOptions, asked: bool
) -> tuple[Footage, ...]:
    episodes = _load(data, state, reading)
    kept = [episode for episode in episodes if len(episode) > 1 and episode.is_centre and episode.meta.height]
    if not kept:
        raise ValueError(
            f"{data[0]} has no episode of two frames or more with pictures: there is nothing to drive along."
        )
    # What `recorded_world` has asked all frames and said is not asked again of the part that is driven along.
    fitted = rig if asked else rig_from_frames(replace(episodes, episodes=tuple(kept)), rig)[0]
    return tuple(footage_of_episode(episode, fitted) for episode in kept)
