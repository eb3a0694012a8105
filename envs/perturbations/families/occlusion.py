"""Parts of the view that are hidden: dirt on the lens, things that pass, patches that get lost."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from envs.camera.info import CameraInfo
from envs.perturbations.images import Overlay, StillFrame, clouds, cover
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation


@declare_perturbation("occlusion", unit="share of the frame under dirt", doses=(0.05, 0.1, 0.18, 0.28, 0.42))
def lens_dirt(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = (1 − α) x + α c: splashes of mud, α up to .95, at the same place for the whole episode.

    Source: ours.
    """
    height, width = camera.height, camera.width
    spots = 0.7 * clouds(generator, height, width, 0.3 * height, 3)
    spots += 0.3 * clouds(generator, height, width, 0.12 * height, 2)
    mud = np.array([96.0, 78.0, 58.0]) * generator.uniform(0.5, 1.2)
    color = mud * (0.6 + 0.8 * clouds(generator, height, width, 0.08 * height, 2)[..., None])
    return StillFrame(Overlay(0.95 * cover(spots, dose, 0.1), color))


@declare_perturbation("occlusion", unit="mean share of the frame that is hidden", doses=(0.04, 0.08, 0.14, 0.22, 0.34))
def passing_objects(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Three things of random shape and colour cross the view, standing on the road, again and again.

    Each is as large as makes the three hide, on average, a share of the frame, overlaps not counted; each crosses in
    1.5 to 5 s.

    x' = the thing's colour where one is, else x. Source: ours.
    """
    return _Passing(generator, dose, camera)


@declare_perturbation("occlusion", unit="share of the patches that is lost", doses=(0.05, 0.12, 0.22, 0.36, 0.55))
def dropped_patches(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Square patches, a twelfth of the height, show nothing but mid grey: lost packets.

    A share of them is lost at any time; whether one is lost is drawn again every .25 s on average.

    x' = 128 in a lost patch, else x. Source: ours, after Cutout (DeVries and Taylor, arXiv:1708.04552).
    """
    return _Patches(generator, dose, camera)


_OBJECTS = 3
_PATCH_S = 0.25
"""Mean time until it is drawn again whether a patch is lost, s."""


class _Passing(Effect):
    def __init__(self, generator: np.random.Generator, share: float, camera: CameraInfo):
        self._camera = camera
        self._things = []
        for _ in range(_OBJECTS):
            shape = float(generator.uniform(0.5, 1.8))  # width over height
            high = math.sqrt(share / _OBJECTS * camera.height * camera.width / shape)
            # A thing is in view for W of the W + w that it travels, so it may be larger by as much.
            wide = shape * high
            grow = math.sqrt(1.0 + wide / camera.width)
            high, wide = min(high * grow, 0.95 * camera.height), wide * grow
            foot = camera.height * float(generator.uniform(max(camera.horizon + 0.1, 0.45), 1.0))
            foot = max(foot, high)
            speed = (camera.width + wide) / float(generator.uniform(1.5, 5.0)) * float(generator.choice([-1.0, 1.0]))
            start = float(generator.uniform(0.0, camera.width + wide))
            color = generator.uniform(20.0, 235.0, 3)
            self._things.append((foot, high, wide, speed, start, color))
        self._things.sort(key=lambda thing: thing[0])  # what stands nearer hides what stands farther

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        camera = self._camera
        picture: Any = frame.copy()
        for foot, high, wide, speed, start, color in self._things:
            left = (start + speed * moment.time_s) % (camera.width + wide) - wide
            body = tuple(float(c) for c in color)
            dark = tuple(0.35 * c for c in body)
            _box(picture, left, foot - high, left + wide, foot, dark)
            _box(picture, left, foot - high, left + wide, foot - 0.15 * high, body)
            glass = tuple(0.5 * c + 60.0 for c in body)
            _box(picture, left + 0.15 * wide, foot - 0.88 * high, left + 0.85 * wide, foot - 0.58 * high, glass)
        return picture


def _box(picture: Any, left: float, top: float, right: float, bottom: float, color: tuple[float, ...]) -> None:
    cv2.rectangle(picture, (round(left), round(top)), (round(right) - 1, round(bottom) - 1), color, -1)


class _Patches(Effect):
    def __init__(self, generator: np.random.Generator, share: float, camera: CameraInfo):
        self._generator, self._share, self._camera = generator, share, camera
        side = max(1, round(camera.height / 12))
        self._rows, self._columns = math.ceil(camera.height / side), math.ceil(camera.width / side)
        self._size = (self._columns * side, self._rows * side)
        self._lost = generator.random((self._rows, self._columns)) < share

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        camera = self._camera
        if moment.time_s > 0.0:
            # Some patches are drawn again, lost or not; the others stay as they are.
            redrawn = self._generator.random(self._lost.shape) < -math.expm1(
                -moment.elapsed * camera.period_s / _PATCH_S
            )
            drawn = self._generator.random(self._lost.shape) < self._share
            self._lost = np.where(redrawn, drawn, self._lost)
        mask = cv2.resize(self._lost.astype(np.uint8), self._size, interpolation=cv2.INTER_NEAREST)
        changed = frame.copy()
        changed[mask[: camera.height, : camera.width] > 0] = 128
        return changed
