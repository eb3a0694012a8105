"""Drives a car with an exported Wormwheel policy: needs NumPy, and onnxruntime unless told to do without.

This file is whole by itself and runs on Python 3.10 to 3.13; beside it lies `driver.onnx` (or `driver.npz`, the same
program for NumPy alone). What the policy needs is stored in that file: crop, size, frame period.

    driver = Driver()                      # the folder of this file
    command = driver.drive(image)          # uint8 RGB [H, W, 3] as the camera gives it
    command.steering                       # share of full lock in [-1, 1], positive LEFT

Donkeycar (its sign: positive RIGHT), in manage.py:

    from car.driver import DonkeyPilot
    V.add(DonkeyPilot(throttle=0.2), inputs=["cam/image_array"], outputs=["pilot/angle", "pilot/throttle"])

A watchdog stands between the policy and the wheel: after a frame that is missing or has not changed for too long, a
number that is not finite, or an answer that took longer than a frame period, the last good steering fades to straight
ahead, the throttle is closed, and the event is logged.

    python driver.py                       # times itself on this computer
    python driver.py --frames frames.npy   # uint8 [T, H, W, 3]: prints the steering of each frame

One file, longer than this project's others, on purpose: it is copied to the car as it is, where nothing else of the
project is installed, and one file is what can be copied by hand, read from top to bottom and imported from anywhere.
From top to bottom: the driver with its watchdog, Donkeycar's part, crop and resize, the two engines, the operators of
the NumPy engine (half of the file), the command line.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ENGINES = ("onnxruntime", "numpy")
FORMAT = "wormwheel-driver"
SHORTEST, LONGEST = 0.01, 10.0
"""Range of the elapsed time that a policy is given, in its frame periods."""
TOLD_EVERY_S = 1.0
"""How often a fault that lasts is told again, s."""

_log = logging.getLogger("wormwheel.driver")


class Command(NamedTuple):
    """What to do now."""

    steering: float
    """Share of full lock in [-1, 1], positive left. In radians: times the car's largest steering angle."""
    throttle: float | None
    """In [-1, 1] where the policy has a throttle, else None; 0 after a fault."""
    fault: str | None
    """None, or why the watchdog took over: "stale", "not finite" or "late"."""


class Event(NamedTuple):
    """Something that the watchdog saw."""

    time_s: float
    """On the driver's clock."""
    kind: str
    """As `Command.fault`."""
    detail: str
    """One line."""


