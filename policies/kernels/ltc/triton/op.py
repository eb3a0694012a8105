"""The fused LTC op for NVIDIA GPUs, in Triton: a whole sequence in two kernels, its gradients in three.

Same equations, arguments and results as `reference.ltc_sequence` with the fused solver:

    voltages = ltc_sequence(inputs, state, elapsed, starts, circuit, substeps=6)

The sensory sums of all B * T steps come first (`sensory`), then one program a sequence runs the recurrent part
through time: `dense` while the circuit's parameters fit into registers, `sparse` for larger ones. The backward
pass keeps only the voltages after each step and computes the rest again. Sums over the batch are partial sums in a
fixed order: no atomics, so a run repeats bit for bit on the same card.

What has been checked: outputs and every gradient against the reference in Triton's interpreter, and that all kernels
compile for compute capability 9.0 (`tests/policies/kernels/ltc/test_triton.py`, which also runs on a GPU when it finds
one). What has not: no GPU was at hand, so nothing has run on one and no speed has been measured.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.kernels.first_order import refuse_second_derivatives
from policies.kernels.gpu import require_gpu
from policies.kernels.ltc.reference import Circuit


def ltc_sequence(
    inputs: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, circuit: Circuit, substeps: int = 6
) -> Tensor:
    """Run the circuit over a batch of sequences on the GPU.

    Computes in float64 when `circuit.gleak` is float64, else in float32, whatever the dtype of the inputs.

    Args:
        inputs: `[B, T, I]` sensory inputs, after the input map.
        state: `[B, N]` voltages before the first step.
        elapsed: `[B, T]` time that each step spans, in nominal frame periods, > 0.
        starts: `[B, T]` bool; True zeroes the voltages before that step.
        circuit: parameters and synapse lists, on the device of `inputs`.
        substeps: K, solver steps within each step.

    Returns:
        `[B, T, N]` voltages after each step; the state after the sequence is the last one.

    Raises:
        ModuleNotFoundError: if Triton is not installed.
        ValueError: if the tensors are not on a GPU.
    """
    require_gpu(inputs)
    dtype = torch.float64 if circuit.gleak.dtype == torch.float64 else torch.float32
    sequences = (inputs.to(dtype), state.to(dtype), elapsed.to(dtype), starts)
    parameters = (x.to(dtype) for x in circuit[:11])
    return _Differentiable.apply(*sequences, *parameters, *circuit[11:], substeps)


@torch.library.custom_op("wormwheel::ltc_sequence_cuda", mutates_args=())
def _forward(
    inputs: Tensor,
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
) -> Tensor:
    from policies.kernels.ltc.triton.launch import Sequence

    sequences = (inputs, state, elapsed, starts)
    sensory = (sensory_w, sensory_mu, sensory_sigma, sensory_erev)
    parameters = (gleak, vleak, cm, *sensory, w, mu, sigma, erev)
    return Sequence(sequences, parameters, (sensory_source, sensory_target, source, target), substeps).forward()


@_forward.register_fake
def _(inputs, state, elapsed, *_):
    return state.new_empty(*elapsed.shape, state.shape[1])


@torch.library.custom_op("wormwheel::ltc_sequence_cuda_backward", mutates_args=())
def _backward(
    grad_voltages: Tensor,
    voltages: Tensor,
    sequences: list[Tensor],
    parameters: list[Tensor],
    wiring: list[Tensor],
    substeps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients; see `launch.Sequence.backward`."""
    from policies.kernels.ltc.triton.launch import Sequence

    return Sequence(sequences, parameters, wiring, substeps).backward(voltages, grad_voltages)


@_backward.register_fake
def _(grad_voltages, voltages, sequences, parameters, wiring, substeps):
    stacks = [parameters[i].new_empty(count, parameters[i].shape[0]) for i, count in ((0, 3), (3, 4), (7, 4))]
    return *(torch.empty_like(x) for x in sequences[:3]), *stacks


class _Differentiable(torch.autograd.Function):
    """The op with its gradient. A Function, as `torch.func` refuses ops with `register_autograd`."""

    @staticmethod
    def forward(*tensors_and_substeps):
        return _forward(*tensors_and_substeps)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.substeps = inputs
        ctx.save_for_backward(output, *tensors)

    @staticmethod
    def backward(ctx, grad_voltages):
        voltages, *tensors = ctx.saved_tensors
        groups = tensors[:4], tensors[4:15], tensors[15:]
        with torch.no_grad():
            *sequences, neurons, sensory, recurrent = _backward(grad_voltages, voltages, *groups, ctx.substeps)
        grads = (*sequences, *neurons, *sensory, *recurrent)
        grads = refuse_second_derivatives(grads, (grad_voltages, *tensors[:3], *groups[1]))
        return *grads[:3], None, *grads[3:], None, None, None, None, None
