"""The worlds that PPO learns in, by name, and the wrappers that make them suitable.

    env = make_world("CartPole-memory")
    env = make_world("LaneKeeping", LaneKeepingConfig(vehicle="bicycle"), noise_variance=0.1)
    env = make_world("LaneKeeping", perturbations=("clean", "weather", "latency", "fog:2+speed:1"))

Besides the names in `WORLDS`, these are taken: envs to drive in that are known (`envs.driving.known`), such as
racetrack-v1; any registered id of Gymnasium whose observation is a vector or an image; and `module:function` or
`file.py:function`, which may give a `DrivingEnv`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

import envs
from agents.driving.recorded_world import RecordedWorld, World, make_world_env
from agents.driving.rollout import PerturbedCamera
from envs.car_racing import draw_what_shows
from envs.driving.known import KNOWN, driving_env
from envs.driving.make import make_env
from envs.foreign_code import ForeignCodeError, foreign_code
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import FAMILIES, SEVERITIES, GaussianNoise, PerturbedEnv, parse
from envs.perturbations.registry import split_severity

PEDAL_FRAMES = 4
"""Frames of CarRacing-v3, of 20 ms, that one action is held for."""
PEDAL_SIZE = 64
"""Rows and columns that CarRacing-v3's frames are reduced to, pixels."""


class WithoutVelocities(gymnasium.ObservationWrapper[Any, Any, Any]):
    """CartPole that shows the cart's place and the pole's angle alone: balancing it takes memory."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        """Wrap a CartPole."""
        super().__init__(env)
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """Place in units of 2.4 m and angle in units of 0.21 rad, where the episode ends."""
        shown = np.array([observation[0] / 2.4, observation[2] / 0.2095], np.float32)
        return np.clip(shown, -1.0, 1.0)


class OnePedal(gymnasium.Wrapper[Any, Any, Any, Any]):
    """CarRacing-v3 with two actions, steering (positive left) and a pedal (gas above 0, brake below), held for
    `PEDAL_FRAMES` frames, and frames of `PEDAL_SIZE` pixels a side. The reward is CarRacing's own.
    """  # noqa: D205

    def __init__(self, env: gymnasium.Env[Any, Any]):
        """Wrap a CarRacing-v3 with continuous actions."""
        super().__init__(env)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(0, 255, (PEDAL_SIZE, PEDAL_SIZE, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        frame, info = self.env.reset(seed=seed, options=options)
        return self._small(frame), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Hold one action for some frames; their rewards are added up."""
        steering, pedal = float(action[0]), float(action[1])
        held = np.array([-steering, max(pedal, 0.0), max(-pedal, 0.0)])
        car: Any = self.env.unwrapped
        total, over, frame = 0.0, False, None
        for left in range(PEDAL_FRAMES - 1, -1, -1):
            if left:  # Drawing takes nearly all of a step's time, and nobody sees this frame.
                car._render = lambda mode: None
            try:
                frame, reward, terminated, truncated, info = self.env.step(held)
            finally:
                car.__dict__.pop("_render", None)
            total, over = total + float(reward), terminated or truncated
            if over:
                break
        if frame is None:  # The episode has ended in a frame that was not drawn.
            frame = car._render("state_pixels")
        return self._small(frame), total, terminated, truncated, info

    def _small(self, frame: NDArray[np.uint8]) -> NDArray[Any]:
        return np.asarray(cv2.resize(frame, (PEDAL_SIZE, PEDAL_SIZE), interpolation=cv2.INTER_AREA))


