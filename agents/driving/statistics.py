"""Comparing drivers over many conditions, with intervals that can be believed.

Everything takes scores `[R, K, C]`: R training runs of one driver, K roads, C conditions (perturbation, severity, seed
of the effect). All drivers that are compared must have met the same roads and conditions, in the same order.

    iqm = interquartile_mean_estimate(errors["ltc"])
    better = probability_of_improvement(-errors["ltc"], -errors["lstm"])  # errors: less is better

The interquartile mean, the probability of improvement, performance profiles and the stratified bootstrap are those of
Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice* (NeurIPS 2021); the mean
corruption error is that of Hendrycks and Dietterich (ICLR 2019) with errors of steering.

What is drawn again in the bootstrap:

- *stratified* (the practice of the first paper): the roads are strata; on each road R runs are drawn out of R, each
  with all its conditions, independently of the other roads.
- *whole runs*: runs are drawn with all their roads, and roads for all runs. One trained driver is good or bad on every
  road at once, which the stratified bootstrap does not know of; these intervals are wider and mean more.
- With one run there is nothing to draw from it, so roads are drawn in either case.

Intervals are 95 % percentile intervals (Efron 1979) with a generator of their own. They are a little narrow where there
are few runs and roads: that of the difference of two drivers of 5 runs on 4 roads misses the true one about one time in
ten, not in twenty (`tests/agents/test_statistics.py`); that of one run each knows nothing of other training runs.
Drivers that are compared share the roads of each resample: what a hard road does to both cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
"""Bootstrap resamples unless told otherwise."""
ENOUGH_VALUES = 3
"""Independent values (runs, or roads) without which there is no interval: of two, it would be the two values again."""
SMALL_COUNT = 10
"""Counts below this have exact intervals: resampling knows nothing of what did not happen."""
TRIM = 0.25
"""Share that the interquartile mean cuts off at either end."""
_VALUES_AT_ONCE = 4_000_000
"""Most values of resampled scores in memory at a time."""

Scores = NDArray[np.float64]
"""Float `[R, K, C]`: runs, roads, conditions."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: the figure.
        low: lower end; NaN where there is none, because too few values stand behind the figure, or because only the
            other end is bounded (with 95 % confidence on that side alone).
        high: upper end; NaN likewise.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def bounded(self) -> bool:
        """Whether both ends are known."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def to_json(self) -> dict[str, float | None]:
        """Return value, low and high; None stands for a value that is not finite."""
        pairs = {"value": self.value, "low": self.low, "high": self.high}
        return {key: float(v) if np.isfinite(v) else None for key, v in pairs.items()}

    def text(self, digits: int = 2, scale: float = 1.0) -> str:
        """Format as `value [low, high]`, as `value (below high)` where one end is known, or as the value alone."""
        if not np.isfinite(self.value):
            return "–"
        return f"{self.value * scale:.{digits}f} {self.interval(lambda end: f'{end * scale:.{digits}f}')}".rstrip()

    def interval(self, write: Callable[[float], str]) -> str:
        """Format the interval; "" where there is none, or where it cannot be told from the figure as it is written.

        Args:
            write: formats a number.
        """
        if self.bounded:
            low, high = write(self.low), write(self.high)
            return f"[{low}, {high}]" if low != high else ""
        if np.isfinite(self.high):
            return f"(below {write(self.high)})"
        return f"(above {write(self.low)})" if np.isfinite(self.low) else ""


@dataclass(frozen=True)
class CorruptionError:
    """Errors under perturbations in units of a baseline's.

    Attributes:
        mean: over perturbations; below 1 is better than the baseline.
        each: `[P]` for each perturbation; NaN where the baseline makes no error.
        left_out: perturbations in which the baseline makes no error; they do not count.
    """

    mean: Estimate
    each: NDArray[np.float64]
    left_out: int


@dataclass(frozen=True)
class Profile:
    """How many drives score more than so much.

    Attributes:
        thresholds: `[T]`.
        share: `[T]` of the drives with a score above each.
        low: `[T]` lower end of the pointwise 95 % interval.
        high: `[T]` upper end.
    """

    thresholds: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], count: int, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Estimate a statistic of `count` episodes with a 95 % percentile interval.

    Args:
        statistic: maps indices of the chosen episodes, int `[count]`, to a figure.
        count: number of episodes, at least 1.
        resamples: bootstrap resamples.
        seed: seed of the resampling.

    Returns:
        The statistic on all episodes, and its interval; fewer than `ENOUGH_VALUES` have none.
    """
    if count < 1:
        raise ValueError("a statistic needs at least one episode, got none.")
    value = float(statistic(np.arange(count)))
    if count < ENOUGH_VALUES:
        return Estimate(value)
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(0, count, count)) for _ in range(resamples)]
    return percentile_interval(value, np.array(drawn))


