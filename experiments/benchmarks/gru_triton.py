"""A peer for the cores on a GPU: a GRU whose sequences may begin anew at any step, in one Triton kernel each way.

    r, z = sigmoid(x_rz + U_rz h);  n = tanh(x_n + r (U_n h + d_n));  h ← (1 − z) n + z h

The equations and the weights are `torch.nn.GRU`'s; before a step that starts a sequence h is zero, which cuDNN cannot
do. x W^T + b of all steps is one product of matrices. Then one program runs `rows` sequences through time and reads
U, 196 KB for 128 units, from the caches at every step: in float32 it fits no block's registers. Backward computes the
gates of all steps again from the states, in one product of matrices, goes back through time in a second kernel, and
leaves the gradient of U to a product again. No atomics, so a run repeats bit for bit.

    layer = ResettingGRU(32, 128).cuda()
    hidden, last = layer(inputs, state, starts)
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from policies.kernels.gpu import FUSE_MULTIPLY_ADD, on_card

BLOCK = 16
"""Rows of the recurrent weight that a program multiplies at once."""
PROGRAMS = 128
"""Programs that a card of some 130 multiprocessors is given before a program gets more than one sequence."""
MOST_ROWS = 16
"""Most sequences of a program."""


@triton.jit
def gru_forward(
    gates,  # [B, T, 3 N] x W^T and the biases, of n without d_n
    starts,  # [B, T] uint8
    weight,  # [N, 3 N] U transposed
    offset,  # [N] d_n
    hidden,  # [B, T + 1, N] the state before the first step, then out: after each step
    batch,
    steps,
    UNITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the state after every step."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    there = rows < batch
    units = tl.arange(0, UNITS)
    d = tl.load(offset + units)[None, :]
    for step in range(steps):
        keeps = there & (tl.load(starts + rows * steps + step, mask=there, other=1) == 0)
        before = hidden + (rows * (steps + 1) + step) * UNITS
        r = tl.zeros((ROWS, UNITS), tl.float32)
        z = tl.zeros((ROWS, UNITS), tl.float32)
        n = tl.zeros((ROWS, UNITS), tl.float32)
        for first in range(0, UNITS, BLOCK):
            inner = first + tl.arange(0, BLOCK)
            h = tl.load(before[:, None] + inner[None, :], mask=keeps[:, None], other=0.0)
            at = weight + inner[:, None] * (3 * UNITS) + units[None, :]
            r = tl.dot(h, tl.load(at), r, input_precision="ieee")
            z = tl.dot(h, tl.load(at + UNITS), z, input_precision="ieee")
            n = tl.dot(h, tl.load(at + 2 * UNITS), n, input_precision="ieee")
        at_gates = gates + (rows * steps + step)[:, None] * (3 * UNITS) + units[None, :]
        r = tl.sigmoid(r + tl.load(at_gates, mask=there[:, None], other=0.0))
        z = tl.sigmoid(z + tl.load(at_gates + UNITS, mask=there[:, None], other=0.0))
        n = tl.load(at_gates + 2 * UNITS, mask=there[:, None], other=0.0) + r * (n + d)
        n = 2 * tl.sigmoid(2 * n) - 1
        h_before = tl.load(before[:, None] + units[None, :], mask=keeps[:, None], other=0.0)
        after = before[:, None] + (UNITS + units)[None, :]
        tl.store(after, n + z * (h_before - n), mask=there[:, None])
        tl.debug_barrier()  # the next step reads what other threads have stored


@triton.jit
def gru_backward(
    gates,  # [B, T, 3 N] as forward
    recurrent,  # [B, T, 3 N] U h, and d_n
    starts,  # [B, T] uint8
    weight,  # [3 N, N] U
    hidden,  # [B, T + 1, N]
    grad_hidden,  # [B, T, N] of the states after each step
    grad_gates,  # [B, T, 3 N] out
    grad_recurrent,  # [B, T, 3 N] out
    grad_state,  # [B, N] out
    batch,
    steps,
    UNITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradients of the gates' two parts and of the state before the first step."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    there = rows < batch
    units = tl.arange(0, UNITS)
    real = there[:, None]
    flows = tl.zeros((ROWS, UNITS), tl.float32)
    for back in range(steps):
        step = steps - 1 - back
        keeps = there & (tl.load(starts + rows * steps + step, mask=there, other=1) == 0)
        at = rows * steps + step
        at_gates = at[:, None] * (3 * UNITS) + units[None, :]
        dh = flows + tl.load(grad_hidden + at[:, None] * UNITS + units[None, :], mask=real, other=0.0)
        heard = tl.load(recurrent + at_gates + 2 * UNITS, mask=real, other=0.0)
        r = tl.sigmoid(
            tl.load(gates + at_gates, mask=real, other=0.0) + tl.load(recurrent + at_gates, mask=real, other=0.0)
        )
        z = tl.sigmoid(
            tl.load(gates + at_gates + UNITS, mask=real, other=0.0)
            + tl.load(recurrent + at_gates + UNITS, mask=real, other=0.0)
        )
        n = 2 * tl.sigmoid(2 * (tl.load(gates + at_gates + 2 * UNITS, mask=real, other=0.0) + r * heard)) - 1
        before = hidden + (rows * (steps + 1) + step)[:, None] * UNITS + units[None, :]
        h = tl.load(before, mask=keeps[:, None], other=0.0)
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (h - n) * z * (1 - z)
        dr = dn * heard * r * (1 - r)
        tl.store(grad_gates + at_gates, dr, mask=real)
        tl.store(grad_gates + at_gates + UNITS, dz, mask=real)
        tl.store(grad_gates + at_gates + 2 * UNITS, dn, mask=real)
        tl.store(grad_recurrent + at_gates, dr, mask=real)
        tl.store(grad_recurrent + at_gates + UNITS, dz, mask=real)
        tl.store(grad_recurrent + at_gates + 2 * UNITS, dn * r, mask=real)
        tl.debug_barrier()  # what follows reads what other threads have stored
        flows = dh * z
        for first in range(0, 3 * UNITS, BLOCK):
            inner = first + tl.arange(0, BLOCK)
            part = tl.load(grad_recurrent + at[:, None] * (3 * UNITS) + inner[None, :], mask=real, other=0.0)
            block = tl.load(weight + inner[:, None] * UNITS + units[None, :])
            flows = tl.dot(part, block, flows, input_precision="ieee")
        flows = tl.where(keeps[:, None], flows, 0.0)
    tl.store(grad_state + rows[:, None] * UNITS + units[None, :], flows, mask=real)


class _Run(torch.autograd.Function):
    """The recurrent part, from the gates' input to the states after each step."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, state: Tensor, starts: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
        (batch, steps), units = starts.shape, state.shape[1]
        gates, flags = gates.contiguous(), starts.contiguous().view(torch.uint8)
        hidden = gates.new_empty(batch, steps + 1, units)
        hidden[:, 0] = state
        grid, sizes = _launch(batch, steps, units)
        with on_card(gates):
            gru_forward[grid](gates, flags, weight.t().contiguous(), offset.contiguous(), hidden, batch, steps, **sizes)
        ctx.save_for_backward(gates, starts, weight, offset, hidden)
        return hidden[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor | None, ...]:
        gates, starts, weight, offset, hidden = ctx.saved_tensors
        (batch, steps), units = starts.shape, hidden.shape[2]
        before = hidden[:, :-1].masked_fill(starts[..., None], 0)
        recurrent = before @ weight.t()  # [B, T, 3 N]
        recurrent[..., 2 * units :] += offset
        grad_gates, grad_recurrent = torch.empty_like(gates), torch.empty_like(gates)
        grad_state = hidden.new_empty(batch, units)
        grid, sizes = _launch(batch, steps, units)
        flags = starts.contiguous().view(torch.uint8)
        given = (gates, recurrent, flags, weight.contiguous(), hidden, grad_hidden.contiguous())
        with on_card(gates):
            gru_backward[grid](*given, grad_gates, grad_recurrent, grad_state, batch, steps, **sizes)
        grad_weight = grad_recurrent.flatten(0, 1).t() @ before.flatten(0, 1)
        grad_offset = grad_recurrent[..., 2 * units :].sum((0, 1))
        return grad_gates, grad_state, None, grad_weight, grad_offset


