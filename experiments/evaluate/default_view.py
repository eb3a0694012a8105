"""What a policy is shown of a recording of another size when nobody says how to fit it.

The part of the picture in which the road looks as it did where the policy learnt: the horizon at the same height, and
the lane as wide for the camera's height (`agents.driving.fit.crop_by_geometry`). Horizon and lane are found in the
frames, the lens is guessed by the kind of car (`agents.driving.recorded_world.RIGS`); the policy's side is in its
config. Its steering is converted to the kind of car: a bend is judged in lane widths as they are shown, and full lock
turns one car more than another (`policies.car`). Nothing of the steering that is scored is looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agents.driving.driver_options import DriverSpec
from agents.driving.fit import crop_by_geometry
from agents.driving.recorded_world import RIGS, RigOptions, rig_of
from agents.recordings.doctor.view import view_facts
from agents.recordings.episodes import EpisodeSet
from agents.recordings.lane_estimate import estimate_lane
from agents.recordings.view_estimate import frames_of
from envs.camera.lens import CameraParams
from experiments.console import say
from policies.car import CarInfo
from policies.checkpoint import load_policy
from policies.policy import PolicyConfig

USUAL_HORIZON, USUAL_HFOV_DEG = 0.3, 90.0
"""Height of the horizon and field of view of this project's camera, for policies that do not say them."""
USUAL_LANE_HEIGHTS = 2.8
"""Width of a lane in LaneKeeping, in heights of its camera, for policies that do not say it."""
NARROWER = 0.65
"""The lane is shown so much narrower than where the policy learnt: people steer for a road farther ahead than the
expert of LaneKeeping does. On each of two recordings drivers answered best between 0.55 and 0.75, so that either would
have chosen it for the other; see docs/recordings.md."""
USUAL_LOOKAHEAD_S, FAR_LOOKAHEAD_S = 0.3, 0.8
"""How far ahead that expert looks, and how far one that looks as far as people do: then the lane keeps its width, and
between the two it is narrower in proportion."""
USUAL_LOCK_LANES = 1.05
"""Curvature at full lock times the width of a lane in LaneKeeping, for policies that do not say them."""
GAINS = (0.3, 2.0)
"""Factors on the steering that are believed."""
UNSEEN_LANE_HEIGHTS = 3.0
"""Width of a lane, in heights of the camera, where no lines show it: a taped track or a road."""
LANES_HEIGHTS = (1.5, 7.0)
"""Widths that are believed, heights of the camera."""


@dataclass(frozen=True)
class RoadView:
    """What the frames of a recording say of their camera and the road."""

    horizon: float
    """Height of the horizon, 0 at the top, 1 at the bottom."""
    hfov_deg: float
    """Field of view of a pinhole that draws the middle of the picture as this camera does."""
    lane_heights: float
    """Width of the lane, heights of the camera."""
    is_lane_seen: bool
    """Whether lines show it; else it is a guess."""
    lock_heights: float | None = None
    """Curvature at full lock, 1 / (height of the camera), of this kind of car; None where the kind is not known."""


def with_default_view(name: str, spec: DriverSpec, episodes: EpisodeSet) -> DriverSpec:
    """Return the driver with crops for a recording, and say which; as it is where crops were given or none are needed.

    Args:
        name: What the driver is called.
        spec: What opens it.
        episodes: What it is to be shown.
    """
    options = spec.options
    if options.crops is not None or options.fit is not None or not spec.path.is_dir():
        return spec
    config = load_policy(spec.path, trust=options.trust).config
    fit = config.preprocessing
    if episodes.frame_size == (fit.source_height, fit.source_width):
        return spec
    rows, columns = episodes.frame_size
    road = road_view(episodes)
    crops: dict[str, Any] = dict(crops_for(config, episodes.frame_size, road))
    where = "the middle"
    if road is not None:
        lane = "a lane as wide as usual" if not road.is_lane_seen else "the lane between lines"
        where = f"the horizon, {road.horizon:.0%} of the height, and {lane}, {road.lane_heights:.1f} camera heights,"
    given = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in crops.items() if value) or "--crop-top 0"
    say(f"{name}: frames of {columns}×{rows} are cropped about {where} as if by {given}")
    gain = None if road is None or options.steering_gain is not None else gain_for(config, road)
    if gain is not None:
        say(f"{name}: its steering is converted to this kind of car as if by --steering-gain {gain:.2f}")
        options = replace(options, steering_gain=gain)
    return replace(spec, options=replace(options, **crops))