def poisson_rate(count: int, exposure: float) -> Estimate:
    """Return events per unit of exposure with the exact 95 % interval of a Poisson count (Garwood 1936).

    Args:
        count: of events.
        exposure: kilometres, seconds, …

    Returns:
        Where nothing happened, the upper bound alone, which holds with 95 % confidence: 3.0 events per exposure.
        NaN without exposure.
    """
    if not exposure > 0:
        return Estimate(float("nan"))
    if not count:
        return Estimate(0.0, high=float(-np.log(0.05)) / exposure)
    special = _special()
    low, high = special.gammaincinv(count, 0.025), special.gammaincinv(count + 1, 0.975)
    return Estimate(count / exposure, float(low) / exposure, float(high) / exposure)


def student_mean(values: ArrayLike) -> Estimate:
    """Return the mean of independent values with Student's 95 % interval (Student 1908); none of fewer than three.

    Args:
        values: `[n]`, at least one; one a training run, say.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"values must be a list of at least one number, got shape {array.shape}.")
    mean = float(array.mean())
    if len(array) < ENOUGH_VALUES:
        return Estimate(mean)
    half = float(_special().stdtrit(len(array) - 1, 0.975) * array.std(ddof=1) / np.sqrt(len(array)))
    return Estimate(mean, mean - half, mean + half)


def _special() -> Any:
    """Quantiles, from `scipy.special`: half a second to import, which a command that prints no interval need not wait.

    `scipy.stats` takes a second.
    """
    from scipy import special

    return special


def proportion(count: int, total: int) -> Estimate:
    """Return a share with its exact 95 % interval (Clopper and Pearson 1934).

    Args:
        count: how many did.
        total: of how many, taken to be independent.

    Returns:
        Where none did, or all, the other end alone, which holds with 95 % confidence. NaN for none at all.
    """
    if total < 1:
        return Estimate(float("nan"))
    if count == 0:
        return Estimate(0.0, high=1 - 0.05 ** (1 / total))
    if count == total:
        return Estimate(1.0, low=0.05 ** (1 / total))
    special = _special()
    low = special.betaincinv(count, total - count + 1, 0.025)
    high = special.betaincinv(count + 1, total - count, 0.975)
    return Estimate(count / total, float(low), float(high))


def interquartile_mean(values: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Return the mean of what is left when a quarter of the values (rounded down) is cut off at either end."""
    array = np.moveaxis(np.asarray(values, np.float64), axis, -1)
    count = array.shape[-1]
    if count < 1:
        raise ValueError("the interquartile mean needs at least one value, got none.")
    cut = int(TRIM * count)
    if cut:
        array = np.partition(array, (cut, count - cut - 1), axis=-1)
    return array[..., cut : count - cut].mean(-1)


