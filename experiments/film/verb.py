"""`wormwheel render`: a film of a driver at work, in simulation or on recorded frames.

wormwheel render --policy runs/demo/policy --out drive.mp4
wormwheel render --policy runs/tub/policy --data tub --last 0.2 --out tub.mp4
wormwheel render --policy runs/ltc --side-by-side --perturbation fog:3 --out fog.mp4   # clean beside fog
wormwheel render --policy runs/ltc runs/lstm --side-by-side --out two.mp4

wormwheel render --policy runs/ltc --env racetrack-v1 --fit fit.json --perturbation fog:3 --out race.mp4

A PPO driver is filmed in the world that it was trained in, unless --env names another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from agents.driving.driver import OpenedDriver, PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.open_driver import open_driver
from agents.driving.other_world import OtherWorld
from agents.recordings import load_episodes
from agents.recordings.splits import split_by_time_block
from agents.runs.ours import check_ours
from envs.driving.names import DrivingNames
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import GaussianNoise, parse
from experiments.console import progress, screen, with_tracks
from experiments.evaluate.recordings import RecordingOptions
from experiments.film.drive import Take, describe_drive, film_drive, film_two
from experiments.film.other_world import describe_other, film_other_world
from experiments.film.recording import film_recording
from experiments.film.reel import Filmed
from experiments.film.video import VideoWriter, check_preview, write_preview
from experiments.machine import one_thread
from experiments.policy_paths import (
    LANE_KEEPING,
    common_world,
    find_policy,
    find_world,
    has_gradient,
    have_learnt_in,
    name_drivers,
    open_drivers,
    refuse_lane_keeping,
)


@dataclass(frozen=True)
class RenderOptions:
    """Film a driver at work: what it sees, where it looks, what its neurons do, where the car goes."""

    policy: tuple[str, ...]
    """Driver, such as runs/demo/policy, driver.onnx or net.py:make; two of them with --side-by-side. Our own policies
    are looked into, others are not."""
    out: Path = Path("drive.mp4")
    """The film to write, H.264 in MP4."""
    preview: Path | None = None
    """Also write a small looping animation, .webp or .gif, of the first seconds."""
    env: str | None = None
    """World to drive in, as in `wormwheel evaluate`; by default the one that the policy learnt in."""
    env_names: DrivingNames = DrivingNames()
    """Where picture, steering, speed and road are in that env."""
    seed: int = 100
    """Seed of the road, the look and the start."""
    seconds: float = 30.0
    """Length of the drive, seconds; a crash ends it. With --data, the longest stretch that is shown."""
    noise_variance: float = 0.0
    """Variance of Gaussian noise on the driver's frames, pixels in [0, 1]."""
    perturbation: str = ""
    """What else goes wrong: names of `wormwheel gallery` with a severity, joined by +, such as rain:2+latency:1."""
    side_by_side: bool = False
    """Film two drives of the same road beside one another: two policies, or one policy, clean and as --perturbation
    and --noise-variance say."""
    noise_seed: int | None = None
    """Seed of the noise and of the perturbation; --seed when not given."""
    driver: Annotated[DriverOptions, arg(name="")] = DriverOptions()
    """What the driver cannot say of itself."""
    recordings: Annotated[RecordingOptions, arg(name="")] = RecordingOptions()
    """Recorded driving to show the driver, instead of a simulated road; the human's steering is drawn beside its
    own."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=LaneKeepingConfig)
    """Where it drives; the size of the frames is the policy's."""

    def __post_init__(self) -> None:
        """Check ranges, and what goes together."""
        if len(self.policy) != 1 and not (self.side_by_side and len(self.policy) == 2):
            raise ValueError(
                f"policy must be one directory, or two with --side-by-side, got {len(self.policy)}"
                f"{' with' if self.side_by_side else ' without'} it."
            )
        if self.world.episode_s != LaneKeepingConfig().episode_s:
            raise ValueError("--seconds is the length of a film: leave --episode-s out.")
        if self.side_by_side and self.recordings.data:
            raise ValueError("--side-by-side films drives on simulated roads; leave --data out.")
        if self.side_by_side and len(self.policy) == 1 and not (self.perturbation or self.noise_variance):
            raise ValueError(
                "--side-by-side needs a second policy, or --perturbation or --noise-variance for the same policy."
            )
        if self.env not in (None, LANE_KEEPING) and (self.side_by_side or self.recordings.data):
            raise ValueError(
                "--side-by-side is for LaneKeeping and --data for recordings: leave them out, or leave out --env."
            )
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be a positive number, got {self.seconds}.")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")
        if self.noise_seed is not None and self.noise_seed < 0:
            raise ValueError(f"noise_seed must be at least 0, got {self.noise_seed}.")
        GaussianNoise(variance=self.noise_variance)
        parse(self.perturbation)
        VideoWriter(self.out)
        if self.preview is not None:
            check_preview(self.preview)


