"""The numba loops that run a program: one step forwards, one step backwards.

A tile is some samples of the batch. Its register file holds `width` neighbours for each row of the program, one for
each sample, `width` a multiple of 16; the rows of a value lie one behind the other, so an elementwise instruction is
one loop over all of them. A product with a matrix adds up rows in registers. All functions on rows but those that say
so add to what is there, as gradients need it.
"""

from __future__ import annotations

import math
from typing import Any

from policies.kernels.cell.program import Code
from policies.kernels.jit import compiled
from policies.kernels.simd import WIDTH, exp, load, load_wide, sigmoid, splat, store, tanh, total

LINEAR, GATHER, SCATTER, COPY, AFFINE, ADD, SUBTRACT, MULTIPLY = (int(code) for code in list(Code)[:8])
ADD_WEIGHT, MULTIPLY_WEIGHT, TANH, SIGMOID, EXP, ABS, LEAKY_RELU, SILU, GELU, DIVIDE = (
    int(code) for code in list(Code)[8:]
)

_ROOT_HALF = math.sqrt(0.5)
_GAUSS = 1 / math.sqrt(2 * math.pi)


@compiled
def add_matrix(y: Any, x: Any, weights: Any, rows: int, columns: int, down: int, across: int, width: int) -> None:
    """Add a matrix times rows: y[r] += Σ_c weights[r · down + c · across] · x[c], four rows of y in registers."""
    pairs, fours = width // (2 * WIDTH) * 2 * WIDTH, rows // 4 * 4
    for sample in range(0, pairs, 2 * WIDTH):
        for r in range(0, fours, 4):
            at, w = r * width + sample, r * down
            y0, y1 = load_wide(y, at), load_wide(y, at + width)
            y2, y3 = load_wide(y, at + 2 * width), load_wide(y, at + 3 * width)
            for c in range(columns):
                value = load_wide(x, c * width + sample)
                y0 = y0 + weights[w] * value
                y1 = y1 + weights[w + down] * value
                y2 = y2 + weights[w + 2 * down] * value
                y3 = y3 + weights[w + 3 * down] * value
                w += across
            store(y, at, y0)
            store(y, at + width, y1)
            store(y, at + 2 * width, y2)
            store(y, at + 3 * width, y3)
    for sample in range(pairs, width, WIDTH):  # at most once: the same for sixteen samples
        for r in range(0, fours, 4):
            at, w = r * width + sample, r * down
            z0, z1, z2, z3 = load(y, at), load(y, at + width), load(y, at + 2 * width), load(y, at + 3 * width)
            for c in range(columns):
                term = load(x, c * width + sample)
                z0 = z0 + weights[w] * term
                z1 = z1 + weights[w + down] * term
                z2 = z2 + weights[w + 2 * down] * term
                z3 = z3 + weights[w + 3 * down] * term
                w += across
            store(y, at, z0)
            store(y, at + width, z1)
            store(y, at + 2 * width, z2)
            store(y, at + 3 * width, z3)
    for sample in range(0, width, WIDTH):
        for r in range(fours, rows):
            last = load(y, r * width + sample)
            for c in range(columns):
                last = last + weights[r * down + c * across] * load(x, c * width + sample)
            store(y, r * width + sample, last)


@compiled
def add_row(y: Any, to: int, x: Any, source: int, weight: Any, width: int) -> None:
    """Add weight · x to y, one row."""
    for sample in range(0, width, WIDTH):
        store(y, to + sample, load(y, to + sample) + weight * load(x, source + sample))


@compiled
def copy_row(y: Any, to: int, x: Any, source: int, width: int) -> None:
    """Copy one row."""
    for sample in range(0, width, WIDTH):
        store(y, to + sample, load(x, source + sample))


@compiled
def row_and_weight(y: Any, x: Any, at: int, weight: Any, adds: bool, width: int) -> None:
    """Set y to x + weight or to x · weight, one row."""
    for sample in range(0, width, WIDTH):
        store(y, at + sample, load(x, at + sample) + weight if adds else load(x, at + sample) * weight)


@compiled
def add(y: Any, x: Any, factor: Any) -> None:
    """Add factor · x to y."""
    for j in range(y.size):
        y[j] += factor * x[j]


