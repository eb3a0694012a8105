"""Crop and gain for another camera and another car, from a few of its frames with known steering. Nothing is trained.

    found = fit_camera(DriverSpec("runs/mine"), episodes)
    found.options(spec.options)  # DriverOptions with crop and gain

**Crop.** Where the policy's camera and the new one are known, geometry gives it. A point of the road, X ahead and Y to
the left, in lane widths, shows in a picture with focal length f, camera height h in lane widths and horizon row v0 at

    column = middle − f Y / X        row = v0 + f h / X

so new pictures look as at home when columns are scaled by f_home / f_new about the middle, and rows by
(f h)_home / (f h)_new about the horizon: a crop, then a resize that need not keep the shape. A camera that sees less
than that gets its edge repeated (a negative crop), at the bottom so that lines of the road go straight on. What is
added is only a guess, so the crop that geometry gives need not be the best one there is: from it, sides are moved as
long as answers and known steering correlate better for it. Where geometry is not known, or leads nowhere, a grid of
crops is tried before.

**Gain.** The slope of the known steering y on the driver's answers p, cov(y, p) / var(p): what turns answers into the
steering with the least squared error. At home it is 1 for a policy that was trained for the least squared error,
however well it sees; the inverse slope of p on y would be 1 / R² there. The interval is a bootstrap over blocks of
frames. Where both cars are known, the gain by geometry, the same curvature per lane width, stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.driving.car import car_of_episodes
from agents.driving.driver import PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.metrics import Estimate, bootstrap
from agents.driving.open_driver import open_driver
from agents.driving.open_loop import predict
from agents.recordings.episodes import EpisodeSet
from policies.car import CarInfo
from policies.preprocessing import Preprocessing

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
MOST = 2.0
"""Crops add no more than so many times the picture's own rows or columns."""
STEPS = (0.16, 0.08, 0.04, 0.02)
"""Shares of the rows or columns by which sides are moved, from coarse to fine."""
BETTER = 2e-3
"""A side is moved where the correlation grows by at least so much."""
MOVES = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1), (1, -1, 0, 0))
"""What is moved at once, either way: the top, the bottom, both sides, the whole picture up or down."""