class NoisyCamera(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Gaussian noise on the camera's frames; each episode draws its variance between 0 and the largest."""

    def __init__(self, env: gymnasium.Env[Any, Any], largest_variance: float):
        """Wrap an env with a camera; the variance is that of pixels in [0, 1]."""
        super().__init__(env)
        if not (isinstance(env.observation_space, spaces.Dict) and "camera" in env.observation_space.spaces):
            raise ValueError("noise needs an env with a camera, such as LaneKeeping.")
        self._largest = largest_variance
        self._draws = np.random.default_rng(0)
        self._noise = GaussianNoise(0.0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with another variance; a seed fixes the noise too."""
        if seed is not None:
            self._draws = np.random.default_rng([seed, 1])
        self._noise = GaussianNoise(float(self._draws.uniform(0.0, self._largest)))
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        """Add the noise."""
        return {**observation, "camera": self._noise(observation["camera"][None], self._draws)[0]}


class FrameAsCamera(gymnasium.ObservationWrapper[Any, Any, Any]):
    """An env whose observation is a picture, with the observation `Dict(camera, elapsed)` that perturbations need."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        """Wrap an env; `CameraAlone` around it gives the picture back."""
        super().__init__(env)
        elapsed = spaces.Box(0.0, 10.0, (1,), np.float32)
        self.observation_space = spaces.Dict({"camera": env.observation_space, "elapsed": elapsed})

    def observation(self, observation: Any) -> dict[str, Any]:
        """Put the picture beside the time, one period."""
        return {"camera": observation, "elapsed": np.ones(1, np.float32)}


class CameraAlone(gymnasium.ObservationWrapper[Any, Any, Any]):
    """An env with a camera that shows its frames alone."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        """Wrap an env with an observation `Dict(camera, …)`."""
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = env.observation_space["camera"]

    def observation(self, observation: Any) -> Any:
        """Return the frame."""
        return observation["camera"]


class ForeignEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An env of somebody else: what it raises, or gives that no env may give, is one line."""

    def __init__(self, env: gymnasium.Env[Any, Any], name: str):
        """Wrap an env; `name` is for errors."""
        super().__init__(env)
        self._name = name

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        with foreign_code(f"reset(seed=…, options=…) of {self._name}"):
            given: Any = self.env.reset(seed=seed, options=options)
        if not isinstance(given, tuple) or len(given) != 2:
            raise ForeignCodeError(f"reset() of {self._name} must return observation and info, as Gymnasium has it.")
        return given

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make one step."""
        with foreign_code(f"step() of {self._name}"):
            given: Any = self.env.step(action)
        if not isinstance(given, tuple) or len(given) != 5:
            raise ForeignCodeError(
                f"step() of {self._name} must return observation, reward, terminated, truncated and info, as Gymnasium "
                "has it since 0.26."
            )
        observation, reward, terminated, truncated, info = given
        if not isinstance(reward, float):
            number = np.asarray(reward)
            reward = float(number.item()) if number.size == 1 and number.dtype.kind in "biuf" else math.nan
        if not math.isfinite(reward):
            raise ForeignCodeError(f"the reward of {self._name} must be a finite number, got {given[1]!r:.60}.")
        return observation, reward, terminated, truncated, info


def disturbed(
    env: gymnasium.Env[Any, Any], perturbation: str, seed: int = 0, noise_variance: float = 0.0
) -> gymnasium.Env[Any, Any]:
    """Perturb a world that a learner is judged in; what it observes keeps its form.

    Args:
        env: with an observation `Dict(camera, elapsed)`, or a picture.
        perturbation: in the syntax of `envs.perturbations.parse`; "" leaves it alone.
        seed: of the perturbation and the noise, together with that of each episode.
        noise_variance: of Gaussian noise on the frames, pixels in [0, 1].

    Raises:
        ValueError: if the env shows no frames, or cannot do what the perturbation needs.
    """
    if not (perturbation or noise_variance):
        return env
    space = env.observation_space
    plain = isinstance(space, spaces.Box) and len(space.shape) == 3
    seen = FrameAsCamera(env) if plain else env
    if perturbation:
        seen = PerturbedEnv(seen, perturbation, seed)
    if noise_variance:
        if not (isinstance(seen.observation_space, spaces.Dict) and "camera" in seen.observation_space.spaces):
            raise ValueError("noise needs an env that shows frames.")
        seen = PerturbedCamera(seen, GaussianNoise(noise_variance), seed)
    return CameraAlone(seen) if plain else seen


class DrawnPerturbations(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Another perturbation in each episode: domain randomisation.

    Each episode draws one of the entries, each as likely. An entry is "clean", perturbations as `envs.perturbations`
    reads them, or the name of a family, of which one is drawn; where a severity is left out, it is drawn evenly from 1
    to the largest.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], entries: Sequence[str], largest_severity: int = 3):
        """Wrap an env with a camera.

        Raises:
            ValueError: if an entry does not exist, is an attack, or needs LaneKeeping and the env is another.
        """
        perturbed = PerturbedEnv(env)
        super().__init__(perturbed)
        self._perturbed = perturbed
        if largest_severity not in SEVERITIES:
            raise ValueError(f"largest_severity must lie in 1 to 5, got {largest_severity}.")
        self._entries, self._largest = tuple(entries), largest_severity
        self._draws = np.random.default_rng(0)
        for entry in self._entries:
            for name in FAMILIES.get(entry, (entry,)):
                composition = parse(name)
                if composition.attacks:
                    raise ValueError(f"{name} attacks a driver's gradient and cannot be trained with; leave it out.")
                PerturbedEnv(env, composition)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with another perturbation; a seed fixes it too."""
        if seed is not None:
            self._draws = np.random.default_rng([seed, 2])
        self._perturbed.composition = parse(self._draw())
        return self.env.reset(seed=seed, options=options)

    def _draw(self) -> str:
        draws = self._draws
        entry = self._entries[int(draws.integers(len(self._entries)))]
        if entry in FAMILIES:
            entry = FAMILIES[entry][int(draws.integers(len(FAMILIES[entry])))]
        if not parse(entry).parts:
            return ""
        drawn = [
            part if split_severity(part)[1] else f"{part}:{int(draws.integers(1, self._largest + 1))}"
            for part in entry.split("+")
        ]
        return "+".join(drawn)


def _lane_keeping(world: World | None) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(envs.LANE_KEEPING, config=world or LaneKeepingConfig())


def _recorded(world: World | None) -> gymnasium.Env[Any, Any]:
    if not isinstance(world, RecordedWorld):
        raise ValueError("the world Recorded is made of recordings: name them with --data.")
    return make_world_env(world)


def _car_racing_steering(world: World | None) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(envs.CAR_RACING_STEERING, height=48, width=96)


def _car_racing(world: World | None) -> gymnasium.Env[Any, Any]:
    try:
        env = OnePedal(gymnasium.make("CarRacing-v3", disable_env_checker=True))
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError("CarRacing needs Box2D: install it with pip install 'gymnasium[box2d]'.") from error
    draw_what_shows(env.unwrapped)
    return env


def _cartpole_memory(world: World | None) -> gymnasium.Env[Any, Any]:
    return WithoutVelocities(gymnasium.make("CartPole-v1"))


WORLDS: dict[str, Callable[[World | None], gymnasium.Env[Any, Any]]] = {
    "LaneKeeping": _lane_keeping,
    "Recorded": _recorded,
    "CarRacing": _car_racing_steering,
    "CarRacing-v3": _car_racing,
    "CartPole-memory": _cartpole_memory,
}
"""What `make_world` knows by name."""


def check_trust(name: str, trust: bool) -> None:
    """Check that the code of a world may be run.

    Args:
        name: as for `make_world`; a saved learner may have brought it.
        trust: whether whoever wrote it is trusted.

    Raises:
        ValueError: if making it imports a module, and that is not trusted.
    """
    module, colon, _ = name.partition(":")
    if colon and not trust:
        raise ValueError(
            f"the env {name!r} imports the Python module {module!r}, which runs its code: give --trust if you trust "
            "whoever wrote it, and the learner that names it."
        )


def make_world(
    name: str,
    world: World | None = None,
    noise_variance: float = 0.0,
    perturbations: Sequence[str] = (),
    largest_severity: int = 3,
    trust: bool = False,
) -> gymnasium.Env[Any, Any]:
    """Make a world.

    Args:
        name: a key of `WORLDS`, an id of Gymnasium, `module:function` or `file.py:function`.
        world: of LaneKeeping, or the recordings of Recorded.
        noise_variance: largest variance of noise on the camera, pixels in [0, 1]; 0 leaves the frames alone.
        perturbations: what each episode draws one of (`DrawnPerturbations`); none when empty.
        largest_severity: of those whose severity is drawn.
        trust: take names of the form MODULE:ID, module:function and file.py:function too, for which a module is
            imported and so its code run. Names come from saved learners as well.

    Raises:
        ValueError: if there is no such env, its id names a module that is not trusted, it needs a package that is
            missing, or it cannot be perturbed so.
    """
    if name in WORLDS:
        env = WORLDS[name](world)
    else:
        check_trust(name, trust)
        try:
            env = driving_env(name) if name in KNOWN else make_env(name) if ":" in name else gymnasium.make(name)
        except (gymnasium.error.Error, ImportError) as error:
            raise ValueError(
                f"there is no world {name!r}: {str(error).splitlines()[0]} Known by name: {', '.join(WORLDS)}; else "
                "give an id of Gymnasium."
            ) from error
        env = env if name in KNOWN else ForeignEnv(env, name)
    if perturbations:
        env = DrawnPerturbations(env, perturbations, largest_severity)
    return NoisyCamera(env, noise_variance) if noise_variance else env
