"""One step of a recurrent cell, written once, run as torch or recorded for the CPU kernel.

A core describes its step with an `Ops` object and operators:

    def step(ops, weights, drive, state, elapsed):
        target = ops.tanh(ops.linear(weights["recurrent"], state, drive))
        return state + elapsed / weights["tau"] * (target - state)

With `TorchOps` that is plain torch on `[B, n]` tensors: readable, differentiable, on any device and dtype; the truth.
With `tape_record.record` the same function runs once on rows that note every operation, and becomes a `tape.Tape`.
`drive` is what a step takes from outside: the input part of the cell, computed for all steps beforehand.

Every value is `n` numbers a sample. Two values must have equal n, or one of them n = 1. A weight that meets a value in
`+ − * /` must have shape `[n]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

Step = Callable[[Any, Mapping[str, Any], Any, Any, Any], Any]
"""(ops, weights, drive `[n_drive]`, state `[S]`, elapsed `[1]`) → next state `[S]`."""


class Ops(Protocol):
    """The operations that a step may use beside `+ − *` and multiplication by numbers."""

    def linear(self, weight: Any, x: Any, plus: Any = None) -> Any:
        """Return W x + plus, W `[n, m]`."""

    def gather(self, x: Any, index: Sequence[int]) -> Any:
        """Return the numbers of x at `index`, one for each synapse."""

    def scatter(self, x: Any, weight: Any, target: Sequence[int], rows: int) -> Any:
        """Return for each of `rows` targets Σ weight · x over the synapses onto it; `weight` is `[synapses]`."""

    def concat(self, parts: Sequence[Any]) -> Any:
        """Join values."""

    def split(self, x: Any, sizes: Sequence[int]) -> list[Any]:
        """Cut a value."""

    def activation(self, name: str, x: Any) -> Any:
        """Apply an activation of `policies.cores.activations`."""

    def tanh(self, x: Any) -> Any:
        """Hyperbolic tangent."""

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + e^−x)."""

    def exp(self, x: Any) -> Any:
        """e^x."""

    def abs(self, x: Any) -> Any:
        """Absolute value."""


class TorchOps:
    """`Ops` on `[B, n]` tensors."""

    def linear(self, weight: Tensor, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """Return W x + plus."""
        product = functional.linear(x, weight)
        return product if plus is None else product + plus

    def gather(self, x: Tensor, index: Sequence[int]) -> Tensor:
        """Return columns of x."""
        return x[:, torch.as_tensor(index, device=x.device)]

    def scatter(self, x: Tensor, weight: Tensor, target: Sequence[int], rows: int) -> Tensor:
        """Sum weighted columns by target."""
        return x.new_zeros(x.shape[0], rows).index_add(1, torch.as_tensor(target, device=x.device), x * weight)

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        """Join along the features."""
        return torch.cat(list(parts), dim=1)

    def split(self, x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Cut along the features."""
        return list(x.split(list(sizes), dim=1))

    def activation(self, name: str, x: Tensor) -> Tensor:
        """Apply an activation."""
        if name == "lecun_tanh":
            return 1.7159 * torch.tanh(0.666 * x)
        plain: Callable[[Tensor], Tensor] = getattr(torch, name, None) or getattr(functional, name)
        return plain(x)

    def tanh(self, x: Tensor) -> Tensor:
        """Hyperbolic tangent."""
        return torch.tanh(x)

    def sigmoid(self, x: Tensor) -> Tensor:
        """Logistic function."""
        return torch.sigmoid(x)

    def exp(self, x: Tensor) -> Tensor:
        """Exponential."""
        return torch.exp(x)

    def abs(self, x: Tensor) -> Tensor:
        """Absolute value."""
        return torch.abs(x)
