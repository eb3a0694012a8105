"""The drives of a demonstration: the same unseen roads for the expert, and for the driver under each noise.

levels = drive_levels(Path("runs/demo/policy"), world, seeds=[1_000_000, 1_000_001], variances=(0.0, 0.1), workers=2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.episodes import EpisodeSet
from agents.rollout import Driver, ExpertDriver, PolicyDriver, rollout
from agents.workers import run_jobs
from envs.lane_keeping import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import GaussianNoise
from experiments.common import progress
from experiments.demo_results import NoiseLevel, Road
from experiments.threads import one_thread
from policies.checkpoint import load_policy

FIRST_ROAD = 1_000_000
"""Seeds of the unseen roads begin here, ten thousand for each seed of the demonstration."""


def unseen_seeds(seed: int, count: int, recorded: EpisodeSet) -> list[int]:
    """Return seeds of roads, none of which is in the recording."""
    known = {episode.meta.seed for episode in recorded}
    first = FIRST_ROAD + 10_000 * seed
    return [number for number in range(first, first + count + len(known)) if number not in known][:count]


@dataclass(frozen=True)
class _Level:
    """One driver under one noise level, for a worker process."""

    number: int
    policy: Path | None
    world: LaneKeepingConfig
    seeds: tuple[int, ...]
    variance: float


def drive_levels(
    policy: Path, world: LaneKeepingConfig, seeds: list[int], variances: tuple[float, ...], workers: int
) -> list[NoiseLevel]:
    """Drive the same roads, first the expert, then the driver under each variance of noise.

    Args:
        policy: directory of the driver.
        world: where it drives.
        seeds: of the roads.
        variances: of the noise.
        workers: processes.

    Returns:
        The expert's level, then one for each variance, in their order.
    """
    jobs = [_Level(0, None, world, tuple(seeds), 0.0)]
    jobs += [_Level(number, policy, world, tuple(seeds), value) for number, value in enumerate(variances, start=1)]
    levels: dict[int, NoiseLevel] = {}
    steps = round(world.episode_s / world.period_s) * len(seeds)
    done = [0] * len(jobs)
    with progress("driving", steps * len(jobs), "steps") as bar:

        def note(news: tuple[int, int | NoiseLevel]) -> None:
            number, what = news
            if isinstance(what, NoiseLevel):
                levels[number] = what
                done[number] = steps  # a crash ends a drive early
            else:
                done[number] += what
            bar.update(sum(done))

        run_jobs(_drive_levels, jobs, workers, note)
    return [levels[job.number] for job in jobs]


def _drive_levels(jobs: Iterable[_Level], report: Callable[[tuple[int, int | NoiseLevel]], None]) -> None:
    """Drive some of the levels."""
    with one_thread():
        for job in jobs:
            _drive_level(job, report)


def _drive_level(job: _Level, report: Callable[[tuple[int, int | NoiseLevel]], None]) -> None:
    """Drive all roads with one driver under one variance."""
    world = job.world
    driver: Driver = ExpertDriver()
    if job.policy is not None:
        policy = load_policy(job.policy)
        fit = policy.config.preprocessing
        world = replace(job.world, height=fit.source_height, width=fit.source_width)
        driver = PolicyDriver(policy)
    trails: dict[int, list[tuple[float, float]]] = {seed: [] for seed in job.seeds}
    outlines: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def observe(
        seed: int, env: gymnasium.Env[Any, Any], frame: NDArray[np.uint8], steering: float, info: dict[str, Any]
    ) -> None:
        inside = env.unwrapped
        assert isinstance(inside, LaneKeepingEnv)
        pose = inside.vehicle_state
        trails[seed].append((pose.x, pose.y))
        if seed not in outlines:
            outlines[seed] = (inside.track.length_m, inside.track.points.copy())

    waiting = 0

    def count(steps: int) -> None:
        nonlocal waiting
        waiting += steps
        if waiting >= 500:
            report((job.number, waiting))
            waiting = 0

    drives = rollout(
        driver,
        lambda _: LaneKeepingEnv(world),
        job.seeds,
        perturbation=GaussianNoise(job.variance) if job.variance else None,
        observer=observe,
        on_step=count,
    )
    roads = []
    for drive in drives:
        length_m, outline = outlines[drive.seed]
        # The report draws the clean drives only.
        lines = (outline, trails[drive.seed]) if job.policy is not None and not job.variance else ()
        roads.append(Road.from_drive(drive, length_m, *lines))
    report((job.number, NoiseLevel.from_drives(job.variance, drives, roads)))
