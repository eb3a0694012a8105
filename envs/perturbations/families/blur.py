"""Blur: a lens out of focus, the car's own motion, a zoom while the shutter is open.

Sizes are shares of the frame's height (or angles and times), so that they mean the same at any frame size.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from envs.camera.info import CameraInfo
from envs.perturbations.images import FloatMap, Geometry, StillFrame, pixel_grid, smear
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation

_STEPS = 3
"""Steps of `smear`: 2³ samples along a path."""


@declare_perturbation(
    "blur", unit="radius r of the disc, share of the height", doses=(0.014, 0.02, 0.028, 0.041, 0.058), random=False
)
def defocus(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = disc(r) * x: the circle of confusion of a lens that is out of focus.

    After the radii of Hendrycks and Dietterich (ICLR 2019), as shares of the height.
    """
    kernel = _disc(dose * camera.height)
    return StillFrame(lambda frame: cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


@declare_perturbation("blur", unit="exposure τ, s", doses=(0.015, 0.03, 0.05, 0.08, 0.12), random=False)
def motion_blur(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The mean over the exposure τ of what moves past: the flow of the ground at the car's speed, and its turning.

    A ground point at (X, Z) ahead of a camera of height h appears f X / Z beside and f h / Z below the vanishing point;
    driving on by v t moves it outwards by (v t / Z) times these, and turning by ω t moves everything by f ω t sideways.

    x'(p) = mean over t in [0, τ] of x(p − t u(p)) with that flow u. Source: Longuet-Higgins and Prazdny, *The
    interpretation of a moving retinal image* (Proceedings of the Royal Society B 1980).
    """
    return _Motion(dose, camera)


@declare_perturbation("blur", unit="largest magnification z", doses=(1.06, 1.11, 1.16, 1.21, 1.26), random=False)
def zoom_blur(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The mean of the frame at the magnifications 1 to z about its middle.

    Magnifications of the 64-pixel set of Hendrycks and Dietterich (ICLR 2019).

    x'(p) = mean over k in [1, z] of x(p₀ + (p − p₀) / k) with the middle p₀.
    """
    columns, rows = pixel_grid(camera)
    middle_x, middle_y = 0.5 * (camera.width - 1), 0.5 * (camera.height - 1)
    least = dose ** (-1.0 / (2**_STEPS - 1))
    moves = []
    for step in range(_STEPS):
        factor = np.float32(least ** (2**step))
        nearer_x = (middle_x + factor * (columns - middle_x)).astype(np.float32)
        nearer_y = (middle_y + factor * (rows - middle_y)).astype(np.float32)
        moves.append(cv2.convertMaps(nearer_x, nearer_y, cv2.CV_16SC2))
    return StillFrame(lambda frame: smear(frame, moves))


class _Motion(Effect):
    def __init__(self, exposure_s: float, camera: CameraInfo):
        self._places = np.stack(pixel_grid(camera), axis=-1)  # [H, W, 2] column and row
        geometry = Geometry(camera)
        # Pixels for each camera height driven; above the horizon everything is far away.
        near: FloatMap = np.where(geometry.ground, geometry.below, np.float32(0.0)) * np.float32(geometry.focal_px)
        self._flow = np.stack([near * geometry.across, near * geometry.below], axis=-1)  # [H, W, 2]
        self._turn_px = geometry.focal_px
        self._part_s = exposure_s / (2**_STEPS - 1)
        self._camera_m = camera.height_m

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        driven = moment.speed_mps * self._part_s / self._camera_m
        turned = moment.yaw_rate_radps * self._part_s * self._turn_px
        # A point was nearer to the vanishing point a moment ago; turning left moves the picture to the right.
        step = np.float32(driven) * self._flow
        step[..., 0] += np.float32(turned)
        moves = [(self._places - np.float32(2**number) * step, None) for number in range(_STEPS)]
        return np.asarray(smear(frame, moves), np.uint8)


def _disc(radius: float) -> FloatMap:
    """The weights of the pixels around one, of a blur over a disc of any radius in pixels; they sum to 1.

    A pixel averages over its square, before the blur and after it: the weight is that of the disc folded with two
    squares, so that a disc within a pixel reaches its neighbours, too.
    """
    reach, fine = math.ceil(radius + 1.0), 9
    side = 2 * reach + 1
    places = (np.arange(side * fine) + 0.5) / fine - 0.5 * side
    inside = places[:, None] ** 2 + places[None] ** 2 <= max(radius, 0.5 / fine) ** 2
    share: Any = inside.astype(np.float64)
    for _ in range(2):
        share = cv2.blur(share, (fine, fine), borderType=cv2.BORDER_CONSTANT)
    share = share[fine // 2 :: fine, fine // 2 :: fine]
    return (share / share.sum()).astype(np.float32)
