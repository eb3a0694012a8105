"""`wormwheel render`: a film of a driver at work, in simulation or on recorded frames.

wormwheel render --policy runs/demo/policy --out drive.mp4
wormwheel render --policy runs/tub/policy --data tub --last 0.2 --out tub.mp4

A PPO driver is filmed in the world that it learnt in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from tyro.conf import arg

from agents.episodes import Episode, EpisodeSet
from agents.evaluation import RescaledTime
from agents.metrics import Drive
from agents.perturbed_recording import PerturbedRecording
from agents.recordings import load_episodes
from agents.rollout import PolicyDriver, rollout
from agents.splits import split_by_time_block
from envs.lane_keeping import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import GaussianNoise, PerturbedEnv, parse
from envs.scene import Scene
from experiments.common import expand_tracks, progress, screen
from experiments.drawing import Picture
from experiments.evaluate_recordings import RecordingOptions, fit_policy
from experiments.film import VIEW, DriveFilm, Moment, RecordingFilm, closing
from experiments.policy_paths import (
    LANE_KEEPING,
    check_frame_size,
    check_motors,
    name_policies,
    refuse_lane_keeping,
    world_of,
)
from experiments.video import PREVIEW_FPS, VideoWriter, check_preview, write_preview
from policies.checkpoint import load_policy
from policies.explain import look_inside
from policies.policy import DrivingPolicy

VIEW_PIXELS_PER_M = 128.0
"""Resolution of the road in the large picture of a film."""
LAST_S = 1.5
"""Time that a film stays on its last picture, seconds."""
PREVIEW_S = 8.0
"""Longest preview, seconds."""


@dataclass(frozen=True)
class RenderOptions:
    """Film a driver at work: what it sees, where it looks, what its neurons do, where the car goes."""

    policy: Path
    """Directory of the policy, such as runs/demo/policy."""
    out: Path = Path("drive.mp4")
    """The film to write, H.264 in MP4."""
    preview: Path | None = None
    """Also write a small looping animation, .webp or .gif, of the first seconds."""
    seed: int = 100
    """Seed of the road, the look and the start."""
    seconds: float = 30.0
    """Length of the drive, seconds; a crash ends it. With --data, the longest stretch that is shown."""
    noise_variance: float = 0.0
    """Variance of Gaussian noise on the driver's frames, pixels in [0, 1]."""
    perturbation: str = ""
    """What else goes wrong: names of `wormwheel gallery` with a severity, joined by +, such as rain:2+latency:1."""
    noise_seed: int | None = None
    """Seed of the noise and of the perturbation; --seed when not given."""
    recordings: Annotated[RecordingOptions, arg(name="")] = RecordingOptions()
    """Recorded driving to show the driver, instead of a simulated road; the human's steering is drawn beside its
    own."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=LaneKeepingConfig)
    """Where it drives; the size of the frames is the policy's."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be a positive number, got {self.seconds}.")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")
        if self.noise_seed is not None and self.noise_seed < 0:
            raise ValueError(f"noise_seed must be at least 0, got {self.noise_seed}.")
        GaussianNoise(self.noise_variance)
        parse(self.perturbation)
        VideoWriter(self.out)
        if self.preview is not None:
            check_preview(self.preview)


@dataclass
class Filmed:
    """What filming left behind.

    Attributes:
        frames: pictures in the film.
        poster: one of them, from the middle.
        preview: small pictures for an animation.
        drive: what the car did; None on a recording.
    """

    frames: int
    poster: Picture
    preview: list[Picture]
    drive: Drive | None = None


def run(options: RenderOptions) -> Path:
    """Film; returns the film's path."""
    named = name_policies([options.policy])
    ((name, place),) = named.items()
    policy, learnt = load_policy(place), world_of(place)
    if not options.recordings.data and learnt != LANE_KEEPING:
        from experiments.render_world import film_world  # Has Stable-Baselines3 in tow.

        if options.noise_variance or options.perturbation or options.preview is not None:
            raise ValueError(
                f"--noise-variance, --perturbation and --preview are for LaneKeeping and recordings, not for {learnt}."
            )
        refuse_lane_keeping(learnt, options.world)
        with one_thread():
            found = film_world(place, learnt, options.seed, options.out, options.seconds)
        screen().print(f"{options.out}: {found}", markup=False, soft_wrap=True)
        return options.out
    if options.recordings.data:
        filmed = _film_data(policy, name, options)
        found = f"{filmed.frames} frames of {options.recordings.data[0]}"
    else:
        check_motors(named, options.world.throttle)
        check_frame_size(named, options.world)
        steps = max(1, round(options.seconds / options.world.period_s))
        world = replace(options.world, track=expand_tracks(options.world.track), episode_s=options.seconds)
        with progress("filming", steps) as bar:
            filmed = film_drive(
                policy,
                world,
                options.seed,
                options.out,
                options.noise_variance,
                bar.advance,
                options.perturbation,
                options.noise_seed,
            )
        assert filmed.drive is not None
        found = describe_drive(filmed.drive)
    screen().print(f"{options.out}: {found}", markup=False, soft_wrap=True)
    if options.preview is not None:
        size = write_preview(options.preview, filmed.preview)
        screen().print(f"{options.preview}: {size / 1e6:.2f} MB", markup=False, soft_wrap=True)
    return options.out


