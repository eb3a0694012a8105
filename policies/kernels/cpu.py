"""The fused LTC sequence on the CPU as a torch op around the numba kernels.

`torch.ops.wormwheel.ltc_sequence_cpu` runs a whole sequence, differentiable in inputs, input map, start state, elapsed
times and all parameters; it works under `torch.compile`, `torch.func` and `functional_call`. Samples go to lanes,
groups of 16 lanes to threads, as many as torch is set to use.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from policies.kernels.cpu_run import pack_circuit, run_backward, run_forward, structure_from
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
    """The op with its gradient once more: `torch.func` refuses ops with `register_autograd`."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        """Run the op."""
        return _forward(*arguments)

    setup_context = staticmethod(_setup_context)
    backward: Any = staticmethod(once_differentiable(_autograd))
