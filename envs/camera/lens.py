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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_EPS = 1e-9


@dataclass(frozen=True)
class CameraParams:
    """Where the camera sits on the car and how its lens draws."""

    height_m: float = 0.2
    """Height above the ground, m."""
    forward_m: float = 0.25
    """Distance ahead of the rear axle, m."""
    lateral_m: float = 0.0
    """Distance to the left of the middle of the car, m."""
    pitch_deg: float = 12.0
    """Tilt of the axis, degrees, positive downwards."""
    roll_deg: float = 0.0
    """Turn about the axis, degrees, positive clockwise as seen by the camera."""
    yaw_deg: float = 0.0
    """Direction of the axis relative to the car, degrees, positive to the left."""
    hfov_deg: float = 90.0
    """Horizontal field of view, degrees."""
    lens: float = 1.0
    """The k of the lens: 1 pinhole, 0.5 stereographic fisheye, 0 equidistant fisheye."""
    pixel_aspect: float = 1.0
    """Vertical over horizontal focal length in pixels; below 1 the picture looks squeezed in height, as a 4:3 image
    resized to 2:1 does."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ValueError(f"CameraParams.{name} must be a finite number, got {value}.")
        if self.height_m <= 0.0 or self.pixel_aspect <= 0.0:
            raise ValueError(
                "CameraParams: height_m and pixel_aspect must be positive, "
                f"got {self.height_m} and {self.pixel_aspect}."
            )
        if not 0.0 <= self.lens <= 1.0:
            raise ValueError(f"CameraParams.lens must lie in [0, 1], got {self.lens}.")
        widest = 180.0 / self.lens - 5.0 if self.lens > 0.55 else 320.0
        if not 10.0 <= self.hfov_deg <= widest:
            raise ValueError(
                f"CameraParams.hfov_deg must lie in [10, {widest:.0f}] for lens={self.lens}, got {self.hfov_deg}."
            )

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
        focal_x, focal_y = self.focal_px(width)
        left = -(np.arange(width) - 0.5 * (width - 1)) / focal_x
        up = -(np.arange(height) - 0.5 * (height - 1)) / focal_y
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
