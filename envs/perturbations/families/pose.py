"""A camera that sits otherwise than in training, or shakes.

Turning a camera moves the picture by the homography K R K⁻¹, whatever it sees (Hartley and Zisserman, *Multiple View
Geometry*, section 8.4). Raising it, or moving it sideways, stretches or shears the picture of a flat ground below the
horizon, and leaves the horizon where it is. So recorded frames can be changed as frames of a simulation are; what
the camera had not seen is filled with the pixels at the edge. Lenses are taken as pinholes with the resolution that
they have in the middle.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.perturbations.images import Geometry, StillFrame, pixel_grid
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation

Matrix = NDArray[np.float64]


@declare_perturbation("pose", unit="degrees", doses=(1.0, 2.5, 4.0, 6.0, 9.0))
def camera_pitch(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera looks up or down, drawn for the episode, by an angle.

    x' = K R K⁻¹ x with the rotation R about the horizontal axis. Source: Hartley and Zisserman, *Multiple View
    Geometry*, section 8.4.
    """
    return _turned(camera, pitch_rad=_either(generator) * math.radians(dose))


@declare_perturbation("pose", unit="degrees", doses=(1.0, 2.5, 4.5, 7.0, 11.0))
def camera_yaw(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera looks to the left or to the right, drawn for the episode, by an angle.

    x' = K R K⁻¹ x with the rotation R about the vertical axis of the camera. Source: Hartley and Zisserman, *Multiple
    View Geometry*, section 8.4.
    """
    return _turned(camera, yaw_rad=_either(generator) * math.radians(dose))


@declare_perturbation("pose", unit="degrees", doses=(2.0, 4.0, 7.0, 11.0, 17.0))
def camera_roll(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera is turned about its axis, one way or the other, drawn for the episode, by an angle.

    x' = K R K⁻¹ x with the rotation R about the optical axis. Source: Hartley and Zisserman, *Multiple View Geometry*,
    section 8.4.
    """
    return _turned(camera, roll_rad=_either(generator) * math.radians(dose))


@declare_perturbation("pose", unit="factor k on the height", doses=(1.1, 1.2, 1.35, 1.55, 1.9))
def camera_height(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera sits higher or lower, drawn for the episode, by a factor k: y' − y₀ = k^±1 (y − y₀) on the ground.

    y₀ is the row of the horizon.

    Source: the projection of a plane; see the module.
    """
    columns, rows = pixel_grid(camera)
    horizon = np.float32(Geometry(camera).horizon_px)
    factor = np.float32(dose ** _either(generator))
    source = np.where(rows > horizon, horizon + (rows - horizon) / factor, rows)
    return _looked_up(columns, source)


@declare_perturbation("pose", unit="way b sideways, camera heights", doses=(0.1, 0.2, 0.35, 0.55, 0.85))
def camera_offset(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera sits to the left or to the right, drawn for the episode: x' = x ± b (y − y₀) on the ground.

    b is the way in camera heights, y₀ the row of the horizon.

    Source: the projection of a plane; see the module.
    """
    columns, rows = pixel_grid(camera)
    below = np.maximum(rows - np.float32(Geometry(camera).horizon_px), 0.0)
    return _looked_up(columns + np.float32(_either(generator) * dose) * below, rows)


@declare_perturbation("pose", unit="factor on the focal length", doses=(1.06, 1.13, 1.22, 1.35, 1.55), random=False)
def field_of_view(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """A lens of longer focal length: the middle of the frame, magnified by a factor.

    x' − c = k (x − c) with the middle c. Source: the pinhole camera.
    """
    columns, rows = pixel_grid(camera)
    middle_x, middle_y = 0.5 * (camera.width - 1), 0.5 * (camera.height - 1)
    return _looked_up(middle_x + (columns - middle_x) / dose, middle_y + (rows - middle_y) / dose)


@declare_perturbation("pose", unit="deviation σ of pitch and roll, degrees", doses=(0.4, 0.9, 1.6, 2.6, 4.0))
def vibration(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera shakes: pitch and roll of every frame are normal, of a deviation σ, and forget in 40 ms.

    θ' = a θ + √(1 − a²) σ n with a = exp(−Δt / .04 s), n ~ N(0, 1). Source: Ornstein and Uhlenbeck (Physical Review
    1930); for the picture, Hartley and Zisserman as in the module.
    """
    return _Shaking(generator, math.radians(dose), camera)


_FORGETS_S = 0.04


def _either(generator: np.random.Generator) -> float:
    return float(generator.choice([-1.0, 1.0]))


def _homography(camera: CameraInfo, pitch_rad: float = 0.0, yaw_rad: float = 0.0, roll_rad: float = 0.0) -> Matrix:
    """`[3, 3]` matrix that takes pixels of the new frame to those of the old."""
    focal = Geometry(camera).focal_px
    middle_x, middle_y = 0.5 * (camera.width - 1), 0.5 * (camera.height - 1)
    intrinsics = np.array([[focal, 0.0, middle_x], [0.0, focal, middle_y], [0.0, 0.0, 1.0]])
    cosine, sine = math.cos(pitch_rad), math.sin(pitch_rad)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    cosine, sine = math.cos(yaw_rad), math.sin(yaw_rad)
    about_y = np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    cosine, sine = math.cos(roll_rad), math.sin(roll_rad)
    about_z = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return intrinsics @ about_y @ about_x @ about_z @ np.linalg.inv(intrinsics)


def _warp(frame: Frame, matrix: Matrix) -> Any:
    size = frame.shape[1], frame.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _turned(camera: CameraInfo, **angles: float) -> Effect:
    matrix = _homography(camera, **angles)
    return StillFrame(lambda frame: _warp(frame, matrix))


def _looked_up(columns: NDArray[np.floating], rows: NDArray[np.floating]) -> Effect:
    """Every frame shows the given pixels, `[H, W]` each."""
    maps = cv2.convertMaps(columns.astype(np.float32), rows.astype(np.float32), cv2.CV_16SC2)
    return StillFrame(
        lambda frame: cv2.remap(frame, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


class _Shaking(Effect):
    def __init__(self, generator: np.random.Generator, deviation_rad: float, camera: CameraInfo):
        self._generator, self._deviation_rad, self._camera = generator, deviation_rad, camera
        self._now = generator.standard_normal(2)

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        if moment.time_s > 0.0:
            keep = math.exp(-moment.elapsed * self._camera.period_s / _FORGETS_S)
            self._now = keep * self._now + math.sqrt(1.0 - keep**2) * self._generator.standard_normal(2)
        pitch, roll = (float(value) for value in self._deviation_rad * self._now)
        return np.asarray(_warp(frame, _homography(self._camera, pitch_rad=pitch, roll_rad=roll)), np.uint8)
