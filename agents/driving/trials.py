"""Many drives in several processes: drivers × noise levels × roads, paired.

Every driver meets the same roads, looks, starts and noise, so their figures can be compared one by one. Trials are cut
into groups of at most `SIDE_BY_SIDE` drives that run side by side in one process; the groups do not depend on the
number of processes, so neither do the figures.

    trial = Trial(Path("runs/mine/policy"), LaneKeepingConfig(), tuple(Run(seed) for seed in range(1000, 1020)))
    (drives,) = drive_trials([trial], workers=2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from agents.driving.driver import Driver, OpenedDriver, PolicyDriver, RescaledTime
from agents.driving.driver_options import DriverSpec
from agents.driving.expert import Expert
from agents.driving.latency import Latency, ReplayedLatency
from agents.driving.metrics import Drive
from agents.driving.open_driver import open_driver, policy_driver
from agents.driving.other_world import OtherWorld
from agents.driving.recorded_world import RecordedWorld
from agents.driving.rollout import SIDE_BY_SIDE, Observer, rollout
from agents.runs.workers import run_jobs
from envs import LANE_KEEPING
from envs.lane_keeping.env import LaneKeepingConfig
from envs.lane_keeping.laps import StopAfterLaps
from envs.perturbations import GaussianNoise, PerturbedEnv
from envs.road.files import load_track
from policies.policy import DrivingPolicy

NEWS_EVERY = 200
"""Steps between two reports of a group that drives."""
SLOWEST = 4.0
"""A lap may take so many times the time that its length and the slowest speed ask for, before time is up."""


Place = LaneKeepingConfig | OtherWorld | RecordedWorld
"""Where a driver drives."""


@dataclass(frozen=True)
class Run:
    """One drive."""

    seed: int
    """Seed of the road, the look and the start."""
    track: str | None = None
    """A centre-line CSV file; the roads of the trial's world when None."""
    laps: float = 0.0
    """Laps to drive; 0 drives for the world's `episode_s`."""


@dataclass(frozen=True)
class Trial:
    """One driver under one perturbation on some roads."""

    policy: Path | DriverSpec | None
    """Policy directory, or any driver by what opens it; None is the expert."""
    world: Place
    """Where it drives; the frame's size is set to the driver's unless crops are given, and the road to that of a run
    that names one."""
    runs: tuple[Run, ...]
    """The drives."""
    noise_variance: float = 0.0
    """Variance of the Gaussian noise on the frames, pixels in [0, 1]."""
    noise_seed: int = 0
    """Seed of the noise and of the perturbation, together with that of the run."""
    perturbation: str = ""
    """What is wrong with the world, in the syntax of `envs.perturbations.parse`, such as "fog:3+latency:2"."""
    latency: Latency | None = None
    """Measured time that every answer of the driver takes; none when None."""


@dataclass(frozen=True)
class _Group:
    """Drives that run side by side."""

    trial: int
    first: int
    part: Trial


def drive_trials(
    trials: Sequence[Trial], workers: int = 1, on_steps: Callable[[int], None] | None = None
) -> list[list[Drive]]:
    """Drive everything.

    Args:
        trials: what to drive.
        workers: processes.
        on_steps: called with control steps made, or spared by an early end, since the last call; they add up to
            `expected_steps`.

    Returns:
        For each trial its drives, in the order of its runs.

    Raises:
        ValueError: if a policy cannot be read, or a road cannot be driven.
        FileNotFoundError: if a road file is not there.
    """
    groups = [
        _Group(number, first, replace(trial, runs=trial.runs[first : first + SIDE_BY_SIDE]))
        for number, trial in enumerate(trials)
        for first in range(0, len(trial.runs), SIDE_BY_SIDE)
    ]
    found: dict[tuple[int, int], list[Drive]] = {}

    def note(news: int | tuple[int, int, list[Drive]]) -> None:
        if isinstance(news, int):
            if on_steps is not None:
                on_steps(news)
        else:
            found[news[:2]] = news[2]

    run_jobs(_drive_groups, groups, workers, note)
    return [
        [drive for first in range(0, len(trial.runs), SIDE_BY_SIDE) for drive in found[number, first]]
        for number, trial in enumerate(trials)
    ]


def expected_steps(trial: Trial) -> int:
    """Return the control steps that a trial takes when nothing ends early."""
    return sum(round(_expected_s(run, trial.world) / trial.world.period_s) for run in trial.runs)


def _expected_s(run: Run, world: Place) -> float:
    """Return the time that a drive takes."""
    if not run.laps or run.track is None or not isinstance(world, LaneKeepingConfig):
        return world.episode_s
    return run.laps * _lap_m(run.track, world) / (0.5 * sum(world.speed_mps))


