"""How steady a driver stays inside when the world is perturbed: where it looks, and how far its state jumps.

*Saliency.* The structural similarity (SSIM; Wang et al., IEEE Transactions on Image Processing 2004) between the
VisualBackProp saliency of a clean frame and that of the same frame perturbed, as Lechner et al. measured it (Nature
Machine Intelligence 2020). The frames are from the beginning of the driver's own clean drive, so every perturbation is
judged on the same pictures.

*State.* The largest step of the hidden state between two frames of a drive: the root mean square over its values. It is
a lower bound of the Lipschitz constant of the state in time. The state begins at zero and first has to find its place:
the steps of the first second are left out.

    footage = clean_footage(policy, trial)
    saliency_ssim(policy, footage, "fog:3", effect_seed=0)  # one number a road
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import PolicyDriver
from agents.driving.recorded_world import RecordedWorld
from agents.driving.rollout import Step
from agents.driving.trials import Trial, drive_together
from envs.camera.info import CameraInfo
from envs.perturbations import RecordedEpisode, parse
from envs.protocol import CameraCar
from policies.explain.saliency import saliency
from policies.policy import DrivingPolicy

FOOTAGE_S = 4.0
"""Length of the clean footage of a road, s."""
SAMPLES = 10
"""Frames of it whose saliency is looked at, evenly spread, the last one included."""
SETTLING_S = 1.0
"""Time from the start of a drive in which steps of the state do not count, s, when all frames are on time."""
_SIGMA = 1.5
"""Width of the Gaussian window of SSIM, pixels, as published."""
_WINDOW = 11
"""Rows and columns of that window."""
_C1, _C2 = 0.01**2, 0.03**2
"""Constants of SSIM for values in [0, 1]."""


class StateWatch:
    """A driver that notes how far its state jumps; it steers as the one that it wraps."""

    def __init__(self, driver: PolicyDriver, settling_steps: int):
        """Wrap a driver.

        Args:
            driver: what steers.
            settling_steps: steps from the start of an episode that do not count.
        """
        self.driver, self._settling = driver, settling_steps
        self._largest: NDArray[np.float64] = np.empty(0)
        self._age: NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def largest(self) -> NDArray[np.float64]:
        """`[B]` largest step of the state in each slot, in units of the state; NaN where none counted."""
        return self._largest

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving.driver.Driver`."""
        before = self.driver.state
        actions = self.driver.act(frames, elapsed, starts, envs)
        after = self.driver.state
        assert after is not None
        if not len(self._largest):
            self._largest, self._age = np.full(len(frames), np.nan), np.zeros(len(frames), np.int64)
        self._age = np.where(starts, 0, self._age + 1)
        if before is not None and after.shape[1]:
            step = (after - before).double().square().mean(1).sqrt().numpy()
            counts = self._age > self._settling
            self._largest[counts] = np.fmax(self._largest, step)[counts]
        return actions

    def steering_gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        """How the steering changes with the frame; see `PolicyDriver.steering_gradient`."""
        return self.driver.steering_gradient(slot, frame, elapsed, start, steps)


@dataclass(frozen=True)
class Footage:
    """What a driver saw at the beginning of a clean drive.

    Attributes:
        seed: of the road.
        frames: uint8 `[T, H, W, 3]`, at least one.
        clip: what is known of the pictures.
        speed_mps: mean speed of the car.
        yaw_rate_radps: `[T]` of the car, positive to the left.
        sampled: int `[n]` the frames that are looked at.
        saliency: `[n, h, w]` in [0, 1], where the driver looks on them.
    """

    seed: int
    frames: NDArray[np.uint8]
    clip: CameraInfo
    speed_mps: float
    yaw_rate_radps: NDArray[np.float64]
    sampled: NDArray[np.intp]
    saliency: NDArray[np.float32]


