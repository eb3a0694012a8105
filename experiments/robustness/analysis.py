"""From the table of drives to what it says about the drivers.

    findings = find(drives, blocks, conditions, baseline="feedforward")
    findings.drivers[0].error_iqm.text(3)  # the best one first

Tables are pandas data frames with the columns of `experiments.robustness.jobs.DriveRow` (one row a drive) and of
`experiments.robustness.recorded_jobs.BlockRow` (one row a block of recorded frames).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.driving.road_shares import share_of_roads
from agents.driving.statistics import (
    ENOUGH_VALUES,
    RESAMPLES,
    Estimate,
    estimate,
    interquartile_mean,
    interquartile_mean_estimate,
    mean_corruption_error,
    paired_difference,
    percentile_interval,
    performance_profile,
    probability_of_improvement,
)
from experiments.robustness.findings import (
    THRESHOLDS,
    Condition,
    ConditionSummary,
    DriverFindings,
    Failure,
    Findings,
    RunFindings,
    contenders,
)
from experiments.robustness.jobs import CLEAN

NOTHING = Estimate(float("nan"))
"""The figure of what was not measured."""


def find(
    drives: pd.DataFrame, blocks: pd.DataFrame, conditions: Sequence[str], baseline: str, seed: int = 0
) -> Findings:
    """Work out what was found.

    Args:
        drives: every driver on the same roads in the same conditions.
        blocks: of recordings; may be empty.
        conditions: what was tried besides clean, in order.
        baseline: name of the driver to compare with.
        seed: of the resampling.

    Raises:
        ValueError: if a drive is missing.
    """
    kinds = describe_all(conditions)
    by_driver = {str(name): Drives(table, conditions) for name, table in drives.groupby("driver", sort=False)}
    recorded = dict(iter(blocks.groupby("driver"))) if len(blocks) else {}
    base = by_driver[baseline]
    drivers = [_driver(one, base, recorded.get(name), kinds, seed) for name, one in by_driver.items()]
    drivers.sort(key=lambda driver: (driver.error_iqm.value, driver.error.value))
    first = contenders(drivers)[0].name
    drivers = [
        driver
        if driver.name == first
        else replace(driver, behind=_behind(by_driver[driver.name], by_driver[first], seed))
        for driver in drivers
    ]
    order = {driver.name: number for number, driver in enumerate(drivers)}
    return Findings(
        baseline=baseline,
        conditions=kinds,
        roads=len(base.roads),
        draws=drives.loc[drives.perturbation != CLEAN, "effect_seed"].nunique(),
        drivers=tuple(drivers),
        failures=tuple(sorted(_failures(drives), key=lambda f: (f.condition.severity, f.duration_s, order[f.driver]))),
    )


def describe_all(conditions: Sequence[str]) -> tuple[Condition, ...]:
    """Describe perturbations so that none shares both name and severity with another.

    `rain:3+night:2` and `rain:2+night:3` are both rain and night at severity 3: where that is so, each keeps the name
    that it was given.
    """
    kinds = [Condition.of(perturbation) for perturbation in conditions]
    count = Counter((kind.name, kind.severity) for kind in kinds)
    return tuple(
        replace(kind, name=kind.perturbation) if count[kind.name, kind.severity] > 1 else kind for kind in kinds
    )


class Drives:
    """The drives of one driver as arrays: R training runs, K roads."""

    def __init__(self, table: pd.DataFrame, conditions: Sequence[str]):
        """Sort the drives.

        Args:
            table: of one driver.
            conditions: what was tried besides clean, in order; drives under others may be there and do not count.

        Raises:
            ValueError: if a drive is there twice.
        """
        perturbed = table.perturbation != CLEAN
        self.table, self.conditions = table, tuple(conditions)
        self.runs, self.roads = sorted(table.run.unique()), sorted(table.road_seed.unique())
        self.seeds = sorted(table.effect_seed[perturbed].unique())
        self._drives = table.set_index(["run", "road_seed", "perturbation", "effect_seed"])
        if not self._drives.index.is_unique:
            raise ValueError("a drive is twice in the results.")

    def clean(self, field: str) -> NDArray[np.float64]:
        """`[R, K, 1]` of the clean drives."""
        return self._array(field, [(CLEAN, 0)])

    def perturbed(self, field: str) -> NDArray[np.float64]:
        """`[R, K, C · draws]`, draws of one condition beside each other."""
        return self._array(field, [(condition, seed) for condition in self.conditions for seed in self.seeds])

    def _array(self, field: str, columns: Sequence[tuple[str, int]]) -> NDArray[np.float64]:
        """Return a figure of every run on every road in some conditions; a drive that is missing is a ValueError."""
        rows = [(run, road, *column) for run in self.runs for road in self.roads for column in columns]
        wanted = pd.MultiIndex.from_tuples(rows, names=self._drives.index.names)
        if len(missing := wanted.difference(self._drives.index)):
            raise ValueError(f"a drive is missing from the results: {missing[0]}.")
        values = self._drives[field].reindex(wanted).to_numpy(np.float64, na_value=np.nan)
        return values.reshape(len(self.runs), len(self.roads), len(columns))


def rmse(blocks: pd.DataFrame) -> float:
    """Return the root mean square error over all frames of some blocks, full locks; NaN for none."""
    frames = blocks.frames.sum()
    return float(np.sqrt(blocks.squared_error.sum() / frames)) if frames else float("nan")


def worsening(blocks: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the error under all perturbations in units of that on the same clean frames, with its 95 % interval.

    Training runs and blocks of frames are drawn again, for clean and perturbed alike, so that a hard stretch counts
    in both; one run, or one block, is not drawn.

    Args:
        blocks: of one driver, clean ones among them.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        NaN where there is nothing perturbed or nothing clean, or the clean error is 0.
    """
    sums = blocks.assign(perturbed=blocks.perturbation != CLEAN).pivot_table(
        index=["perturbed", "run"], columns=["episode", "block"], values=["squared_error", "frames"], aggfunc="sum"
    )
    runs, places = blocks.run.nunique(), len(blocks[["episode", "block"]].drop_duplicates())
    index = pd.MultiIndex.from_product([[False, True], sorted(blocks.run.unique())])
    # [clean or perturbed, R, B, squared error or frames]
    kinds = [sums[name].reindex(index).fillna(0.0).to_numpy(np.float64) for name in ("squared_error", "frames")]
    table = np.stack(kinds, axis=-1).reshape(2, runs, places, 2)
    value = float(_ratio(table.sum((1, 2))[None])[0])
    if not np.isfinite(value):
        return NOTHING
    rng = np.random.default_rng(seed)
    drawn_runs = rng.multinomial(runs, np.full(runs, 1 / runs), resamples)  # [N, R] how often each
    drawn_places = rng.multinomial(places, np.full(places, 1 / places), resamples)  # [N, B]
    values = _ratio(np.einsum("nr,nb,crbk->nck", drawn_runs, drawn_places, table, optimize=True))
    return Estimate(value) if max(runs, places) < ENOUGH_VALUES else percentile_interval(value, values)


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return perturbed over clean root mean square errors: `[N, 2, 2]` → `[N]`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, :, 0] / sums[:, :, 1]
        return np.asarray(np.sqrt(mean[:, 1] / mean[:, 0]))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.mean(-1))


