"""The fused LTC sequence on the CPU as a torch op around the numba kernels.

`torch.ops.wormwheel.ltc_sequence_cpu` runs a whole sequence, differentiable in inputs, input map, start state, elapsed
times and all parameters; it works under `torch.compile`, `torch.func` and `functional_call`. Here shapes are checked,
memory is allocated, and groups of 16 samples side by side are spread over threads, as many as torch is set to use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.kernels.first_order import refuse_second_derivatives
from policies.kernels.ltc.cpu.backward import backward
from policies.kernels.ltc.cpu.forward import forward
from policies.kernels.ltc.cpu.layout import Structure, structure_of
from policies.kernels.ltc.cpu.packing import TABLE, pack_parameters, unpack_gradients
from policies.kernels.ltc.reference import Circuit
from policies.kernels.simd import WIDTH
from policies.kernels.threads import scratch_addresses, side_by_side

LEAST_WORK = 30_000
"""Synapse evaluations for 16 samples below which a further thread costs more than it brings; 0.1 to 0.2 ms."""


def structure_from(inputs: int, circuit: Sequence[Any]) -> Structure:
    """Return the synapse lists of a `Circuit`, or of a list with the same order, sorted by target."""
    return structure_of(inputs, circuit[0].shape[0], *(x.numpy().tobytes() for x in circuit[11:15]))


def pack_circuit(parameters: Sequence[Tensor | None], structure: Structure, raw: bool = False) -> NDArray[np.float32]:
    """Lay out the eleven parameters of a `Circuit`, input_w and input_b as `layout` says.

    Args:
        parameters: in this order; a map that is not there is None.
        structure: synapse lists.
        raw: whether gleak, cm, w and sensory_w have still to pass the softplus.

    Raises:
        ValueError: if one has the wrong shape or is not float32.
    """
    n, s, r, i = structure.neurons, structure.sensory, structure.recurrent, structure.inputs
    # Slices of larger tensors happen, and `contiguous` copies them; the list keeps the copies alive.
    held = []
    for parameter, size in zip(parameters, (n, n, n, s, s, s, s, r, r, r, r, i, i), strict=True):
        if parameter is not None:
            _check(parameter, (size,), "a parameter of the circuit")
            parameter = parameter.contiguous()
        held.append(parameter)
    table = np.array([0 if x is None else x.data_ptr() for x in held], np.int64)
    assert table.size == TABLE
    pack = np.empty(structure.pack_size, np.float32)
    pack_parameters(
        table.ctypes.data, structure.order_address, structure.lists_address, n, s, r, i, raw, pack.ctypes.data
    )
    return pack


def run_forward(
    sequences: Sequence[Tensor],
    pack: NDArray[np.float32],
    structure: Structure,
    substeps: int,
    motors: int,
    output_w: Tensor | None = None,
    output_b: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the circuit.

    Args:
        sequences: inputs `[B, T, I]`, state `[B, N]`, elapsed `[B, T]` and starts `[B, T]`, contiguous.
        pack: packed parameters.
        structure: synapse lists.
        substeps: K.
        motors: M.
        output_w: `[M]` factors of the motor voltages.
        output_b: `[M]` added to them.

    Returns:
        `[B, T, M]` motor voltages, mapped, `[B, T, N]` all voltages, `[B, N]` the last ones.

    Raises:
        ValueError: if a shape or dtype is wrong.
    """
    inputs, state, elapsed, starts = sequences
    batch, steps, features = inputs.shape
    _check(inputs, (batch, steps, structure.inputs), "inputs")
    _check(state, (batch, structure.neurons), "state")
    _check(elapsed, (batch, steps), "elapsed")
    _check(starts, (batch, steps), "starts", torch.bool)
    voltages = inputs.new_empty(batch, steps, structure.neurons)
    motor_voltages = inputs.new_empty(batch, steps, motors)
    final = torch.empty_like(state)
    sizes = steps, features, structure.neurons, structure.sensory, structure.recurrent, motors, substeps
    addresses = (
        *(x.data_ptr() for x in sequences),
        *(pack.ctypes.data, structure.lists_address, _address(output_w), _address(output_b)),
        *(voltages.data_ptr(), motor_voltages.data_ptr(), final.data_ptr()),
    )

    def part(first: int, last: int, scratch: int) -> None:
        forward(first, last, *sizes, *addresses, scratch)

    in_parts(part, batch, steps * (structure.sensory + substeps * structure.recurrent), structure.forward_rows)
    return motor_voltages, voltages, final