@compiled
def combine(what: int, y: Any, x: Any, z: Any) -> None:
    """Set y to x + z, x − z, x · z or x / z."""
    if what == MULTIPLY:
        for j in range(y.size):
            y[j] = x[j] * z[j]
    elif what == DIVIDE:
        for j in range(y.size):
            y[j] = x[j] / z[j]
    elif what == ADD:
        for j in range(y.size):
            y[j] = x[j] + z[j]
    else:
        for j in range(y.size):
            y[j] = x[j] - z[j]


@compiled
def combine_back(what: int, y: Any, x: Any, z: Any, dy: Any, dx: Any, dz: Any) -> None:
    """Add the gradients of `combine` to those of x and z, which may be the same rows."""
    if what == MULTIPLY:
        for j in range(dy.size):
            dx[j] += dy[j] * z[j]
        for j in range(dy.size):
            dz[j] += dy[j] * x[j]
    elif what == DIVIDE:
        for j in range(dy.size):
            dx[j] += dy[j] / z[j]
        for j in range(dy.size):
            dz[j] -= dy[j] * y[j] / z[j]
    else:
        sign = dy.dtype.type(1 if what == ADD else -1)
        add(dx, dy, dy.dtype.type(1))
        add(dz, dy, sign)


@compiled
def combine_one(what: int, y: Any, x: Any, z: Any, rows: int, sample: int, width: int) -> None:
    """As `combine` for sixteen samples, every row of x with the same z."""
    for at in range(sample, rows * width, width):
        if what == MULTIPLY:
            store(y, at, load(x, at) * z)
        elif what == DIVIDE:
            store(y, at, load(x, at) / z)
        elif what == ADD:
            store(y, at, load(x, at) + z)
        else:
            store(y, at, load(x, at) - z)


@compiled
def combine_one_back(what: int, x: Any, z: Any, dy: Any, dx: Any, dz: Any, rows: int, sample: int, width: int) -> Any:
    """Add the gradients of `combine_one` to dx and return dz with its own."""
    for at in range(sample, rows * width, width):
        slope = load(dy, at)
        if what == MULTIPLY:
            dz = dz + slope * load(x, at)
            store(dx, at, load(dx, at) + slope * z)
        elif what == DIVIDE:
            dz = dz - slope * load(x, at) / (z * z)
            store(dx, at, load(dx, at) + slope / z)
        else:
            dz = dz - slope if what == SUBTRACT else dz + slope
            store(dx, at, load(dx, at) + slope)
    return dz


@compiled
def product(x: Any, at: int, y: Any, to: int, width: int) -> Any:
    """Sum over the samples one row of x times one row of y."""
    acc = splat(x.dtype.type(0))
    for sample in range(0, width, WIDTH):
        acc = acc + load(x, at + sample) * load(y, to + sample)
    return total(acc)


@compiled
def turn(turned: Any, x: Any, rows: int, columns: int, width: int) -> None:
    """Transpose the rows of x: turned[sample · columns + r] = x[r · width + sample], 0 for r from `rows` on."""
    for sample in range(width):
        for r in range(rows):
            turned[sample * columns + r] = x[r * width + sample]
        for r in range(rows, columns):
            turned[sample * columns + r] = 0


