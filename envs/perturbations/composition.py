"""Several perturbations at once, in a fixed order.

A frame passes through them from the first to the last, an action from the last to the first: what is named last sits
nearest to the driver. Times for which an action is held are multiplied.

    running = Composition((fog(3), latency(2))).begin(seed=7, camera=CameraInfo(48, 96, 0.05))
    frame, elapsed = running.see(frame, Moment(time_s=0.0))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.frames import FrameKind
from envs.lane_keeping.scenario import Scenario
from envs.perturbations.perturbation import Action, Effect, Moment, Perturbation

LONGEST = 10.0
"""Nominal periods that an action is held at most; also the largest elapsed time of an observation."""
SHORTEST = 0.01
"""Smallest elapsed time that is reported, nominal periods: time does not stand still for a driver."""

Gradient = Callable[[NDArray[np.float32], float, int], NDArray[np.float32]]
"""Maps a frame, float32 `[H, W, 3]` in [0, 255], the elapsed time reported with it, and a number of steps to the
gradient of the driver's mean steering in those steps with regard to the frame."""


@dataclass(frozen=True)
class Composition:
    """Perturbations that act together; an empty one leaves everything as it is."""

    parts: tuple[Perturbation, ...] = ()
    """From the road to the driver; each name once."""

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a perturbation can act once at a time; {', '.join(twice)} was given twice in {self}.")

    @property
    def frames(self) -> bool:
        """Whether all of it can be applied to recorded frames."""
        return all(part.kind.frames for part in self.parts)

    @property
    def attacks(self) -> bool:
        """Whether any of it needs the driver's gradient."""
        return any(part.kind.attacks for part in self.parts)

    def check_frames(self, kind: FrameKind) -> None:
        """Check that all of it can change frames of a kind.

        Raises:
            ValueError: if the frames are grey and a part changes nothing but colours.
        """
        colours = [part.name for part in self.parts if part.kind.needs_colour]
        if kind.grey and colours:
            raise ValueError(f"{', '.join(colours)} changes colours alone, and these frames are grey: leave it out.")

    @property
    def changes_scenario(self) -> bool:
        """Whether any of it changes the road, the look or the car."""
        return any(part.kind.changes_scenario for part in self.parts)

    @property
    def changes_time(self) -> bool:
        """Whether any of it holds actions for other than one period."""
        return any(part.kind.changes_time for part in self.parts)

    def begin_scenario(self, seed: int, camera: CameraInfo) -> dict[str, Effect]:
        """Start, by name, what must act before the episode is drawn; of the camera only the size need be known yet."""
        return {part.name: part.begin(seed, camera) for part in self.parts if part.kind.changes_scenario}

    def begin(self, seed: int, camera: CameraInfo, begun: Mapping[str, Effect] | None = None) -> Running:
        """Start the episode with that seed.

        Args:
            seed: of the episode.
            camera: what is known of the frames.
            begun: by name, effects of that seed that have begun already.
        """
        begun = begun or {}
        return Running([begun.get(part.name) or part.begin(seed, camera) for part in self.parts])

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)


