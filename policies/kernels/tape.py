"""A tape: one step of a recurrent cell as a short list of instructions on rows of numbers.

The rows make up a register file: first the drive, the elapsed time and the state, then one block for the result of each
instruction; the last block is the next state. `tape_record` writes a tape from a step, `tape_cpu` runs it forwards and
backwards over whole sequences without Python between the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor


class Code(IntEnum):
    """What an instruction does with the rows `a` and `b`, the weights `w` and the constants `k`."""

    LINEAR = 0  # W a + b
    GATHER = 1  # a[i]
    SCATTER = 2  # Σ over synapses onto j of w · a
    COPY = 3  # a
    AFFINE = 4  # k0 · a + k1
    ADD = 5  # a + b
    SUBTRACT = 6  # a − b
    MULTIPLY = 7  # a · b
    ADD_WEIGHT = 8  # a + w
    MULTIPLY_WEIGHT = 9  # a · w
    TANH = 10
    SIGMOID = 11
    EXP = 12
    ABS = 13
    LEAKY_RELU = 14  # slope k0 below zero
    SILU = 15
    GELU = 16


# Columns of the instruction table.
COLUMNS = ("code", "out", "rows", "a", "b", "a_rows", "b_rows", "weight", "index", "constant", "spread")

PADDING = 16
"""Gradients of a matrix are added up with each row rounded up to this, so that a row is whole vectors."""


@dataclass(frozen=True)
class Tape:
    """A recorded step.

    Attributes:
        code: `[instructions, len(COLUMNS)]` int64.
        indices: `[·]` int64, index lists of GATHER and SCATTER.
        constants: `[·, 2]` float64, k0 and k1.
        single_constants: the same in float32.
        rows: rows of the whole register file: drive, elapsed, state, then one block for each instruction.
        drive_rows: rows of the drive.
        state_rows: S.
        weights: name and shape of each weight, in the order in which they are laid out.
        places: `[weights]` int64, where each weight's gradient lies when the rows of matrices are rounded up.
        spread: numbers of that layout.
        multiply_adds: weights times values in one step.
    """

    code: Tensor
    indices: Tensor
    constants: Tensor
    single_constants: Tensor
    rows: int
    drive_rows: int
    state_rows: int
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    places: Tensor
    spread: int
    multiply_adds: int
