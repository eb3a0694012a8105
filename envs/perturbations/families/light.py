"""Light that is the same everywhere in the frame: exposure, contrast, tone, colour. `lamps.py` has the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from envs.perturbations.images import StillFrame, table
from envs.perturbations.perturbation import Clip, Effect, Frame, Perturbation

_LEVELS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True)
class Brightness(Perturbation):
    """V' = min(V + b, 1) in hue, saturation and value; constants of Hendrycks and Dietterich (ICLR 2019)."""

    family: ClassVar[str] = "light"
    name: ClassVar[str] = "brightness"
    unit: ClassVar[str] = "b, added to the value in [0, 1]"
    random: ClassVar[bool] = False
    doses = (0.1, 0.2, 0.3, 0.4, 0.5)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        added = np.array([0.0, 0.0, 255.0 * self.dose, 0.0])

        def brighten(frame: Frame) -> Any:
            value = cv2.add(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL), added)
            return cv2.cvtColor(value, cv2.COLOR_HSV2RGB_FULL)

        return StillFrame(brighten)


@dataclass(frozen=True)
class Darkness(Perturbation):
    """x' = g x, rounded to whole grey levels: an exposure that is too short.

    Source: ours; the light that a linear sensor collects is in proportion to its exposure.
    """

    family: ClassVar[str] = "light"
    name: ClassVar[str] = "darkness"
    unit: ClassVar[str] = "share g of the light"
    random: ClassVar[bool] = False
    doses = (0.6, 0.35, 0.2, 0.1, 0.05)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        levels = table(_LEVELS * self.dose)
        return StillFrame(lambda frame: cv2.LUT(frame, levels))


@dataclass(frozen=True)
class Contrast(Perturbation):
    """x' = m + c (x − m) with the frame's mean m of each channel; constants of Hendrycks and Dietterich (ICLR 2019)."""

    family: ClassVar[str] = "light"
    name: ClassVar[str] = "contrast"
    unit: ClassVar[str] = "share c of the contrast that is left"
    random: ClassVar[bool] = False
    doses = (0.4, 0.3, 0.2, 0.1, 0.05)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        share = self.dose

        def flatten(frame: Frame) -> Any:
            mean = np.array(cv2.mean(frame)[:3])
            return cv2.LUT(frame, table(mean + share * (_LEVELS[:, None] - mean)))

        return StillFrame(flatten)


@dataclass(frozen=True)
class Gamma(Perturbation):
    """x' = x^γ: a tone curve that swallows the shadows.

    Source: the power law of tone curves (Poynton, *Digital Video and HD*, 2012).
    """

    family: ClassVar[str] = "light"
    name: ClassVar[str] = "gamma"
    unit: ClassVar[str] = "exponent γ"
    random: ClassVar[bool] = False
    doses = (1.4, 1.8, 2.4, 3.2, 4.5)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        levels = table(255.0 * (_LEVELS / 255.0) ** self.dose)
        return StillFrame(lambda frame: cv2.LUT(frame, levels))


@dataclass(frozen=True)
class Saturation(Perturbation):
    """x' = g + s (x − g) with the pixel's grey g: colours fade away.

    g = .299 R + .587 G + .114 B. Source: the luma of ITU-R BT.601.
    """

    family: ClassVar[str] = "light"
    name: ClassVar[str] = "saturation"
    unit: ClassVar[str] = "share s of the colour that is left"
    random: ClassVar[bool] = False
    doses = (0.7, 0.5, 0.3, 0.15, 0.0)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        share = self.dose
        mix = share * np.eye(3) + (1.0 - share) * np.array([0.299, 0.587, 0.114])
        return StillFrame(lambda frame: cv2.transform(frame, mix))


@dataclass(frozen=True)
class ColourCast(Perturbation):
    """x'_k = g_k x_k, log g = s u with u of length √3 and mean 0, drawn for the episode: a wrong white balance.

    Source: the diagonal model of von Kries (1902).
    """

    family: ClassVar[str] = "light"
    name: ClassVar[str] = "colour_cast"
    unit: ClassVar[str] = "root mean square s of the log gains"
    doses = (0.1, 0.2, 0.35, 0.5, 0.75)

    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode."""
        angle = float(generator.uniform(0.0, 2.0 * math.pi))
        # A circle in the plane of all gains whose logarithms sum to 0.
        first, second = np.array([2.0, -1.0, -1.0]) / math.sqrt(2.0), np.array([0.0, 1.0, -1.0]) * math.sqrt(1.5)
        gains = np.exp(self.dose * (math.cos(angle) * first + math.sin(angle) * second))
        levels = table(_LEVELS[:, None] * gains)
        return StillFrame(lambda frame: cv2.LUT(frame, levels))


PERTURBATIONS: tuple[type[Perturbation], ...] = (Brightness, Darkness, Contrast, Gamma, Saturation, ColourCast)
"""What this file adds to the registry."""
