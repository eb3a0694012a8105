"""Weather: fog that hides the distance, rain, snow, frost and drops on the lens.

Coherent over the episode: the banks of fog drift, drops and flakes move with the wind, frost and drops stay where they
are. Depth follows from the horizon (`envs.perturbations.pictures`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.perturbations.perturbation import Clip, Effect, Frame, Moment, Perturbation
from envs.perturbations.pictures import FloatMap, Geometry, Overlay, StillFrame, clouds, cover, to_grey_levels


@dataclass(frozen=True)
class Fog(Perturbation):
    """x' = t x + (1 − t) A, t = exp(−3.912 d / V): the law of Koschmieder, with visibility V.

    The depth d of the ground is counted in camera heights; the density differs by up to 45 % between banks that drift
    past. A is a light grey. (In ImageNet-C fog has no depth.)
    """

    family: ClassVar[str] = "weather"
    name: ClassVar[str] = "fog"
    unit: ClassVar[str] = "visibility V, camera heights"
    doses = (160.0, 70.0, 35.0, 18.0, 9.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _Fog(generator, self.dose, clip)


@dataclass(frozen=True)
class Rain(Perturbation):
    """Streaks of three distances that fall with the wind, over a picture that pales: x' = (1 − α) p + α 215.

    The streaks cover a share of the frame; they are .06 to .25 of its height long. p = x + .6 c (200 − x) with the
    covered share c is the veil of what is too fine to see.
    """

    family: ClassVar[str] = "weather"
    name: ClassVar[str] = "rain"
    unit: ClassVar[str] = "share of the frame under streaks"
    doses = (0.04, 0.09, 0.16, 0.26, 0.4)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        layers = [_streaks(generator, clip, self.dose / 3.0, size) for size in (0.06, 0.12, 0.25)]
        wind = float(generator.uniform(-0.5, 0.5))
        moves = [(wind * speed, speed) for speed in (1.7, 2.9, 4.3)]
        return _Falling(generator, clip, layers, moves, (205.0, 210.0, 215.0), 0.6 * self.dose, 200.0, 0.0)


@dataclass(frozen=True)
class Snow(Perturbation):
    """Flakes of three distances that drift and sway, over a picture that whitens: x' = (1 − α) p + α 250.

    The flakes cover a share c of the frame; they are .008 to .03 of its height in radius. p = x + .8 c (235 − x).
    """

    family: ClassVar[str] = "weather"
    name: ClassVar[str] = "snow"
    unit: ClassVar[str] = "share c of the frame under flakes"
    doses = (0.02, 0.05, 0.09, 0.16, 0.26)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        layers = [_flakes(generator, clip, self.dose / 3.0, size) for size in (0.008, 0.016, 0.03)]
        wind = float(generator.uniform(-0.4, 0.4))
        moves = [(wind + 0.1 * speed, speed) for speed in (0.35, 0.6, 0.95)]
        return _Falling(generator, clip, layers, moves, (250.0, 250.0, 252.0), 0.8 * self.dose, 235.0, 0.04)


@dataclass(frozen=True)
class Frost(Perturbation):
    """x' = (1 − α) x + α F: ice that has grown from the edges of the glass, α up to .9, the same all through."""

    family: ClassVar[str] = "weather"
    name: ClassVar[str] = "frost"
    unit: ClassVar[str] = "share of the frame under ice"
    doses = (0.12, 0.25, 0.4, 0.55, 0.7)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        height, width = clip.height, clip.width
        # Ridges where a field crosses its middle look like needles; two sizes of them.
        needles = np.zeros((height, width), np.float32)
        for cell, weight in ((0.45, 0.6), (0.16, 0.4)):
            needles += weight * (1.0 - np.abs(2.0 * clouds(generator, height, width, cell * height, 3) - 1.0))
        columns = np.abs(np.linspace(-1.0, 1.0, width, dtype=np.float32))
        rows = np.abs(np.linspace(-1.0, 1.0, height, dtype=np.float32))
        edge = np.maximum(columns[None] ** 2, rows[:, None] ** 2)
        ice = cover(0.5 * needles + 0.9 * edge + 0.25 * clouds(generator, height, width, 0.3 * height), self.dose, 0.3)
        color = (150.0 + 100.0 * needles[..., None]) * np.array([0.93, 0.98, 1.03])
        return StillFrame(Overlay(0.9 * ice * (0.55 + 0.45 * needles), color))


