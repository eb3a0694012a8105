"""The fused LTC sequence on the CPU: a torch op around the numba kernels.

`torch.ops.wormwheel.ltc_sequence_cpu` runs a whole sequence, differentiable in inputs, input map, start state, elapsed
times and all parameters; it works under `torch.compile`, `torch.func` and `functional_call`. Samples go to lanes,
groups of 16 lanes to threads, as many as torch is set to use.

Outside of tracing and function transforms the same kernels are entered through an autograd function: torch's
machinery around custom ops takes longer than a training step of a small circuit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from policies.kernels.cpu_backward import backward as _backward_kernel
from policies.kernels.cpu_forward import forward as _forward_kernel
from policies.kernels.cpu_inference import is_traced
from policies.kernels.cpu_lanes import WIDTH
from policies.kernels.cpu_layout import Structure, structure_of
from policies.kernels.cpu_pack import pack_parameters, unpack_gradients
from policies.kernels.cpu_threads import in_parts, scratch_address
from policies.kernels.reference import Circuit

_PARAMETERS = 11
"""Parameters in a `Circuit`; the synapse lists come after them."""


def ltc_sequence(
    inputs: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    circuit: Circuit,
    substeps: int = 6,
    input_w: Tensor | None = None,
    input_b: Tensor | None = None,
    motors: int = 0,
) -> tuple[Tensor, Tensor]:
    """Run the circuit with the fused solver; float32 on the CPU.

    Args:
        inputs: `[B, T, I]` sensory inputs.
        state: `[B, N]` voltages before the first step.
        elapsed: `[B, T]` time that each step spans, in nominal frame periods, > 0.
        starts: `[B, T]` bool; True zeroes the voltages before that step.
        circuit: parameters and synapse lists.
        substeps: K, solver steps within each step.
        input_w: `[I]` factors of the inputs; ones when None.
        input_b: `[I]` added to the inputs after that; zeros when None.
        motors: M, how many of the first neurons are wanted on their own, which makes their gradient cheap.

    Returns:
        `[B, T, M]` voltages of the motor neurons and `[B, T, N]` of all, after each step.
    """
    if is_traced(inputs, circuit.source):
        return _forward(inputs, input_w, input_b, state, elapsed, starts, *circuit, substeps, motors)
    return _Eager.apply(substeps, motors, inputs, input_w, input_b, state, elapsed, starts, *circuit)


# ---------------------------------------------------------------------- what both ways share


def _run(
    sequences: tuple[Tensor, ...],
    pack: NDArray[np.float32],
    structure: Structure,
    mapped: bool,
    substeps: int,
    motors: int,
) -> tuple[Tensor, Tensor]:
    """Return motor voltages and all voltages; `sequences` are inputs, state, elapsed and starts, contiguous."""
    batch, steps, features = sequences[0].shape
    voltages = torch.empty(batch, steps, structure.neurons)
    motor_voltages = torch.empty(batch, steps, motors)
    rows = structure.forward_rows(features)
    sizes = steps, features, structure.neurons, structure.sensory, structure.recurrent, motors, substeps
    addresses = (
        *(x.data_ptr() for x in sequences),
        *(pack.ctypes.data, structure.lists_address, int(mapped), 0, 0),
        *(voltages.data_ptr(), motor_voltages.data_ptr(), 0),
    )

    def part(first: int, last: int) -> None:
        _forward_kernel(first, last, *sizes, *addresses, scratch_address(rows))

    in_parts(part, batch, steps * (structure.sensory + substeps * structure.recurrent))
    return motor_voltages, voltages


def _run_backward(
    grad_motors: Tensor | None,
    grad_voltages: Tensor | None,
    voltages: Tensor,
    want_inputs: bool,
    sequences: tuple[Tensor, ...],
    pack: NDArray[np.float32],
    structure: Structure,
    mapped: bool,
    substeps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of inputs (empty when not wanted), state and elapsed, and one tensor with all the others."""
    inputs, state, elapsed, _ = sequences
    batch, steps, features = inputs.shape
    grad_motors = None if grad_motors is None else grad_motors.contiguous()
    grad_voltages = None if grad_voltages is None else grad_voltages.contiguous()
    grad_inputs = torch.empty_like(inputs) if want_inputs else inputs.new_empty(0)
    grad_state, grad_elapsed = torch.empty_like(state), torch.empty_like(elapsed)
    motors = 0 if grad_motors is None else grad_motors.shape[2]
    sizes = steps, features, structure.neurons, structure.sensory, structure.recurrent, motors, substeps
    addresses = (
        *(x.data_ptr() for x in sequences),
        *(pack.ctypes.data, structure.lists_address, int(mapped), voltages.data_ptr()),
        *(0 if x is None else x.data_ptr() for x in (grad_voltages, grad_motors)),
        *(x.data_ptr() for x in (grad_inputs, grad_state, grad_elapsed)),
    )
    rows, sum_rows = structure.backward_rows(features, substeps), structure.sum_rows(features)
    totals: dict[int, NDArray[np.float64]] = {}

    def part(first: int, last: int) -> None:
        scratch = scratch_address(rows + sum_rows)
        totals[first] = np.zeros(sum_rows)
        _backward_kernel(first, last, *sizes, *addresses, scratch, scratch + 4 * WIDTH * rows, totals[first])

    in_parts(part, batch, 3 * steps * (structure.sensory + substeps * structure.recurrent))
    # In the order of the samples, whichever thread was first: the result does not change from run to run.
    total = np.zeros(sum_rows)
    for first in sorted(totals):
        total += totals[first]
    gradients = torch.empty(sum_rows)
    unpack_gradients(
        total, pack.ctypes.data, structure.order_address, structure.neurons, structure.sensory, structure.recurrent,
        features, gradients.data_ptr(),
    )  # fmt: skip
    return grad_inputs, grad_state, grad_elapsed, gradients