def run_backward(
    sequences: Sequence[Tensor],
    voltages: Tensor,
    pack: NDArray[np.float32],
    structure: Structure,
    substeps: int,
    *,
    grad_motors: Tensor | None = None,
    grad_voltages: Tensor | None = None,
    grad_final: Tensor | None = None,
    output_w: Tensor | None = None,
    want_inputs: bool = True,
    raw: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Carry gradients back through `run_forward`.

    Args:
        sequences: what `run_forward` was given, and so are `pack`, `structure`, `substeps` and `output_w`.
        voltages: what `run_forward` returned.
        pack: packed parameters.
        structure: synapse lists.
        substeps: K.
        grad_motors: `[B, T, M]` gradient of the mapped motor voltages.
        grad_voltages: `[B, T, N]` gradient of all voltages.
        grad_final: `[B, N]` gradient of the last voltages.
        output_w: `[M]` factors of the motor voltages.
        want_inputs: whether the gradient of the inputs is wanted; it is the largest.
        raw: whether the gradients are wanted before the softplus.

    Returns:
        Gradients of the inputs (empty when not wanted), state and elapsed, and one tensor with those of the eleven
        parameters, input_w, input_b, output_w and output_b, one after the other.
    """
    inputs, state, elapsed, _ = sequences
    batch, steps, features = inputs.shape
    grads = [None if x is None else x.contiguous() for x in (grad_voltages, grad_motors, grad_final)]
    motors = 0 if grad_motors is None else grad_motors.shape[2]
    grad_inputs = torch.empty_like(inputs) if want_inputs else inputs.new_empty(0)
    grad_state, grad_elapsed = torch.empty_like(state), torch.empty_like(elapsed)
    sizes = steps, features, structure.neurons, structure.sensory, structure.recurrent, motors, substeps
    addresses = (
        *(x.data_ptr() for x in sequences),
        *(pack.ctypes.data, structure.lists_address, _address(output_w), voltages.data_ptr()),
        *(_address(x) for x in grads),
        *(x.data_ptr() for x in (grad_inputs, grad_state, grad_elapsed)),
    )
    rows, sum_rows = structure.backward_rows(motors, substeps), structure.sum_rows(motors)
    totals: dict[int, NDArray[np.float64]] = {}

    def part(first: int, last: int, scratch: int) -> None:
        totals[first] = np.zeros(sum_rows)
        backward(first, last, *sizes, *addresses, scratch, scratch + 4 * WIDTH * rows, totals[first])

    in_parts(part, batch, 3 * steps * (structure.sensory + substeps * structure.recurrent), rows + sum_rows)
    # In the order of the samples, whichever thread was first: the result does not change from run to run.
    total = totals[0]
    for first in sorted(totals)[1:]:
        total += totals[first]
    n, s, r = structure.neurons, structure.sensory, structure.recurrent
    gradients = inputs.new_empty(3 * n + 4 * (s + r) + 2 * features + 2 * motors)
    unpack_gradients(
        *(total, pack.ctypes.data, structure.order_address, structure.lists_address),
        *(n, s, r, features, motors, raw, gradients.data_ptr()),
    )
    return grad_inputs, grad_state, grad_elapsed, gradients


def in_parts(part: Callable[[int, int, int], None], batch: int, work: int, rows: int) -> None:
    """Call `part(first, last, scratch)` for stretches of the batch, multiples of 16 samples, in threads if it pays.

    Args:
        part: what to do; it must release the interpreter lock.
        batch: B.
        work: synapse evaluations that each 16 samples need.
        rows: scratch memory of a part, rows of 16 floats.
    """
    tiles = -(-batch // WIDTH)
    threads = 1 if tiles == 1 else min(torch.get_num_threads(), tiles, 1 + tiles * work // LEAST_WORK)
    bounds = [min(batch, WIDTH * (tiles * k // threads)) for k in range(threads + 1)]
    scratch = scratch_addresses(rows * WIDTH, threads)
    side_by_side(lambda k: part(bounds[k], bounds[k + 1], scratch[k]), threads)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _check(tensor: Tensor, shape: tuple[int, ...], what: str, dtype: torch.dtype = torch.float32) -> None:
    if tensor.shape != shape or tensor.dtype is not dtype:
        raise ValueError(f"{what} must be {dtype} with shape {shape}, got {tensor.dtype} {tuple(tensor.shape)}.")


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

    Raises:
        ValueError: if a tensor has the wrong shape or is not float32.
    """
    run = _forward if torch.compiler.is_compiling() else _Differentiable.apply
    return run(inputs, input_w, input_b, state, elapsed, starts, *circuit, substeps, motors)


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
    sensory, recurrent = (sensory_w, sensory_mu, sensory_sigma, sensory_erev), (w, mu, sigma, erev)
    lists = (sensory_source, sensory_target, source, target)
    circuit = (gleak, vleak, cm, *sensory, *recurrent, *lists)
    structure = structure_from(inputs.shape[2], circuit)
    pack = pack_circuit([*circuit[:_PARAMETERS], input_w, input_b], structure)
    sequences = tuple(x.contiguous() for x in (inputs, state, elapsed, starts))
    motor_voltages, voltages, _ = run_forward(sequences, pack, structure, substeps, motors)
    return motor_voltages, voltages


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
    structure = structure_from(inputs.shape[2], circuit)
    pack = pack_circuit([*circuit[:_PARAMETERS], input_w, input_b], structure)
    sequences = tuple(x.contiguous() for x in (inputs, state, elapsed, starts))
    return run_backward(
        *(sequences, voltages.contiguous(), pack, structure, substeps),
        grad_motors=grad_motors,
        grad_voltages=grad_voltages,
        want_inputs=want_inputs,
    )


@_backward.register_fake
def _(grad_motors, grad_voltages, voltages, want_inputs, inputs, w, b, state, elapsed, starts, circuit, substeps):
    motors = 0 if grad_motors is None else grad_motors.shape[2]
    parameters = sum(x.shape[0] for x in circuit[:_PARAMETERS]) + 2 * inputs.shape[2] + 2 * motors
    grad_inputs = torch.empty_like(inputs) if want_inputs else inputs.new_empty(0)
    return grad_inputs, torch.empty_like(state), torch.empty_like(elapsed), inputs.new_empty(parameters)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.substeps, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
    grad_motors, grad_voltages = grad_outputs
    inputs, input_w, input_b, state, elapsed, starts, *circuit, voltages = ctx.saved_tensors
    if grad_motors is None and grad_voltages is None:
        return (None,) * len(ctx.needs_input_grad)
    want = ctx.needs_input_grad
    grad_inputs, grad_state, grad_elapsed, gradients = _backward(
        *(grad_motors, grad_voltages, voltages, want[0]),
        *(inputs, input_w, input_b, state, elapsed, starts, circuit, ctx.substeps),
    )
    sizes = [parameter.shape[0] for parameter in circuit[:_PARAMETERS]]
    features, rest = inputs.shape[2], gradients.shape[0] - sum(sizes) - 2 * inputs.shape[2]
    *parameters, grad_w, grad_b, _ = gradients.split([*sizes, features, features, rest])
    first = (grad_inputs if want[0] else None, grad_w if want[1] else None, grad_b if want[2] else None)
    return (*first, grad_state, grad_elapsed, None, *parameters, *[None] * 6)


_forward.register_autograd(_autograd, setup_context=_setup_context)


class _Differentiable(torch.autograd.Function):
    """The op with its gradient as a Function: `torch.func` refuses ops with `register_autograd`."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        return _forward(*arguments)

    setup_context = staticmethod(_setup_context)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Any:
        with torch.no_grad():
            grads = _autograd(ctx, *grad_outputs)
        inputs, input_w, input_b, state, elapsed, _, *circuit, _ = ctx.saved_tensors
        sources = (inputs, input_w, input_b, state, elapsed, *circuit[:_PARAMETERS], *grad_outputs)
        return refuse_second_derivatives(grads, sources)
