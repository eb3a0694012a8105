"""A program: one step of a recurrent cell as a short list of instructions on rows of numbers.

The rows make up a register file: first the drive, the elapsed time and the state, then one block for the result of
each instruction; the last block is the next state. `record` writes a program from a step, which runs once on `Rows`
that note every operation and compute nothing; `cpu` runs it forwards and backwards over whole sequences without Python
between the steps.

    program = record(step, {"recurrent": torch.zeros(8, 8), "tau": torch.ones(8)}, drive_rows=8, state_rows=8)
"""

# The methods are those of the protocol `Ops`, which says what they do.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from policies.kernels import WIDTH
from policies.kernels.cell.step import Ops, Step


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
    LEAKY_RELU = 14  # a above k1, k1 + k0 · (a − k1) below
    SILU = 15
    GELU = 16
    DIVIDE = 17  # a / b


# Columns of the instruction table.
COLUMNS = ("code", "out", "rows", "a", "b", "a_rows", "b_rows", "weight", "index", "constant", "spread")


@dataclass(frozen=True)
class Program:
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


def record(step: Step, weights: Mapping[str, Tensor], drive_rows: int, state_rows: int) -> Program:
    """Run a step on rows and return the program.

    Args:
        step: the cell.
        weights: its weights; only names and shapes are used.
        drive_rows: numbers a sample that a step takes from outside.
        state_rows: S.

    Raises:
        ValueError: if sizes do not fit, or the step does not return `[S]`.
    """
    recorder = _Recorder(drive_rows, state_rows)
    handles: dict[str, _Weight] = {}
    places, offset, spread = [], 0, 0
    for name, tensor in weights.items():
        shape = tuple(tensor.shape)
        handles[name] = _Weight(shape, offset, spread)
        # Gradients of a matrix are added up with each row rounded up to whole vectors.
        padded = -(-shape[-1] // WIDTH) * WIDTH if len(shape) == 2 else shape[-1]
        lead = shape[0] if len(shape) == 2 else 1
        places += [spread + r * padded + c for r in range(lead) for c in range(shape[-1])]
        offset, spread = offset + tensor.numel(), spread + lead * padded
    drive = Rows(recorder, 0, drive_rows)
    elapsed = Rows(recorder, drive_rows, 1)
    state = Rows(recorder, drive_rows + 1, state_rows)
    result = step(RowOps(), handles, drive, state, elapsed)
    if not isinstance(result, Rows) or result.rows != state_rows:
        raise ValueError(f"the step must return {state_rows} rows of state, got {result}.")
    if result.start + state_rows != recorder.rows or result.start <= drive_rows + 1:
        result.apply(Code.COPY)  # the last block of the file is the next state
    constants = torch.tensor(recorder.constants or [[0.0, 0.0]], dtype=torch.float64)
    return Program(
        torch.tensor(recorder.code, dtype=torch.int64),
        torch.tensor(recorder.indices, dtype=torch.int64),
        constants,
        constants.float(),
        recorder.rows,
        drive_rows,
        state_rows,
        tuple((name, handle.shape) for name, handle in handles.items()),
        torch.tensor(places, dtype=torch.int64),
        spread,
        recorder.multiply_adds,
    )


@dataclass(frozen=True)
class _Weight:
    """Where a weight lies in the flat weights, and its gradient in the spread ones."""

    shape: tuple[int, ...]
    offset: int
    spread: int


class _Recorder:
    """The program being written."""

    def __init__(self, drive_rows: int, state_rows: int):
        self.code: list[list[int]] = []
        self.indices: list[int] = []
        self.constants: list[list[float]] = []
        self.rows = drive_rows + 1 + state_rows
        self.multiply_adds = 0


class Rows:
    """A value while recording: `rows` rows of the register file from `start`."""

    def __init__(self, recorder: _Recorder, start: int, rows: int):
        """Point at `rows` rows of the register file from `start`."""
        self.recorder, self.start, self.rows = recorder, start, rows

    def __repr__(self) -> str:
        return f"Rows({self.start}, {self.rows})"

    def apply(
        self,
        code: Code,
        rows: int | None = None,
        b: Rows | None = None,
        weight: _Weight | None = None,
        index: int = -1,
        constants: tuple[float, float] | None = None,
    ) -> Rows:
        """Write an instruction on this value and return its result."""
        recorder = self.recorder
        result = Rows(recorder, recorder.rows, self.rows if rows is None else rows)
        constant = -1
        if constants is not None:
            constant = len(recorder.constants)
            recorder.constants.append(list(constants))
        b_start, b_rows = (-1, 0) if b is None else (b.start, b.rows)
        at, spread = (-1, -1) if weight is None else (weight.offset, weight.spread)
        place = [result.start, result.rows, self.start, b_start, self.rows, b_rows]
        recorder.code.append([int(code), *place, at, index, constant, spread])
        recorder.rows += result.rows
        return result

    def _binary(self, code: Code, other: Any) -> Rows:
        if isinstance(other, Rows):
            if code == Code.DIVIDE and self.rows < other.rows:
                raise ValueError(f"one number cannot be divided by {other.rows}: gather it as many times first.")
            if self.rows != other.rows and 1 not in (self.rows, other.rows):
                raise ValueError(f"values of {self.rows} and {other.rows} numbers cannot meet.")
            if self.rows < other.rows:  # the kernel repeats b, not a
                return (-other)._binary(Code.ADD, self) if code == Code.SUBTRACT else other._binary(code, self)
            return self.apply(code, b=other)
        if isinstance(other, _Weight):
            if other.shape != (self.rows,):
                raise ValueError(f"a weight that meets {self.rows} numbers must have as many, got {other.shape}.")
            if code in (Code.SUBTRACT, Code.DIVIDE):
                raise ValueError("add the negative of a weight, or multiply by its inverse.")
            with_weight = Code.ADD_WEIGHT if code == Code.ADD else Code.MULTIPLY_WEIGHT
            if code == Code.MULTIPLY:
                self.recorder.multiply_adds += self.rows
            return self.apply(with_weight, weight=other)
        scale, shift = {
            Code.ADD: (1.0, float(other)),
            Code.SUBTRACT: (1.0, -float(other)),
            Code.MULTIPLY: (float(other), 0.0),
            Code.DIVIDE: (1.0 / float(other), 0.0),
        }[code]
        return self.apply(Code.AFFINE, constants=(scale, shift))

    def __add__(self, other: Any) -> Rows:
        return self._binary(Code.ADD, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Rows:
        return self._binary(Code.SUBTRACT, other)

    def __rsub__(self, other: Any) -> Rows:
        return (-self) + other

    def __mul__(self, other: Any) -> Rows:
        return self._binary(Code.MULTIPLY, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Rows:
        return self._binary(Code.DIVIDE, other)

    def __neg__(self) -> Rows:
        return self * -1.0


class RowOps(Ops):
    """`Ops` on `Rows`: each method notes its operation in the program."""

    def linear(self, weight: _Weight, x: Rows, plus: Rows | None = None) -> Rows:
        rows, columns = weight.shape
        if columns != x.rows or (plus is not None and plus.rows != rows):
            raise ValueError(f"weight {weight.shape} does not fit {x.rows} numbers, or the term added to the product.")
        x.recorder.multiply_adds += rows * columns
        return x.apply(Code.LINEAR, rows, plus, weight)

    def gather(self, x: Rows, index: Sequence[int]) -> Rows:
        start = len(x.recorder.indices)
        x.recorder.indices += [int(i) for i in index]
        return x.apply(Code.GATHER, len(index), index=start)

    def scatter(self, x: Rows, weight: _Weight, target: Sequence[int], rows: int) -> Rows:
        if weight.shape != (x.rows,) or len(target) != x.rows:
            raise ValueError(f"scatter needs a weight and a target for each of {x.rows} synapses, got {weight.shape}.")
        start = len(x.recorder.indices)
        x.recorder.indices += [int(i) for i in target]
        x.recorder.multiply_adds += x.rows
        return x.apply(Code.SCATTER, rows, weight=weight, index=start)

    def concat(self, parts: Sequence[Rows]) -> Rows:
        """Copy the parts side by side; free when they lie so already."""
        first = parts[0]
        size = sum(part.rows for part in parts)
        end = first.start
        for part in parts:
            if part.start != end:
                copies = [part.apply(Code.COPY) for part in parts]
                return Rows(first.recorder, copies[0].start, size)
            end += part.rows
        return Rows(first.recorder, first.start, size)

    def split(self, x: Rows, sizes: Sequence[int]) -> list[Rows]:
        """Point at parts of the rows."""
        parts, start = [], x.start
        for size in sizes:
            parts.append(Rows(x.recorder, start, size))
            start += size
        return parts

    def activation(self, name: str, x: Rows) -> Rows:
        if name == "lecun_tanh":
            return 1.7159 * self.tanh(0.666 * x)
        if name in ("relu", "leaky_relu"):
            return x.apply(Code.LEAKY_RELU, constants=(0.0 if name == "relu" else 0.01, 0.0))
        return x.apply(Code[name.upper()])

    def tanh(self, x: Rows) -> Rows:
        return x.apply(Code.TANH)

    def sigmoid(self, x: Rows) -> Rows:
        return x.apply(Code.SIGMOID)

    def exp(self, x: Rows) -> Rows:
        return x.apply(Code.EXP)

    def abs(self, x: Rows) -> Rows:
        return x.apply(Code.ABS)

    def at_least(self, x: Rows, least: float) -> Rows:
        return x.apply(Code.LEAKY_RELU, constants=(0.0, least))
