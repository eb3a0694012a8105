"""Recording the expert: it drives, something pushes the wheel, the label stays the expert's.

Every episode is fixed by the recording's seed and its own number alone, so the data do not depend on how many processes
make them. An episode in which the car leaves the road is driven again from the same start, with weaker pushes, at
last with none, so that hard starts and roads stay in the data; only where the expert alone cannot stay on the road is
another one drawn. So every episode has its planned length. A kill loses the episodes in flight; those that are complete
are kept, and recording on makes only what is missing.

    record("runs/record", LaneKeepingConfig(vehicle="bicycle"), RecorderConfig(frames=2000), workers=2)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass as checked_dataclass

from agents.driving.car import car_of_env, rig_of_env
from agents.driving.expert import Disturbance, DisturbanceConfig, Expert, ExpertConfig
from agents.driving.rollout import Step, drive_episodes
from agents.recordings.episodes import EpisodeMeta
from agents.recordings.native import episode_directories
from agents.recordings.writer import EpisodeWriter
from agents.runs.files import PARTIAL
from agents.runs.workers import run_jobs
from envs import LANE_KEEPING
from envs.lane_keeping.env import LaneKeepingConfig
from envs.vehicle.bullet import has_bullet

PUSHES = (1.0, 0.6, 0.3, 0.0, 0.0)
"""Strength of the pushes, as shares of what was asked for, with which a start is tried in turn; the last time by an
expert that looks no farther ahead than `NEAR_S`, and so comes back sooner."""
NEAR_S = 0.3
"""How far that one looks ahead, s."""
MAX_ATTEMPTS = 20
"""Tries of one episode that may end off the road before recording gives up."""
REPORT_EVERY = 50
"""Frames between two reports of an episode in flight."""


@checked_dataclass(frozen=True, config={"extra": "forbid"})
class RecorderConfig:
    """How much to record, and how the expert is disturbed."""

    frames: Annotated[int, Field(gt=0, le=1_000_000_000)] = 40_000
    """Frames to record, over all episodes."""
    seed: NonNegativeInt = 0
    """Seed of all roads, looks, starts and disturbances."""
    expert: ExpertConfig = ExpertConfig()
    """The expert."""
    disturbance: DisturbanceConfig = DisturbanceConfig()
    """The pushes on the wheel that the expert has to recover from."""


@dataclass
class RecordingSummary:
    """What a recording came to."""

    frames: int = 0
    """Frames in complete episodes, those of an earlier run included."""
    episodes: int = 0
    """Complete episodes, those of an earlier run included."""
    redrawn: int = 0
    """Drives that ended off the road and were driven again, pushed less or on another road."""
    kept_frames: int = 0
    """Frames of these that an earlier run left."""


@dataclass(frozen=True)
class _Job:
    """One episode to record."""

    directory: Path
    world: LaneKeepingConfig
    recorder: RecorderConfig
    number: int
    length: int


@dataclass(frozen=True)
class RecordingProgress:
    """What a process reports."""

    frames: int = 0
    """Frames recorded since the last report; negative when an episode is thrown away."""
    episodes: int = 0
    """Episodes completed."""
    redrawn: int = 0
    """Episodes thrown away."""


def record(
    directory: str | os.PathLike[str],
    world: LaneKeepingConfig,
    config: RecorderConfig | None = None,
    workers: int = 1,
    on_progress: Callable[[RecordingProgress], None] | None = None,
) -> RecordingSummary:
    """Record the expert into a data set.

    Args:
        directory: of the data set; made when absent. Episodes that are there are kept and not made again.
        world: where it drives; each episode has a road and a look of its own and lasts `episode_s`.
        config: how much, how disturbed; the defaults when None.
        workers: processes; they do not change what is recorded.
        on_progress: called as frames are made.

    Returns:
        How much there is now.

    Raises:
        ValueError: if a setting is out of range, the directory holds something else, or the expert cannot stay on
            these roads.
        OSError: if the data cannot be written; complete episodes are kept.
    """
    config = config or RecorderConfig()
    world = with_vehicle(world)
    place = EpisodeWriter(directory).directory
    remove_leftovers(place)
    length = max(1, round(world.episode_s / world.period_s))
    count = -(-config.frames // length)
    there = {path.name for path in episode_directories(place)}
    result = RecordingSummary()
    jobs = []
    for number in range(count):
        steps = min(length, config.frames - number * length)
        if f"episode_{number:06d}" in there:
            result.episodes += 1
            result.frames += steps
            result.kept_frames += steps
        else:
            jobs.append(_Job(place, world, config, number, steps))

    def note(progress: RecordingProgress) -> None:
        result.frames += progress.frames
        result.episodes += progress.episodes
        result.redrawn += progress.redrawn
        if on_progress is not None:
            on_progress(progress)

    if result.kept_frames and on_progress is not None:
        on_progress(RecordingProgress(frames=result.kept_frames))
    run_jobs(_record_episodes, jobs, workers, note)
    return result


def with_vehicle(world: LaneKeepingConfig) -> LaneKeepingConfig:
    """Return the world with the vehicle that "auto" stands for here, so that records name it."""
    if world.vehicle != "auto":
        return world
    return replace(world, vehicle="bullet" if has_bullet() else "bicycle")


def attempt_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Return the seed of an episode's world: 31 bits that depend on all three and on nothing else."""
    return int(np.random.SeedSequence([seed, number, attempt]).generate_state(1, np.uint32)[0] >> 1)


