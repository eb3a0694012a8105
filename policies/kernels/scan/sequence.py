"""One entry to the scan x_t = a_t x_{t−1} + b_t, whatever runs it.

    states = scan(a, b, state, starts)  # [B, T, N] each, state [B, N], starts [B, T] bool

Elementwise linear recurrences are associative: (a₂, b₂) after (a₁, b₁) is (a₂ a₁, a₂ b₁ + b₂). So time can be cut into
stretches that run side by side and are joined afterwards (Blelloch 1990; Martin & Cundy 2018). The gradient is a scan
too, from the last step to the first: with g_t what arrives at x_t,

    λ_t = g_t + conj(a_{t+1}) λ_{t+1},   ∂b_t = λ_t,   ∂a_t = λ_t conj(x_{t−1}),   ∂state = conj(a_0) λ_0
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.kernels.choose import Kernels, choose_kernel, is_exporting
from policies.kernels.scan.reference import reference_scan

SCAN = Kernels("scan", {"cpu": (torch.float32, torch.float64), "cuda": (torch.float32, torch.float64)})
"""What runs a scan: numba on the CPU, Triton on a GPU."""


def scan(a: Tensor, b: Tensor, state: Tensor, starts: Tensor | None = None, kernel: str = "auto") -> Tensor:
    """Run x_t = a_t x_{t−1} + b_t over a batch of sequences.

    Args:
        a: `[B, T, N]` real, or complex, or `[B, T, N, 2]` pairs of real and imaginary part.
        b: as `a`.
        state: x before the first step, `[B, N]` or `[B, N, 2]` alike.
        starts: `[B, T]` bool; True zeroes x before that step; nowhere when None.
        kernel: "auto", "reference" (torch, step by step, with derivatives of any order), "cpu" (numba) or "cuda"
            (Triton); the last two have first derivatives only.

    Returns:
        x after every step, as `b`.

    Raises:
        ValueError: if shapes or dtypes disagree, or the kernel cannot run on such tensors.
    """
    if b.is_complex():
        if not (a.is_complex() and state.is_complex()):
            raise ValueError("a, b and state must all be complex, or none of them.")
        a, b, state = (torch.view_as_real(x.resolve_conj()) for x in (a, b, state))
        return torch.view_as_complex(scan(a, b, state, starts, kernel))
    if starts is None:
        starts = torch.zeros(b.shape[:2], dtype=torch.bool, device=b.device)
    _check(a, b, state, starts)
    chosen = choose_kernel(SCAN, kernel, b.device.type, b.dtype)
    if chosen == "reference" or is_exporting() or b.numel() == 0:
        return reference_scan(a, b, state, starts)
    if chosen == "cuda":
        from policies.kernels.scan.triton import op as cuda

        return cuda.triton_scan(a, b, state, starts)
    from policies.kernels.scan import cpu

    return cpu.numba_scan(a, b, state, starts)


def _check(a: Tensor, b: Tensor, state: Tensor, starts: Tensor) -> None:
    if b.ndim not in (3, 4) or (b.ndim == 4 and b.shape[3] != 2):
        raise ValueError(f"b must have shape [B, T, N], or [B, T, N, 2] for complex numbers, got {tuple(b.shape)}.")
    expected = {"a": (a, b.shape), "state": (state, b.shape[:1] + b.shape[2:]), "starts": (starts, b.shape[:2])}
    for name, (value, shape) in expected.items():
        if value.shape != shape:
            raise ValueError(f"{name} must have shape {tuple(shape)} to go with b, got {tuple(value.shape)}.")
        if value.dtype != (torch.bool if name == "starts" else b.dtype):
            raise ValueError(f"{name} has dtype {value.dtype}, b has {b.dtype}; starts must be bool, the others as b.")
