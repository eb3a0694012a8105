"""One entry to the fused LTC sequence, whatever runs it.

`kernel="auto"` takes the fastest kernel that fits the tensors and logs its choice once; a kernel that is named runs,
or raises and says why it cannot.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.kernels.choose import Kernels, choose_kernel, is_exporting
from policies.kernels.ltc import reference
from policies.kernels.ltc.reference import Circuit

LTC_KERNELS = Kernels("LTC", {"cpu": (torch.float32,), "cuda": (torch.float32,)})
"""What runs the fused solver: numba on the CPU, Triton on a GPU."""


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

    `inputs` come before the input map: `input_w` `[I]` are factors of them, ones when None, and `input_b` `[I]` is
    added after that, zeros when None. The motor neurons are the first `motors`.

    Returns:
        `[B, T, M]` voltages of the motor neurons and `[B, T, N]` of all, after each step.
    """
    if (kernel == "auto" and is_exporting()) or not len(inputs):  # kernels need a sample to work on
        kernel = "reference"
    chosen = choose_kernel(LTC_KERNELS, kernel, inputs.device.type, inputs.dtype)
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
