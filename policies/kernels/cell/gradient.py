"""What runs programs on a device, made differentiable.

run_on_cpu = differentiable("cpu", forward, backward)
states = run_on_cpu(program, weights, drive, state, elapsed, starts)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from policies.kernels.cell.program import Program
from policies.kernels.choose import is_traced
from policies.kernels.differentiable import differentiable as made_differentiable

Forward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""(weights, drive, state, elapsed, starts, code, indices, constants, places, rows, spread) → states `[B, T, S]`: five
tensors of a call, and the program's own."""
Backward = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, int],
    tuple[Tensor, Tensor, Tensor, Tensor],
]
"""(gradient of the states, states, then as `Forward`) → gradients of weights, drive, state and elapsed."""
Run = Callable[[Program, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def differentiable(device: str, forward: Forward, backward: Backward) -> Run:
    """Return what runs a program over a batch of sequences, with first derivatives.

    Its arguments are the program, the flat weights in the order of `program.weights`, drive `[B, T, P]`, state before
    the first step `[B, S]`, elapsed `[B, T]` and starts `[B, T]` bool, which zeroes the state before that step; it
    returns the states `[B, T, S]` after each step.

    Args:
        device: type of the tensors' device, which also names the op.
        forward: runs the sequences.
        backward: runs them backwards.
    """
    run = made_differentiable(
        f"cell_sequence_{device}",
        forward,
        backward,
        lambda weights, drive, state, *_: drive.new_empty(drive.shape[0], drive.shape[1], state.shape[1]),
        keeps=range(11),
        like=range(4),
    )

    def run_program(
        program: Program, weights: Tensor, drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor
    ) -> Tensor:
        constants = program.constants if weights.dtype == torch.float64 else program.single_constants
        plain = not torch.is_grad_enabled() and not is_traced(weights, drive, state, elapsed, starts)
        chosen = forward if plain else run  # autograd's detour costs as much as the rest of a single step
        own = (program.code, program.indices, constants, program.places, program.rows, program.spread)
        return chosen(weights, drive, state, elapsed, starts, *own)

    return run_program
