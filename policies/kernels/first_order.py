"""Kernels have first derivatives only: a second one is refused, never taken for zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def refuse_second_derivatives(
    grads: Sequence[Tensor | None], sources: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Return what a kernel's backward pass computed, such that differentiating it raises.

    A compiled backward pass leaves no graph behind it: to autograd its results are constants, and a penalty on a
    gradient would train on nothing without a word. With `create_graph=True` they are therefore tied to what they
    depend on.

    Args:
        grads: the gradients; None where there is none.
        sources: the tensors that they depend on: inputs, parameters and the gradients that came in.

    Returns:
        The gradients; as they are, when no graph is being built.
    """
    if not torch.is_grad_enabled():
        return tuple(grads)
    there = [grad for grad in grads if grad is not None]
    tied = iter(_FirstOrder.apply(len(there), *there, *(x for x in sources if x is not None)))
    return tuple(None if grad is None else next(tied) for grad in grads)


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        # Nothing is left to be written here: refusing is what this class is for, by the error that autograd uses.
        raise NotImplementedError(
            "this kernel has no second derivatives, which a gradient penalty or a Hessian needs. Build the core with "
            "kernel='reference' to take them."
        )
