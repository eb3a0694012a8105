"""A policy as an ONNX graph, and that graph as a program for NumPy alone.

    model = to_onnx(policy)              # onnx.ModelProto
    arrays = to_numpy(model)             # what `driver.npz` holds

Inputs: `frame` uint8 `[1, h, w, 3]` RGB as the head sees it, `state` float32 `[1, S]`, `elapsed` float32 `[1, 1]` in
frame periods, `start` bool `[1, 1]`. Outputs: `motors` float32 `[1, M]` in [−1, 1], the first one steering, positive
left, and `next_state` float32 `[1, S]`. An input that a policy does not use (the state of a core without memory) is
left out. Opset 18. The metadata entry `wormwheel-driver` holds, as JSON, what a driver needs beside the graph.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from policies.export.car_driver import FORMAT, OPERATORS
from policies.export.graph import INPUTS, OUTPUTS, DriverStep, example
from policies.policy import DrivingPolicy

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""Read by onnxruntime 1.14 and later."""

_LOUD = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.__trace", "torch._dynamo")


def to_onnx(policy: DrivingPolicy, notes: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """Write a policy's step as an ONNX graph.

    Args:
        policy: what to export.
        notes: JSON values to keep in the metadata.

    Returns:
        The model, checked by ONNX.

    Raises:
        ValueError: if the policy's core has no fixed graph.
        ModuleNotFoundError: if onnx or onnxscript is not installed.
    """
    for name in ("onnx", "onnxscript"):
        _need(name)
    import onnx

    step = DriverStep(policy).eval()
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            step,
            example(policy),
            dynamo=True,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    assert exported is not None
    model: onnx.ModelProto = exported.model_proto
    # Names of Python functions and files of the machine that exported are nobody's business.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name, model.producer_name = "driver", "wormwheel"
    onnx.helper.set_model_props(model, {FORMAT: json.dumps(describe(policy, notes))})
    onnx.checker.check_model(model)
    return model


def describe(policy: DrivingPolicy, notes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a driver needs beside the graph."""
    config = policy.config.to_json()
    return {
        "format": FORMAT,
        "format_version": 1,
        "preprocessing": config["preprocessing"],
        "period_s": config["nominal_period_s"],
        "state_size": policy.core.state_size,
        "motors": config["motors"],
        "core": config["core"],
        "sign": "steering is a share of full lock in [-1, 1], positive left",
        "opset": OPSET,
        "notes": dict(notes or {}),
    }


def to_numpy(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Turn a model of `to_onnx` into the arrays of `driver.npz`: its weights, and its nodes in `config`.

    Raises:
        ValueError: if `car_driver.Program` does not know an operator.
    """
    from onnx import numpy_helper

    arrays = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        attributes = {entry.name: _attribute(entry) for entry in node.attribute}
        if node.op_type == "Constant":
            (value,) = attributes.values()
            arrays[node.output[0]] = np.asarray(value, np.float32 if isinstance(value, float) else None)
            continue
        for name, value in attributes.items():
            if isinstance(value, np.ndarray):
                attributes[name] = value.item() if value.size == 1 and value.dtype == np.float32 else value.tolist()
        outputs = list(node.output)
        nodes.append({"op": node.op_type, "inputs": list(node.input), "outputs": outputs, "attributes": attributes})
    unknown = sorted({node["op"] for node in nodes} - set(OPERATORS))
    if unknown:
        raise ValueError(f"the NumPy driver does not know the ONNX operators {', '.join(unknown)}.")
    config = json.loads(next(entry.value for entry in model.metadata_props if entry.key == FORMAT))
    text = json.dumps({**config, "nodes": nodes})
    return {**arrays, "config": np.frombuffer(text.encode(), np.uint8)}


def _attribute(entry: onnx.AttributeProto) -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if entry.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _need(name: str) -> None:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"export needs the package {name}: pip install -e '.[onnx]' in a checkout.", name=None
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about other people's operators to itself."""
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in _LOUD:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
