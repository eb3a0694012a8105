"""How fast the world turns, on one core, beside CarRacing-v3 in the same run.

    python -m experiments.benchmarks.env --json env.json

Seconds are those of this process on the processor, so that other programs disturb little. The contestants take turns,
a second or so each, several times; each turn includes its share of resets. Nothing is printed before every contestant
has shown that its frames show something and that its car moves on.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import gymnasium
import numpy as np
import tyro

import envs
from envs.vehicle.bullet import has_bullet
from experiments.cli import run_script
from experiments.console import check_json, write_results

CAR_RACING = "CarRacing-v3"
_STEPS_PER_LOOK = 20  # looking at the clock can take as long as a frame
_EPISODE_STEPS = 1200  # a minute at 20 Hz; CarRacing ends its own episodes after 1000


@dataclass(frozen=True)
class EnvBenchmark:
    """What to measure."""

    rounds: int = 7
    """Turns that each contestant takes."""
    seconds: float = 1.5
    """Length of a turn, seconds of processor time."""
    seed: int = 0
    """Seed of the first reset."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the figures as JSON; nowhere when left out."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.rounds < 1 or not self.seconds > 0.0:
            raise ValueError(f"rounds must be at least 1 and seconds positive, got {self.rounds} and {self.seconds}.")


@dataclass
class Contestant:
    """One env and how to drive it.

    Attributes:
        name: what to call it.
        env: the env.
        act: the action for step number `k` of an episode.
        picture: the camera frame in an observation.
        seed: seed of the next reset.
        step: steps taken in this episode.
    """

    name: str
    env: gymnasium.Env[Any, Any]
    act: Callable[[Any, int], Any]
    picture: Callable[[Any], np.ndarray]
    seed: int
    step: int = -1

    def turn(self, seconds: float) -> tuple[int, float]:
        """Drive for a while, resets included; steps taken and seconds of processor time needed."""
        steps, start = 0, time.process_time()
        while True:
            if self.step < 0:
                self.env.reset(seed=self.seed)
                self.seed, self.step = self.seed + 1, 0
            _, _, terminated, truncated, _ = self.env.step(self.act(self.env, self.step))
            steps, self.step = steps + 1, self.step + 1
            if terminated or truncated or self.step >= _EPISODE_STEPS:
                self.step = -1
            if steps % _STEPS_PER_LOOK == 0:
                elapsed = time.process_time() - start
                if elapsed >= seconds:
                    return steps, elapsed

    def check(self) -> None:
        """Drive some seconds and look at the pictures.

        Raises:
            RuntimeError: if the frames are blank or never change, or the car stands still.
        """
        observation, _ = self.env.reset(seed=self.seed)
        frames = []
        for step in range(80):
            frames.append(self.picture(observation).astype(np.float64))
            observation, _, terminated, truncated, info = self.env.step(self.act(self.env, step))
            if terminated or truncated:
                raise RuntimeError(
                    f"{self.name}: the car did not last four seconds; no speed is reported for a broken world."
                )
        if np.mean([frame.std() for frame in frames[10:]]) < 5.0:
            raise RuntimeError(f"{self.name}: the frames are blank; no speed is reported for a broken world.")
        if np.abs(frames[-1] - frames[-10]).mean() < 0.3 or info.get("progress_m", 1.0) < 0.5:
            raise RuntimeError(f"{self.name}: the car does not move; no speed is reported for a broken world.")
        self.step = -1


def main(config: EnvBenchmark) -> dict[str, Any]:
    """Measure and print; returns what goes into the JSON file."""
    check_json(config.json)
    one_core()
    contestants = make_contestants(config.seed)
    for contestant in contestants:
        contestant.check()
        contestant.turn(0.3)
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(config.rounds):
        for contestant in contestants:
            steps, elapsed = contestant.turn(config.seconds)
            rates[contestant.name].append(steps / elapsed)
    for contestant in contestants:
        contestant.env.close()
    figures = summary(rates)
    print_summary(figures)
    write_results(config.json, "benchmark env", config, figures)
    return figures


def one_core() -> None:
    """Keep this process, and the threads it starts from now on, on one core."""
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def make_contestants(seed: int) -> list[Contestant]:
    """CarRacing and the lane-keeping env with both vehicles and both renderers, as far as they are installed."""
    worlds: dict[str, dict[str, Any]] = {"bicycle + warp": {"vehicle": "bicycle"}}
    if has_bullet():
        worlds["bullet + warp"] = {"vehicle": "bullet"}
        worlds["bullet + tiny"] = {"vehicle": "bullet", "renderer": "tiny"}
    made = [
        Contestant(
            CAR_RACING,
            gymnasium.make(CAR_RACING, disable_env_checker=True),
            lambda env, k: np.array([0.0, 0.1, 0.0], np.float32),
            lambda o: o,
            seed,
        )
    ]
    for name, fields in worlds.items():
        env = gymnasium.make(envs.LANE_KEEPING, **fields)
        made.append(Contestant(name, env, _follow, lambda observation: observation["camera"], seed))
    return made


def summary(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and ratios; a ratio is the median over rounds, in which the contestants ran one after the other."""
    figures: dict[str, Any] = {
        "frames_per_s": {name: _spread(values) for name, values in rates.items()},
        "ratio": {},
        "rounds": {name: [round(value, 1) for value in values] for name, values in rates.items()},
    }
    bars = (("bicycle + warp", CAR_RACING), ("bullet + warp", CAR_RACING), ("bullet + warp", "bullet + tiny"))
    for fast, slow in bars:
        if fast in rates and slow in rates:
            ratios = [a / b for a, b in zip(rates[fast], rates[slow], strict=True)]
            figures["ratio"][f"{fast} / {slow}"] = _spread(ratios)
    return figures


def print_summary(figures: dict[str, Any]) -> None:
    """A table for people."""
    print("frames per second on one core, resets included: median (lowest to highest round)")
    for name, value in figures["frames_per_s"].items():
        print(f"  {name:32s} {value['median']:8.0f}  ({value['low']:.0f} to {value['high']:.0f})")
    print("ratios within a round")
    for name, value in figures["ratio"].items():
        print(f"  {name:32s} {value['median']:8.1f}  ({value['low']:.1f} to {value['high']:.1f})")


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _follow(env: gymnasium.Env[Any, Any], step: int) -> np.ndarray:
    """Steer towards a point on the lane; cheap, so that the world and not the driver is measured."""
    world: Any = env.unwrapped
    track, state = world.track, world.vehicle_state
    ahead_x, ahead_y = track.lane_point(world.road_position_m + 0.7)
    dx, dy = ahead_x - state.x, ahead_y - state.y
    angle = math.atan2(dy, dx) - state.yaw
    steer = math.atan(2.0 * world.vehicle_params.wheelbase_m * math.sin(angle) / math.hypot(dx, dy))
    return np.array([steer / world.vehicle_params.steering_limit_rad], np.float32)


if __name__ == "__main__":
    run_script(EnvBenchmark, main)
