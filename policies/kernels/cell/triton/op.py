"""A program over whole sequences on NVIDIA GPUs, in Triton.

Forwards only the states are kept. Backwards the register files of all steps are computed again side by side, since the
states between them are known; then one Triton program a sample goes back through time and writes the gradient of every
number in them. The gradients of the weights are products of the two over all samples and steps, which torch does: sums
in a fixed order, no atomics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from policies.kernels.cell.gradient import differentiable
from policies.kernels.cell.program import COLUMNS as FIELDS
from policies.kernels.cell.program import Code
from policies.kernels.gpu import FUSE_MULTIPLY_ADD, on_card, require_gpu

FILE_NUMBERS = 1 << 26
"""Most numbers that register files and their gradients may take in a backward pass (256 MiB each in float32); larger
batches are done a part after the other. One sample is never cut."""

BLOCKS = {1: {"LENGTH": 64, "ROWS": 64, "COLUMNS": 16}, 4: {"LENGTH": 128, "ROWS": 128, "COLUMNS": 32}}
"""Numbers of a row, and rows and columns of a matrix, that one and four warps work on at once."""

LARGE = 2048
"""Numbers of a matrix from which on four warps work on a sample instead of one."""


@dataclass(frozen=True)
class _Tables:
    """A program on a device.

    Attributes:
        code: `[instructions, 12]` int32, see `kernels.WORDS`.
        indices: int32, the program's index lists and the slots behind them.
        constants: `[·, 2]`, in the dtype of the weights.
        warps: 32 threads each, that work on a sample.
    """

    code: Tensor
    indices: Tensor
    constants: Tensor
    warps: int

    def launch(self) -> dict[str, Any]:
        """Return how a kernel is compiled: sizes of the blocks that a sample's threads work on at once."""
        return {**BLOCKS[self.warps], "num_warps": self.warps, **FUSE_MULTIPLY_ADD}


