"""`wormwheel demo`: the whole chain in one go, with a page at the end that shows what came out.

An expert drives and is recorded, a circuit of 19 neurons learns to steer from the frames, drives roads that it has not
seen, clean and under noise, and is filmed.

    wormwheel demo          # some minutes
    wormwheel demo --quick  # about a minute, for a first look and for CI

How much of everything `wormwheel demo` does, in full and on a small scale.

The drives of a demonstration: the same unseen roads for the expert, and for the driver under each noise.

levels = drive_levels(Path("runs/demo/policy"), world, seeds=[1_000_000, 1_000_001], variances=(0.0, 0.1), workers=2)

Where a demonstration is made, and how it gets to where it is looked for: all of it, or nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import Driver, PolicyDriver
from agents.driving.expert import Expert
from agents.driving.record import RecorderConfig, RecordingProgress, record, with_vehicle
from agents.driving.rollout import Step, rollout
from agents.imitation.train import ImitationConfig, Progress, train_imitation
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.splits import split_by_episode
from agents.runs.directory import (
    RunDirectory,
    check_directory,
    check_made,
    command,
    open_run,
    record_made,
    to_json,
    versions,
)
from agents.runs.files import PARTIAL, replacing_directory, write_json
from agents.runs.workers import run_jobs
from envs.dashboard.panels import highlight
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import GaussianNoise
from experiments.console import check_json, duration, progress, say, screen, table, write_results
from experiments.demo.report import Material, write_report
from experiments.demo.results import NoiseLevel, Results, Road
from experiments.film.drive import Take, film_drive
from experiments.machine import machine, one_thread
from experiments.record import WORLD
from policies.checkpoint import load_policy, save_policy
from policies.cores import LTC
from policies.explain.saliency import saliency
from policies.policy import DrivingPolicy, PolicyConfig


@dataclass(frozen=True)
class DemoConfig:
    """How much of everything; the whole must fit into the time that is promised."""

    frames: int = 60_000
    """Frames that the expert records."""
    episode_s: float = 6.0
    """Length of a recorded episode, seconds; each one has a road and a look of its own."""
    variety: float = 0.35
    """Variety of looks and cameras on the unseen roads, in [0, 1]."""
    recorded_variety: float = 0.6
    """Variety of looks and cameras in the recording, in [0, 1]: more, so that rare looks are not made on the road."""
    validation: float = 0.12
    """Share of the episodes that choose the best epoch."""
    training: ImitationConfig = ImitationConfig(epochs=8)
    """How the driver learns; the seed in it is that of the demonstration."""
    roads: int = 20
    """Unseen roads to drive."""
    road_s: float = 60.0
    """Time on each of them, seconds."""
    noise_variances: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    """Variances of the Gaussian noise on the driver's frames, pixels in [0, 1]; the first one must be 0."""
    film_s: float = 30.0
    """Length of the film, seconds."""
    workers: int = 2
    """Processes that record and drive."""


FULL = DemoConfig()
QUICK = DemoConfig(
    frames=5_000,
    episode_s=10.0,
    variety=0.15,
    recorded_variety=0.15,
    validation=0.08,
    training=ImitationConfig(epochs=8, batch_size=16, window=16, burn_in=4),
    roads=4,
    road_s=15.0,
    film_s=8.0,
    workers=1,
)


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

        def note(made: tuple[int, int | NoiseLevel]) -> None:
            number, what = made
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
    driver: Driver = Expert()
    if job.policy is not None:
        policy = load_policy(job.policy)
        fit = policy.config.preprocessing
        world = replace(job.world, height=fit.source_height, width=fit.source_width)
        driver = PolicyDriver(policy)
    trails: dict[int, list[tuple[float, float]]] = {seed: [] for seed in job.seeds}
    outlines: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def observe(step: Step) -> None:
        seed, inside = step.seed, step.env.unwrapped
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


