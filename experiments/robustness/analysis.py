"""From the table of drives to what it says about the drivers.

findings = find(drive_rows, block_rows, conditions, baseline="feedforward")
findings.drivers[0].error_iqm.text(3)  # the best one first

From the rows on recordings to the error of the steering, clean and perturbed, with an interval.

worsening(blocks)  # how many times as large the error is under perturbations
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.driving.metrics import Estimate
from agents.driving.statistics import (
    RESAMPLES,
    estimate,
    interquartile_mean,
    interquartile_mean_estimate,
    mean_corruption_error,
    paired_difference,
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
    contenders,
)
from experiments.robustness.jobs import CLEAN

Row = Mapping[str, Any]
"""A row of a table: values of `experiments.robustness.recorded_jobs.BlockRow`."""


def rmse(blocks: Sequence[Row]) -> float:
    """Return the root mean square error over all frames of some blocks, full locks; NaN for none."""
    frames = sum(block["frames"] for block in blocks)
    return float(np.sqrt(sum(block["squared_error"] for block in blocks) / frames)) if frames else float("nan")


def rmse_by_perturbation(blocks: Sequence[Row]) -> dict[str, float]:
    """Return the error for each perturbation, clean included."""
    groups: dict[str, list[Row]] = {}
    for block in blocks:
        groups.setdefault(block["perturbation"], []).append(block)
    return {perturbation: rmse(group) for perturbation, group in groups.items()}


def worsening(blocks: Sequence[Row], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
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
    runs = {run: number for number, run in enumerate(sorted({block["run"] for block in blocks}))}
    places = sorted({(block["episode"], block["block"]) for block in blocks})
    place = {key: number for number, key in enumerate(places)}
    # [clean or perturbed, R, B, squared error or frames]
    sums = np.zeros((2, len(runs), len(places), 2))
    for block in blocks:
        at = int(block["perturbation"] != CLEAN), runs[block["run"]], place[block["episode"], block["block"]]
        sums[at] += block["squared_error"], block["frames"]
    value = float(_ratio(sums.sum((1, 2))[None])[0])
    if not np.isfinite(value):
        return Estimate(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    drawn_runs = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), resamples)  # [N, R] how often each
    drawn_places = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), resamples)  # [N, B]
    values = _ratio(np.einsum("nr,nb,crbk->nck", drawn_runs, drawn_places, sums, optimize=True))
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite.size else (value, value)
    return Estimate(value, float(low), float(high))


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return perturbed over clean root mean square errors: `[N, 2, 2]` → `[N]`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, :, 0] / sums[:, :, 1]
        return np.asarray(np.sqrt(mean[:, 1] / mean[:, 0]))


"""A row of a table."""


def find(
    rows: Sequence[Row], blocks: Sequence[Row], conditions: Sequence[str], baseline: str, seed: int = 0
) -> Findings:
    """Work out what was found.

    Args:
        rows: values of `experiments.robustness.jobs.DriveRow`: every driver on the same roads in the same conditions.
        blocks: values of `experiments.robustness.recorded_jobs.BlockRow`; may be empty.
        conditions: what was tried besides clean, in order.
        baseline: name of the driver to compare with.
        seed: of the resampling.

    Raises:
        ValueError: if a drive is missing.
    """
    kinds = describe_all(conditions)
    names = list(dict.fromkeys(row["driver"] for row in rows))
    drives = {name: Drives([row for row in rows if row["driver"] == name], conditions) for name in names}
    base = drives[baseline]
    drivers = [
        _driver(drives[name], base, [block for block in blocks if block["driver"] == name], kinds, seed)
        for name in names
    ]
    drivers.sort(key=lambda driver: (driver.error_iqm.value, driver.error.value))
    lead = None
    if len(best := contenders(drivers)[:2]) > 1:
        first, second = (drives[driver.name].perturbed("lane_error") for driver in best)
        lead = paired_difference(second, first, seed=seed, statistic=interquartile_mean)
    order = {driver.name: number for number, driver in enumerate(drivers)}
    return Findings(
        baseline=baseline,
        conditions=kinds,
        roads=base.clean("lane_error").shape[1],
        draws=len({row["effect_seed"] for row in rows if row["perturbation"] != CLEAN}),
        drivers=tuple(drivers),
        lead=lead,
        failures=tuple(sorted(_failures(rows), key=lambda f: (f.condition.severity, f.duration_s, order[f.driver]))),
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

    def __init__(self, rows: Sequence[Row], conditions: Sequence[str]):
        """Sort rows.

        Args:
            rows: of one driver.
            conditions: what was tried besides clean, in order; rows of others may be there and do not count.
        """
        self.rows, self.conditions = rows, tuple(conditions)
        self.runs = sorted({row["run"] for row in rows})
        self.roads = sorted({row["road_seed"] for row in rows})
        self.seeds = sorted({row["effect_seed"] for row in rows if row["perturbation"] != CLEAN})
        self._at = {(row["run"], row["road_seed"], row["perturbation"], row["effect_seed"]): row for row in rows}

    def clean(self, field: str) -> NDArray[np.float64]:
        """`[R, K, 1]` of the clean drives."""
        return self._array(field, [(CLEAN, 0)])

    def perturbed(self, field: str) -> NDArray[np.float64]:
        """`[R, K, C · draws]`, draws of one condition beside each other."""
        return self._array(field, [(condition, seed) for condition in self.conditions for seed in self.seeds])

    def _array(self, field: str, cells: Sequence[tuple[str, int]]) -> NDArray[np.float64]:
        try:
            values = [
                [[self._at[(run, road, *cell)][field] for cell in cells] for road in self.roads] for run in self.runs
            ]
        except KeyError as error:
            raise ValueError(f"a drive is missing from the results: {error.args[0]}.") from None
        return np.array(values, np.float64)  # None becomes NaN


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.mean(-1))


def _driver(
    drives: Drives, base: Drives, blocks: Sequence[Row], conditions: Sequence[Condition], seed: int
) -> DriverFindings:
    first = drives.rows[0]
    errors, crashes = drives.perturbed("lane_error"), drives.perturbed("crashed")
    base_errors, base_crashes = base.perturbed("lane_error"), base.perturbed("crashed")
    number = {name: place for place, name in enumerate(dict.fromkeys(condition.name for condition in conditions))}
    group = np.repeat([number[condition.name] for condition in conditions], len(drives.seeds))
    similar, steps = drives.perturbed("saliency_ssim"), drives.perturbed("state_step")
    everywhere = np.isfinite(similar).all((0, 1))
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(steps / drives.clean("state_step"))
    clean_error = estimate(_mean, drives.clean("lane_error"), whole_runs=True, seed=seed)
    recorded = rmse_by_perturbation(blocks)
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
        name=first["driver"],
        core=first["core"],
        runs=len(drives.runs),
        training_seeds=tuple(
            next(row["training_seed"] for row in drives.rows if row["run"] == run) for run in drives.runs
        ),
        drives=crashes.size,
        crashes=int(crashes.sum()),
        clean_error=clean_error,
        clean_crashes=float(drives.clean("crashed").mean()),
        error_iqm=interquartile_mean_estimate(errors, seed=seed),
        error_iqm_runs=interquartile_mean_estimate(errors, whole_runs=True, seed=seed),
        error=estimate(_mean, errors, whole_runs=True, seed=seed),
        crash_share=estimate(_mean, crashes, whole_runs=True, seed=seed),
        autonomy=estimate(_mean, drives.perturbed("autonomy"), whole_runs=True, seed=seed),
        corruption_error=mean_corruption_error(errors, base_errors, group, seed=seed).mean,
        corruption_crashes=mean_corruption_error(crashes, base_crashes, group, seed=seed).mean,
        difference=Estimate(0.0, 0.0, 0.0) if drives is base else paired_difference(errors, base_errors, seed=seed),
        better=Estimate(0.5, 0.5, 0.5)
        if drives is base
        else probability_of_improvement(-errors, -base_errors, seed=seed),
        profile=performance_profile(errors, THRESHOLDS, whole_runs=True, seed=seed),
        saliency_ssim=estimate(_mean, similar[:, :, everywhere], whole_runs=True, seed=seed)
        if everywhere.any()
        else nothing,
        state_step=float(np.exp(_finite_mean(steps))),
        recorded_clean=recorded.get(CLEAN, float("nan")),
        recorded_perturbed=rmse([block for block in blocks if block["perturbation"] != CLEAN]),
        recorded_worsening=worsening(blocks, seed=seed) if blocks else nothing,
        by_condition=by_condition,
        curves=_curves(errors, clean_error, conditions, len(drives.seeds), seed),
    )


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


def _failures(rows: Sequence[Row]) -> list[Failure]:
    """List the perturbed drives off the road; where there are any, only those whose clean counterpart stays on it."""
    kept = {
        (row["driver"], row["run"], row["road_seed"])
        for row in rows
        if row["perturbation"] == CLEAN and not row["crashed"]
    }
    crashed = [row for row in rows if row["perturbation"] != CLEAN and row["crashed"]]
    telling = [row for row in crashed if (row["driver"], row["run"], row["road_seed"]) in kept]
    return [
        Failure(
            row["driver"],
            row["run"],
            Condition.of(row["perturbation"]),
            row["road_seed"],
            row["effect_seed"],
            row["duration_s"],
        )
        for row in telling or crashed
    ]


def _finite_mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
