"""`wormwheel demo`: the whole chain in one go, with a page at the end that shows what came out.

An expert drives and is recorded, a circuit of 19 neurons learns to steer from the frames, drives roads that it has not
seen, clean and under noise, and is filmed.

    wormwheel demo          # some minutes
    wormwheel demo --quick  # about a minute, for a first look and for CI
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from agents.episodes import EpisodeSet
from agents.files import make_directory, write_json
from agents.imitation import Progress, train_imitation
from agents.recorder import News, RecorderConfig, record, with_vehicle
from agents.recordings import load_episodes
from agents.run_directory import RunDirectory, command, to_json, versions
from agents.splits import split_by_episode
from envs.lane_keeping import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import GaussianNoise
from experiments.common import check_json, duration, progress, say, screen, table, write_results
from experiments.demo_config import FULL, QUICK, DemoConfig
from experiments.demo_drives import drive_levels, unseen_seeds
from experiments.demo_place import publish, workshop
from experiments.demo_results import Results
from experiments.film_drive import film_drive
from experiments.film_panels import highlight
from experiments.machine import machine
from experiments.record import WORLD
from experiments.report import Material, write_report
from policies.checkpoint import save_policy
from policies.cores import LTC
from policies.explain import saliency
from policies.policy import DrivingPolicy, PolicyConfig

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
    out = make_directory(options.out)
    with workshop(out) as place:
        results, material = demonstrate(options, config, place)
        write_report(place / "report.html", results, material)
        write_json(place / "results.json", results.to_json())
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
        filmed = film_drive(policy, film_world, seeds[0], place / "drive.mp4", on_frame=bar.advance)
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

        def note(news: News) -> None:
            bar.advance(news.frames)

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
