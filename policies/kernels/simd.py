"""Sixteen float32 lanes as one value inside numba functions.

numba has scalars and arrays only; a loop over the batch leaves it to the compiler's luck whether sums stay in
registers. `LANES` is an LLVM vector of 16 float32, one register on AVX-512 and split by LLVM into what there is
elsewhere (two of AVX2, four of NEON). Arithmetic between lanes, and between lanes and floats, is written with the
usual operators. Memory is given as an address (`tensor.data_ptr()`) and an offset in elements.

    @compiled
    def scale(address, factor):
        store(address, 0, factor * load(address, 0))
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

intrinsic: Any = extending.intrinsic

WIDTH = 16
"""Lanes in a vector: samples of the batch that are computed side by side."""

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_INTS = ir.VectorType(_INT, WIDTH)
# Allowing a·b + c to be fused is the one liberty taken: reassociation would undo the rounding trick of
# `one_plus_exp2`, and assuming that there are no NaNs would hide those of broken inputs.
_FLAGS = ("contract", "nsz")


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"CircuitLanes{WIDTH}")


LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def _splat(builder: Any, scalar: Any) -> Any:
    vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(vector, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTS, [0] * WIDTH))


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [float(np.float32(value))] * WIDTH)


def _as_vector(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    return value if kind == LANES else _splat(builder, context.cast(builder, value, kind, types.float32))


def _define_operator(symbol: Any, instruction: str) -> None:
    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and LANES in args and all(a == LANES or isinstance(a, types.Number) for a in args):
                return signature(LANES, *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = (_as_vector(context, builder, a, kind) for a, kind in zip(args, sig.args, strict=True))
        return getattr(builder, instruction)(left, right, flags=_FLAGS)

    for kinds in ((LANES, LANES), (LANES, types.Number), (types.Number, LANES)):
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_symbol, _instruction)


def _pointer(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    base = builder.inttoptr(address, kind.as_pointer())
    return builder.gep(base, [offset])


def _row(builder: Any, address: Any, offset: Any) -> Any:
    return builder.bitcast(_pointer(builder, address, offset, _FLOAT), _VECTOR.as_pointer())


@intrinsic
def load(typingctx: Any, address: Any, offset: Any) -> Any:
    """Return the lanes from `address + offset`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_row(builder, *args), align=4)

    return LANES(types.intp, types.intp), codegen


@intrinsic
def store(typingctx: Any, address: Any, offset: Any, value: Any) -> Any:
    """Write the lanes to `address + offset`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _row(builder, *args[:2]), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, LANES), codegen


def _getter(llvm: Any, result: Any) -> Any:
    def typing(typingctx: Any, address: Any, offset: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.load(_pointer(builder, args[0], args[1], llvm))

        return result(types.intp, types.intp), codegen

    return intrinsic(typing)


get = _getter(_FLOAT, types.float32)
"""`get(address, offset)`: the float32 there."""
get_int = _getter(ir.IntType(64), types.int64)
"""`get_int(address, offset)`: the int64 there."""
get_byte = _getter(ir.IntType(8), types.uint8)
"""`get_byte(address, offset)`: the byte there, 0 or 1 for a bool."""


@intrinsic
def put(typingctx: Any, address: Any, offset: Any, value: Any) -> Any:
    """Write one float32 to `address + offset`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(builder, args[0], args[1], _FLOAT))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """Return a float in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return LANES(types.float32), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """Return the sum over the lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector, width = args[0], WIDTH
        while width > 1:  # halve: the upper half is added to the lower
            width //= 2
            upper = ir.Constant(ir.VectorType(_INT, WIDTH), [min(k + width, WIDTH - 1) for k in range(WIDTH)])
            vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, upper))
        return builder.extract_element(vector, ir.Constant(_INT, 0))

    return types.float32(LANES), codegen


# 2^f on [−1/2, 1/2] by a polynomial, fitted where the relative error counts. The largest error is below 2e-7.
_NODES = np.cos(np.pi * (np.arange(64) + 0.5) / 64) / 2
_EXP2 = np.polynomial.polynomial.polyfit(_NODES, 2.0**_NODES, 5, w=2.0**-_NODES)
_EXP2[0] = 1.0
_ROUND = 1.5 * 2.0**23 + 127.0
"""Added to a float32 it pushes the fraction out: the lowest bits are the integer plus the exponent's bias."""
LARGEST = 62.0
"""Bound of `clamp`: the product of two such powers is still a float32."""


