"""Made-up results of a robustness test: rows that look like drives, made in no time."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.robustness.analysis import find
from experiments.robustness.findings import Findings
from experiments.robustness.jobs import CLEAN, DriveRow, describe
from experiments.robustness.recorded_jobs import BlockRow
from experiments.robustness.store import make_table

CONDITIONS = ("gaussian:1", "gaussian:3", "gaussian:5", "fog:1", "fog:3", "fog:5", "latency:3", "friction:2")


def drive_row(
    driver: str,
    run: int,
    perturbation: str,
    road_seed: int,
    effect_seed: int = 0,
    weakness: float = 0.1,
    **changes: Any,
) -> dict[str, Any]:
    """One drive; the error grows with the severity and the driver's weakness."""
    family, name, severity = describe(perturbation)
    rng = np.random.default_rng([zlib.crc32(f"{driver} {perturbation}".encode()), run, road_seed, effect_seed])
    error = float(np.clip(0.05 + weakness * severity * (0.5 + rng.random()), 0, 1))
    crashed = error > 0.45
    duration_s = 20.0 * (1 - error) if crashed else 20.0
    row = {
        "driver": driver,
        "run": run,
        "core": driver.split("-")[0],
        "training_seed": run,
        "perturbation": perturbation,
        "name": name,
        "family": family,
        "severity": severity,
        "road_seed": road_seed,
        "effect_seed": effect_seed,
        "crashed": crashed,
        "distance_m": 1.5 * duration_s,
        "duration_s": duration_s,
        "planned_s": 20.0,
        "lane_width_m": 0.6,
        "mean_offset_lane": 0.1,
        "rms_offset_m": 0.07,
        "lane_error": error,
        "autonomy": 1 - 6 * crashed / duration_s if duration_s > 6 else 1.0 - crashed,
        "steering_rate_per_s": 0.4,
        "state_step": None if driver == "feedforward" else 0.1 * (1 + severity * rng.random()),
        "saliency_ssim": None if family in ("dynamics", "actuation") else float(1 - 0.15 * severity * rng.random()),
    }
    return {**row, **changes}


def drive_rows(
    drivers: dict[str, float],
    runs: int = 2,
    conditions: Sequence[str] = CONDITIONS,
    roads: int = 4,
    seeds: int = 1,
) -> list[dict[str, Any]]:
    """A whole table; `drivers` are names and weaknesses."""
    return [
        drive_row(driver, run, condition, 1000 + road, seed, weakness)
        for driver, weakness in drivers.items()
        for run in range(runs)
        for condition in (CLEAN, *conditions)
        for road in range(roads)
        for seed in (range(seeds) if condition else (0,))
    ]


def block_rows(
    drivers: dict[str, float], runs: int = 2, conditions: Sequence[str] = CONDITIONS
) -> list[dict[str, Any]]:
    """Recorded blocks of the same drivers, as far as the perturbations can be applied to recordings."""
    rows = []
    for driver, weakness in drivers.items():
        for run in range(runs):
            for condition in (CLEAN, *conditions):
                family, name, severity = describe(condition)
                if family == "dynamics":
                    continue
                for block in range(4):
                    rng = np.random.default_rng([run, block, severity, zlib.crc32(driver.encode())])
                    error = 0.1 + weakness * severity * rng.random()
                    rows.append(
                        {
                            "driver": driver,
                            "run": run,
                            "core": driver,
                            "training_seed": run,
                            "perturbation": condition,
                            "name": name,
                            "family": family,
                            "severity": severity,
                            "source": "tub",
                            "episode": 0,
                            "block": block,
                            "effect_seed": 0,
                            "frames": 50,
                            "squared_error": 50 * error**2,
                            "absolute_error": 50 * error,
                            "squared_target": 50 * 0.2,
                        }
                    )
    return rows


def find_in(
    rows: Sequence[dict[str, Any]], blocks: Sequence[dict[str, Any]], conditions: Sequence[str], baseline: str
) -> Findings:
    """What rows and blocks say."""
    return find(make_table(rows, DriveRow), make_table(blocks, BlockRow), conditions, baseline)
