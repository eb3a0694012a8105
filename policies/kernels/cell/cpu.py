"""A tape over whole sequences on the CPU: one `torch.library` op, forwards and backwards in numba.

Forwards only the states are kept; backwards every step is computed again from them. The batch is cut
into tiles of lanes, spread over threads. Gradients reach drive, start state, elapsed and weights. Single precision is
the fast one; double precision is there for checks.

A tape over whole sequences of one tile of the batch, forwards and backwards, in numba; see `tape_loops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.kernels.cell.interpreter import LINEAR, run_step, run_step_back
from policies.kernels.cell.program import Tape
from policies.kernels.cell.simd import WIDTH
from policies.kernels.jit import compiled
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


VECTOR = 16
"""Lanes of a tile are a multiple of this."""

LANES = (32, 64)
"""Least and most lanes of a tile, batch permitting. A tile of 16 takes nearly as long as one of 32, so splitting it
over threads gains nothing; more than 64 push the register file out of the cache."""


def tape_sequence(tape: Tape, weights: Tensor, drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor) -> Tensor:
    """Run a tape over a batch of sequences.

    Args:
        tape: the recorded step.
        weights: flat, in the order of `tape.weights`.
        drive: `[B, T, P]`.
        state: `[B, S]` before the first step.
        elapsed: `[B, T]`.
        starts: `[B, T]` bool; True zeroes the state before that step.

    Returns:
        `[B, T, S]` state after each step.
    """
    constants = tape.constants if weights.dtype == torch.float64 else tape.single_constants
    run = _forward_op if torch.compiler.is_compiling() else _Sequence.apply
    states: Tensor = run(
        weights, drive, state, elapsed, starts, tape.code, tape.indices, constants, tape.places, tape.rows, tape.spread
    )
    return states


class _Sequence(torch.autograd.Function):
    """The kernel with its gradient, for eager use.

    The registered op with the same gradient is for the compiler: it costs some 50 µs a call, and torch.func's
    transforms do not take it.
    """

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        """Run the kernel; arguments as `_forward`."""
        return _forward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep arguments and states."""
        *tensors, ctx.rows, ctx.spread = inputs
        ctx.save_for_backward(output, *tensors)

    @staticmethod
    def backward(ctx: Any, states_grad: Tensor) -> Any:
        """Return gradients for weights, drive, state and elapsed."""
        grads = _SequenceGradient.apply(states_grad, *ctx.saved_tensors, ctx.rows, ctx.spread)
        return *grads, None, None, None, None, None, None, None


class _SequenceGradient(torch.autograd.Function):
    """The gradient as a function of its own, so that torch.func's transforms unwrap its arguments."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        """Run the kernel; arguments as `_backward`."""
        return _backward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Refuse."""
        # On purpose: a compiled backward pass leaves no graph behind it. The reference kernel does.
        raise NotImplementedError(
            "the CPU kernel has no second derivatives. Build the core with kernel='reference' to take them."
        )


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
    lanes = _lanes(len(state))
    _over_tiles(len(state), lanes, lambda _, first: run_tile(*arrays, rows, first, lanes))
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
    lanes = _lanes(batch_size)
    weight_grads = np.zeros((-(-batch_size // lanes), spread), _array(weights).dtype)
    # Not `empty_like`, which would copy strides that the kernel cannot use.
    drive_grad, state_grad, elapsed_grad = (x.new_empty(x.shape) for x in (drive, state, elapsed))
    arrays = [_array(x) for x in (code, indices, constants, weights, drive, state, elapsed, starts, states)]
    results = [_array(x) for x in (states_grad, drive_grad, state_grad, elapsed_grad)]

    def run(tile: int, first: int) -> None:
        run_tile_back(*arrays, *results, weight_grads[tile], rows, first, lanes)

    _over_tiles(batch_size, lanes, run)
    return torch.from_numpy(weight_grads.sum(axis=0)[_array(places)]), drive_grad, state_grad, elapsed_grad


_forward_op = torch.library.custom_op("wormwheel::tape", _forward, mutates_args=(), device_types="cpu")
_backward_op = torch.library.custom_op("wormwheel::tape_backward", _backward, mutates_args=(), device_types="cpu")


@_forward_op.register_fake
def _(weights, drive, state, elapsed, starts, code, indices, constants, places, rows, spread):
    return drive.new_empty(drive.shape[0], drive.shape[1], state.shape[1])


@_backward_op.register_fake
def _(states_grad, states, weights, drive, state, elapsed, starts, code, indices, constants, places, rows, spread):
    return tuple(x.new_empty(x.shape) for x in (weights, drive, state, elapsed))


def _differentiate(ctx: Any, states_grad: Tensor) -> Any:
    grads = _backward_op(states_grad, *ctx.saved_tensors, ctx.rows, ctx.spread)
    return *grads, None, None, None, None, None, None, None


_forward_op.register_autograd(_differentiate, setup_context=_Sequence.setup_context)


def _array(x: Tensor) -> np.ndarray[Any, Any]:
    return x.detach().contiguous().numpy()


def _lanes(batch_size: int) -> int:
    """Return the lanes of a tile: enough tiles for all threads, but not too small ones."""
    least, most = LANES
    share = min(max(-(-batch_size // torch.get_num_threads()), least), most, batch_size)
    return -(-share // VECTOR) * VECTOR


def _over_tiles(batch_size: int, lanes: int, run: Callable[[int, int], None]) -> None:
    """Call `run(tile, first sample)` for every tile, on as many threads as torch uses."""
    tiles = range(-(-batch_size // lanes))
    threads = min(torch.get_num_threads(), len(tiles))

    def share(thread: int) -> None:
        for tile in tiles[thread::threads]:
            run(tile, tile * lanes)

    side_by_side(share, threads)
