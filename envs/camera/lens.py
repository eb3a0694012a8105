"""Where a camera sits on the car, and how its lens draws.

A ray at the angle θ from the axis falls at the radius f · tan(kθ) / k from the middle of the image. k = 1 is a
pinhole, k = 1/2 the stereographic fisheye, k → 0 the equidistant one; everything between is the barrel distortion of
real lenses.

    column, row = CameraParams().pixels(np.array([1.0, 0.0, 0.0]), height=48, width=96)

From what the cameras of a world are drawn.

params = draw_camera(np.random.default_rng(3), CameraRanges(), variety=1.0, height=48, width=96)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from envs.ranges import Angle, Ordered, Share

FloatArray = NDArray[np.float64]

_EPS = 1e-9
_WIDE_LENS = 0.7  # views wider than 110° get at most this lens
_Height = Annotated[float, Field(gt=0.0, le=1000.0)]
_Distance = Annotated[float, Field(ge=-1000.0, le=1000.0)]
_Aspect = Annotated[float, Field(ge=0.1, le=10.0)]
_FieldOfView = Annotated[float, Field(ge=10.0, le=320.0)]
_Horizon = Annotated[float, Field(ge=-1.0, le=2.0)]


@dataclass(frozen=True, config={"extra": "forbid"})
class CameraParams:
    """Where the camera sits on the car and how its lens draws."""

    height_m: _Height = 0.2
    """Height above the ground, m."""
    forward_m: _Distance = 0.25
    """Distance ahead of the rear axle, m."""
    lateral_m: _Distance = 0.0
    """Distance to the left of the middle of the car, m."""
    pitch_deg: Angle = 12.0
    """Tilt of the axis, degrees, positive downwards."""
    roll_deg: Angle = 0.0
    """Turn about the axis, degrees, positive clockwise as seen by the camera."""
    yaw_deg: Angle = 0.0
    """Direction of the axis relative to the car, degrees, positive to the left."""
    hfov_deg: _FieldOfView = 90.0
    """Horizontal field of view, degrees."""
    lens: Share = 1.0
    """The k of the lens: 1 pinhole, 0.5 stereographic fisheye, 0 equidistant fisheye."""
    pixel_aspect: _Aspect = 1.0
    """Vertical over horizontal focal length in pixels; below 1 the picture looks squeezed in height, as a 4:3 image
    resized to 2:1 does."""

    def __post_init__(self) -> None:
        widest = widest_deg(self.lens)
        if self.hfov_deg > widest:
            raise ValueError(f"hfov_deg must be at most {widest:.0f} for lens {self.lens}, got {self.hfov_deg}.")

    def focal_px(self, width: int) -> tuple[float, float]:
        """Horizontal and vertical focal length for an image `width` pixels wide."""
        half = math.radians(self.hfov_deg) / 2.0
        radius = math.tan(self.lens * half) / self.lens if self.lens > 1e-6 else half
        horizontal = 0.5 * width / radius
        return horizontal, horizontal * self.pixel_aspect

    def rotation(self) -> FloatArray:
        """`[3, 3]` matrix from the camera frame (x ahead, y left, z up) to that of the car (the same axes)."""
        yaw, pitch, roll = math.radians(self.yaw_deg), math.radians(self.pitch_deg), math.radians(self.roll_deg)
        about_z = np.array([[math.cos(yaw), -math.sin(yaw), 0.0], [math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        about_y = np.array(
            [[math.cos(pitch), 0.0, math.sin(pitch)], [0.0, 1.0, 0.0], [-math.sin(pitch), 0.0, math.cos(pitch)]]
        )
        about_x = np.array(
            [[1.0, 0.0, 0.0], [0.0, math.cos(roll), -math.sin(roll)], [0.0, math.sin(roll), math.cos(roll)]]
        )
        return about_z @ about_y @ about_x

    def rays(self, height: int, width: int) -> FloatArray:
        """`[H, W, 3]` unit vectors, in the frame of the car, along which the pixels look."""
        return self.rays_through(np.arange(width), np.arange(height), height, width)

    def rays_through(
        self, columns: NDArray[np.number], rows: NDArray[np.number], height: int, width: int
    ) -> FloatArray:
        """`[R, C, 3]` unit vectors, in the frame of the car, through the crossings of columns `[C]` and rows `[R]`.

        Args:
            columns: places across the image, pixels, whole ones in the middle of a pixel; they may lie outside.
            rows: places down the image.
            height: rows of the image.
            width: columns of the image.
        """
        focal_x, focal_y = self.focal_px(width)
        left = -(columns - 0.5 * (width - 1)) / focal_x
        up = -(rows - 0.5 * (height - 1)) / focal_y
        left, up = np.meshgrid(left, up)
        radius = np.hypot(left, up)
        angle = np.arctan(self.lens * radius) / self.lens if self.lens > 1e-6 else radius
        sideways = np.where(radius > _EPS, np.sin(angle) / np.maximum(radius, _EPS), 1.0)
        rays = np.stack([np.cos(angle), sideways * left, sideways * up], axis=-1)
        return rays @ self.rotation().T

    def pixels(self, points: FloatArray, height: int, width: int) -> FloatArray:
        """Where points in the frame of the car appear.

        Args:
            points: `[..., 3]` positions in metres (x ahead of the rear axle, y left, z up from the ground).
            height: rows of the image.
            width: columns of the image.

        Returns:
            `[..., 2]` column and row, in pixels, (0, 0) being the centre of the top left one; NaN for points outside
            what the lens can draw.
        """
        seen = (points - np.array([self.forward_m, self.lateral_m, self.height_m])) @ self.rotation()
        across = np.hypot(seen[..., 1], seen[..., 2])
        angle = np.arctan2(across, seen[..., 0])
        drawable = self.lens * angle < 0.5 * math.pi - 1e-3
        bent = np.tan(np.where(drawable, self.lens * angle, 0.0)) / self.lens if self.lens > 1e-6 else angle
        radius = np.where(drawable, bent, np.nan)
        focal_x, focal_y = self.focal_px(width)
        part = radius / np.maximum(across, _EPS)
        column = 0.5 * (width - 1) - focal_x * part * seen[..., 1]
        row = 0.5 * (height - 1) - focal_y * part * seen[..., 2]
        return np.stack([column, row], axis=-1)


@dataclass(frozen=True, config={"extra": "forbid"})
class CameraRanges:
    """From what the camera is drawn at each reset: ranges (low, high); one value twice holds at any variety."""

    height_m: Annotated[tuple[_Height, _Height], Ordered] = (0.1, 0.3)
    """Height above the ground, m."""
    forward_m: Annotated[tuple[_Distance, _Distance], Ordered] = (0.1, 0.4)
    """Distance ahead of the rear axle, m."""
    lateral_m: Annotated[tuple[_Distance, _Distance], Ordered] = (-0.02, 0.02)
    """Distance to the left of the middle, m."""
    horizon: Annotated[tuple[_Horizon, _Horizon], Ordered] = (0.0, 0.5)
    """Height of the horizon in the frame: 0 at the top, 1 at the bottom; the pitch follows from it."""
    roll_deg: Annotated[tuple[Angle, Angle], Ordered] = (-2.0, 2.0)
    """Roll, degrees."""
    yaw_deg: Annotated[tuple[Angle, Angle], Ordered] = (-2.5, 2.5)
    """Yaw, degrees."""
    hfov_deg: Annotated[tuple[_FieldOfView, _FieldOfView], Ordered] = (70.0, 150.0)
    """Horizontal field of view, degrees."""
    lens: Annotated[tuple[Share, Share], Ordered] = (0.2, 1.0)
    """Lens, 1 pinhole to 0 equidistant fisheye; views wider than 110° get at most 0.7."""
    pixel_aspect: Annotated[tuple[_Aspect, _Aspect], Ordered] = (0.65, 1.05)
    """Vertical over horizontal focal length."""

    def __post_init__(self) -> None:
        widest = widest_deg(min(self.lens[1], _WIDE_LENS))
        if self.hfov_deg[1] > widest:
            raise ValueError(f"hfov_deg must be at most {widest:.0f} for these lenses, got {self.hfov_deg[1]}.")


def widest_deg(lens: float) -> float:
    """The widest field of view that a lens draws, degrees."""
    return 180.0 / lens - 5.0 if lens > 0.55 else 320.0


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
    """Draw a camera for frames of a size; `variety` 0 gives the standard one, 1 the full ranges.

    A range whose ends are equal is no range: that value is taken whatever the variety.

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
    value |= {name: drawn[name] for name in drawn if _is_fixed(getattr(ranges, name))}
    horizon = value.pop("horizon")
    if pinhole:
        value["lens"], value["hfov_deg"] = 1.0, min(value["hfov_deg"], 110.0)
    elif value["hfov_deg"] > 110.0:
        value["lens"] = min(value["lens"], _WIDE_LENS)
    return pitch_for_horizon(CameraParams(**value), height, width, horizon)


def _is_fixed(ends: tuple[float, float]) -> bool:
    return ends[0] == ends[1]
