"""What a perturbation is: a family, a name, five severities, and what it does in one episode.

A `Perturbation` is a value: nothing in it changes. Its `begin` starts an episode and returns an `Effect`, which owns a
generator and whatever must stay coherent over the episode: the dirt on the lens, the drift of the rain, the delay line.
An effect touches the episode in up to four places, and leaves the others alone:

    world   the road, the look, the car, before the episode begins    (envs only)
    period  how long the next action is held, and what is told of it  (envs and recordings)
    frame   what the driver sees                                      (envs and recordings)
    action  what the car is told to do                                (envs only)

The same effects act on a running env (`envs.perturbations.wrapper`) and on recorded frames
(`envs.perturbations.recorded`).
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.lane_keeping_config import LaneKeepingConfig
from envs.looks import Look

Frame = NDArray[np.uint8]
"""uint8 `[H, W, 3]` RGB."""

SEVERITIES = (1, 2, 3, 4, 5)
"""From what a driver should hardly notice to what a person would find hard."""


@dataclass(frozen=True)
class Clip:
    """What is known about the pictures of an episode.

    Attributes:
        height: rows of a frame, pixels.
        width: columns of a frame, pixels.
        period_s: nominal time between two frames, s.
        fov_rad: horizontal field of view, rad; a guess where the camera is unknown.
    """

    height: int
    width: int
    period_s: float
    fov_rad: float = 1.6


@dataclass(frozen=True)
class Moment:
    """What is known when a frame is taken.

    Attributes:
        time_s: since the start of the episode.
        elapsed: true time since the frame before, in nominal periods.
        speed_mps: of the car; a guess for recordings that lack it.
        yaw_rate_radps: of the car, positive to the left; 0 where it is unknown.
        gradient: for attacks: maps a frame, float32 `[H, W, 3]` in [0, 255], to the gradient of the steering that the
            driver would give now, with the state that it has now, in the frame's shape; None where there is no policy.
    """

    time_s: float
    elapsed: float = 1.0
    speed_mps: float = 1.5
    yaw_rate_radps: float = 0.0
    gradient: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class World:
    """What an episode is made from, before it begins.

    Attributes:
        config: of the env.
        edit_look: what is done to the look that the env draws.
    """

    config: LaneKeepingConfig
    edit_look: Callable[[Look], Look] | None = None


class Effect:
    """A perturbation at work in one episode. This one changes nothing; each hook that is replaced changes something."""

    def world(self, world: World) -> World:
        """Return what the episode is to be made from."""
        return world

    def periods(self) -> float:
        """Return how many nominal periods the next action is held, > 0; called once before each step."""
        return 1.0

    def told(self, elapsed: float) -> float:
        """Return what the driver is told of the true `elapsed`, both in nominal periods."""
        return elapsed

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        """Return what the driver sees; called once for each frame, in order. The given frame is left as it is."""
        return frame

    def action(self, action: NDArray[np.float32], held: float) -> NDArray[np.float32]:
        """Return what the car is told to do, float32 `[M]` in [−1, 1]; `held` is for how many periods."""
        return action


@dataclass(frozen=True)
class Perturbation(ABC):
    """One way in which the world differs from what a driver was trained on."""

    family: ClassVar[str]
    name: ClassVar[str]
    frames: ClassVar[bool] = True
    """Whether it can be applied to recorded frames; where not, it needs a world that answers."""
    attacks: ClassVar[bool] = False
    """Whether it needs the driver's gradient."""

    severity: int = 3
    """1 to 5."""

    def __post_init__(self) -> None:
        """Check the severity."""
        if self.severity not in SEVERITIES:
            raise ValueError(f"{self.name} has the severities 1 to 5, got {self.severity}.")

    @property
    @abstractmethod
    def dose(self) -> float:
        """The number behind the severity, in the unit that the class names; grows or falls with it, never both."""

    @abstractmethod
    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode.

        Args:
            generator: owned by the effect from here on.
            clip: what the pictures are like.
        """

    def begin(self, seed: int, clip: Clip) -> Effect:
        """Start the episode with that seed: the same seed, name and severity always give the same effect."""
        return self.start(np.random.default_rng([seed, zlib.crc32(self.name.encode()), self.severity]), clip)

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"
