"""Weather on the glass: frost that stays for the whole episode, drops that run off now and then."""

from __future__ import annotations

import math

import cv2
import numpy as np

from envs.camera.info import CameraInfo
from envs.perturbations.images import Overlay, StillFrame, clouds, cover
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation


@declare_perturbation("weather", unit="share of the frame under ice", doses=(0.12, 0.25, 0.4, 0.55, 0.7))
def frost(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = (1 − α) x + α F: ice that has grown from the edges of the glass, α up to .9, the same all through.

    Source: ours, after Hendrycks and Dietterich (ICLR 2019), who lay photographs of ice over the picture.
    """
    height, width = camera.height, camera.width
    # Ridges where a field crosses its middle look like needles; two sizes of them.
    needles = np.zeros((height, width), np.float32)
    for cell, weight in ((0.45, 0.6), (0.16, 0.4)):
        needles += weight * (1.0 - np.abs(2.0 * clouds(generator, height, width, cell * height, 3) - 1.0))
    columns = np.abs(np.linspace(-1.0, 1.0, width, dtype=np.float32))
    rows = np.abs(np.linspace(-1.0, 1.0, height, dtype=np.float32))
    edge = np.maximum(columns[None] ** 2, rows[:, None] ** 2)
    ice = cover(0.5 * needles + 0.9 * edge + 0.25 * clouds(generator, height, width, 0.3 * height), dose, 0.3)
    color = (150.0 + 100.0 * needles[..., None]) * np.array([0.93, 0.98, 1.03])
    return StillFrame(Overlay(0.9 * ice * (0.55 + 0.45 * needles), color))


@declare_perturbation("weather", unit="share of the frame under drops", doses=(0.05, 0.1, 0.18, 0.3, 0.45))
def water_drops(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Drops on the lens: each shows the scene small and upside down, with a dark rim; now and then one runs off.

    A point at the share ρ of a drop's radius shows what lies 13 ρ times as far on the other side of its middle (half of
    that downwards). Drops stay for 12 s on average and cover a share of the frame; radii are .05 to .15 of its height.

    x'(p) = x(c − 13 ρ (p − c)) within a drop about c. Source: ours; for what a drop shows see Roser and Geiger,
    *Video-based raindrop detection* (ICCV Workshops 2009).
    """
    return _Drops(generator, dose, camera)


_DROP_S = 12.0
"""How long a drop stays on average, s."""


class _Drops(Effect):
    def __init__(self, generator: np.random.Generator, share: float, camera: CameraInfo):
        self._generator, self._camera = generator, camera
        self._drops: list[tuple[float, float, float, float]] = []  # column, row, radius in pixels; end, s
        covered = 0.0
        # Drops overlap: so many at random cover 1 − exp(−their area).
        while covered < -math.log(1.0 - share) * camera.height * camera.width:
            self._drops.append(self._draw(0.0))
            covered += math.pi * self._drops[-1][2] ** 2
        self._lay_out()

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        gone = [number for number, drop in enumerate(self._drops) if drop[3] <= moment.time_s]
        if gone:
            for number in gone:
                self._drops[number] = self._draw(moment.time_s)
            self._lay_out()
        bent = cv2.remap(frame, self._maps[0], self._maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.multiply(bent, self._rim, scale=1.0 / 220.0), np.uint8)

    def _draw(self, time_s: float) -> tuple[float, float, float, float]:
        generator, camera = self._generator, self._camera
        column, row = generator.uniform([0.0, 0.0], [camera.width, camera.height])
        radius = camera.height * float(generator.uniform(0.05, 0.15))
        return float(column), float(row), radius, time_s + float(generator.exponential(_DROP_S))

    def _lay_out(self) -> None:
        camera = self._camera
        columns, rows = np.meshgrid(
            np.arange(camera.width, dtype=np.float32), np.arange(camera.height, dtype=np.float32)
        )
        light = np.full((camera.height, camera.width), 220.0, np.float32)
        for x, y, radius, _ in self._drops:
            left, top = max(0, int(x - radius)), max(0, int(y - radius))
            part = np.s_[top : int(y + radius) + 2, left : int(x + radius) + 2]
            aside = np.arange(left, min(camera.width, int(x + radius) + 2), dtype=np.float32) - np.float32(x)
            below = np.arange(top, min(camera.height, int(y + radius) + 2), dtype=np.float32) - np.float32(y)
            if not len(aside) or not len(below):
                continue
            share = np.sqrt(aside[None] ** 2 + below[:, None] ** 2) / np.float32(radius)
            inside = share < 1.0
            reach = -13.0 * share  # a drop sees far more of the scene than it hides
            columns[part] = np.where(inside, x + reach * aside[None], columns[part])
            rows[part] = np.where(inside, y + 0.5 * reach * below[:, None], rows[part])
            shade = 220.0 * (1.1 - 0.45 * np.clip((share - 0.55) / 0.45, 0.0, 1.0) ** 2)
            light[part] = np.where(inside, shade, light[part])
        self._maps = cv2.convertMaps(columns, rows, cv2.CV_16SC2)
        rim = np.rint(np.clip(light, 0.0, 255.0)).astype(np.uint8)
        self._rim = cv2.merge([rim, rim, rim])
