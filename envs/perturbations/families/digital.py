"""What happens to the numbers: compression, coarse pixels, dead rows, flipped bits, few colours."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.perturbations.images import StillFrame, table, to_grey_levels
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation


@declare_perturbation(
    "digital",
    unit="quality, 0 to 100",
    doses=(65.0, 58.0, 50.0, 40.0, 25.0),
    large_doses=(25.0, 18.0, 15.0, 10.0, 7.0),
    random=False,
)
def jpeg(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """JPEG compression at a quality; constants of Hendrycks and Dietterich (ICLR 2019), 64 and 224 pixels.

    x' = decode(encode(x, q)). Source: ITU-T T.81 (1992), as OpenCV does it.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, round(dose)]

    def compress(frame: Frame) -> object:
        _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
        decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)

    return StillFrame(compress)


@declare_perturbation(
    "digital",
    unit="share c of the resolution that is left",
    doses=(0.9, 0.8, 0.7, 0.6, 0.5),
    large_doses=(0.6, 0.5, 0.4, 0.3, 0.25),
)
def pixelate(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Every pixel shows the mean of its block; blocks have sides of 1 / c pixels, from a corner drawn for the episode.

    Shares c of Hendrycks and Dietterich (ICLR 2019), 64 and 224 pixels.

    x'(p) = mean of x over the block that p lies in.
    """
    share = dose
    edges_down, row = _blocks(camera.height, share, float(generator.random()))
    edges_across, column = _blocks(camera.width, share, float(generator.random()))
    areas = np.outer(np.diff(edges_down), np.diff(edges_across))[..., None].astype(np.float32)

    def average(frame: Frame) -> Frame:
        upto: Any = cv2.integral(frame)[edges_down][:, edges_across]  # sums of all above and to the left
        sums = np.diff(np.diff(upto, axis=0), axis=1)
        return to_grey_levels(sums / areas)[row][:, column]

    return StillFrame(average)


@declare_perturbation("digital", unit="share of the rows", doses=(0.03, 0.07, 0.13, 0.22, 0.35))
def dead_rows(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Rows of the sensor that do not answer: black or white, the same rows for the whole episode.

    x'[r] = 0 or 255 for a share of the rows r, else x[r]. Source: ours.
    """
    count = max(1, round(dose * camera.height))
    rows = generator.choice(camera.height, count, replace=False)
    levels = (generator.integers(0, 2, count) * 255).astype(np.uint8)[:, None, None]

    def kill(frame: Frame) -> Frame:
        changed = frame.copy()
        changed[rows] = levels
        return changed

    return StillFrame(kill)


@declare_perturbation("digital", unit="probability p that a bit flips", doses=(0.001, 0.004, 0.01, 0.025, 0.06))
def bit_errors(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Every bit of every value flips with probability p: a bad cable.

    x' = x xor e, each bit of e being 1 with probability p. Source: the binary symmetric channel of Shannon (1948).
    """
    return _BitErrors(generator, dose)


@declare_perturbation("digital", unit="levels n in each channel", doses=(16.0, 8.0, 5.0, 3.0, 2.0), random=False)
def few_colours(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Every channel rounded to n evenly spaced levels from 0 to 255.

    x' = round(x (n − 1) / 255) · 255 / (n − 1). Source: the uniform quantiser.
    """
    steps = dose - 1.0
    levels = table(np.rint(np.arange(256) / 255.0 * steps) / steps * 255.0)
    return StillFrame(lambda frame: cv2.LUT(frame, levels))


def _blocks(count: int, share: float, phase: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where blocks begin and, last, end, `[blocks + 1]`; and the block of each of `count` pixels, `[count]`."""
    place = np.floor((np.arange(count) + 0.5) * share + phase)
    block = np.cumsum(np.diff(place, prepend=place[0]) > 0.0)
    return np.searchsorted(block, np.arange(block[-1] + 2)), block


class _BitErrors(Effect):
    def __init__(self, generator: np.random.Generator, probability: float):
        self._generator, self._probability = generator, probability

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        bits = 8 * frame.size
        # Two flips of the same bit cancel, which is rare where flips are.
        flips = self._generator.integers(0, bits, self._generator.binomial(bits, self._probability))
        changed = frame.copy()
        np.bitwise_xor.at(changed.reshape(-1), flips >> 3, np.uint8(1) << (flips & 7).astype(np.uint8))
        return changed
