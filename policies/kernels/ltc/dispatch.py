"""One entry to the fused LTC sequence, whatever runs it.

`kernel="auto"` takes the fastest kernel that fits the tensors and logs its choice once; a kernel that is named runs,
or raises and says why it cannot.
"""

from __future__ import annotations

import importlib.util
import logging

import torch
from torch import Tensor

from policies.kernels.ltc import reference
from policies.kernels.ltc.reference import Circuit

KERNELS = ("auto", "reference", "cpu", "cuda")
"""Values of the `kernel` argument."""

_log = logging.getLogger(__name__)
_PACKAGES = {"cpu": "numba", "cuda": "triton"}
_INSTALL = {"cpu": "pip install numba", "cuda": "pip install 'wormwheel[cuda]'"}
_INSTALLED = {device: importlib.util.find_spec(package) is not None for device, package in _PACKAGES.items()}
_CHOSEN: dict[tuple[str, str, torch.dtype], str] = {}
"""What was chosen before, so that it is logged once."""


def ltc_sequence(
    inputs: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    circuit: Circuit,
    substeps: int = 6,
    kernel: str = "auto",
) -> Tensor:
    """Run the circuit with the fused solver over a batch of sequences.

    Args:
        inputs: `[B, T, I]` sensory inputs, after the input map.
        state: `[B, N]` voltages before the first step.
        elapsed: `[B, T]` time that each step spans, in nominal frame periods, > 0.
        starts: `[B, T]` bool; True zeroes the voltages before that step.
        circuit: parameters and synapse lists, all on the device of `inputs`.
        substeps: K, solver steps within each step.
        kernel: "auto", "reference" (torch, any dtype and device), "cpu" (numba, float32) or "cuda" (Triton, float32).

    Returns:
        `[B, T, N]` voltages after each step; the state after the sequence is the last one.

    Raises:
        ValueError: if the kernel is unknown or cannot run on these tensors.
        ModuleNotFoundError: if the package that the named kernel needs is not installed.
    """
    return ltc_motors(inputs, state, elapsed, starts, circuit, substeps, kernel)[1]


def ltc_motors(
    inputs: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    circuit: Circuit,
    substeps: int = 6,
    kernel: str = "auto",
    input_w: Tensor | None = None,
    input_b: Tensor | None = None,
    motors: int = 0,
) -> tuple[Tensor, Tensor]:
    """As `ltc_sequence`, with the input map and the motor neurons' voltages, which a kernel may do at less cost.

    Args:
        inputs: `[B, T, I]` sensory inputs, before the input map.
        state: as in `ltc_sequence`.
        elapsed: as in `ltc_sequence`.
        starts: as in `ltc_sequence`.
        circuit: as in `ltc_sequence`.
        substeps: as in `ltc_sequence`.
        kernel: as in `ltc_sequence`.
        input_w: `[I]` factors of the inputs; ones when None.
        input_b: `[I]` added to the inputs after that; zeros when None.
        motors: M, the first neurons.

    Returns:
        `[B, T, M]` voltages of the motor neurons and `[B, T, N]` of all, after each step.

    Raises:
        ValueError: as `ltc_sequence`.
        ModuleNotFoundError: as `ltc_sequence`.
    """
    if kernel == "auto" and is_exporting():
        kernel = "reference"
    chosen = choose_kernel(kernel, inputs.device.type, inputs.dtype)
    if chosen == "cpu":
        from policies.kernels.ltc.cpu import op as cpu

        return cpu.ltc_sequence(inputs, state, elapsed, starts, circuit, substeps, input_w, input_b, motors)
    if input_w is not None:
        inputs = inputs * input_w
    if input_b is not None:
        inputs = inputs + input_b
    if chosen == "cuda":
        from policies.kernels.ltc.triton import op as cuda

        voltages = cuda.ltc_sequence(inputs, state, elapsed, starts, circuit, substeps)
    else:
        voltages = reference.ltc_sequence(inputs, state, elapsed, starts, circuit, substeps)
    return voltages[..., :motors], voltages


def choose_kernel(kernel: str, device: str, dtype: torch.dtype) -> str:
    """Return the kernel that runs: "reference", "cpu" or "cuda".

    Args:
        kernel: as in `ltc_sequence`.
        device: type of the tensors' device, "cpu" or "cuda".
        dtype: of the tensors.

    Raises:
        ValueError: as `ltc_sequence`.
        ModuleNotFoundError: as `ltc_sequence`.
    """
    known = _CHOSEN.get((kernel, device, dtype))
    if known is not None:
        return known
    chosen, why = _choose(kernel, device, dtype)
    if not torch.compiler.is_compiling():
        _CHOSEN[kernel, device, dtype] = chosen
        if kernel == "auto":
            name = str(dtype).removeprefix("torch.")
            _log.info("LTC kernel for %s tensors on %s: %s (%s).", name, device, chosen, why)
    return chosen


def _choose(kernel: str, device: str, dtype: torch.dtype) -> tuple[str, str]:
    """Return the kernel and the reason."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}.")
    if kernel == "reference":
        return kernel, "asked for"
    if kernel == "auto":
        if device not in _PACKAGES:
            return "reference", f"there is no kernel for {device}"
        if dtype != torch.float32:
            return "reference", "the fused kernels compute in float32"
        if not _INSTALLED[device]:
            return "reference", f"{_PACKAGES[device]} is not installed"
        return device, "fused"
    if device != kernel or dtype != torch.float32:
        raise ValueError(
            f"kernel {kernel!r} runs float32 tensors on the {kernel} device, got {dtype} on {device}. "
            "Move the tensors, or leave the choice to kernel='auto'."
        )
    if not _INSTALLED[kernel]:
        raise ModuleNotFoundError(f"kernel {kernel!r} needs the package {_PACKAGES[kernel]}: {_INSTALL[kernel]}")
    return kernel, "asked for"


def is_exporting() -> bool:
    """Return whether torch writes the program down for other runtimes, which know nothing of our kernels."""
    exporting = getattr(torch.compiler, "is_exporting", lambda: False)
    return exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()
