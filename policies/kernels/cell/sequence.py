"""Run a cell over a batch of sequences: the recorded program on the CPU and on GPUs, the torch step anywhere else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from policies.kernels.cell.program import Program
from policies.kernels.cell.step import Step, TorchOps
from policies.kernels.choose import Kernels, choose_kernel, is_exporting

CELL = Kernels("cell", {"cpu": (torch.float32, torch.float64), "cuda": (torch.float32, torch.float64)})
"""What runs a recorded step: numba on the CPU, Triton on a GPU."""


def run_sequence(
    step: Step,
    program: Program,
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
        program: the same cell, recorded.
        weights: by name, as they were recorded.
        drive: `[B, T, P]` what the steps take from outside.
        state: `[B, S]` before the first step.
        elapsed: `[B, T]` time since the previous step.
        starts: `[B, T]` bool; True zeroes the state before that step.
        kernel: "reference" (torch, step by step), "cpu" (numba), "cuda" (Triton) or "auto".

    Returns:
        `[B, T, S]` state after each step.

    Raises:
        ValueError: if the kernel is unknown or cannot run on these tensors.
    """
    chosen = choose_kernel(CELL, kernel, drive.device.type, drive.dtype)
    if chosen == "reference" or is_exporting() or not len(drive):
        return reference_sequence(step, weights, drive, state, elapsed, starts)
    flat = torch.cat([weights[name].reshape(-1) for name, _ in program.weights])
    if chosen == "cuda":
        from policies.kernels.cell.triton import op as cuda

        return cuda.run_program(program, flat, drive, state, elapsed, starts)
    from policies.kernels.cell.cpu import run_program

    return run_program(program, flat, drive, state, elapsed, starts)


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
