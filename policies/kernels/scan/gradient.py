"""What a device's scan needs to be differentiated: an autograd function for eager use, an op for the compiler.

    scan_on_cpu = differentiable("cpu", run)  # run(a, drive, entry, starts, backward)

`policies.kernels.scan.sequence` has the formulas of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from policies.kernels.differentiable import differentiable as made_differentiable

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

    return made_differentiable(
        f"scan_{device}", forward, backward, lambda a, b, *_: b.new_empty(b.shape), keeps=(0, 2, 3), like=(0, 0, 1)
    )


def _times_conjugate(x: Tensor, y: Tensor) -> Tensor:
    """Return x · conj(y) of pairs `[..., 2]`."""
    real = x[..., 0] * y[..., 0] + x[..., 1] * y[..., 1]
    return torch.stack((real, x[..., 1] * y[..., 0] - x[..., 0] * y[..., 1]), dim=-1)
