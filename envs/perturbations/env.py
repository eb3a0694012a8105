"""Perturbations on a running env.

env = PerturbedEnv(gymnasium.make(envs.LANE_KEEPING), "fog:3+latency:2")
observation, info = env.reset(seed=7)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.camera.lens import CameraParams
from envs.lane_keeping.env import LaneKeepingEnv
from envs.lane_keeping.episode import World
from envs.perturbations.composition import Composition, Running
from envs.perturbations.perturbation import Clip, Frame, Moment, Perturbation
from envs.perturbations.registry import as_composition

PERIOD_S = 0.05
"""Nominal period of envs that do not name one, s."""

StepGradient = Callable[[NDArray[np.float32], float, bool, int], NDArray[np.float32]]
"""Maps a frame, float32 `[H, W, 3]` in [0, 255], the elapsed time told with it, whether it begins an episode, and a
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
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], perturbation: str | Perturbation | Composition = "", seed: int = 0
    ):
        """Wrap an env.

        Args:
            env: with an observation `Dict(camera, elapsed)`: LaneKeeping, or another where frames and actions alone
                are perturbed.
            perturbation: in any form that the registry reads.
            seed: of the perturbations, together with that of each episode.

        Raises:
            ValueError: if the env has no camera, or is not LaneKeeping and a perturbation needs it.
        """
        super().__init__(env)
        if not (isinstance(env.observation_space, spaces.Dict) and "camera" in env.observation_space.spaces):
            raise ValueError("perturbations need an env with a camera, such as LaneKeeping.")
        self.composition = as_composition(perturbation)
        self.gradient: StepGradient | None = None
        self._seed = seed
        self._draws = np.random.default_rng([seed, 0])
        inside = env.unwrapped
        self._inside = inside if isinstance(inside, LaneKeepingEnv) else None
        self._check()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; a seed fixes the perturbations too."""
        self._check()
        if seed is not None:
            self._draws = np.random.default_rng([self._seed, seed])
        self.episode_seed = int(self._draws.integers(2**62))
        composition, inside = self.composition, self._inside
        self._moves = composition.changes_time
        plain = (options or {}).get("world") or (World(inside.config) if inside is not None else None)
        if plain is not None and composition.changes_world:
            world = composition.begin(self.episode_seed, self.clip).world(plain)
            options = {**(options or {}), "world": world}
        observation, info = self.env.reset(seed=seed, options=options)
        # Once more, now that the camera is known: the same seed gives the same effects.
        self._running: Running = composition.begin(self.episode_seed, self.clip)
        if plain is not None:
            self._running.world(plain)
        return self._see(observation, info, True), self._note(info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Drive until the next frame."""
        held = self._running.periods()
        if self._moves and self._inside is not None and held != 1.0:
            self._inside.next_periods = held
        done = self._running.action(action, held)
        observation, reward, terminated, truncated, info = self.env.step(done)
        return self._see(observation, info, False), reward, terminated, truncated, self._note(info)

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged in this episode."""
        return self._running.mirrors

    def render(self) -> Any:
        """The env's picture, with the frame that the driver gets where the env can show it."""
        if self._inside is not None and self._inside.render_mode is not None:
            return self._inside.picture(self._frame)
        return self.env.render()

    def _check(self) -> None:
        if self._inside is None and (self.composition.changes_world or self.composition.changes_time):
            raise ValueError(
                f"{self.composition} changes the road, the car or the time, which needs LaneKeeping; here, frames and "
                "actions alone can be perturbed."
            )

    def _see(self, observation: dict[str, Any], info: dict[str, Any], start: bool) -> dict[str, Any]:
        """The observation as the driver gets it."""
        if not self.composition.parts:
            self._frame: Frame = observation["camera"]
            return observation
        moment = Moment(float(info.get("time_s", 0.0)), float(observation["elapsed"][0]))
        inside = self._inside
        if inside is not None:
            state = inside.vehicle_state
            turn = state.speed * math.tan(state.steer) / inside.vehicle_params.wheelbase_m
            moment = Moment(moment.time_s, moment.elapsed, state.speed, turn)
        gradient = self.gradient
        asked = None if gradient is None else lambda frame, at, steps: gradient(frame, at, start, steps)
        self._frame, told = self._running.see(observation["camera"], moment, asked)
        return {**observation, "camera": self._frame, "elapsed": np.array([told], np.float32)}

    def _note(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "perturbation": str(self.composition), "perturbation_seed": self.episode_seed}

    @property
    def clip(self) -> Clip:
        """What the pictures are like; the camera is a guess before the first reset."""
        space: Any = self.observation_space
        height, width, _ = space["camera"].shape
        inside = self._inside
        if inside is None:
            return Clip(height, width, float(getattr(self.env.unwrapped, "period_s", PERIOD_S)))
        if not inside.has_scene:
            return Clip(height, width, inside.config.period_s)
        return camera_clip(inside.scene.params, height, width, inside.config.period_s)


def camera_clip(params: CameraParams, height: int, width: int, period_s: float) -> Clip:
    """What the pictures of a camera are like."""
    focal_px, _ = params.focal_px(width)
    far = np.array([params.forward_m + 1e5, params.lateral_m, params.height_m])
    _, row = params.pixels(far, height, width)
    horizon = float(np.clip((row + 0.5) / height, 0.0, 0.9)) if np.isfinite(row) else Clip.horizon
    return Clip(height, width, period_s, 2.0 * math.atan(0.5 * width / focal_px), horizon, params.height_m)
