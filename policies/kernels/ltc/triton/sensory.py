"""Triton: what the sensory synapses contribute, for all steps of a batch at once.

The inputs of a step do not depend on the circuit, so the sums over a neuron's sensory synapses,
`numerator_j = sum_i a_ij E_ij` and `denominator_j = sum_i a_ij` with `a_ij = w_ij sigmoid(sigma_ij (u_i - mu_ij))`,
need no loop over time: a row is one step of one sequence, and there are B * T of them. The forward pass goes through
the synapses by receiving neuron, the backward pass by sending input, so each sum has one owner and nothing is atomic.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sensory_forward(
    inputs,  # [rows, I]
    w,  # [S], likewise the next three
    mu,
    sigma,
    erev,
    source,  # [S] int64
    in_slots,  # [fan_in, N] int32
    numerator,  # [rows, N] out
    denominator,  # [rows, N] out
    rows,
    input_size,
    neurons,
    fan_in,
    ROWS: tl.constexpr,
    TARGETS: tl.constexpr,
):
    """Write both sums of a tile of rows and a block of receiving neurons."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * TARGETS + tl.arange(0, TARGETS)
    in_rows, in_columns = row < rows, column < neurons
    total = tl.zeros([ROWS, TARGETS], dtype=inputs.dtype.element_ty)
    total_erev = tl.zeros([ROWS, TARGETS], dtype=inputs.dtype.element_ty)
    for f in range(fan_in):
        slot = tl.load(in_slots + f * neurons + column, mask=in_columns, other=-1)
        real = slot >= 0
        w_f = tl.load(w + slot, mask=real, other=0.0)
        mu_f = tl.load(mu + slot, mask=real, other=0.0)
        sigma_f = tl.load(sigma + slot, mask=real, other=0.0)
        erev_f = tl.load(erev + slot, mask=real, other=0.0)
        source_f = tl.load(source + slot, mask=real, other=0)
        u = tl.load(
            inputs + row[:, None] * input_size + source_f[None, :], mask=in_rows[:, None] & real[None, :], other=0.0
        )
        a = w_f[None, :] * tl.sigmoid(sigma_f[None, :] * (u - mu_f[None, :]))
        total += a
        total_erev += a * erev_f[None, :]
    place = row[:, None] * neurons + column[None, :]
    mask = in_rows[:, None] & in_columns[None, :]
    tl.store(numerator + place, total_erev, mask=mask)
    tl.store(denominator + place, total, mask=mask)


@triton.jit
def sensory_backward(
    inputs,  # [rows, I]
    w,  # [S], likewise the next three
    mu,
    sigma,
    erev,
    target,  # [S] int64
    out_slots,  # [fan_out, I] int32
    grad_numerator,  # [rows, N]
    grad_denominator,  # [rows, N]
    grad_inputs,  # [rows, I] out
    partial,  # [programs, 4, S] in and out, zero at the start: sums for w, mu, sigma, erev
    rows,
    input_size,
    neurons,
    synapses,
    fan_out,
    ROWS: tl.constexpr,
    SOURCES: tl.constexpr,
):
    """Write the input gradients of some tiles of rows and add up what these rows give the parameters."""
    column = tl.program_id(1) * SOURCES + tl.arange(0, SOURCES)
    in_columns = column < input_size
    sums = partial + tl.program_id(0).to(tl.int64) * 4 * synapses
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS)
        in_rows = row < rows
        mask = in_rows[:, None] & in_columns[None, :]
        u = tl.load(inputs + row[:, None] * input_size + column[None, :], mask=mask, other=0.0)
        grad_u = tl.zeros([ROWS, SOURCES], dtype=inputs.dtype.element_ty)
        for f in range(fan_out):
            slot = tl.load(out_slots + f * input_size + column, mask=in_columns, other=-1)
            real = slot >= 0
            w_f = tl.load(w + slot, mask=real, other=0.0)[None, :]
            mu_f = tl.load(mu + slot, mask=real, other=0.0)[None, :]
            sigma_f = tl.load(sigma + slot, mask=real, other=0.0)[None, :]
            erev_f = tl.load(erev + slot, mask=real, other=0.0)[None, :]
            target_f = tl.load(target + slot, mask=real, other=0)
            place = row[:, None] * neurons + target_f[None, :]
            both = in_rows[:, None] & real[None, :]
            grad_num = tl.load(grad_numerator + place, mask=both, other=0.0)
            grad_den = tl.load(grad_denominator + place, mask=both, other=0.0)
            gate = tl.sigmoid(sigma_f * (u - mu_f))
            grad_a = grad_num * erev_f + grad_den
            grad_pre = grad_a * w_f * gate * (1.0 - gate)
            grad_u += grad_pre * sigma_f
            add(sums + slot, tl.sum(grad_a * gate, 0), real)
            add(sums + synapses + slot, -tl.sum(grad_pre * sigma_f, 0), real)
            add(sums + 2 * synapses + slot, tl.sum(grad_pre * (u - mu_f), 0), real)
            add(sums + 3 * synapses + slot, tl.sum(grad_num * w_f * gate, 0), real)
        tl.store(grad_inputs + row[:, None] * input_size + column[None, :], grad_u, mask=mask)
        tl.debug_barrier()  # the next tile adds to the same sums


@triton.jit
def add(place, value, mask):
    """Add to memory that no other program touches; every address at most once between two barriers."""
    tl.store(place, tl.load(place, mask=mask, other=0.0) + value, mask=mask)