@dataclass(frozen=True)
class WaterDrops(Perturbation):
    """Drops on the lens: each shows the scene small and upside down, with a dark rim; now and then one runs off.

    A point at the share ρ of a drop's radius shows what lies 13 ρ times as far on the other side of its middle (half of
    that downwards). Drops stay for 12 s on average and cover a share of the frame; radii are .05 to .15 of its height.
    """

    family: ClassVar[str] = "weather"
    name: ClassVar[str] = "water_drops"
    unit: ClassVar[str] = "share of the frame under drops"
    doses = (0.05, 0.1, 0.18, 0.3, 0.45)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        return _Drops(generator, self.dose, clip)


PERTURBATIONS: tuple[type[Perturbation], ...] = (Fog, Rain, Snow, Frost, WaterDrops)
"""What this file adds to the registry."""

_AIR = np.array([198.0, 202.0, 206.0], np.float32)
"""The light of fog, grey levels."""
_DROP_S = 12.0
"""How long a drop stays on average, s."""


class _Fog(Effect):
    def __init__(self, generator: np.random.Generator, visibility: float, clip: Clip):
        self._width = clip.width
        self._reach = 3 * clip.width
        banks = clouds(generator, clip.height, self._reach, 0.7 * clip.height)
        banks = np.concatenate([banks, banks[:, : clip.width]], axis=1)
        geometry = Geometry(clip)
        depth = np.minimum(geometry.depth * np.sqrt(1.0 + geometry.across**2), 120.0)
        self._thickness: FloatMap = (-3.912 / visibility * depth).astype(np.float32)  # [H, W]
        self._density = (1.0 + 0.45 * (2.0 * banks - 1.0)).astype(np.float32)
        self._drift_px = clip.height * float(generator.uniform(0.1, 0.5)) * generator.choice([-1.0, 1.0])
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
        clip: Clip,
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
            clip: size of the frames.
            layers: uint8 `[H, W]` opacity of textures that repeat.
            moves: of each layer, to the right and downwards, frame heights each second.
            color: of what falls, grey levels.
            veil: share of the way to `veil_level` that everything goes, in [0, 1].
            veil_level: grey level.
            sway: how far the layers swing sideways, frame heights.
        """
        self._clip, self._moves, self._sway = clip, moves, sway
        # Continued by one frame, so that a cut never has to wrap.
        self._layers = [cv2.copyMakeBorder(each, 0, clip.height, 0, clip.width, cv2.BORDER_WRAP) for each in layers]
        self._starts = generator.uniform(0.0, 1.0, (len(layers), 2))
        self._swing = generator.uniform(0.0, 2.0 * math.pi, len(layers))
        self._color = color
        self._veil, self._veil_level = min(veil, 0.8), veil_level
        shape = (clip.height, clip.width, 3)
        self._solid = np.broadcast_to(np.array(color, np.uint8), shape).copy()

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        clip = self._clip
        time_s = moment.time_s
        opacity: Any = None
        for layer, (right, down), start, swing in zip(
            self._layers, self._moves, self._starts, self._swing, strict=True
        ):
            aside = right * time_s + self._sway * math.sin(2.0 * time_s + swing)
            top = int((start[0] - down * time_s) * clip.height) % clip.height
            left = int(clip.width * start[1] - aside * clip.height) % clip.width
            cut = layer[top : top + clip.height, left : left + clip.width]
            opacity = cut if opacity is None else cv2.max(opacity, cut)
        pale = cv2.convertScaleAbs(frame, alpha=1.0 - self._veil, beta=self._veil * self._veil_level)
        alpha = cv2.merge([opacity, opacity, opacity])
        kept = cv2.multiply(pale, cv2.bitwise_not(alpha), scale=1.0 / 255.0)
        return np.asarray(cv2.add(kept, cv2.multiply(self._solid, alpha, scale=1.0 / 255.0)), np.uint8)


def _streaks(generator: np.random.Generator, clip: Clip, share: float, length: float) -> NDArray[np.uint8]:
    """A repeating texture of streaks, uint8 `[H, W]`; `length` is a share of the height."""
    long_px = max(2.0, length * clip.height)
    thick_px = max(1, round(0.06 * long_px))
    lean = float(generator.uniform(-0.15, 0.15)) * long_px

    def draw(target: NDArray[np.uint8], x: float, y: float, opacity: float) -> None:
        end = round(16 * (x + lean)), round(16 * (y + long_px))
        cv2.line(target, (round(16 * x), round(16 * y)), end, opacity, thick_px, cv2.LINE_AA, 4)

    return _scattered(generator, clip, share, long_px * thick_px, long_px, (90.0, 200.0), draw)


def _flakes(generator: np.random.Generator, clip: Clip, share: float, radius: float) -> NDArray[np.uint8]:
    """A repeating texture of flakes, uint8 `[H, W]`; `radius` is a share of the height."""
    radius_px = max(0.55, radius * clip.height)

    def draw(target: NDArray[np.uint8], x: float, y: float, opacity: float) -> None:
        cv2.circle(target, (round(16 * x), round(16 * y)), round(16 * radius_px), opacity, -1, cv2.LINE_AA, 4)

    return _scattered(generator, clip, share, math.pi * radius_px**2, 2.0 * radius_px, (150.0, 245.0), draw)


def _scattered(
    generator: np.random.Generator,
    clip: Clip,
    share: float,
    area_px: float,
    reach_px: float,
    opacities: tuple[float, float],
    draw: Callable[[NDArray[np.uint8], float, float, float], None],
) -> NDArray[np.uint8]:
    """A texture that repeats without a seam and is covered to a share by things drawn at random places.

    Args:
        generator: owner of the draws.
        clip: size of the texture.
        share: covered share, overlaps not counted.
        area_px: of one thing.
        reach_px: how far a thing goes from its place at most.
        opacities: range from which its opacity is drawn, in [0, 255].
        draw: draws one into a picture, at a column and a row, with an opacity.
    """
    height, width = clip.height, clip.width
    margin = math.ceil(reach_px) + 1
    # Drawn into a larger picture, whose margins are folded back to the other side.
    sheet = np.zeros((height + 2 * margin, width + 2 * margin), np.uint8)
    count = max(1, round(share * height * width / area_px))
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


class _Drops(Effect):
    def __init__(self, generator: np.random.Generator, share: float, clip: Clip):
        self._generator, self._clip = generator, clip
        self._drops: list[tuple[float, float, float, float]] = []  # column, row, radius in pixels; end, s
        covered = 0.0
        # Drops overlap: so many at random cover 1 − exp(−their area).
        while covered < -math.log(1.0 - share) * clip.height * clip.width:
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
        generator, clip = self._generator, self._clip
        column, row = generator.uniform([0.0, 0.0], [clip.width, clip.height])
        radius = clip.height * float(generator.uniform(0.05, 0.15))
        return float(column), float(row), radius, time_s + float(generator.exponential(_DROP_S))

    def _lay_out(self) -> None:
        clip = self._clip
        columns, rows = np.meshgrid(np.arange(clip.width, dtype=np.float32), np.arange(clip.height, dtype=np.float32))
        light = np.full((clip.height, clip.width), 220.0, np.float32)
        for x, y, radius, _ in self._drops:
            left, top = max(0, int(x - radius)), max(0, int(y - radius))
            part = np.s_[top : int(y + radius) + 2, left : int(x + radius) + 2]
            aside = np.arange(left, min(clip.width, int(x + radius) + 2), dtype=np.float32) - np.float32(x)
            below = np.arange(top, min(clip.height, int(y + radius) + 2), dtype=np.float32) - np.float32(y)
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
