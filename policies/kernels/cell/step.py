"""One step of a recurrent cell, written once, run as torch or recorded for the CPU kernel.

A core describes its step with an `Ops` object and operators:

    def step(ops, weights, drive, state, elapsed):
        target = ops.tanh(ops.linear(weights["recurrent"], state, drive))
        return state + elapsed / weights["tau"] * (target - state)

With `TorchOps` that is plain torch on `[B, n]` tensors: readable, differentiable, on any device and dtype; the truth.
With `program.record` the same function runs once on rows that note every operation, and becomes a `Program`.
`drive` is what a step takes from outside: the input part of the cell, computed for all steps beforehand.

Every value is `n` numbers a sample. Two values must have equal n, or one of them n = 1. A weight that meets a value in
`+ − * /` must have shape `[n]`.
"""

# The methods are those of the protocol `Ops`, which says what they do.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

Step = Callable[[Any, Mapping[str, Any], Any, Any, Any], Any]
"""(ops, weights, drive `[n_drive]`, state `[S]`, elapsed `[1]`) → next state `[S]`."""


class Ops(Protocol):
    """The operations that a step may use beside `+ − * /`."""

    def linear(self, weight: Any, x: Any, plus: Any = None) -> Any:
        """Return W x + plus, W `[n, m]`."""

    def gather(self, x: Any, index: Sequence[int]) -> Any:
        """Return the numbers of x at `index`, one for each synapse."""

    def scatter(self, x: Any, weight: Any, target: Sequence[int], rows: int) -> Any:
        """Return for each of `rows` targets Σ weight · x over the synapses onto it; `weight` is `[synapses]`."""

    def concat(self, parts: Sequence[Any]) -> Any:
        """Return the values one after the other as one."""

    def split(self, x: Any, sizes: Sequence[int]) -> list[Any]:
        """Return stretches of a value, of the given sizes."""

    def activation(self, name: str, x: Any) -> Any:
        """Apply an activation of `policies.cores.activations`."""

    def tanh(self, x: Any) -> Any:
        """Return (e^x − e^−x) / (e^x + e^−x)."""

    def sigmoid(self, x: Any) -> Any:
        """Return 1 / (1 + e^−x)."""

    def exp(self, x: Any) -> Any:
        """Return e^x."""

    def abs(self, x: Any) -> Any:
        """Return |x|."""

    def at_least(self, x: Any, least: float) -> Any:
        """Return the larger of x and a number."""


class TorchOps(Ops):
    """`Ops` on `[B, n]` tensors: each method is torch's operation of that name on features."""

    def linear(self, weight: Tensor, x: Tensor, plus: Tensor | None = None) -> Tensor:
        product = functional.linear(x, weight)
        return product if plus is None else product + plus

    def gather(self, x: Tensor, index: Sequence[int]) -> Tensor:
        return x[:, torch.as_tensor(index, device=x.device)]

    def scatter(self, x: Tensor, weight: Tensor, target: Sequence[int], rows: int) -> Tensor:
        return x.new_zeros(x.shape[0], rows).index_add(1, torch.as_tensor(target, device=x.device), x * weight)

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), dim=1)

    def split(self, x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        return list(x.split(list(sizes), dim=1))

    def activation(self, name: str, x: Tensor) -> Tensor:
        if name == "lecun_tanh":
            return 1.7159 * torch.tanh(0.666 * x)
        plain: Callable[[Tensor], Tensor] = getattr(torch, name, None) or getattr(functional, name)
        return plain(x)

    def tanh(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def exp(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def abs(self, x: Tensor) -> Tensor:
        return torch.abs(x)

    def at_least(self, x: Tensor, least: float) -> Tensor:
        return x.clamp(min=least)
