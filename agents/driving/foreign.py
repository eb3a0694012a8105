"""Drivers that others made: PyTorch modules, functions, ONNX files, zips of Stable-Baselines3.

    driver = ModuleDriver(net, FrameFormat(66, 200, layout="CHW", range="0..1"))
    driver = OnnxDriver(Path("driver.onnx"), DriverOptions())

What they say is turned to steering by `SteeringScale`: sign, degrees, gain. `agents.driving.open_driver` chooses among
them by what a file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from agents.driving.driver import frozen
from agents.driving.driver_options import DriverOptions
from agents.driving.frame_format import FrameFormat
from agents.runs.reading import MOST_BYTES, check_regular, damaged, one_line, parse_json
from policies.preprocessing import Preprocessing

WORMWHEEL_ENTRY = "wormwheel-driver"
"""Metadata entry of the ONNX files that `wormwheel export` writes."""


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

    def actions(self, answers: NDArray[Any]) -> NDArray[np.float32]:
        """Turn answers `[B]` or `[B, M]`, the first one steering, to actions `[B, M]` in [−1, 1].

        Raises:
            ValueError: if some are not finite.
        """
        actions = np.asarray(answers, np.float32).reshape(len(answers), -1).copy()
        if not np.isfinite(actions).all():
            raise ValueError("the driver gave steering that is not a finite number; look at its input range (--range).")
        actions[:, 0] *= np.float32(self.factor)
        return np.clip(actions, -1.0, 1.0)


class ForeignDriver:
    """What the drivers of this file share: a frame format, a scale, and nothing known of the car.

    Attributes:
        format: what it takes.
        scale: what its answers mean.
        period_s: time between two frames that it expects, seconds; None where it does not say.
        motors: number of actions.
    """

    def __init__(self, frame_format: FrameFormat, scale: SteeringScale, period_s: float | None = None, motors: int = 1):
        self.format, self.scale = frame_format, scale
        self.period_s, self.motors = period_s, motors

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of the frames that it takes; None where any size will do."""
        return self.format.camera_size


