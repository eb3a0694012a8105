"""What all Triton kernels need: whether they can run, on which card they start, and how they are compiled.

require_gpu(inputs)
with on_card(inputs):
kernel[grid](..., **FUSE_MULTIPLY_ADD)
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

HAS_TRITON = importlib.util.find_spec("triton") is not None
"""Whether Triton is installed; it is imported when a kernel first runs."""

FUSE_MULTIPLY_ADD = {"enable_fp_fusion": True}
"""Said on every launch, because Triton's default is about to change."""


def interpreted() -> bool:
    """Say whether Triton runs its kernels in Python, on the CPU (`TRITON_INTERPRET=1`)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def on_card(tensor: Tensor) -> AbstractContextManager[Any]:
    """Make a tensor's card the current one: Triton starts its kernels there."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def require_gpu(inputs: Tensor) -> None:
    """Check that Triton is there and the tensors are where it can work on them.

    Raises:
        ModuleNotFoundError: if Triton is not installed.
        ValueError: if the tensors are not on a GPU.
    """
    if not HAS_TRITON:
        raise ModuleNotFoundError(
            "kernel='cuda' needs Triton: pip install -e '.[cuda]' in a checkout (Linux), or choose kernel='reference'."
        )
    if inputs.device.type != "cuda" and not interpreted():
        raise ValueError(
            f"kernel='cuda' needs tensors on an NVIDIA GPU, got inputs on {inputs.device}. Move the policy and its "
            "inputs with .to('cuda'), choose kernel='cpu', or set TRITON_INTERPRET=1 to run it slowly for a test."
        )