class Driver:
    """A policy with its clock and its watchdog.

    Attributes:
        config: what the policy needs: sizes, crops, frame period.
        events: the last thousand events of the watchdog, oldest first: a fault as it begins, and every second while it
            lasts.
        state: float32 `[1, S]`, the circuit's state.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        engine: str | None = None,
        threads: int = 1,
        stale_after_s: float = 0.5,
        deadline_s: float | None = None,
        fade_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Read the policy and run it once, so that the first frame is not late.

        Args:
            folder: where `driver.onnx` or `driver.npz` lies; that of this file when None.
            engine: "onnxruntime" or "numpy"; None takes onnxruntime where there is a `driver.onnx`.
            threads: of onnxruntime.
            stale_after_s: a picture that has not changed for so long is stale, s.
            deadline_s: longest time for an answer, s; the policy's frame period when None.
            fade_s: after a fault, the last good steering fades to straight ahead in so many seconds.
            clock: seconds that only ever grow.

        Raises:
            ValueError: if the engine does not exist or a file is not an exported policy.
            FileNotFoundError: if the folder holds no policy for the engine.
        """
        folder = Path(__file__).resolve().parent if folder is None else Path(folder)
        if engine not in (None, *ENGINES):
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
        if engine is None:
            engine = "onnxruntime" if (folder / "driver.onnx").is_file() else "numpy"
        self.engine = engine
        self._run: Callable[..., tuple[np.ndarray, np.ndarray]]
        if engine == "numpy":
            self.config, self._run = _open_numpy(folder / "driver.npz")
        else:
            self.config, self._run = _open_onnx(folder / "driver.onnx", threads)
        self._stale_after_s, self._fade_s, self._clock = stale_after_s, fade_s, clock
        self.events: deque[Event] = deque(maxlen=1000)
        with _named(folder / ("driver.npz" if engine == "numpy" else "driver.onnx")):
            self.period_s, fit = float(self.config["period_s"]), self.config["preprocessing"]
            states, height, width = int(self.config["state_size"]), fit["source_height"], fit["source_width"]
            if not 0 < self.period_s < math.inf or not 0 <= states < 1 << 24 or not 0 < height * width < 1 << 26:
                raise ValueError("period, state or frames of a size that no policy has")
            self._fit = Fit(fit)
            self.state = np.zeros((1, states), np.float32)
            motors = self.step(np.zeros((height, width, 3), np.uint8))
            if motors.ndim != 1 or not len(motors) or self.state.shape != (1, states):
                raise ValueError("its outputs are no motors and state")
        self._deadline_s = self.period_s if deadline_s is None else deadline_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first one."""
        self.state = np.zeros_like(self.state)
        self._fresh = True
        self._seen: np.ndarray | None = None
        self._seen_s = self._last_s = self._good_s = self._clock()
        self._good = 0.0
        self._told, self._told_s = "", 0.0

    def step(self, image: np.ndarray, elapsed: float = 1.0, start: bool = False) -> np.ndarray:
        """Run the policy on one frame, without the watchdog.

        Args:
            image: uint8 RGB `[H, W, 3]` at the size of the camera that it was trained with.
            elapsed: time since the frame before, in frame periods, > 0.
            start: whether the state starts over with this frame.

        Returns:
            float32 `[M]` motors in [-1, 1]: steering, positive left, and the throttle where there is one.
        """
        frame = self._fit(image)[None]
        now, begins = np.full((1, 1), elapsed, np.float32), np.full((1, 1), start)
        motors, self.state = self._run(frame, self.state, now, begins)
        return motors[0]

    def drive(self, image: np.ndarray | None, time_s: float | None = None) -> Command:
        """Steer.

        Args:
            image: uint8 RGB `[H, W, 3]`; None where the camera gave none.
            time_s: when the frame was taken, on the driver's clock; now when None.

        Raises:
            ValueError: if the image has another size or type than the policy was trained with.
        """
        began_s = self._clock()
        taken_s = began_s if time_s is None else time_s
        if image is None:
            return self._fault("stale", "the camera gave no frame", began_s)
        if self._seen is None or not np.array_equal(image, self._seen):
            self._seen, self._seen_s = np.array(image), taken_s
        if began_s - min(taken_s, self._seen_s) > self._stale_after_s:
            age_s = began_s - min(taken_s, self._seen_s)
            return self._fault("stale", f"the picture is {age_s:.2f} s old", began_s)
        elapsed = 1.0 if self._fresh else (taken_s - self._last_s) / self.period_s
        motors = self.step(image, min(max(elapsed, SHORTEST), LONGEST), self._fresh)
        took_s = self._clock() - began_s
        self._fresh, self._last_s = False, taken_s
        if not (np.isfinite(motors).all() and np.isfinite(self.state).all()):
            self.state, self._fresh = np.zeros_like(self.state), True  # nothing finite comes of such a state
            return self._fault("not finite", "the policy gave a number that is not finite", began_s)
        if took_s > self._deadline_s:
            return self._fault("late", f"the answer took {1e3 * took_s:.0f} ms", began_s)
        self._good, self._good_s, self._told = float(motors[0]), began_s, ""
        return Command(self._good, float(motors[1]) if len(motors) > 1 else None, None)

    def _fault(self, kind: str, detail: str, now_s: float) -> Command:
        left = 1.0 - (now_s - self._good_s) / self._fade_s if self._fade_s > 0 else 0.0
        steering = self._good * min(max(left, 0.0), 1.0)
        if kind != self._told or now_s - self._told_s >= TOLD_EVERY_S:
            self._told, self._told_s = kind, now_s
            self.events.append(Event(now_s, kind, detail))
            _log.warning("watchdog: %s (%s); steering %+.2f, throttle 0", kind, detail, steering)
        return Command(steering, 0.0, kind)


class DonkeyPilot:
    """A part for Donkeycar's Vehicle loop: `run(image)` returns angle and throttle.

    The angle is in [-1, 1], positive RIGHT, as Donkeycar has it.
    """

    def __init__(self, folder: str | Path | None = None, throttle: float = 0.2, **options: Any):
        """Read the policy.

        Args:
            folder: as in `Driver`.
            throttle: constant throttle in [-1, 1], where the policy has none of its own.
            options: as in `Driver`.
        """
        self.driver = Driver(folder, **options)
        self._throttle = throttle

    def run(self, image: np.ndarray | None) -> tuple[float, float]:
        """Return angle and throttle for a frame."""
        command = self.driver.drive(image)
        throttle = self._throttle if command.throttle is None else command.throttle
        return -command.steering, throttle

    def shutdown(self) -> None:
        """Forget the drive."""
        self.driver.reset()


_FIT = ("source_height", "source_width", "height", "width", "crop_top", "crop_bottom", "crop_left", "crop_right")
"""What a policy says of its frames, pixels."""


class Fit:
    """From the camera's frame to the policy's: crop, then resize by area-averaging interpolation.

    Crops below zero add rows and columns: copies of the border, or, below the frame where the horizon is known, the
    road as a straight one would go on.
    """

    def __init__(self, fit: Mapping[str, int | None]):
        """Prepare the weights of both directions."""
        rows, columns, height, width, *crops = (int(fit[name] or 0) for name in _FIT)
        horizon = fit.get("crop_horizon")
        top, bottom, left, right = (max(crop, 0) for crop in crops)
        self._source = (rows, columns, 3)
        self._rows, self._columns = slice(top, rows - bottom), slice(left, columns - right)
        top, bottom, left, right = (max(-crop, 0) for crop in crops)
        self._road: tuple[np.ndarray, np.ndarray] | None = None
        if bottom and horizon is not None:
            middle = 0.5 * (columns - 1) - max(crops[2], 0)
            reach = float(self._rows.stop - 1 - int(horizon))  # rows from the vanishing point to the last row
            self._road, bottom = _road_taps(self._columns.stop - self._columns.start, bottom, middle, reach), 0
        self._border = ((top, bottom), (left, right), (0, 0))
        kept = rows - crops[0] - crops[1], columns - crops[2] - crops[3]
        self._sizes = kept, (height, width)
        self._across = _taps(kept[1], width)
        self._down = _taps(kept[0], height)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return uint8 `[h, w, 3]`.

        Raises:
            ValueError: if the image has another size or type.
        """
        if image.dtype != np.uint8 or image.shape != self._source:
            raise ValueError(
                f"this policy sees uint8 RGB frames of shape {self._source}, got {image.dtype} {image.shape}. Set the "
                "camera to that size, or train with frames of the camera's."
            )
        image = image[self._rows, self._columns]
        if self._road is not None:
            seen, part = self._road
            last = image[-1].astype(np.float32)
            image = np.concatenate([image.astype(np.float32), last[seen] * (1 - part) + last[seen + 1] * part])
        if self._border != ((0, 0), (0, 0), (0, 0)):
            image = np.pad(image, self._border, mode="edge")
        if self._sizes[0] != self._sizes[1]:
            image = _average(_average(image.astype(np.float32), 1, *self._across), 0, *self._down)
        if image.dtype == np.uint8:
            return np.ascontiguousarray(image)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _road_taps(columns: int, count: int, middle: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `count` rows below the frame which column of its last row it shows, and the share of the next.

    As `policies.preprocessing` has it: lines go on straight, away from the vanishing point, which lies `reach` rows
    above the last row in column `middle`; without any road to see the last row comes again.
    """
    below = np.arange(1, count + 1, dtype=np.float32)
    nearer = reach * (1 / (reach + below)) if reach >= 1 else np.ones_like(below)  # rounded as torch divides a number
    column = np.arange(columns, dtype=np.float32)
    seen = np.clip(middle + (column - middle) * nearer[:, None].astype(np.float32), 0, columns - 1)
    left = np.minimum(np.floor(seen).astype(np.int64), max(columns - 2, 0))
    return left, (seen - left).astype(np.float32)[..., None]


def _average(pixels: np.ndarray, axis: int, index: np.ndarray, weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average along an axis, rounding where torch on x86 does, so that no grey level is another one.

    Behind the first product, whole groups of four are multiplied, rounded and added; the rest are fused
    multiply-adds, rounded once.
    """
    shape = [1, 1, 1]
    shape[axis] = -1
    made = np.take(pixels, index[0], axis) * weights[0].reshape(shape)
    for k in range(1, len(index)):
        taken, weight = np.take(pixels, index[k], axis), weights[k].reshape(shape)
        apart = (k <= (counts - 1) // 4 * 4).reshape(shape)
        if apart.all():
            made += taken * weight
        else:
            exact = taken.astype(np.float64) * weight
            made = (np.where(apart, taken * weight, exact) + made).astype(np.float32)
    return made


def _taps(size: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `wanted` pixels which of `size` it averages, `[K, wanted]`, with what weights, and how many.

    The triangle filter of antialiased bilinear interpolation, as wide as the scale where it shrinks; rounded where
    torch rounds, so that the weights are the same to the last bit.
    """
    scale = np.float32(size) / np.float32(wanted)
    support = max(scale, np.float32(1.0))
    centre = (np.float64(scale) * (np.arange(wanted) + 0.5)).astype(np.float32)
    first = np.maximum(((centre - support).astype(np.float64) + 0.5).astype(np.int64), 0)
    last = np.minimum(((centre + support).astype(np.float64) + 0.5).astype(np.int64), size)
    index = first + np.arange(int((last - first).max()))[:, None]
    narrow = np.float32(1.0 / np.float64(support))
    away = np.abs((((index.astype(np.float32) - centre) + 0.5) * np.float64(narrow)).astype(np.float32))
    weights = np.where((index < last) & (away < 1.0), np.float32(1.0) - away, np.float32(0.0)).astype(np.float32)
    total = weights[0]
    for more in weights[1:]:
        total = total + more
    return np.minimum(index, size - 1), weights / total, last - first


def _open_onnx(path: Path, threads: int) -> tuple[dict[str, Any], Callable[..., tuple[np.ndarray, np.ndarray]]]:
    """Read `driver.onnx` with onnxruntime."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: export the policy, or take engine='numpy' with driver.npz.")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with _named(path):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        config = _config(session.get_modelmeta().custom_metadata_map.get(FORMAT, ""), path)
    names = [entry.name for entry in session.get_inputs()]
    outputs = ["motors", "next_state"]

    def run(frame: np.ndarray, state: np.ndarray, elapsed: np.ndarray, start: np.ndarray) -> Any:
        given = {"frame": frame, "state": state, "elapsed": elapsed, "start": start}
        return session.run(outputs, {name: given[name] for name in names})

    return config, run


def _open_numpy(path: Path) -> tuple[dict[str, Any], Callable[..., tuple[np.ndarray, np.ndarray]]]:
    """Read `driver.npz`: the nodes of the ONNX graph and its weights, run by this file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: export the policy with --numpy.")
    with _named(path):
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        config = _config(bytes(arrays.pop("config", np.zeros(0, np.uint8))).decode(), path)
        program = Program(config.pop("nodes"), arrays)

    def run(frame: np.ndarray, state: np.ndarray, elapsed: np.ndarray, start: np.ndarray) -> Any:
        return program({"frame": frame, "state": state, "elapsed": elapsed, "start": start}, ("motors", "next_state"))

    return config, run


MOST_BYTES = 256 << 20
"""Most memory that the weights of an exported policy take."""


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the block raise into one ValueError of one line that names it."""
    try:
        yield
    except Exception as error:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(words if str(path) in words else f"{path} is damaged ({words}): export it again.") from error


def _check_sizes(path: Path) -> None:
    """Check that an archive does not unpack to more than weights take."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size:,} bytes unpacked, at most {MOST_BYTES:,} were expected")


def _config(text: str, path: Path) -> dict[str, Any]:
    config = json.loads(text) if text else {}
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by `wormwheel export`.")
    return config


class Program:
    """A small interpreter of ONNX graphs: the operators that drivers use, on NumPy arrays of batch 1."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]], weights: Mapping[str, np.ndarray]):
        """Prepare a graph.

        Args:
            nodes: in order: `op`, `inputs`, `outputs` (names, "" for one left out) and `attributes`.
            weights: constants by name.

        Raises:
            ValueError: if an operator is unknown.
        """
        unknown = sorted({node["op"] for node in nodes} - set(OPERATORS))
        if unknown:
            raise ValueError(f"the NumPy engine does not know the ONNX operators {', '.join(unknown)}.")
        self._weights = dict(weights)
        self._nodes = [
            (OPERATORS[node["op"]], tuple(node["inputs"]), tuple(node["outputs"]), dict(node["attributes"]))
            for node in nodes
        ]

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Run the graph; returns the named outputs."""
        values: dict[str, Any] = {"": None, **self._weights, **inputs}
        with np.errstate(over="ignore"):  # exp(-x) may overflow to infinity in a sigmoid, which is then 0 as it should
            for operator, given, makes, attributes in self._nodes:
                made = operator(*[values[name] for name in given], **attributes)
                if len(makes) == 1:
                    values[makes[0]] = made
                else:
                    values.update(zip(makes, made, strict=False))  # those that nobody reads may be left out
        return tuple(values[name] for name in outputs)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1.0 / (1.0 + np.exp(-x))).astype(x.dtype)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    **rest: Any,
) -> np.ndarray:
    if (
        rest.get("group", 1) != 1
        or set(rest.get("dilations", [1])) != {1}
        or rest.get("auto_pad", "NOTSET") != "NOTSET"
    ):
        raise ValueError("the NumPy engine knows plain convolutions only.")
    top, left, bottom, right = pads
    x = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))  # [C, H, W]
    kernel = weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))[:, :: strides[0], :: strides[1]]
    rows, columns = windows.shape[1:3]
    patches = windows.transpose(0, 3, 4, 1, 2).reshape(-1, rows * columns)  # [C·kh·kw, h·w]
    made = weight.reshape(len(weight), -1) @ patches
    if bias is not None:
        made += bias[:, None]
    return made.reshape(1, len(weight), rows, columns)


def _gemm(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's names
    transB: int = 0,  # noqa: N803
) -> np.ndarray:
    made = (a.T if transA else a) @ (b.T if transB else b)
    if alpha != 1.0:
        made = made * np.float32(alpha)
    return made if c is None else made + (c if beta == 1.0 else c * np.float32(beta))


def _slice(x: np.ndarray, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> np.ndarray:
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut: list[slice] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        low = None if step < 0 and end < -x.shape[axis] else int(end)
        cut[int(axis)] = slice(int(start), low, int(step))
    return x[tuple(cut)]


def _split(x: np.ndarray, sizes: Any = None, axis: int = 0, num_outputs: int | None = None) -> list[np.ndarray]:
    if sizes is None:
        assert num_outputs is not None
        each = -(-x.shape[axis] // num_outputs)
        return np.split(x, [each * k for k in range(1, num_outputs)], axis)
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _reshape(x: np.ndarray, shape: Any, allowzero: int = 0) -> np.ndarray:
    wanted = [x.shape[k] if size == 0 and not allowzero else int(size) for k, size in enumerate(shape)]
    return x.reshape(wanted)


def _pad(x: np.ndarray, pads: Any, value: Any = None, axes: Any = None, mode: str = "constant") -> np.ndarray:
    axes = list(range(x.ndim)) if axes is None else [int(axis) for axis in axes]
    around = [(0, 0)] * x.ndim
    for k, axis in enumerate(axes):
        around[axis] = (int(pads[k]), int(pads[k + len(axes)]))
    if mode != "constant":
        return np.pad(x, around, mode=mode)  # type: ignore[call-overload]
    return np.pad(x, around, constant_values=0 if value is None else value.item())


def _gather_nd(x: np.ndarray, index: np.ndarray, batch_dims: int = 0) -> np.ndarray:
    if batch_dims:
        raise ValueError("the NumPy engine knows GatherND without batch dimensions only.")
    return x[tuple(np.moveaxis(index, -1, 0))]


def _scatter_nd(x: np.ndarray, index: np.ndarray, updates: np.ndarray, reduction: str = "none") -> np.ndarray:
    made, place = x.copy(), tuple(np.moveaxis(index, -1, 0))
    if reduction == "add":
        np.add.at(made, place, updates)
    elif reduction == "none":
        made[place] = updates
    else:
        raise ValueError(f"the NumPy engine does not know ScatterND with reduction {reduction!r}.")
    return made


def _scatter_elements(
    x: np.ndarray, index: np.ndarray, updates: np.ndarray, axis: int = 0, reduction: str = "none"
) -> np.ndarray:
    place: list[Any] = list(np.indices(index.shape))
    made = x.copy()
    place[axis] = index
    if reduction == "add":
        np.add.at(made, tuple(place), updates)
    else:
        made[tuple(place)] = updates
    return made


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    grown = np.exp(x - x.max(axis, keepdims=True))
    return grown / grown.sum(axis, keepdims=True)


def _layer_norm(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray | None = None, axis: int = -1, epsilon: float = 1e-5, **_: Any
) -> np.ndarray:
    axes = tuple(range(axis % x.ndim, x.ndim))
    away = x - x.mean(axes, keepdims=True)
    made = away / np.sqrt((away * away).mean(axes, keepdims=True) + np.float32(epsilon)) * scale
    return made if bias is None else made + bias


def _gelu(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    if approximate == "tanh":
        return (0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))).astype(x.dtype)
    return (0.5 * x * (1 + _erf(x * 0.7071067811865476))).astype(x.dtype)


def _lstm(
    x: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray,
    _lengths: Any = None,
    h: np.ndarray | None = None,
    c: np.ndarray | None = None,
    hidden_size: int = 0,
    **_: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One layer, one direction; x `[T, B, F]`; ONNX's gates: input, output, forget, cell."""
    h = np.zeros((1, x.shape[1], hidden_size), x.dtype) if h is None else h
    c = np.zeros_like(h) if c is None else c
    hidden, cell, made = h[0], c[0], []
    half = b.shape[1] // 2
    for frame in x:
        i, o, f, g = np.split(frame @ w[0].T + hidden @ r[0].T + (b[0, :half] + b[0, half:]), 4, axis=1)
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        hidden = _sigmoid(o) * np.tanh(cell)
        made.append(hidden[None])
    return np.stack(made), hidden[None], cell[None]


def _gru(
    x: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray,
    _lengths: Any = None,
    h: np.ndarray | None = None,
    hidden_size: int = 0,
    linear_before_reset: int = 0,
    **_: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """One layer, one direction; x `[T, B, F]`; ONNX's gates: update, reset, hidden."""
    if not linear_before_reset:
        raise ValueError("the NumPy engine knows GRU with linear_before_reset only.")
    hidden = np.zeros((x.shape[1], hidden_size), x.dtype) if h is None else h[0]
    made = []
    half = b.shape[1] // 2
    for frame in x:
        a, u = np.split(frame @ w[0].T + b[0, :half], 3, axis=1), np.split(hidden @ r[0].T + b[0, half:], 3, axis=1)
        update, reset = _sigmoid(a[0] + u[0]), _sigmoid(a[1] + u[1])
        new = np.tanh(a[2] + reset * u[2])
        hidden = (1 - update) * new + update * hidden
        made.append(hidden[None])
    return np.stack(made), hidden[None]


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def operator(x: np.ndarray, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> np.ndarray:
        if axes is None or not len(axes):
            if noop_with_empty_axes:
                return x
            axes = range(x.ndim)
        return function(x, axis=tuple(int(axis) for axis in axes), keepdims=bool(keepdims)).astype(x.dtype)

    return operator


def _cast(x: np.ndarray, to: int, **_: Any) -> np.ndarray:
    return x.astype(_TYPES[to])


def _clip(x: np.ndarray, low: Any = None, high: Any = None) -> np.ndarray:
    return np.clip(x, -np.inf if low is None else low, np.inf if high is None else high).astype(x.dtype)


def _quantize(x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None, axis: int = 1, **_: Any) -> np.ndarray:
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    bounds = np.iinfo(kind)
    offset = 0 if zero is None else _along(zero, x, axis).astype(np.float32)
    return np.clip(np.rint(x / _along(scale, x, axis)) + offset, bounds.min, bounds.max).astype(kind)


def _dequantize(
    x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None, axis: int = 1, **_: Any
) -> np.ndarray:
    plain = x.astype(np.float32)
    if zero is not None:
        plain -= _along(zero, x, axis).astype(np.float32)
    return plain * _along(scale, x, axis)


def _along(values: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    """Shape per-channel values so that they meet the axis they belong to."""
    if values.ndim == 0:
        return values
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)


def _cumsum(x: np.ndarray, axis: Any, exclusive: int = 0, reverse: int = 0) -> np.ndarray:
    if exclusive or reverse:
        raise ValueError("the NumPy engine knows plain CumSum only.")
    return np.cumsum(x, int(axis))


def _constant_of_shape(shape: Any, value: np.ndarray | None = None) -> np.ndarray:
    value = np.zeros(1, np.float32) if value is None else np.asarray(value)
    return np.full([int(size) for size in shape], value.item(), value.dtype)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a // b if np.issubdtype(a.dtype, np.integer) else a / b


def _unsqueeze(x: np.ndarray, axes: Any) -> np.ndarray:
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def _squeeze(x: np.ndarray, axes: Any = None) -> np.ndarray:
    return np.squeeze(x, None if axes is None else tuple(int(axis) for axis in axes))


_TYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16,
    11: np.float64,
}  # fmt: skip
"""ONNX's numbers for types."""

OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Cos": np.cos,
    "CumSum": _cumsum,
    "DequantizeLinear": _dequantize,
    "Div": _divide,
    "Equal": np.equal,
    "Erf": lambda x: _erf(x).astype(x.dtype),
    "Exp": np.exp,
    "Expand": lambda x, shape: x * np.ones([int(size) for size in shape], x.dtype),
    "Flatten": lambda x, axis=1: x.reshape(int(np.prod(x.shape[:axis])), -1),
    "Gather": lambda x, index, axis=0: np.take(x, index, axis),
    "GatherElements": lambda x, index, axis=0: np.take_along_axis(x, index, axis),
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "GRU": _gru,
    "Identity": lambda x: x,
    "IsNaN": np.isnan,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda x, alpha=0.01: np.where(x >= 0, x, x * np.float32(alpha)),
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "LSTM": _lstm,
    "MatMul": np.matmul,
    "Max": lambda *parts: np.maximum.reduce(np.broadcast_arrays(*parts)),
    "Min": lambda *parts: np.minimum.reduce(np.broadcast_arrays(*parts)),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Pad": _pad,
    "Pow": lambda x, y: np.power(x, y).astype(x.dtype),
    "QuantizeLinear": _quantize,
    "Reciprocal": lambda x: 1 / x,
    "ReduceL2": _reduce(lambda x, **how: np.sqrt((x * x).sum(**how))),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "Relu": lambda x: np.maximum(x, 0),
    "Reshape": _reshape,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": lambda x, start=0, end=None: np.array(x.shape[start:end], np.int64),
    "Sigmoid": _sigmoid,
    "Sin": np.sin,
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": lambda x: np.logaddexp(x, 0).astype(x.dtype),
    "Split": _split,
    "Sqrt": np.sqrt,
    "Squeeze": _squeeze,
    "Sub": np.subtract,
    "Sum": lambda *parts: sum(parts[1:], parts[0]),
    "Tanh": np.tanh,
    "Tile": lambda x, repeats: np.tile(x, [int(count) for count in repeats]),
    "Transpose": lambda x, perm=None: np.transpose(x, perm),
    "Unsqueeze": _unsqueeze,
    "Where": np.where,
}
"""ONNX operators by name, opset 18 to 20: inputs by position, attributes by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the driver, or print the steering for recorded frames."""
    parser = argparse.ArgumentParser(description="Drive with the policy in this folder.")
    parser.add_argument("--numpy", action="store_true", help="do without onnxruntime (needs driver.npz)")
    parser.add_argument("--frames", type=Path, help="a .npy file, uint8 RGB [T, H, W, 3]")
    parser.add_argument("--runs", type=int, default=300, help="frames to time without --frames")
    options = parser.parse_args(arguments)
    try:
        began_s = time.perf_counter()
        driver = Driver(engine="numpy" if options.numpy else None)
        ready_s = time.perf_counter() - began_s
        if options.frames is not None:
            for number, frame in enumerate(np.load(options.frames, allow_pickle=False)):
                print(" ".join(f"{value:.7f}" for value in driver.step(frame, start=number == 0)))
            return 0
    except (OSError, ValueError, ImportError) as error:
        print(f"driver: {error}", file=sys.stderr)
        return 2
    fit = driver.config["preprocessing"]
    frames = np.random.default_rng(0).integers(0, 256, (8, fit["source_height"], fit["source_width"], 3), np.uint8)
    times_ms = []
    for number in range(options.runs):
        before_s = time.perf_counter()
        driver.step(frames[number % len(frames)])
        times_ms.append(1e3 * (time.perf_counter() - before_s))
    median, p99 = np.percentile(times_ms, [50, 99])
    print(f"{driver.engine}: ready in {ready_s:.2f} s; {median:.2f} ms a frame, 99 % within {p99:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
