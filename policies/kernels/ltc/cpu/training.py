"""A training step of an LTC on the CPU, outside of tracing and function transforms.

torch's machinery around a custom op, and the dozen small operations around it (softplus, maps, slices) with their
backward passes, take longer than the circuit. Here one autograd function does it all, from raw parameters to outputs.
It runs the same kernels as the op in `cpu.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from policies.kernels.ltc.cpu.inference import NAMES, is_traced
from policies.kernels.ltc.cpu.op import pack_circuit, run_backward, run_forward, structure_from


def run_core(
    parameters: Mapping[str, Tensor | None],
    lists: Sequence[Tensor],
    motors: int,
    substeps: int,
    inputs: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
) -> tuple[Tensor, Tensor] | None:
    """Run a core's circuit, differentiably.

    Args:
        parameters: by the names in NAMES; None for a map that the core has not.
        lists: sources and targets of the sensory and of the recurrent synapses.
        motors: M.
        substeps: K.
        inputs: `[B, T, I]`.
        state: `[B, N]`.
        elapsed: `[B, T]`.
        starts: `[B, T]` bool.

    Returns:
        `[B, T, M]` outputs and `[B, N]` state; None if something traces, or a parameter is not where it should be.
    """
    held = [parameters.get(name, inputs) for name in NAMES]  # `inputs` stands for one that is not there
    if is_traced(inputs) or any(p is inputs or (p is not None and p.dtype is not torch.float32) for p in held):
        return None
    return _Core.apply((substeps, motors), lists, inputs, state, elapsed, starts, *held)


class _Core(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sizes: tuple[int, int],
        lists: Sequence[Tensor],
        inputs: Tensor,
        state: Tensor,
        elapsed: Tensor,
        starts: Tensor,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Run the kernel and keep the packed parameters."""
        *circuit, output_w, output_b = parameters
        substeps, motors = sizes
        ctx.structure = structure_from(inputs.shape[2], [*circuit[:11], *lists])
        ctx.pack = pack_circuit(circuit, ctx.structure, raw=True)
        ctx.substeps = substeps
        sequences = [x.contiguous() for x in (inputs, state, elapsed, starts)]
        maps = [None if x is None else x.contiguous() for x in (output_w, output_b)]
        outputs, voltages, final = run_forward(sequences, ctx.pack, ctx.structure, substeps, motors, *maps)
        ctx.save_for_backward(*sequences, voltages, maps[0])
        ctx.set_materialize_grads(False)
        return outputs, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel and hand out its gradients."""
        want = ctx.needs_input_grad
        if grad_outputs is None and grad_final is None:
            return (None,) * len(want)
        *sequences, voltages, output_w = ctx.saved_tensors
        structure = ctx.structure
        grad_inputs, grad_state, grad_elapsed, gradients = run_backward(
            *(sequences, voltages, ctx.pack, structure, ctx.substeps),
            grad_motors=grad_outputs,
            grad_final=grad_final,
            output_w=output_w,
            want_inputs=want[2],
            raw=True,
        )
        motors = 0 if grad_outputs is None else grad_outputs.shape[2]
        n, s, r, i = structure.neurons, structure.sensory, structure.recurrent, structure.inputs
        parts = gradients.split([n, n, n, s, s, s, s, r, r, r, r, i, i, motors, motors])
        of_parameters = (
            part if wanted and part.numel() else None for part, wanted in zip(parts, want[6:], strict=True)
        )
        return (None, None, grad_inputs if want[2] else None, grad_state, grad_elapsed, None, *of_parameters)