_on_devices: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""The tables of every program, by its code and by device and dtype."""


def _tables(code: Tensor, indices: Tensor, constants: Tensor, device: torch.device) -> _Tables:
    """Return the program on a device; put there once."""
    known: dict[tuple[torch.device, torch.dtype], _Tables] = _on_devices.setdefault(code, {})
    key = device, constants.dtype
    if key not in known:
        known[key] = _put(code, indices, constants, device)
    return known[key]


def _put(code: Tensor, indices: Tensor, constants: Tensor, device: torch.device) -> _Tables:
    rows: list[list[int]] = []
    lists = indices.tolist()
    largest = 0
    for instruction in code.tolist():
        fields = dict(zip(FIELDS, instruction, strict=True))
        slots, fan = 0, 0
        what, index = fields["code"], fields["index"]
        if what == Code.LINEAR:
            largest = max(largest, fields["rows"] * fields["a_rows"])
        if what in (Code.GATHER, Code.SCATTER):
            # Forwards the synapses of each target, backwards those of each source.
            count, ends = (
                (fields["a_rows"], lists[index : index + fields["rows"]])
                if what == Code.GATHER
                else (fields["rows"], lists[index : index + fields["a_rows"]])
            )
            found: list[list[int]] = [[] for _ in range(count)]
            for place, end in enumerate(ends):
                found[end].append(place)
            fan = max(map(len, found), default=0)
            slots = len(lists)
            for some in found:
                lists += some + [-1] * (fan - len(some))
        kept = ("code", "out", "rows", "a", "b", "a_rows", "b_rows", "weight", "index", "constant")
        # A place of −1 says that there is none: nothing is read there, but the first number may be.
        rows.append([fields[name] if name in ("code", "b") else max(fields[name], 0) for name in kept] + [slots, fan])
    return _Tables(
        torch.tensor(rows, dtype=torch.int32, device=device),
        torch.tensor(lists or [0], dtype=torch.int32, device=device),
        constants.to(device),
        4 if largest > LARGE else 1,
    )


def _forward(
    weights: Tensor,
    drive: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    code: Tensor,
    indices: Tensor,
    constants: Tensor,
    places: Tensor,
    rows: int,
    spread: int,
) -> Tensor:
    require_gpu(drive)
    from policies.kernels.cell.triton.kernels import forward_kernel

    batch_size, steps, drive_rows = drive.shape
    size = state.shape[1]
    states = drive.new_empty(batch_size, steps, size)
    tables = _tables(code, indices, constants, drive.device)
    weights, drive, state, elapsed, starts = (x.contiguous() for x in (weights, drive, state, elapsed, starts))
    files = drive.new_empty(batch_size, rows)
    with on_card(drive):
        forward_kernel[(batch_size,)](
            tables.code,
            tables.indices,
            tables.constants,
            weights,
            drive,
            state,
            elapsed,
            starts.view(torch.uint8),
            files,
            states,
            len(tables.code),
            rows,
            steps,
            drive_rows,
            size,
            **tables.launch(),
        )
    return states


def _backward(
    states_grad: Tensor,
    states: Tensor,
    weights: Tensor,
    drive: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    code: Tensor,
    indices: Tensor,
    constants: Tensor,
    places: Tensor,
    rows: int,
    spread: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch_size, steps, drive_rows = drive.shape
    tables = _tables(code, indices, constants, drive.device)
    sequences = [x.contiguous() for x in (states_grad, states, drive, state, elapsed, starts)]
    weights = weights.contiguous()
    weight_grad = torch.zeros_like(weights)
    drive_grad, state_grad, elapsed_grad = (x.new_empty(x.shape) for x in (drive, state, elapsed))
    at_once = max(1, FILE_NUMBERS // (steps * rows))
    for first in range(0, batch_size, at_once):
        some = slice(first, first + at_once)
        files, grads = _step_gradients(tables, weights, rows, *(x[some] for x in sequences))
        drive_grad[some] = grads[:, :, :drive_rows]
        elapsed_grad[some] = grads[:, :, drive_rows]
        before = grads[:, 0, drive_rows + 1 : drive_rows + 1 + state.shape[1]]
        state_grad[some] = torch.where(starts[some, :1], 0, before)
        _add_weight_gradients(code, indices, weight_grad, files.view(-1, rows), grads.view(-1, rows))
    return weight_grad, drive_grad, state_grad, elapsed_grad


def _step_gradients(
    tables: _Tables,
    weights: Tensor,
    rows: int,
    states_grad: Tensor,
    states: Tensor,
    drive: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the register files `[B, T, rows]` of all steps, and the gradients of all their numbers."""
    from policies.kernels.cell.triton.kernels import backward_kernel, replay_kernel

    batch_size, steps, drive_rows = drive.shape
    size = state.shape[1]
    files = drive.new_empty(batch_size, steps, rows)
    grads = drive.new_zeros(batch_size, steps, rows)
    program = tables.code, tables.indices, tables.constants, weights
    fresh = starts.view(torch.uint8)
    with on_card(drive):
        replay_kernel[(batch_size * steps,)](
            *program,
            drive,
            state,
            elapsed,
            fresh,
            states,
            files,
            len(tables.code),
            rows,
            steps,
            drive_rows,
            size,
            **tables.launch(),
        )
        backward_kernel[(batch_size,)](
            *program,
            fresh,
            files,
            states_grad,
            grads,
            len(tables.code),
            rows,
            steps,
            drive_rows + 1,
            size,
            **tables.launch(),
        )
    return files, grads


def _add_weight_gradients(code: Tensor, indices: Tensor, weight_grad: Tensor, files: Tensor, grads: Tensor) -> None:
    """Add what all samples and steps `[B · T, rows]` give the weights."""
    for instruction in code.tolist():
        at = dict(zip(FIELDS, instruction, strict=True))
        if at["weight"] < 0:
            continue
        dy = grads[:, at["out"] : at["out"] + at["rows"]]
        x = files[:, at["a"] : at["a"] + at["a_rows"]]
        if at["code"] == Code.LINEAR:
            grad = (dy.T @ x).reshape(-1)
        elif at["code"] == Code.ADD_WEIGHT:
            grad = dy.sum(0)
        else:
            if at["code"] == Code.SCATTER:
                dy = dy[:, indices[at["index"] : at["index"] + at["a_rows"]].to(dy.device)]
            grad = (dy * x).sum(0)
        weight_grad[at["weight"] : at["weight"] + grad.numel()] += grad


run_program = differentiable("cuda", _forward, _backward)
"""Runs a program over a batch of sequences on the GPU; see `gradient.differentiable`."""
