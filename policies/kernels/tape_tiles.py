"""A tape over whole sequences of one tile of the batch, forwards and backwards, in numba; see `tape_loops`."""

from __future__ import annotations

from typing import Any

import numpy as np

from policies.kernels.jit import compiled
from policies.kernels.lanes import WIDTH
from policies.kernels.tape_loops import LINEAR, run_step, run_step_back


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
    lanes: int,
) -> None:
    """Run the sequences of the samples from `first` on.

    Args:
        code: as `Tape.code`.
        indices: as `Tape.indices`.
        constants: as `Tape.constants`, in the dtype of the weights.
        weights: flat.
        drive: `[B, T, P]`.
        state: `[B, S]` before the first step.
        elapsed: `[B, T]`.
        starts: `[B, T]` bool.
        states: `[B, T, S]` after each step, written.
        rows: of the register file.
        first: first sample of the tile.
        lanes: lanes of the tile, a multiple of 16; the last ones may lie beyond the batch and compute on zeros.
    """
    size, at_next = state.shape[1], (rows - state.shape[1]) * lanes
    samples = min(lanes, state.shape[0] - first)
    file = np.zeros(rows * lanes, weights.dtype)
    for t in range(drive.shape[1]):
        _load(drive, state, elapsed, starts, states, file, t, first, samples, lanes)
        run_step(code, indices, constants, weights, file, lanes)
        for lane in range(samples):
            for s in range(size):
                states[first + lane, t, s] = file[at_next + s * lanes + lane]


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
    lanes: int,
) -> None:
    """Run the sequences of a tile backwards, computing every step again from the saved states.

    Args:
        code: as in `run_tile`, and so are the arguments up to `states`.
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
        weight_grad: in the layout of `Tape.places`; added to.
        rows: as in `run_tile`, and so are the next two.
        first: see there.
        lanes: see there.
    """
    size, at_elapsed = state.shape[1], drive.shape[2] * lanes
    samples = min(lanes, state.shape[0] - first)
    at_state, at_next = at_elapsed + lanes, (rows - size) * lanes
    widest = 0
    for i in range(code.shape[0]):
        if code[i, 0] == LINEAR:
            widest = max(widest, code[i, 5])
    file = np.zeros(rows * lanes, weights.dtype)
    grad = np.zeros(rows * lanes, weights.dtype)
    turned = np.zeros((widest + WIDTH) * lanes, weights.dtype)
    carry = np.zeros(size * lanes, weights.dtype)
    for t in range(drive.shape[1] - 1, -1, -1):
        _load(drive, state, elapsed, starts, states, file, t, first, samples, lanes)
        run_step(code, indices, constants, weights, file, lanes)
        grad[:] = 0
        for lane in range(samples):
            for s in range(lane, size * lanes, lanes):
                grad[at_next + s] = states_grad[first + lane, t, s // lanes] + carry[s]
        run_step_back(code, indices, constants, weights, file, grad, weight_grad, turned, lanes)
        for lane in range(samples):
            for p in range(drive.shape[2]):
                drive_grad[first + lane, t, p] = grad[p * lanes + lane]
            elapsed_grad[first + lane, t] = grad[at_elapsed + lane]
            for s in range(lane, size * lanes, lanes):
                carry[s] = 0 if starts[first + lane, t] else grad[at_state + s]
    for lane in range(samples):
        for s in range(size):
            state_grad[first + lane, s] = carry[s * lanes + lane]


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
    lanes: int,
) -> None:
    """Fill drive, elapsed and previous state of step t into a register file; where a sample starts, the state is 0."""
    at_elapsed = drive.shape[2] * lanes
    for lane in range(samples):
        for p in range(drive.shape[2]):
            file[p * lanes + lane] = drive[first + lane, t, p]
        file[at_elapsed + lane] = elapsed[first + lane, t]
        at = at_elapsed + lanes + lane
        for s in range(state.shape[1]):
            if starts[first + lane, t]:
                file[at + s * lanes] = 0
            else:
                file[at + s * lanes] = states[first + lane, t - 1, s] if t > 0 else state[first + lane, s]
