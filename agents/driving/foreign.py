"""Drivers that others made as Python objects: PyTorch modules, functions, objects with `act`.

    driver = ModuleDriver(net, FrameFormat(66, 200, layout="CHW", range="0..1"))

What they say is checked, and turned to steering by `SteeringScale`: sign, degrees, gain. `agents.driving.onnx_driver`
and `agents.driving.sb3_driver` are built on the same; `agents.driving.open_driver` chooses among them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.driving.driver import frozen
from agents.driving.driver_options import DriverOptions
from agents.driving.frame_format import FrameFormat
from agents.runs.reading import one_line
from envs.foreign_code import ForeignCodeError, foreign_code

_LOG = logging.getLogger(__name__)
SAY_FRAMES = "Say what frames it takes (--frame, --layout, --range, --colour), or wrap it in a factory of your own."
"""Advice where a driver fails on what it was shown."""
LEAST_PIXELS, MOST_PIXELS = 8, 4096
"""Smallest and largest side of a frame, as preprocessing has it."""


@dataclass(frozen=True)
class SteeringScale:
    """From what a driver says to steering in [−1, 1] of full lock, positive left."""

    positive: str = "left"
    """Side to which the driver's positive steering turns."""
    degrees: float | None = None
    """Degrees of full lock where it answers in degrees."""
    gain: float = 1.0
    """For another car."""

    @classmethod
    def of(cls, options: DriverOptions) -> SteeringScale:
        """Return what the options say."""
        return cls(options.positive, options.degrees, options.steering_gain or 1.0)

    @property
    def factor(self) -> float:
        """What the driver's answer is multiplied with."""
        return (1.0 if self.positive == "left" else -1.0) * self.gain / (self.degrees or 1.0)

    def actions(self, answers: Any, rows: int, name: str = "the driver") -> NDArray[np.float32]:
        """Turn answers `[B]` or `[B, M]`, the first one steering, to actions `[B, M]` in [−1, 1].

        Args:
            answers: what the driver gave; anything.
            rows: B, how many frames it was shown.
            name: of the driver.

        Raises:
            ForeignCodeError: if they are not B times one or two finite numbers.
        """
        numbers = as_numbers(answers)
        each = 0 if numbers is None or numbers.shape[:1] != (rows,) else numbers.size // rows
        if numbers is None or each not in (1, 2):
            raise ForeignCodeError(
                f"{name} must map a batch of {rows} frames to [{rows}] or [{rows}, M] numbers, M = 1 (steering) or 2 "
                f"(steering and throttle), and gave {described(answers)}. For one that answers otherwise, such as by "
                "classes or with a memory of its own, let the factory return an object with act(frames, elapsed, "
                "starts, envs)."
            )
        actions = numbers.reshape(rows, -1)
        if not np.isfinite(actions).all():
            raise ForeignCodeError(
                f"{name} gave steering that is not a finite number ({described(answers)}); look at its input range "
                "(--range)."
            )
        actions[:, 0] *= self.factor
        return np.clip(actions, -1.0, 1.0).astype(np.float32)


def as_numbers(answers: Any) -> NDArray[np.float64] | None:
    """Return what a driver of somebody else gave as an array of its own; None where it is no array of real numbers."""
    if isinstance(answers, torch.Tensor):
        answers = answers.detach().cpu()
        answers = answers.double() if answers.is_floating_point() else answers
    try:
        array = np.asarray(answers)
        return array.astype(np.float64) if array.dtype.kind in "fiub" else None
    except Exception:  # Whatever it is, it cannot be made an array of.
        return None


def described(answers: Any) -> str:
    """Say in a few words what a driver gave."""
    if isinstance(answers, (torch.Tensor, np.ndarray)):
        return f"{str(answers.dtype).removeprefix('torch.')} {list(answers.shape)}"
    if isinstance(answers, (list, tuple)) and len(answers) < 5:
        return f"{one_line(answers):.60}"
    if isinstance(answers, (list, tuple)):
        return f"a {type(answers).__name__} of {len(answers)}"
    return "None" if answers is None else f"{type(answers).__name__} {one_line(answers):.60}"


