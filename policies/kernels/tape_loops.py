"""The numba loops that run a tape: one step forwards, one step backwards.

A tile is some samples (lanes, a multiple of 16) of the batch. Its register file holds `lanes` neighbours for each row
of the tape, so the rows of a value lie one behind the other: an elementwise instruction is one loop over all of them.
What is more than such a loop is in `tape_rows`.
"""

from __future__ import annotations

import math
from typing import Any

from policies.kernels.jit import compiled
from policies.kernels.lanes import WIDTH, load, store, total
from policies.kernels.math import exp, sigmoid, tanh
from policies.kernels.tape import Code
from policies.kernels.tape_rows import (
    add,
    add_matrix,
    add_row,
    combine,
    combine_back,
    combine_one,
    combine_one_back,
    copy_row,
    product,
    row_and_weight,
    turn,
)

LINEAR, GATHER, SCATTER, COPY, AFFINE, ADD, SUBTRACT, MULTIPLY = (int(code) for code in list(Code)[:8])
ADD_WEIGHT, MULTIPLY_WEIGHT, TANH, SIGMOID, EXP, ABS, LEAKY_RELU, SILU, GELU = (int(code) for code in list(Code)[8:])

_ROOT_HALF = math.sqrt(0.5)
_GAUSS = 1 / math.sqrt(2 * math.pi)


@compiled
def run_step(code: Any, indices: Any, constants: Any, weights: Any, file: Any, lanes: int) -> None:
    """Run all instructions on a register file.

    Args:
        code: as `Tape.code`.
        indices: as `Tape.indices`.
        constants: as `Tape.constants`, in the dtype of the file.
        weights: flat.
        file: `[rows · lanes]`; drive, elapsed and state are filled in.
        lanes: samples side by side, a multiple of 16.
    """
    kind = file.dtype.type
    half, one = kind(0.5), kind(1)
    for i in range(code.shape[0]):
        what, out, rows, a, b, a_rows, b_rows, weight, index, constant, spread = code[i]
        size = rows * lanes
        y = file[out * lanes : out * lanes + size]
        x = file[a * lanes : a * lanes + a_rows * lanes]
        if what == LINEAR:
            if b >= 0:
                y[:] = file[b * lanes : b * lanes + size]
            else:
                y[:] = kind(0)
            add_matrix(y, x, weights[weight:], rows, a_rows, a_rows, 1, lanes)
        elif what == SCATTER:
            y[:] = kind(0)
            for s in range(a_rows):
                add_row(y, indices[index + s] * lanes, x, s * lanes, weights[weight + s], lanes)
        elif what == GATHER:
            for r in range(rows):
                copy_row(y, r * lanes, x, indices[index + r] * lanes, lanes)
        elif what == ADD_WEIGHT or what == MULTIPLY_WEIGHT:
            for r in range(rows):
                row_and_weight(y, x, r * lanes, weights[weight + r], what == ADD_WEIGHT, lanes)
        elif what == ADD or what == SUBTRACT or what == MULTIPLY:
            z = file[b * lanes : b * lanes + b_rows * lanes]
            if b_rows == rows:
                combine(what, y, x, z)
            else:
                for lane in range(0, lanes, WIDTH):
                    combine_one(what, y, x, load(z, lane), rows, lane, lanes)
        elif what == COPY:
            y[:] = x
        elif what == AFFINE:
            scale, shift = constants[constant, 0], constants[constant, 1]
            for j in range(size):
                y[j] = scale * x[j] + shift
        elif what == TANH:
            for j in range(size):
                y[j] = tanh(x[j])
        elif what == SIGMOID:
            for j in range(size):
                y[j] = sigmoid(x[j])
        elif what == EXP:
            for j in range(size):
                y[j] = exp(x[j])
        elif what == ABS:
            for j in range(size):
                y[j] = abs(x[j])
        elif what == LEAKY_RELU:
            scale = constants[constant, 0]
            for j in range(size):
                y[j] = x[j] if x[j] > 0 else scale * x[j]
        elif what == SILU:
            for j in range(size):
                y[j] = x[j] * sigmoid(x[j])
        elif what == GELU:
            for j in range(size):
                y[j] = half * x[j] * (one + kind(math.erf(x[j] * kind(_ROOT_HALF))))


