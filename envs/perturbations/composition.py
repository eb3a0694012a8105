"""Several perturbations at once, in a fixed order.

A frame passes through them from the first to the last, an action from the last to the first: what is named last sits
nearest to the driver. Times for which an action is held are multiplied.

    running = Composition((Fog(3), Latency(2))).begin(seed=7, clip=Clip(48, 96, 0.05))
    frame, elapsed = running.see(frame, Moment(time_s=0.0))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envs.lane_keeping.episode import World
from envs.perturbations.perturbation import Clip, Effect, Frame, Moment, Perturbation

LONGEST = 10.0
"""Nominal periods that an action is held at most; also what an env's observation can tell."""
SHORTEST = 0.01
"""Nominal periods that are told at least: time does not stand still for a driver."""

Gradient = Callable[[NDArray[np.float32], float, int], NDArray[np.float32]]
"""Maps a frame, float32 `[H, W, 3]` in [0, 255], the elapsed time that the driver is told with it, and a number of
steps to the gradient of its mean steering in those steps with regard to the frame."""


@dataclass(frozen=True)
class Composition:
    """Perturbations that act together; an empty one leaves everything as it is."""

    parts: tuple[Perturbation, ...] = ()
    """From the road to the driver; each name once."""

    def __post_init__(self) -> None:
        """Check the names."""
        names = [part.name for part in self.parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a perturbation can act once at a time; {', '.join(twice)} was given twice in {self}.")

    @property
    def frames(self) -> bool:
        """Whether all of it can be applied to recorded frames."""
        return all(part.frames for part in self.parts)

    @property
    def attacks(self) -> bool:
        """Whether any of it needs the driver's gradient."""
        return any(part.attacks for part in self.parts)

    @property
    def changes_world(self) -> bool:
        """Whether any of it changes the road, the look or the car."""
        return any(part.changes_world for part in self.parts)

    @property
    def changes_time(self) -> bool:
        """Whether any of it holds actions for other than one period."""
        return any(part.changes_time for part in self.parts)

    def begin(self, seed: int, clip: Clip) -> Running:
        """Start the episode with that seed."""
        return Running([part.begin(seed, clip) for part in self.parts], clip)

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)


class Running:
    """The effects of a composition in one episode."""

    def __init__(self, effects: list[Effect], clip: Clip):
        """Take effects that have just begun."""
        self.effects, self.clip = effects, clip
        self._hides = any(effect.hides for effect in effects)

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged in this episode."""
        return sum(effect.mirrors for effect in self.effects) % 2 == 1

    def world(self, world: World) -> World:
        """Return what the episode is to be made from; the given world itself where nothing changes."""
        for effect in self.effects:
            world = effect.world(world)
        return world

    def periods(self) -> float:
        """Return for how many nominal periods the next action is held."""
        held = 1.0
        for effect in self.effects:
            held *= effect.periods()
        return min(max(held, SHORTEST), LONGEST)

    def action(self, action: NDArray[np.float32], held: float) -> NDArray[np.float32]:
        """Return what the car is told to do; see `Effect.action`."""
        for effect in reversed(self.effects):
            action = effect.action(action, held)
        return action

    def see(self, frame: Frame, moment: Moment, gradient: Gradient | None = None) -> tuple[Frame, float]:
        """Return what the driver sees and the elapsed time that it is told.

        Args:
            frame: uint8 `[H, W, 3]`, left as it is.
            moment: what is known of it.
            gradient: of the driver, for attacks.
        """
        told = moment.elapsed
        for effect in self.effects:
            if gradient is not None:
                moment = replace(moment, gradient=_at(gradient, told))
            frame = effect.frame(frame, moment)
            said = effect.told(told)
            told = told if said == told else min(max(said, SHORTEST), LONGEST)
            if effect.mirrors:
                moment = replace(moment, yaw_rate_radps=-moment.yaw_rate_radps)
            if effect.age:
                moment = replace(moment, age=moment.age + effect.age)
        return frame, 1.0 if self._hides else told


def _at(gradient: Gradient, elapsed: float) -> Callable[[NDArray[np.float32], int], NDArray[np.float32]]:
    return lambda frame, steps: gradient(frame, elapsed, steps)
