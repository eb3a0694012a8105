"""The numba loops that run a tape: one step forwards, one step backwards, weight gradients, whole sequences.

A tile is some samples (lanes) of the batch. Its register file `file[rows, columns]` has one row for each number of the
tape and one column for each lane, so every instruction is a loop over contiguous lanes. Going backwards, a chunk of
steps lies side by side in the columns; the weights' gradients are then dot products of long rows.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from policies.kernels.math import OPTIONS, exp, sigmoid, tanh
from policies.kernels.tape import Code

LINEAR, GATHER, SCATTER, COPY, AFFINE, ADD, SUBTRACT, MULTIPLY = (int(code) for code in list(Code)[:8])
ADD_WEIGHT, MULTIPLY_WEIGHT, TANH, SIGMOID, EXP, ABS, LEAKY_RELU, SILU, GELU = (int(code) for code in list(Code)[8:])

_jit = numba.njit(cache=True, nogil=True, **OPTIONS)
_ROOT_HALF = math.sqrt(0.5)
_GAUSS = 1 / math.sqrt(2 * math.pi)


@_jit
def _add_product(out: Any, x: Any, weight: Any) -> None:
    """Out += weight · x, over lanes."""
    for lane in range(out.size):
        out[lane] += weight * x[lane]


@_jit
def _add_four_products(out: Any, x0: Any, x1: Any, x2: Any, x3: Any, w0: Any, w1: Any, w2: Any, w3: Any) -> None:
    """Out += w0 · x0 + w1 · x1 + w2 · x2 + w3 · x3, over lanes: a quarter of the loads and stores of `out`."""
    for lane in range(out.size):
        out[lane] += (w0 * x0[lane] + w1 * x1[lane]) + (w2 * x2[lane] + w3 * x3[lane])


@_jit
def _matrix(
    file: Any, out: int, x: int, weights: Any, rows: int, columns: int, down: int, across: int, lo: int, hi: int
) -> None:
    """file[out + r] += Σ_c weights[r · down + c · across] · file[x + c], lanes lo to hi."""
    fours = columns // 4 * 4
    for r in range(rows):
        y = file[out + r, lo:hi]
        w = r * down
        for c in range(0, fours, 4):
            _add_four_products(
                y,
                file[x + c, lo:hi],
                file[x + c + 1, lo:hi],
                file[x + c + 2, lo:hi],
                file[x + c + 3, lo:hi],
                weights[w + c * across],
                weights[w + (c + 1) * across],
                weights[w + (c + 2) * across],
                weights[w + (c + 3) * across],
            )
        for c in range(fours, columns):
            _add_product(y, file[x + c, lo:hi], weights[w + c * across])


@_jit
def run_step(code: Any, indices: Any, constants: Any, weights: Any, file: Any, lo: int, hi: int) -> None:
    """Run all instructions on the lanes lo to hi of the register file.

    Args:
        code: as `Tape.code`.
        indices: as `Tape.indices`.
        constants: as `Tape.constants`, in the dtype of the file.
        weights: flat.
        file: `[rows, columns]`; drive, elapsed and state are filled in.
        lo: first lane.
        hi: one past the last lane.
    """
    kind = file.dtype.type
    half, one = kind(0.5), kind(1)
    for i in range(code.shape[0]):
        what, out, rows, a, b, a_rows, b_rows, weight, index, constant = code[i]
        if what == LINEAR:
            for r in range(rows):
                if b >= 0:
                    file[out + r, lo:hi] = file[b + r, lo:hi]
                else:
                    file[out + r, lo:hi] = kind(0)
            _matrix(file, out, a, weights[weight:], rows, a_rows, a_rows, 1, lo, hi)
        elif what == SCATTER:
            for r in range(rows):
                file[out + r, lo:hi] = kind(0)
            for s in range(a_rows):
                _add_product(file[out + indices[index + s], lo:hi], file[a + s, lo:hi], weights[weight + s])
        else:
            for r in range(rows):
                y = file[out + r, lo:hi]
                x = file[a + r, lo:hi]
                if what == GATHER:
                    y[:] = file[a + indices[index + r], lo:hi]
                elif what == COPY:
                    y[:] = x
                elif what == AFFINE:
                    scale, shift = constants[constant, 0], constants[constant, 1]
                    for lane in range(y.size):
                        y[lane] = scale * x[lane] + shift
                elif what == ADD:
                    z = file[b + (r if b_rows > 1 else 0), lo:hi]
                    for lane in range(y.size):
                        y[lane] = x[lane] + z[lane]
                elif what == SUBTRACT:
                    z = file[b + (r if b_rows > 1 else 0), lo:hi]
                    for lane in range(y.size):
                        y[lane] = x[lane] - z[lane]
                elif what == MULTIPLY:
                    z = file[b + (r if b_rows > 1 else 0), lo:hi]
                    for lane in range(y.size):
                        y[lane] = x[lane] * z[lane]
                elif what == ADD_WEIGHT:
                    w = weights[weight + r]
                    for lane in range(y.size):
                        y[lane] = x[lane] + w
                elif what == MULTIPLY_WEIGHT:
                    w = weights[weight + r]
                    for lane in range(y.size):
                        y[lane] = x[lane] * w
                elif what == TANH:
                    for lane in range(y.size):
                        y[lane] = tanh(x[lane])
                elif what == SIGMOID:
                    for lane in range(y.size):
                        y[lane] = sigmoid(x[lane])
                elif what == EXP:
                    for lane in range(y.size):
                        y[lane] = exp(x[lane])
                elif what == ABS:
                    for lane in range(y.size):
                        y[lane] = abs(x[lane])
                elif what == LEAKY_RELU:
                    scale = constants[constant, 0]
                    for lane in range(y.size):
                        y[lane] = x[lane] if x[lane] > 0 else scale * x[lane]
                elif what == SILU:
                    for lane in range(y.size):
                        y[lane] = x[lane] * sigmoid(x[lane])
                elif what == GELU:
                    for lane in range(y.size):
                        y[lane] = half * x[lane] * (one + kind(math.erf(x[lane] * kind(_ROOT_HALF))))


@_jit
def run_step_back(
    code: Any, indices: Any, constants: Any, weights: Any, file: Any, grad: Any, lo: int, hi: int
) -> None:
    """Run the instructions in reverse on the gradients: as `run_step`, `grad` `[rows, columns]` beside `file`.

    The gradient of the next state is filled in, everything else is 0. Gradients of the weights are not taken here.
    """
    kind = file.dtype.type
    half, one = kind(0.5), kind(1)
    for i in range(code.shape[0] - 1, -1, -1):
        what, out, rows, a, b, a_rows, b_rows, weight, index, constant = code[i]
        if what == LINEAR:
            if b >= 0:
                for r in range(rows):
                    _add_product(grad[b + r, lo:hi], grad[out + r, lo:hi], one)
            _matrix(grad, a, out, weights[weight:], a_rows, rows, 1, a_rows, lo, hi)
        elif what == SCATTER:
            for s in range(a_rows):
                _add_product(grad[a + s, lo:hi], grad[out + indices[index + s], lo:hi], weights[weight + s])
        elif what == GATHER:
            for r in range(rows):
                _add_product(grad[a + indices[index + r], lo:hi], grad[out + r, lo:hi], one)
        else:
            for r in range(rows):
                y, x = file[out + r, lo:hi], file[a + r, lo:hi]
                dy, dx = grad[out + r, lo:hi], grad[a + r, lo:hi]
                if what == COPY or what == ADD_WEIGHT:
                    _add_product(dx, dy, one)
                elif what == AFFINE:
                    _add_product(dx, dy, constants[constant, 0])
                elif what == ADD:
                    _add_product(dx, dy, one)
                    _add_product(grad[b + (r if b_rows > 1 else 0), lo:hi], dy, one)
                elif what == SUBTRACT:
                    _add_product(dx, dy, one)
                    _add_product(grad[b + (r if b_rows > 1 else 0), lo:hi], dy, -one)
                elif what == MULTIPLY:
                    z, dz = file[b + (r if b_rows > 1 else 0), lo:hi], grad[b + (r if b_rows > 1 else 0), lo:hi]
                    for lane in range(y.size):
                        dx[lane] += dy[lane] * z[lane]
                    for lane in range(y.size):
                        dz[lane] += dy[lane] * x[lane]
                elif what == MULTIPLY_WEIGHT:
                    _add_product(dx, dy, weights[weight + r])
                elif what == TANH:
                    for lane in range(y.size):
                        dx[lane] += dy[lane] * (one - y[lane] * y[lane])
                elif what == SIGMOID:
                    for lane in range(y.size):
                        dx[lane] += dy[lane] * (y[lane] * (one - y[lane]))
                elif what == EXP:
                    for lane in range(y.size):
                        dx[lane] += dy[lane] * y[lane]
                elif what == ABS:
                    for lane in range(y.size):
                        dx[lane] += dy[lane] if x[lane] > 0 else (-dy[lane] if x[lane] < 0 else kind(0))
                elif what == LEAKY_RELU:
                    scale = constants[constant, 0]
                    for lane in range(y.size):
                        dx[lane] += dy[lane] if x[lane] > 0 else scale * dy[lane]
                elif what == SILU:
                    for lane in range(y.size):
                        gate = sigmoid(x[lane])
                        dx[lane] += dy[lane] * gate * (one + x[lane] * (one - gate))
                elif what == GELU:
                    for lane in range(y.size):
                        below = half * (one + kind(math.erf(x[lane] * kind(_ROOT_HALF))))
                        dx[lane] += dy[lane] * (below + x[lane] * kind(_GAUSS) * exp(-half * x[lane] * x[lane]))


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _dot(x: Any, y: Any) -> Any:
    """Σ x · y; the order of the additions is free here, so that it vectorises."""
    total = x[0] * y[0]
    for i in range(1, x.size):
        total += x[i] * y[i]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _four_dots(x: Any, y0: Any, y1: Any, y2: Any, y3: Any) -> Any:
    """Dot products of x with four rows at once."""
    d0 = x[0] * y0[0]
    d1 = x[0] * y1[0]
    d2 = x[0] * y2[0]
    d3 = x[0] * y3[0]
    for i in range(1, x.size):
        d0 += x[i] * y0[i]
        d1 += x[i] * y1[i]
        d2 += x[i] * y2[i]
        d3 += x[i] * y3[i]
    return d0, d1, d2, d3


@_jit
def add_weight_gradients(code: Any, indices: Any, file: Any, grad: Any, columns: int, weight_grad: Any) -> None:
    """Add the weights' gradients of all lanes and steps in the first `columns` of the file."""
    for i in range(code.shape[0]):
        what, out, rows, a, b, a_rows, b_rows, weight, index, constant = code[i]
        if what == LINEAR:
            fours = a_rows // 4 * 4
            for r in range(rows):
                dy = grad[out + r, :columns]
                w = weight + r * a_rows
                for c in range(0, fours, 4):
                    d0, d1, d2, d3 = _four_dots(
                        dy,
                        file[a + c, :columns],
                        file[a + c + 1, :columns],
                        file[a + c + 2, :columns],
                        file[a + c + 3, :columns],
                    )
                    weight_grad[w + c] += d0
                    weight_grad[w + c + 1] += d1
                    weight_grad[w + c + 2] += d2
                    weight_grad[w + c + 3] += d3
                for c in range(fours, a_rows):
                    weight_grad[w + c] += _dot(dy, file[a + c, :columns])
        elif what == SCATTER:
            for s in range(a_rows):
                weight_grad[weight + s] += _dot(grad[out + indices[index + s], :columns], file[a + s, :columns])
        elif what == MULTIPLY_WEIGHT:
            for r in range(rows):
                weight_grad[weight + r] += _dot(grad[out + r, :columns], file[a + r, :columns])
        elif what == ADD_WEIGHT:
            for r in range(rows):
                for column in range(columns):
                    weight_grad[weight + r] += grad[out + r, column]


