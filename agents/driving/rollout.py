"""The one loop that drives: episodes side by side, the driver batched over them.

State resets live here: a slot whose episode ended takes the next seed, and the driver hears of it by `starts`.

    drives = rollout(PolicyDriver(policy), make_env, seeds=range(100, 120))

`run_episodes` is that loop for any observations and actions; `rollout` puts a `Driver` on a road with it. The recorder,
the evaluation of PPO's learners and the films are built on the same two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.driving.driver import Driver
from agents.driving.metrics import Drive
from agents.driving.open_loop import Perturbation
from envs.foreign_code import ForeignCodeError
from envs.perturbations import PerturbedEnv

SIDE_BY_SIDE = 10
"""Episodes that run at the same time by default; more gain little on two cores and cost memory."""

STEERING_STEP = 2.0**-10
"""Steps in which steering reaches the car, full locks: about that of a servo. The same network in another runtime
answers the same up to its last bits (1e-7); through the grey levels of a few pixels, a loop of car and camera makes
hundredths of a full lock of that in seconds. Rounded, both make the same drive, but where an answer falls within the
last bits of the edge between two steps, some once in 10,000."""


@dataclass
class Step:
    """One control step of one episode."""

    order: int
    """Number of the episode among the seeds."""
    seed: int
    """Seed of the episode."""
    env: gymnasium.Env[Any, Any]
    """Where it runs, after the step."""
    observation: Any
    """What the driver saw."""
    seen_info: dict[str, Any]
    """The env's info that came with that observation."""
    action: NDArray[Any]
    """What the driver did."""
    reward: float
    """What it earned."""
    terminated: bool
    """Whether the episode ended by itself."""
    truncated: bool
    """Whether the episode was cut off."""
    info: dict[str, Any]
    """The env's info after the step."""

    @property
    def frame(self) -> NDArray[np.uint8]:
        """The frame that the driver saw, uint8 `[H, W, 3]`; of envs with a camera."""
        frame: NDArray[np.uint8] = self.observation["camera"]
        return frame

    @property
    def steering(self) -> float:
        """The first action, in [−1, 1], positive left."""
        return float(self.action[0])

    @property
    def ended(self) -> bool:
        """Whether this was the last step of the episode."""
        return self.terminated or self.truncated


Observer = Callable[[Step], None]
"""Looks at a step that has been made."""
Choice = Callable[[Sequence[Any], NDArray[np.bool_]], NDArray[Any]]
"""Maps B observations and where episodes begin, bool `[B]`, to B actions; row n is env n from call to call."""


@dataclass
class _Slot:
    """An env and the episode that runs in it."""

    env: gymnasium.Env[Any, Any]
    seed: int
    order: int
    observation: Any
    info: dict[str, Any]
    start: bool = True


