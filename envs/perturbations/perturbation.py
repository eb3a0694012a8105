"""What a perturbation is: a family, a name, five severities, and what it does in one episode.

A kind of perturbation is declared by a decorated function that starts an episode:

    @declare_perturbation("light", unit="share g of the light", doses=(0.6, 0.35, 0.2, 0.1, 0.05), random=False)
    def darkness(generator, camera, dose):
        '''x' = g x: an exposure that is too short.'''
        return StillFrame(lambda frame: (dose * frame).astype(np.uint8))

    darkness(4)  # the perturbation darkness:4

A `Perturbation` is a kind at a severity: a value, nothing in it changes. Its `begin` starts an episode and returns an
`Effect`, which owns a generator and whatever must stay coherent over the episode: the dirt on the lens, the drift of
the rain, the delay line. An effect touches the episode in up to five places, and leaves the others alone:

    scenario          the road, the look, the car, before the episode begins    (LaneKeeping only)
    periods           how long the next action is held                          (envs and recordings)
    action            what the car is commanded to do                           (envs only)
    frame             what the driver sees                                      (envs and recordings)
    reported_elapsed  the elapsed time that the observation reports             (envs and recordings)

The same effects act on a running env (`envs.perturbations.env`) and on recorded frames
(`envs.perturbations.recording`).
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.foreign_code import ForeignCodeError, foreign_code
from envs.lane_keeping.scenario import Scenario

Frame = NDArray[np.uint8]
"""uint8 `[H, W, 3]` RGB."""
Action = NDArray[np.float32]
"""float32 `[M]` in [−1, 1]; the first one steers, positive to the left."""
Doses = tuple[float, float, float, float, float]

SEVERITIES = (1, 2, 3, 4, 5)
"""From what a driver should hardly notice to what a person would find hard."""
LARGE_ROWS = 100
"""Frames with more rows than this are large: the constants that were made for 224 pixels hold there, and below it those
that were made for 64."""


@dataclass(frozen=True)
class Moment:
    """What is known of the car and the clock when a frame is perturbed.

    Attributes:
        time_s: since the episode began.
        elapsed: true time since the previous frame, in nominal periods.
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
    of it, `frame` and `reported_elapsed`. The first frame has no step before it.
    """

    mirrors = False
    """Whether left and right are exchanged, so that what was steered to the left is to be steered to the right."""
    hides = False
    """Whether every frame is reported as on time, whatever else happens to the time."""
    age = 0.0
    """By how many nominal periods the picture that `frame` returned last is older than the one it was given."""

    def scenario(self, scenario: Scenario) -> Scenario:
        """Change what the episode is made from."""
        return scenario

    def periods(self) -> float:
        """Draw how many nominal periods the next action is held, in (0, 10]; called once before each step."""
        return 1.0

    def action(self, action: Action, held: float) -> Action:
        """Change the command on its way to the car; `held` is for how many periods it will act."""
        return action

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        """Change what the driver sees; called once for each frame, in order. The given frame is left as it is."""
        return frame

    def reported_elapsed(self, elapsed: float) -> float:
        """Change the elapsed time that the observation reports, in nominal periods; must stay positive."""
        return elapsed


class HiddenTime(Effect):
    """Another effect, while every frame is reported as on time: what a driver without a clock believes anyway."""

    hides = True

    def __init__(self, effect: Effect):
        self._effect = effect

    def periods(self) -> float:
        """Hold actions as the other effect does."""
        return self._effect.periods()

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        """Show what the other effect shows."""
        shown = self._effect.frame(frame, moment)
        self.age = self._effect.age
        return shown

    def reported_elapsed(self, elapsed: float) -> float:
        """Report 1, always."""
        return 1.0


Start = Callable[[np.random.Generator, CameraInfo, float], Effect]
"""Starts an episode from a generator, which the effect owns from here on, the camera, and the dose."""


@dataclass(frozen=True)
class PerturbationKind:
    """One way in which the world differs from what a driver was trained on; calling it with a severity makes it."""

    family: str
    """What it belongs to: a row of tables, a group in suites."""
    name: str
    """What it is called in `name:severity`."""
    unit: str
    """What the dose counts."""
    doses: Doses
    """The number behind each severity; grows or falls with it, never both."""
    start: Start
    """The declaring function."""
    large_doses: Doses | None = None
    """The same for frames of more than `LARGE_ROWS` rows, where the same dose is another number there."""
    frames: bool = True
    """Whether it can be applied to recorded frames; where not, it needs an env that answers."""
    needs_colour: bool = False
    """Whether it does nothing to grey pictures, which are therefore refused."""
    attacks: bool = False
    """Whether it needs the driver's gradient."""
    random: bool = True
    """Whether another seed gives another effect."""
    changes_scenario: bool = False
    """Whether the road, the look or the car are others; needs LaneKeeping."""
    changes_time: bool = False
    """Whether actions are held for other than one period; needs an env that can hold them, or a recording."""
    has_hidden_twin: bool = False
    """Whether there is a second kind, `name_hidden`, with the same draws, that reports every frame as on time."""
    draws_of: str = ""
    """Name of the kind whose draws it repeats, so that the two compare drive by drive; its own when empty."""

    def __post_init__(self) -> None:
        about = self.start.__doc__
        if self.draws_of:
            about = f"As `{self.draws_of}`, but every frame is reported as on time."
        object.__setattr__(self, "__doc__", about)

    def __call__(self, severity: int = 3) -> Perturbation:
        """Make the perturbation of a severity, 1 to 5."""
        return Perturbation(self, severity)

    def hidden_twin(self) -> PerturbationKind:
        """The kind with the same draws that reports every frame as on time."""
        return replace(self, name=f"{self.name}_hidden", draws_of=self.name, has_hidden_twin=False)

    def __reduce__(self) -> tuple[Callable[[str, str, bool], PerturbationKind], tuple[str, str, bool]]:
        return _declared, (self.start.__module__, self.start.__qualname__, bool(self.draws_of))


