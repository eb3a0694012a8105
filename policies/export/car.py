"""A folder that drives a car: the policy as ONNX, one Python file that needs no torch, and how to use them.

    write_car(policy, "car/", numpy=True)

`driver.onnx`, `driver.py` (`car_driver.py` as it is), `README.md`; with `numpy` also `driver.npz`, the same graph for
NumPy alone; with `ros2` also `ros2_node.py`.
"""

from __future__ import annotations

import io
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.export import car_driver, ros2_node
from policies.export.car_driver import FORMAT
from policies.export.int8 import quantize_head
from policies.export.onnx import OPSET, to_numpy, to_onnx
from policies.policy import DrivingPolicy

FILES = ("driver.onnx", "driver.py", "driver.npz", "ros2_node.py", "README.md")
"""What an export may write."""


def write_car(
    policy: DrivingPolicy,
    folder: str | Path,
    numpy: bool = False,
    int8_frames: NDArray[np.uint8] | None = None,
    ros2: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write the folder; see the module. Each file is written beside its place and moved there.

    Args:
        policy: what is to drive.
        folder: where; made if needed.
        numpy: also write what drives without onnxruntime.
        int8_frames: uint8 `[n, h, w, 3]` pictures as the head sees them; the head's convolutions then compute in
            int8, their ranges taken from these.
        ros2: also write the example of a ROS 2 node.
        notes: JSON values to keep in the metadata and the README.

    Returns:
        The folder.

    Raises:
        ValueError: if the policy's core has no fixed graph.
        ModuleNotFoundError: if a package that exports is not installed.
    """
    notes = {**(notes or {}), **({} if int8_frames is None else {"head": f"int8, from {len(int8_frames)} frames"})}
    model = to_onnx(policy, notes)
    if int8_frames is not None:
        model = quantize_head(model, int8_frames)
    files = {"driver.onnx": model.SerializeToString(), "driver.py": Path(car_driver.__file__).read_bytes()}
    if numpy:
        archive = io.BytesIO()
        np.savez_compressed(archive, **to_numpy(model))  # type: ignore[arg-type]
        with zipfile.ZipFile(archive, "a") as packed:  # What it holds is compressed; the comment says what it is.
            packed.comment = FORMAT.encode()
        files["driver.npz"] = archive.getvalue()
    if ros2:
        files["ros2_node.py"] = Path(ros2_node.__file__).read_bytes()
    files["README.md"] = _readme(policy, Path(folder).resolve().name, numpy, ros2, notes).encode()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for half in (half for name in FILES for half in folder.glob(f".{name}.partial-*")):
        half.unlink(missing_ok=True)  # of an export that was killed
    for name, content in files.items():
        _replace(folder / name, content)
    return folder


def _readme(policy: DrivingPolicy, folder: str, numpy: bool, ros2: bool, notes: Mapping[str, Any]) -> str:
    config, fit = policy.config, policy.config.preprocessing
    rate_hz = f"{1 / config.nominal_period_s:g}"
    needs = "NumPy alone, or NumPy and onnxruntime" if numpy else "NumPy and onnxruntime"
    throttle = "" if config.motors > 1 else "throttle=0.2"
    crop = f"cut {fit.crop_top} rows at the top, {fit.crop_bottom} at the bottom, "
    crop += f"{fit.crop_left} columns on the left, {fit.crop_right} on the right"
    if min(fit.crop_top, fit.crop_bottom, fit.crop_left, fit.crop_right) < 0:
        crop += "; below zero they are added, like the border"
    package = folder if folder.isidentifier() else "car"
    called = (
        f"here it is called `{folder}`" if package == folder else "rename it to `car`, a name that Python can import"
    )
    lines = [
        "# A driver",
        "",
        f"A lane-keeping policy ({config.core.upper()}, {policy.parameter_count:,} parameters) that drives alone: "
        f"`driver.py` needs {needs}, on Python 3.10 to 3.13; no torch, no Wormwheel.",
        "",
        "    pip install numpy onnxruntime        # on the car's computer",
        "    python driver.py                     # times it there" + (" (--numpy: without onnxruntime)" * numpy),
        "",
        "## Donkeycar",
        f"Copy this folder into the car's directory, beside `manage.py` ({called}), set the camera "
        f"to {fit.source_width}×{fit.source_height} (`IMAGE_W`, `IMAGE_H`) and the loop to {rate_hz} Hz "
        "(`DRIVE_LOOP_HZ`), and add two lines:",
        "",
        f"    from {package}.driver import DonkeyPilot",
        f'    V.add(DonkeyPilot({throttle}), inputs=["cam/image_array"], '
        'outputs=["pilot/angle", "pilot/throttle"], run_condition="run_pilot")',
        "",
        "The angle is in [−1, 1], positive to the right, as Donkeycar has it.",
        "",
        "## Any other car",
        "",
        "    from driver import Driver",
        "    driver = Driver()",
        "    command = driver.drive(image)        # uint8 RGB; in time, once a frame",
        "    command.steering                     # share of full lock in [−1, 1], positive to the LEFT",
        "    command.fault                        # None, or why the watchdog took over",
        "",
        *(["`python ros2_node.py` is a minimal ROS 2 node on top of it.", ""] if ros2 else []),
        "## What it expects",
        f"- frames: uint8 RGB, {fit.source_width}×{fit.source_height}; the driver cuts and scales them to "
        f"{fit.width}×{fit.height} itself ({crop});",
        f"- a frame every {1e3 * config.nominal_period_s:g} ms; it measures how late each one is and tells the policy;",
        "- a picture that has not changed for half a second, a number that is not finite, or an answer that takes "
        "longer than a frame period: the last good steering fades to straight ahead within half a second, the throttle "
        "is closed, and the event is logged (`driver.events`, logger `wormwheel.driver`).",
        "",
        f"`driver.onnx` has opset {OPSET}. In: `frame` uint8 [1, {fit.height}, {fit.width}, 3], `state` float32 "
        f"[1, {policy.core.state_size}], `elapsed` float32 [1, 1] in frame periods, `start` bool [1, 1]. Out: `motors` "
        f"float32 [1, {config.motors}], `next_state`.",
        "",
        *(f"- {name}: {value}" for name, value in notes.items()),
        "",
        "Made by Wormwheel.",
    ]
    return "\n".join(lines) + "\n"


def _replace(path: Path, content: bytes) -> None:
    """Write beside and move into place."""
    beside = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
