"""The Triton loops that run a program: forwards through time, every step again at once, backwards through time.

One Triton program runs one sample. Its register file lies in memory that nobody else touches and that the first-level
cache holds; the instructions come from a table, so all cells share these kernels and nothing is compiled for a new one.
Between two instructions stands a barrier: what a thread writes another one reads. Imports Triton, so import it late.
"""

# Triton compiles these functions from their source; its types are not Python's.
# mypy: ignore-errors

from __future__ import annotations

import math

import triton
import triton.language as tl

from policies.kernels.cell.program import Code

LINEAR, GATHER, SCATTER, COPY, AFFINE, ADD, SUBTRACT, MULTIPLY = (tl.constexpr(int(code)) for code in list(Code)[:8])
ADD_WEIGHT, MULTIPLY_WEIGHT, TANH, SIGMOID, EXP, ABS, LEAKY_RELU, SILU, GELU, DIVIDE = (
    tl.constexpr(int(code)) for code in list(Code)[8:]
)
WORDS = tl.constexpr(12)
"""Numbers of an instruction: code, out, rows, a, b, a_rows, b_rows, weight, index, constant, slots, fan."""

_ROOT_HALF = tl.constexpr(math.sqrt(0.5))
_GAUSS = tl.constexpr(1 / math.sqrt(2 * math.pi))