def film_drive(
    policy: DrivingPolicy,
    world: LaneKeepingConfig,
    seed: int,
    path: Path,
    noise_variance: float = 0.0,
    on_frame: Callable[[], None] | None = None,
    perturbation: str = "",
    noise_seed: int | None = None,
) -> Filmed:
    """Drive one road and film it.

    Args:
        policy: the driver.
        world: where it drives and for how long; frames get the size that the policy sees.
        seed: of the road, the look and the start.
        path: the MP4 file.
        noise_variance: of the noise on the driver's frames.
        on_frame: called after each period.
        perturbation: what else goes wrong, in the syntax of `envs.perturbations.parse`.
        noise_seed: of the noise and the perturbation, as `agents.evaluation.Trial` has it; `seed` when None.

    Returns:
        What the car did, and pictures.

    Raises:
        OSError: if the film cannot be written; an older one is still there then.
    """
    fit = policy.config.preprocessing
    world = replace(world, height=fit.source_height, width=fit.source_width)
    driver = PolicyDriver(policy)
    timed = RescaledTime(driver, world.period_s / policy.config.nominal_period_s)
    drawn_from = seed if noise_seed is None else noise_seed
    wrong = perturbation or (f"noise variance {noise_variance:g}" if noise_variance else "")
    reel: _Reel | None = None
    panels: DriveFilm | None = None
    view: Scene | None = None
    with one_thread(), VideoWriter(path, 1 / world.period_s) as writer:
        reel = _Reel(writer, world.period_s, world.episode_s)

        def observe(
            seed: int, env: gymnasium.Env[Any, Any], frame: NDArray[np.uint8], steering: float, info: dict[str, Any]
        ) -> None:
            nonlocal panels, view
            inside = env.unwrapped
            assert isinstance(inside, LaneKeepingEnv) and driver.state is not None
            if panels is None or view is None:
                panels = DriveFilm(policy, inside.track, world.period_s, f"road {seed}", wrong)
                view = _large_view(inside)
            pose = inside.vehicle_state
            large = view.frame(pose.x, pose.y, pose.yaw, float(inside.track.project((pose.x, pose.y)).s), pose.speed)
            moment = Moment(
                view=large,
                insight=look_inside(policy, torch.from_numpy(frame), driver.state),
                steering=steering,
                x=pose.x,
                y=pose.y,
                yaw=pose.yaw,
                offset_lane=info["lateral_offset_m"] / info["lane_width_m"],
                speed_mps=info["speed_mps"],
                time_s=info["time_s"],
                way_m=info["progress_m"],
                crashed=info["crashed"],
            )
            # Where an action is held for several periods, so is the picture.
            picture = panels.draw(moment)
            for _ in range(max(1, round(info["time_s"] / world.period_s) - reel.count)):
                reel.append(picture)
                if on_frame is not None:
                    on_frame()

        def make_env(slot: int) -> gymnasium.Env[Any, Any]:
            env = LaneKeepingEnv(world)
            return PerturbedEnv(env, perturbation, drawn_from) if perturbation else env

        noise = GaussianNoise(noise_variance) if noise_variance else None
        drive = rollout(timed, make_env, [seed], 1, perturbation=noise, noise_seed=drawn_from, observer=observe)[0]
        reel.close(describe_drive(drive))
    return Filmed(writer.frame_count, reel.poster, reel.preview, drive)