def _launch(batch: int, steps: int, units: int) -> tuple[tuple[int], dict[str, int]]:
    """Return the grid and the compile-time sizes."""
    rows = min(MOST_ROWS, 1 << max(0, math.ceil(batch / PROGRAMS) - 1).bit_length())
    return (-(-batch // rows),), {"UNITS": units, "ROWS": rows, "BLOCK": BLOCK, **options(rows)}


def options(rows: int) -> dict[str, Any]:
    """Return what the compiler is given; of 128 units nothing leaves the registers at any number of rows."""
    return {"num_warps": 4 if rows < 4 else 8, **FUSE_MULTIPLY_ADD}


class ResettingGRU(nn.Module):
    """A GRU layer in float32 whose state is zeroed where a sequence starts.

    Attributes:
        weight_ih: `[3 N, F]`, gates in the order r, z, n, like the next three.
        weight_hh: `[3 N, N]`.
        bias_ih: `[3 N]`.
        bias_hh: `[3 N]`.
    """

    def __init__(self, input_size: int, units: int):
        """Draw the weights as torch does, from its global generator.

        Args:
            input_size: F.
            units: N, a power of two and at least 16.

        Raises:
            ValueError: if the kernels cannot run so many units.
        """
        super().__init__()
        if units < BLOCK or units & (units - 1):
            raise ValueError(f"units must be a power of two and at least {BLOCK}, got {units}.")
        self.units = units
        bound = 1 / math.sqrt(units)
        self.weight_ih = nn.Parameter(torch.empty(3 * units, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(3 * units, units).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(3 * units).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(3 * units).uniform_(-bound, bound))

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run sequences.

        Args:
            inputs: `[B, T, F]`, on a GPU unless Triton interprets.
            state: `[B, N]` before the first step; zeros when None.
            starts: `[B, T]` bool; True zeroes the state before that step.

        Returns:
            `[B, T, N]` the states after each step, and `[B, N]` the last one.
        """
        gates, state, starts, offset = self._enter(inputs, state, starts)
        hidden = _Run.apply(gates, state, starts, self.weight_hh, offset)
        return hidden, hidden[:, -1]

    def reference(
        self, inputs: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Do what `forward` does step by step in torch: any device and dtype, and what the kernels are held to."""
        gates, state, starts, offset = self._enter(inputs, state, starts)
        hidden = []
        for step in range(inputs.shape[1]):
            state = torch.where(starts[:, step, None], 0, state)
            x_r, x_z, x_n = gates[:, step].chunk(3, dim=1)
            u_r, u_z, u_n = (state @ self.weight_hh.t()).chunk(3, dim=1)
            r, z = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
            n = torch.tanh(x_n + r * (u_n + offset))
            state = (1 - z) * n + z * state
            hidden.append(state)
        return torch.stack(hidden, dim=1), state

    def _enter(
        self, inputs: Tensor, state: Tensor | None, starts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gates' input `[B, T, 3 N]`, state and starts with their defaults, and d_n `[N]`."""
        if state is None:
            state = inputs.new_zeros(len(inputs), self.units)
        if starts is None:
            starts = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        rz, offset = self.bias_hh[: 2 * self.units], self.bias_hh[2 * self.units :]
        bias = self.bias_ih + torch.cat((rz, torch.zeros_like(offset)))
        return nn.functional.linear(inputs, self.weight_ih, bias), state, starts, offset
