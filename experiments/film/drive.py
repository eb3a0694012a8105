"""Films of drivers on a simulated road, clean or perturbed, alone or two side by side.

take = Take(load_policy("runs/demo/policy"), "ltc", perturbation="fog:3")
filmed = film_drive(take, LaneKeepingConfig(episode_s=20.0), seed=7, path=Path("drive.mp4"))
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import OpenedDriver, PolicyDriver, RescaledTime
from agents.driving.expert import Expert
from agents.driving.metrics import Drive
from agents.driving.rollout import Step, rollout
from envs.dashboard.canvas import Picture
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import GaussianNoise, PerturbedEnv, parse
from envs.perturbations.composition import Composition
from envs.road.track import Track
from envs.scene.scene import Scene
from experiments.film.films import DriveFilm, Moment, large_size
from experiments.film.reel import Filmed, Reel
from experiments.film.side_by_side import SideBySideFilm
from experiments.film.video import VideoWriter
from experiments.machine import one_thread
from policies.explain.saliency import look_inside
from policies.policy import DrivingPolicy

VIEW_PIXELS_PER_M = 128.0
"""Resolution of the road in the large picture of a film."""
_GHOST_S = 120.0
"""Longest drive of the expert that is shown as a ghost, s: some laps."""
_AHEAD = 8
"""Moments that one drive may be ahead of the other in a film of two."""


@dataclass(frozen=True)
class Take:
    """A driver and what it is put under.

    Attributes:
        policy: the driver: a policy, or any other, which is not looked into.
        name: what it is called in the film.
        noise_variance: of Gaussian noise on its frames, pixels in [0, 1].
        perturbation: what else goes wrong, in the syntax of `envs.perturbations.parse` or made already.
        noise_seed: of the noise and the perturbation, as `agents.driving.trials.Trial` has it; the road's when None.
        words: what is wrong, for people; from the noise and the severities when empty.
    """

    policy: DrivingPolicy | OpenedDriver
    name: str
    noise_variance: float = 0.0
    perturbation: str | Composition = ""
    noise_seed: int | None = None
    words: str = ""

    @property
    def inside(self) -> DrivingPolicy | None:
        """The policy that can be looked into; None of other drivers."""
        if isinstance(self.policy, DrivingPolicy):
            return self.policy
        return self.policy.policy if isinstance(self.policy, PolicyDriver) else None

    def driver(self) -> OpenedDriver:
        """Return the driver, with a state of its own where it is a policy: two takes of one policy drive side by side.

        Any other driver is returned itself.
        """
        if isinstance(self.policy, DrivingPolicy):
            return PolicyDriver(self.policy)
        if isinstance(self.policy, PolicyDriver):
            return PolicyDriver(self.policy.policy, self.policy.preprocessing, self.policy.steering_gain)
        return self.policy

    def frame_size(self, world: LaneKeepingConfig) -> tuple[int, int]:
        """Return rows and columns of the frames that it gets."""
        return self.driver().frame_size or (world.height, world.width)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong with the world."""
        return not (self.noise_variance or str(self.perturbation))

    @property
    def wrong(self) -> str:
        """What is wrong with the world, in words."""
        if self.words:
            return self.words
        made = self.perturbation if isinstance(self.perturbation, Composition) else parse(self.perturbation)
        words = [f"{part.name.replace('_', ' ')}, severity {part.severity} of 5" for part in made.parts]
        if self.noise_variance:
            words.append(f"noise of variance {self.noise_variance:g}")
        return " + ".join(words) or "clean"


OnMoment = Callable[[Moment, Track, int], None]
"""Called with each moment, the road, and for how many periods it holds."""


