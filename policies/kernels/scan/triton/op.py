"""The scan for NVIDIA GPUs, in Triton.

What has been checked: outputs and gradients against the reference in Triton's interpreter. What has not: no GPU was at
hand, so nothing has run on one and no speed has been measured.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.kernels.gpu import FUSE_MULTIPLY_ADD, on_card
from policies.kernels.scan.gradient import differentiable

ROWS = 64
"""Steps of a block of time."""

COLUMNS = 16
"""Units of a program."""


def _run(a: Tensor, drive: Tensor, entry: Tensor, starts: Tensor, backward: bool) -> Tensor:
    """Run x ← k x + drive in one direction of time and return x after every step."""
    from policies.kernels.scan.triton.kernels import complex_scan_kernel, scan_kernel

    a, drive, entry, started = (x.contiguous() for x in (a, drive, entry, starts))
    out = torch.empty_like(drive)
    batch_size, steps, size = drive.shape[:3]
    kernel = scan_kernel if drive.ndim == 3 else complex_scan_kernel
    grid = (batch_size, -(-size // COLUMNS))
    arguments = a, drive, entry, started.view(torch.uint8), out, steps, size
    with on_card(drive):
        kernel[grid](*arguments, BACKWARD=backward, ROWS=ROWS, COLUMNS=COLUMNS, **FUSE_MULTIPLY_ADD)
    return out


triton_scan = differentiable("cuda", _run)
"""The scan; arguments as `reference.reference_scan`, on a GPU."""
