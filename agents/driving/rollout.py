"""The one loop that drives: many episodes side by side, the policy batched over them.

State resets live here: a slot whose episode ended takes the next seed, and the driver is told by `starts`.

    drives = rollout(PolicyDriver(policy), make_env, seeds=range(100, 120))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.expert import Expert
from agents.driving.metrics import Drive
from agents.driving.open_loop import Perturbation
from envs.perturbations import PerturbedEnv
from policies.policy import DrivingPolicy

SIDE_BY_SIDE = 10
"""Episodes that run at the same time unless told otherwise; more gain little on two cores and cost memory."""


class Driver(Protocol):
    """Whatever steers a batch of cars."""

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer.

        Args:
            frames: uint8 `[B, H, W, 3]`.
            elapsed: `[B]` time since the previous frame in nominal periods.
            starts: `[B]` True where an episode begins.
            envs: the B envs, for drivers that may look at the true state.

        Returns:
            `[B, M]` actions in [−1, 1].
        """
        ...


class PolicyDriver:
    """A `DrivingPolicy` at the wheel; keeps the state of each slot."""

    def __init__(self, policy: DrivingPolicy):
        """Take a policy, in evaluation mode from here on."""
        self.policy = policy.eval()
        self.state: torch.Tensor | None = None

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `Driver.act`."""
        with torch.inference_mode():
            actions, self.state = self.policy(
                torch.from_numpy(frames[:, None]),
                self.state,
                torch.from_numpy(elapsed[:, None]),
                torch.from_numpy(starts[:, None]),
            )
        return actions[:, 0].numpy()

    def steering_gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        """How the steering that a slot's driver would give from now on changes with each value of the frame.

        For attacks. The clamp at full lock is left out, so that there is a gradient there too.

        Args:
            slot: the row of the batch, whose state is used and left as it is.
            frame: float32 `[H, W, 3]` in [0, 255].
            elapsed: time since the previous frame in nominal periods.
            start: whether an episode begins with this frame.
            steps: how many frames are counted, as if they all were this one, each after `elapsed`.

        Returns:
            float32 `[H, W, 3]`, mean steering of those steps per grey level.
        """
        state = None if start or self.state is None else self.state[slot : slot + 1].clone()
        pixels = torch.from_numpy(frame[None, None]).requires_grad_(True)
        with _frozen(self.policy):
            features = self.policy.features(pixels).expand(-1, steps, -1)  # [1, 1, F] → [1, T, F]
            motors, _ = self.policy.core(features, state, torch.full((1, steps), elapsed))
            (gradient,) = torch.autograd.grad(motors[0, :, 0].mean(), pixels)
        return gradient[0, 0].numpy()


class ExpertDriver:
    """The geometric expert at the wheel; looks at the true state."""

    def __init__(self, expert: Expert | None = None):
        """Take an expert."""
        self.expert = expert or Expert()

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by the true pose; see `Driver.act`. A throttle, where there is one, keeps the drawn speed."""
        actions = [np.zeros(env.action_space.shape or 1, np.float32) for env in envs]
        for action, env in zip(actions, envs, strict=True):
            action[0] = self.expert.steer(env)
        return np.stack(actions)


Observer = Callable[[int, gymnasium.Env[Any, Any], NDArray[np.uint8], float, dict[str, Any]], None]
"""Called after each step with the seed, the env, the frame the driver saw, its steering, and the env's info."""


@dataclass
class _Slot:
    """An env and the episode that runs in it."""

    env: gymnasium.Env[Any, Any]
    seed: int
    order: int
    observation: dict[str, Any]
    noise: np.random.Generator
    start: bool = True
    offsets_m: list[float] = field(default_factory=list)
    steering: list[float] = field(default_factory=list)


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
        What each episode left behind, in the order of the seeds.
    """
    if not seeds:
        raise ValueError("at least one seed is needed to drive, got none.")
    waiting = list(enumerate(seeds))
    results: dict[int, Drive] = {}
    slots: list[_Slot | None] = []
    steering_gradient = getattr(driver, "steering_gradient", None)

    def begin(env: gymnasium.Env[Any, Any]) -> _Slot:
        order, seed = waiting.pop(0)
        observation, _ = env.reset(seed=int(seed), options=options(order) if options else None)
        return _Slot(env, int(seed), order, observation, np.random.default_rng([noise_seed, int(seed)]))

    envs = [make_env(number) for number in range(min(side_by_side, len(seeds)))]
    for number, env in enumerate(envs):
        layer = perturbed_layer(env)
        if layer is not None and layer.composition.attacks and steering_gradient is not None:
            layer.gradient = partial(steering_gradient, number)
    try:
        slots = [begin(env) for env in envs]
        while any(slots):
            # A slot without an episode repeats the last frame of a busy one: the driver's batch keeps its size.
            busy = [slot for slot in slots if slot is not None]
            rows = [slot if slot is not None else busy[0] for slot in slots]
            frames = np.stack([row.observation["camera"] for row in rows])
            if perturbation is not None:
                for number, slot in enumerate(slots):
                    if slot is not None:
                        frames[number] = perturbation(frames[number][None], slot.noise)[0]
            elapsed = np.array([float(row.observation["elapsed"][0]) for row in rows], np.float32)
            starts = np.array([slot is None or slot.start for slot in slots])
            actions = driver.act(frames, elapsed, starts, [row.env for row in rows])
            for number, slot in enumerate(slots):
                if slot is None:
                    continue
                slot.observation, _, terminated, truncated, info = slot.env.step(actions[number])
                slot.start = False
                slot.offsets_m.append(float(info["lateral_offset_m"]))
                slot.steering.append(float(actions[number, 0]))
                if observer is not None:
                    observer(slot.seed, slot.env, frames[number], slot.steering[-1], info)
                if terminated or truncated:
                    drive = _finish(slot, info)
                    results[slot.order] = drive
                    if on_episode is not None:
                        on_episode(drive)
                    slots[number] = begin(slot.env) if waiting else None
            if on_step is not None:
                on_step(len(busy))
    finally:
        for env in envs:
            env.close()
    return [results[order] for order in range(len(seeds))]


def perturbed_layer(env: gymnasium.Env[Any, Any]) -> PerturbedEnv | None:
    """Return the layer of a wrapped env that perturbs it; None where there is none."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, PerturbedEnv):
            return env
        env = env.env
    return None


@contextmanager
def _frozen(policy: DrivingPolicy) -> Iterator[None]:
    """Keep no gradients of the weights, which would cost a third of the time."""
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)


def _finish(slot: _Slot, info: dict[str, Any]) -> Drive:
    """Turn a slot's episode into a `Drive`."""
    return Drive(
        seed=slot.seed,
        track=str(info.get("track", "")),
        distance_m=float(info["progress_m"]),
        duration_s=float(info["time_s"]),
        crashed=bool(info["crashed"]),
        lane_width_m=float(info["lane_width_m"]),
        lateral_offset_m=np.asarray(slot.offsets_m),
        steering=np.asarray(slot.steering),
        period_s=float(info["time_s"]) / len(slot.offsets_m),
    )
