"""`wormwheel bench latency`: how long from a camera's picture to the steering, on this computer?

    wormwheel bench latency --policy runs/mine --json latency.json
    wormwheel evaluate --policy runs/mine --latency latency.json:onnxruntime    # and what that does to the driving

One picture at a time, one thread: crop, resize, whitening, conv head, circuit. The engines take turns of 50 pictures:
whatever else the computer does falls on all alike, and no engine pays for the caches that another one emptied. Before a
time is printed their steering has agreed to 1e-5 on every picture.
Without --policy, fresh LTC drivers of the two usual sizes are timed. The distribution goes to the JSON file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.driving.driver import PolicyDriver
from agents.driving.latency import FORMAT
from experiments.console import check_json, progress, table, write_results
from experiments.machine import machine, one_thread
from experiments.policy_paths import find_policy
from policies.checkpoint import load_policy
from policies.export.car import write_car
from policies.export.car_driver import Driver
from policies.export.parity import TOLERANCE, moving_picture
from policies.perception import HEADS
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

ENGINES = ("torch", "onnxruntime", "numpy")
TURN = 50
"""Pictures that an engine steers by before the next one has its turn."""
Step = Callable[[NDArray[np.uint8], bool], float]
"""Takes a picture and whether a drive starts; returns the steering."""


@dataclass(frozen=True, config={"extra": "forbid"})
class LatencyBenchmark:
    """Time a policy from picture to steering at batch 1, on one thread."""

    policy: Path | None = None
    """The policy: its directory, or a run directory that holds one. Fresh LTC drivers for 96×48 and 200×78 pictures
    when left out."""
    engines: tuple[str, ...] = field(default=ENGINES)
    """What runs it: torch, onnxruntime, numpy."""
    frames: Annotated[int, Field(ge=100, le=10_000_000)] = 2000
    """Pictures that each engine is timed on."""
    warm_up: Annotated[int, Field(gt=0, le=1_000_000)] = 50
    """Pictures before the first one that counts."""
    json: Path | None = None
    """File for the figures and every measured time, for `evaluate --latency`; needs --policy."""

    def __post_init__(self) -> None:
        """Check the engines."""
        unknown = [name for name in self.engines if name not in ENGINES]
        if unknown or not self.engines:
            raise ValueError(f"engines must be among {', '.join(ENGINES)}, got {', '.join(unknown) or 'none'}.")
        if self.json is not None and self.policy is None:
            raise ValueError("--json holds the times of one policy: name it by --policy.")


def run(options: LatencyBenchmark) -> None:
    """Measure, print, write."""
    check_json(options.json)
    measured: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, policy in _policies(options).items():
        measured[name] = measure(policy, options.engines, options.frames, options.warm_up, name)
    rows = [
        [name, engine, *(f"{value:.2f}" for value in np.percentile(times, [50, 99])), f"{times.max():.2f}"]
        for name, engines in measured.items()
        for engine, times in engines.items()
    ]
    about = machine()
    title = f"{about['processor']}, one thread, {options.frames:,} pictures"
    table(title, ["policy", "engine", "median, ms", "99 % within, ms", "longest, ms"], rows, left=2)
    engines = {
        engine: {
            "median_ms": float(np.median(times)),
            "p99_ms": float(np.percentile(times, 99)),
            "samples_ms": [round(float(value), 4) for value in times],
        }
        for engine, times in next(iter(measured.values())).items()
    }
    write_results(options.json, "bench latency", options, {"format": FORMAT, "machine": about, "engines": engines})


def measure(
    policy: DrivingPolicy, engines: tuple[str, ...], frames: int, warm_up: int = 50, title: str = "policy"
) -> dict[str, NDArray[np.float64]]:
    """Time the engines on one policy, in turns.

    Args:
        policy: what to run.
        engines: of `ENGINES`.
        frames: pictures that count.
        warm_up: pictures before.
        title: for the progress line.

    Returns:
        Times `[frames]` of each engine, ms.

    Raises:
        ValueError: if an engine does not steer as the policy does.
    """
    fit = policy.config.preprocessing
    with tempfile.TemporaryDirectory() as place, one_thread(), progress(title, frames + warm_up) as bar:
        steps: dict[str, Step] = {}
        if set(engines) - {"torch"}:
            write_car(policy, place, numpy="numpy" in engines)
        for engine in engines:
            steps[engine] = _torch_step(policy) if engine == "torch" else _driver_step(Driver(place, engine))
        times_ms: dict[str, list[float]] = {engine: [] for engine in engines}
        pictures = moving_picture(fit.source_height, fit.source_width, frames + warm_up)
        done = 0
        while turn := list(islice(pictures, TURN)):
            steering = np.empty((len(engines), len(turn)))
            for row, engine in enumerate(engines):
                step = steps[engine]
                for number, picture in enumerate(turn):
                    began_s = time.perf_counter()
                    steering[row, number] = step(picture, done + number == 0)
                    times_ms[engine].append(1e3 * (time.perf_counter() - began_s))
            apart = np.flatnonzero(~(np.ptp(steering, axis=0) <= TOLERANCE))
            if len(apart):
                found = dict(zip(engines, steering[:, apart[0]].tolist(), strict=True))
                raise ValueError(
                    f"the engines do not agree at picture {done + apart[0]}: {found}. No time is reported."
                )
            done += len(turn)
            bar.advance(len(turn))
    return {engine: np.asarray(values[warm_up:]) for engine, values in times_ms.items()}


def _policies(options: LatencyBenchmark) -> dict[str, DrivingPolicy]:
    if options.policy is not None:
        path = find_policy(options.policy)
        return {path.resolve().parent.name: load_policy(path)}
    sizes = {"small": Preprocessing(48, 96), "published": Preprocessing(78, 200, height=78, width=200)}
    return {
        f"LTC, {fit.width}×{fit.height}": DrivingPolicy.create(PolicyConfig(head=HEADS[head], preprocessing=fit))
        for head, fit in sizes.items()
    }


def _torch_step(policy: DrivingPolicy) -> Step:
    driver = PolicyDriver(policy)
    elapsed = np.ones(1, np.float32)

    def step(picture: NDArray[np.uint8], start: bool) -> float:
        return float(driver.act(picture[None], elapsed, np.array([start]), [])[0, 0])

    return step


def _driver_step(driver: Driver) -> Step:
    def step(picture: NDArray[np.uint8], start: bool) -> float:
        return float(driver.step(picture, start=start)[0])

    return step
