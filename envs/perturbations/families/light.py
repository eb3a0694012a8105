"""Light that is the same everywhere in the frame: exposure, contrast, tone, colour. `lamps.py` has the rest."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from envs.camera.info import CameraInfo
from envs.perturbations.images import StillFrame, table
from envs.perturbations.perturbation import Effect, Frame, declare_perturbation

_LEVELS = np.arange(256, dtype=np.float64)


@declare_perturbation("light", unit="b, added to the value in [0, 1]", doses=(0.1, 0.2, 0.3, 0.4, 0.5), random=False)
def brightness(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """V' = min(V + b, 1) in hue, saturation and value; constants of Hendrycks and Dietterich (ICLR 2019)."""
    added = np.array([0.0, 0.0, 255.0 * dose, 0.0])

    def brighten(frame: Frame) -> Any:
        value = cv2.add(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL), added)
        return cv2.cvtColor(value, cv2.COLOR_HSV2RGB_FULL)

    return StillFrame(brighten)


@declare_perturbation("light", unit="share g of the light", doses=(0.6, 0.35, 0.2, 0.1, 0.05), random=False)
def darkness(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = g x, rounded to whole grey levels: an exposure that is too short.

    Source: ours; the light that a linear sensor collects is in proportion to its exposure.
    """
    levels = table(_LEVELS * dose)
    return StillFrame(lambda frame: cv2.LUT(frame, levels))


@declare_perturbation(
    "light", unit="share c of the contrast that is left", doses=(0.4, 0.3, 0.2, 0.1, 0.05), random=False
)
def contrast(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = m + c (x − m) with the frame's mean m of each channel; constants of Hendrycks and Dietterich (ICLR 2019)."""
    share = dose

    def flatten(frame: Frame) -> Any:
        mean = np.array(cv2.mean(frame)[:3])
        return cv2.LUT(frame, table(mean + share * (_LEVELS[:, None] - mean)))

    return StillFrame(flatten)


@declare_perturbation("light", unit="exponent γ", doses=(1.4, 1.8, 2.4, 3.2, 4.5), random=False)
def gamma(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = x^γ: a tone curve that swallows the shadows.

    Source: the power law of tone curves (Poynton, *Digital Video and HD*, 2012).
    """
    levels = table(255.0 * (_LEVELS / 255.0) ** dose)
    return StillFrame(lambda frame: cv2.LUT(frame, levels))


@declare_perturbation(
    "light",
    unit="share s of the colour that is left",
    needs_colour=True,
    doses=(0.7, 0.5, 0.3, 0.15, 0.0),
    random=False,
)
def saturation(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = g + s (x − g) with the pixel's grey g: colours fade away.

    g = .299 R + .587 G + .114 B. Source: the luma of ITU-R BT.601.
    """
    share = dose
    mix = share * np.eye(3) + (1.0 - share) * np.array([0.299, 0.587, 0.114])
    return StillFrame(lambda frame: cv2.transform(frame, mix))


@declare_perturbation("light", unit="root mean square s of the log gains", doses=(0.1, 0.2, 0.35, 0.5, 0.75))
def colour_cast(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x'_k = g_k x_k, log g = s u with u of length √3 and mean 0, drawn for the episode: a wrong white balance.

    Source: the diagonal model of von Kries (1902).
    """
    angle = float(generator.uniform(0.0, 2.0 * math.pi))
    # A circle in the plane of all gains whose logarithms sum to 0.
    first, second = np.array([2.0, -1.0, -1.0]) / math.sqrt(2.0), np.array([0.0, 1.0, -1.0]) * math.sqrt(1.5)
    gains = np.exp(dose * (math.cos(angle) * first + math.sin(angle) * second))
    levels = table(_LEVELS[:, None] * gains)
    return StillFrame(lambda frame: cv2.LUT(frame, levels))
