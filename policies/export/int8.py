"""The conv head in int8: weights per channel, activations with ranges from given frames; the circuit stays float.

    small = quantize_head(to_onnx(policy), frames)  # frames uint8 [n, h, w, 3] as the head sees them

Post-training static quantisation by onnxruntime, written as QuantizeLinear and DequantizeLinear around each
convolution, which runtimes fuse (and the NumPy driver computes as it stands). How far the steering moves is the
caller's to measure.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


def quantize_head(model: onnx.ModelProto, frames: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the model with its convolutions in int8.

    Args:
        model: from `to_onnx`.
        frames: uint8 `[n, h, w, 3]` at the size of the model's `frame`; what the car will see.

    Raises:
        ValueError: if there are no frames, or they have another size.
        ModuleNotFoundError: if onnxruntime is not installed.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    sizes = {entry.name: [d.dim_value for d in entry.type.tensor_type.shape.dim] for entry in model.graph.input}
    if len(frames) < 1 or list(frames.shape[1:]) != sizes["frame"][1:] or frames.dtype != np.uint8:
        raise ValueError(
            f"int8 needs frames uint8 [n, {', '.join(map(str, sizes['frame'][1:]))}], got {frames.dtype} "
            f"{list(frames.shape)}."
        )

    class Reader(CalibrationDataReader):
        """Hands the frames to onnxruntime one by one."""

        def __init__(self) -> None:
            self._feeds = self._make()

        def get_next(self) -> dict[str, Any] | None:
            """Return the next inputs, None at the end."""
            return next(self._feeds, None)

        def _make(self) -> Iterator[dict[str, Any]]:
            plain = {"elapsed": np.ones((1, 1), np.float32), "start": np.zeros((1, 1), bool)}
            for frame in frames:
                feed = {"frame": frame[None], "state": np.zeros(sizes.get("state", [1, 0]), np.float32), **plain}
                yield {name: value for name, value in feed.items() if name in sizes}

    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)  # it advises by the root logger to preprocess, which `to_onnx` has done
        try:
            before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
            onnx.save(model, str(before))
            quantize_static(
                str(before),
                str(after),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
            )
            made = onnx.load(str(after))
        finally:
            root.setLevel(level)
    onnx.helper.set_model_props(made, {entry.key: entry.value for entry in model.metadata_props})
    return made
