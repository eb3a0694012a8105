"""From the rows on recordings to the error of the steering, clean and perturbed, with an interval.

worsening(blocks)  # how many times as large the error is under perturbations
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.cells import CLEAN
from agents.metrics import Estimate
from agents.statistics import RESAMPLES

Row = Mapping[str, Any]
"""A row of a table: values of `agents.recorded_cells.BlockRow`."""


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
