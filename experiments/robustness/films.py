"""Films of failures, each with the command that makes it again.

films = film_failures(choose_failures(findings, 4), policies, world, Path("runs/robustness/films"))
films[0].command  # wormwheel render --policy … --perturbation fog:2 --seed 1003 --noise-seed 0 …
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.other_world import OtherWorld
from agents.driving.recorded_world import RecordedWorld, RigOptions
from agents.driving.trials import Place, open_for
from agents.recordings.options import ReadOptions
from envs.dashboard.canvas import Picture
from envs.driving.names import DrivingNames
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.film.drive import Take, film_drive
from experiments.film.other_world import describe_other, film_other_world
from experiments.robustness.findings import Failure

SECONDS_MORE = 1.0
"""Time after the moment in which the test saw the car leave the road at which a film ends at the latest, s."""
_OWN = ("height", "width", "episode_s")
"""What `render` takes from the policy, or where it cannot by `size_arguments`, or has an option of its own for."""


@dataclass(frozen=True)
class FailureFilm:
    """A film of a failure."""

    failure: Failure
    """What failed."""
    path: Path
    """MP4."""
    poster: Picture
    """One of its pictures, uint8 `[H, W, 3]`."""
    command: str
    """What makes it again."""
    outcome: str
    """How the drive went while it was filmed."""


def film_failures(
    failures: Sequence[Failure],
    policies: Mapping[tuple[str, int], Path | DriverSpec],
    world: Place,
    directory: Path,
    on_film: Callable[[], None] | None = None,
) -> list[FailureFilm]:
    """Film failures; files that are there from before are made again.

    Args:
        failures: what to film.
        policies: directory, or what opens a driver of others, by driver and training run.
        world: where it was.
        directory: for the films.
        on_film: called after each.

    Raises:
        OSError: if a film cannot be written.
    """
    films = []
    for failure in failures:
        policy = policies[failure.driver, failure.run]
        # Where a drive along a recording begins is drawn by its length, which stays as it was.
        longest_s = world.episode_s if isinstance(world, RecordedWorld) else failure.duration_s + SECONDS_MORE
        seconds = min(world.episode_s, np.ceil(longest_s))
        name = f"{failure.driver}-{failure.run}-{failure.condition.perturbation.replace(':', '-')}"
        path = directory / f"{name}-road-{failure.road_seed}-{failure.effect_seed}.mp4"
        directory.mkdir(parents=True, exist_ok=True)
        there = replace(world, episode_s=float(seconds))
        source = policy if isinstance(policy, DriverSpec) else DriverSpec(str(policy))
        take = Take(
            open_for(source, there),
            failure.driver,
            perturbation=failure.condition.perturbation,
            noise_seed=failure.effect_seed,
        )
        if isinstance(there, LaneKeepingConfig):
            filmed = film_drive(take, there, failure.road_seed, path)
        else:
            filmed = film_other_world(take, there, failure.road_seed, path)
        assert filmed.drive is not None
        command = replay_command(policy, failure, world, float(seconds), path.name)
        films.append(FailureFilm(failure, path, filmed.poster, command, describe_other(filmed.drive)))
        if on_film is not None:
            on_film()
    return films


def replay_command(policy: Path | DriverSpec, failure: Failure, world: Place, seconds: float, out: str) -> str:
    """Return the command that films a failure, or drives it again along a recording."""
    which, path, *options = driver_arguments(policy)
    words = ["wormwheel", "render", which, path, "--perturbation", failure.condition.perturbation, *options]
    words += ["--seed", str(failure.road_seed), "--noise-seed", str(failure.effect_seed)]
    where = [*world_arguments(world), *size_arguments(policy, world)]
    if isinstance(world, RecordedWorld):  # there is no film of it at the command line: its figures
        words = ["wormwheel", "evaluate", which, path, "--perturbations", failure.condition.perturbation, *options]
        words += ["--seed", str(failure.road_seed), "--noise-seed", str(failure.effect_seed)]
        return shlex.join([*words, *where])
    words += ["--seconds", f"{seconds:g}", *where, "--out", out]
    return shlex.join(words)


def driver_arguments(policy: Path | DriverSpec) -> list[str]:
    """Return the options of the command line that open a driver."""
    if not isinstance(policy, DriverSpec):
        return ["--policy", str(policy)]
    return ["--policy", policy.source, *_arguments(policy.options, DriverOptions(), "")]


def world_arguments(world: Place) -> list[str]:
    """Return the options of the command line that differ from the default world; frame size and length left out."""
    if isinstance(world, OtherWorld):
        names = replace(DrivingNames(), **dict(world.overrides))
        return ["--env", world.name, *_arguments(names, DrivingNames(), "env-names.")]
    if isinstance(world, RecordedWorld):
        how = _arguments(world.reading, ReadOptions(), "recording.") + _arguments(world.rig, RigOptions(), "rig.")
        alone = ["--episodes", "1", "--episode-s", f"{world.episode_s:g}"]
        return ["--env", world.name, "--data", *map(str, world.data), *how, *alone]
    plain = LaneKeepingConfig()
    return _arguments(replace(world, **{name: getattr(plain, name) for name in _OWN}), plain, "")


def size_arguments(policy: Path | DriverSpec, world: Place) -> list[str]:
    """Return the options for the size of the frames, where a driver gets those of the world, whole or cropped."""
    plain = LaneKeepingConfig()
    if not isinstance(world, LaneKeepingConfig) or (world.height, world.width) == (plain.height, plain.width):
        return []
    if open_for(policy, world).frame_size not in (None, (world.height, world.width)):
        return []
    return ["--height", str(world.height), "--width", str(world.width)]


def _arguments(value: Any, usual: Any, prefix: str) -> list[str]:
    words: list[str] = []
    for item in fields(value):
        mine, theirs = getattr(value, item.name), getattr(usual, item.name)
        name = f"{prefix}{item.name.replace('_', '-')}"
        if mine == theirs:
            continue
        if is_dataclass(mine):
            words += _arguments(mine, theirs, f"{name}.")
        elif isinstance(mine, bool):
            words.append(f"--{name}" if mine else f"--{prefix}no-{name.removeprefix(prefix)}")
        elif isinstance(mine, tuple):
            words += [f"--{name}", *map(str, mine)]
        elif isinstance(mine, str) and mine.startswith("-"):
            words.append(f"--{name}={mine}")
        else:
            words += [f"--{name}", str(mine)]
    return words
