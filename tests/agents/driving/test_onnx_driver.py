"""ONNX files of any make: types, axes, states and outputs are read from them, or the file is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.onnx_driver import WORMWHEEL_ENTRY, OnnxDriver
from policies.preprocessing import Preprocessing

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3)).astype(np.uint8)
FLOAT, UINT8, HALF, DOUBLE, INT32, INT64, INT8 = 1, 2, 10, 11, 6, 7, 3
Value = tuple[str, int, list[Any]]


def save(path: Path, inputs: Sequence[Value], outputs: Sequence[Value], nodes: Sequence[tuple[Any, ...]] = ()) -> Path:
    """Write a model whose `y` is the mean of `x` over all axes but the first; `nodes` are (type, inputs, outputs)."""
    make = onnx.helper
    rank = len(next(shape for name, _, shape in inputs if name == "x"))
    over = list(range(1 if rank > 3 else 0, rank))
    made = [
        make.make_node("Cast", ["x"], ["f"], to=FLOAT),
        make.make_node("ReduceMean", ["f"], ["m"], axes=over, keepdims=0),
    ]
    made += [make.make_node(kind, list(given), list(gives), **more) for kind, given, gives, more in nodes]
    if not any("y" in node.output for node in made) and any(name == "y" for name, *_ in outputs):
        made.append(make.make_node("Cast", ["m"], ["y"], to=next(kind for name, kind, _ in outputs if name == "y")))
    values = [[make.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs)]
    model = make.make_model(make.make_graph(made, "g", *values), opset_imports=[make.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def steer(path: Path, times: int = 1, **options: Any) -> list[float]:
    driver = OnnxDriver(path, DriverOptions(**options))
    ones = np.ones(2, np.float32)
    acts = [driver.act(FRAMES, ones, np.full(2, step == 0), ()) for step in range(times)]
    assert acts[-1].shape == (2, driver.motors)
    return [float(one) for one in acts[-1][:, 0]]


MEANS = [float(frame.mean()) for frame in FRAMES]


@pytest.mark.parametrize(
    ("kind", "shape", "degrees"),
    [
        (FLOAT, [1, 3, 12, 16], 1.0),
        (FLOAT, ["N", 3, 12, 16], 1.0),
        (FLOAT, ["N", "C", "H", "W"], 1.0),
        (FLOAT, [3, 12, 16], 1.0),
        (FLOAT, ["b", "t", 12, 16, 3], 1.0),
        (HALF, [1, 12, 16, 3], 1.0),
        (DOUBLE, [1, 3, 12, 16], 1.0),
        (UINT8, [1, 12, 16, 3], 255.0),
        (INT32, [1, 3, 12, 16], 255.0),
    ],
)
def test_frames_of_any_type_and_axes(tmp_path: Path, kind: int, shape: list[Any], degrees: float):
    answer = shape[:1] if len(shape) > 3 else []
    path = save(tmp_path / "a.onnx", [("x", kind, shape)], [("y", FLOAT, answer)])
    # `y` is in [0, 1] for floats, which see pixels so, and in [0, 255] for whole numbers.
    assert steer(path, degrees=degrees) == pytest.approx([mean / 255.0 for mean in MEANS], rel=2e-3)
    if degrees == 255.0:  # whatever is said of the range: whole numbers have one
        assert steer(path, degrees=degrees, range="0..1") == steer(path, degrees=degrees)


def test_a_file_of_ours_brings_its_whole_crop(tmp_path: Path):
    fit = Preprocessing(30, 40, crop_top=4, crop_bottom=-6, crop_left=-3, crop_horizon=7, height=12, width=16)
    path = save(tmp_path / "a.onnx", [("x", UINT8, [1, 12, 16, 3])], [("y", FLOAT, [1])])
    model = onnx.load(path)
    model.metadata_props.add(key=WORMWHEEL_ENTRY, value=json.dumps({"preprocessing": asdict(fit), "period_s": 0.05}))
    onnx.save(model, path)
    driver = OnnxDriver(path, DriverOptions())
    assert driver.frame_size == (30, 40)
    assert driver.format.preprocessing(30, 40) == fit


FRAME = ("x", FLOAT, [1, 3, 12, 16])


@pytest.mark.parametrize(
    ("inputs", "outputs", "nodes", "words"),
    [
        ([("x", FLOAT, [4, 3, 12, 16])], [("y", FLOAT, [4])], [], "answers with y"),
        ([("x", FLOAT, [1, 4, 3, 12, 16])], [("y", FLOAT, [1])], [], "several frames at once"),
        ([("x", FLOAT, [1, 12, 12, 16])], [("y", FLOAT, [1])], [], "12 channels; a driver sees 1 or 3"),
        ([("x", FLOAT, [1, 3, 0, 0])], [("y", FLOAT, [1])], [], "each must be 8 to 4096.*--layout"),
        ([("x", FLOAT, [1, 3, 12, 10**6])], [("y", FLOAT, [1])], [], "each must be 8 to 4096"),
        ([("x", INT8, [1, 3, 12, 16])], [("y", FLOAT, [1])], [], "has x of tensor.int8"),
        ([FRAME], [("f", FLOAT, [1, 3, 12, 16])], [], r"answers with f \[1, 3, 12, 16\]"),
        ([FRAME], [("m", FLOAT, [1]), ("n", FLOAT, [1])], [("Neg", ["m"], ["n"], {})], "outputs m .*, n .*not one of"),
        ([FRAME, ("speed", FLOAT, [1])], [("y", FLOAT, [1]), ("b", FLOAT, [1])],
         [("Add", ["m", "speed"], ["y"], {}), ("Neg", ["y"], ["b"], {})], "an input speed .*neither"),
        ([FRAME, ("command", INT64, [1])], [("y", FLOAT, [1]), ("c", INT64, [1])],
         [("Neg", ["command"], ["c"], {})], "an input command"),
    ],
)  # fmt: skip
def test_what_a_driver_cannot_be_is_one_line_that_names_the_file(
    tmp_path: Path, inputs: Any, outputs: Any, nodes: Any, words: str
):
    with pytest.raises(ValueError, match=f"a.onnx.*{words}") as caught:
        OnnxDriver(save(tmp_path / "a.onnx", inputs, outputs, nodes), DriverOptions())
    assert "damaged" not in str(caught.value)


def test_states_are_told_by_their_names_or_by_size_and_order(tmp_path: Path):
    """Two states: h counts the mean up, c down; each comes back to itself whatever the order of the outputs."""
    add: tuple[Any, ...] = ("Add", ["h0", "m"], ["hn"], {})
    sub: tuple[Any, ...] = ("Sub", ["c0", "m"], ["cn"], {})
    states = [("h0", FLOAT, [1]), ("c0", FLOAT, [1])]
    answer = [("steering", FLOAT, [1]), ("cn", FLOAT, [1]), ("hn", FLOAT, [1])]
    path = save(tmp_path / "a.onnx", [FRAME, *states], answer, [add, sub, ("Identity", ["hn"], ["steering"], {})])
    assert steer(path, times=2, degrees=5) == pytest.approx([2 * mean / 255 / 5 for mean in MEANS], rel=1e-5)
    # Names that say nothing: those of one size belong together in their order.
    inputs = [FRAME, ("input.1", FLOAT, [1, 2]), ("input.2", FLOAT, [1, 2])]
    nodes: list[Any] = [("Add", ["input.1", "m"], ["41"], {}), ("Sub", ["input.2", "m"], ["42"], {})]
    nodes += [("ReduceMean", ["41"], ["steering"], {"axes": [1], "keepdims": 0})]
    path = save(
        tmp_path / "b.onnx", inputs, [("steering", FLOAT, [1]), ("41", FLOAT, [1, 2]), ("42", FLOAT, [1, 2])], nodes
    )
    assert steer(path, times=2, degrees=5) == pytest.approx([2 * mean / 255 / 5 for mean in MEANS], rel=1e-5)


def test_the_output_that_is_called_so_steers(tmp_path: Path):
    outputs = [("throttle_out", FLOAT, [1]), ("angle_out", FLOAT, [1])]
    nodes: list[Any] = [("Neg", ["m"], ["throttle_out"], {}), ("Identity", ["m"], ["angle_out"], {})]
    assert steer(save(tmp_path / "a.onnx", [FRAME], outputs, nodes)) == pytest.approx(
        [m / 255 for m in MEANS], rel=1e-5
    )


def test_weights_beside_the_file_belong_to_the_driver(tmp_path: Path):
    path = tmp_path / "net.onnx"
    make = onnx.helper
    weight = onnx.numpy_helper.from_array(np.ones(300, np.float32), "w")
    x, y = (make.make_tensor_value_info(name, FLOAT, [300]) for name in "xy")
    graph = make.make_graph([make.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    for location in ("weights of mine.bin", "w" * 200):
        onnx.save(make.make_model(graph), path, save_as_external_data=True, location=location, size_threshold=0)
        before, content = DriverSpec(str(path)).fingerprint(), path.read_bytes()
        (tmp_path / location).write_bytes(np.full(300, 2.0, np.float32).tobytes())
        assert path.read_bytes() == content and DriverSpec(str(path)).fingerprint() != before