def _driver(
    drives: Drives, base: Drives, blocks: pd.DataFrame | None, conditions: Sequence[Condition], seed: int
) -> DriverFindings:
    first = drives.table.iloc[0]
    seeds = drives.table.groupby("run").training_seed.first()
    training_seeds = tuple(None if pd.isna(seeds[run]) else int(seeds[run]) for run in drives.runs)
    errors, crashes = drives.perturbed("lane_error"), drives.perturbed("crashed")
    base_errors, base_crashes = base.perturbed("lane_error"), base.perturbed("crashed")
    number = {name: place for place, name in enumerate(dict.fromkeys(condition.name for condition in conditions))}
    group = np.repeat([number[condition.name] for condition in conditions], len(drives.seeds))
    similar, steps = drives.perturbed("saliency_ssim"), drives.perturbed("state_step")
    everywhere = np.isfinite(similar).all((0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(steps / drives.clean("state_step"))
    clean_error = estimate(_mean, drives.clean("lane_error"), whole_runs=True, seed=seed)
    recorded = {} if blocks is None else {name: rmse(some) for name, some in blocks.groupby("perturbation")}
    by_condition = {
        CLEAN: ConditionSummary(
            drives=drives.clean("crashed").size,
            crashes=int(drives.clean("crashed").sum()),
            error=clean_error,
            saliency_ssim=_finite_mean(drives.clean("saliency_ssim")),
            state_step=1.0 if np.isfinite(drives.clean("state_step")).any() else float("nan"),
            recorded_rmse=recorded.get(CLEAN, float("nan")),
        )
    }
    for place, condition in enumerate(conditions):
        here = slice(place * len(drives.seeds), (place + 1) * len(drives.seeds))
        by_condition[condition.perturbation] = ConditionSummary(
            drives=crashes[:, :, here].size,
            crashes=int(crashes[:, :, here].sum()),
            error=estimate(_mean, errors[:, :, here], whole_runs=True, seed=seed),
            saliency_ssim=_finite_mean(similar[:, :, here]),
            state_step=float(np.exp(_finite_mean(steps[:, :, here]))),
            recorded_rmse=recorded.get(condition.perturbation, float("nan")),
        )
    return DriverFindings(
        name=str(first.driver),
        core=str(first.core),
        runs=len(drives.runs),
        training_seeds=training_seeds,
        each_run=tuple(
            RunFindings.of(
                int(run),
                training_seeds[place],
                (errors[place], crashes[place]),
                (drives.clean("lane_error")[place], drives.clean("crashed")[place]),
            )
            for place, run in enumerate(drives.runs)
        ),
        drives=crashes.size,
        crashes=int(crashes.sum()),
        clean_error=clean_error,
        clean_crashes=float(drives.clean("crashed").mean()),
        behind=Estimate(0.0),
        error_iqm=interquartile_mean_estimate(errors, seed=seed),
        error_iqm_runs=interquartile_mean_estimate(errors, whole_runs=True, seed=seed),
        error=estimate(_mean, errors, whole_runs=True, seed=seed),
        crash_share=_share(crashes, seed),
        autonomy=_share(drives.perturbed("autonomy"), seed),
        corruption_error=mean_corruption_error(errors, base_errors, group, seed=seed).mean,
        corruption_crashes=mean_corruption_error(crashes, base_crashes, group, seed=seed).mean,
        difference=Estimate(0.0) if drives is base else paired_difference(errors, base_errors, seed=seed),
        better=Estimate(0.5) if drives is base else probability_of_improvement(-errors, -base_errors, seed=seed),
        profile=performance_profile(errors, THRESHOLDS, whole_runs=True, seed=seed),
        saliency_ssim=estimate(_mean, similar[:, :, everywhere], whole_runs=True, seed=seed)
        if everywhere.any()
        else NOTHING,
        state_step=float(np.exp(_finite_mean(steps))),
        recorded_clean=recorded.get(CLEAN, float("nan")),
        recorded_perturbed=float("nan") if blocks is None else rmse(blocks[blocks.perturbation != CLEAN]),
        recorded_worsening=NOTHING if blocks is None else worsening(blocks, seed=seed),
        by_condition=by_condition,
        curves=_curves(errors, clean_error, conditions, len(drives.seeds), seed),
    )


def _behind(driver: Drives, first: Drives, seed: int) -> Estimate:
    """Return the interquartile mean of a driver minus that of the first one, which is 0 behind itself."""
    if driver is first:
        return Estimate(0.0)
    errors = driver.perturbed("lane_error"), first.perturbed("lane_error")
    return paired_difference(*errors, seed=seed, statistic=interquartile_mean)


def _share(values: NDArray[np.float64], seed: int) -> Estimate:
    """Return a share with bounds behind which the roads stand, and no tighter than the spread of runs and roads.

    Args:
        values: `[R, K, C]` in [0, 1].
        seed: of the resampling.
    """
    runs, roads, conditions = values.shape
    found = share_of_roads(values.sum((0, 2)), np.full(roads, runs * conditions))
    if runs < ENOUGH_VALUES or not found.bounded:
        return found
    drawn = estimate(_mean, values, whole_runs=True, seed=seed)
    return Estimate(found.value, min(found.low, drawn.low), max(found.high, drawn.high))


def _curves(
    errors: NDArray[np.float64], clean: Estimate, conditions: Sequence[Condition], draws: int, seed: int
) -> dict[str, dict[int, Estimate]]:
    """Return the mean error of each family at each severity."""
    curves: dict[str, dict[int, Estimate]] = {}
    for family in dict.fromkeys(condition.family for condition in conditions):
        curve = curves[family] = {0: clean}
        for severity in sorted({condition.severity for condition in conditions if condition.family == family}):
            chosen = [condition.family == family and condition.severity == severity for condition in conditions]
            here = errors[:, :, np.repeat(chosen, draws)]
            curve[severity] = estimate(_mean, here, whole_runs=True, seed=seed)
    return curves


def _failures(drives: pd.DataFrame) -> list[Failure]:
    """List the perturbed drives off the road; where there are any, only those whose clean counterpart stays on it."""
    who = ["driver", "run", "road_seed"]
    clean = drives.perturbation == CLEAN
    kept = pd.MultiIndex.from_frame(drives.loc[clean & ~drives.crashed.astype(bool), who])
    crashed = drives[~clean & drives.crashed.astype(bool)]
    telling = crashed[pd.MultiIndex.from_frame(crashed[who]).isin(kept)]
    return [
        Failure(
            str(row.driver),
            int(row.run),
            Condition.of(str(row.perturbation)),
            int(row.road_seed),
            int(row.effect_seed),
            float(row.duration_s),
        )
        for row in (telling if len(telling) else crashed).itertuples()
    ]


def _finite_mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