def film_recording(
    policy: DrivingPolicy,
    episode: Episode,
    path: Path,
    title: str,
    seconds: float = 30.0,
    noise_variance: float = 0.0,
    seed: int = 0,
    on_frame: Callable[[], None] | None = None,
    perturbation: str = "",
) -> Filmed:
    """Show a driver a recorded episode and film what it would have steered.

    Args:
        policy: the driver.
        episode: recorded at the size that the policy sees.
        path: the MP4 file.
        title: a few words in the picture.
        seconds: longest film.
        noise_variance: of the noise on the driver's frames.
        seed: of the noise and the perturbation.
        on_frame: called after each picture.
        perturbation: what else goes wrong, in the syntax of `envs.perturbations.parse`. While frames are left out, the
            film stays on the last picture.

    Returns:
        Pictures.

    Raises:
        ValueError: if the frames have another size than the policy sees, or the perturbation cannot be applied to a
            recording.
        OSError: if the film cannot be written.
    """
    period_s = episode.meta.nominal_period_s
    steps = min(len(episode), max(1, round(seconds / period_s)))
    policy.eval()
    timed = EpisodeSet((episode,)).with_nominal_period(policy.config.nominal_period_s)[0]
    noise, generator = GaussianNoise(noise_variance), np.random.default_rng(seed)
    limit = min(1.0, 1.15 * float(np.abs(episode.steering[:steps]).max(initial=0.1)))
    panels = RecordingFilm(policy, period_s, title, limit)
    state: torch.Tensor | None = None
    perturbed = PerturbedRecording(timed, perturbation, seed)
    with one_thread(), VideoWriter(path, 1 / period_s) as writer:
        reel = _Reel(writer, period_s, steps * period_s)
        for step in range(steps):
            clean = episode.frames(step, step + 1)
            shown = perturbed.take(step, step + 1, noise(clean, generator))
            if not len(shown.frames):
                reel.stay()
            else:
                frames, elapsed = torch.from_numpy(shown.frames), torch.from_numpy(shown.elapsed)
                with torch.inference_mode():
                    steering, state = policy(frames[None], state, elapsed[None])
                insight = look_inside(policy, frames[0], state)
                human = perturbed.steering_sign * float(episode.steering[step])
                time_s = float(episode.time_s[step] - episode.time_s[0])
                reel.append(panels.draw(clean[0], insight, float(steering[0, 0, 0]), human, time_s))
            if on_frame is not None:
                on_frame()
    return Filmed(writer.frame_count, reel.poster, reel.preview)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: for single small frames, waking a second one costs more than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_drive(drive: Drive) -> str:
    """Say in a few words how a drive went."""
    way = f"{drive.distance_m:.0f} m in {drive.duration_s:.0f} s"
    if drive.crashed:
        return f"left the road after {way}"
    offset = 100 * float(np.abs(drive.lateral_offset_m).mean()) / drive.lane_width_m
    return f"{way} without leaving the road, {offset:.1f} % of the lane width off its middle"


class _Reel:
    """Hands pictures to the film, and keeps a poster and a few small ones for a preview."""

    def __init__(self, writer: VideoWriter, period_s: float, length_s: float):
        self._writer, self._period_s = writer, period_s
        self._every = max(1, round(1 / (PREVIEW_FPS * period_s)))
        self._poster_at = round(0.4 * length_s / period_s)
        self._last: Picture | None = None
        self.count = 0
        self.poster: Picture = np.zeros((2, 2, 3), np.uint8)
        self.preview: list[Picture] = []

    def append(self, picture: Picture) -> None:
        number = self._writer.frame_count
        self._writer.append(picture)
        self.count += 1
        if number <= self._poster_at:
            self.poster = picture
        if number % self._every == 0 and len(self.preview) < PREVIEW_S * PREVIEW_FPS:
            self.preview.append(np.ascontiguousarray(picture))
        self._last = picture

    def stay(self) -> None:
        """Show the last picture for one period more."""
        assert self._last is not None
        self.append(self._last)

    def close(self, words: str) -> None:
        """Stay on the last picture for a moment and say how it ended."""
        if self._last is not None:
            end = closing(self._last, words)
            for _ in range(round(LAST_S / self._period_s)):
                self._writer.append(end)


def _large_view(env: LaneKeepingEnv) -> Scene:
    """Return the same scene through the same camera, in the size of the film."""
    scene = env.scene
    height = min(VIEW.height, round(VIEW.width * env.config.height / env.config.width))
    width = round(height * env.config.width / env.config.height)
    return Scene(env.track, scene.look, scene.params, height, width, VIEW_PIXELS_PER_M)


def _film_data(policy: DrivingPolicy, name: str, options: RenderOptions) -> Filmed:
    """Film recorded frames as the options say."""
    wanted = options.recordings
    episodes = load_episodes(wanted.data, wanted.nominal_period_s)
    if wanted.last < 1:
        _, episodes = split_by_time_block(episodes, wanted.last, gap_s=0.0)
    policy = fit_policy(policy, name, episodes.frame_size, wanted)
    # The film runs at the recording's own rate; the driver's clock counts in its own period.
    episode = max(episodes, key=len)
    steps = min(len(episode), round(options.seconds / episode.meta.nominal_period_s))
    with progress("filming", steps) as bar:
        return film_recording(
            policy,
            episode,
            options.out,
            wanted.data[0].name,
            options.seconds,
            options.noise_variance,
            options.seed if options.noise_seed is None else options.noise_seed,
            bar.advance,
            options.perturbation,
        )