def run_episodes(
    choose: Choice,
    envs: Sequence[gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    options: Callable[[int], dict[str, Any] | None] | None = None,
    observer: Observer | None = None,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Run one episode for each seed, as many at a time as there are envs.

    Args:
        choose: says what to do.
        envs: where; they stay open. Those that are not needed are left alone.
        seeds: one for each episode.
        options: gives `reset`'s options for the n-th episode, such as the road to drive on.
        observer: looks at every step, before the next episode begins in its env.
        on_step: called with the number of steps made since the last call.

    Raises:
        ValueError: if there is no seed.
    """
    if not seeds:
        raise ValueError("at least one seed is needed to drive, got none.")
    waiting = list(enumerate(seeds))

    def begin(env: gymnasium.Env[Any, Any]) -> _Slot:
        order, seed = waiting.pop(0)
        observation, info = env.reset(seed=int(seed), options=options(order) if options else None)
        return _Slot(env, int(seed), order, observation, info)

    slots: list[_Slot | None] = [begin(env) for env in envs[: len(seeds)]]
    while any(slots):
        # A slot without an episode repeats the last observation of a busy one: the driver's batch keeps its size.
        busy = [slot for slot in slots if slot is not None]
        rows = [slot if slot is not None else busy[0] for slot in slots]
        starts = np.array([slot is None or slot.start for slot in slots])
        actions = choose([row.observation for row in rows], starts)
        for number, slot in enumerate(slots):
            if slot is None:
                continue
            observation, reward, terminated, truncated, info = slot.env.step(actions[number])
            if observer is not None:
                seen, seen_info, action = slot.observation, slot.info, actions[number]
                where = slot.order, slot.seed, slot.env
                observer(Step(*where, seen, seen_info, action, float(reward), terminated, truncated, info))
            slot.observation, slot.info, slot.start = observation, info, False
            if terminated or truncated:
                slots[number] = begin(slot.env) if waiting else None
        if on_step is not None:
            on_step(len(busy))


def drive_episodes(
    driver: Driver,
    envs: Sequence[gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    options: Callable[[int], dict[str, Any] | None] | None = None,
    observer: Observer | None = None,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Let a driver drive in envs with a camera; see `run_episodes`. Steering comes in steps of `STEERING_STEP`.

    Attacks in a `PerturbedEnv` are given the gradient of the driver, if it has one.
    """
    # Slot n is env n: the driver is shown the env whose frame stands in its row, which idle rows borrow.
    steering_gradient = getattr(driver, "steering_gradient", None)
    for number, env in enumerate(envs):
        layer = perturbed_layer(env)
        if layer is not None and layer.composition.attacks and steering_gradient is not None:
            layer.gradient = partial(steering_gradient, number)

    def choose(observations: Sequence[Any], starts: NDArray[np.bool_]) -> NDArray[np.float32]:
        frames = np.stack([observation["camera"] for observation in observations])
        elapsed = np.array([float(observation["elapsed"][0]) for observation in observations], np.float32)
        actions = np.array(driver.act(frames, elapsed, starts, envs[: len(observations)]))
        _check_actions(actions, len(observations), envs[0])
        actions[:, 0] = np.rint(actions[:, 0] / STEERING_STEP) * STEERING_STEP
        return actions

    run_episodes(choose, envs, seeds, options, observer, on_step)


def _check_own(env: gymnasium.Env[Any, Any], others: Sequence[gymnasium.Env[Any, Any]]) -> None:
    """Check that a slot has an env of its own: two cars in one env would drive each other's."""
    inmost = [getattr(one.unwrapped, "inner", one).unwrapped for one in (env, *others)]
    if any(inmost[0] is other for other in inmost[1:]):
        raise ForeignCodeError(
            f"the same {type(inmost[0]).__name__} was given for two drives that run side by side; every drive needs an "
            "env of its own: make it inside the function."
        )


def _check_actions(actions: NDArray[Any], rows: int, env: gymnasium.Env[Any, Any]) -> None:
    """Check that a driver gives each env an action of the env's own size."""
    wanted = env.action_space.shape or (1,)
    if actions.shape != (rows, *wanted):
        raise ValueError(
            f"the driver gives actions {list(actions.shape)}, and {rows} cars here take {list((rows, *wanted))}: the "
            "steering of each, and a second number for the throttle only with --throttle."
        )


def rollout(
    driver: Driver,
    make_env: Callable[[int], gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    side_by_side: int = SIDE_BY_SIDE,
    options: Callable[[int], dict[str, Any] | None] | None = None,
    perturbation: Perturbation | None = None,
    noise_seed: int = 0,
    observer: Observer | None = None,
    on_episode: Callable[[Drive], None] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[Drive]:
    """Drive one episode for each seed.

    Args:
        driver: what steers.
        make_env: makes the env of a slot; called with the slot's number, closed at the end. Attacks in a
            `PerturbedEnv` are given the gradient of the driver, if it has one.
        seeds: one for each episode; they fix road, look and start.
        side_by_side: slots.
        options: gives `reset`'s options for the n-th episode, such as the road to drive on.
        perturbation: changes each frame before the driver sees it.
        noise_seed: fixes the perturbation; every episode has a generator of its own from it and its seed.
        observer: looks at every step.
        on_episode: called when an episode has ended.
        on_step: called with the number of steps made since the last call.

    Returns:
        What each episode left behind, in the order of the seeds. What an env's info does not tell is NaN: offset,
        lane width, way made; a crash is where the episode is terminated, then.
    """
    results: dict[int, Drive] = {}
    offsets_m: dict[int, list[float]] = {}
    steering: dict[int, list[float]] = {}

    def note(step: Step) -> None:
        offsets_m.setdefault(step.order, []).append(float(step.info.get("lateral_offset_m", math.nan)))
        steering.setdefault(step.order, []).append(step.steering)
        if observer is not None:
            observer(step)
        if step.ended:
            drive = _finish(step, offsets_m.pop(step.order), steering.pop(step.order))
            results[step.order] = drive
            if on_episode is not None:
                on_episode(drive)

    envs: list[gymnasium.Env[Any, Any]] = []
    try:
        for number in range(min(side_by_side, len(seeds))):
            env = make_env(number)
            _check_own(env, envs)
            envs.append(env if perturbation is None else PerturbedCamera(env, perturbation, noise_seed))
        drive_episodes(driver, envs, seeds, options, note, on_step)
    finally:
        for env in envs:
            env.close()
    return [results[order] for order in range(len(seeds))]


class PerturbedCamera(gymnasium.ObservationWrapper[Any, Any, Any]):
    """An env whose frames are changed by a function; every episode has a generator of its own from its seed."""

    def __init__(self, env: gymnasium.Env[Any, Any], perturbation: Perturbation, noise_seed: int = 0):
        """Wrap an env with a camera; `noise_seed` fixes the perturbation together with the seed of each episode."""
        super().__init__(env)
        self._perturbation, self._noise_seed = perturbation, noise_seed
        self._draws = np.random.default_rng(noise_seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; a seed fixes its frames too."""
        if seed is not None:
            self._draws = np.random.default_rng([self._noise_seed, seed])
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        """Change the frame."""
        return {**observation, "camera": self._perturbation(observation["camera"][None], self._draws)[0]}


def perturbed_layer(env: gymnasium.Env[Any, Any]) -> PerturbedEnv | None:
    """Return the layer of a wrapped env that perturbs it; None where there is none."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, PerturbedEnv):
            return env
        env = env.env
    return None


def _finish(step: Step, offsets_m: list[float], steering: list[float]) -> Drive:
    """Turn an episode that has ended into a `Drive`; what the env does not tell is NaN."""
    info, steps = step.info, len(offsets_m)
    period_s = float(getattr(step.env.unwrapped, "period_s", math.nan))
    duration_s = float(info.get("time_s", steps * period_s))
    return Drive(
        seed=step.seed,
        track=str(info.get("track", "")),
        distance_m=float(info.get("progress_m", math.nan)),
        duration_s=duration_s,
        crashed=bool(info.get("crashed", step.terminated)),
        lane_width_m=float(info.get("lane_width_m", math.nan)),
        lateral_offset_m=np.asarray(offsets_m),
        steering=np.asarray(steering),
        period_s=duration_s / steps,
    )