def remove_leftovers(directory: Path) -> None:
    """Remove what killed processes left of their episodes; those of processes that still run are let be."""
    for entry in directory.glob(f".episode{PARTIAL}*"):
        owner = entry.name.removeprefix(f".episode{PARTIAL}").split("-")[0]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(entry, ignore_errors=True)


def _runs(process: int) -> bool:
    """Say whether a process of this number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _record_episodes(jobs: Iterable[_Job], report: Callable[[RecordingProgress], None]) -> None:
    """Record some of the episodes, each tried again as often as it ends off the road."""
    env: gymnasium.Env[Any, Any] | None = None
    try:
        for job in jobs:
            if env is None:
                # Time runs out by the number of frames; the env's own limit must not come first, jitter included.
                world = replace(job.world, episode_s=4 * max(job.world.episode_s, job.world.period_s))
                env = gymnasium.make(LANE_KEEPING, config=world, disable_env_checker=True)
            if not any(_record_attempt(job, env, attempt, report) for attempt in range(MAX_ATTEMPTS)):
                raise ValueError(
                    f"the expert left the road in all of {MAX_ATTEMPTS} tries of episode {job.number}: let it drive "
                    "slower or on wider bends, or disturb it less (see --speed-mps, --track-min-radius-m, "
                    "--disturbance.strength)."
                )
    finally:
        if env is not None:
            env.close()


class _DisturbedExpert:
    """The expert with a hand that pushes its wheel; one car.

    Attributes:
        label: what the expert steered last, before the push.
        pose: x and y, m, and yaw, rad, of the car then.
    """

    def __init__(self, expert: Expert, disturbance: Disturbance, share: float = 1.0):
        self.expert, self.disturbance, self.share = expert, disturbance, share
        self.label = 0.0
        self.pose = (0.0, 0.0, 0.0)

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer, and push; see `agents.driving.driver.Driver`."""
        (env,) = envs
        state = env.unwrapped.vehicle_state  # type: ignore[attr-defined]
        self.label, self.pose = self.expert.steer(env), (state.x, state.y, state.yaw)
        pushed = min(max(self.label + self.share * self.disturbance.step(), -1.0), 1.0)
        return np.array([[pushed]], np.float32)


def _record_attempt(
    job: _Job, env: gymnasium.Env[Any, Any], attempt: int, report: Callable[[RecordingProgress], None]
) -> bool:
    """Record one try of an episode; False when the car left the road and nothing was kept."""
    share, drawn = (PUSHES[attempt], 0) if attempt < len(PUSHES) else (1.0, attempt)
    seed = attempt_seed(job.recorder.seed, job.number, drawn)
    generator = np.random.default_rng([job.recorder.seed, job.number, drawn])  # the same pushes at the same moments
    disturbance = Disturbance(job.recorder.disturbance, job.world.period_s, generator)
    config = job.recorder.expert
    if attempt == len(PUSHES) - 1:
        config = replace(config, lookahead_s=min(config.lookahead_s, NEAR_S))
    driver = _DisturbedExpert(Expert(config), disturbance, share)
    meta = EpisodeMeta(
        source="expert",
        nominal_period_s=job.world.period_s,
        vehicle=job.world.vehicle,
        renderer=job.world.renderer,
        seed=seed,
    )
    unreported = 0
    with EpisodeWriter(job.directory).episode(meta, job.number) as recording:

        def keep(step: Step) -> None:
            nonlocal unreported
            seen = step.seen_info
            if not len(recording):
                lane_width_m = float(seen["lane_width_m"])
                car = car_of_env(step.env, lane_width_m).to_json() | {"lookahead_s": job.recorder.expert.lookahead_s}
                known = {"lane_width_m": lane_width_m, "car": car, **rig_of_env(step.env)}
                recording.meta = replace(meta, extra=known)
            x_m, y_m, yaw_rad = driver.pose
            recording.append(
                step.frame,
                driver.label,
                float(seen["time_s"]),
                steered=np.float32(step.steering),
                lateral_offset_m=np.float32(seen["lateral_offset_m"]),
                heading_error_rad=np.float32(seen["heading_error_rad"]),
                speed_mps=np.float32(seen["speed_mps"]),
                x_m=x_m,
                y_m=y_m,
                yaw_rad=yaw_rad,
            )
            unreported += 1
            if unreported == REPORT_EVERY:
                report(RecordingProgress(frames=unreported))
                unreported = 0

        drive_episodes(driver, [TimeLimit(env, job.length)], [seed], observer=keep)
        made = len(recording)
        if made < job.length:
            recording.abort()
            report(RecordingProgress(frames=unreported - made, redrawn=1))
            return False
    report(RecordingProgress(frames=unreported, episodes=1))
    return True
