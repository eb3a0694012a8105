"""Made-up results for the tests of reports: figures that look like a demonstration's, made in no time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from agents.driving.metrics import Drive
from experiments.demo.results import NoiseLevel, Results, Road


def drive(seed: int, crashed: bool = False, wobble: float = 0.03) -> Drive:
    rng = np.random.default_rng(seed)
    steps = 300 if crashed else 1200
    lane = 0.45 + 0.3 * rng.random()
    offset = lane * wobble * np.cumsum(rng.standard_normal(steps)) / np.sqrt(np.arange(1, steps + 1))
    return Drive(seed, "random", 1.6 * 0.05 * steps, 0.05 * steps, crashed, lane, offset, np.sin(offset), 0.05)


def road(one: Drive) -> Road:
    rng = np.random.default_rng(one.seed)
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    bumps = sum(rng.normal() * np.cos(k * angle + rng.normal()) / k for k in (2, 3, 4))
    ring = np.stack([(6 + bumps) * np.cos(angle), (4 + bumps) * np.sin(angle)], axis=1)
    return Road.from_drive(one, 33.0, ring, ring[: 150 if one.crashed else 390] * 0.95)


@lru_cache
def results(roads: int = 12, variances: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)) -> Results:
    levels = []
    for number, variance in enumerate(variances):
        drives = [drive(seed, crashed=seed < 3 * number, wobble=0.03 + 0.3 * variance) for seed in range(roads)]
        levels.append(NoiseLevel.from_drives(variance, drives, [road(one) for one in drives]))
    history = tuple(
        {"epoch": n + 1.0, "train_loss": 0.05 / (n + 1) + 0.002, "validation_rmse": 0.2 / (n + 1) ** 0.7 + 0.02}
        for n in range(10)
    )
    return Results(
        command="wormwheel demo --seed 0",
        started="2026-01-02T03:04:05+00:00",
        versions={"python": "3.11.4", "torch": "2.13.0"},
        machine={"processor": "some <fast> & 'odd' one", "cores": "2", "system": "Linux"},
        options={"seed": 0, "frames": 20000},
        vehicle="bullet",
        core="ltc",
        neurons=19,
        synapses=253,
        parameters=27_411,
        recorded_frames=20_000,
        recorded_roads=50,
        history=history,
        levels=tuple(levels),
        expert=levels[0],
        seconds={"record": 31.0, "train": 160.0, "drive": 90.0, "film": 22.0},
    )