def film_drive(
    take: Take, world: LaneKeepingConfig, seed: int, path: Path, on_frame: Callable[[], None] | None = None
) -> Filmed:
    """Drive one road and film it; the expert's path on it is drawn on the map.

    Args:
        take: who drives, and under what.
        world: where it drives and for how long; frames get the size that the policy sees.
        seed: of the road, the look and the start.
        path: the MP4 file.
        on_frame: called after each period.

    Returns:
        What the car did, and pictures.

    Raises:
        OSError: if the film cannot be written; an older one is still there then.
    """
    rows, columns = take.frame_size(world)
    film: DriveFilm | None = None
    last: Picture | None = None
    ghost = expert_path(world, seed)
    with one_thread(), VideoWriter(path, 1 / world.period_s) as writer:
        reel = Reel(writer, world.period_s, world.episode_s)

        def show(moment: Moment, track: Track, periods: int) -> None:
            nonlocal film, last
            if film is None:
                condition = f"{describe_road(world, seed)};  {take.wrong}"
                aspect = columns / rows
                film = DriveFilm(take.inside, track, world.period_s, take.name, condition, aspect, take.is_clean, ghost)
            last = film.draw(moment)
            # Where an action is held for several periods, so is the picture.
            for _ in range(periods):
                reel.append(last)
                if on_frame is not None:
                    on_frame()

        drive = drive_take(take, world, seed, show)
        assert film is not None and last is not None
        reel.close(drive.crashed, film.end(last, describe_drive(drive), drive.crashed))
    return Filmed(writer.frame_count, reel.poster, reel.preview, drive)


def film_two(
    takes: tuple[Take, Take],
    world: LaneKeepingConfig,
    seed: int,
    path: Path,
    on_frame: Callable[[], None] | None = None,
) -> tuple[Filmed, Drive]:
    """Film two drives of the same road side by side: two drivers, or one clean and perturbed.

    Args:
        takes: left and right.
        world: where they drive and for how long.
        seed: of the road, the look and the start.
        path: the MP4 file.
        on_frame: called after each period.

    Returns:
        What is left of the film with the drive of the left one, and the drive of the right one.

    Raises:
        OSError: if the film cannot be written.
    """
    rows, columns = takes[0].frame_size(world)
    with one_thread(), VideoWriter(path, 1 / world.period_s) as writer:
        reel = Reel(writer, world.period_s, world.episode_s)
        feeds = [_Feed(take, world, seed) for take in takes]
        film: SideBySideFilm | None = None
        last: Picture | None = None
        try:
            while True:
                moments = [feed.next() for feed in feeds]
                if all(feed.is_over for feed in feeds):
                    break
                if film is None:
                    track = feeds[0].track
                    assert track is not None
                    film = SideBySideFilm(
                        track,
                        world.period_s,
                        [(take.name, take.wrong, take.is_clean) for take in takes],
                        describe_road(world, seed),
                        columns / rows,
                    )
                last = film.draw(moments)
                reel.append(last)
                if on_frame is not None:
                    on_frame()
        finally:
            for feed in feeds:
                feed.stop()
        drives = [feed.result() for feed in feeds]
        assert film is not None and last is not None
        reel.close(False, film.end(last, [(describe_drive(drive), drive.crashed) for drive in drives]))
        crash = next((feed.last for feed in feeds if feed.last is not None and feed.last.crashed), None)
        poster = last if crash is not None else reel.poster
    return Filmed(writer.frame_count, poster, reel.preview, drives[0]), drives[1]


def drive_take(take: Take, world: LaneKeepingConfig, seed: int, on_moment: OnMoment) -> Drive:
    """Drive one road and hand over each moment.

    Args:
        take: who drives, and under what.
        world: where it drives and for how long; frames get the size that the policy sees.
        seed: of the road, the look and the start.
        on_moment: called after each step.
    """
    rows, columns = take.frame_size(world)
    world = replace(world, height=rows, width=columns)
    driver = take.driver()
    timed = driver if driver.period_s is None else RescaledTime(driver, world.period_s / driver.period_s)
    drawn_from = seed if take.noise_seed is None else take.noise_seed
    view: Scene | None = None
    periods_shown = 0

    def observe(step: Step) -> None:
        nonlocal view, periods_shown
        inside, info = step.env.unwrapped, step.info
        assert isinstance(inside, LaneKeepingEnv)
        insight = None
        if isinstance(driver, PolicyDriver) and driver.state is not None:
            pixels = driver.preprocessing(torch.from_numpy(step.frame))
            insight = look_inside(driver.policy, pixels, driver.state, preprocessed=True)
        if view is None:
            view = _large_view(inside)
        pose = inside.vehicle_state
        large = view.frame(pose.x, pose.y, pose.yaw, inside.road_position_m, pose.speed)
        moment = Moment(
            view=large,
            insight=insight,
            seen=step.frame,
            steering=step.steering,
            x=pose.x,
            y=pose.y,
            yaw=pose.yaw,
            offset_lane=info["lateral_offset_m"] / info["lane_width_m"],
            speed_mps=info["speed_mps"],
            time_s=info["time_s"],
            way_m=info["progress_m"],
            crashed=info["crashed"],
        )
        periods = max(1, round(info["time_s"] / world.period_s) - periods_shown)
        periods_shown += periods
        on_moment(moment, inside.track, periods)

    def make_env(slot: int) -> gymnasium.Env[Any, Any]:
        env = LaneKeepingEnv(world)
        return PerturbedEnv(env, take.perturbation, drawn_from) if str(take.perturbation) else env

    noise = GaussianNoise(take.noise_variance) if take.noise_variance else None
    return rollout(timed, make_env, [seed], 1, perturbation=noise, noise_seed=drawn_from, observer=observe)[0]


