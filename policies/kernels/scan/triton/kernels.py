"""The scan as Triton kernels: blocks of time are scanned in a tree, and carried from block to block.

One program runs a sample and a block of units through time. Imports Triton, so import it late.
"""

# Triton compiles these functions from their source; its types are not Python's.
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _after(a1, b1, a2, b2):
    """(a₂, b₂) after (a₁, b₁)."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _complex_after(ar1, ai1, br1, bi1, ar2, ai2, br2, bi2):
    """(a₂, b₂) after (a₁, b₁), complex."""
    return (
        ar1 * ar2 - ai1 * ai2,
        ar1 * ai2 + ai1 * ar2,
        ar2 * br1 - ai2 * bi1 + br2,
        ar2 * bi1 + ai2 * br1 + bi2,
    )


@triton.jit
def scan_kernel(
    a, b, state, starts, out, steps, size, BACKWARD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Run x ← k x + b; `[B, T, N]`, state `[B, N]`, starts uint8 `[B, T]`. Backwards k is that of the step after."""
    sample = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = column < size
    carry = tl.load(state + sample * size + column, mask=here, other=0.0)
    place = tl.arange(0, ROWS)
    for block in range(0, steps, ROWS):
        row = block + place
        t = steps - 1 - row if BACKWARD else row
        c = t + 1 if BACKWARD else t
        known = (row < steps) & (c < steps)
        cut = tl.load(starts + sample * steps + c, mask=known, other=1)
        mask = (row < steps)[:, None] & here[None, :]
        k = tl.load(a + (sample * steps + c)[:, None] * size + column[None, :], mask=known[:, None] & mask, other=0.0)
        k = tl.where(cut[:, None] != 0, 0.0, k)
        at = (sample * steps + t)[:, None] * size + column[None, :]
        x = tl.load(b + at, mask=mask, other=0.0)
        p, y = tl.associative_scan((k, x), 0, _after)
        y += p * carry[None, :]
        tl.store(out + at, y, mask=mask)
        carry = tl.sum(tl.where((place == ROWS - 1)[:, None], y, 0.0), axis=0)


@triton.jit
def complex_scan_kernel(
    a, b, state, starts, out, steps, size, BACKWARD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """`scan_kernel` on pairs `[B, T, N, 2]`; backwards the factors are conjugate."""
    sample = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = column < size
    carry_r = tl.load(state + (sample * size + column) * 2, mask=here, other=0.0)
    carry_i = tl.load(state + (sample * size + column) * 2 + 1, mask=here, other=0.0)
    place = tl.arange(0, ROWS)
    for block in range(0, steps, ROWS):
        row = block + place
        t = steps - 1 - row if BACKWARD else row
        c = t + 1 if BACKWARD else t
        known = (row < steps) & (c < steps)
        cut = tl.load(starts + sample * steps + c, mask=known, other=1)
        mask = (row < steps)[:, None] & here[None, :]
        factor = ((sample * steps + c)[:, None] * size + column[None, :]) * 2
        kr = tl.load(a + factor, mask=known[:, None] & mask, other=0.0)
        ki = tl.load(a + factor + 1, mask=known[:, None] & mask, other=0.0)
        kr = tl.where(cut[:, None] != 0, 0.0, kr)
        ki = tl.where(cut[:, None] != 0, 0.0, ki)
        if BACKWARD:
            ki = -ki
        at = ((sample * steps + t)[:, None] * size + column[None, :]) * 2
        xr = tl.load(b + at, mask=mask, other=0.0)
        xi = tl.load(b + at + 1, mask=mask, other=0.0)
        pr, pi, yr, yi = tl.associative_scan((kr, ki, xr, xi), 0, _complex_after)
        yr += pr * carry_r[None, :] - pi * carry_i[None, :]
        yi += pr * carry_i[None, :] + pi * carry_r[None, :]
        tl.store(out + at, yr, mask=mask)
        tl.store(out + at + 1, yi, mask=mask)
        last = (place == ROWS - 1)[:, None]
        carry_r = tl.sum(tl.where(last, yr, 0.0), axis=0)
        carry_i = tl.sum(tl.where(last, yi, 0.0), axis=0)
