"""What `wormwheel evaluate` can be asked for."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass as checked_dataclass
from tyro.conf import arg

from agents.driving.driver_options import DriverOptions
from agents.driving.recorded_world import RECORDED_WORLD, RigOptions
from envs.driving.names import DrivingNames
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import parse
from experiments.evaluate.recordings import RecordingOptions
from experiments.options import refuse_unused

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number of at least 0."""
EXPERT = "expert"
"""Name of the geometric driver in tables."""


def check_rig(env: str | None, rig: RigOptions) -> None:
    """Check that camera and car of recordings are not told where nobody drives along any.

    Raises:
        ValueError: if they are.
    """
    if env != RECORDED_WORLD and rig != RigOptions():
        raise ValueError(
            f"--rig.… are camera and car of recordings that are driven along: give --env {RECORDED_WORLD}, or leave "
            "them out."
        )


@checked_dataclass(frozen=True, config={"extra": "forbid"})
class EvaluateOptions:
    """Drive policies on roads they have not seen, or test them on recorded driving."""

    policy: tuple[str, ...] = ()
    """Drivers to compare: policy or run directories, .onnx files, .zip files of Stable-Baselines3, or file.py:factory
    and module:factory. All get the same roads and noise."""
    env: str | None = None
    """World to drive in: LaneKeeping, CarRacing, racetrack-v1 (of highway-env), any id of Gymnasium, module:function or
    file.py:function; by default the one that the policies learnt in. PPO's drivers are judged by their reward where
    they learnt. Recorded drives along --data in closed loop."""
    env_names: DrivingNames = DrivingNames()
    """Where picture, steering, speed and road are in that env; what is left out is as a known env has it."""
    expert: bool = False
    """Show the geometric expert too, which sees the true road: what is possible."""
    episodes: Annotated[int, Field(gt=0, le=1_000_000)] = 20
    """Random roads to drive; each has a look of its own."""
    seed: NonNegativeInt = 1000
    """Seed of the first road; the next ones follow it."""
    laps: NotNegative = 1.0
    """Laps to drive on each road of --track; 0 drives for --episode-s instead."""
    noise_variance: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = (0.0,)
    """Variances of Gaussian noise on the frames, pixels in [0, 1]; each one is a row."""
    noise_seed: NonNegativeInt = 0
    """Seed of the noise and of the perturbations."""
    perturbations: tuple[str, ...] = ()
    """What else goes wrong, each one a row: names of `wormwheel gallery` with a severity, joined by +, such as fog:3 or
    rain:2+latency:1."""
    latency: str | None = None
    """FILE or FILE:ENGINE from `wormwheel bench latency --json`: every answer comes as late as measured there; a row
    with the true elapsed time and a row where the driver is not given it."""
    latency_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Factor on the measured times: a computer so many times as slow."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=LaneKeepingConfig)
    """Where they drive; frames have each policy's own size, so --height and --width are best left out."""
    driver: Annotated[DriverOptions, arg(name="")] = DriverOptions()
    """What drivers cannot say of themselves."""
    recordings: Annotated[RecordingOptions, arg(name="")] = RecordingOptions()
    """Recordings to test on, instead of driving."""
    rig: RigOptions = RigOptions()
    """With --env Recorded: camera and car of the recordings."""
    workers: Annotated[int, Field(gt=0, le=1024)] = 2
    """Processes that drive; they do not change the figures."""
    json: Path | None = None
    """File for the figures and every drive, as JSON."""

    def __post_init__(self) -> None:
        """Check perturbations, and that options go together."""
        for text in self.perturbations:
            parse(text)
        check_rig(self.env, self.rig)
        if self.latency is None and self.latency_scale != 1.0:
            raise ValueError("--latency-scale is a factor on what --latency measured: give both, or leave it out.")
        if self.laps != 1.0 and self.world.track == "random":
            raise ValueError("--laps are for the roads of --track: name some, or give --episode-s.")
        if self.world.track != "random":
            refuse_unused(self, ("episodes",), "each road of --track is driven once")
            if self.laps:
                why = f"--laps {self.laps:g} says how far; --laps 0 drives for a time"
                refuse_unused(self.world, ("episode_s",), why)
        if self.recordings.data and self.env != RECORDED_WORLD:
            refuse_unused(
                self, ("episodes", "seed"), "--data is tested on frame by frame; --env Recorded drives along it"
            )
        if self.latency is not None and self.recordings.data:
            raise ValueError("--latency is for driving, --data is for recordings: leave one of them out.")
        if self.env == RECORDED_WORLD and not self.recordings.data:
            raise ValueError("--env Recorded drives along a recording: name it with --data.")
        if self.recordings.data and self.env != RECORDED_WORLD and (self.env or self.expert):
            raise ValueError(
                "--env and --expert are for driving, --data is for recordings: leave one of them out, or give --env "
                "Recorded to drive along the recordings."
            )
