"""A tape over whole sequences on the CPU: one `torch.library` op, forwards and backwards in numba.

Forwards only the states are kept; backwards every step is computed again from them. The batch is cut
into tiles of lanes, spread over threads. Gradients reach drive, start state, elapsed and weights. Single precision is
the fast one; double precision is there for checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.kernels import tape_tiles
from policies.kernels.tape import Tape
from policies.kernels.threads import side_by_side

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
    _over_tiles(len(state), lanes, lambda _, first: tape_tiles.run_tile(*arrays, rows, first, lanes))
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
        tape_tiles.run_tile_back(*arrays, *results, weight_grads[tile], rows, first, lanes)

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