def _declared(module: str, function: str, hidden: bool) -> PerturbationKind:
    """Find the kind that a module declares under that name; how kinds are unpickled."""
    kind = getattr(importlib.import_module(module), function)
    return kind.hidden_twin() if hidden else kind


def declare_perturbation(
    family: str,
    *,
    unit: str,
    doses: Doses,
    large_doses: Doses | None = None,
    frames: bool = True,
    needs_colour: bool = False,
    attacks: bool = False,
    random: bool = True,
    changes_scenario: bool = False,
    changes_time: bool = False,
    has_hidden_twin: bool = False,
) -> Callable[[Start], PerturbationKind]:
    """Declare a kind of perturbation from the function that starts it; the function's name is the kind's.

    The arguments are the attributes of `PerturbationKind`.
    """

    def declare(start: Start) -> PerturbationKind:
        return PerturbationKind(
            family,
            start.__name__,
            unit,
            doses,
            start,
            large_doses,
            frames,
            needs_colour,
            attacks,
            random,
            changes_scenario,
            changes_time,
            has_hidden_twin,
        )

    return declare


@dataclass(frozen=True)
class Perturbation:
    """A kind at a severity."""

    kind: PerturbationKind
    """What goes wrong."""
    severity: int = 3
    """How much: 1 to 5."""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"{self.name} has the severities 1 to 5, got {self.severity}.")

    @property
    def name(self) -> str:
        """Name of the kind."""
        return self.kind.name

    @property
    def family(self) -> str:
        """Family of the kind."""
        return self.kind.family

    @property
    def attacks(self) -> bool:
        """Whether it needs the driver's gradient."""
        return self.kind.attacks

    @property
    def dose(self) -> float:
        """The number behind the severity, in the kind's unit, for small frames."""
        return self.kind.doses[self.severity - 1]

    def dose_at(self, height: int) -> float:
        """The number behind the severity for frames of so many rows."""
        kind = self.kind
        doses = kind.doses if kind.large_doses is None or height <= LARGE_ROWS else kind.large_doses
        return doses[self.severity - 1]

    def begin(self, seed: int, camera: CameraInfo) -> Effect:
        """Start the episode with that seed: the same seed, name and severity always give the same effect."""
        name = self.kind.draws_of or self.name
        generator = np.random.default_rng([seed, zlib.crc32(name.encode()), self.severity])
        with foreign_code(f"starting the perturbation {self.name}, as start(generator, camera, dose),"):
            effect = self.kind.start(generator, camera, self.dose_at(camera.height))
        if not isinstance(effect, Effect):
            raise ForeignCodeError(
                f"the perturbation {self.name} started with a {type(effect).__name__}; its function must return an "
                "Effect (envs.perturbations.perturbation)."
            )
        return HiddenTime(effect) if self.kind.draws_of else effect

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"
