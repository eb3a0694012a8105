"""Lights that move: night with headlights, a low sun, shadows on the road, lamps that flicker.

Coherent over the episode: the sun keeps its direction while the car turns, shadows lie on the ground and are driven
through.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from envs.camera.info import CameraInfo
from envs.perturbations.images import Geometry, clouds, cover, to_grey_levels
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation


@declare_perturbation("light", unit="ambient share a of the light", doses=(0.5, 0.3, 0.15, 0.06, 0.02))
def night(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = x (a t + (1 − a) L) + noise: ambient light a, headlights L, and the noise of a sensor turned up.

    t = (.9, .95, 1.1) makes the ambient light bluer than the lamps. Two lamps of L = exp(−Z / 14)
    exp(−(X / (0.8 + 0.35 Z))²) each light the ground at Z ahead and X beside them, in camera heights, and nothing above
    the horizon. The noise has a deviation of 10 (1 − a) grey levels.

    Source: ours.
    """
    return _Night(generator, dose, camera)


@declare_perturbation("light", unit="strength s", doses=(0.4, 0.7, 1.1, 1.7, 2.6))
def low_sun(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = x + s G(ρ): a sun just above the horizon, ρ frame heights from the pixel, blooming in the lens.

    G = 255 (exp(−(ρ / .12)²) + .55 / (1 + (ρ / .35)²)). The sun keeps its direction while the car turns; it starts
    in front.

    Source: ours.
    """
    return _LowSun(generator, dose, camera)


@declare_perturbation("light", unit="depth s of the shadows", doses=(0.2, 0.35, 0.5, 0.7, 0.88))
def moving_shadows(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = x (1 − s M): shadows M of trees and bridges that lie on the road, and are driven through.

    They fade out between 12 and 30 camera heights ahead, where a frame could not resolve them.

    Source: ours.
    """
    return _Shadows(generator, dose, camera)


@declare_perturbation("light", unit="amplitude a", doses=(0.12, 0.25, 0.4, 0.6, 0.9))
def flicker(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = x (1 + a sin(2π (f t + r k) + φ)): lamps on the mains under a rolling shutter.

    f, the beat between lamp and camera, is drawn between 1 and 8 Hz; r is the row as a share of the height, and k, the
    bands in a frame, between 0.3 and 1.5.

    Source: ours; how lamps on the mains look to a camera is in Sheinin, Schechner and Kutulakos, *Computational imaging
    on the electric grid* (CVPR 2017).
    """
    return _Flicker(generator, dose, camera)


class _Night(Effect):
    def __init__(self, generator: np.random.Generator, ambient: float, camera: CameraInfo):
        geometry = Geometry(camera)
        depth = geometry.depth
        aside = geometry.across * depth
        lamps = np.zeros_like(depth)
        for lamp in (-0.5, 0.5):
            lamps += np.exp(-depth / 14.0 - ((aside - lamp) / (0.8 + 0.35 * depth)) ** 2)
        beams = (1.0 - ambient) * np.clip(lamps, 0.0, 1.0) * geometry.ground
        light = ambient * np.array([0.9, 0.95, 1.1]) + beams[..., None]
        self._light = np.rint(255.0 * np.clip(light, 0.0, 1.0)).astype(np.uint8)
        self._generator, self._deviation = generator, np.float32(10.0 * (1.0 - ambient))

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        noise = self._generator.standard_normal(frame.shape, dtype=np.float32)
        noise *= self._deviation
        noise += cv2.multiply(frame, self._light, scale=1.0 / 255.0)
        return to_grey_levels(noise)


class _LowSun(Effect):
    def __init__(self, generator: np.random.Generator, strength: float, camera: CameraInfo):
        self._camera, self._geometry = camera, Geometry(camera)
        half = 0.5 * min(camera.fov_rad, 2.0)
        self._azimuth = float(generator.uniform(-0.6, 0.6)) * half  # to the left of the car
        above = float(generator.uniform(0.02, 0.16))
        row = self._geometry.horizon_px - above * camera.height
        # The glare of a sun in the middle of a picture that is wide enough to be cut out anywhere.
        self._reach = round(1.5 * camera.width)
        columns = (np.arange(2 * self._reach + camera.width, dtype=np.float32) - self._reach) / camera.height
        rows = (np.arange(camera.height, dtype=np.float32) - row) / camera.height
        square = columns[None] ** 2 + rows[:, None] ** 2
        glare = 255.0 * strength * (np.exp(-square / 0.12**2) + 0.55 / (1.0 + square / 0.35**2))
        warm = np.array([1.0, 0.93, 0.78], np.float32)
        self._glare = np.rint(np.minimum(glare[..., None] * warm, 255.0)).astype(np.uint8)

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        camera, geometry = self._camera, self._geometry
        self._azimuth -= moment.yaw_rate_radps * moment.elapsed * camera.period_s * (moment.time_s > 0.0)
        self._azimuth = (self._azimuth + math.pi) % (2.0 * math.pi) - math.pi
        ahead = abs(self._azimuth) < 1.4
        aside = math.tan(self._azimuth) if ahead else math.copysign(10.0, self._azimuth)
        column = round(min(max(geometry.centre_px - geometry.focal_px * aside, -self._reach), self._reach))
        left = self._reach - column
        glare = self._glare[:, left : left + camera.width]
        return np.asarray(cv2.add(frame, glare), np.uint8)


class _Shadows(Effect):
    _PER_HEIGHT = 5.0
    """Pixels of the texture for each camera height on the ground."""

    def __init__(self, generator: np.random.Generator, depth: float, camera: CameraInfo):
        rows, columns = 384, 192
        leaves = cover(clouds(generator, rows, columns, 16.0), 0.35, 0.1)
        bands = clouds(generator, rows, 2, 14.0, 2)[:, :1]
        trunks = cover(np.repeat(bands, columns, axis=1), 0.15, 0.05)
        self._texture = np.rint(255.0 * depth * np.maximum(leaves, trunks)).astype(np.uint8)
        geometry = Geometry(camera)
        reach = np.minimum(geometry.depth, 40.0)
        slant = float(generator.uniform(-0.5, 0.5))
        aside = geometry.across * reach
        self._x = (self._PER_HEIGHT * aside + 0.5 * columns).astype(np.float32)
        self._y = (self._PER_HEIGHT * (reach + slant * aside)).astype(np.float32)
        self._rows = rows
        near = np.clip((30.0 - geometry.depth) / 18.0, 0.0, 1.0) * geometry.ground
        self._near = np.rint(255.0 * near).astype(np.uint8)
        self._driven = float(generator.uniform(0.0, rows))
        self._per_s = self._PER_HEIGHT / camera.height_m
        self._period_s = camera.period_s

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        self._driven += moment.speed_mps * moment.elapsed * self._period_s * self._per_s * (moment.time_s > 0.0)
        rows = self._y + np.float32(self._driven % self._rows)
        dark = cv2.remap(self._texture, self._x, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        light = cv2.bitwise_not(cv2.multiply(dark, self._near, scale=1.0 / 255.0))
        return np.asarray(cv2.multiply(frame, cv2.merge([light, light, light]), scale=1.0 / 255.0), np.uint8)


class _Flicker(Effect):
    def __init__(self, generator: np.random.Generator, amplitude: float, camera: CameraInfo):
        self._amplitude = amplitude
        self._beat = float(generator.uniform(1.0, 8.0))
        rows = np.arange(camera.height) / camera.height
        self._phase = 2.0 * math.pi * (rows * generator.uniform(0.3, 1.5) + generator.random())  # [H]

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        gain = 1.0 + self._amplitude * np.sin(self._phase + 2.0 * math.pi * self._beat * moment.time_s)
        return to_grey_levels(frame * gain.astype(np.float32)[:, None, None])