def clean_footage(policy: DrivingPolicy, trial: Trial) -> list[Footage]:
    """Let a driver begin each road of a trial, nothing perturbed, and keep what it saw.

    Args:
        policy: the trial's policy.
        trial: says the world and the roads.
    """
    seconds = min(FOOTAGE_S, trial.world.episode_s)
    most = max(1, round(seconds / trial.world.period_s))
    trial = replace(trial, perturbation="", noise_variance=0.0)
    if not isinstance(trial.world, RecordedWorld):  # where a drive along a recording begins is drawn by its length
        trial = replace(trial, world=replace(trial.world, episode_s=seconds))
    seen: dict[int, list[NDArray[np.uint8]]] = {run.seed: [] for run in trial.runs}
    turns: dict[int, list[float]] = {run.seed: [] for run in trial.runs}
    speeds: dict[int, list[float]] = {run.seed: [] for run in trial.runs}
    clips: dict[int, CameraInfo] = {}

    def observe(step: Step) -> None:
        seed, frame, inside = step.seed, step.frame, step.env.unwrapped
        assert isinstance(inside, CameraCar)
        if len(seen[seed]) >= most:
            return
        motion = inside.motion()
        seen[seed].append(frame.copy())
        speeds[seed].append(motion.speed_mps)
        turns[seed].append(motion.yaw_rate_radps)
        if seed not in clips:
            clips[seed] = inside.camera_info()

    drive_together(trial, lambda _: None, policy, observer=observe)
    footage = []
    for run in trial.runs:
        frames = np.stack(seen[run.seed])
        sampled = np.unique(np.linspace(0, len(frames) - 1, SAMPLES + 1).round().astype(np.intp)[1:])
        looked = _saliency(policy, frames[sampled])
        speed_mps, yaw_rate_radps = float(np.mean(speeds[run.seed])), np.array(turns[run.seed])
        footage.append(Footage(run.seed, frames, clips[run.seed], speed_mps, yaw_rate_radps, sampled, looked))
    return footage


def saliency_ssim(
    policy: DrivingPolicy, footage: Sequence[Footage], perturbation: str, effect_seed: int
) -> NDArray[np.float64]:
    """Compare where a driver looks on clean frames and on the same frames perturbed.

    Args:
        policy: the driver.
        footage: of each road.
        perturbation: in the registry's syntax.
        effect_seed: of the perturbation, together with that of each road.

    Returns:
        `[K]` mean structural similarity for each road; 1 for no perturbation, NaN for one that cannot be applied to
        recorded frames, or needs the driver's gradient.
    """
    composition = parse(perturbation)
    if not composition.parts:
        return np.ones(len(footage))
    if not composition.frames or composition.attacks:
        return np.full(len(footage), np.nan)
    found = []
    for road in footage:
        seed = int(np.random.default_rng([effect_seed, road.seed]).integers(2**62))  # as `PerturbedEnv` draws it
        episode = RecordedEpisode(composition, seed, road.clip)
        on_time = np.ones(len(road.frames), np.float32)
        shown = episode.take(road.frames, on_time, road.speed_mps, road.yaw_rate_radps)
        # What the driver had before it at that moment: the last picture that came.
        last = np.searchsorted(shown.kept, road.sampled, side="right") - 1
        looked = _saliency(policy, shown.frames[last])
        if episode.steering_sign < 0:
            looked = looked[:, :, ::-1]  # left and right are exchanged: back again
        found.append(ssim(road.saliency, looked).mean())
    return np.array(found)


def ssim(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean structural similarity of maps.

    Args:
        first: `[n, h, w]` in [0, 1].
        second: the same shape.

    Returns:
        `[n]` at most 1; borders are mirrored.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"maps must be [n, h, w] and of one shape, got {first.shape} and {second.shape}.")
    return np.array([_ssim(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(first, second, strict=True)])


def _ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    def local(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA, borderType=cv2.BORDER_REFLECT_101))

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    both = local(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return float((light * (2 * both + _C2) / (var_a + var_b + _C2)).mean())


def _saliency(policy: DrivingPolicy, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    return saliency(policy, torch.from_numpy(np.ascontiguousarray(frames))).numpy()
