"""Run a cell over a batch of sequences: the recorded tape on the CPU, the torch step anywhere else."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from policies.kernels.cell.program import Tape
from policies.kernels.cell.step import Step, TorchOps

KERNELS = ("auto", "reference", "cpu")
"""Values of a core's `kernel` option."""

_log = logging.getLogger(__name__)


def run_sequence(
    step: Step,
    tape: Tape,
    weights: Mapping[str, Tensor],
    drive: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    kernel: str = "auto",
) -> Tensor:
    """Run a cell over a batch of sequences.

    Args:
        step: the cell.
        tape: the same cell, recorded.
        weights: by name, as they were recorded.
        drive: `[B, T, P]` what the steps take from outside.
        state: `[B, S]` before the first step.
        elapsed: `[B, T]` time since the previous step.
        starts: `[B, T]` bool; True zeroes the state before that step.
        kernel: "reference" (torch, step by step), "cpu" (numba) or "auto": numba for float tensors on the CPU.

    Returns:
        `[B, T, S]` state after each step.

    Raises:
        ValueError: if the kernel is unknown or cannot run on these tensors.
    """
    if choose_kernel(kernel, drive.device.type, drive.dtype) == "cpu" and not _being_exported():
        from policies.kernels.cell.cpu import tape_sequence

        flat = torch.cat([weights[name].reshape(-1) for name, _ in tape.weights])
        return tape_sequence(tape, flat, drive, state, elapsed, starts)
    return reference_sequence(step, weights, drive, state, elapsed, starts)


def reference_sequence(
    step: Step, weights: Mapping[str, Tensor], drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor
) -> Tensor:
    """Run a cell step by step in torch: what every kernel is held to. Arguments as `run_sequence`."""
    ops, states = TorchOps(), []
    for t in range(drive.shape[1]):
        state = torch.where(starts[:, t, None], 0, state)
        state = step(ops, weights, drive[:, t], state, elapsed[:, t, None])
        states.append(state)
    return torch.stack(states, dim=1)


def choose_kernel(kernel: str, device: str, dtype: torch.dtype) -> str:
    """Return the kernel that runs, "reference" or "cpu".

    Raises:
        ValueError: if the kernel is unknown or cannot run on such tensors.
    """
    check_kernel(kernel)
    fits = device == "cpu" and dtype in (torch.float32, torch.float64)
    if kernel == "auto":
        chosen = "cpu" if fits else "reference"
        if not torch.compiler.is_compiling():
            _log_choice(chosen, device, str(dtype).removeprefix("torch."))
        return chosen
    if kernel == "cpu" and not fits:
        raise ValueError(
            f"kernel 'cpu' runs float32 or float64 tensors on the CPU, got {dtype} on {device}. "
            "Move the tensors, or leave the choice to kernel='auto'."
        )
    return kernel


@lru_cache
def _log_choice(chosen: str, device: str, dtype: str) -> None:
    """Log the choice, once for each kind of tensor."""
    _log.info("cell kernel for %s tensors on %s: %s.", dtype, device, chosen)


def check_kernel(kernel: str) -> None:
    """Raise ValueError unless `kernel` is in `KERNELS`."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}.")


def _being_exported() -> bool:
    """Return whether a graph for another runtime is being made, which knows torch's own operations only."""
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting() or torch.jit.is_tracing()