@_jit
def run_tile(
    code: Any,
    indices: Any,
    constants: Any,
    weights: Any,
    drive: Any,
    state: Any,
    elapsed: Any,
    starts: Any,
    states: Any,
    rows: int,
    first: int,
    lanes: int,
) -> None:
    """Run whole sequences of the samples from `first` on; writes `states`.

    Args:
        code: as `run_step`.
        indices: as `run_step`.
        constants: as `run_step`.
        weights: as `run_step`.
        drive: `[B, T, P]`.
        state: `[B, S]`.
        elapsed: `[B, T]`.
        starts: `[B, T]`.
        states: `[B, T, S]`, the result.
        rows: of the register file.
        first: first sample of the tile.
        lanes: lanes of the tile, of which the last ones may lie beyond the batch.
    """
    steps, size = drive.shape[1], state.shape[1]
    samples = min(lanes, state.shape[0] - first)
    file = np.zeros((rows, lanes), weights.dtype)
    at_state, at_next = drive.shape[2] + 1, rows - size
    for lane in range(samples):
        for s in range(size):
            file[at_next + s, lane] = state[first + lane, s]
    for t in range(steps):
        for s in range(size):
            file[at_state + s] = file[at_next + s]
        _load(drive, elapsed, starts, file, first, samples, t, 0, at_state, size)
        run_step(code, indices, constants, weights, file, 0, lanes)
        for lane in range(samples):
            for s in range(size):
                states[first + lane, t, s] = file[at_next + s, lane]


