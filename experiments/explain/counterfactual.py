"""The shortest counterfactual: the smallest dose of a perturbation that turns a kept lane into a crash.

    found = smallest_dose(policy, "fog", seed=7)
    found.dose      # in the unit of the perturbation; None where even the largest is survived

Everything but the dose is the same in all drives: road, look, start, and the perturbation's draws. The dose is found by
bisection between no perturbation, which must be survived, and the dose of severity 5, so it is one crossing from kept
to crashed, not a proof that no smaller dose crashes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations.composition import Composition
from envs.perturbations.perturbation import LARGE_ROWS, Perturbation
from envs.perturbations.registry import PERTURBATIONS, make_perturbation
from experiments.explain.watch import Watched, watch_drive
from experiments.film.video import VideoWriter
from policies.policy import DrivingPolicy

ROUNDS = 7
"""Halvings of the interval of doses."""


@dataclass
class Counterfactual:
    """Two drives that differ in the dose alone.

    Attributes:
        name: of the perturbation.
        unit: of the dose.
        dose: smallest one found that crashes; None where the largest is survived.
        survived: the nearest one found that is survived; 0 for none at all, NaN where the mildest severity crashes.
        kept: the drive at `survived`.
        crashed: the drive at `dose`; at the largest dose where nothing crashes.
        tried: every dose that was driven, and whether it crashed.
    """

    name: str
    unit: str
    dose: float | None
    survived: float
    kept: Watched
    crashed: Watched
    tried: list[tuple[float, bool]]


def at_dose(name: str, dose: float) -> Perturbation:
    """Return a perturbation with a dose between those of its severities; its draws are those of severity 3.

    Raises:
        ValueError: if there is no such perturbation.
    """
    kind = make_perturbation(name.partition(":")[0]).kind
    return replace(kind, doses=(dose,) * 5, large_doses=None if kind.large_doses is None else (dose,) * 5)(3)


def smallest_dose(
    policy: DrivingPolicy,
    name: str,
    seed: int,
    seconds: float = 20.0,
    rounds: int = ROUNDS,
    world: LaneKeepingConfig | None = None,
    on_drive: Callable[[], None] | None = None,
) -> Counterfactual:
    """Find it.

    Args:
        policy: the driver.
        name: of a perturbation, without a severity.
        seed: of road, look, start and draws.
        seconds: a crash within this time counts.
        rounds: halvings.
        world: where; the default one when None.
        on_drive: called after each drive.

    Raises:
        ValueError: if there is no such perturbation, its dose means nothing between severities, or the driver crashes
            without it.
    """
    if name not in PERTURBATIONS:
        make_perturbation(name.partition(":")[0])  # says what there is, or that the severity is too much
        raise ValueError(f"--counterfactual looks for the dose itself: give the name alone, got {name!r}.")
    kind = PERTURBATIONS[name]
    large = kind.large_doses is not None and policy.config.preprocessing.source_height > LARGE_ROWS
    doses = kind.large_doses if large and kind.large_doses is not None else kind.doses
    tried: list[tuple[float, bool]] = []

    def drive(dose: float) -> Watched:
        found = watch_drive(policy, seed, seconds, Composition((at_dose(name, dose),)), world)
        tried.append((dose, found.crashed))
        if on_drive is not None:
            on_drive()
        return found

    kept = watch_drive(policy, seed, seconds, "", world)
    if kept.crashed:
        raise ValueError(f"the driver leaves the road of seed {seed} without any {name}: give a --seed that it keeps.")
    # From the mildest that is known to the strongest. A dose that falls with its severity has no zero to begin from.
    low, high = 0.0, doses[-1]
    if doses[-1] < doses[0]:
        low = doses[0]
        mildest = drive(low)
        if mildest.crashed:
            return Counterfactual(name, kind.unit, low, math.nan, kept, mildest, tried)
        kept = mildest
    worst = drive(high)
    if not worst.crashed:
        return Counterfactual(name, kind.unit, None, high, kept, worst, tried)
    crashed = worst
    for _ in range(rounds):
        middle = 0.5 * (low + high)
        found = drive(middle)
        if found.crashed:
            high, crashed = middle, found
        else:
            low, kept = middle, found
    return Counterfactual(name, kind.unit, high, low, kept, crashed, tried)


def film_pair(found: Counterfactual, path: Path, rows: int = 360) -> None:
    """Film both drives side by side, as the driver saw them, with the steering beneath; the crash stays on screen.

    Raises:
        OSError: if the film cannot be written.
    """
    both = (found.kept, found.crashed)
    worst = f"{found.survived:.3g}: kept too" if found.dose is None else f"{found.dose:.3g}: crashed"
    mild = "without" if found.dose is None or not found.survived > 0 else f"{found.name} {found.survived:.3g}"
    labels = (f"{mild}: kept", f"{found.name} {worst}")
    length = max(len(drive.frames) for drive in both)
    with VideoWriter(path, 1 / found.kept.period_s) as writer:
        for step in range(length):
            panels = [_panel(drive, step, label, rows) for drive, label in zip(both, labels, strict=True)]
            writer.append(np.concatenate(panels, axis=1))


def _panel(drive: Watched, step: int, label: str, rows: int) -> NDArray[np.uint8]:
    """One drive at one moment: `[rows + 60, W, 3]`."""
    frame = min(step, len(drive.frames) - 1)
    height, width = drive.frames.shape[1:3]
    columns = round(rows * width / height / 2) * 2
    picture = cv2.resize(drive.frames[frame], (columns, rows), interpolation=cv2.INTER_NEAREST)
    panel = np.full((rows + 60, columns, 3), 24, np.uint8)
    panel[:rows] = picture
    over = drive.crashed and step >= len(drive.frames)
    colour = (255, 99, 92) if over else (232, 238, 247)
    cv2.putText(panel, label, (12, rows + 26), cv2.FONT_HERSHEY_SIMPLEX, 0.75, colour, 2, cv2.LINE_AA)
    middle, reach = columns // 2, round(drive.steering[frame] * (columns // 2 - 12))
    cv2.line(panel, (middle, rows + 38), (middle, rows + 54), (151, 163, 182), 1)
    left, right = sorted((middle, middle - reach))
    cv2.rectangle(panel, (left, rows + 40), (right, rows + 52), (255, 183, 77), -1)
    return panel
