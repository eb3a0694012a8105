"""Perturbations on a running env.

env = PerturbedEnv(gymnasium.make(envs.LANE_KEEPING), "fog:3+latency:2")
observation, info = env.reset(seed=7)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import checked_action
from envs.camera.info import CameraInfo
from envs.frames import FrameKind
from envs.lane_keeping.env import LaneKeepingEnv
from envs.lane_keeping.scenario import Scenario
from envs.perturbations.composition import Composition, Running
from envs.perturbations.perturbation import Effect, Moment, Perturbation
from envs.perturbations.registry import as_composition
from envs.protocol import CameraCar

PERIOD_S = 0.05
"""Nominal period of envs that do not name one, s."""

StepGradient = Callable[[NDArray[np.float32], float, bool, int], NDArray[np.float32]]
"""Maps a frame, float32 `[H, W, 3]` in [0, 255], the elapsed time reported with it, whether it begins an episode, and a
number of steps to the gradient of the driver's mean steering in those steps with regard to the frame."""


class PerturbedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An env with a camera, under one or several perturbations.

    Everything that the perturbations draw follows from `seed` and the seed of the episode, so drivers, and clean and
    perturbed drives, can be compared road by road; without a seed at `reset`, episode follows episode in a sequence of
    its own. The env's own draws stay as they are. Info gains `perturbation`, in the registry's syntax ("" for none),
    and `perturbation_seed`, with which `Composition.begin` gives the same effects.

    Attributes:
        composition: what acts, from the next reset on; may be set.
        gradient: what attacks ask; set it before `reset`. None where there is no policy.
        perturbation_seed: of the effects of this episode.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], perturbation: str | Perturbation | Composition = "", seed: int = 0
    ):
        """Wrap an env.

        Args:
            env: with an observation `Dict(camera, elapsed)`: LaneKeeping, where all can be perturbed; an env behind
                `DrivingEnv`, where all but road and car can; or any other, where frames and actions can. Frames are
                uint8 or floats, channels last or first, grey or RGB (`envs.frames`), and stay so.
            perturbation: in any form that the registry reads.
            seed: of the perturbations, together with that of each episode.

        Raises:
            ValueError: if the env has no camera, its frames are of a kind that is not accepted, or it cannot do what
                a perturbation needs.
        """
        super().__init__(env)
        space = env.observation_space
        if not (isinstance(space, spaces.Dict) and {"camera", "elapsed"} <= set(space.spaces)):
            raise ValueError(
                "perturbations need an env with an observation Dict(camera, elapsed), such as LaneKeeping; "
                f"got {type(space).__name__}. DrivingEnv gives one to any env with a picture."
            )
        self._kind = FrameKind.of_space(space["camera"])
        self.composition = as_composition(perturbation)
        self.gradient: StepGradient | None = None
        self._seed = seed
        self._draws = np.random.default_rng([seed, 0])
        dtype = env.action_space.dtype
        self._whole = dtype if dtype is not None and np.issubdtype(dtype, np.integer) else None
        inside = env.unwrapped
        self._car = inside if isinstance(inside, CameraCar) else None
        self._lane = inside if isinstance(inside, LaneKeepingEnv) else None
        self._check()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; a seed fixes the perturbations too."""
        self._check()
        if seed is not None:
            self._draws = np.random.default_rng([self._seed, seed])
        self.perturbation_seed = int(self._draws.integers(2**62))
        composition = self.composition
        self._moves = composition.changes_time
        scenario: Scenario | None = None
        begun: dict[str, Effect] = {}
        if self._lane is not None:
            scenario = (options or {}).get("scenario") or Scenario(self._lane.config)
            begun = composition.begin_scenario(self.perturbation_seed, self.camera)
            if begun:
                scenario = Running(list(begun.values())).scenario(scenario)
                options = {**(options or {}), "scenario": scenario}
        observation, info = self.env.reset(seed=seed, options=options)
        self._running = composition.begin(self.perturbation_seed, self.camera, begun)
        self._acting, self._scenario, self._begun = composition, scenario, begun
        self._time_s = 0.0  # since the episode began
        if scenario is not None:
            self._running.read_scenario(scenario, begun)
        return self._see(observation, info, True), self._note(info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Drive until the next frame."""
        running = self._running
        if running.effects:
            checked_action(action, np.size(action))
        held = running.periods()
        if self._moves and self._car is not None and held != 1.0:
            self._car.next_periods = held
        done = running.action(action, held)
        if done is not action and self._whole is not None:
            done = np.rint(done).astype(self._whole)  # a Box of whole numbers takes no others
        observation, reward, terminated, truncated, info = self.env.step(done)
        return self._see(observation, info, False), reward, terminated, truncated, self._note(info)

    def change(self, perturbation: str | Perturbation | Composition) -> None:
        """Let others act from the next step on, in the middle of an episode.

        What acts already at the same severity stays as it is, and what is new begins as if the episode did. What
        changes the road or the car waits for the next reset, and acts until then where it is left out.

        Args:
            perturbation: in any form that the registry reads.

        Raises:
            ValueError: if the env cannot do what a perturbation needs; the ones before act on.
        """
        before, self.composition = self.composition, as_composition(perturbation)
        try:
            self._check()
        except ValueError:
            self.composition = before
            raise
        running = zip(self._acting.parts, self._running.effects, strict=True)
        kept = {part: effect for part, effect in running if part in self.composition.parts or part.name in self._begun}
        parts = dict.fromkeys((*self.composition.parts, *kept))
        acting = [part for part in parts if part in kept or not part.kind.changes_scenario]
        effects = {part.name: kept.get(part) or part.begin(self.perturbation_seed, self.camera) for part in acting}
        self._acting = Composition(tuple(acting))
        self._running = self._acting.begin(self.perturbation_seed, self.camera, effects)
        self._moves = self._acting.changes_time
        if self._scenario is not None:
            self._running.read_scenario(self._scenario, self._begun)

    @property
    def acting(self) -> Composition:
        """What acts in this episode, as it is now."""
        return self._acting

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged in this episode."""
        return self._running.mirrors

    @property
    def camera(self) -> CameraInfo:
        """What is known of the camera; a guess before the first reset."""
        if self._car is not None:
            return self._car.camera_info()
        return CameraInfo(*self._kind.size, float(getattr(self.env.unwrapped, "period_s", PERIOD_S)))

    def render(self) -> Any:
        """The env's picture, with the frame that the driver gets where the env can show it."""
        if self._car is not None and self._car.render_mode is not None:
            return self._car.picture(self._frame)
        return self.env.render()

    def _check(self) -> None:
        self.composition.check_frames(self._kind)
        if self.composition.changes_scenario and self._lane is None:
            raise ValueError(
                f"{self.composition} changes the road or the car, which needs LaneKeeping; here, frames, time and "
                "actions alone can be perturbed."
            )
        if self.composition.changes_time and self._car is None:
            raise ValueError(
                f"{self.composition} changes the time, which needs LaneKeeping or DrivingEnv; here, frames and actions "
                "alone can be perturbed."
            )

    def _see(self, observation: dict[str, Any], info: dict[str, Any], start: bool) -> dict[str, Any]:
        """The observation as the driver gets it."""
        elapsed = float(observation["elapsed"][0])
        if "time_s" in info:
            self._time_s = float(info["time_s"])
        elif not start:  # an env that tells no time: that of its frames, or nothing would move, freeze or arrive
            self._time_s += elapsed * self.camera.period_s
        if not self._acting.parts:
            self._frame: NDArray[Any] = observation["camera"]
            return observation
        moment = Moment(self._time_s, elapsed)
        if self._car is not None:
            moment = Moment(moment.time_s, moment.elapsed, *self._car.motion())
        gradient = self.gradient
        asked = None if gradient is None else lambda frame, at, steps: gradient(frame, at, start, steps)
        self._frame, elapsed = self._running.see(observation["camera"], moment, asked, self._kind)
        return {**observation, "camera": self._frame, "elapsed": np.array([elapsed], np.float32)}

    def _note(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "perturbation": str(self._acting), "perturbation_seed": self.perturbation_seed}