@compiled
def run_step(code: Any, indices: Any, constants: Any, weights: Any, file: Any, width: int) -> None:
    """Run all instructions on a register file.

    Args:
        code: as `Program.code`.
        indices: as `Program.indices`.
        constants: as `Program.constants`, in the dtype of the file.
        weights: flat.
        file: `[rows · width]`; drive, elapsed and state are filled in.
        width: samples side by side, a multiple of 16.
    """
    kind = file.dtype.type
    half, one = kind(0.5), kind(1)
    for i in range(code.shape[0]):
        what, out, rows, a, b, a_rows, b_rows, weight, index, constant, spread = code[i]
        size = rows * width
        y = file[out * width : out * width + size]
        x = file[a * width : a * width + a_rows * width]
        if what == LINEAR:
            if b >= 0:
                y[:] = file[b * width : b * width + size]
            else:
                y[:] = kind(0)
            add_matrix(y, x, weights[weight:], rows, a_rows, a_rows, 1, width)
        elif what == SCATTER:
            y[:] = kind(0)
            for s in range(a_rows):
                add_row(y, indices[index + s] * width, x, s * width, weights[weight + s], width)
        elif what == GATHER:
            for r in range(rows):
                copy_row(y, r * width, x, indices[index + r] * width, width)
        elif what == ADD_WEIGHT or what == MULTIPLY_WEIGHT:
            for r in range(rows):
                row_and_weight(y, x, r * width, weights[weight + r], what == ADD_WEIGHT, width)
        elif what == ADD or what == SUBTRACT or what == MULTIPLY or what == DIVIDE:
            z = file[b * width : b * width + b_rows * width]
            if b_rows == rows:
                combine(what, y, x, z)
            else:
                for sample in range(0, width, WIDTH):
                    combine_one(what, y, x, load(z, sample), rows, sample, width)
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
            scale, bend = constants[constant, 0], constants[constant, 1]
            for j in range(size):
                y[j] = x[j] if x[j] > bend else bend + scale * (x[j] - bend)
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
    width: int,
) -> None:
    """Run the instructions of `run_step` in reverse on the gradients.

    Of its arguments, `file` `[rows · width]` is as it left it. Beside them, `grad` `[rows · width]` holds the gradient
    of the next state and is 0 everywhere else; the gradients of the weights are added to `weight_grad`, in which each
    row of a matrix is rounded up to 16 (`Program.places`); `turned` is scratch of `width` times the columns of the
    largest matrix, rounded up to 16.
    """
    kind = file.dtype.type
    half, one = kind(0.5), kind(1)
    for i in range(code.shape[0] - 1, -1, -1):
        what, out, rows, a, b, a_rows, b_rows, weight, index, constant, spread = code[i]
        size = rows * width
        y = file[out * width : out * width + size]
        x = file[a * width : a * width + a_rows * width]
        dy = grad[out * width : out * width + size]
        dx = grad[a * width : a * width + a_rows * width]
        if what == LINEAR:
            if b >= 0:
                add(grad[b * width : b * width + size], dy, one)
            add_matrix(dx, dy, weights[weight:], a_rows, rows, 1, a_rows, width)
            columns = (a_rows + WIDTH - 1) // WIDTH * WIDTH
            turn(turned, x, a_rows, columns, width)
            # dW += dy xᵀ, which is again a matrix times rows, with columns of W for samples.
            add_matrix(weight_grad[spread:], turned, dy, rows, width, width, 1, columns)
        elif what == SCATTER:
            for s in range(a_rows):
                at = indices[index + s] * width
                add_row(dx, s * width, dy, at, weights[weight + s], width)
                weight_grad[spread + s] += product(dy, at, x, s * width, width)
        elif what == GATHER:
            for r in range(rows):
                add_row(dx, indices[index + r] * width, dy, r * width, one, width)
        elif what == MULTIPLY_WEIGHT:
            for r in range(rows):
                add_row(dx, r * width, dy, r * width, weights[weight + r], width)
                weight_grad[spread + r] += product(dy, r * width, x, r * width, width)
        elif what == ADD or what == SUBTRACT or what == MULTIPLY or what == DIVIDE:
            z, dz = file[b * width : (b + b_rows) * width], grad[b * width : (b + b_rows) * width]
            if b_rows == rows:
                combine_back(what, y, x, z, dy, dx, dz)
            else:
                for sample in range(0, width, WIDTH):
                    store(
                        dz,
                        sample,
                        combine_one_back(what, x, load(z, sample), dy, dx, load(dz, sample), rows, sample, width),
                    )
        elif what == ADD_WEIGHT:
            add(dx, dy, one)
            for r in range(rows):
                for sample in range(0, width, WIDTH):
                    weight_grad[spread + r] += total(load(dy, r * width + sample))
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
            scale, bend = constants[constant, 0], constants[constant, 1]
            for j in range(size):
                dx[j] += dy[j] if x[j] > bend else scale * dy[j]
        elif what == SILU:
            for j in range(size):
                gate = sigmoid(x[j])
                dx[j] += dy[j] * gate * (one + x[j] * (one - gate))
        elif what == GELU:
            for j in range(size):
                below = half * (one + kind(math.erf(x[j] * kind(_ROOT_HALF))))
                dx[j] += dy[j] * (below + x[j] * kind(_GAUSS) * exp(-half * x[j] * x[j]))