def _structure(neurons: int, lists: tuple[Tensor, ...]) -> Structure:
    return structure_of(neurons, *(x.numpy().tobytes() for x in lists))


def _pack(parameters: tuple[Tensor | None, ...], features: int, structure: Structure) -> NDArray[np.float32]:
    """Lay out the eleven parameters and the input map."""
    # Slices of larger tensors happen, `contiguous` copies them; the list keeps the copies alive.
    held = [None if x is None else x.contiguous() for x in parameters]
    table = np.array([0 if x is None else x.data_ptr() for x in held], np.int64)
    pack = np.empty(structure.pack_size(features), np.float32)
    pack_parameters(
        table.ctypes.data, structure.order_address, structure.neurons, structure.sensory, structure.recurrent,
        features, False, pack.ctypes.data,
    )  # fmt: skip
    return pack


def _split_gradients(gradients: Tensor, structure: Structure, features: int) -> tuple[Tensor, ...]:
    """Cut the gradients of the eleven parameters and of input_w and input_b apart."""
    n, s, r = structure.neurons, structure.sensory, structure.recurrent
    return gradients.split([n, n, n, s, s, s, s, r, r, r, r, features, features])


# ---------------------------------------------------------------------- eager


class _Eager(torch.autograd.Function):
    """The quick way in: no dispatcher, no schema; the packed parameters are kept for the backward pass."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        substeps: int,
        motors: int,
        inputs: Tensor,
        input_w: Tensor | None,
        input_b: Tensor | None,
        state: Tensor,
        elapsed: Tensor,
        starts: Tensor,
        *circuit: Tensor,
    ) -> tuple[Tensor, Tensor]:
        parameters, lists = circuit[:_PARAMETERS], circuit[_PARAMETERS:]
        ctx.structure = _structure(parameters[0].shape[0], lists)
        ctx.mapped, ctx.substeps = input_w is not None or input_b is not None, substeps
        ctx.pack = _pack((*parameters, input_w, input_b), inputs.shape[2], ctx.structure)
        sequences = tuple(x.contiguous() for x in (inputs, state, elapsed, starts))
        motor_voltages, voltages = _run(sequences, ctx.pack, ctx.structure, ctx.mapped, substeps, motors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*sequences, voltages)
        return motor_voltages, voltages

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_motors: Tensor | None, grad_voltages: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: D102
        if grad_motors is None and grad_voltages is None:
            return (None,) * (8 + len(Circuit._fields))
        *sequences, voltages = ctx.saved_tensors
        want = ctx.needs_input_grad
        grad_inputs, grad_state, grad_elapsed, gradients = _run_backward(
            *(grad_motors, grad_voltages, voltages, want[2], tuple(sequences)),
            *(ctx.pack, ctx.structure, ctx.mapped, ctx.substeps),
        )
        *parameters, input_w, input_b = _split_gradients(gradients, ctx.structure, sequences[0].shape[2])
        return (
            *(None, None, grad_inputs if want[2] else None),
            *(input_w if want[3] else None, input_b if want[4] else None),
            *(grad_state, grad_elapsed, None, *parameters, None, None, None, None),
        )


# ---------------------------------------------------------------------- the op


@torch.library.custom_op("wormwheel::ltc_sequence_cpu", mutates_args=(), device_types="cpu")
def _forward(
    inputs: Tensor,
    input_w: Tensor | None,
    input_b: Tensor | None,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    gleak: Tensor,
    vleak: Tensor,
    cm: Tensor,
    sensory_w: Tensor,
    sensory_mu: Tensor,
    sensory_sigma: Tensor,
    sensory_erev: Tensor,
    w: Tensor,
    mu: Tensor,
    sigma: Tensor,
    erev: Tensor,
    sensory_source: Tensor,
    sensory_target: Tensor,
    source: Tensor,
    target: Tensor,
    substeps: int,
    motors: int,
) -> tuple[Tensor, Tensor]:
    structure = _structure(gleak.shape[0], (sensory_source, sensory_target, source, target))
    sensory, recurrent = (sensory_w, sensory_mu, sensory_sigma, sensory_erev), (w, mu, sigma, erev)
    pack = _pack((gleak, vleak, cm, *sensory, *recurrent, input_w, input_b), inputs.shape[2], structure)
    mapped = input_w is not None or input_b is not None
    sequences = tuple(x.contiguous() for x in (inputs, state, elapsed, starts))
    return _run(sequences, pack, structure, mapped, substeps, motors)


@_forward.register_fake
def _(inputs, input_w, input_b, state, *rest):
    batch, steps = inputs.shape[:2]
    return inputs.new_empty(batch, steps, rest[-1]), inputs.new_empty(batch, steps, state.shape[1])


@torch.library.custom_op("wormwheel::ltc_sequence_cpu_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad_motors: Tensor | None,
    grad_voltages: Tensor | None,
    voltages: Tensor,
    want_inputs: bool,
    inputs: Tensor,
    input_w: Tensor | None,
    input_b: Tensor | None,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    circuit: list[Tensor],
    substeps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    structure = _structure(circuit[0].shape[0], tuple(circuit[_PARAMETERS:]))
    pack = _pack((*circuit[:_PARAMETERS], input_w, input_b), inputs.shape[2], structure)
    mapped = input_w is not None or input_b is not None
    sequences = tuple(x.contiguous() for x in (inputs, state, elapsed, starts))
    return _run_backward(
        grad_motors, grad_voltages, voltages.contiguous(), want_inputs, sequences, pack, structure, mapped, substeps
    )


@_backward.register_fake
def _(grad_motors, grad_voltages, voltages, want_inputs, inputs, w, b, state, elapsed, starts, circuit, substeps):
    parameters = sum(x.shape[0] for x in circuit[:_PARAMETERS]) + 2 * inputs.shape[2]
    grad_inputs = torch.empty_like(inputs) if want_inputs else inputs.new_empty(0)
    return grad_inputs, torch.empty_like(state), torch.empty_like(elapsed), inputs.new_empty(parameters)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.substeps, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, grad_motors: Tensor | None, grad_voltages: Tensor | None) -> tuple[Tensor | None, ...]:
    inputs, input_w, input_b, state, elapsed, starts, *circuit, voltages = ctx.saved_tensors
    want = ctx.needs_input_grad
    grad_inputs, grad_state, grad_elapsed, gradients = _backward(
        grad_motors, grad_voltages, voltages, want[0],
        inputs, input_w, input_b, state, elapsed, starts, circuit, ctx.substeps,
    )  # fmt: skip
    sizes = [parameter.shape[0] for parameter in circuit[:_PARAMETERS]]
    *parameters, grad_w, grad_b = gradients.split([*sizes, inputs.shape[2], inputs.shape[2]])
    first = (grad_inputs if want[0] else None, grad_w if want[1] else None, grad_b if want[2] else None)
    return (*first, grad_state, grad_elapsed, None, *parameters, *[None] * 6)


_forward.register_autograd(_autograd, setup_context=_setup_context)