@compiled
def run_step_back(
    code: Any,
    indices: Any,
    constants: Any,
    weights: Any,
    file: Any,
    grad: Any,
    weight_grad: Any,
    turned: Any,
    lanes: int,
) -> None:
    """Run the instructions in reverse on the gradients.

    Args:
        code: as in `run_step`, and so are the next three.
        indices: see there.
        constants: see there.
        weights: see there.
        file: `[rows · lanes]` as `run_step` left it.
        grad: `[rows · lanes]`; the gradient of the next state is filled in, everything else is 0.
        weight_grad: gradients of the weights, each row of a matrix rounded up to 16 (`Tape.places`); added to.
        turned: scratch of `lanes` times the columns of the largest matrix, rounded up to 16.
        lanes: as in `run_step`.
    """
    kind = file.dtype.type
    half, one = kind(0.5), kind(1)
    for i in range(code.shape[0] - 1, -1, -1):
        what, out, rows, a, b, a_rows, b_rows, weight, index, constant, spread = code[i]
        size = rows * lanes
        y = file[out * lanes : out * lanes + size]
        x = file[a * lanes : a * lanes + a_rows * lanes]
        dy = grad[out * lanes : out * lanes + size]
        dx = grad[a * lanes : a * lanes + a_rows * lanes]
        if what == LINEAR:
            if b >= 0:
                add(grad[b * lanes : b * lanes + size], dy, one)
            add_matrix(dx, dy, weights[weight:], a_rows, rows, 1, a_rows, lanes)
            columns = (a_rows + WIDTH - 1) // WIDTH * WIDTH
            turn(turned, x, a_rows, columns, lanes)
            # dW += dy xᵀ, which is a matrix times rows once more, with columns of W for lanes.
            add_matrix(weight_grad[spread:], turned, dy, rows, lanes, lanes, 1, columns)
        elif what == SCATTER:
            for s in range(a_rows):
                at = indices[index + s] * lanes
                add_row(dx, s * lanes, dy, at, weights[weight + s], lanes)
                weight_grad[spread + s] += product(dy, at, x, s * lanes, lanes)
        elif what == GATHER:
            for r in range(rows):
                add_row(dx, indices[index + r] * lanes, dy, r * lanes, one, lanes)
        elif what == MULTIPLY_WEIGHT:
            for r in range(rows):
                add_row(dx, r * lanes, dy, r * lanes, weights[weight + r], lanes)
                weight_grad[spread + r] += product(dy, r * lanes, x, r * lanes, lanes)
        elif what == ADD or what == SUBTRACT or what == MULTIPLY:
            z, dz = file[b * lanes : (b + b_rows) * lanes], grad[b * lanes : (b + b_rows) * lanes]
            if b_rows == rows:
                combine_back(what, x, z, dy, dx, dz)
            else:
                for lane in range(0, lanes, WIDTH):
                    store(dz, lane, combine_one_back(what, x, load(z, lane), dy, dx, load(dz, lane), rows, lane, lanes))
        elif what == ADD_WEIGHT:
            add(dx, dy, one)
            for r in range(rows):
                for lane in range(0, lanes, WIDTH):
                    weight_grad[spread + r] += total(load(dy, r * lanes + lane))
        elif what == COPY:
            add(dx, dy, one)
        elif what == AFFINE:
            add(dx, dy, constants[constant, 0])
        elif what == TANH:
            for j in range(size):
                dx[j] += dy[j] * (one - y[j] * y[j])
        elif what == SIGMOID:
            for j in range(size):
                dx[j] += dy[j] * (y[j] * (one - y[j]))
        elif what == EXP:
            for j in range(size):
                dx[j] += dy[j] * y[j]
        elif what == ABS:
            for j in range(size):
                dx[j] += dy[j] if x[j] > 0 else (-dy[j] if x[j] < 0 else kind(0))
        elif what == LEAKY_RELU:
            scale = constants[constant, 0]
            for j in range(size):
                dx[j] += dy[j] if x[j] > 0 else scale * dy[j]
        elif what == SILU:
            for j in range(size):
                gate = sigmoid(x[j])
                dx[j] += dy[j] * gate * (one + x[j] * (one - gate))
        elif what == GELU:
            for j in range(size):
                below = half * (one + kind(math.erf(x[j] * kind(_ROOT_HALF))))
                dx[j] += dy[j] * (below + x[j] * kind(_GAUSS) * exp(-half * x[j] * x[j]))
