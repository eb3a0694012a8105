"""ONNX files as drivers, with or without state: names, sizes and types are read from the file.

driver = OnnxDriver(Path("driver.onnx"), DriverOptions())
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver_options import DriverOptions
from agents.driving.foreign import (
    LEAST_PIXELS,
    MOST_PIXELS,
    SAY_FRAMES,
    ForeignDriver,
    SteeringScale,
    checked_motors,
    checked_period,
)
from agents.driving.frame_format import FrameFormat, fit_preprocessing
from agents.runs.reading import MOST_BYTES, check_regular, damaged, one_line, parse_json
from envs.foreign_code import foreign_code
from policies.preprocessing import Preprocessing

WORMWHEEL_ENTRY = "wormwheel-driver"
"""Metadata entry of the ONNX files that `wormwheel export` writes."""
STEERING_WORDS = ("steer", "motor", "action", "angle")
"""What the name of the output that steers holds, where there are several outputs."""
_STEPS = ("", "in", "out", "input", "output", "next", "new", "prev", "previous", "old", "last", "init", "initial")
"""Words by which the names of a state before and after a step differ."""


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
        frame_format = self._format(path, options)
        with damaged(path, "export the policy again"):
            self._read_own(path, parse_json(metadata.get(WORMWHEEL_ENTRY, "{}"), path), frame_format, options, camera)
        if self._own is not None and options.crops is None and camera is not None:
            fit_preprocessing(self._own, str(path), camera, None)  # its crop is one of frames of its own size
        self._states: list[dict[str, NDArray[Any]]] = []

    def _read_own(
        self,
        path: Path,
        own: dict[str, Any],
        frame_format: FrameFormat,
        options: DriverOptions,
        camera: tuple[int, int] | None,
    ) -> None:
        """Take crop, period and motors from what `wormwheel export` put into the file."""
        self._own: Preprocessing | None = None
        if "preprocessing" in own:
            self._own = fit = Preprocessing(**own["preprocessing"])
            names = ("crop_top", "crop_bottom", "crop_left", "crop_right", "crop_horizon")
            crops = {name: getattr(fit, name) for name in names if getattr(fit, name) is not None}
            frame_format = replace(frame_format, crops=options.crops or crops)
            self._source = (fit.source_height, fit.source_width) if options.crops is None else camera
        else:
            frame_format = frame_format.with_crops(options.crops)
            self._source = None
        name = str(path)
        period_s = options.driver_period_s or checked_period(own.get("period_s"), name)
        motors = checked_motors(own.get("motors", self._answers), name)
        scale = SteeringScale.of(options) if self._own is None else SteeringScale(gain=options.steering_gain or 1.0)
        super().__init__(frame_format, scale, period_s, motors, name)

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
        if self._source is not None and frames.shape[1:3] != self._source:
            raise ValueError(
                f"{self.name} sees frames of {self._source[0]}×{self._source[1]} pixels, got "
                f"{frames.shape[1]}×{frames.shape[2]}."
            )
        pixels = self.format(torch.from_numpy(frames)).numpy().astype(_dtype(self._frame))
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
            with foreign_code(self._shown(pixels[row]), SAY_FRAMES):
                found = dict(zip(self._outputs, self._session.run(self._outputs, given), strict=True))
            self._states[row] = {name: found[back] for name, back in self._memory.items()}
            answers.append(found[self._steering].reshape(-1))
        return self.scale.actions(answers, len(frames), self.name)

    def _fresh(self) -> dict[str, NDArray[Any]]:
        return {value.name: np.zeros(_sizes(value), _dtype(value)) for value in self._remembered}

    def _sort(self, path: Path) -> None:
        """Find out what each input and output is."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        frames = [value for value in inputs if len(value.shape) >= 3]
        if not frames:
            shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
            raise ValueError(f"{path} has no input for a frame (three axes or more): {shapes or 'no inputs at all'}.")
        # A state may have three axes too: the frame is what looks most like a picture, the largest of several.
        self._frame = max(
            frames, key=lambda value: (_is_image(value.shape), len(value.shape) > 3, np.prod(_sizes(value)))
        )
        rest = [value for value in inputs if value is not self._frame]
        self._clocks = [value for value in rest if "elapsed" in value.name.lower() or value.name.lower() == "dt"]
        self._flags = [value for value in rest if any(word in value.name.lower() for word in ("start", "reset"))]
        self._remembered = [value for value in rest if value not in self._clocks and value not in self._flags]
        for value in (self._frame, *rest, *outputs):
            if _dtype(value) is None:
                raise ValueError(
                    f"{path} has {value.name} of {value.type}; a driver takes and gives {', '.join(_KINDS)}. "
                    "Wrap the model: --policy file.py:factory."
                )
        self._memory = self._match(path, outputs)
        free = [out for out in outputs if out.name not in self._memory.values()]
        if not free:
            raise ValueError(f"{path} has no output left for the steering beside its state.")
        named = [out for out in free if any(word in out.name.lower() for word in STEERING_WORDS)]
        if len(free) > 1 and len(named) != 1:
            raise ValueError(
                f"{path} has the outputs {', '.join(f'{out.name} {out.shape}' for out in free)}, and not one of "
                f"them is called by {', '.join(STEERING_WORDS)}: name the one that steers, or wrap the model: "
                "--policy file.py:factory."
            )
        steering = (named or free)[0]
        self._steering, self._answers = steering.name, int(np.prod(_sizes(steering)))
        if self._answers not in (1, 2):
            raise ValueError(
                f"{path} answers with {steering.name} {steering.shape}; a driver gives 1 number (steering) or 2 "
                "(steering and throttle). Classes and the like need a wrapper: --policy file.py:factory."
            )
        self._outputs = [self._steering, *self._memory.values()]

    def _match(self, path: Path, outputs: Sequence[Any]) -> dict[str, str]:
        """Find the output that gives the next value of each state, by name or by size.

        Of inputs and outputs whose names say nothing, those of one size and type belong together in their order, where
        there are as many of the one as of the other. One number without a name that says so may be a speed.
        """
        memory: dict[str, str] = {}
        free = [out for out in outputs if not any(word in out.name.lower() for word in STEERING_WORDS)]
        alike = {
            value.name: [out for out in free if _sizes(out) == _sizes(value) and out.type == value.type]
            for value in self._remembered
        }
        for value in self._remembered:
            kin = [out for out in alike[value.name] if _stem(value.name) == _stem(out.name)]
            if len(kin) == 1:
                memory[value.name] = kin[0].name
        unnamed = [value for value in self._remembered if value.name not in memory]
        for value in unnamed:
            left = [out for out in alike[value.name] if out.name not in memory.values()]
            rivals = [one for one in unnamed if _sizes(one) == _sizes(value) and one.name not in memory]
            if len(left) != len(rivals) or len(outputs) == 1 or np.prod(_sizes(value)) == 1:
                raise ValueError(
                    f"{path} has an input {value.name} {value.shape} that is neither frame, time nor start, and no "
                    "output is clearly its next value: call them as in state and next_state, or wrap the model: "
                    "--policy file.py:factory."
                )
            memory[value.name] = left[0].name
        return memory

    def _format(self, path: Path, options: DriverOptions) -> FrameFormat:
        """Read the frame's format from the shape of its input."""
        shape = list(self._frame.shape)
        if any(isinstance(size, int) and size > 1 for size in shape[:-3]):
            raise ValueError(
                f"{path} takes {self._frame.name} {shape}: several frames at once. A driver sees one; wrap the model: "
                "--policy file.py:factory, and keep the frames there."
            )
        sizes = [value if isinstance(value, int) and value >= 0 else None for value in shape[-3:]]
        self._lead = (1,) * (len(shape) - 3)
        layout = options.layout or ("HWC" if sizes[2] in (1, 3) else "CHW")
        channels, *plane = (sizes[2], *sizes[:2]) if layout == "HWC" else sizes
        if channels not in (1, 3, None):
            raise ValueError(
                f"{path} takes frames {self._frame.shape} with {channels} channels; a driver sees 1 or 3. Several "
                "frames at once need a wrapper: --policy file.py:factory."
            )
        wanted = options.frame_size or (None, None)
        height, width = (want if have is None else have for have, want in zip(plane, wanted, strict=True))
        if not all(side is None or LEAST_PIXELS <= side <= MOST_PIXELS for side in (height, width)):
            raise ValueError(
                f"{path} takes frames {shape}: {height} rows and {width} columns, if they are {layout}; each must be "
                f"{LEAST_PIXELS} to {MOST_PIXELS}. Say the order of the axes by --layout."
            )
        kind = _dtype(self._frame)
        whole = np.issubdtype(kind, np.integer)
        return FrameFormat(
            height,
            width,
            layout,
            "0..255" if whole else options.range or "0..1",
            options.colour or ("grey" if channels == 1 else "rgb"),
            whole,
        )


def _sizes(value: Any) -> tuple[int, ...]:
    """Return the shape of an ONNX value; axes without a size are 1."""
    return tuple(size if isinstance(size, int) and size > 0 else 1 for size in value.shape)


def _is_image(shape: Sequence[Any]) -> bool:
    return len(shape) >= 3 and (shape[-1] in (1, 3) or shape[-3] in (1, 3))


def _stem(name: str) -> str:
    """Return what an input and the output that gives its next value have in common: `h` of h0, hn and h_out."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word not in _STEPS]
    stem = "_".join(words)
    return stem.removesuffix("n") if len(stem) == 2 else stem


_KINDS = {"float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_}
_KINDS |= {"int64": np.int64, "int32": np.int32, "uint8": np.uint8}


def _dtype(value: Any) -> Any:
    """Return numpy's type of an ONNX value; None for those that are no numbers here."""
    return _KINDS.get(value.type.removeprefix("tensor(").removesuffix(")"))
