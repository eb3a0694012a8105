"""A kernel made differentiable: an autograd function for eager use, an op with the same gradient for the compiler.

    run = differentiable("scan_cpu", forward, backward, fake, keeps=(0, 2, 3), like=(0, 0, 1))

The registered op costs some 50 µs a call, and torch.func's transforms do not take it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from policies.kernels.first_order import refuse_second_derivatives


def differentiable(
    name: str,
    forward: Callable[..., Tensor],
    backward: Callable[..., tuple[Tensor, ...]],
    fake: Callable[..., Tensor],
    keeps: Sequence[int],
    like: Sequence[int],
) -> Callable[..., Tensor]:
    """Return what runs a kernel, with first derivatives.

    Args:
        name: of the op in the namespace `wormwheel`.
        forward: arguments → result; the op's schema is read from its signature, as from that of `backward`.
        backward: gradient of the result, result and what is kept → gradients of the first arguments.
        fake: arguments → an empty result of the right shape.
        keeps: places of the arguments that backward is given, tensors before numbers.
        like: for each gradient, which of those that are kept has its shape.
    """
    op = f"wormwheel::{name}"
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

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Tensor:
            return forward(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            kept = [inputs[place] for place in keeps]
            ctx.save_for_backward(output, *(one for one in kept if isinstance(one, Tensor)))
            ctx.numbers = [one for one in kept if not isinstance(one, Tensor)]
            ctx.without = [None] * (len(inputs) - len(like))

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            with torch.no_grad():
                grads = Gradient.apply(grad, *ctx.saved_tensors, *ctx.numbers)
            sources = (grad, *(one for one in ctx.saved_tensors if one.is_floating_point()))
            return *refuse_second_derivatives(grads, sources), *ctx.without

    def differentiate(ctx: Any, grad: Tensor) -> Any:
        return *backward_op(grad, *ctx.saved_tensors, *ctx.numbers), *ctx.without

    forward_op.register_fake(fake)
    backward_op.register_fake(lambda grad, result, *kept: tuple(kept[k].new_empty(kept[k].shape) for k in like))
    forward_op.register_autograd(differentiate, setup_context=Kernel.setup_context)

    def run(*arguments: Any) -> Tensor:
        apply: Any = forward_op if torch.compiler.is_compiling() else Kernel.apply
        result: Tensor = apply(*arguments)
        return result

    return run
