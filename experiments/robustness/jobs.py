"""Jobs of a robustness test: one training run of a driver under one perturbation, on all roads.

A job is driven in one process, its roads side by side. What it gives depends on nothing but the job: not on the
process, nor on what was driven before it. So jobs can be done in any order, anywhere, and again.

    rows = {}
    run_jobs(drive_jobs, jobs, workers=2, on_news=...)  # news: steps made, or a finished `JobResult`
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.metrics import INTERVENTION_S, Drive
from agents.driving.recorded_world import RecordedWorld
from agents.driving.rollout import SIDE_BY_SIDE
from agents.driving.trials import Place, Run, Trial, drive_together, expected_steps
from envs.perturbations import Composition, parse
from experiments.robustness.provenance import fingerprint_code
from experiments.robustness.stability import SETTLING_S, Footage, StateWatch, clean_footage, saliency_ssim
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy

LOST_LANES = 1.0
"""Offset, in lane widths, that counts for the time after a car has left the road."""
CLEAN = ""
"""The perturbation of clean jobs."""
COMPOSITION = "composition"
"""Family of several perturbations at once."""


@dataclass(frozen=True)
class PolicyRun:
    """One training run of a driver."""

    driver: str
    """Name of the driver; its training runs share it."""
    run: int = 0
    """Number among the driver's training runs, from 0."""
    core: str = ""
    """Name of its core."""
    training_seed: int | None = None
    """Seed that it was trained with; None where it is not recorded."""
    policy: Path | None = None
    """Policy directory; None is the geometric expert, or what `foreign` opens."""
    fingerprint: str = ""
    """Of the policy's files; see `fingerprint`."""
    foreign: DriverSpec | None = None
    """Any other driver, by what opens it."""
    trust: bool = False
    """Whether loading the policy may import the module of a core of its own."""
    loaded: Any = field(default=None, compare=False, repr=False)
    """A driver that is open already (`agents.driving.open_driver`) instead of a policy; stays in this process."""

    @property
    def is_expert(self) -> bool:
        """Whether it is the geometric expert."""
        return self.policy is None and self.foreign is None

    @property
    def key(self) -> str:
        """Short name that no other training run has."""
        return f"{self.driver}-{self.run}"

    @property
    def source(self) -> Path | DriverSpec | None:
        """What opens it in another process; None for the expert, and for what is open already."""
        if self.policy is not None and self.trust:
            return DriverSpec(str(self.policy), DriverOptions(trust=True))
        return self.policy or (self.foreign if self.loaded is None else None)

    def opened(self) -> Any:
        """Return the policy or the driver where it is open already; None where a drive has to open it."""
        return self.loaded if self.policy is None else cached_policy(self.policy, self.fingerprint, self.trust)


class Row:
    """A row of a table of results, as a finished job keeps it; dataclasses of plain values."""


@dataclass(frozen=True)
class ConditionRow(Row):
    """Who was tested under what: the first columns of every table of results."""

    driver: str
    """Name of the driver."""
    run: int
    """Number of its training run."""
    core: str
    """Name of its core."""
    training_seed: int | None
    """Seed of that training."""
    perturbation: str
    """In the registry's syntax; "" is clean."""
    name: str
    """Of the perturbation, without severity."""
    family: str
    """Of the perturbation."""
    severity: int
    """1 to 5, the largest one of a composition; 0 is clean."""


def condition_columns(policy_run: PolicyRun, perturbation: str) -> dict[str, Any]:
    """Return the values of a `ConditionRow`."""
    family, name, severity = describe(perturbation)
    return {
        "driver": policy_run.driver,
        "run": policy_run.run,
        "core": policy_run.core,
        "training_seed": policy_run.training_seed,
        "perturbation": perturbation,
        "name": name,
        "family": family,
        "severity": severity,
    }


