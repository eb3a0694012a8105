"""From what the cameras of a world are drawn.

params = draw_camera(np.random.default_rng(3), CameraRanges(), variety=1.0, height=48, width=96)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from envs.lens import CameraParams


@dataclass(frozen=True)
class CameraRanges:
    """From what the camera is drawn at each reset; each a range (low, high)."""

    height_m: tuple[float, float] = (0.1, 0.3)
    """Height above the ground, m."""
    forward_m: tuple[float, float] = (0.1, 0.4)
    """Distance ahead of the rear axle, m."""
    lateral_m: tuple[float, float] = (-0.02, 0.02)
    """Distance to the left of the middle, m."""
    horizon: tuple[float, float] = (0.0, 0.5)
    """Height of the horizon in the frame: 0 at the top, 1 at the bottom; the pitch follows from it."""
    roll_deg: tuple[float, float] = (-2.0, 2.0)
    """Roll, degrees."""
    yaw_deg: tuple[float, float] = (-2.5, 2.5)
    """Yaw, degrees."""
    hfov_deg: tuple[float, float] = (70.0, 150.0)
    """Horizontal field of view, degrees."""
    lens: tuple[float, float] = (0.2, 1.0)
    """Lens, 1 pinhole to 0 equidistant fisheye; views wider than 110° get at most 0.7."""
    pixel_aspect: tuple[float, float] = (0.65, 1.05)
    """Vertical over horizontal focal length."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(
                    f"CameraRanges.{name} must be a range (low, high) with low <= high, got {(low, high)}."
                )


STANDARD_CAMERA = CameraParams()
"""The camera at variety 0."""


def pitch_for_horizon(params: CameraParams, height: int, width: int, horizon: float) -> CameraParams:
    """The same camera, tilted so that the horizon crosses the middle column at `horizon` (0 top, 1 bottom)."""
    _, focal_y = params.focal_px(width)
    radius = (0.5 - horizon) * height / focal_y
    angle = np.arctan(params.lens * radius) / params.lens if params.lens > 1e-6 else radius
    return replace(params, pitch_deg=float(np.degrees(angle)))


def draw_camera(
    generator: np.random.Generator, ranges: CameraRanges, variety: float, height: int, width: int, pinhole: bool = False
) -> CameraParams:
    """Draw a camera for frames of a size; `variety` 0 gives the middle, 1 the full ranges.

    Args:
        generator: where the random numbers come from.
        ranges: what to draw from.
        variety: in [0, 1], share of the way from `STANDARD_CAMERA` to the drawn camera.
        height: rows of the frames.
        width: columns of the frames.
        pinhole: draw a pinhole camera (lens 1) of at most 110°, for renderers that know no other.
    """
    drawn = {name: float(generator.uniform(*getattr(ranges, name))) for name in ranges.__dataclass_fields__}
    standard = {name: float(getattr(STANDARD_CAMERA, name)) for name in drawn if name != "horizon"} | {"horizon": 0.3}
    value = {name: standard[name] + variety * (drawn[name] - standard[name]) for name in drawn}
    horizon = value.pop("horizon")
    if pinhole:
        value["lens"], value["hfov_deg"] = 1.0, min(value["hfov_deg"], 110.0)
    elif value["hfov_deg"] > 110.0:
        value["lens"] = min(value["lens"], 0.7)
    return pitch_for_horizon(CameraParams(**value), height, width, horizon)
