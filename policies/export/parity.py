"""Is the exported driver the policy? The same drive through both, frame by frame, each with a state of its own.

    found = measure_parity(policy, "car/", frames=1000)
    found["onnxruntime"].motors  # largest difference of a motor over the drive

The drive: a moving picture, irregular elapsed times between half a period and two, and a fresh start every fifty
frames on average. Errors that a state carries along are in the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from policies.export.car_driver import ENGINES, Driver
from policies.policy import DrivingPolicy

TOLERANCE = 1e-5
"""Largest difference of a motor that is parity."""


@dataclass(frozen=True)
class Parity:
    """How far an exported driver is from its policy.

    Attributes:
        frames: compared.
        motors: largest difference of a motor.
        mean: mean difference of the steering.
        state: largest difference of the state, relative to the largest state.
    """

    frames: int
    motors: float
    mean: float
    state: float


def moving_picture(height: int, width: int, frames: int, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 `[H, W, 3]` frames of a texture that drifts, turns brighter and darker, and changes at times."""
    rng = np.random.default_rng(seed)
    for number in range(frames):
        if number % 200 == 0:
            coarse = rng.uniform(0, 255, (6, 8, 3)).astype(np.float32)
            texture = np.kron(coarse, np.ones((-(-2 * height // 6), -(-2 * width // 8), 1), np.float32))
            place = np.array([height / 2, width / 2])
        place = np.clip(place + rng.normal(0, 2, 2), 0, [height, width])
        top, left = place.astype(int)
        light = 0.6 + 0.4 * np.sin(number / 37)
        view = texture[top : top + height, left : left + width] * light + rng.normal(0, 6, (height, width, 3))
        yield np.clip(view, 0, 255).astype(np.uint8)


def clockwork(frames: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return elapsed times `[T]` in frame periods and where a drive starts `[T]`."""
    rng = np.random.default_rng([seed, 1])
    elapsed = np.exp(rng.uniform(-np.log(2), np.log(2), frames)).astype(np.float32)
    starts = rng.random(frames) < 0.02
    starts[0] = True
    return elapsed, starts


def measure_parity(
    policy: DrivingPolicy, folder: str | Path, frames: int = 1000, seed: int = 0, engines: tuple[str, ...] = ()
) -> dict[str, Parity]:
    """Drive the policy and its export side by side.

    Args:
        policy: the truth.
        folder: of the export.
        frames: T.
        seed: of the drive.
        engines: which to compare; those that the folder has a file for when empty.

    Returns:
        For each engine, how far it is off.
    """
    folder = Path(folder)
    files = dict(zip(ENGINES, ("driver.onnx", "driver.npz"), strict=True))
    engines = engines or tuple(name for name, file in files.items() if (folder / file).is_file())
    drivers = {name: Driver(folder, name) for name in engines}
    fit = policy.config.preprocessing
    elapsed, starts = clockwork(frames, seed)
    policy = policy.eval()
    state: torch.Tensor | None = None
    off: dict[str, list[tuple[float, float, float]]] = {name: [] for name in engines}
    largest = 0.0
    pictures = moving_picture(fit.source_height, fit.source_width, frames, seed)
    for frame, passed, start in zip(pictures, elapsed, starts, strict=True):
        with torch.inference_mode():
            motors, state = policy(
                torch.from_numpy(frame)[None, None],
                state,
                torch.full((1, 1), float(passed)),
                torch.full((1, 1), bool(start)),
            )
        largest = max(largest, float(state.abs().max()) if state.numel() else 0.0)
        for name, driver in drivers.items():
            found = driver.step(frame, float(passed), bool(start))
            away = np.abs(found - motors[0, 0].numpy())
            stray = np.abs(driver.state - state.numpy()).max(initial=0.0)
            off[name].append((float(away.max()), float(away[0]), float(stray)))
    made = {name: np.array(values) for name, values in off.items()}
    return {
        name: Parity(frames, float(v[:, 0].max()), float(v[:, 1].mean()), float(v[:, 2].max()) / max(largest, 1.0))
        for name, v in made.items()
    }