@dataclass(frozen=True)
class DriveRow(ConditionRow):
    """One drive: a row of the results."""

    road_seed: int
    """Seed of the road, the look and the start."""
    effect_seed: int
    """Seed of the perturbation, together with that of the road; 0 for clean drives."""
    crashed: bool
    """Whether the car left the road."""
    distance_m: float | None
    """Way made along the lane; None, as below, where an env does not tell."""
    duration_s: float
    """Time driven."""
    planned_s: float
    """Time that a drive takes which does not end early."""
    lane_width_m: float | None
    """Width of the lane."""
    mean_offset_lane: float | None
    """Mean absolute offset from the middle of the lane, as a share of its width, over the control steps of the drive;
    where actions are held for various times, each counts once."""
    rms_offset_m: float | None
    """Root mean square of the offset, m."""
    lane_error: float
    """Mean absolute offset as a share of the lane width over the whole planned time; the time after leaving the road
    counts as `LOST_LANES`. Small only where a driver both stays on the road and in its lane. Where an env does not
    tell the offset, the lost time alone counts."""
    autonomy: float
    """Share of the time without intervention, six seconds for each."""
    steering_rate_per_s: float
    """Mean absolute steering rate, full locks per second."""
    state_step: float | None
    """Largest step of the hidden state; see `experiments.robustness.stability`. None for drivers without one."""
    saliency_ssim: float | None
    """Similarity of saliency with clean frames; see `experiments.robustness.stability`. None where there is none."""


@dataclass(frozen=True)
class JobResult:
    """What a finished job left behind."""

    key: str
    """Of the job."""
    rows: tuple[dict[str, Any], ...]
    """Plain values, one row each."""
    seconds: float
    """Time that it took."""
    code: str = ""
    """What it was made by; see `experiments.robustness.provenance`. "" in results that do not say."""


@dataclass(frozen=True)
class DriveJob:
    """One training run under one perturbation on all roads."""

    policy_run: PolicyRun
    """Who drives."""
    perturbation: str
    """In the registry's syntax; "" is clean."""
    world: Place
    """Where; `episode_s` is the length of a drive."""
    roads: tuple[int, ...]
    """Seeds of the roads, looks and starts."""
    effect_seeds: tuple[int, ...] = (0,)
    """Seeds of the perturbation, all on each road; a clean job is driven once."""
    inside: bool = True
    """Whether to look inside the driver too: at its saliency and the steps of its state."""
    wrap: Callable[[Any], Any] | None = None
    """Wraps the driver (`agents.driving`), to plant a fault; must pickle."""

    @property
    def key(self) -> str:
        """Short name that no other job has; fit for a file."""
        return f"{self.policy_run.key}/{self.perturbation.replace(':', '-') or 'clean'}"

    @property
    def code(self) -> str:
        """What it is made by; see `experiments.robustness.provenance`."""
        return fingerprint_code(self.perturbation, self.world)

    @property
    def weight(self) -> int:
        """Steps that it takes at most; its news of steps add up to it."""
        return sum(expected_steps(trial) for trial in self.trials())

    def trials(self) -> list[Trial]:
        """What is driven, as many roads at a time as run side by side."""
        runs = [Run(seed) for seed in self.roads]
        groups = [tuple(runs[first : first + SIDE_BY_SIDE]) for first in range(0, len(runs), SIDE_BY_SIDE)]
        perturbation = self.perturbation
        if self.policy_run.is_expert:  # it has no gradient, and does not look at the frames
            perturbation = str(Composition(tuple(part for part in parse(perturbation).parts if not part.attacks)))
        who = self.policy_run.foreign or self.policy_run.policy
        return [
            Trial(who, self.world, group, noise_seed=seed, perturbation=perturbation)
            for seed in (self.effect_seeds if self.perturbation else (0,))
            for group in groups
        ]

    @property
    def directories(self) -> tuple[Path, ...]:
        """What it reads that must travel with it to another machine."""
        return () if self.policy_run.policy is None else (self.policy_run.policy,)

    def moved(self, places: Mapping[Path, Path]) -> DriveJob:
        """Return the same job with its directories at other places."""
        policy = self.policy_run.policy
        return self if policy is None else replace(self, policy_run=replace(self.policy_run, policy=places[policy]))

    def run(self, report: Callable[[int], None]) -> list[dict[str, Any]]:
        """Drive; rows of the results, by effect seed and road."""
        rows = []
        for trial in self.trials():
            similar: NDArray[np.float64] = np.full(len(trial.runs), np.nan)
            largest = similar
            opened, watches = self.policy_run.opened(), list[StateWatch]()
            policy = opened if self.policy_run.policy is not None else None

            def watch(driver: PolicyDriver, kept: list[StateWatch] = watches) -> Any:
                kept.append(StateWatch(driver, round(SETTLING_S / self.world.period_s)))
                return kept[-1]

            if policy is not None and self.inside and _sees(policy, self.world):
                clean, who = replace(trial, perturbation="", noise_seed=0), self.policy_run
                footage = _cached_footage(clean, who.fingerprint, who.trust)
                similar = saliency_ssim(policy, footage, self.perturbation, trial.noise_seed)
            drives = drive_together(trial, report, opened, watch if self.inside else None, wrap=self.wrap)
            if watches:
                largest = watches[0].largest
            for number, drive in enumerate(drives):
                rows.append(asdict(self._row(drive, trial.noise_seed, largest[number], similar[number])))
        return rows

    def _row(self, drive: Drive, effect_seed: int, state_step: float, similar: float) -> DriveRow:
        planned_s = self.world.episode_s
        offset = float(np.abs(drive.lateral_offset_m).mean()) / drive.lane_width_m
        known = offset if np.isfinite(offset) else 0.0
        lost_s = max(planned_s - drive.duration_s, 0.0) if drive.crashed else 0.0
        change = float(np.abs(np.diff(drive.steering)).sum())
        return DriveRow(
            **condition_columns(self.policy_run, self.perturbation),
            road_seed=drive.seed,
            effect_seed=effect_seed,
            crashed=drive.crashed,
            distance_m=_finite(drive.distance_m),
            duration_s=drive.duration_s,
            planned_s=planned_s,
            lane_width_m=_finite(drive.lane_width_m),
            mean_offset_lane=_finite(offset),
            rms_offset_m=_finite(float(np.sqrt(np.square(drive.lateral_offset_m).mean()))),
            lane_error=(known * drive.duration_s + LOST_LANES * lost_s) / (drive.duration_s + lost_s),
            autonomy=max(0.0, 1 - INTERVENTION_S * drive.crashed / drive.duration_s),
            steering_rate_per_s=change / drive.duration_s,
            state_step=_finite(state_step),
            saliency_ssim=_finite(similar),
        )