@_jit
def _load(
    drive: Any,
    elapsed: Any,
    starts: Any,
    file: Any,
    first: int,
    samples: int,
    t: int,
    lo: int,
    at_state: int,
    size: int,
) -> None:
    """Fill drive and elapsed of step t into the file and zero the state of the samples that start there."""
    for lane in range(samples):
        for p in range(drive.shape[2]):
            file[p, lo + lane] = drive[first + lane, t, p]
        file[drive.shape[2], lo + lane] = elapsed[first + lane, t]
        if starts[first + lane, t]:
            for s in range(size):
                file[at_state + s, lo + lane] = 0


@_jit
def run_tile_back(
    code: Any,
    indices: Any,
    constants: Any,
    weights: Any,
    drive: Any,
    state: Any,
    elapsed: Any,
    starts: Any,
    states: Any,
    states_grad: Any,
    drive_grad: Any,
    state_grad: Any,
    elapsed_grad: Any,
    weight_grad: Any,
    rows: int,
    first: int,
    lanes: int,
    chunk: int,
) -> None:
    """Run the sequences of a tile backwards, recomputing `chunk` steps at a time from the saved states.

    Args:
        code: as `run_tile`, and so are the arguments up to `states`.
        indices: see there.
        constants: see there.
        weights: see there.
        drive: see there.
        state: see there.
        elapsed: see there.
        starts: see there.
        states: what `run_tile` wrote.
        states_grad: `[B, T, S]` gradient of `states`.
        drive_grad: `[B, T, P]`, written.
        state_grad: `[B, S]`, written.
        elapsed_grad: `[B, T]`, written.
        weight_grad: flat; added to.
        rows: of the register file.
        first: first sample of the tile.
        lanes: lanes of the tile.
        chunk: steps that lie side by side.
    """
    steps, size, at_elapsed = drive.shape[1], state.shape[1], drive.shape[2]
    samples = min(lanes, state.shape[0] - first)
    at_state, at_next = at_elapsed + 1, rows - size
    # Rows a power of two apart would fall into few cache sets.
    file = np.zeros((rows, chunk * lanes + 16), weights.dtype)
    grad = np.zeros((rows, chunk * lanes + 16), weights.dtype)
    carry = np.zeros((size, lanes), weights.dtype)
    for begin in range((steps - 1) // chunk * chunk, -1, -chunk):
        end = min(begin + chunk, steps)
        for t in range(begin, end):
            lo = (t - begin) * lanes
            for lane in range(samples):
                for s in range(size):
                    file[at_state + s, lo + lane] = states[first + lane, t - 1, s] if t > 0 else state[first + lane, s]
            _load(drive, elapsed, starts, file, first, samples, t, lo, at_state, size)
            run_step(code, indices, constants, weights, file, lo, lo + lanes)
        grad[:] = 0
        for t in range(end - 1, begin - 1, -1):
            lo = (t - begin) * lanes
            for lane in range(samples):
                for s in range(size):
                    grad[at_next + s, lo + lane] = states_grad[first + lane, t, s] + carry[s, lane]
            run_step_back(code, indices, constants, weights, file, grad, lo, lo + lanes)
            for lane in range(samples):
                for p in range(at_elapsed):
                    drive_grad[first + lane, t, p] = grad[p, lo + lane]
                elapsed_grad[first + lane, t] = grad[at_elapsed, lo + lane]
                for s in range(size):
                    carry[s, lane] = 0 if starts[first + lane, t] else grad[at_state + s, lo + lane]
        add_weight_gradients(code, indices, file, grad, (end - begin) * lanes, weight_grad)
    for lane in range(samples):
        for s in range(size):
            state_grad[first + lane, s] = carry[s, lane]
