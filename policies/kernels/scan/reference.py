"""The scan written out: one step after the other, in torch. What every kernel is held to.

    x_t = a_t ∘ x_{t−1} + b_t,   x_{−1} = state,   x_{t−1} = 0 where a sequence starts at t

Complex numbers are pairs of real ones in a last dimension of size 2, as `torch.view_as_real` lays them out: neither
exported graphs nor compilers take complex tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reference_scan(a: Tensor, b: Tensor, state: Tensor, starts: Tensor) -> Tensor:
    """Run the recurrence; differentiable any number of times.

    Args:
        a: `[B, T, N]`, or `[B, T, N, 2]` complex.
        b: as `a`.
        state: `[B, N]`, or `[B, N, 2]`.
        starts: `[B, T]` bool.

    Returns:
        x after every step, as `b`.
    """
    multiply = complex_product if a.ndim == 4 else torch.mul
    shape = (-1,) + (1,) * (state.ndim - 1)
    states = []
    for step in range(b.shape[1]):
        state = torch.where(starts[:, step].view(shape), 0, state)
        state = multiply(a[:, step], state) + b[:, step]
        states.append(state)
    return torch.stack(states, dim=1)


def complex_product(x: Tensor, y: Tensor) -> Tensor:
    """Multiply complex numbers, `[..., 2]` each."""
    real = x[..., 0] * y[..., 0] - x[..., 1] * y[..., 1]
    imaginary = x[..., 0] * y[..., 1] + x[..., 1] * y[..., 0]
    return torch.stack((real, imaginary), dim=-1)