class ModuleDriver(ForeignDriver):
    """A PyTorch module without memory: a batch of frames in, a batch of steering out."""

    def __init__(
        self,
        module: nn.Module,
        frame_format: FrameFormat,
        scale: SteeringScale | None = None,
        period_s: float | None = None,
    ):
        """Take a module, in evaluation mode from here on; it must map `[B, …]` frames to `[B]` or `[B, M]`."""
        super().__init__(frame_format, scale or SteeringScale(), period_s)
        self.module = module.eval()

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `agents.driving.driver.Driver.act`."""
        with torch.inference_mode():
            answers = self._answers(torch.from_numpy(frames))
        return self.scale.actions(answers.float().numpy())

    def steering_gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        """How the steering changes with the frame; see `PolicyDriver.steering_gradient`. Nothing is remembered."""
        pixels = torch.from_numpy(frame[None]).requires_grad_(True)
        with frozen(self.module):
            (gradient,) = torch.autograd.grad(self._answers(pixels).reshape(-1)[0], pixels)
        return np.asarray(self.scale.factor * gradient[0].numpy(), np.float32)

    def _answers(self, frames: torch.Tensor) -> torch.Tensor:
        answers = self.module(self.format(frames))
        if not isinstance(answers, torch.Tensor) or answers.shape[:1] != frames.shape[:1] or answers.ndim > 2:
            got = list(answers.shape) if isinstance(answers, torch.Tensor) else type(answers).__name__
            raise ValueError(
                f"a module that drives must map a batch of {len(frames)} frames to a tensor [{len(frames)}] or "
                f"[{len(frames)}, M], got {got}. For one with memory, let the factory return an object with "
                "act(frames, elapsed, starts, envs)."
            )
        return answers


class FunctionDriver(ForeignDriver):
    """A function from one frame to steering."""

    def __init__(
        self,
        function: Callable[[NDArray[Any]], Any],
        frame_format: FrameFormat,
        scale: SteeringScale | None = None,
        period_s: float | None = None,
    ):
        """Take a function of one frame that returns a number, or `[M]` numbers."""
        super().__init__(frame_format, scale or SteeringScale(), period_s)
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
        return self.scale.actions(np.stack([np.asarray(self.function(one), np.float32).reshape(-1) for one in pixels]))


class ObjectDriver(ForeignDriver):
    """A `Driver` of somebody else: it is shown frames of its format, and its answers are scaled."""

    def __init__(
        self, driver: Any, frame_format: FrameFormat, scale: SteeringScale | None = None, period_s: float | None = None
    ):
        """Take an object with `act(frames, elapsed, starts, envs)`."""
        own = getattr(driver, "period_s", None)
        super().__init__(
            frame_format, scale or SteeringScale(), period_s or own, int(getattr(driver, "motors", None) or 1)
        )
        self.driver = driver
        self.steering_gradient: Callable[..., NDArray[np.float32]] | None = None
        plain = frame_format.colour == "rgb" and frame_format.range == "0..255" and frame_format.layout == "HWC"
        if getattr(driver, "steering_gradient", None) is not None and plain and not any(frame_format.crops.values()):
            self.steering_gradient = self._gradient

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of the frames that it takes; None where any size will do."""
        return self.format.camera_size or getattr(self.driver, "frame_size", None)

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving.driver.Driver.act`."""
        pixels = self.format(torch.from_numpy(frames)).numpy()
        return self.scale.actions(self.driver.act(pixels, elapsed, starts, envs))

    def _gradient(self, *arguments: Any) -> NDArray[np.float32]:
        return np.asarray(self.scale.factor * self.driver.steering_gradient(*arguments), np.float32)


class OnnxDriver(ForeignDriver):
    """An ONNX file, with or without state; names, sizes and types are read from it.

    The input of three or more axes is the frame, `[1, …]` or `[1, 1, …]`; inputs whose names hold "elapsed" or "dt" are
    the time since the previous frame in nominal periods, those whose names hold "start" or "reset" say where an episode
    begins; every other one is state and must come back as an output of the same size. What is left among the outputs is
    the steering. Files that `wormwheel export` wrote bring their crop and period.
    """

    def __init__(self, path: Path, options: DriverOptions, camera: tuple[int, int] | None = None):
        """Open a file.

        Args:
            path: the file.
            options: what it cannot say.
            camera: rows and columns of the frames that will come; its own when None.

        Raises:
            ValueError: if it is not ONNX, or no driver.
            ModuleNotFoundError: if onnxruntime is missing.
        """
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{path} is an ONNX file and needs onnxruntime: pip install -e '.[onnx]'.", name=None
            ) from error
        check_regular(path, MOST_BYTES)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ValueError(f"{path} cannot be read as ONNX: {one_line(error)}") from error
        self._sort(path)
        metadata = self._session.get_modelmeta().custom_metadata_map
        with damaged(path, "export the policy again"):
            self._read_own(path, parse_json(metadata.get(WORMWHEEL_ENTRY, "{}"), path), options, camera)
        self._states: list[dict[str, NDArray[Any]]] = []

    def _read_own(
        self, path: Path, own: dict[str, Any], options: DriverOptions, camera: tuple[int, int] | None
    ) -> None:
        """Take crop, period and motors from what `wormwheel export` put into the file."""
        frame_format = self._format(path, options)
        if "preprocessing" in own:
            fit = Preprocessing(**own["preprocessing"])
            crops = {name: getattr(fit, name) for name in ("crop_top", "crop_bottom", "crop_left", "crop_right")}
            frame_format = replace(frame_format, crops=options.crops or crops)
            self._source = (fit.source_height, fit.source_width) if options.crops is None else camera
        else:
            frame_format = frame_format.with_crops(options.crops)
            self._source = None
        period_s = options.driver_period_s or own.get("period_s")
        super().__init__(frame_format, SteeringScale.of(options), period_s, int(own.get("motors", 1)))

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of the frames that it takes; None where any size will do."""
        return self._source or self.format.camera_size

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone, row by row; see `agents.driving.driver.Driver.act`."""
        pixels = self.format(torch.from_numpy(frames)).numpy()
        if len(self._states) != len(frames):
            self._states = [self._fresh() for _ in frames]
        answers = []
        for row in range(len(frames)):
            if starts[row]:
                self._states[row] = self._fresh()
            given: dict[str, Any] = {self._frame.name: pixels[row].reshape(self._lead + pixels[row].shape)}
            for clock in self._clocks:
                given[clock.name] = np.full(_sizes(clock), elapsed[row], _dtype(clock))
            for flag in self._flags:
                given[flag.name] = np.full(_sizes(flag), starts[row], _dtype(flag))
            given.update(self._states[row])
            found = dict(zip(self._outputs, self._session.run(self._outputs, given), strict=True))
            self._states[row] = {name: found[back] for name, back in self._memory.items()}
            answers.append(np.asarray(found[self._steering], np.float32).reshape(-1)[: self.motors])
        return self.scale.actions(np.stack(answers))

    def _fresh(self) -> dict[str, NDArray[Any]]:
        return {value.name: np.zeros(_sizes(value), _dtype(value)) for value in self._remembered}

    def _sort(self, path: Path) -> None:
        """Find out what each input and output is."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        frames = [value for value in inputs if len(value.shape) >= 3]
        if not frames:
            shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
            raise ValueError(f"{path} has no input for a frame (three axes or more): {shapes or 'no inputs at all'}.")
        self._frame = next((value for value in frames if _is_image(value.shape)), frames[0])
        rest = [value for value in inputs if value is not self._frame]
        self._clocks = [value for value in rest if "elapsed" in value.name.lower() or value.name.lower() == "dt"]
        self._flags = [value for value in rest if any(word in value.name.lower() for word in ("start", "reset"))]
        self._remembered = [value for value in rest if value not in self._clocks and value not in self._flags]
        free = list(outputs)
        self._memory: dict[str, str] = {}
        for value in self._remembered:
            same = [out for out in free if _sizes(out) == _sizes(value) and out.type == value.type]
            # Of several of one size, the one whose name holds that of the input, as in state → next_state.
            same.sort(key=lambda out: _stem(value.name) not in out.name.lower())
            if not same or (len(free) == 1 and len(outputs) == 1):
                raise ValueError(
                    f"{path} has an input {value.name} {value.shape} that is neither frame, time nor start, and no "
                    "output of its size gives the next one. Wrap the model: --policy file.py:factory."
                )
            self._memory[value.name] = same[0].name
            free.remove(same[0])
        if not free:
            raise ValueError(f"{path} has no output left for the steering beside its state.")
        words = ("steer", "motor", "action", "angle")
        free.sort(key=lambda out: not any(word in out.name.lower() for word in words))
        self._steering = free[0].name
        self._outputs = [self._steering, *self._memory.values()]

    def _format(self, path: Path, options: DriverOptions) -> FrameFormat:
        """Read the frame's format from the shape of its input."""
        shape = list(self._frame.shape)
        sizes = [value if isinstance(value, int) and value > 0 else None for value in shape[-3:]]
        self._lead = (1,) * (len(shape) - 3)
        layout = options.layout or ("HWC" if sizes[2] in (1, 3) else "CHW")
        channels, *plane = (sizes[2], *sizes[:2]) if layout == "HWC" else sizes
        if channels not in (1, 3, None):
            raise ValueError(
                f"{path} takes frames {self._frame.shape} with {channels} channels; a driver sees 1 or 3. Several "
                "frames at once need a wrapper: --policy file.py:factory."
            )
        height, width = (have or want for have, want in zip(plane, options.frame_size or (None, None), strict=True))
        integer = "uint8" in self._frame.type
        return FrameFormat(
            height,
            width,
            layout,
            "0..255" if integer else options.range or "0..1",
            options.colour or ("grey" if channels == 1 else "rgb"),
            integer,
        )


class Sb3Driver(ForeignDriver):
    """A model of Stable-Baselines3 or sb3-contrib, acting without chance; recurrent ones keep their state.

    Its observation must be an image (uint8, or float in [0, 1]; channels first or last), or `Dict(camera, elapsed)`.
    """

    def __init__(self, model: Any, options: DriverOptions):
        """Take a loaded model.

        Raises:
            ValueError: if it sees something else, or does not act continuously.
        """
        space, self._camera = model.observation_space, False
        if isinstance(space, spaces.Dict) and "camera" in space.spaces and set(space.spaces) <= {"camera", "elapsed"}:
            self._timed = "elapsed" in space.spaces
            space, self._camera = space["camera"], True
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(
                f"this model sees {model.observation_space}; a driver sees one image, or Dict(camera, elapsed)."
            )
        if not isinstance(model.action_space, spaces.Box):
            raise ValueError(f"this model's actions are {model.action_space}; a driver steers continuously (Box).")
        first = space.shape[0] in (1, 3) and space.shape[2] not in (1, 3)
        layout = options.layout or ("CHW" if first else "HWC")
        channels, height, width = space.shape if layout == "CHW" else (space.shape[2], *space.shape[:2])
        if channels not in (1, 3):
            raise ValueError(
                f"this model sees images {space.shape} with {channels} channels; a driver sees 1 or 3. Stacked frames "
                "need a wrapper: --policy file.py:factory."
            )
        integer = space.dtype == np.uint8
        low = float(space.low.min())
        frame_format = FrameFormat(
            height,
            width,
            layout,
            options.range or ("0..255" if integer else "-1..1" if low < 0 else "0..1"),
            options.colour or ("grey" if channels == 1 else "rgb"),
            integer,
        ).with_crops(options.crops)
        scale = SteeringScale.of(options)
        super().__init__(frame_format, scale, options.driver_period_s, int(np.prod(model.action_space.shape)))
        self.model = model
        self._state: Any = None
        self.steering_gradient: Callable[..., NDArray[np.float32]] | None = None
        if hasattr(model.policy, "get_distribution") and not self._camera and not hasattr(model.policy, "lstm_actor"):
            self.steering_gradient = self._gradient

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `agents.driving.driver.Driver.act`."""
        seen: Any = self.format(torch.from_numpy(frames)).numpy()
        if self._camera:
            seen = {"camera": seen, **({"elapsed": elapsed[:, None]} if self._timed else {})}
        actions, self._state = self.model.predict(seen, self._state, starts, deterministic=True)
        return self.scale.actions(actions)

    def _gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        pixels = torch.from_numpy(frame[None]).requires_grad_(True)
        with frozen(self.model.policy):
            seen = replace(self.format, integer=False)(pixels)
            if self.format.layout == "HWC":
                seen = seen.permute(0, 3, 1, 2)
            steering = self.model.policy.get_distribution(seen).mode()[0, 0]
            (gradient,) = torch.autograd.grad(steering, pixels)
        return np.asarray(self.scale.factor * gradient[0].numpy(), np.float32)


def _sizes(value: Any) -> tuple[int, ...]:
    """Return the shape of an ONNX value; axes without a size are 1."""
    return tuple(size if isinstance(size, int) and size > 0 else 1 for size in value.shape)


def _is_image(shape: Sequence[Any]) -> bool:
    return len(shape) >= 3 and (shape[-1] in (1, 3) or shape[-3] in (1, 3))


def _stem(name: str) -> str:
    """Return what an input and the output that gives its next value have in common."""
    return name.lower().removesuffix("_in").removeprefix("in_").removesuffix("_0")


def _dtype(value: Any) -> Any:
    known = {"float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_}
    known |= {"int64": np.int64, "int32": np.int32, "uint8": np.uint8}
    return known[value.type.removeprefix("tensor(").removesuffix(")")]
