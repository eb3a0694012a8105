"""Drivers in closed loop along recordings, beside steering straight and repeating what was recorded.

wormwheel evaluate --env Recorded --data tub --policy runs/ltc
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.driving.driver_options import DriverSpec
from agents.driving.recorded_world import RECORDED_WORLD, RecordedWorld, RigOptions, recorded_world
from agents.driving.trials import Run, Trial, open_for
from envs.driving.names import DrivingNames
from envs.perturbations import parse
from experiments.console import say
from experiments.evaluate.options import EXPERT, EvaluateOptions
from experiments.evaluate.recordings import RecordingOptions
from experiments.policy_paths import has_gradient, refuse_lane_keeping

STRAIGHT, REPLAYED = "always straight", "recorded steering"
"""Names of what every driver is measured beside."""
EPISODE_S = 20.0
"""Length of a drive, unless --episode-s says another."""


class Straight:
    """Steers straight on, whatever it sees."""

    frame_size = None
    period_s = None
    motors = 1

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving.driver.Driver`."""
        return np.zeros((len(frames), 1), np.float32)


class Replayed(Straight):
    """Steers what was recorded where the car is, whatever it sees."""

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving.driver.Driver`."""
        return np.array([[env.unwrapped.recorded_steering] for env in envs], np.float32)  # type: ignore[attr-defined]


def straight() -> Straight:
    """Make the driver that steers straight on."""
    return Straight()


def replayed() -> Replayed:
    """Make the driver that repeats the recording."""
    return Replayed()


def world_of(options: EvaluateOptions) -> RecordedWorld:
    """Return the recordings of --data as a world."""
    refuse_lane_keeping(RECORDED_WORLD, options.world, ("episode_s",))
    if options.env_names != DrivingNames():
        raise ValueError("--env-names say where things are in another env; a recording has none: leave them out.")
    return world_along(options.recordings, options.rig, options.world.episode_s)


def world_along(given: RecordingOptions, rig: RigOptions, episode_s: float) -> RecordedWorld:
    """Return recordings as a world to drive in, and say what their frames told of camera and car.

    Args:
        given: which recordings, and how they are read.
        rig: camera and car, where the recordings do not know them.
        episode_s: length of a drive, s.

    Raises:
        ValueError: if there is no recording, or one cannot be driven along.
    """
    if not given.data:
        raise ValueError(f"--env {RECORDED_WORLD} drives along a recording: name it with --data.")
    if given.last < 1.0:
        raise ValueError("--last is for testing frame by frame; along a recording use --from-s and --to-s.")
    reading = given.recording
    if given.nominal_period_s is not None:
        reading = replace(reading, nominal_period_s=given.nominal_period_s)
    return recorded_world(given.data, rig, reading, say, episode_s=episode_s)


def recorded_trials(drivers: dict[str, DriverSpec], options: EvaluateOptions) -> list[tuple[str, Trial]]:
    """List drives of every driver along the recordings, under every noise level and perturbation, from the same starts.

    Raises:
        ValueError: if frames do not fit a driver and no option says how to make them, a perturbation changes the road
            or the car, or --latency or --throttle is asked for.
    """
    if options.latency is not None:
        raise ValueError("--latency replays measured times in LaneKeeping; leave it out along recordings.")
    for text in options.perturbations:
        if parse(text).changes_scenario:
            raise ValueError(f"{text} changes the road or the car, which a recording cannot show: leave it out.")
    world = world_of(options)
    opened = {name: open_for(spec, world) for name, spec in drivers.items()}
    runs = tuple(Run(options.seed + number) for number in range(options.episodes))
    here = f"{__name__}:"
    trials: list[tuple[str, Trial]] = [
        (STRAIGHT, Trial(DriverSpec(f"{here}straight"), world, runs)),
        (REPLAYED, Trial(DriverSpec(f"{here}replayed"), world, runs)),
    ]
    if options.expert:
        trials.append((EXPERT, Trial(None, world, runs)))
    for name, spec in drivers.items():
        trials += [(name, Trial(spec, world, runs, one, options.noise_seed)) for one in options.noise_variance]
        for text in options.perturbations:
            if parse(text).attacks and not has_gradient(opened[name]):
                say(f"note: {name} has no gradient to attack, so {text} is left out for it")
                continue
            trials.append((name, Trial(spec, world, runs, 0.0, options.noise_seed, text)))
    return trials
