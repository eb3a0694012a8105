"""The numba loops that run a tape: one step forwards, one step backwards.

A tile is some samples (lanes, a multiple of 16) of the batch. Its register file holds `lanes` neighbours for each row
of the tape, so the rows of a value lie one behind the other: an elementwise instruction is one loop over all of them.
What is more than such a loop is in `tape_rows`.

Sums and products on rows of lanes, which the instructions of a tape are made of; see `tape_loops`.

A row is `lanes` neighbouring numbers, one for each sample of the tile; `lanes` is a multiple of 16. A product with a
matrix adds up rows of lanes in registers. All but those that say so add to what is there, as gradients need it.
"""

from __future__ import annotations

import math
from typing import Any

from policies.kernels.cell.program import Code
from policies.kernels.cell.simd import WIDTH, exp, fma, load, load_wide, sigmoid, splat, splat_wide, store, tanh, total
from policies.kernels.jit import compiled

ADD, SUBTRACT, MULTIPLY = int(Code.ADD), int(Code.SUBTRACT), int(Code.MULTIPLY)


@compiled
def add_matrix(y: Any, x: Any, weights: Any, rows: int, columns: int, down: int, across: int, lanes: int) -> None:
    """Add a matrix times rows: y[r] += Σ_c weights[r · down + c · across] · x[c], four rows of y in registers."""
    pairs, fours = lanes // (2 * WIDTH) * 2 * WIDTH, rows // 4 * 4
    for lane in range(0, pairs, 2 * WIDTH):
        for r in range(0, fours, 4):
            at, w = r * lanes + lane, r * down
            y0, y1 = load_wide(y, at), load_wide(y, at + lanes)
            y2, y3 = load_wide(y, at + 2 * lanes), load_wide(y, at + 3 * lanes)
            for c in range(columns):
                value = load_wide(x, c * lanes + lane)
                y0 = fma(splat_wide(weights[w]), value, y0)
                y1 = fma(splat_wide(weights[w + down]), value, y1)
                y2 = fma(splat_wide(weights[w + 2 * down]), value, y2)
                y3 = fma(splat_wide(weights[w + 3 * down]), value, y3)
                w += across
            store(y, at, y0)
            store(y, at + lanes, y1)
            store(y, at + 2 * lanes, y2)
            store(y, at + 3 * lanes, y3)
    for lane in range(pairs, lanes, WIDTH):  # at most once: the same for sixteen lanes
        for r in range(0, fours, 4):
            at, w = r * lanes + lane, r * down
            z0, z1, z2, z3 = load(y, at), load(y, at + lanes), load(y, at + 2 * lanes), load(y, at + 3 * lanes)
            for c in range(columns):
                term = load(x, c * lanes + lane)
                z0 = fma(splat(weights[w]), term, z0)
                z1 = fma(splat(weights[w + down]), term, z1)
                z2 = fma(splat(weights[w + 2 * down]), term, z2)
                z3 = fma(splat(weights[w + 3 * down]), term, z3)
                w += across
            store(y, at, z0)
            store(y, at + lanes, z1)
            store(y, at + 2 * lanes, z2)
            store(y, at + 3 * lanes, z3)
    for lane in range(0, lanes, WIDTH):
        for r in range(fours, rows):
            last = load(y, r * lanes + lane)
            for c in range(columns):
                last = fma(splat(weights[r * down + c * across]), load(x, c * lanes + lane), last)
            store(y, r * lanes + lane, last)


@compiled
def add_row(y: Any, to: int, x: Any, source: int, weight: Any, lanes: int) -> None:
    """Add weight · x to y, one row."""
    for lane in range(0, lanes, WIDTH):
        store(y, to + lane, fma(splat(weight), load(x, source + lane), load(y, to + lane)))


@compiled
def copy_row(y: Any, to: int, x: Any, source: int, lanes: int) -> None:
    """Copy one row."""
    for lane in range(0, lanes, WIDTH):
        store(y, to + lane, load(x, source + lane))


@compiled
def row_and_weight(y: Any, x: Any, at: int, weight: Any, adds: bool, lanes: int) -> None:
    """Set y to x + weight or to x · weight, one row."""
    kind = y.dtype.type
    factor = kind(1) if adds else weight
    term = weight if adds else kind(0)
    for lane in range(0, lanes, WIDTH):
        store(y, at + lane, fma(splat(factor), load(x, at + lane), splat(term)))


@compiled
def add(y: Any, x: Any, factor: Any) -> None:
    """Add factor · x to y."""
    for j in range(y.size):
        y[j] += factor * x[j]


@compiled
def combine(what: int, y: Any, x: Any, z: Any) -> None:
    """Set y to x + z, x − z or x · z."""
    if what == MULTIPLY:
        for j in range(y.size):
            y[j] = x[j] * z[j]
    elif what == ADD:
        for j in range(y.size):
            y[j] = x[j] + z[j]
    else:
        for j in range(y.size):
            y[j] = x[j] - z[j]


@compiled
def combine_back(what: int, x: Any, z: Any, dy: Any, dx: Any, dz: Any) -> None:
    """Add the gradients of `combine` to those of x and z, which may be the same rows."""
    if what == MULTIPLY:
        for j in range(dy.size):
            dx[j] += dy[j] * z[j]
        for j in range(dy.size):
            dz[j] += dy[j] * x[j]
    else:
        sign = dy.dtype.type(1 if what == ADD else -1)
        add(dx, dy, dy.dtype.type(1))
        add(dz, dy, sign)


@compiled
def combine_one(what: int, y: Any, x: Any, z: Any, rows: int, lane: int, lanes: int) -> None:
    """As `combine` in sixteen lanes, every row of x with the same z."""
    one = splat(y.dtype.type(-1 if what == SUBTRACT else 1))
    for at in range(lane, rows * lanes, lanes):
        if what == MULTIPLY:
            store(y, at, fma(load(x, at), z, splat(y.dtype.type(0))))
        else:
            store(y, at, fma(z, one, load(x, at)))


@compiled
def combine_one_back(what: int, x: Any, z: Any, dy: Any, dx: Any, dz: Any, rows: int, lane: int, lanes: int) -> Any:
    """Add the gradients of `combine_one` to dx and return dz with its own."""
    one = splat(dy.dtype.type(1))
    sign = splat(dy.dtype.type(-1 if what == SUBTRACT else 1))
    for at in range(lane, rows * lanes, lanes):
        slope = load(dy, at)
        if what == MULTIPLY:
            dz = fma(slope, load(x, at), dz)
            store(dx, at, fma(slope, z, load(dx, at)))
        else:
            dz = fma(slope, sign, dz)
            store(dx, at, fma(slope, one, load(dx, at)))
    return dz


@compiled
def product(x: Any, at: int, y: Any, to: int, lanes: int) -> Any:
    """Σ over lanes of one row of x times one row of y."""
    acc = splat(x.dtype.type(0))
    for lane in range(0, lanes, WIDTH):
        acc = fma(load(x, at + lane), load(y, to + lane), acc)
    return total(acc)


@compiled
def turn(turned: Any, x: Any, rows: int, columns: int, lanes: int) -> None:
    """Transpose the rows of x: turned[lane · columns + r] = x[r · lanes + lane], 0 for r from `rows` on."""
    for lane in range(lanes):
        for r in range(rows):
            turned[lane * columns + r] = x[r * lanes + lane]
        for r in range(rows, columns):
            turned[lane * columns + r] = 0


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
