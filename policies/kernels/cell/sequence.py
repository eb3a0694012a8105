"""Run a cell over a batch of sequences: the recorded program on the CPU, the torch step anywhere else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from policies.kernels.cell.program import Program
from policies.kernels.cell.step import Step, TorchOps
from policies.kernels.choose import Kernels, choose_kernel, is_exporting

CELL = Kernels("cell", {"cpu": (torch.float32, torch.float64)})
"""What runs a recorded step: numba on the CPU."""


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
        kernel: "reference" (torch, step by step), "cpu" (numba) or "auto".

    Returns:
        `[B, T, S]` state after each step.

    Raises:
        ValueError: if the kernel is unknown or cannot run on these tensors.
    """
    if choose_kernel(CELL, kernel, drive.device.type, drive.dtype) == "cpu" and not is_exporting() and len(drive):
        from policies.kernels.cell.cpu import run_program

        flat = torch.cat([weights[name].reshape(-1) for name, _ in program.weights])
        return run_program(program, flat, drive, state, elapsed, starts)
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