@intrinsic
def clamp(typingctx: Any, value: Any) -> Any:
    """Return the lanes, limited to ±LARGEST; NaN stays NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z = args[0]
        for bound, comparison in ((-LARGEST, "<"), (LARGEST, ">")):  # false for a NaN, which passes
            limit = _constant(bound)
            z = builder.select(builder.fcmp_ordered(comparison, z, limit), limit, z)
        return z

    return LANES(LANES), codegen


@intrinsic
def one_plus_exp2(typingctx: Any, value: Any) -> Any:
    """Return 1 + 2 to the power of the lanes, which must lie between −126 and 127; NaN stays NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        shifted = builder.fadd(args[0], _constant(_ROUND))
        fraction = builder.fsub(args[0], builder.fsub(shifted, _constant(_ROUND)))
        result = _constant(_EXP2[-1])
        for coefficient in _EXP2[-2::-1]:
            result = builder.fmul(result, fraction, flags=_FLAGS)
            result = builder.fadd(result, _constant(coefficient), flags=_FLAGS)
        # Integer plus bias, moved to the place of the exponent, is the power of two.
        power = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * WIDTH))
        product = builder.fmul(result, builder.bitcast(power, _VECTOR), flags=_FLAGS)
        return builder.fadd(product, _constant(1.0), flags=_FLAGS)

    return LANES(LANES), codegen


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 16 × 16: in round d, swap the blocks of d off the diagonal of each 2d × 2d block."""
    d = 1
    while d < WIDTH:
        low = [k if not k & d else k - d + WIDTH for k in range(WIDTH)]
        high = [k + d if not k & d else k + WIDTH for k in range(WIDTH)]
        swapped = list(rows)
        for k in range(WIDTH):
            if not k & d:
                swapped[k] = builder.shuffle_vector(rows[k], rows[k + d], ir.Constant(_INTS, low))
                swapped[k + d] = builder.shuffle_vector(rows[k], rows[k + d], ir.Constant(_INTS, high))
        rows = swapped
        d *= 2
    return rows


def _strided(builder: Any, address: Any, stride: Any, count: Any, k: int) -> Any:
    """Return the address of row min(k, count − 1), rows `stride` elements apart."""
    last = builder.sub(count, ir.Constant(count.type, 1))
    index = ir.Constant(count.type, k)
    index = builder.select(builder.icmp_signed("<", index, last), index, last)
    return _row(builder, address, builder.mul(index, stride))


@intrinsic
def gather_tile(typingctx: Any, source: Any, stride: Any, count: Any, target: Any) -> Any:
    """Read 16 neighbouring numbers of 16 rows and write them as 16 lanes, lane = row.

    Args:
        typingctx: numba's.
        source: address of the first row.
        stride: elements from row to row.
        count: rows that there are; the last one stands in for those that are missing.
        target: address of 16 × 16 floats.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = [builder.load(_strided(builder, args[0], args[1], args[2], k), align=4) for k in range(WIDTH)]
        for k, lanes in enumerate(_transposed(builder, rows)):
            builder.store(lanes, _row(builder, args[3], ir.Constant(args[3].type, k * WIDTH)), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def scatter_tile(typingctx: Any, source: Any, target: Any, stride: Any, count: Any) -> Any:
    """Write 16 lanes to 16 rows, the inverse of `gather_tile`; rows beyond `count` are left out."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = [
            builder.load(_row(builder, args[0], ir.Constant(args[0].type, k * WIDTH)), align=4) for k in range(WIDTH)
        ]
        # From the last row to the first: what a missing row writes into the last one is overwritten by its own.
        for k, row in reversed(list(enumerate(_transposed(builder, lanes)))):
            builder.store(row, _strided(builder, args[1], args[2], args[3], k), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def use_wide_registers(typingctx: Any) -> Any:
    """Let this function use 512-bit registers where there are any; LLVM prefers 256 bits on many processors."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # llvmlite knows no attributes with values; its set takes them as text.
        set.update(builder.function.attributes, ('"prefer-vector-width"="512"', '"min-legal-vector-width"="512"'))
        return context.get_dummy_value()

    return types.void(), codegen