def expert_path(world: LaneKeepingConfig, seed: int) -> NDArray[np.float64]:
    """Return the path `[N, 2]` (m) that the expert drives on the same road, clean, from the same start."""
    world = replace(world, episode_s=min(world.episode_s, _GHOST_S), height=8, width=16, throttle=False)
    path: list[tuple[float, float]] = []

    def observe(step: Step) -> None:
        pose = step.env.unwrapped.vehicle_state  # type: ignore[attr-defined]
        path.append((pose.x, pose.y))

    rollout(Expert(), lambda slot: LaneKeepingEnv(world), [seed], 1, observer=observe)
    return np.array(path)


def describe_drive(drive: Drive) -> str:
    """Say in a few words how a drive went."""
    way = f"{drive.distance_m:.0f} m in {drive.duration_s:.0f} s"
    if drive.crashed:
        return f"left the road after {way}"
    offset = 100 * float(np.abs(drive.lateral_offset_m).mean()) / drive.lane_width_m
    return f"{way} without leaving the road, {offset:.1f} % of the lane width off its middle"


def describe_road(world: LaneKeepingConfig, seed: int) -> str:
    """Say which road a seed stands for."""
    tracks = (world.track,) if isinstance(world.track, str) else tuple(world.track)
    name = Path(tracks[0]).stem if len(tracks) == 1 else f"one of {len(tracks)} roads"
    return f"{'random road' if name == 'random' else name}, seed {seed}"


class _Feed:
    """The moments of one drive, made in a thread of its own and taken one period at a time."""

    def __init__(self, take: Take, world: LaneKeepingConfig, seed: int):
        self.track: Track | None = None
        self.last: Moment | None = None
        self.is_over = False
        self._ready: queue.Queue[Moment | None] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        self._drive: Drive | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(take, world, seed), daemon=True)
        self._thread.start()

    def next(self) -> Moment:
        """Return the moment of the next period; the last one again when the drive is over."""
        if not self.is_over:
            moment = self._ready.get()
            if moment is None:
                self.is_over = True
                if self._error is not None:
                    raise self._error
            else:
                self.last = moment
        assert self.last is not None
        return self.last

    def result(self) -> Drive:
        """Return how the drive went; it must be over."""
        assert self._drive is not None
        return self._drive

    def stop(self) -> None:
        """End the drive where it is."""
        self._stopped.set()
        for _ in self._drained():
            pass
        self._thread.join()

    def _drained(self) -> Iterator[Moment | None]:
        while self._thread.is_alive():
            try:
                yield self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def _run(self, take: Take, world: LaneKeepingConfig, seed: int) -> None:
        try:
            self._drive = drive_take(take, world, seed, self._put)
        except _Stopped:
            pass
        except BaseException as error:  # handed to the thread that waits for the moments
            self._error = error
        self._ready.put(None)

    def _put(self, moment: Moment, track: Track, periods: int) -> None:
        self.track = track
        for _ in range(periods):
            if self._stopped.is_set():
                raise _Stopped
            self._ready.put(moment)


class _Stopped(Exception):
    """The film is over before the drive is."""


def _large_view(env: LaneKeepingEnv) -> Scene:
    """Return the same scene through the same camera, in the size of the film and as sharp as that allows.

    Blur and noise are the driver's camera's; the panel of what it sees shows them.
    """
    scene = env.scene
    look = replace(scene.look, noise=0.0, blur_px=0.0, exposure_s=0.0)
    height, width = large_size(env.config.width / env.config.height)
    return Scene(env.track, look, scene.params, height, width, VIEW_PIXELS_PER_M)
