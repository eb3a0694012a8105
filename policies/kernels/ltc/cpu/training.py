"""A training step of an LTC on the CPU, outside of tracing and function transforms; see `choose_route` in `cores.ltc`.

torch's machinery around a custom op, and the dozen small operations around it (softplus, maps, slices) with their
backward passes, take longer than the circuit. Here one autograd function does it all, from raw parameters to outputs.
It runs the same kernels as the op in `op.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from policies.kernels.first_order import refuse_second_derivatives
from policies.kernels.ltc.cpu.inference import NAMES
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
) -> tuple[Tensor, Tensor]:
    """Run a core's circuit, differentiably.

    Args:
        parameters: by the names in NAMES, as `inference.are_plain` wants them; None for a map that the core has not.
        lists: sources and targets of the sensory and of the recurrent synapses.
        motors: M.
        substeps: K.
        inputs: `[B, T, I]`.
        state: `[B, N]`.
        elapsed: `[B, T]`.
        starts: `[B, T]` bool.

    Returns:
        `[B, T, M]` outputs and `[B, N]` state.
    """
    held = [parameters[name] for name in NAMES]
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
        ctx.save_for_backward(*sequences, voltages, maps[0], *parameters)
        ctx.set_materialize_grads(False)
        return outputs, final

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel and hand out its gradients."""
        want = ctx.needs_input_grad
        if grad_outputs is None and grad_final is None:
            return (None,) * len(want)
        inputs, state, elapsed, starts, voltages, output_w, *parameters = ctx.saved_tensors
        structure = ctx.structure
        with torch.no_grad():
            grad_inputs, grad_state, grad_elapsed, gradients = run_backward(
                *((inputs, state, elapsed, starts), voltages, ctx.pack, structure, ctx.substeps),
                grad_motors=grad_outputs,
                grad_final=grad_final,
                output_w=output_w,
                want_inputs=want[2],
                raw=True,
            )
        motors = 0 if grad_outputs is None else grad_outputs.shape[2]
        n, s, r, i = structure.neurons, structure.sensory, structure.recurrent, structure.inputs
        parts = gradients.split([n, n, n, s, s, s, s, r, r, r, r, i, i, motors, motors])
        of_parameters = [
            part if wanted and part.numel() else None for part, wanted in zip(parts, want[6:], strict=True)
        ]
        computed = [grad_inputs if want[2] else None, grad_state, grad_elapsed, *of_parameters]
        sources = (inputs, state, elapsed, *parameters, grad_outputs, grad_final)
        grads = refuse_second_derivatives(computed, sources)
        return (None, None, *grads[:3], None, *grads[3:])