def _lap_m(track: str, world: LaneKeepingConfig) -> float:
    return load_track(
        track, world.track_scale, world.track_lane_width_m, world.track_min_radius_m, world.track_reverse
    ).length_m


def open_for(
    source: Path | DriverSpec,
    world: Place,
    loaded: DrivingPolicy | OpenedDriver | None = None,
) -> OpenedDriver:
    """Open a driver for a world; what is loaded already is taken as it is."""
    spec = source if isinstance(source, DriverSpec) else DriverSpec(str(source))
    options = spec.options.resolved()
    # Crops are counted in the world's own frames; without them the world makes frames of the driver's size. Recorded
    # frames have the size that they have.
    recorded = isinstance(world, RecordedWorld)
    camera = None if options.crops is None and not recorded else (world.height, world.width)
    if isinstance(loaded, DrivingPolicy):
        return policy_driver(loaded, options, camera, spec.source)
    return loaded or open_driver(spec, camera=camera)


def _drive_groups(groups: Iterable[_Group], report: Callable[[Any], None]) -> None:
    """Drive some of the groups, on one thread: the batches are small and there are other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for group in groups:
            report((group.trial, group.first, drive_together(group.part, report)))
    finally:
        torch.set_num_threads(threads)


def drive_together(
    trial: Trial,
    report: Callable[[int], None],
    policy: DrivingPolicy | OpenedDriver | None = None,
    watch: Callable[[PolicyDriver], Driver] | None = None,
    observer: Observer | None = None,
    wrap: Callable[[Driver], Driver] | None = None,
) -> list[Drive]:
    """Drive all runs of a trial side by side in this process, each in a slot of its own: the n-th run in slot n.

    Args:
        trial: what to drive.
        report: called with control steps made, or spared by an early end, since the last call.
        policy: the trial's policy or driver where it is loaded already.
        watch: wraps a policy's driver, to look at it while it drives; it must steer as it does.
        observer: looks at every step; see `agents.driving.rollout`.
        wrap: puts a driver around any driver, which may change what it does.

    Returns:
        The drives, in the order of the runs.
    """
    world, size = trial.world, (trial.world.height, trial.world.width)
    driver: Driver = Expert()
    if trial.policy is not None:
        opened = open_for(trial.policy, world, policy)
        size = opened.frame_size or size
        driver = watch(opened) if watch is not None and isinstance(opened, PolicyDriver) else opened
        if opened.period_s is not None and not math.isclose(opened.period_s, world.period_s, rel_tol=1e-3):
            driver = RescaledTime(driver, world.period_s / opened.period_s)
    if wrap is not None:
        driver = wrap(driver)

    def make_env(slot: int) -> gymnasium.Env[Any, Any]:
        run = trial.runs[slot]
        env = _lane_keeping(world, size, run) if isinstance(world, LaneKeepingConfig) else world.make(*size)
        if trial.latency is not None:
            env = ReplayedLatency(env, trial.latency)
        if trial.perturbation:
            env = PerturbedEnv(env, trial.perturbation, trial.noise_seed)
        return StopAfterLaps(env, trial.runs[slot].laps) if trial.runs[slot].laps else env

    total, made, unreported = expected_steps(trial), 0, 0

    def count(steps: int) -> None:
        nonlocal made, unreported
        unreported += steps
        if unreported >= NEWS_EVERY:
            unreported = min(unreported, total - made)
            made += unreported
            report(unreported)
            unreported = 0

    drives = rollout(
        driver,
        make_env,
        [run.seed for run in trial.runs],
        side_by_side=len(trial.runs),
        perturbation=GaussianNoise(trial.noise_variance) if trial.noise_variance else None,
        noise_seed=trial.noise_seed,
        observer=observer,
        on_step=count,
    )
    report(total - made)
    named = zip(drives, trial.runs, strict=True)
    return [drive if run.track is None else replace(drive, track=Path(run.track).stem) for drive, run in named]


def _lane_keeping(world: LaneKeepingConfig, size: tuple[int, int], run: Run) -> gymnasium.Env[Any, Any]:
    """Make the env of a run, its frames of a size."""
    here = replace(world, height=size[0], width=size[1])
    if run.track is not None:
        here = replace(here, track=run.track)
    if run.laps:
        slowest_s = run.laps * _lap_m(run.track, world) / world.speed_mps[0] if run.track else world.episode_s
        here = replace(here, episode_s=SLOWEST * slowest_s)
    return gymnasium.make(LANE_KEEPING, config=here, disable_env_checker=True)
