"""What can be set about the lane-keeping env."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from envs.camera.lens import CameraRanges
from envs.road.random_road import RandomRoadConfig
from envs.vehicle.vehicle import VehicleParams

VEHICLES = ("bullet", "bicycle", "auto")


RENDERERS = ("warp", "tiny")


@dataclass(frozen=True)
class LaneKeepingConfig:
    """The world: car, camera, roads, looks, episode."""

    vehicle: str = "auto"
    """"bullet" (MIT racecar in PyBullet), "bicycle" (kinematic), or "auto": bullet where PyBullet is installed."""
    renderer: str = "warp"
    """"warp" (look-up of a road texture) or "tiny" (PyBullet's software renderer; pinhole only)."""
    height: int = 48
    """Rows of a camera frame, pixels."""
    width: int = 96
    """Columns of a camera frame, pixels."""
    period_s: float = 0.05
    """Time between two actions, s."""
    elapsed_jitter: float = 0.0
    """Each period is drawn evenly within this share of `period_s`, in [0, 0.9]; the observation tells the drawn one."""
    episode_s: float = 60.0
    """Length of an episode, s; it is truncated then."""
    speed_mps: tuple[float, float] = (1.2, 2.0)
    """Range from which each reset draws the speed that the cruise controller holds, m/s."""
    throttle: bool = False
    """A second action in [−1, 1] changes the wanted speed from 0 (−1) over the drawn speed (0) to twice it (1)."""
    track: str | tuple[str, ...] = "random"
    """"random", or one or more centre-line CSV files from which each reset draws one."""
    track_scale: float = 0.1
    """Metres of road per metre in a CSV file."""
    track_lane_width_m: float | None = None
    """Width of a lane on roads from CSV files, m; from the file when None."""
    track_min_radius_m: float = 0.8
    """Bends of roads from CSV files are rounded to this radius of the right-hand lane, m."""
    track_reverse: bool = False
    """Drive roads from CSV files against the order of the file."""
    roads: RandomRoadConfig = field(default_factory=RandomRoadConfig)
    """Random roads."""
    resets_per_road: int = 1
    """Resets between two random roads, looks and cameras: more makes resets cheaper and the world poorer."""
    camera: CameraRanges = field(default_factory=CameraRanges)
    """From what the camera is drawn."""
    variety: float = 0.35
    """Variety of looks and cameras, in [0, 1]: the share of scenes that differ from the standard one, and how far."""
    vehicle_params: VehicleParams = field(default_factory=VehicleParams)
    """The car."""
    start_offset: float = 0.15
    """The start is drawn within this share of the lane width from the middle of the lane."""
    start_heading_rad: float = 0.1
    """The start is drawn within this angle of the direction of the road, rad."""
    pixels_per_m: float = 64.0
    """Resolution of the road texture, pixels per metre."""
    opencv_threads: int = 1
    """Threads that OpenCV may use, set for the whole process at each reset; frames this small are slower with more. 0
    leaves the setting alone."""

    def __post_init__(self) -> None:
        _one_of("vehicle", self.vehicle, VEHICLES)
        _one_of("renderer", self.renderer, RENDERERS)
        for name, least in (("height", 8), ("width", 8), ("resets_per_road", 1), ("opencv_threads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        for name in ("period_s", "episode_s", "track_scale", "track_min_radius_m", "pixels_per_m"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a positive number, got {value}.")
        if self.episode_s < self.period_s:
            raise ValueError(f"episode_s must be at least period_s = {self.period_s}, got {self.episode_s}.")
        if not 0.0 < self.speed_mps[0] <= self.speed_mps[1]:
            raise ValueError(f"speed_mps must be a range (low, high) with 0 < low <= high, got {self.speed_mps}.")
        for name, high in (
            ("variety", 1.0),
            ("elapsed_jitter", 0.9),
            ("start_offset", 0.9),
            ("start_heading_rad", 1.0),
        ):
            if not 0.0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [0, {high}], got {getattr(self, name)}.")
        if not self.track:
            raise ValueError('track must be "random" or at least one CSV file, got nothing.')


def _one_of(name: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}.")


def with_overrides(config: LaneKeepingConfig, overrides: dict[str, Any]) -> LaneKeepingConfig:
    """The config with some attributes replaced; a ValueError names those that it does not have."""
    unknown = sorted(set(overrides) - set(config.__dataclass_fields__))
    if unknown:
        raise ValueError(
            f"LaneKeepingConfig has no attribute {', '.join(unknown)}. It has {', '.join(config.__dataclass_fields__)}."
        )
    return replace(config, **overrides)
