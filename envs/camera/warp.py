"""The camera: a picture of the ground and of what stands around it, by one table look-up per frame.

A pixel's ray meets the flat ground at a point that is fixed in the frame of the car. Where the car is at (x, y, ψ),
that point lies at

    x + cos(ψ) X − sin(ψ) Y,  y + sin(ψ) X + cos(ψ) Y

in the world, so the frame is the road texture sampled at an affine function of two constant tables. This is the
perspective warp of a plane, but it costs the same for every lens. The texture is held with all its halvings in one
image, the atlas, and each pixel reads the halving that fits the size of its footprint: what is far away does not
flicker. Rays that miss the ground read a panorama, indexed by their direction, in the same atlas and by the same
look-up.

    camera = WarpCamera(CameraParams(), height=48, width=96)
    camera.load(ground, panorama)
    frame = camera.render(x=0.0, y=0.0, yaw=0.0)

OpenCV's own threads only slow down frames this small; `LaneKeepingEnv` sets their number to `opencv_threads`, one by
default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.lens import CameraParams, FloatArray

Image = NDArray[Any]
"""uint8 `[H, W, 3]` RGB, or a uint8 mask `[H, W]`; OpenCV's type hints promise no dtype."""


_SHARPNESS = 0.7
"""Weight of the smaller side of a pixel's footprint when its level is chosen: 1 keeps lines sharp but flickers, 0
never flickers but blurs."""


@dataclass(frozen=True)
class Ground:
    """A picture of the ground from above.

    Attributes:
        image: uint8 `[h, w, 3]` RGB; columns run along x, rows along y.
        x0: position of the centre of the first column, m.
        y0: position of the centre of the first row, m.
        pixels_per_m: resolution.
    """

    image: Image
    x0: float
    y0: float
    pixels_per_m: float


@dataclass(frozen=True)
class Panorama:
    """What is seen around the car, as if infinitely far away.

    Attributes:
        image: uint8 `[h, w, 3]` RGB; columns run once around in azimuth, rows downwards in elevation.
        top_rad: elevation of the first row, rad.
        pixels_per_rad: resolution in both directions; w = 2π times it.
        mirror: uint8 `[h', w, 3]`, what a glossy ground adds to the picture; the first row at the horizon, the rows
            running downwards from it at the same resolution. None for a dull ground.
    """

    image: Image
    top_rad: float
    pixels_per_rad: float
    mirror: Image | None = None