@triton.jit
def forward_kernel(
    code,  # [instructions, WORDS] int32
    tables,  # int32: index lists, and slots [targets, fan] with -1 for none
    constants,  # [·, 2]
    weights,  # flat
    drive,  # [B, T, P]
    state,  # [B, S]
    elapsed,  # [B, T]
    starts,  # [B, T] uint8
    files,  # [B, rows] scratch
    states,  # [B, T, S] out
    instructions,
    rows,
    steps,
    drive_rows,
    size,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the states after every step."""
    sample = tl.program_id(0).to(tl.int64)
    file = files + sample * rows
    before = state + sample * size
    for t in range(steps):
        at = sample * steps + t
        load_step(file, drive + at * drive_rows, elapsed + at, starts + at, before, drive_rows, size, LENGTH)
        run_step(code, tables, constants, weights, file, instructions, LENGTH, ROWS, COLUMNS)
        copy(states + at * size, file + rows - size, size, LENGTH)
        tl.debug_barrier()
        before = states + at * size


@triton.jit
def replay_kernel(
    code,
    tables,
    constants,
    weights,
    drive,
    state,
    elapsed,
    starts,
    states,  # [B, T, S], as `forward_kernel` wrote them
    files,  # [B, T, rows] out
    instructions,
    rows,
    steps,
    drive_rows,
    size,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the register file of every step; no step waits for another, as the states are known."""
    at = tl.program_id(0).to(tl.int64)
    sample, t = at // steps, at % steps
    before = states + (at - 1) * size
    if t == 0:
        before = state + sample * size
    file = files + at * rows
    load_step(file, drive + at * drive_rows, elapsed + at, starts + at, before, drive_rows, size, LENGTH)
    run_step(code, tables, constants, weights, file, instructions, LENGTH, ROWS, COLUMNS)


@triton.jit
def backward_kernel(
    code,
    tables,
    constants,
    weights,
    starts,
    files,  # [B, T, rows], as `replay_kernel` wrote them
    states_grad,  # [B, T, S]
    grads,  # [B, T, rows] zeros, out: the gradient of every number of the register files
    instructions,
    rows,
    steps,
    at_state,
    size,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the gradients of all numbers of all steps, from the last step to the first."""
    sample = tl.program_id(0).to(tl.int64)
    for back in range(steps):
        t = steps - 1 - back
        at = sample * steps + t
        grad = grads + at * rows
        for first in range(0, size, LENGTH):
            s = first + tl.arange(0, LENGTH)
            here = s < size
            value = tl.load(states_grad + at * size + s, mask=here, other=0.0)
            if t + 1 < steps:
                carried = tl.load(grad + rows + at_state + s, mask=here, other=0.0)
                value += tl.where(tl.load(starts + at + 1) != 0, 0.0, carried)
            tl.store(grad + rows - size + s, value, mask=here)
        tl.debug_barrier()
        run_step_back(code, tables, constants, weights, files + at * rows, grad, instructions, LENGTH, ROWS, COLUMNS)


@triton.jit
def load_step(file, drive, elapsed, start, before, drive_rows, size, LENGTH: tl.constexpr):
    """Fill in drive, elapsed and the state before the step: 0 where the sample starts."""
    copy(file, drive, drive_rows, LENGTH)
    tl.store(file + drive_rows, tl.load(elapsed))
    fresh = tl.load(start) != 0
    for first in range(0, size, LENGTH):
        s = first + tl.arange(0, LENGTH)
        value = tl.load(before + s, mask=s < size, other=0.0)
        tl.store(file + drive_rows + 1 + s, tl.where(fresh, 0.0, value), mask=s < size)
    tl.debug_barrier()


@triton.jit
def copy(to, source, count, LENGTH: tl.constexpr):
    """Copy numbers."""
    for first in range(0, count, LENGTH):
        r = first + tl.arange(0, LENGTH)
        tl.store(to + r, tl.load(source + r, mask=r < count, other=0.0), mask=r < count)


@triton.jit
def run_step(
    code,
    tables,
    constants,
    weights,
    file,
    instructions,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Run all instructions on a register file."""
    for i in range(instructions):
        word = code + i * WORDS
        what = tl.load(word)
        y = file + tl.load(word + 1)
        rows = tl.load(word + 2)
        x = file + tl.load(word + 3)
        b = tl.load(word + 4)
        a_rows = tl.load(word + 5)
        b_rows = tl.load(word + 6)
        weight = weights + tl.load(word + 7)
        index = tables + tl.load(word + 8)
        constant = constants + 2 * tl.load(word + 9)
        if what == LINEAR:
            multiply_matrix(y, x, file + b, b >= 0, weight, rows, a_rows, ROWS, COLUMNS)
        elif what == SCATTER:
            sum_slots(y, x, weight, tables + tl.load(word + 10), rows, tl.load(word + 11), ROWS, COLUMNS)
        else:
            scale = tl.load(constant)
            shift = tl.load(constant + 1)
            for first in range(0, rows, LENGTH):
                r = first + tl.arange(0, LENGTH)
                here = r < rows
                place = r
                if what == GATHER:
                    place = tl.load(index + r, mask=here, other=0)
                v = tl.load(x + place, mask=here, other=0.0)
                result = v
                if (what == ADD_WEIGHT) | (what == MULTIPLY_WEIGHT):
                    w = tl.load(weight + r, mask=here, other=0.0)
                    result = tl.where(what == ADD_WEIGHT, v + w, v * w)
                elif (what == ADD) | (what == SUBTRACT) | (what == MULTIPLY) | (what == DIVIDE):
                    u = tl.load(file + b + tl.where(b_rows == rows, r, 0), mask=here, other=1.0)
                    if what == MULTIPLY:
                        result = v * u
                    elif what == DIVIDE:
                        result = v / u
                    else:
                        result = tl.where(what == ADD, v + u, v - u)
                elif what == AFFINE:
                    result = scale * v + shift
                elif what == TANH:
                    result = tanh(v)
                elif what == SIGMOID:
                    result = tl.sigmoid(v)
                elif what == EXP:
                    result = tl.exp(v)
                elif what == ABS:
                    result = tl.abs(v)
                elif what == LEAKY_RELU:
                    result = tl.where(v > shift, v, shift + scale * (v - shift))
                elif what == SILU:
                    result = v * tl.sigmoid(v)
                elif what == GELU:
                    result = v * below(v)
                tl.store(y + r, result, mask=here)
        tl.debug_barrier()


@triton.jit
def run_step_back(
    code,
    tables,
    constants,
    weights,
    file,
    grad,
    instructions,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Run the instructions of `run_step` in reverse: adds to the gradients of the rows that each one read."""
    for back in range(instructions):
        word = code + (instructions - 1 - back) * WORDS
        what = tl.load(word)
        out = tl.load(word + 1)
        rows = tl.load(word + 2)
        a = tl.load(word + 3)
        b = tl.load(word + 4)
        a_rows = tl.load(word + 5)
        b_rows = tl.load(word + 6)
        weight = weights + tl.load(word + 7)
        index = tables + tl.load(word + 8)
        constant = constants + 2 * tl.load(word + 9)
        dy, dx = grad + out, grad + a
        if what == LINEAR:
            multiply_matrix_back(dx, dy, weight, rows, a_rows, ROWS, COLUMNS)
            if b >= 0:
                tl.debug_barrier()  # b may be a
                add(grad + b, dy, rows, LENGTH)
        elif what == GATHER:
            sum_slots_back(dx, dy, tables + tl.load(word + 10), a_rows, tl.load(word + 11), ROWS, COLUMNS)
        else:
            scale = tl.load(constant)
            bend = tl.load(constant + 1)
            binary = (what == ADD) | (what == SUBTRACT) | (what == MULTIPLY) | (what == DIVIDE)
            one = binary & (b_rows != rows)
            shared = tl.zeros([LENGTH], file.dtype.element_ty)  # of the one number that all rows meet
            for first in range(0, a_rows, LENGTH):
                r = first + tl.arange(0, LENGTH)
                here = r < a_rows
                place = r
                if what == SCATTER:
                    place = tl.load(index + r, mask=here, other=0)
                slope = tl.load(dy + place, mask=here, other=0.0)
                v = tl.load(file + a + r, mask=here, other=0.0)
                result = slope
                if (what == MULTIPLY_WEIGHT) | (what == SCATTER):
                    result = slope * tl.load(weight + r, mask=here, other=0.0)
                elif binary:
                    u = tl.load(file + b + tl.where(one, 0, r), mask=here, other=1.0)
                    other = slope
                    if what == SUBTRACT:
                        other = -slope
                    elif what == MULTIPLY:
                        other = slope * v
                        result = slope * u
                    elif what == DIVIDE:
                        other = -slope * v / (u * u)
                        result = slope / u
                    if one:
                        shared += other
                    else:
                        tl.store(grad + b + r, tl.load(grad + b + r, mask=here, other=0.0) + other, mask=here)
                        tl.debug_barrier()  # b may be a, or share rows with it
                elif what == AFFINE:
                    result = slope * scale
                elif (what == TANH) | (what == SIGMOID) | (what == EXP):
                    y = tl.load(file + out + r, mask=here, other=0.0)
                    if what == TANH:
                        result = slope * (1.0 - y * y)
                    elif what == SIGMOID:
                        result = slope * (y * (1.0 - y))
                    else:
                        result = slope * y
                elif what == ABS:
                    result = tl.where(v > 0, slope, tl.where(v < 0, -slope, 0.0))
                elif what == LEAKY_RELU:
                    result = tl.where(v > bend, slope, scale * slope)
                elif what == SILU:
                    gate = tl.sigmoid(v)
                    result = slope * gate * (1.0 + v * (1.0 - gate))
                elif what == GELU:
                    result = slope * (below(v) + v * _GAUSS * tl.exp(-0.5 * v * v))
                tl.store(dx + r, tl.load(dx + r, mask=here, other=0.0) + result, mask=here)
            if one:
                tl.debug_barrier()
                tl.store(grad + b, tl.load(grad + b) + tl.sum(shared, 0))
        tl.debug_barrier()


@triton.jit
def multiply_matrix(y, x, plus, has_plus, weights, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Set y[r] to plus[r] + Σ_c weights[r, c] · x[c]."""
    for first in range(0, rows, ROWS):
        r = first + tl.arange(0, ROWS)
        total = tl.zeros([ROWS], y.dtype.element_ty)
        if has_plus:
            total = tl.load(plus + r, mask=r < rows, other=0.0)
        for start in range(0, columns, COLUMNS):
            c = start + tl.arange(0, COLUMNS)
            known = (r < rows)[:, None] & (c < columns)[None, :]
            w = tl.load(weights + r[:, None] * columns + c[None, :], mask=known, other=0.0)
            v = tl.load(x + c, mask=c < columns, other=0.0)
            total += tl.sum(w * v[None, :], 1)
        tl.store(y + r, total, mask=r < rows)


@triton.jit
def multiply_matrix_back(dx, dy, weights, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Add Σ_r weights[r, c] · dy[r] to dx[c]."""
    for start in range(0, columns, COLUMNS):
        c = start + tl.arange(0, COLUMNS)
        total = tl.load(dx + c, mask=c < columns, other=0.0)
        for first in range(0, rows, ROWS):
            r = first + tl.arange(0, ROWS)
            known = (r < rows)[:, None] & (c < columns)[None, :]
            w = tl.load(weights + r[:, None] * columns + c[None, :], mask=known, other=0.0)
            total += tl.sum(w * tl.load(dy + r, mask=r < rows, other=0.0)[:, None], 0)
        tl.store(dx + c, total, mask=c < columns)


@triton.jit
def sum_slots(y, x, weights, slots, rows, fan, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Set y[r] to Σ weights[s] · x[s] over the slots s of row r."""
    for first in range(0, rows, ROWS):
        r = first + tl.arange(0, ROWS)
        total = tl.zeros([ROWS], y.dtype.element_ty)
        for start in range(0, fan, COLUMNS):
            slot = load_slots(slots, r, start, rows, fan, COLUMNS)
            w = tl.load(weights + slot, mask=slot >= 0, other=0.0)
            total += tl.sum(w * tl.load(x + slot, mask=slot >= 0, other=0.0), 1)
        tl.store(y + r, total, mask=r < rows)


@triton.jit
def sum_slots_back(dx, dy, slots, rows, fan, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Add Σ dy[s] over the slots s of row r to dx[r]."""
    for first in range(0, rows, ROWS):
        r = first + tl.arange(0, ROWS)
        total = tl.load(dx + r, mask=r < rows, other=0.0)
        for start in range(0, fan, COLUMNS):
            slot = load_slots(slots, r, start, rows, fan, COLUMNS)
            total += tl.sum(tl.load(dy + slot, mask=slot >= 0, other=0.0), 1)
        tl.store(dx + r, total, mask=r < rows)


@triton.jit
def load_slots(slots, r, start, rows, fan, COLUMNS: tl.constexpr):
    """Load `[ROWS, COLUMNS]` slots, -1 for none."""
    f = start + tl.arange(0, COLUMNS)
    known = (r < rows)[:, None] & (f < fan)[None, :]
    return tl.load(slots + r[:, None] * fan + f[None, :], mask=known, other=-1)


@triton.jit
def add(to, source, count, LENGTH: tl.constexpr):
    """Add numbers to others."""
    for first in range(0, count, LENGTH):
        r = first + tl.arange(0, LENGTH)
        here = r < count
        total = tl.load(to + r, mask=here, other=0.0) + tl.load(source + r, mask=here, other=0.0)
        tl.store(to + r, total, mask=here)


@triton.jit
def tanh(x):
    """(1 − e^−2|x|) / (1 + e^−2|x|), with the sign of x."""
    shrunk = tl.exp(-2.0 * tl.abs(x))
    size = (1.0 - shrunk) / (1.0 + shrunk)
    return tl.where(x < 0, -size, size)


@triton.jit
def below(x):
    """Share of a normal distribution that lies below x."""
    return 0.5 * (1.0 + tl.erf(x * _ROOT_HALF))