def _sees(policy: DrivingPolicy, world: Place) -> bool:
    """Whether a policy takes the frames of a world as they are: those of recordings have the size that they have."""
    own = policy.config.preprocessing
    return not isinstance(world, RecordedWorld) or (world.height, world.width) == (own.source_height, own.source_width)


def drive_jobs(jobs: Iterable[Any], report: Callable[[int | JobResult], None]) -> None:
    """Do jobs of any kind one after the other, on one thread; for `agents.runs.workers.run_jobs`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for job in jobs:
            begun_s = time.perf_counter()
            rows = tuple(job.run(report))
            report(JobResult(job.key, rows, time.perf_counter() - begun_s, job.code))
    finally:
        torch.set_num_threads(threads)


def describe(perturbation: str) -> tuple[str, str, int]:
    """Return family, name and severity of a perturbation in the registry's syntax."""
    parts = parse(perturbation).parts
    if not parts:
        return "clean", "clean", 0
    family = parts[0].family if len(parts) == 1 else COMPOSITION
    return family, "+".join(part.name for part in parts), max(part.severity for part in parts)


def fingerprint(policy: Path) -> str:
    """Return a few letters that change when a policy's files do."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        digest.update((policy / name).read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=32)
def cached_policy(path: Path, fingerprint: str, trust: bool = False) -> DrivingPolicy:
    """Load a policy, once in a process as long as its files do not change; nobody may change what is returned."""
    return load_policy(path, trust=trust)


@lru_cache(maxsize=4)
def _cached_footage(trial: Trial, fingerprint: str, trust: bool) -> Sequence[Footage]:
    assert isinstance(trial.policy, Path)
    return clean_footage(cached_policy(trial.policy, fingerprint, trust), trial)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