class WarpCamera:
    """Draws what the camera sees of a ground and a panorama."""

    def __init__(self, params: CameraParams, height: int, width: int):
        """Prepare the tables for one camera.

        Args:
            params: pose and lens.
            height: rows of the frames.
            width: columns of the frames.
        """
        self.params, self.height, self.width = params, height, width
        rays = params.rays(height, width)
        down = -rays[..., 2]
        self.hits_ground = down > 1e-4  # [H, W]
        reach = np.where(self.hits_ground, params.height_m / np.where(self.hits_ground, down, 1.0), 0.0)
        self.reach_m = np.where(self.hits_ground, reach, np.inf)  # [H, W] length of each ray down to the ground
        self._x = params.forward_m * self.hits_ground + reach * rays[..., 0]
        self._y = params.lateral_m * self.hits_ground + reach * rays[..., 1]
        self._azimuth = np.arctan2(rays[..., 1], rays[..., 0])
        self._elevation = np.arcsin(np.clip(rays[..., 2], -1.0, 1.0))
        self._footprint = _footprint(self._x, self._y, self.hits_ground)
        self._scratch = [np.empty((height, width), np.float32) for _ in range(3)]
        self._atlas: Image | None = None

    @property
    def elevations(self) -> tuple[float, float]:
        """Lowest and highest elevation that the camera sees, rad."""
        return float(self._elevation.min()), float(self._elevation.max())

    @property
    def pixel_rad(self) -> float:
        """Angle between neighbouring columns in the middle of the image: the resolution that a panorama needs."""
        return 1.0 / self.params.focal_px(self.width)[0]

    def near_m(self, pixels_per_m: float) -> float:
        """Largest distance from the rear axle at which a pixel is shown at the full or half of a resolution, m."""
        near = self.hits_ground & (self._footprint * pixels_per_m < 2.0**1.5)
        return float(np.hypot(self._x, self._y)[near].max(initial=0.5))

    def load(self, ground: Ground, panorama: Panorama, far: Ground | None = None) -> None:
        """Show another scene from now on.

        Args:
            ground: the ground, at full resolution.
            panorama: what stands around.
            far: the ground farther away, at a quarter of the resolution; `ground` then need not reach farther than
                `near_m`. The halvings of `ground` when None.
        """
        if far is None:
            levels = _halvings(ground)
        else:
            levels = _halvings(ground)[:2] + _halvings(far)
        level = np.log2(np.maximum(self._footprint * ground.pixels_per_m, 1e-6))
        level = np.clip(np.rint(level), 0, len(levels) - 1).astype(np.intp)
        turned = np.clip(np.abs(self._azimuth)[~self.hits_ground].max(initial=0.0), 0.0, math.pi)
        around = _unroll(panorama.image, turned, panorama.pixels_per_rad)
        self._atlas, corners = _pack([*(each.image for each in levels), around])
        sizes = np.array([each.image.shape[:2] for each in levels], np.float64)  # [L, 2]
        offsets = np.array(corners[:-1], np.float64)  # [L, 2] row and column
        per_m = np.array([each.pixels_per_m for each in levels])  # [L]
        starts_u = offsets[:, 1] - per_m * np.array([each.x0 - ground.x0 for each in levels])  # [L]
        starts_v = offsets[:, 0] - per_m * np.array([each.y0 - ground.y0 for each in levels])  # [L]
        ground_here = self.hits_ground
        scale = np.where(ground_here, per_m[level], 0.0)
        row0, column0 = corners[-1]
        per_rad = panorama.pixels_per_rad
        pano_u = column0 + (self._azimuth + turned) * per_rad
        pano_v = row0 + np.clip((panorama.top_rad - self._elevation) * per_rad, 0.0, around.shape[0] - 1.001)
        single = np.float32
        self._scale = scale.astype(single)
        self._scale_x, self._scale_y = (scale * self._x).astype(single), (scale * self._y).astype(single)
        self._base_u = np.where(ground_here, starts_u[level], pano_u).astype(single)
        self._base_v = np.where(ground_here, starts_v[level], pano_v).astype(single)
        self._turn = np.where(ground_here, 0.0, per_rad).astype(single)
        everywhere = np.float32(1e9)
        self._low_u = np.where(ground_here, offsets[level, 1], -everywhere).astype(single)
        self._low_v = np.where(ground_here, offsets[level, 0], -everywhere).astype(single)
        self._high_u = np.where(ground_here, offsets[level, 1] + sizes[level, 1] - 1.001, everywhere).astype(single)
        self._high_v = np.where(ground_here, offsets[level, 0] + sizes[level, 0] - 1.001, everywhere).astype(single)
        self._origin = (ground.x0, ground.y0)
        self._mirror = None
        if panorama.mirror is not None:
            turned = float(np.abs(self._azimuth[ground_here]).max(initial=0.0))
            self._mirror = _unroll(panorama.mirror, turned, per_rad)
            below = np.where(ground_here, -self._elevation * per_rad, 1e6)
            self._mirror_u = ((self._azimuth + turned) * per_rad).astype(single)
            self._mirror_v = np.where(below < self._mirror.shape[0] - 1, below, -10.0).astype(single)
            self._mirror_per_rad = per_rad

    def render(self, x: float, y: float, yaw: float) -> Image:
        """Draw the frame of a car whose rear axle is at (x, y) and that looks along `yaw`.

        Returns:
            uint8 `[H, W, 3]` RGB, a new array.
        """
        if self._atlas is None:
            raise RuntimeError("WarpCamera.render needs a scene: call load(ground, panorama) first.")
        cosine, sine = np.float32(math.cos(yaw)), np.float32(math.sin(yaw))
        u, v, product = self._scratch
        np.multiply(self._scale_x, cosine, out=u)
        u -= np.multiply(self._scale_y, sine, out=product)
        u += np.multiply(self._scale, np.float32(x - self._origin[0]), out=product)
        u += np.multiply(self._turn, np.float32(yaw % (2.0 * math.pi)), out=product)
        u += self._base_u
        np.maximum(u, self._low_u, out=u)
        np.minimum(u, self._high_u, out=u)
        np.multiply(self._scale_x, sine, out=v)
        v += np.multiply(self._scale_y, cosine, out=product)
        v += np.multiply(self._scale, np.float32(y - self._origin[1]), out=product)
        v += self._base_v
        np.maximum(v, self._low_v, out=v)
        np.minimum(v, self._high_v, out=v)
        frame = cv2.remap(self._atlas, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if self._mirror is not None:
            np.add(self._mirror_u, np.float32(yaw % (2.0 * math.pi) * self._mirror_per_rad), out=u)
            glare = cv2.remap(self._mirror, u, self._mirror_v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
            cv2.add(frame, glare, frame)
        return frame


def _footprint(x: FloatArray, y: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    """Size on the ground of each pixel, m: a mean of its two sides in which the smaller one weighs more."""

    def side(axis: int) -> FloatArray:
        reach = np.hypot(
            np.gradient(np.where(valid, x, np.nan), axis=axis), np.gradient(np.where(valid, y, np.nan), axis=axis)
        )
        return np.where(np.isfinite(reach), reach, 1e3)

    across, along = side(1), side(0)
    small, large = np.minimum(across, along), np.maximum(across, along)
    size = np.exp(_SHARPNESS * np.log(np.maximum(small, 1e-6)) + (1.0 - _SHARPNESS) * np.log(np.maximum(large, 1e-6)))
    return np.minimum(size, 1e3)


def _halvings(ground: Ground) -> list[Ground]:
    """A ground and its pictures at half the resolution, a quarter, and so on."""
    levels = [ground]
    while min(levels[-1].image.shape[:2]) > 8:
        last = levels[-1]
        rows, columns = (side // 2 for side in last.image.shape[:2])
        image = cv2.resize(last.image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
        shift = 0.5 / last.pixels_per_m  # a pixel of the new picture lies between two of the old
        levels.append(Ground(image, last.x0 + shift, last.y0 + shift, 0.5 * last.pixels_per_m))
    return levels


def _unroll(image: Image, turned: float, per_rad: float) -> Image:
    """A picture of all directions over the azimuths [−turned, 2π + turned], so that no look-up has to wrap."""
    count = math.ceil((2.0 * math.pi + 2.0 * turned) * per_rad) + 2
    columns = (np.arange(count) - round(turned * per_rad)) % image.shape[1]
    return np.ascontiguousarray(image[:, columns])  # OpenCV would copy any other layout at every frame


def _pack(images: list[Image]) -> tuple[Image, list[tuple[int, int]]]:
    """Put images into one.

    The first stands at the top left and the last below it; the others stand in a column to the right of the first, and
    below the last where that is wider.

    Returns:
        The atlas, and the row and column of the corner of each image.
    """
    first, middle, last = images[0], images[1:-1], images[-1]
    column = first.shape[1]
    row = 0 if last.shape[1] <= column else first.shape[0] + last.shape[0]
    tall = sum(image.shape[0] for image in middle)
    if row and tall <= first.shape[0]:
        row = 0  # it fits beside the first, above the last
    corners = [(0, 0)]
    for image in middle:
        corners.append((row, column))
        row += image.shape[0]
    corners.append((first.shape[0], 0))
    height = max(top + image.shape[0] for (top, _), image in zip(corners, images, strict=True))
    width = max(left + image.shape[1] for (_, left), image in zip(corners, images, strict=True))
    if max(height, width) >= 32767:
        raise ValueError(
            f"The ground picture is too large for OpenCV: {height} × {width} pixels. Use fewer pixels_per_m."
        )
    atlas = np.zeros((height, width, 3), np.uint8)
    for image, (top, left) in zip(images, corners, strict=True):
        atlas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return atlas, corners
