"""Crop and gain for another camera and another car, from a few of its frames with known steering. Nothing is trained.

    found = fit_camera(DriverSpec("runs/mine"), episodes)
    found.options(spec.options)  # DriverOptions with crop and gain

A driver's answer p to a frame of another camera is its answer at home, seen through another lens and meant for another
car: p = b·y + noise, with the steering y that is known to be right. The crop is the one under which p and y correlate
best; the gain is 1 / b, b being the slope of p on y (y is known, the noise is in p, so this slope is not drawn towards
zero by it). The interval is a bootstrap over blocks of frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.metrics import Estimate, bootstrap
from agents.driving.open_driver import open_driver
from agents.driving.open_loop import predict
from agents.recordings.episodes import EpisodeSet

TOPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Shares of the rows that are tried as crop at the top."""
BOTTOMS = (0.0, 0.1, 0.2, 0.3, 0.4)
"""Shares of the rows that are tried as crop at the bottom."""
SIDES = (0.0, 0.06, 0.12, 0.18, 0.25, 0.32)
"""Shares of the columns that are tried as crop on either side."""
BLOCK = 25
"""Frames in a block of the bootstrap; neighbours are not independent."""
LOCKED = 0.98
"""Known steering from which frames do not count: at full lock it no longer says how much was wanted."""
WEAK = 0.5
"""Correlation below which a fit is not to be relied on."""


@dataclass(frozen=True)
class CameraFit:
    """What was found."""

    crops: dict[str, int]
    """By their names in `Preprocessing`, pixels of the new camera."""
    steering_gain: Estimate
    """What the steering is to be multiplied with, with its 95 % interval."""
    correlation: Estimate
    """Of the driver's answers and the known steering under that crop."""
    uncropped: float
    """The correlation when the whole frame is resized."""
    offset: float
    """Mean of the driver's answer where the known steering is 0, before the gain: a camera that looks aside."""
    frames: int
    """Frames that it was found from."""

    @property
    def is_weak(self) -> bool:
        """Whether the answers hardly follow the known steering, or the gain may be anything."""
        return not (self.correlation.value >= WEAK and self.steering_gain.low > 0)

    def options(self, given: DriverOptions) -> DriverOptions:
        """Return options with crop and gain filled in."""
        return replace(given, fit=None, steering_gain=self.steering_gain.value, **self.crops)  # type: ignore[arg-type]


def fit_camera(
    spec: DriverSpec,
    episodes: EpisodeSet,
    rounds: int = 2,
    seed: int = 0,
    on_try: Callable[[], None] | None = None,
) -> CameraFit:
    """Find crop and gain.

    Args:
        spec: the driver; a crop in its options is kept, and only the gain is found then.
        episodes: frames of the new camera, with the steering that is right in the new car, in its full locks.
        rounds: how often top, bottom and sides are each searched, the others fixed.
        seed: of the bootstrap.
        on_try: called after each crop that was tried.

    Raises:
        ValueError: if the known steering does not vary, or the driver answers the same to every frame.
    """
    known = np.concatenate([episode.steering for episode in episodes]).astype(np.float64)
    if known.std() < 1e-3:
        raise ValueError("the known steering does not vary, so no gain can be found: take frames with bends.")
    free = np.abs(known) < LOCKED
    if free.sum() < 2 * BLOCK or known[free].std() < 1e-3:
        raise ValueError(
            f"only {int(free.sum())} frames are steered at less than full lock, at least {2 * BLOCK} with bends are "
            "needed: take frames of gentler bends."
        )
    rows, columns = episodes.frame_size
    plain = replace(spec.options.resolved(), steering_gain=None)
    answers: dict[tuple[int, int, int], NDArray[np.float64]] = {}

    def correlation(crop: tuple[int, int, int]) -> float:
        if crop not in answers:
            top, bottom, side = crop
            if rows - top - bottom < 4 or columns - 2 * side < 4:
                return -1.0
            cut = {"crop_top": top, "crop_bottom": bottom, "crop_left": side, "crop_right": side}
            options = plain if plain.crops is not None else replace(plain, **cut)  # type: ignore[arg-type]
            driver = open_driver(DriverSpec(spec.source, options), camera=(rows, columns))
            timed = episodes if driver.period_s is None else episodes.with_nominal_period(driver.period_s)
            answers[crop] = np.concatenate(predict(driver, timed)).astype(np.float64)
            if on_try is not None:
                on_try()
        agreed = _correlation(answers[crop][free], known[free])
        return agreed if np.isfinite(agreed) else -1.0

    best = (0, 0, 0)
    uncropped = correlation(best)
    if plain.crops is None:
        for _ in range(rounds):
            before = best
            for place, shares, size in ((0, TOPS, rows), (1, BOTTOMS, rows), (2, SIDES, columns)):
                tries = {tuple(round(share * size) if n == place else best[n] for n in range(3)) for share in shares}
                best = max(sorted(tries | {best}), key=correlation)  # type: ignore[arg-type, assignment]
            if best == before:
                break
    answer, known = answers[best][free], known[free]
    if answer.std() < 1e-6:
        raise ValueError("the driver answers the same to every frame: look at its input (--range, --layout, --colour).")
    crops = plain.crops or {"crop_top": best[0], "crop_bottom": best[1], "crop_left": best[2], "crop_right": best[2]}
    blocks = np.array_split(np.arange(len(known)), max(1, len(known) // BLOCK))

    def over(chosen: NDArray[np.intp], statistic: Callable[..., float]) -> float:
        picked = np.concatenate([blocks[number] for number in chosen])
        return statistic(answer[picked], known[picked])

    gain = bootstrap(lambda chosen: over(chosen, _gain), len(blocks), seed=seed)
    agreed = bootstrap(lambda chosen: over(chosen, _correlation), len(blocks), seed=seed)
    offset = float(answer.mean() - known.mean() / gain.value) if np.isfinite(gain.value) else float("nan")
    return CameraFit(crops, gain, agreed, uncropped, offset, len(known))


def _correlation(answer: NDArray[np.float64], known: NDArray[np.float64]) -> float:
    spread = answer.std() * known.std()
    if spread <= 1e-12:
        return float("nan")
    return float(((answer - answer.mean()) * (known - known.mean())).mean() / spread)


def _gain(answer: NDArray[np.float64], known: NDArray[np.float64]) -> float:
    """Return one over the slope of the answers on the known steering."""
    covariance = ((answer - answer.mean()) * (known - known.mean())).mean()
    return float(known.var() / covariance) if abs(covariance) > 1e-12 else float("nan")
