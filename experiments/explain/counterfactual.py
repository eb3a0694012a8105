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

from agents.driving.metrics import Drive
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations.composition import Composition
from envs.perturbations.perturbation import LARGE_ROWS, Perturbation
from envs.perturbations.registry import make_perturbation
from experiments.explain.watch import WORLD, watch_drive
from experiments.film.drive import Take, film_two
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
        kept_at: dose of the last drive that stayed on the road; 0 for none at all.
        crashed_at: dose of the first one that left it; the largest dose where nothing crashes.
        tried: every dose that was driven, and whether it crashed.
    """

    name: str
    unit: str
    dose: float | None
    survived: float
    kept_at: float
    crashed_at: float
    tried: list[tuple[float, bool]]


def at_dose(name: str, dose: float) -> Perturbation:
    """Return a perturbation with a dose between those of its severities; its draws are those of severity 3.

    Raises:
        ValueError: if there is no such perturbation.
    """
    kind = make_perturbation(name).kind
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
    kind = make_perturbation(name).kind
    if kind.name != name:
        raise ValueError(f"--counterfactual looks for the dose itself: give the name alone, got {name!r}.")
    large = kind.large_doses is not None and policy.config.preprocessing.source_height > LARGE_ROWS
    doses = kind.large_doses if large and kind.large_doses is not None else kind.doses
    tried: list[tuple[float, bool]] = []

    def crashes(dose: float) -> bool:
        crashed = watch_drive(policy, seed, seconds, Composition((at_dose(name, dose),)), world).crashed
        tried.append((dose, crashed))
        if on_drive is not None:
            on_drive()
        return crashed

    if watch_drive(policy, seed, seconds, "", world).crashed:
        raise ValueError(f"the driver leaves the road of seed {seed} without any {name}: give a --seed that it keeps.")
    # From the mildest that is known to the strongest. A dose that falls with its severity has no zero to begin from.
    low, high = 0.0, doses[-1]
    if doses[-1] < doses[0]:
        low = doses[0]
        if crashes(low):
            return Counterfactual(name, kind.unit, low, math.nan, 0.0, low, tried)
    if not crashes(high):
        return Counterfactual(name, kind.unit, None, high, 0.0, high, tried)
    for _ in range(rounds):
        middle = 0.5 * (low + high)
        if crashes(middle):
            high = middle
        else:
            low = middle
    return Counterfactual(name, kind.unit, high, low, low, high, tried)


def film_pair(
    found: Counterfactual,
    policy: DrivingPolicy,
    name: str,
    seed: int,
    seconds: float,
    path: Path,
    world: LaneKeepingConfig | None = None,
    on_frame: Callable[[], None] | None = None,
) -> tuple[Drive, Drive]:
    """Film both drives side by side; the crash stays on screen.

    Args:
        found: by `smallest_dose`.
        policy: the driver.
        name: of the driver.
        seed: as there.
        seconds: as there.
        path: the MP4 file.
        world: as there.
        on_frame: called after each picture.

    Returns:
        The drives that were filmed, left and right: those that `smallest_dose` made, once more.

    Raises:
        OSError: if the film cannot be written.
    """
    there = replace(world or WORLD, episode_s=seconds)
    takes = []
    for dose in (found.kept_at, found.crashed_at):
        effect: str | Composition = "" if dose == 0.0 else Composition((at_dose(found.name, dose),))
        words = f"no {found.name.replace('_', ' ')}" if dose == 0.0 else f"{found.name.replace('_', ' ')} {dose:.3g}"
        takes.append(Take(policy, name, perturbation=effect, noise_seed=0, words=words))
    left, right = film_two((takes[0], takes[1]), there, seed, path, on_frame)
    assert left.drive is not None
    return left.drive, right
