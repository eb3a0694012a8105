"""Weather in the air: fog that hides the distance, rain, snow. `glass.py` has what settles on the lens.

Coherent over the episode: the banks of fog drift, streaks and flakes move with the wind. Depth follows from the horizon
(`envs.perturbations.images`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.perturbations.images import FloatMap, Geometry, clouds, to_grey_levels
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation


@declare_perturbation("weather", unit="visibility V, camera heights", doses=(160.0, 70.0, 35.0, 18.0, 9.0))
def fog(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = t x + (1 − t) A, t = exp(−3.912 d / V): the law of Koschmieder, with visibility V.

    The depth d of the ground is counted in camera heights; the density differs by up to 45 % between banks that drift
    past. A is a light grey. (In ImageNet-C fog has no depth.)
    """
    return _Fog(generator, dose, camera)


@declare_perturbation("weather", unit="share of the frame under streaks", doses=(0.04, 0.09, 0.16, 0.26, 0.4))
def rain(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Streaks of three distances that fall with the wind, over a picture that pales: x' = (1 − α) p + α 215.

    The streaks cover a share of the frame; they are .06 to .25 of its height long. p = x + .6 c (200 − x) with the
    covered share c is the veil of what is too fine to see.

    Source: ours; what rain does to a picture is in Garg and Nayar, *Vision and rain* (International Journal of Computer
    Vision 2007).
    """
    layers = [_streaks(generator, camera, dose / 3.0, size) for size in (0.06, 0.12, 0.25)]
    wind = float(generator.uniform(-0.5, 0.5))
    moves = [(wind * speed, speed) for speed in (1.7, 2.9, 4.3)]
    return _Falling(generator, camera, layers, moves, (205.0, 210.0, 215.0), 0.6 * dose, 200.0, 0.0)


@declare_perturbation("weather", unit="share c of the frame under flakes", doses=(0.03, 0.07, 0.13, 0.22, 0.34))
def snow(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Flakes of three distances that drift and sway, over a picture that whitens: x' = (1 − α) p + α 250.

    The flakes cover a share c of the frame; they are .008 to .03 of its height in radius. p = x + .8 c (235 − x).

    Source: ours; the snow of Hendrycks and Dietterich (ICLR 2019) stands still.
    """
    layers = [_flakes(generator, camera, dose / 3.0, size) for size in (0.008, 0.016, 0.03)]
    wind = float(generator.uniform(-0.4, 0.4))
    moves = [(wind + 0.1 * speed, speed) for speed in (0.35, 0.6, 0.95)]
    return _Falling(generator, camera, layers, moves, (250.0, 250.0, 252.0), 0.8 * dose, 235.0, 0.04)


_AIR = np.array([198.0, 202.0, 206.0], np.float32)
"""The light of fog, grey levels."""


class _Fog(Effect):
    def __init__(self, generator: np.random.Generator, visibility: float, camera: CameraInfo):
        self._width = camera.width
        self._reach = 3 * camera.width
        banks = clouds(generator, camera.height, self._reach, 0.7 * camera.height)
        banks = np.concatenate([banks, banks[:, : camera.width]], axis=1)
        geometry = Geometry(camera)
        depth = np.minimum(geometry.depth * np.sqrt(1.0 + geometry.across**2), 120.0)
        self._thickness: FloatMap = (-3.912 / visibility * depth).astype(np.float32)  # [H, W]
        self._density = (1.0 + 0.45 * (2.0 * banks - 1.0)).astype(np.float32)
        self._drift_px = camera.height * float(generator.uniform(0.1, 0.5)) * generator.choice([-1.0, 1.0])
        self._start = float(generator.uniform(0.0, self._reach))

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        left = int(self._start + self._drift_px * moment.time_s) % self._reach
        passes = np.exp(self._thickness * self._density[:, left : left + self._width])[..., None]  # [H, W, 1]
        return to_grey_levels((frame - _AIR) * passes + _AIR)


class _Falling(Effect):
    """Layers of things that fall past, each at its own speed, over a veil."""

    def __init__(
        self,
        generator: np.random.Generator,
        camera: CameraInfo,
        layers: list[NDArray[np.uint8]],
        moves: list[tuple[float, float]],
        color: tuple[float, float, float],
        veil: float,
        veil_level: float,
        sway: float,
    ):
        """Take what falls.

        Args:
            generator: owner of the draws.
            camera: size of the frames.
            layers: uint8 `[H, W]` opacity of textures that repeat.
            moves: of each layer, to the right and downwards, frame heights each second.
            color: of what falls, grey levels.
            veil: share of the way to `veil_level` that everything goes, in [0, 1].
            veil_level: grey level.
            sway: how far the layers swing sideways, frame heights.
        """
        self._camera, self._moves, self._sway = camera, moves, sway
        # Continued by one frame, so that a cut never has to wrap.
        self._layers = [cv2.copyMakeBorder(each, 0, camera.height, 0, camera.width, cv2.BORDER_WRAP) for each in layers]
        self._starts = generator.uniform(0.0, 1.0, (len(layers), 2))
        self._swing = generator.uniform(0.0, 2.0 * math.pi, len(layers))
        self._color = color
        self._veil, self._veil_level = min(veil, 0.8), veil_level
        shape = (camera.height, camera.width, 3)
        self._solid = np.broadcast_to(np.array(color, np.uint8), shape).copy()

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        camera = self._camera
        time_s = moment.time_s
        opacity: Any = None
        for layer, (right, down), start, swing in zip(
            self._layers, self._moves, self._starts, self._swing, strict=True
        ):
            aside = right * time_s + self._sway * math.sin(2.0 * time_s + swing)
            top = int((start[0] - down * time_s) * camera.height) % camera.height
            left = int(camera.width * start[1] - aside * camera.height) % camera.width
            cut = layer[top : top + camera.height, left : left + camera.width]
            opacity = cut if opacity is None else cv2.max(opacity, cut)
        pale = cv2.convertScaleAbs(frame, alpha=1.0 - self._veil, beta=self._veil * self._veil_level)
        alpha = cv2.merge([opacity, opacity, opacity])
        kept = cv2.multiply(pale, cv2.bitwise_not(alpha), scale=1.0 / 255.0)
        return np.asarray(cv2.add(kept, cv2.multiply(self._solid, alpha, scale=1.0 / 255.0)), np.uint8)


def _streaks(generator: np.random.Generator, camera: CameraInfo, share: float, length: float) -> NDArray[np.uint8]:
    """A repeating texture of streaks, uint8 `[H, W]`; `length` is a share of the height."""
    long_px = max(2.0, length * camera.height)
    thick_px = max(1, round(0.06 * long_px))
    lean = float(generator.uniform(-0.15, 0.15)) * long_px

    def draw(target: NDArray[np.uint8], x: float, y: float, opacity: float) -> None:
        end = round(16 * (x + lean)), round(16 * (y + long_px))
        cv2.line(target, (round(16 * x), round(16 * y)), end, opacity, thick_px, cv2.LINE_AA, 4)

    return _scattered(generator, camera, share, long_px + thick_px, (90.0, 200.0), draw)


def _flakes(generator: np.random.Generator, camera: CameraInfo, share: float, radius: float) -> NDArray[np.uint8]:
    """A repeating texture of flakes, uint8 `[H, W]`; `radius` is a share of the height."""
    radius_px = max(0.55, radius * camera.height)

    def draw(target: NDArray[np.uint8], x: float, y: float, opacity: float) -> None:
        cv2.circle(target, (round(16 * x), round(16 * y)), round(16 * radius_px), opacity, -1, cv2.LINE_AA, 4)

    return _scattered(generator, camera, share, 2.0 * radius_px, (150.0, 245.0), draw)


def _scattered(
    generator: np.random.Generator,
    camera: CameraInfo,
    share: float,
    reach_px: float,
    opacities: tuple[float, float],
    draw: Callable[[NDArray[np.uint8], float, float, float], None],
) -> NDArray[np.uint8]:
    """A texture that repeats without a seam and is covered to a share by things drawn at random places.

    Args:
        generator: owner of the draws.
        camera: size of the texture.
        share: covered share, overlaps not counted.
        reach_px: how far a thing goes from its place at most.
        opacities: range from which its opacity is drawn, in [0, 255].
        draw: draws one into a picture, at a column and a row, with an opacity.
    """
    height, width = camera.height, camera.width
    margin = math.ceil(reach_px) + 1
    # Drawn into a larger picture, whose margins are folded back to the other side.
    sheet = np.zeros((height + 2 * margin, width + 2 * margin), np.uint8)
    # So small, a thing covers more pixels than its outline says: count them.
    sample = np.zeros((2 * margin + 1, 2 * margin + 1), np.uint8)
    draw(sample, margin, margin, 255.0)
    count = max(1, round(share * height * width * 255.0 / float(sample.sum())))
    low, high = (margin, margin, opacities[0]), (margin + width, margin + height, opacities[1])
    for x, y, opacity in generator.uniform(low, high, (count, 3)).tolist():
        draw(sheet, x, y, opacity)
    rows = (np.arange(height + 2 * margin) - margin) % height
    columns = (np.arange(width + 2 * margin) - margin) % width
    folded = np.zeros((height, width + 2 * margin), np.uint8)
    np.maximum.at(folded, rows, sheet)
    texture = np.zeros((width, height), np.uint8)
    np.maximum.at(texture, columns, folded.T)
    return np.ascontiguousarray(texture.T)
