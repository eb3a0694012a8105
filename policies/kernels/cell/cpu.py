"""A program over whole sequences on the CPU, forwards and backwards in numba.

Forwards only the states are kept; backwards every step is computed again from them. The batch is cut into tiles of
samples side by side, spread over threads. Gradients reach drive, start state, elapsed and weights. Single precision is
the fast one; double precision is there for checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.kernels.cell.gradient import differentiable
from policies.kernels.cell.interpreter import LINEAR, run_step, run_step_back
from policies.kernels.jit import compiled
from policies.kernels.simd import WIDTH
from policies.kernels.threads import side_by_side


@compiled
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
    width: int,
) -> None:
    """Run the sequences of the samples from `first` on.

    Args:
        code: as `Program.code`.
        indices: as `Program.indices`.
        constants: as `Program.constants`, in the dtype of the weights.
        weights: flat.
        drive: `[B, T, P]`.
        state: `[B, S]` before the first step.
        elapsed: `[B, T]`.
        starts: `[B, T]` bool.
        states: `[B, T, S]` after each step, written.
        rows: of the register file.
        first: first sample of the tile.
        width: samples of the tile, a multiple of 16; the last ones may lie beyond the batch and compute on zeros.
    """
    size, at_next = state.shape[1], (rows - state.shape[1]) * width
    samples = min(width, state.shape[0] - first)
    file = np.zeros(rows * width, weights.dtype)
    for t in range(drive.shape[1]):
        _load(drive, state, elapsed, starts, states, file, t, first, samples, width)
        run_step(code, indices, constants, weights, file, width)
        for sample in range(samples):
            for s in range(size):
                states[first + sample, t, s] = file[at_next + s * width + sample]


@compiled
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
    width: int,
) -> None:
    """Run the sequences of a tile backwards, computing every step again from the saved states.

    Beside the arguments of `run_tile`, whose `states` were written, `states_grad` `[B, T, S]` is the gradient of those.
    Written are `drive_grad` `[B, T, P]`, `state_grad` `[B, S]` and `elapsed_grad` `[B, T]`; the gradients of the
    weights are added to `weight_grad`, in the layout of `Program.places`.
    """
    size, at_elapsed = state.shape[1], drive.shape[2] * width
    samples = min(width, state.shape[0] - first)
    at_state, at_next = at_elapsed + width, (rows - size) * width
    widest = 0
    for i in range(code.shape[0]):
        if code[i, 0] == LINEAR:
            widest = max(widest, code[i, 5])
    file = np.zeros(rows * width, weights.dtype)
    grad = np.zeros(rows * width, weights.dtype)
    turned = np.zeros((widest + WIDTH) * width, weights.dtype)
    carry = np.zeros(size * width, weights.dtype)
    for t in range(drive.shape[1] - 1, -1, -1):
        _load(drive, state, elapsed, starts, states, file, t, first, samples, width)
        run_step(code, indices, constants, weights, file, width)
        grad[:] = 0
        for sample in range(samples):
            for s in range(sample, size * width, width):
                grad[at_next + s] = states_grad[first + sample, t, s // width] + carry[s]
        run_step_back(code, indices, constants, weights, file, grad, weight_grad, turned, width)
        for sample in range(samples):
            for p in range(drive.shape[2]):
                drive_grad[first + sample, t, p] = grad[p * width + sample]
            elapsed_grad[first + sample, t] = grad[at_elapsed + sample]
            for s in range(sample, size * width, width):
                carry[s] = 0 if starts[first + sample, t] else grad[at_state + s]
    for sample in range(samples):
        for s in range(size):
            state_grad[first + sample, s] = carry[s * width + sample]


@compiled
def _load(
    drive: Any,
    state: Any,
    elapsed: Any,
    starts: Any,
    states: Any,
    file: Any,
    t: int,
    first: int,
    samples: int,
    width: int,
) -> None:
    """Fill drive, elapsed and previous state of step t into a register file; where a sample starts, the state is 0."""
    at_elapsed = drive.shape[2] * width
    for sample in range(samples):
        for p in range(drive.shape[2]):
            file[p * width + sample] = drive[first + sample, t, p]
        file[at_elapsed + sample] = elapsed[first + sample, t]
        at = at_elapsed + width + sample
        for s in range(state.shape[1]):
            if starts[first + sample, t]:
                file[at + s * width] = 0
            else:
                file[at + s * width] = states[first + sample, t - 1, s] if t > 0 else state[first + sample, s]


TILE = (32, 64)
"""Least and most samples of a tile, batch permitting. A tile of 16 takes nearly as long as one of 32, so splitting it
over threads gains nothing; more than 64 push the register file out of the cache."""


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
    states = drive.new_empty(drive.shape[0], drive.shape[1], state.shape[1])
    arrays = [_array(x) for x in (code, indices, constants, weights, drive, state, elapsed, starts, states)]
    width = _tile_width(len(state))
    _over_tiles(len(state), width, lambda _, first: run_tile(*arrays, rows, first, width))
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
    batch_size = len(elapsed)
    width = _tile_width(batch_size)
    weight_grads = np.zeros((-(-batch_size // width), spread), _array(weights).dtype)
    # Not `empty_like`, which would copy strides that the kernel cannot use.
    drive_grad, state_grad, elapsed_grad = (x.new_empty(x.shape) for x in (drive, state, elapsed))
    arrays = [_array(x) for x in (code, indices, constants, weights, drive, state, elapsed, starts, states)]
    results = [_array(x) for x in (states_grad, drive_grad, state_grad, elapsed_grad)]

    def run(tile: int, first: int) -> None:
        run_tile_back(*arrays, *results, weight_grads[tile], rows, first, width)

    _over_tiles(batch_size, width, run)
    return torch.from_numpy(weight_grads.sum(axis=0)[_array(places)]), drive_grad, state_grad, elapsed_grad


def _array(x: Tensor) -> np.ndarray[Any, Any]:
    return x.detach().contiguous().numpy()


def _tile_width(batch_size: int) -> int:
    """Return the samples of a tile: enough tiles for all threads, but not too small ones."""
    least, most = TILE
    share = min(max(-(-batch_size // torch.get_num_threads()), least), most, batch_size)
    return -(-share // WIDTH) * WIDTH


def _over_tiles(batch_size: int, width: int, run: Callable[[int, int], None]) -> None:
    """Call `run(tile, first sample)` for every tile, on as many threads as torch uses."""
    tiles = range(-(-batch_size // width))
    threads = min(torch.get_num_threads(), len(tiles))

    def share(thread: int) -> None:
        for tile in tiles[thread::threads]:
            run(tile, tile * width)

    side_by_side(share, threads)


run_program = differentiable("cpu", _forward, _backward)
"""Runs a program over a batch of sequences; see `gradient.differentiable`."""
