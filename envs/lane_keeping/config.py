"""What can be set about the lane-keeping env."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from envs.camera.lens import CameraRanges
from envs.lane_keeping.layout import LAYOUTS, SIDES, STANDING
from envs.ranges import Ordered, Positive, Share, one_of, some_of
from envs.road.random_road import RandomRoadConfig
from envs.vehicle.vehicle import VehicleParams

VEHICLES = ("bullet", "bicycle", "auto")
RENDERERS = ("warp", "tiny")

MOST_PIXELS = 4_000_000
"""Pixels of a frame at most: the tables of the camera take some 150 bytes for each."""
_Side = Annotated[int, Field(ge=8, le=4096)]
_Speed = Annotated[float, Field(ge=0.01, le=100.0)]
_Wait = Annotated[float, Field(ge=0.0, le=3600.0)]
_Dark = Annotated[float, Field(gt=0.0, le=60.0)]


@dataclass(frozen=True, config={"extra": "forbid"})
class LaneKeepingConfig:
    """Car, camera, roads, looks and length of the episodes."""

    vehicle: Annotated[str, one_of(*VEHICLES)] = "auto"
    """"bullet" (MIT racecar in PyBullet), "bicycle" (kinematic), or "auto": bullet where PyBullet is installed."""
    renderer: Annotated[str, one_of(*RENDERERS)] = "warp"
    """"warp" (look-up of a road texture) or "tiny" (PyBullet's software renderer; pinhole only)."""
    height: _Side = 48
    """Rows of a camera frame, pixels."""
    width: _Side = 96
    """Columns of a camera frame, pixels."""
    period_s: Annotated[float, Field(ge=0.001, le=10.0)] = 0.05
    """Time between two actions, s, in [0.001, 10]."""
    elapsed_jitter: Annotated[float, Field(ge=0.0, le=0.9)] = 0.0
    """Each period is drawn evenly within this share of `period_s`, in [0, 0.9]; the observation reports the drawn
    one."""
    episode_s: Positive = 60.0
    """Length of an episode, s; it is truncated then."""
    speed_mps: Annotated[tuple[_Speed, _Speed], Ordered] = (1.2, 2.0)
    """Range from which each reset draws the speed that the cruise controller holds, m/s, in [0.01, 100]."""
    throttle: bool = False
    """A second action in [−1, 1] changes the wanted speed from 0 (−1) over the drawn speed (0) to twice it (1)."""
    track: str | tuple[str, ...] = "random"
    """"random", or one or more centre-line CSV files from which each reset draws one."""
    track_scale: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.1
    """Metres of road per metre in a CSV file; 1 for files that are at the car's scale already."""
    track_lane_width_m: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    """Width of a lane on roads from CSV files, m; from the file when None."""
    track_min_radius_m: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.8
    """Bends of roads from CSV files are rounded to this radius of the right-hand lane, m."""
    track_reverse: bool = False
    """Drive roads from CSV files against the order of the file."""
    markings: Annotated[str | tuple[str, ...], some_of(*LAYOUTS)] = "two_lanes"
    """Which lines there are: "two_lanes", "one_lane" between two edges, "unmarked", a lane of another surface without
    paint, one "line" to follow, or "surface_edge", where two surfaces meet without paint; or what stands on both sides
    of a lane without paint: "cones" (or cups), "boards" or "kerbs". Of several each road draws one; one that is named
    twice is drawn twice as often."""
    keep: Annotated[str, one_of(*SIDES)] = "right"
    """Which lane, or which edge of the pavement, to keep to: "right" or "left"."""
    roads: RandomRoadConfig = field(default_factory=RandomRoadConfig)
    """Random roads."""
    resets_per_road: PositiveInt = 1
    """Resets between two random roads, looks and cameras: more makes resets cheaper and episodes more alike."""
    camera: CameraRanges = field(default_factory=CameraRanges)
    """From what the camera is drawn."""
    variety: Share = 0.35
    """Variety of looks and cameras, in [0, 1]: the share of scenes that differ from the standard one, and how far."""
    vehicle_params: VehicleParams = field(default_factory=VehicleParams)
    """The car."""
    start_offset: Annotated[float, Field(ge=0.0, le=0.9)] = 0.15
    """The start is drawn within this share of the lane width from the middle of the lane, and on the pavement."""
    start_heading_rad: Share = 0.1
    """The start is drawn within this angle of the direction of the road, rad."""
    lane_sign_delay_s: Annotated[tuple[_Wait, _Wait], Ordered] | None = None
    """A sign early in the episode says which lane to take when another sign says "now", so many seconds later
    (`envs.lane_keeping.memory`); on two lanes, beginning in the right-hand one. None when None."""
    blackout_s: Annotated[tuple[_Dark, _Dark], Ordered] | None = None
    """The camera goes dark for so many seconds as a bend comes; never when None."""
    pixels_per_m: Annotated[float, Field(ge=1.0, le=256.0)] = 64.0
    """Resolution of the road texture, pixels per metre, in [1, 256]."""
    opencv_threads: Annotated[int, Field(ge=0, le=1024)] = 1
    """Threads that OpenCV may use, set for the whole process at each reset; frames this small are slower with more. 0
    leaves the setting alone."""

    def __post_init__(self) -> None:
        if self.episode_s < self.period_s:
            raise ValueError(f"episode_s must be at least period_s = {self.period_s}, got {self.episode_s}.")
        if self.height * self.width > MOST_PIXELS:
            raise ValueError(
                f"a frame must have at most {MOST_PIXELS:,} pixels, got height {self.height} × width {self.width}."
            )
        standing = [layout for layout in self.layouts if layout in STANDING]
        if self.renderer == "tiny" and standing:
            raise ValueError(f'markings "{standing[0]}" stand up, which the renderer "tiny" cannot draw: take "warp".')
        if self.lane_sign_delay_s is not None and (self.keep != "right" or set(self.layouts) != {"two_lanes"}):
            raise ValueError(
                'lane_sign_delay_s needs two lanes, and the car begins in the right-hand one: markings "two_lanes" '
                f'and keep "right", got markings {", ".join(self.layouts)} and keep "{self.keep}".'
            )
        if not self.track:
            raise ValueError('track must be "random" or at least one CSV file, got nothing.')

    @property
    def layouts(self) -> tuple[str, ...]:
        """The markings from which each road draws."""
        return (self.markings,) if isinstance(self.markings, str) else self.markings


def with_overrides(config: LaneKeepingConfig, overrides: dict[str, Any]) -> LaneKeepingConfig:
    """The config with some attributes replaced; a ValueError names those that it does not have."""
    unknown = sorted(set(overrides) - set(config.__dataclass_fields__))
    if unknown:
        raise ValueError(
            f"LaneKeepingConfig has no attribute {', '.join(unknown)}. It has {', '.join(config.__dataclass_fields__)}."
        )
    return replace(config, **overrides)
