"""What runs programs on a device, made differentiable: an autograd function for eager use, an op for the compiler.

    run_on_cpu = differentiable("cpu", forward, backward)
    states = run_on_cpu(program, weights, drive, state, elapsed, starts)

The registered op with the same gradient costs some 50 µs a call, and torch.func's transforms do not take it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from policies.kernels.cell.program import Program
from policies.kernels.choose import is_traced
from policies.kernels.first_order import refuse_second_derivatives

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
    op = f"wormwheel::cell_sequence_{device}"  # schemas are read from the signatures of the two functions
    forward_op = torch.library.custom_op(op, forward, mutates_args=())
    backward_op = torch.library.custom_op(f"{op}_backward", backward, mutates_args=())

    class Gradient(torch.autograd.Function):
        """The gradient as a function of its own, so that torch.func's transforms unwrap its arguments."""

        @staticmethod
        def forward(*arguments: Any) -> tuple[Tensor, ...]:
            return backward(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            pass

    class Sequence(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Tensor:
            return forward(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            *tensors, ctx.rows, ctx.spread = inputs
            ctx.save_for_backward(output, *tensors)

        @staticmethod
        def backward(ctx: Any, states_grad: Tensor) -> Any:
            with torch.no_grad():
                grads = Gradient.apply(states_grad, *ctx.saved_tensors, ctx.rows, ctx.spread)
            _, weights, drive, state, elapsed, *_ = ctx.saved_tensors
            grads = refuse_second_derivatives(grads, (states_grad, weights, drive, state, elapsed))
            return *grads, None, None, None, None, None, None, None

    def differentiate(ctx: Any, states_grad: Tensor) -> Any:
        grads = backward_op(states_grad, *ctx.saved_tensors, ctx.rows, ctx.spread)
        return *grads, None, None, None, None, None, None, None

    forward_op.register_fake(
        lambda weights, drive, state, *_: drive.new_empty(drive.shape[0], drive.shape[1], state.shape[1])
    )
    backward_op.register_fake(lambda *given: tuple(x.new_empty(x.shape) for x in given[2:6]))
    forward_op.register_autograd(differentiate, setup_context=Sequence.setup_context)

    def run_program(
        program: Program, weights: Tensor, drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor
    ) -> Tensor:
        constants = program.constants if weights.dtype == torch.float64 else program.single_constants
        chosen: Callable[..., Tensor] = Sequence.apply
        if torch.compiler.is_compiling():
            chosen = forward_op
        elif not torch.is_grad_enabled() and not is_traced(weights, drive, state, elapsed, starts):
            chosen = forward  # autograd's detour costs as much as the rest of a single step
        own = (program.code, program.indices, constants, program.places, program.rows, program.spread)
        return chosen(weights, drive, state, elapsed, starts, *own)

    return run_program