MADE = ("policy", "training", "drive.mp4", "results.json", "report.html")
"""What a demonstration leaves in its directory, in the order in which it comes there; the report is last."""


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """Give an empty directory of a new name inside `out` to work in; it is removed at the end, whatever happens."""
    place = Path(tempfile.mkdtemp(prefix=f".demo{PARTIAL}", dir=out))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def publish(place: Path, out: Path) -> None:
    """Move what was made to where it is looked for, in place of an earlier demonstration."""
    record_made(out, place, MADE)
    for name in MADE:
        if (place / name).is_dir():
            with replacing_directory(out / name) as partial:
                partial.rmdir()
                os.rename(place / name, partial)
        else:
            os.replace(place / name, out / name)


_LOOKS = 8
"""Frames of the recording shown in the report."""


@dataclass(frozen=True)
class DemoOptions:
    """Record an expert, train the 19-neuron driver, drive roads it has not seen, and show what came out."""

    out: Path = Path("runs/demo")
    """Directory for report.html, drive.mp4, results.json and the policy; an earlier demonstration there is replaced."""
    quick: bool = False
    """The same on a small scale, in about a minute: for a first look and for CI. The driver is worse for it."""
    seed: int = 0
    """Seed of everything: roads, looks, weights, order of the training."""
    vehicle: str = "auto"
    """"bullet" (MIT racecar in PyBullet), "bicycle" (kinematic), or "auto": bullet where PyBullet is installed."""
    json: Path | None = None
    """Also write the results, as `--json` of the other verbs does, to this file."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")


@dataclass
class Clock:
    """How long each part took."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by name of the part."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part."""
        started_s = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started_s, 2)


def run(options: DemoOptions) -> Path:
    """Demonstrate; returns the directory with the results."""
    check_json(options.json)
    config = QUICK if options.quick else FULL
    config = replace(config, training=replace(config.training, seed=options.seed))
    out = options.out
    check_directory(out, "demo", results=())
    check_made(out, MADE)
    with open_run(out, "demo", options, resume=out.exists()) as directory, workshop(out) as place:
        results, material = demonstrate(options, config, place)
        write_report(place / "report.html", results, material)
        write_json(place / "results.json", results.to_json())
        directory.begin()
        publish(place, out)
    write_results(options.json, "demo", options, results.to_json())
    _conclude(results, out)
    return out


def demonstrate(options: DemoOptions, config: DemoConfig, place: Path) -> tuple[Results, Material]:
    """Do all the work in a directory.

    Args:
        options: what was asked for.
        config: how much of everything.
        place: an empty directory; gets `recording`, `training`, `policy` and `drive.mp4`.

    Returns:
        What was found, and what to show of it.
    """
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    clock = Clock()
    world = with_vehicle(LaneKeepingConfig(vehicle=options.vehicle, variety=config.variety, episode_s=config.road_s))
    say(f"vehicle: {world.vehicle}; everything goes to {options.out}")
    with clock.part("recording"):
        episodes = _record(config, world, options.seed, place / "recording")
    with clock.part("training"):
        policy, history = _train(config, episodes, options.seed, place)
    seeds = unseen_seeds(options.seed, config.roads, episodes)
    with clock.part("driving"):
        expert, *levels = drive_levels(place / "policy", world, seeds, config.noise_variances, config.workers)
    with clock.part("filming"), progress("filming", round(config.film_s / world.period_s)) as bar:
        film_world = replace(world, episode_s=config.film_s)
        filmed = film_drive(Take(policy, "LTC, 19 neurons"), film_world, seeds[0], place / "drive.mp4", bar.advance)
    core = policy.core
    results = Results(
        command=command(),
        started=started,
        versions=versions(),
        machine=machine(),
        options={**to_json(options), **to_json(config)},
        vehicle=world.vehicle,
        core=policy.config.core,
        neurons=core.state_size,
        synapses=core.wiring.synapse_count if isinstance(core, LTC) else 0,
        parameters=policy.parameter_count,
        recorded_frames=episodes.frame_count,
        recorded_roads=len(episodes),
        history=tuple(history),
        levels=tuple(levels),
        expert=expert,
        seconds=clock.seconds,
    )
    material = Material(
        film=place / "drive.mp4",
        poster=filmed.poster,
        looks=_looks(episodes),
        noisy=_noisy(policy, world, seeds[0], config.noise_variances),
        wiring=core.wiring if isinstance(core, LTC) else None,
    )
    return results, material


def _record(config: DemoConfig, world: LaneKeepingConfig, seed: int, place: Path) -> EpisodeSet:
    """Let the expert drive."""
    recorder = RecorderConfig(frames=config.frames, seed=seed)
    world = replace(
        world,
        variety=config.recorded_variety,
        episode_s=config.episode_s,
        start_offset=WORLD.start_offset,
        start_heading_rad=WORLD.start_heading_rad,
    )
    with progress("recording the expert", config.frames) as bar:

        def note(made: RecordingProgress) -> None:
            bar.advance(made.frames)

        record(place, world, recorder, config.workers, note)
    return load_episodes(place)


def _train(
    config: DemoConfig, episodes: EpisodeSet, seed: int, place: Path
) -> tuple[DrivingPolicy, list[dict[str, float]]]:
    """Train the driver, and put the best policy into `policy`."""
    training, validation = split_by_episode(episodes, config.validation, seed)
    run_directory = RunDirectory(place / "training", "demo", config)
    with progress("training the driver", 1, "steps") as bar:

        def note(progress: Progress, total: int, loss: float) -> None:
            last = progress.history[-1]["validation_rmse"] if progress.history else None
            words = f"epoch {progress.epoch + 1} of {config.training.epochs}"
            bar.update(progress.step, words + (f", validation error {last:.3f}" if last else ""), total)

        result = train_imitation(
            config.training, PolicyConfig(), training, validation, run_directory, on_step=note, notes={"data": "demo"}
        )
    save_policy(
        result.policy,
        place / "policy",
        {"made by": command(), "frames": episodes.frame_count, "validation_rmse": result.progress.best_rmse},
    )
    return result.policy, result.progress.history


def _looks(episodes: EpisodeSet) -> list[NDArray[np.uint8]]:
    """Pick frames from all over the recording."""
    chosen = np.unique(np.linspace(0, len(episodes) - 1, _LOOKS).astype(int))
    middles = [(episodes[int(index)], len(episodes[int(index)]) // 2) for index in chosen]
    return [episode.frames(at, at + 1)[0] for episode, at in middles]


def _noisy(
    policy: DrivingPolicy, world: LaneKeepingConfig, seed: int, variances: tuple[float, ...]
) -> list[tuple[float, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Show one frame under each noise, and where the driver looks in it."""
    fit = policy.config.preprocessing
    env = LaneKeepingEnv(replace(world, height=fit.source_height, width=fit.source_width))
    try:
        frame = env.reset(seed=seed)[0]["camera"]
    finally:
        env.close()
    shown = []
    for variance in variances:
        noisy = GaussianNoise(variance)(frame[None], np.random.default_rng(seed))
        seen = policy.config.preprocessing(torch.from_numpy(noisy))[0].numpy()
        glow = saliency(policy, torch.from_numpy(noisy))[0].numpy()
        shown.append((variance, noisy[0], highlight(seen, glow, 2 * fit.width, 2 * fit.height)))
    return shown


def _conclude(results: Results, out: Path) -> None:
    """Say what was found and which files to open."""
    named = [("expert (knows the road)", results.expert)] if results.expert else []
    named += [
        ("clean frames" if level.variance == 0 else f"noise {level.variance:g}", level) for level in results.levels
    ]
    rows = [
        [
            name,
            f"{level.crashes} of {len(level.roads)}",
            f"{level.distance_m / 1000:.2f}",
            level.figures["crashes_per_km"].text(),
            level.figures["mean_offset_lane"].text(1, 100),
        ]
        for name, level in named
    ]
    heads = ["driver", "crashes", "km", "crashes per km [95 %]", "offset, % of lane [95 %]"]
    table("on roads that it had not seen", heads, rows)
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in results.seconds.items())
    lines = [
        results.verdict(),
        f"Took {duration(sum(results.seconds.values()))}: {parts}.",
        f"Open   {out / 'report.html'}   everything on one page",
        f"Watch  {out / 'drive.mp4'}   the drive",
        f"Drive  wormwheel render --policy {out / 'policy'} --seed 7 --out seven.mp4",
    ]
    for line in lines:
        screen().print(line, markup=False, soft_wrap=True)