Crops = tuple[int, int, int, int]
"""Pixels cut off at the top, the bottom, the left and the right."""


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
    by: str
    """What the crop was found by: "geometry", "geometry, then search", "search" or "given"."""
    gain_by_geometry: float | None = None
    """The gain for the same curvature per lane width; None where the cars are not known."""

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
    car: CarInfo | None = None,
    own_car: CarInfo | None = None,
) -> CameraFit:
    """Find crop and gain.

    Args:
        spec: the driver; a crop in its options is kept, and only the gain is found then.
        episodes: frames of the new camera, with the steering that is right in the new car, in its full locks.
        rounds: how often top, bottom and sides are each searched, the others fixed.
        seed: of the bootstrap.
        on_try: called after each crop that was tried.
        car: the new car and camera, as far as they are known; goes before what the recordings say.
        own_car: those that the driver learnt in; goes before what a policy of ours says.

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
    answers: dict[Crops, NDArray[np.float64]] = {}

    def correlation(crop: Crops) -> float:
        if crop not in answers:
            top, bottom, left, right = (max(side, 0) for side in crop)
            if rows - top - bottom < 4 or columns - left - right < 4:
                return -1.0
            if min(crop[:2]) < -MOST * rows or min(crop[2:]) < -MOST * columns:
                return -1.0
            options = plain if plain.crops is not None else replace(plain, **named(crop))  # type: ignore[arg-type]
            driver = open_driver(DriverSpec(spec.source, options), camera=(rows, columns))
            timed = episodes if driver.period_s is None else episodes.with_nominal_period(driver.period_s)
            answers[crop] = np.concatenate(predict(driver, timed)).astype(np.float64)
            if on_try is not None:
                on_try()
        agreed = _correlation(answers[crop][free], known[free])
        return agreed if np.isfinite(agreed) else -1.0

    here = _joined(car, car_of_episodes(episodes))
    horizon = None if here.camera_horizon is None else round(here.camera_horizon * rows)

    def named(crop: Crops) -> dict[str, int]:
        added = {"crop_horizon": horizon} if horizon is not None and crop[1] < 0 else {}
        return _named(crop) | added

    best: Crops = (0, 0, 0, 0)
    uncropped, by = correlation(best), "given"
    opened = open_driver(DriverSpec(spec.source, replace(plain, **_named(best))), camera=(rows, columns))  # type: ignore[arg-type]
    config = opened.policy.config if isinstance(opened, PolicyDriver) else None
    learnt = _joined(own_car, config.car if config is not None else None)
    if plain.crops is None:
        geometric = None if config is None else crop_by_geometry(config.preprocessing, learnt, here, rows, columns)
        if geometric is not None:
            best = _refined(correlation, geometric, rows, columns)
            by = "geometry" if best == geometric else "geometry, then search"
        if geometric is None or correlation(best) < WEAK:
            searched = _refined(correlation, _search(correlation, (0, 0, 0, 0), rows, columns, rounds), rows, columns)
            if geometric is None or correlation(searched) > correlation(best):
                best, by = searched, "search"
    answer, known = answers[best][free], known[free]
    if answer.std() < 1e-6:
        raise ValueError("the driver answers the same to every frame: look at its input (--range, --layout, --colour).")
    crops = plain.crops or named(best)
    blocks = np.array_split(np.arange(len(known)), max(1, len(known) // BLOCK))

    def over(chosen: NDArray[np.intp], statistic: Callable[..., float]) -> float:
        picked = np.concatenate([blocks[number] for number in chosen])
        return statistic(answer[picked], known[picked])

    gain = bootstrap(lambda chosen: over(chosen, _gain), len(blocks), seed=seed)
    agreed = bootstrap(lambda chosen: over(chosen, _correlation), len(blocks), seed=seed)
    offset = float(answer.mean() - known.mean() / gain.value) if np.isfinite(gain.value) else float("nan")
    try:
        by_geometry = learnt.steering_gain(here)
    except ValueError:
        by_geometry = None
    return CameraFit(crops, gain, agreed, uncropped, offset, len(known), by, by_geometry)


def crop_by_geometry(
    own: Preprocessing, learnt: CarInfo, here: CarInfo, rows: int, columns: int
) -> tuple[int, int, int, int] | None:
    """Return the crop under which another camera's pictures look like those that a policy learnt from.

    Args:
        own: how the policy crops and resizes its own camera's frames.
        learnt: the car and camera that it learnt in.
        here: the new ones; heights count in lane widths where both lane widths are known.
        rows: of the new camera's frames.
        columns: of the new camera's frames.

    Returns:
        Top, bottom, left, right, pixels; negative where the new camera sees less. None where too little is known, or
        next to nothing of what it learnt from can be seen.
    """
    cameras = [(car.camera_hfov_deg, car.camera_horizon, car.camera_height_m) for car in (learnt, here)]
    if any(value is None for camera in cameras for value in camera):
        return None
    (own_fov, own_horizon, own_height), (fov, horizon, height) = cameras
    assert own_fov and own_height and fov and height and own_horizon is not None and horizon is not None
    if max(own_fov, fov) >= 175:
        return None
    across = (columns / math.tan(math.radians(fov) / 2)) / (own.source_width / math.tan(math.radians(own_fov) / 2))
    lanes = learnt.lane_width_m / here.lane_width_m if learnt.lane_width_m and here.lane_width_m else 1.0
    down = across * lanes * height / own_height
    left = columns / 2 + across * (own.crop_left - own.source_width / 2)
    right = columns / 2 - across * (own.source_width / 2 - own.crop_right)
    top = horizon * rows + down * (own.crop_top - own_horizon * own.source_height)
    bottom = rows - (horizon * rows + down * (own.source_height - own.crop_bottom - own_horizon * own.source_height))
    found = (round(top), round(bottom), round(left), round(right))
    if min(found[0], found[1]) < -MOST * rows or min(found[2], found[3]) < -MOST * columns:
        return None
    if rows - max(found[0], 0) - max(found[1], 0) < 4 or columns - max(found[2], 0) - max(found[3], 0) < 4:
        return None
    return found


def _search(correlation: Callable[[Crops], float], best: Crops, rows: int, columns: int, rounds: int) -> Crops:
    """Try crops at the top, at the bottom and at both sides in turn."""
    tried = ((0, TOPS, rows), (1, BOTTOMS, rows), (2, SIDES, columns))

    def with_one(place: int, pixels: int) -> Crops:
        top, bottom, left, right = best
        return ((pixels, bottom, left, right), (top, pixels, left, right), (top, bottom, pixels, pixels))[place]

    for _ in range(rounds):
        before = best
        for place, shares, size in tried:
            tries = {with_one(place, round(share * size)) for share in shares} | {best}
            best = max(sorted(tries), key=correlation)
        if best == before:
            break
    return best


def _refined(correlation: Callable[[Crops], float], best: Crops, rows: int, columns: int) -> Crops:
    """Move sides by smaller and smaller steps as long as the correlation grows."""
    for share in STEPS:
        down, across = max(1, round(share * rows)), max(1, round(share * columns))
        moved = True
        while moved:
            moved = False
            for move in MOVES:
                for sign in (1, -1):
                    top, bottom, left, right = (
                        side + sign * step * size
                        for side, step, size in zip(best, move, (down, down, across, across), strict=True)
                    )
                    tried = (top, bottom, left, right)
                    if correlation(tried) > correlation(best) + BETTER:
                        best, moved = tried, True
    return best


def _named(crop: Crops) -> dict[str, int]:
    return dict(zip(("crop_top", "crop_bottom", "crop_left", "crop_right"), crop, strict=True))


def _joined(given: CarInfo | None, known: CarInfo | None) -> CarInfo:
    """Return what was given, and of the rest what is known."""
    return CarInfo(**((known.to_json() if known else {}) | (given.to_json() if given else {})))


def _correlation(answer: NDArray[np.float64], known: NDArray[np.float64]) -> float:
    spread = answer.std() * known.std()
    if spread <= 1e-12:
        return float("nan")
    return float(((answer - answer.mean()) * (known - known.mean())).mean() / spread)


def _gain(answer: NDArray[np.float64], known: NDArray[np.float64]) -> float:
    """Return the slope of the known steering on the answers."""
    covariance = ((answer - answer.mean()) * (known - known.mean())).mean()
    return float(covariance / answer.var()) if answer.var() > 1e-12 else float("nan")
