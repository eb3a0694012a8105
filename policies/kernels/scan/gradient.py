"""What a device's scan needs to be differentiated: an autograd function for eager use, an op for the compiler.

    scan_on_cpu = differentiable("cpu", run)  # run(a, drive, entry, starts, backward)

`policies.kernels.scan.sequence` has the formulas of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from policies.kernels.first_order import refuse_second_derivatives

Run = Callable[[Tensor, Tensor, Tensor, Tensor, bool], Tensor]
"""(a, drive, entry, starts, backward) → x ← k x + drive after every step. Backwards, from the last step to the first,
k is the conjugate of a at the step after: nothing beyond the last one, and 0 where that step starts."""


def differentiable(device: str, run: Run) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return a scan `(a, b, state, starts) → states` with first derivatives that `run` computes.

    Args:
        device: type of the tensors' device, which also names the op.
        run: the recurrence in both directions of time.
    """

    def forward(a: Tensor, b: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        return run(a, b, state, starts, False)

    def backward(
        states_grad: Tensor, states: Tensor, a: Tensor, state: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        b_grad = run(a, states_grad, torch.zeros_like(state), starts, True)
        before = torch.cat((state.unsqueeze(1), states[:, :-1]), dim=1)
        carried = torch.where(starts.view(starts.shape + (1,) * (b_grad.ndim - 2)), 0, b_grad)
        multiply = torch.mul if a.ndim == 3 else _times_conjugate
        return multiply(carried, before), b_grad, multiply(carried[:, 0], a[:, 0])

    forward_op = torch.library.custom_op(f"wormwheel::scan_{device}", forward, mutates_args=())
    backward_op = torch.library.custom_op(f"wormwheel::scan_{device}_backward", backward, mutates_args=())

    class Gradient(torch.autograd.Function):
        """The gradient as a function of its own, so that torch.func's transforms unwrap its arguments."""

        @staticmethod
        def forward(*arguments: Any) -> tuple[Tensor, ...]:
            return backward(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            pass

    class Scan(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Tensor:
            return forward(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            a, _, state, starts = inputs
            ctx.save_for_backward(output, a, state, starts)

        @staticmethod
        def backward(ctx: Any, states_grad: Tensor) -> Any:
            states, a, state, starts = ctx.saved_tensors
            with torch.no_grad():
                grads = Gradient.apply(states_grad, states, a, state, starts)
            return *refuse_second_derivatives(grads, (states_grad, a, state, states)), None

    def differentiate(ctx: Any, states_grad: Tensor) -> Any:
        return *backward_op(states_grad, *ctx.saved_tensors), None

    forward_op.register_fake(lambda a, b, state, starts: b.new_empty(b.shape))
    backward_op.register_fake(
        lambda states_grad, states, a, state, starts: tuple(x.new_empty(x.shape) for x in (a, a, state))
    )
    forward_op.register_autograd(differentiate, setup_context=Scan.setup_context)

    def scan(a: Tensor, b: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        apply: Any = forward_op if torch.compiler.is_compiling() else Scan.apply
        states: Tensor = apply(a, b, state, starts)
        return states

    return scan


def _times_conjugate(x: Tensor, y: Tensor) -> Tensor:
    """Return x · conj(y) of pairs `[..., 2]`."""
    real = x[..., 0] * y[..., 0] + x[..., 1] * y[..., 1]
    return torch.stack((real, x[..., 1] * y[..., 0] - x[..., 0] * y[..., 1]), dim=-1)