class Running:
    """The effects of a composition in one episode."""

    def __init__(self, effects: list[Effect]):
        self.effects = effects
        self._kind: FrameKind | None = None
        self._hides = any(effect.hides for effect in effects)

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged in this episode."""
        return sum(effect.mirrors for effect in self.effects) % 2 == 1

    def scenario(self, scenario: Scenario) -> Scenario:
        """What the episode is to be made from; the given scenario itself where nothing changes."""
        for effect in self.effects:
            scenario = effect.scenario(scenario)
            if not isinstance(scenario, Scenario):
                raise ValueError(f"a perturbation made the scenario {scenario!r:.60}, expected a Scenario.")
        return scenario

    def read_scenario(self, scenario: Scenario, changed_by: Mapping[str, Effect]) -> None:
        """Show the scenario of an episode to the effects that were not asked to change it.

        Raises:
            ValueError: if one of them changes it.
        """
        for effect in self.effects:
            if all(effect is not other for other in changed_by.values()) and effect.scenario(scenario) is not scenario:
                raise ValueError(f"{type(effect).__name__} changes the scenario and was not declared to.")

    def periods(self) -> float:
        """For how many nominal periods the next action is held, in [`SHORTEST`, `LONGEST`].

        Raises:
            ValueError: if an effect gives no positive number.
        """
        held = 1.0
        for effect in self.effects:
            held *= _positive(effect.periods(), "holds the next action for", 5e-324)
        return min(max(held, SHORTEST), LONGEST)

    def action(self, action: Action, held: float) -> Action:
        """What the car is commanded to do; see `Effect.action`.

        Raises:
            ValueError: if an effect changes the shape of the action, or makes it NaN or infinite.
        """
        if not self.effects:
            return action
        changed = action
        for effect in reversed(self.effects):
            changed = effect.action(changed, held)
        if changed is not action and (np.shape(changed) != np.shape(action) or not np.isfinite(changed).all()):
            raise ValueError(f"a perturbation made the action {changed} out of {action}.")
        return changed

    def see(
        self, frame: NDArray[Any], moment: Moment, gradient: Gradient | None = None, kind: FrameKind | None = None
    ) -> tuple[NDArray[Any], float]:
        """What the driver sees, and the elapsed time that is reported with it.

        Args:
            frame: of any kind that `envs.frames` accepts, left as it is.
            moment: what is known of it.
            gradient: of the driver, for attacks; always asked about uint8 `[H, W, 3]` as floats.
            kind: of the frames; that of the first frame when None, floats lying in [0, 1].

        Returns:
            A frame of the same kind, and the elapsed time in nominal periods.

        Raises:
            ValueError: if the frame is of another kind, the clock is not a finite number, or an effect changes the
                size or type of the frame, or reports NaN.
        """
        if self._kind is None:
            self._kind = kind or FrameKind.of_frame(frame)
        if not self.effects:
            self._kind.check(frame)
            return frame, moment.elapsed
        given = frame
        frame = self._kind.to_rgb(given)
        if not (math.isfinite(moment.time_s) and math.isfinite(moment.elapsed)):
            raise ValueError(f"the time of a frame must be finite, got {moment.time_s} s, {moment.elapsed} periods.")
        shape, elapsed = frame.shape, moment.elapsed
        for effect in self.effects:
            if gradient is not None:
                moment = replace(moment, gradient=_at(gradient, elapsed))
            frame = effect.frame(frame, moment)
            if not isinstance(frame, np.ndarray):
                raise ValueError(f"a perturbation made a frame {frame!r:.60} out of uint8 {shape}.")
            reported = _positive(effect.reported_elapsed(elapsed), "reports that a frame comes after", 0.0)
            elapsed = elapsed if reported == elapsed else min(max(reported, SHORTEST), LONGEST)
            if effect.mirrors:
                moment = replace(moment, yaw_rate_radps=-moment.yaw_rate_radps)
            if effect.age:
                moment = replace(moment, age=moment.age + effect.age)
        if frame.shape != shape or frame.dtype != np.uint8:
            raise ValueError(
                f"a perturbation made a frame {frame.dtype} {frame.shape} with elapsed {elapsed} out of uint8 {shape}."
            )
        return self._kind.restore(frame, given), 1.0 if self._hides else elapsed


def _positive(value: Any, does: str, least: float) -> float:
    """Check a number of periods that an effect gives.

    Raises:
        ValueError: if it is none that is finite and at least so much.
    """
    try:
        right = least <= value < math.inf
    except (TypeError, ValueError):
        right = False
    if not right:
        shown = "NaN" if isinstance(value, float) and value != value else f"{value!r:.60}"
        raise ValueError(f"a perturbation {does} {shown} periods; that must be a positive number.")
    return float(value)


def _at(gradient: Gradient, elapsed: float) -> Callable[[NDArray[np.float32], int], NDArray[np.float32]]:
    return lambda frame, steps: gradient(frame, elapsed, steps)