def interquartile_mean_estimate(
    scores: ArrayLike, whole_runs: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the interquartile mean over runs, roads and conditions with its interval; see `estimate`."""
    return estimate(interquartile_mean, scores, whole_runs, resamples, seed)


def estimate(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    scores: ArrayLike,
    whole_runs: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return a statistic of all scores together with its 95 % interval.

    Args:
        statistic: maps scores `[..., N]` to `[...]`.
        scores: `[R, K, C]`.
        whole_runs: what is drawn again; see above.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        ValueError: if the scores have another shape, or some are not finite.
    """
    scores = _checked(scores)
    value = float(statistic(scores.reshape(1, -1))[0])
    if _too_few(scores):
        return Estimate(value)
    values = np.concatenate(
        [
            statistic(part.reshape(len(part), -1))
            for part in _resampled(scores, _draws(scores, whole_runs, resamples, seed))
        ]
    )
    return percentile_interval(value, values)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    whole_runs: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> Estimate:
    """Return the mean of `first − second`, road by road and condition by condition, with its interval.

    Args:
        first: scores `[R, K, C]`.
        second: scores `[R', K, C]` on the same roads and conditions.
        whole_runs: what is drawn again; see above.
        resamples: bootstrap resamples.
        seed: of the resampling.
        statistic: instead of the mean, such as `interquartile_mean`: that of `first` minus that of `second`.
    """
    one, other = _pair(first, second)
    if statistic is not None:
        whole = [float(statistic(scores.reshape(1, -1))[0]) for scores in (one, other)]
        if _too_few(one, other):
            return Estimate(whole[0] - whole[1])
        drawn = [
            np.concatenate(
                [
                    statistic(part.reshape(len(part), -1))
                    for part in _resampled(scores, _draws(scores, whole_runs, resamples, seed, driver))
                ]
            )
            for driver, scores in enumerate((one, other))
        ]
        return percentile_interval(whole[0] - whole[1], drawn[0] - drawn[1])
    if _too_few(one, other):
        return Estimate(float(one.mean() - other.mean()))
    # The mean over conditions needs no resampling of its own: [R, K].
    values = _mean_of_draws(one.mean(2), _draws(one, whole_runs, resamples, seed, 0)) - _mean_of_draws(
        other.mean(2), _draws(other, whole_runs, resamples, seed, 1)
    )
    return percentile_interval(float(one.mean() - other.mean()), values)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, whole_runs: bool = True, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return how probable it is that a run of `first` scores more than one of `second` in the same condition and road.

    Ties count half: on each road and condition it is Mann and Whitney's U divided by the number of pairs; the mean over
    roads and conditions follows.

    Args:
        first: scores `[R, K, C]`, more is better.
        second: scores `[R', K, C]` on the same roads and conditions.
        whole_runs: what is drawn again; see above.
        resamples: bootstrap resamples.
        seed: of the resampling.
    """
    one, other = _pair(first, second)
    more = (one[:, None] > other[None]) + 0.5 * (one[:, None] == other[None])  # [R, R', K, C]
    wins = more.mean(3)  # [R, R', K]
    if _too_few(one, other):
        return Estimate(float(wins.mean()))
    runs, roads = _draws(one, whole_runs, resamples, seed, 0)
    others, _ = _draws(other, whole_runs, resamples, seed, 1)
    # How often each run was drawn on a road is all that counts of a resample.
    share, share_other = _shares(runs, len(one)), _shares(others, len(other))
    values = np.einsum("brk,bsk,rsbk->b", share, share_other, wins[:, :, roads], optimize=True) / roads.shape[1]
    return percentile_interval(float(wins.mean()), values)


def mean_corruption_error(
    errors: ArrayLike,
    baseline: ArrayLike,
    perturbation: Sequence[int] | NDArray[np.integer],
    whole_runs: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CorruptionError:
    """Return errors under perturbations in units of a baseline's.

    For each perturbation it is the sum of the errors over its severities divided by the same sum of the baseline;
    then the mean over perturbations.

    Args:
        errors: `[R, K, C]`, at least 0.
        baseline: `[R', K, C]` on the same roads and conditions.
        perturbation: `[C]` the number of the perturbation, from 0, to which each condition belongs.
        whole_runs: what is drawn again; see above.
        resamples: bootstrap resamples.
        seed: of the resampling.
    """
    one, other = _pair(errors, baseline)
    group = np.asarray(perturbation)
    if group.shape != (one.shape[2],):
        raise ValueError(
            f"perturbation must have one entry for each of the {one.shape[2]} conditions, got {group.shape}."
        )
    belongs = np.zeros((one.shape[2], int(group.max()) + 1))
    belongs[np.arange(one.shape[2]), group] = 1.0
    tops, bottoms = one @ belongs, other @ belongs  # [R, K, P]: sums over severities
    with np.errstate(divide="ignore", invalid="ignore"):
        base = bottoms.mean((0, 1))
        each = np.where(base > 0, tops.mean((0, 1)) / base, np.nan)
        top = _mean_of_draws(tops, _draws(one, whole_runs, resamples, seed, 0))  # [B, P]
        bottom = _mean_of_draws(bottoms, _draws(other, whole_runs, resamples, seed, 1))
        ratios = np.where(bottom > 0, top / bottom, np.nan)
    counted = np.isfinite(each)
    value = float(each[counted].mean()) if counted.any() else float("nan")
    if _too_few(one, other):
        return CorruptionError(Estimate(value), each, int((~counted).sum()))
    rows = ratios[np.isfinite(ratios).any(1)]
    values = np.nanmean(rows, axis=1) if rows.size else np.empty(0)
    return CorruptionError(percentile_interval(value, values), each, int((~counted).sum()))


def performance_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    whole_runs: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Profile:
    """Return the share of the drives with a score above each threshold, with pointwise intervals.

    Args:
        scores: `[R, K, C]`.
        thresholds: `[T]`.
        whole_runs: what is drawn again; see above.
        resamples: bootstrap resamples.
        seed: of the resampling.
    """
    scores, levels = _checked(scores), np.asarray(thresholds, np.float64).reshape(-1)
    ordered = np.sort(scores, axis=2)
    below = np.stack(
        [[np.searchsorted(row, levels, side="right") for row in run] for run in ordered]
    )  # [R, K, T]: scores not above the threshold
    above = 1 - below / scores.shape[2]
    if _too_few(scores):
        nothing = np.full(len(levels), np.nan)
        return Profile(levels, above.mean((0, 1)), nothing, nothing)
    values = _mean_of_draws(above, _draws(scores, whole_runs, resamples, seed))
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return Profile(levels, above.mean((0, 1)), low, high)


_Draws = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Runs `[B, R, K]`, the run drawn for each place on each road, and roads `[B, K]`."""


def _draws(scores: Scores, whole_runs: bool, resamples: int, seed: int, driver: int = 0) -> _Draws:
    """Draw runs and roads; the roads depend on the seed alone, so that drivers share them."""
    count, roads = scores.shape[:2]
    if whole_runs or count == 1:
        kept = np.random.default_rng([seed, 0]).integers(0, roads, (resamples, roads))
    else:
        kept = np.broadcast_to(np.arange(roads), (resamples, roads))
    generator = np.random.default_rng([seed, 1, driver])
    shape = (resamples, count, 1) if whole_runs else (resamples, count, roads)
    runs = generator.integers(0, count, shape) if count > 1 else np.zeros(shape, np.intp)
    return np.broadcast_to(runs, (resamples, count, roads)), kept


def _resampled(scores: Scores, draws: _Draws) -> Iterator[NDArray[np.float64]]:
    """Give the resampled scores `[b, R, K, ...]`, some resamples at a time."""
    runs, roads = draws
    step = max(1, _VALUES_AT_ONCE // scores.size)
    for first in range(0, len(roads), step):
        yield scores[runs[first : first + step], roads[first : first + step, None, :]]


def _mean_of_draws(scores: NDArray[np.float64], draws: _Draws) -> NDArray[np.float64]:
    """Return the mean over runs and roads of each resample: `[R, K, ...]` → `[B, ...]`."""
    return np.concatenate([part.mean((1, 2)) for part in _resampled(scores, draws)])


def _shares(runs: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Return how large a share of the draws `[B, R, K]` each run has on each road: `[B, R, K]`."""
    return np.stack([(runs == number).mean(1) for number in range(count)], axis=1)


def _too_few(*drivers: Scores) -> bool:
    """Whether there are too few independent values behind a figure for an interval: neither runs nor roads suffice."""
    return any(max(scores.shape[:2]) < ENOUGH_VALUES for scores in drivers)


def percentile_interval(value: float, values: NDArray[np.float64]) -> Estimate:
    """Return a figure with the 95 % percentile interval of its resamples (Efron 1979).

    Args:
        value: the figure on everything that was measured.
        values: `[B]` the same figure of each resample; those that are not finite do not count.
    """
    finite = values[np.isfinite(values)]
    if not finite.size or not np.isfinite(value):
        return Estimate(value)
    low, high = np.percentile(finite, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _checked(scores: ArrayLike) -> Scores:
    array = np.asarray(scores, np.float64)
    if array.ndim != 3 or not array.size:
        raise ValueError(f"scores must have shape [runs, roads, conditions], none of them 0, got {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite: leave out conditions that were not measured, for every driver.")
    return array


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Scores, Scores]:
    one, other = _checked(first), _checked(second)
    if one.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"drivers must have met the same roads and conditions, got {one.shape[1:]} and {other.shape[1:]}."
        )
    return one, other
