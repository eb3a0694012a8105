"""One drive, with everything that is needed to explain it afterwards.

drive = watch_drive(policy, seed=7, seconds=12)
drive = watch_recording(policy, episode, seconds=12)
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import PolicyDriver
from agents.driving.rollout import Step, rollout
from agents.recordings.episodes import Episode
from envs import LANE_KEEPING
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import PerturbedEnv
from envs.perturbations.composition import Composition
from policies.explain.roles import cut
from policies.policy import DrivingPolicy

WORLD = LaneKeepingConfig(vehicle="bicycle")
"""Where drives are watched unless told otherwise."""


@dataclass
class Watched:
    """A drive, frame by frame.

    Attributes:
        frames: uint8 `[T, H, W, 3]` as the driver saw them.
        elapsed: `[T]` in the policy's frame periods.
        steering: `[T]` in [−1, 1], positive left: the driver's.
        quantities: `[T]` each: curvature (1/m), offset (m), speed (m/s) in a world; the human's steering in a
            recording.
        crashed: whether it left the road.
        period_s: nominal, between two frames, s.
        time_s: `[T]` when each frame was seen, s since the first; by the period where nothing else is said.
        duration_s: until the last action had acted, s; likewise.
    """

    frames: NDArray[np.uint8]
    elapsed: NDArray[np.float32]
    steering: NDArray[np.float32]
    quantities: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    crashed: bool = False
    period_s: float = 0.05
    time_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.time_s):
            self.time_s = np.arange(len(self.frames), dtype=np.float64) * self.period_s
        self.duration_s = self.duration_s or len(self.frames) * self.period_s


class _Tap:
    """A driver that notes what it is shown."""

    def __init__(
        self,
        driver: PolicyDriver,
        clock: float,
        cover: tuple[int, NDArray[np.bool_]] | None = None,
        without: tuple[int, int] | None = None,
    ):
        self.driver, self.cover, self.without = driver, cover, without
        self.clock = np.float32(clock)  # the world's period in the driver's
        self.frames: list[NDArray[np.uint8]] = []
        self.elapsed: list[float] = []
        self.steering: list[float] = []

    def act(self, frames: Any, elapsed: Any, starts: Any, envs: Any) -> NDArray[np.float32]:
        if self.cover is not None and len(self.frames) > self.cover[0]:
            first, mask = self.cover
            frames = frames.copy()
            frames[0][mask] = self.frames[first][mask]
        elapsed = elapsed * self.clock
        self.frames.append(frames[0].copy())
        self.elapsed.append(float(elapsed[0]))
        is_cut = self.without is not None and len(self.frames) > self.without[0]
        with cut(self.driver.policy, [self.without[1]]) if is_cut and self.without else nullcontext():
            actions = self.driver.act(frames, elapsed, starts, envs)
        self.steering.append(float(actions[0, 0]))
        return actions

    def steering_gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        return self.driver.steering_gradient(slot, frame, elapsed * float(self.clock), start, steps)


def watch_drive(
    policy: DrivingPolicy,
    seed: int,
    seconds: float,
    perturbation: str | Composition = "",
    world: LaneKeepingConfig | None = None,
    cover: tuple[int, NDArray[np.bool_]] | None = None,
    stop: int | None = None,
    without: tuple[int, int] | None = None,
) -> Watched:
    """Drive LaneKeeping once.

    Args:
        policy: the driver.
        seed: of road, look, start and perturbation.
        seconds: longest drive.
        perturbation: what is wrong with the world.
        world: the rest of it; the defaults with the bicycle when None.
        cover: a frame's number and bool `[H, W]`: from the next frame on, these pixels stay what they were then.
        stop: frames to drive at most.
        without: a frame's number and that of a recurrent synapse of an LTC: it is cut from that frame on.
    """
    fit = policy.config.preprocessing
    world = world or WORLD
    world = replace(world, height=fit.source_height, width=fit.source_width, episode_s=seconds)
    world = replace(world, throttle=policy.config.motors == 2)
    if stop is not None:
        world = replace(world, episode_s=min(seconds, stop * world.period_s))
    tap = _Tap(PolicyDriver(policy), world.period_s / policy.config.nominal_period_s, cover, without)
    rows: list[tuple[float, float, float]] = []
    times_s: list[float] = []

    def make_env(slot: int) -> gymnasium.Env[Any, Any]:
        env: gymnasium.Env[Any, Any] = gymnasium.make(LANE_KEEPING, config=world, disable_env_checker=True)
        return PerturbedEnv(env, perturbation) if str(perturbation) else env

    def look(step: Step) -> None:
        inside: Any = step.env.unwrapped
        speed_mps = float(inside.vehicle_state.speed)
        times_s.append(float(step.seen_info["time_s"]))
        rows.append((float(step.info["curvature_per_m"]), float(step.info["lateral_offset_m"]), speed_mps))

    (drive,) = rollout(tap, make_env, [seed], side_by_side=1, observer=look)
    table = np.asarray(rows, np.float32)
    names = ("curvature", "offset", "speed")
    return Watched(
        np.stack(tap.frames),
        np.asarray(tap.elapsed, np.float32),
        np.asarray(tap.steering, np.float32),
        {name: table[:, k] for k, name in enumerate(names)},
        drive.crashed,
        world.period_s,
        np.asarray(times_s),
        drive.duration_s,
    )


def watch_recording(policy: DrivingPolicy, episode: Episode, seconds: float) -> Watched:
    """Show a recorded episode to a driver.

    Raises:
        ValueError: if its pictures have another size than the policy sees.
    """
    period_s = episode.meta.nominal_period_s
    count = min(len(episode), max(2, round(seconds / period_s)))
    frames = episode.frames(0, count)
    gaps_s = np.diff(episode.time_s[:count], prepend=episode.time_s[0] - policy.config.nominal_period_s)
    elapsed = np.clip(gaps_s / policy.config.nominal_period_s, 0.01, 10.0).astype(np.float32)
    with torch.inference_mode():
        steering, _ = policy.eval()(torch.from_numpy(frames)[None], None, torch.from_numpy(elapsed)[None])
    human = np.asarray(episode.steering[:count], np.float32)
    time_s = np.asarray(episode.time_s[:count], np.float64) - float(episode.time_s[0])
    ended_s = float(time_s[-1]) + period_s
    return Watched(
        frames, elapsed, steering[0, :, 0].numpy(), {"human steering": human}, False, period_s, time_s, ended_s
    )
