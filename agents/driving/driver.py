"""What steers: one protocol for our policies, the expert, and drivers that others made.

    driver: Driver = PolicyDriver(load_policy("runs/mine/policy"))
    actions = driver.act(frames, elapsed, starts, envs)  # uint8 [B, H, W, 3] → [B, M]

A driver keeps the state of each row of its batch itself; `starts` says where an episode begins. Our policies see frames
alone; `agents.driving.expert.Expert` looks at the envs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from policies.policy import DrivingPolicy
from policies.preprocessing import Preprocessing


class Driver(Protocol):
    """Whatever steers a batch of cars.

    A driver that can say how its steering changes with its frame has a `steering_gradient` too, with the arguments of
    `PolicyDriver.steering_gradient`; attacks need it.
    """

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
            envs: the B envs, for drivers that may look at the true state; empty where there is none, as on recordings.

        Returns:
            `[B, M]` actions in [−1, 1], the first one steering, positive left.
        """
        ...


class OpenedDriver(Driver, Protocol):
    """A driver that says what it takes, as `agents.driving.open_driver.open_driver` returns it.

    `steering_gradient`, with the arguments of `PolicyDriver.steering_gradient`, is there where attacks can ask for it.
    """

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of the frames that it takes; None where any size will do."""
        ...

    @property
    def period_s(self) -> float | None:
        """Time between two frames that it expects, seconds; None where it does not say."""
        ...

    @property
    def motors(self) -> int:
        """Number of actions: 1 is steering, 2 adds throttle."""
        ...


class PolicyDriver:
    """A `DrivingPolicy` at the wheel; keeps the state of each row.

    Attributes:
        policy: in evaluation mode.
        preprocessing: how frames are cropped and resized for it.
        steering_gain: what its steering is multiplied with.
        state: `[B, S]` after the last frames; None before the first.
    """

    def __init__(self, policy: DrivingPolicy, preprocessing: Preprocessing | None = None, steering_gain: float = 1.0):
        """Take a policy, in evaluation mode from here on.

        Args:
            policy: who drives.
            preprocessing: crop and resize for a camera other than the policy's own, which is used when None.
            steering_gain: for a car whose full lock turns it less or more than the one that the policy learnt in.

        Raises:
            ValueError: if `preprocessing` ends at another size than the policy's.
        """
        self.policy = policy.eval()
        own = policy.config.preprocessing
        self.preprocessing = own if preprocessing is None else preprocessing
        if (self.preprocessing.height, self.preprocessing.width) != (own.height, own.width):
            raise ValueError(
                f"this policy's head sees {own.height}×{own.width} pixels, and the preprocessing ends at "
                f"{self.preprocessing.height}×{self.preprocessing.width}."
            )
        self.steering_gain = steering_gain
        self.state: torch.Tensor | None = None

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of the frames that it takes."""
        return self.preprocessing.source_height, self.preprocessing.source_width

    @property
    def period_s(self) -> float | None:
        """Time between two frames that `elapsed = 1` stands for, seconds."""
        return self.policy.config.nominal_period_s

    @property
    def motors(self) -> int:
        """Number of actions: 1 is steering, 2 adds throttle."""
        return self.policy.config.motors

    def _amplified(self, motors: torch.Tensor) -> torch.Tensor:
        """Multiply the steering of unclamped motors `[..., M]` by the gain, and clamp to full lock."""
        if self.steering_gain != 1.0:
            motors = torch.cat([self.steering_gain * motors[..., :1], motors[..., 1:]], dim=-1)
        return motors.clamp(-1, 1)

    def steer_sequences(
        self, frames: NDArray[np.uint8], elapsed: NDArray[np.float32], state: torch.Tensor | None
    ) -> tuple[NDArray[np.float32], torch.Tensor]:
        """Steer through whole sequences; the driver's own state stays as it is.

        Args:
            frames: uint8 `[B, T, H, W, 3]`.
            elapsed: `[B, T]` in nominal periods.
            state: `[B, S]` before the first frame; fresh when None.

        Returns:
            Steering `[B, T]` in [−1, 1] and the state `[B, S]` after the last frame.
        """
        with torch.inference_mode():
            pixels = self.preprocessing(torch.from_numpy(frames))
            motors, state = self.policy.motors(pixels, state, torch.from_numpy(elapsed), preprocessed=True)
        return self._amplified(motors)[:, :, 0].numpy(), state

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `Driver.act`."""
        with torch.inference_mode():
            motors, self.state = self.policy.motors(
                self.preprocessing(torch.from_numpy(frames[:, None])),
                None if starts.all() else self.state,  # new episodes may be more or fewer than those before
                torch.from_numpy(elapsed[:, None]),
                torch.from_numpy(starts[:, None]),
                preprocessed=True,
            )
        return self._amplified(motors)[:, 0].numpy()

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
        with frozen(self.policy):
            features = self.policy.features(self.preprocessing(pixels), preprocessed=True).expand(
                -1, steps, -1
            )  # [1, 1, F] → [1, T, F]
            motors, _ = self.policy.core(features, state, torch.full((1, steps), elapsed))
            (gradient,) = torch.autograd.grad(motors[0, :, 0].mean(), pixels)
        return np.float32(self.steering_gain) * gradient[0, 0].numpy()


class RescaledTime:
    """A driver whose clock counts in another period than the env's."""

    def __init__(self, driver: Driver, factor: float):
        """Wrap a driver; `factor` is the env's period divided by the driver's own."""
        self.driver, self.factor = driver, np.float32(factor)

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `Driver.act`."""
        return self.driver.act(frames, elapsed * self.factor, starts, envs)

    def steering_gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        """How the steering changes with the frame; see `PolicyDriver.steering_gradient`."""
        inner = getattr(self.driver, "steering_gradient", None)
        if inner is None:
            raise ValueError("this driver has no gradient to attack: attacks need a policy at the wheel.")
        return inner(slot, frame, elapsed * float(self.factor), start, steps)


@contextmanager
def frozen(module: torch.nn.Module) -> Iterator[None]:
    """Keep no gradients of a module's weights meanwhile: they would cost a third of the time of an attack."""
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