def run(options: RenderOptions) -> Path:
    """Film; returns the film's path."""
    check_ours(options.out, options.preview)
    named = name_drivers(options.policy, options.driver)
    name, spec = next(iter(named.items()))
    ours = [Path(one.source) for one in named.values() if Path(one.source).is_dir()]
    learnt = LANE_KEEPING if options.recordings.data else options.env or common_world(ours, options.driver.trust)
    if learnt != LANE_KEEPING and not (ours and have_learnt_in([find_policy(path) for path in ours], learnt)):
        return _film_elsewhere(named, learnt, options)
    if learnt != LANE_KEEPING:
        from experiments.film.gym_env import film_world  # Has Stable-Baselines3 in tow.

        if options.noise_variance or options.perturbation or options.preview is not None:
            raise ValueError(
                f"--noise-variance, --perturbation and --preview are for LaneKeeping and recordings, not for {learnt}."
            )
        refuse_lane_keeping(learnt, options.world)
        with one_thread():
            place, trust = Path(spec.source), options.driver.trust
            found = film_world(place, learnt, options.seed, options.out, options.seconds, trust)
        screen().print(f"{options.out}: {found}", markup=False, soft_wrap=True)
        return options.out
    if options.recordings.data:
        filmed = _film_data(spec, name, options)
        found = f"{filmed.frames} frames of {options.recordings.data[0]}"
    else:
        opened = open_drivers(named, options.world)
        if parse(options.perturbation).attacks and not all(has_gradient(one) for one in opened.values()):
            raise ValueError(f"--perturbation {options.perturbation} asks a gradient that a driver does not have.")
        steps = max(1, round(options.seconds / options.world.period_s))
        world = replace(with_tracks(options.world), episode_s=options.seconds)
        with progress("filming", steps) as bar:
            take = Take(opened[name], name, options.noise_variance, options.perturbation, options.noise_seed)
            if options.side_by_side:
                left, right = _pair(take, opened, lambda: open_drivers(named, options.world)[name])
                filmed, other = film_two((left, right), world, options.seed, options.out, bar.advance)
                assert filmed.drive is not None
                words = [f"{side.name}, {side.wrong}: " for side in (left, right)]
                found = f"{words[0]}{describe_drive(filmed.drive)}; {words[1]}{describe_drive(other)}"
            else:
                filmed = film_drive(take, world, options.seed, options.out, bar.advance)
                assert filmed.drive is not None
                found = describe_drive(filmed.drive)
    screen().print(f"{options.out}: {found}", markup=False, soft_wrap=True)
    if options.preview is not None:
        size = write_preview(options.preview, filmed.preview)
        screen().print(f"{options.preview}: {size / 1e6:.2f} MB", markup=False, soft_wrap=True)
    return options.out


def _film_elsewhere(named: Mapping[str, DriverSpec], env: str, options: RenderOptions) -> Path:
    """Film a driver in an env that others made."""
    world = find_world(env, options.world, options.env_names)
    assert isinstance(world, OtherWorld)
    world = replace(world, episode_s=options.seconds)
    ((name, opened),) = open_drivers(named, world).items()
    if parse(options.perturbation).attacks and not has_gradient(opened):
        raise ValueError(f"--perturbation {options.perturbation} asks a gradient that this driver does not have.")
    take = Take(opened, name, options.noise_variance, options.perturbation, options.noise_seed)
    with progress("filming", max(1, round(options.seconds / world.period_s))) as bar:
        filmed = film_other_world(take, world, options.seed, options.out, lambda: bar.advance(1))
    assert filmed.drive is not None
    screen().print(f"{options.out}: {describe_other(filmed.drive)}", markup=False, soft_wrap=True)
    if options.preview is not None:
        size = write_preview(options.preview, filmed.preview)
        screen().print(f"{options.preview}: {size / 1e6:.2f} MB", markup=False, soft_wrap=True)
    return options.out


def _pair(take: Take, named: dict[str, OpenedDriver], again: Callable[[], OpenedDriver]) -> tuple[Take, Take]:
    """Return what is left and right: two policies, or one clean, opened `again` for its own state, and perturbed."""
    if len(named) == 1:
        return replace(take, policy=again(), noise_variance=0.0, perturbation=""), take
    name, other = list(named.items())[1]
    return take, replace(take, policy=other, name=name)


def _film_data(spec: DriverSpec, name: str, options: RenderOptions) -> Filmed:
    """Film recorded frames as the options say."""
    wanted = options.recordings
    episodes = load_episodes(wanted.data, wanted.nominal_period_s, options=wanted.recording, to_test_on=True)
    if wanted.last < 1:
        _, episodes = split_by_time_block(episodes, wanted.last, gap_s=0.0)
    driver = open_driver(spec, camera=episodes.frame_size)
    if not isinstance(driver, PolicyDriver):
        raise ValueError(f"films of recordings look into the driver, which only a policy of ours lets: {name} is none.")
    # The film runs at the recording's own rate; the driver's clock counts in its own period.
    episode = max(episodes, key=len)
    steps = min(len(episode), round(options.seconds / episode.meta.nominal_period_s))
    with progress("filming", steps) as bar:
        return film_recording(
            driver,
            episode,
            options.out,
            name,
            wanted.data[0].name,
            options.seconds,
            options.noise_variance,
            options.seed if options.noise_seed is None else options.noise_seed,
            bar.advance,
            options.perturbation,
        )