class ForeignDriver:
    """What the drivers of this file share: a frame format, a scale, and nothing known of the car.

    Attributes:
        format: what it takes.
        scale: what its answers mean.
        period_s: time between two frames that it expects, seconds; None where it does not say.
        motors: number of actions.
        name: what it is called in errors.
    """

    def __init__(
        self,
        frame_format: FrameFormat,
        scale: SteeringScale,
        period_s: float | None = None,
        motors: int = 1,
        name: str = "the driver",
    ):
        self.format, self.scale = frame_format, scale
        self.period_s, self.motors, self.name = period_s, motors, name

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of the frames that it takes; None where any size will do."""
        return self.format.camera_size

    def _shown(self, pixels: Any) -> str:
        """Say who was shown what; errors begin with it."""
        kind = str(pixels.dtype).removeprefix("torch.")
        return f"{self.name}, shown frames {kind} {list(pixels.shape)} in {self.format.range},"

    def _frame_gradient(
        self, frame: NDArray[np.float32], weights: nn.Module, steer: Callable[[torch.Tensor], torch.Tensor]
    ) -> NDArray[np.float32]:
        """Return how the steering changes with a frame, where `steer` maps `[1, H, W, 3]` to it and `weights` stay."""
        pixels = torch.from_numpy(frame[None]).requires_grad_(True)
        with frozen(weights):
            steering = steer(pixels)
            with foreign_code(f"the gradient of {self.name}"):
                (gradient,) = torch.autograd.grad(steering, pixels)
        return np.asarray(self.scale.factor * gradient[0].numpy(), np.float32)


class ModuleDriver(ForeignDriver):
    """A PyTorch module without memory: a batch of frames in, a batch of steering out."""

    def __init__(
        self,
        module: nn.Module,
        frame_format: FrameFormat,
        scale: SteeringScale | None = None,
        period_s: float | None = None,
        name: str = "the module",
    ):
        """Take a module, in evaluation mode from here on; it must map `[B, …]` frames to `[B]` or `[B, M]`.

        Frames come to the device and in the precision of its weights.

        Raises:
            ForeignCodeError: if it cannot be put into evaluation mode.
        """
        super().__init__(frame_format, scale or SteeringScale(), period_s, name=name)
        # A module of torch.export has a fixed mode and refuses to change it by NotImplementedError: it stays as it is.
        with foreign_code(f"{name}, put into evaluation mode,"), suppress(NotImplementedError):
            module.eval()
        self.module, self._singly = module, False
        self._device, self._dtype = torch.device("cpu"), torch.float32
        weights = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
        if weights:
            self._device, self._dtype = weights[0].device, weights[0].dtype

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `agents.driving.driver.Driver.act`."""
        with torch.inference_mode():
            if self._singly:
                return self._one_by_one(frames)
            try:
                return self.scale.actions(self._answers(torch.from_numpy(frames)), len(frames), self.name)
            except ForeignCodeError as error:
                if len(frames) == 1:
                    raise
                # Traced and exported modules are often made for a batch of one.
                try:
                    actions = self._one_by_one(frames)
                except ForeignCodeError:
                    raise error from error.__cause__
        _LOG.warning("%s does not take %d frames at once, and is shown them one by one", self.name, len(frames))
        self._singly = True
        return actions

    def _one_by_one(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = (torch.from_numpy(frames[row : row + 1]) for row in range(len(frames)))
        return np.concatenate([self.scale.actions(self._answers(row), 1, self.name) for row in rows])

    def steering_gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        """How the steering changes with the frame; see `PolicyDriver.steering_gradient`. Nothing is remembered."""

        def steer(pixels: torch.Tensor) -> torch.Tensor:
            answers = self._answers(pixels)
            self.scale.actions(answers, 1, self.name)
            return answers.reshape(-1)[0]

        return self._frame_gradient(frame, self.module, steer)

    def _answers(self, frames: torch.Tensor) -> torch.Tensor:
        pixels = self.format(frames).to(self._device, self._dtype)
        with foreign_code(self._shown(pixels), SAY_FRAMES):
            answers = self.module(pixels)
            return answers.cpu() if isinstance(answers, torch.Tensor) else answers


class FunctionDriver(ForeignDriver):
    """A function from one frame to steering."""

    def __init__(
        self,
        function: Callable[[NDArray[Any]], Any],
        frame_format: FrameFormat,
        scale: SteeringScale | None = None,
        period_s: float | None = None,
        name: str = "the function",
    ):
        """Take a function of one frame that returns a number, or `[M]` numbers."""
        super().__init__(frame_format, scale or SteeringScale(), period_s, name=name)
        self.function = function

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `agents.driving.driver.Driver.act`."""
        pixels = self.format(torch.from_numpy(frames)).numpy()
        with foreign_code(self._shown(pixels[0]), SAY_FRAMES):
            answers = [self.function(one) for one in pixels]
        return self.scale.actions([self._row(answer) for answer in answers], len(frames), self.name)

    def _row(self, answer: Any) -> NDArray[np.float64]:
        numbers = as_numbers(answer)
        if numbers is None or numbers.size not in (1, 2):
            raise ForeignCodeError(
                f"{self.name} must answer a frame with a number (steering) or two (steering and throttle), and gave "
                f"{described(answer)}."
            )
        return numbers.reshape(-1)


class ObjectDriver(ForeignDriver):
    """A `Driver` of somebody else: it is shown frames of its format, and its answers are scaled."""

    def __init__(
        self,
        driver: Any,
        frame_format: FrameFormat,
        scale: SteeringScale | None = None,
        period_s: float | None = None,
        name: str = "the driver",
    ):
        """Take an object with `act(frames, elapsed, starts, envs)`.

        Raises:
            ForeignCodeError: if it says of itself what cannot be.
        """
        with foreign_code(f"asking {name} for period_s, motors and frame_size"):
            own = [getattr(driver, word, None) for word in ("period_s", "motors", "frame_size")]
        own_s = period_s or checked_period(own[0], name)
        if (size := checked_size(own[2], name)) is not None and frame_format.height is None:
            frame_format = replace(frame_format, height=size[0], width=size[1])
        super().__init__(frame_format, scale or SteeringScale(), own_s, checked_motors(own[1], name), name)
        self.driver = driver
        self.steering_gradient: Callable[..., NDArray[np.float32]] | None = None
        plain = frame_format.colour == "rgb" and frame_format.range == "0..255" and frame_format.layout == "HWC"
        if getattr(driver, "steering_gradient", None) is not None and plain and not any(frame_format.crops.values()):
            self.steering_gradient = self._gradient

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving.driver.Driver.act`."""
        pixels = self.format(torch.from_numpy(frames)).numpy()
        with foreign_code(self._shown(pixels), "It is called as act(frames, elapsed, starts, envs)."):
            answers = self.driver.act(pixels, elapsed, starts, envs)
        return self.scale.actions(answers, len(frames), self.name)

    def _gradient(self, slot: int, frame: NDArray[np.float32], *more: Any) -> NDArray[np.float32]:
        with foreign_code(f"the steering_gradient of {self.name}"):
            found = self.driver.steering_gradient(slot, frame, *more)
        gradient = as_numbers(found)
        if gradient is None or gradient.shape != frame.shape or not np.isfinite(gradient).all():
            raise ForeignCodeError(
                f"the steering_gradient of {self.name} must be {list(frame.shape)} finite numbers, as the frame, got "
                f"{described(found)}."
            )
        return np.asarray(self.scale.factor * gradient, np.float32)


def checked_period(period_s: Any, name: str) -> float | None:
    """Check what a driver says of the time between two frames, seconds; None stays None.

    Raises:
        ForeignCodeError: if it is no time.
    """
    if period_s is None:
        return None
    number = as_numbers(period_s)
    if number is None or number.size != 1 or not 1e-4 <= number.item() <= 60.0:
        raise ForeignCodeError(
            f"period_s of {name} must be None or a time between two frames in [0.0001, 60] s, got "
            f"{described(period_s)}."
        )
    return number.item()


def checked_motors(motors: Any, name: str) -> int:
    """Check what a driver says of the number of its actions; None is one.

    Raises:
        ForeignCodeError: if it is neither 1 (steering) nor 2 (steering and throttle).
    """
    if motors is not None and motors not in (1, 2):
        raise ForeignCodeError(f"motors of {name} must be 1 (steering) or 2 (and throttle), got {described(motors)}.")
    return int(motors or 1)


def checked_size(size: Any, name: str) -> tuple[int, int] | None:
    """Check what a driver says of the rows and columns of its frames; None stays None.

    Raises:
        ForeignCodeError: if it is no size.
    """
    if size is None:
        return None
    numbers = as_numbers(size)
    sides = [] if numbers is None else numbers.tolist()
    if np.shape(sides) != (2,) or not all(LEAST_PIXELS <= side <= MOST_PIXELS and side % 1 == 0 for side in sides):
        raise ForeignCodeError(
            f"frame_size of {name} must be None or (rows, columns), each {LEAST_PIXELS} to {MOST_PIXELS}, got "
            f"{described(size)}."
        )
    return int(sides[0]), int(sides[1])
