"""What a perturbation is: a family, a name, five severities, and what it does in one episode.

A `Perturbation` is a value: nothing in it changes. Its `begin` starts an episode and returns an `Effect`, which owns a
generator and whatever must stay coherent over the episode: the dirt on the lens, the drift of the rain, the delay line.
An effect touches the episode in up to five places, and leaves the others alone:

    world    the road, the look, the car, before the episode begins    (envs only)
    periods  how long the next action is held                          (envs and recordings)
    action   what the car is told to do                                (envs only)
    frame    what the driver sees                                      (envs and recordings)
    told     how much time the driver is told has passed               (envs and recordings)

The same effects act on a running env (`envs.perturbations.env`) and on recorded frames
(`envs.perturbations.recording`).
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.lane_keeping.episode import World as World

Frame = NDArray[np.uint8]
"""uint8 `[H, W, 3]` RGB."""

SEVERITIES = (1, 2, 3, 4, 5)
"""From what a driver should hardly notice to what a person would find hard."""
LARGE_ROWS = 100
"""Frames with more rows than this are large: the constants that were made for 224 pixels hold there, and below it those
that were made for 64."""


@dataclass(frozen=True)
class Clip:
    """What is known about the pictures of an episode.

    Attributes:
        height: rows of a frame, pixels.
        width: columns of a frame, pixels.
        period_s: nominal time between two frames, s.
        fov_rad: horizontal field of view of the pinhole with the same resolution in the middle, rad; a guess where the
            camera is unknown.
        horizon: height of the horizon in the frame, 0 at the top, 1 at the bottom; a guess where it is unknown.
        camera_m: height of the camera above the road, m; a guess where it is unknown.
    """

    height: int
    width: int
    period_s: float
    fov_rad: float = 1.6
    horizon: float = 0.35
    camera_m: float = 0.2


@dataclass(frozen=True)
class Moment:
    """What is known when a frame is taken.

    Attributes:
        time_s: since the start of the episode.
        elapsed: true time since the frame before, in nominal periods.
        speed_mps: of the car; a guess for recordings that lack it.
        yaw_rate_radps: of the car, positive to the left; 0 where it is unknown.
        age: how long ago the picture at hand was taken, in nominal periods; another effect may have held it back.
        gradient: for attacks: maps a frame, float32 `[H, W, 3]` in [0, 255], and a number of steps to the gradient, in
            the frame's shape, of the mean steering that the driver would give in so many steps from now on, with the
            state that it has now, if it went on seeing that frame; None where there is no policy.
    """

    time_s: float
    elapsed: float = 1.0
    speed_mps: float = 1.5
    yaw_rate_radps: float = 0.0
    age: float = 0.0
    gradient: Callable[[NDArray[np.float32], int], NDArray[np.float32]] | None = None


class Effect:
    """A perturbation at work in one episode. This one changes nothing; each hook that is replaced changes something.

    In each step of an episode the hooks are called in this order: `periods`, `action`, then, for the frame that comes
    of it, `frame` and `told`. The first frame has no step before it.
    """

    mirrors = False
    """Whether left and right are exchanged, so that what was steered to the left is to be steered to the right."""
    hides = False
    """Whether the driver is told that every frame is on time, whatever else happens to the time."""
    age = 0.0
    """By how many nominal periods the picture that `frame` returned last is older than the one it was given."""

    def world(self, world: World) -> World:
        """Return what the episode is to be made from."""
        return world

    def periods(self) -> float:
        """Return how many nominal periods the next action is held, in (0, 10]; called once before each step."""
        return 1.0

    def action(self, action: NDArray[np.float32], held: float) -> NDArray[np.float32]:
        """Return what the car is told to do, float32 `[M]` in [−1, 1]; `held` is for how many periods."""
        return action

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        """Return what the driver sees; called once for each frame, in order. The given frame is left as it is."""
        return frame

    def told(self, elapsed: float) -> float:
        """Return what the driver is told of the `elapsed` that it would be told otherwise, both in nominal periods.

        What is told must be positive.
        """
        return elapsed


@dataclass(frozen=True)
class Perturbation(ABC):
    """One way in which the world differs from what a driver was trained on.

    The class names its family, its name, the five doses and their unit; `start` makes the effect.
    """

    family: ClassVar[str]
    name: ClassVar[str]
    unit: ClassVar[str]
    """What the dose counts."""
    doses: ClassVar[tuple[float, float, float, float, float]]
    """The number behind each severity; grows or falls with it, never both."""
    large_doses: ClassVar[tuple[float, float, float, float, float] | None] = None
    """The same for frames of more than `LARGE_ROWS` rows, where the same dose is another number there."""
    frames: ClassVar[bool] = True
    """Whether it can be applied to recorded frames; where not, it needs a world that answers."""
    attacks: ClassVar[bool] = False
    """Whether it needs the driver's gradient."""
    random: ClassVar[bool] = True
    """Whether another seed gives another effect."""
    draws_of: ClassVar[str] = ""
    """Name of the perturbation whose draws it repeats, so that the two compare drive by drive; its own when empty."""
    changes_world: ClassVar[bool] = False
    """Whether the road, the look or the car are others; needs LaneKeeping."""
    changes_time: ClassVar[bool] = False
    """Whether actions are held for other than one period; needs LaneKeeping or a recording."""

    severity: int = 3
    """1 to 5."""

    def __post_init__(self) -> None:
        """Check the severity."""
        if self.severity not in SEVERITIES:
            raise ValueError(f"{self.name} has the severities 1 to 5, got {self.severity}.")

    @property
    def dose(self) -> float:
        """The number behind the severity, in `unit`, for small frames."""
        return self.doses[self.severity - 1]

    def dose_at(self, height: int) -> float:
        """The number behind the severity for frames of so many rows."""
        doses = self.doses if self.large_doses is None or height <= LARGE_ROWS else self.large_doses
        return doses[self.severity - 1]

    @abstractmethod
    def start(self, generator: np.random.Generator, clip: Clip) -> Effect:
        """Start an episode.

        Args:
            generator: owned by the effect from here on.
            clip: what the pictures are like.
        """

    def begin(self, seed: int, clip: Clip) -> Effect:
        """Start the episode with that seed: the same seed, name and severity always give the same effect."""
        name = self.draws_of or self.name
        return self.start(np.random.default_rng([seed, zlib.crc32(name.encode()), self.severity]), clip)

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"
