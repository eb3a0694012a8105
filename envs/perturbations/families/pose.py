"""A camera that sits otherwise than in training, or shakes.

Turning a camera moves the picture by the homography K R K⁻¹, whatever it sees (Hartley and Zisserman, *Multiple View
Geometry*, section 8.4). Raising it, or moving it sideways, stretches or shears the picture of a flat ground below the
horizon, and leaves the horizon where it is. So recorded frames can be changed as frames of a simulation are; what
the camera had not seen is filled with the pixels at the edge. Lenses are taken as pinholes with the resolution that
they have in the middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.perturbations.images import Geometry, StillFrame, pixel_grid
from envs.perturbations.perturbation import Clip, Effect, Frame, Moment, Perturbation

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class CameraPitch(Perturbation):
    """The camera looks up or down, drawn for the episode, by an angle.

    x' = K R K⁻¹ x with the rotation R about the horizontal axis. Source: Hartley and Zisserman, *Multiple View
    Geometry*, section 8.4.
    """

    family: ClassVar[str] = "pose"
    name: ClassVar[str] = "camera_pitch"
    unit: ClassVar[str] = "degrees"
    doses = (1.0, 2.5, 4.0, 6.0, 9.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _turned(clip, pitch_rad=_either(generator) * math.radians(self.dose))


@dataclass(frozen=True)
class CameraYaw(Perturbation):
    """The camera looks to the left or to the right, drawn for the episode, by an angle.

    x' = K R K⁻¹ x with the rotation R about the vertical axis of the camera. Source: Hartley and Zisserman, *Multiple
    View Geometry*, section 8.4.
    """

    family: ClassVar[str] = "pose"
    name: ClassVar[str] = "camera_yaw"
    unit: ClassVar[str] = "degrees"
    doses = (1.0, 2.5, 4.5, 7.0, 11.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _turned(clip, yaw_rad=_either(generator) * math.radians(self.dose))


@dataclass(frozen=True)
class CameraRoll(Perturbation):
    """The camera is turned about its axis, one way or the other, drawn for the episode, by an angle.

    x' = K R K⁻¹ x with the rotation R about the optical axis. Source: Hartley and Zisserman, *Multiple View Geometry*,
    section 8.4.
    """

    family: ClassVar[str] = "pose"
    name: ClassVar[str] = "camera_roll"
    unit: ClassVar[str] = "degrees"
    doses = (2.0, 4.0, 7.0, 11.0, 17.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _turned(clip, roll_rad=_either(generator) * math.radians(self.dose))


@dataclass(frozen=True)
class CameraHeight(Perturbation):
    """The camera sits higher or lower, drawn for the episode, by a factor k: y' − y₀ = k^±1 (y − y₀) on the ground.

    y₀ is the row of the horizon.

    Source: the projection of a plane; see the module.
    """

    family: ClassVar[str] = "pose"
    name: ClassVar[str] = "camera_height"
    unit: ClassVar[str] = "factor k on the height"
    doses = (1.1, 1.2, 1.35, 1.55, 1.9)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        columns, rows = pixel_grid(clip)
        horizon = np.float32(Geometry(clip).horizon_px)
        factor = np.float32(self.dose ** _either(generator))
        source = np.where(rows > horizon, horizon + (rows - horizon) / factor, rows)
        return _looked_up(columns, source)


@dataclass(frozen=True)
class CameraOffset(Perturbation):
    """The camera sits to the left or to the right, drawn for the episode: x' = x ± b (y − y₀) on the ground.

    b is the way in camera heights, y₀ the row of the horizon.

    Source: the projection of a plane; see the module.
    """

    family: ClassVar[str] = "pose"
    name: ClassVar[str] = "camera_offset"
    unit: ClassVar[str] = "way b sideways, camera heights"
    doses = (0.1, 0.2, 0.35, 0.55, 0.85)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        columns, rows = pixel_grid(clip)
        below = np.maximum(rows - np.float32(Geometry(clip).horizon_px), 0.0)
        return _looked_up(columns + np.float32(_either(generator) * self.dose) * below, rows)


@dataclass(frozen=True)
class FieldOfView(Perturbation):
    """A lens of longer focal length: the middle of the frame, magnified by a factor.

    x' − c = k (x − c) with the middle c. Source: the pinhole camera.
    """

    family: ClassVar[str] = "pose"
    name: ClassVar[str] = "field_of_view"
    unit: ClassVar[str] = "factor on the focal length"
    random: ClassVar[bool] = False
    doses = (1.06, 1.13, 1.22, 1.35, 1.55)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        columns, rows = pixel_grid(clip)
        middle_x, middle_y = 0.5 * (clip.width - 1), 0.5 * (clip.height - 1)
        return _looked_up(middle_x + (columns - middle_x) / self.dose, middle_y + (rows - middle_y) / self.dose)


@dataclass(frozen=True)
class Vibration(Perturbation):
    """The camera shakes: pitch and roll of every frame are normal, of a deviation σ, and forget in 40 ms.

    θ' = a θ + √(1 − a²) σ n with a = exp(−Δt / .04 s), n ~ N(0, 1). Source: Ornstein and Uhlenbeck (Physical Review
    1930); for the picture, Hartley and Zisserman as in the module.
    """

    family: ClassVar[str] = "pose"
    name: ClassVar[str] = "vibration"
    unit: ClassVar[str] = "deviation σ of pitch and roll, degrees"
    doses = (0.4, 0.9, 1.6, 2.6, 4.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _Shaking(generator, math.radians(self.dose), clip)


PERTURBATIONS: tuple[type[Perturbation], ...] = (
    CameraPitch,
    CameraYaw,
    CameraRoll,
    CameraHeight,
    CameraOffset,
    FieldOfView,
    Vibration,
)
"""What this file adds to the registry."""

_FORGETS_S = 0.04


def _either(generator: np.random.Generator) -> float:
    return float(generator.choice([-1.0, 1.0]))


def _homography(clip: Clip, pitch_rad: float = 0.0, yaw_rad: float = 0.0, roll_rad: float = 0.0) -> Matrix:
    """`[3, 3]` matrix that takes pixels of the new frame to those of the old."""
    focal = Geometry(clip).focal_px
    camera = np.array([[focal, 0.0, 0.5 * (clip.width - 1)], [0.0, focal, 0.5 * (clip.height - 1)], [0.0, 0.0, 1.0]])
    cosine, sine = math.cos(pitch_rad), math.sin(pitch_rad)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    cosine, sine = math.cos(yaw_rad), math.sin(yaw_rad)
    about_y = np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    cosine, sine = math.cos(roll_rad), math.sin(roll_rad)
    about_z = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return camera @ about_y @ about_x @ about_z @ np.linalg.inv(camera)


def _warp(frame: Frame, matrix: Matrix) -> Any:
    size = frame.shape[1], frame.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _turned(clip: Clip, **angles: float) -> Effect:
    matrix = _homography(clip, **angles)
    return StillFrame(lambda frame: _warp(frame, matrix))


def _looked_up(columns: NDArray[np.floating], rows: NDArray[np.floating]) -> Effect:
    """Every frame shows the given pixels, `[H, W]` each."""
    maps = cv2.convertMaps(columns.astype(np.float32), rows.astype(np.float32), cv2.CV_16SC2)
    return StillFrame(
        lambda frame: cv2.remap(frame, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


class _Shaking(Effect):
    def __init__(self, generator: np.random.Generator, deviation_rad: float, clip: Clip):
        self._generator, self._deviation_rad, self._clip = generator, deviation_rad, clip
        self._now = generator.standard_normal(2)

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        if moment.time_s > 0.0:
            keep = math.exp(-moment.elapsed * self._clip.period_s / _FORGETS_S)
            self._now = keep * self._now + math.sqrt(1.0 - keep**2) * self._generator.standard_normal(2)
        pitch, roll = (float(value) for value in self._deviation_rad * self._now)
        return np.asarray(_warp(frame, _homography(self._clip, pitch_rad=pitch, roll_rad=roll)), np.uint8)
