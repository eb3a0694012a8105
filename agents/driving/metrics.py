"""How well a driver drove: closed-loop and open-loop figures with bootstrap intervals.

The unit of resampling is the episode: steps within one are not independent. Intervals are percentile intervals of the
bootstrap (Efron 1979) with a generator of their own, so the same episodes give the same interval; where crashes are
few, theirs are the exact ones of a Poisson count. Fewer than three episodes have no interval.

Comparing drivers over several training runs, roads and perturbations (interquartile mean, stratified bootstrap,
probability of improvement, corruption error, profiles, paired differences) is in `agents.driving.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.driving.statistics import ENOUGH_VALUES, SMALL_COUNT, Estimate, bootstrap, poisson_rate

INTERVENTION_S = 6.0
"""Time that one human take-over stands for in `autonomy` (Bojarski et al., arXiv:1604.07316, equation 1)."""


@dataclass(frozen=True)
class Drive:
    """What one episode in closed loop left behind.

    Attributes:
        seed: seed of the road, the look and the start.
        track: name of the road.
        distance_m: way made along the lane.
        duration_s: time driven.
        crashed: whether the car left the road; the episode ends there.
        lane_width_m: width of the lane.
        lateral_offset_m: float `[T]` offset from the middle of the right-hand lane, positive left.
        steering: float `[T]` in [−1, 1], positive left.
        period_s: nominal control period.
    """

    seed: int
    track: str
    distance_m: float
    duration_s: float
    crashed: bool
    lane_width_m: float
    lateral_offset_m: NDArray[np.float64]
    steering: NDArray[np.float64]
    period_s: float


CLOSED_LOOP = {
    "crashes": "crashes",
    "crashes_per_km": "crashes per km",
    "distance_to_crash_m": "distance to first crash or end, m",
    "autonomy": "autonomy, % of time without intervention",
    "mean_offset_m": "mean absolute lateral offset, m",
    "mean_offset_lane": "mean absolute lateral offset, % of lane width",
    "rms_offset_m": "RMS lateral offset, m",
    "steering_rate_per_s": "mean absolute steering rate, full locks per s",
}
"""The closed-loop figures and what they mean."""


def closed_loop(drives: Sequence[Drive], seed: int = 0) -> dict[str, Estimate]:
    """Summarise episodes in closed loop.

    Args:
        drives: at least one.
        seed: seed of the bootstrap.

    Returns:
        The figures named in `CLOSED_LOOP`. `autonomy` and `mean_offset_lane` are fractions.
    """
    crashed = np.array([float(d.crashed) for d in drives])
    distance_m = np.array([d.distance_m for d in drives])
    duration_s = np.array([d.duration_s for d in drives])
    steps = np.array([float(len(d.lateral_offset_m)) for d in drives])
    offset_m = np.array([np.abs(d.lateral_offset_m).sum() for d in drives])
    offset_lane = np.array([np.abs(d.lateral_offset_m).sum() / d.lane_width_m for d in drives])
    square_m2 = np.array([np.square(d.lateral_offset_m).sum() for d in drives])
    change = np.array([np.abs(np.diff(d.steering)).sum() for d in drives])

    def ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Callable[[NDArray[np.intp]], float]:
        def statistic(chosen: NDArray[np.intp]) -> float:
            below = bottom[chosen].sum()
            return float(top[chosen].sum() / below) if below > 0 else float("nan")

        return statistic

    statistics: dict[str, Callable[[NDArray[np.intp]], float]] = {
        "crashes": lambda chosen: float(crashed[chosen].sum()),
        "crashes_per_km": ratio(crashed, np.maximum(distance_m, 0) / 1000),
        "distance_to_crash_m": lambda chosen: float(distance_m[chosen].mean()),
        "autonomy": lambda chosen: max(0.0, 1 - INTERVENTION_S * crashed[chosen].sum() / duration_s[chosen].sum()),
        "mean_offset_m": ratio(offset_m, steps),
        "mean_offset_lane": ratio(offset_lane, steps),
        "rms_offset_m": lambda chosen: float(np.sqrt(square_m2[chosen].sum() / steps[chosen].sum())),
        "steering_rate_per_s": ratio(change, duration_s),
    }
    figures = {name: bootstrap(statistic, len(drives), seed=seed) for name, statistic in statistics.items()}
    count = int(crashed.sum())
    if count < SMALL_COUNT or len(drives) < ENOUGH_VALUES:
        # Few crashes, resampled, know nothing of the crashes that might have been: none of them stays none.
        per_s = poisson_rate(count, float(duration_s.sum()))
        figures["crashes"] = poisson_rate(count, 1.0)
        figures["crashes_per_km"] = poisson_rate(count, float(np.maximum(distance_m, 0).sum()) / 1000)
        low, high = (max(0.0, 1 - INTERVENTION_S * rate) for rate in (per_s.high, per_s.low))
        figures["autonomy"] = Estimate(figures["autonomy"].value, low, high if count else float("nan"))
    return figures


def open_loop(
    predictions: Sequence[NDArray[np.floating]],
    targets: Sequence[NDArray[np.floating]],
    training_mean: float,
    block: int = 50,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compare predicted with recorded steering.

    Args:
        predictions: float `[T]` for each episode.
        targets: float `[T]` for each episode.
        training_mean: mean steering of the training part: what "predict the mean" predicts.
        block: length of the blocks that the bootstrap resamples, frames: neighbouring frames are not independent.
        seed: seed of the bootstrap.

    Returns:
        `r2` (one minus squared error over that of the targets' own mean), `correlation` (Pearson), `rmse`, `mae` and
        `rmse_of_mean` (the RMSE of predicting `training_mean`), steering in [−1, 1].
    """
    blocks = []
    for predicted, target in zip(predictions, targets, strict=True):
        if len(predicted) != len(target):
            raise ValueError(f"an episode has {len(target)} targets and {len(predicted)} predictions.")
        for start in range(0, len(target), block):
            y = np.asarray(target[start : start + block], np.float64)
            p = np.asarray(predicted[start : start + block], np.float64)
            sums = [
                len(y),
                y.sum(),
                p.sum(),
                (y * y).sum(),
                (p * p).sum(),
                (y * p).sum(),
                np.abs(y - p).sum(),
                ((y - training_mean) ** 2).sum(),
            ]
            blocks.append(sums)
    moments = np.asarray(blocks)  # [blocks, 8]

    def summed(chosen: NDArray[np.intp]) -> tuple[float, ...]:
        count, y, p, yy, pp, yp, absolute, mean_square = moments[chosen].sum(0)
        squared = yy - 2 * yp + pp
        return count, yy - y * y / count, pp - p * p / count, yp - y * p / count, squared, absolute, mean_square

    def r2(chosen: NDArray[np.intp]) -> float:
        _, var_y, _, _, squared, _, _ = summed(chosen)
        return 1 - squared / var_y if var_y > 1e-12 else float("nan")

    def correlation(chosen: NDArray[np.intp]) -> float:
        _, var_y, var_p, covariance, _, _, _ = summed(chosen)
        return covariance / np.sqrt(var_y * var_p) if min(var_y, var_p) > 1e-12 else float("nan")

    def root(index: int) -> Callable[[NDArray[np.intp]], float]:
        return lambda chosen: float(np.sqrt(max(summed(chosen)[index], 0) / summed(chosen)[0]))

    statistics: dict[str, Callable[[NDArray[np.intp]], float]] = {
        "r2": r2,
        "correlation": correlation,
        "rmse": root(4),
        "mae": lambda chosen: summed(chosen)[5] / summed(chosen)[0],
        "rmse_of_mean": root(6),
    }
    return {name: bootstrap(statistic, len(moments), seed=seed) for name, statistic in statistics.items()}