def gain_for(config: PolicyConfig, road: RoadView) -> float | None:
    """Return the factor from a policy's steering to that of the recorded kind of car.

    Args:
        config: Of the policy.
        road: What is known of the recording.

    Returns:
        None where the kind of car is not known, or the policy may have learnt from another one: its frames are cropped.
    """
    fit, car = config.preprocessing, config.car or CarInfo()
    if road.lock_heights is None or any((fit.crop_top, fit.crop_bottom, fit.crop_left, fit.crop_right)):
        return None
    lock, width = car.full_lock_curvature_per_m, car.lane_width_m
    own = lock * width if lock and width else USUAL_LOCK_LANES
    return min(max(narrower_for(car) * own / (road.lock_heights * road.lane_heights), GAINS[0]), GAINS[1])


def narrower_for(car: CarInfo) -> float:
    """Return how much narrower than where it learnt a policy is shown the lane, by how far ahead its teacher looked."""
    lookahead_s = USUAL_LOOKAHEAD_S if car.lookahead_s is None else car.lookahead_s
    return float(np.interp(lookahead_s, [USUAL_LOOKAHEAD_S, FAR_LOOKAHEAD_S], [NARROWER, 1.0]))


def road_view(episodes: EpisodeSet) -> RoadView | None:
    """Find horizon and lane in frames spread over a recording; None where the horizon cannot be seen."""
    frames = frames_of(episodes)
    horizon = view_facts(episodes).get("horizon")
    if horizon is None:
        return None
    first = episodes[0]
    rig, known = rig_of(first, RigOptions()), rig_of(first, RigOptions(), guess=False)
    lock, height = known.full_lock_curvature_per_m, known.camera_height_m
    if first.meta.vehicle in RIGS:
        lock, height = rig.full_lock_curvature_per_m, rig.camera_height_m
    camera = CameraParams(height_m=1.0, forward_m=0.0, hfov_deg=rig.hfov_deg or 90.0, lens=_lens(rig))
    lane = estimate_lane(frames, camera, min(max(horizon, 0.0), 0.8))
    columns = episodes.frame_size[1]
    hfov_deg = 2.0 * math.degrees(math.atan(0.5 * columns / camera.focal_px(columns)[0]))
    width = min(max(lane.width_heights, LANES_HEIGHTS[0]), LANES_HEIGHTS[1]) if lane.is_sure else UNSEEN_LANE_HEIGHTS
    return RoadView(horizon, hfov_deg, width, lane.is_sure, lock * height if lock and height else None)


def _lens(rig: RigOptions) -> float:
    return 1.0 if rig.lens is None else rig.lens


def crops_for(config: PolicyConfig, frame_size: tuple[int, int], road: RoadView | None) -> dict[str, int]:
    """Return rows and columns to cut off, pixels by their names in `Preprocessing`.

    Args:
        config: Of the policy.
        frame_size: Rows and columns of the recording.
        road: What its frames say; a strip of the policy's shape is taken from the middle when None.
    """
    rows, columns = frame_size
    fit, car = config.preprocessing, config.car or CarInfo()
    if road is not None:
        width, height = car.lane_width_m, car.camera_height_m
        lane = width / height if width and height else USUAL_LANE_HEIGHTS
        own = CarInfo(
            lane_width_m=narrower_for(car) * lane,
            camera_height_m=1.0,
            camera_hfov_deg=car.camera_hfov_deg or USUAL_HFOV_DEG,
            camera_horizon=USUAL_HORIZON if car.camera_horizon is None else car.camera_horizon,
        )
        here = CarInfo(
            lane_width_m=road.lane_heights,
            camera_height_m=1.0,
            camera_hfov_deg=road.hfov_deg,
            camera_horizon=road.horizon,
        )
        found = crop_by_geometry(fit, own, here, rows, columns)
        if found is not None:
            top, bottom, left, right = found
            crops = {"crop_top": top, "crop_bottom": bottom, "crop_left": left, "crop_right": right}
            return crops | ({"crop_horizon": round(road.horizon * rows)} if bottom < 0 else {})
    shape = fit.source_height / fit.source_width
    kept_rows, kept_columns = min(rows, round(columns * shape)), columns
    if columns * shape > rows:  # The recording is wider than the policy's frames: columns go instead.
        kept_columns = max(1, round(rows / shape))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return {
        "crop_top": top,
        "crop_bottom": rows - kept_rows - top,
        "crop_left": left,
        "crop_right": columns - kept_columns - left,
    }
