"""Vectors of numbers as one value inside numba functions, and exp, sigmoid and tanh that become vector code.

numba has scalars and arrays only. A loop over neighbouring numbers leaves it to the compiler's luck whether sums stay
in registers, and the vectoriser gives up when all operands lie in one array. A `Vector` is an LLVM vector of `WIDTH`
float32, one register on AVX-512 and split by LLVM into what there is elsewhere (two of AVX2, four of NEON); of twice as
many by `load_wide`; of float64 for checks. Arithmetic among vectors, and between vectors and numbers, is written with
the usual operators. Memory is an array, or an address (`tensor.data_ptr()`) of float32; offsets count elements.

    @compiled
    def scale(address, factor):
        store(address, 0, factor * load(address, 0))

Two exponentials: `one_plus_exp2` is what the sigmoid of a vector needs; `exp`, `sigmoid` and
`tanh` are of scalars, written so that a loop over them becomes vector code, which a call into libm prevents. Both round
the exponent to an integer by adding 1.5·2²³ + 127, which leaves the integer plus the exponent's bias in the lowest
bits, ready to be shifted into place, and put the rest through a polynomial.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, overload, register_model

from policies.kernels import WIDTH as WIDTH

intrinsic: Any = extending.intrinsic

LOG2_E = 1.0 / math.log(2.0)

ROUND = 1.5 * 2.0**23 + 127.0
"""Added to a float32 it pushes the fraction out: the lowest bits are the integer plus the exponent's bias."""

LARGEST = 62.0
"""Bound of `clamp`: the product of two such powers is still a float32."""

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, WIDTH), ir.VectorType(_INDEX, WIDTH)
# Allowing a·b + c to be fused is the one liberty taken: reassociation would undo the rounding by `ROUND`, and assuming
# that there are no NaNs would hide those of broken inputs.
_FLAGS = ("contract", "nsz")


class Vector(types.Type):
    """Numba type of `width` numbers of a dtype."""

    def __init__(self, dtype: Any, width: int = WIDTH):
        """Name the type by what it holds."""
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Vector({dtype}, {width})")


FLOATS = Vector(types.float32)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        number = _FLOAT if kind.dtype is types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(number, kind.width))


def _splat(context: Any, builder: Any, number: Any, kind: Any) -> Any:
    nothing = ir.Constant(context.get_value_type(kind), ir.Undefined)
    first = builder.insert_element(nothing, number, _INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, kind.width), [0] * kind.width))


def _define_operator(symbol: Any, instruction: str) -> None:
    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vectors = {a for a in args if isinstance(a, Vector)}
            if len(args) == 2 and len(vectors) == 1 and all(isinstance(a, Vector | types.Number) for a in args):
                return signature(vectors.pop(), *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.return_type
        left, right = (
            value
            if isinstance(given, Vector)
            else _splat(context, builder, context.cast(builder, value, given, kind.dtype), kind)
            for value, given in zip(args, sig.args, strict=True)
        )
        return getattr(builder, instruction)(left, right, flags=_FLAGS)

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_symbol, _instruction)


def _pointer(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [offset])


def _row(builder: Any, address: Any, offset: Any) -> Any:
    return builder.bitcast(_pointer(builder, address, offset, _FLOAT), _FLOATS.as_pointer())


def _place(context: Any, builder: Any, place: Any, args: Any, vector: Any) -> Any:
    """Return the pointer to a vector in an array or at an address."""
    if not isinstance(place, types.Array):
        return _row(builder, args[0], args[1])
    array = context.make_array(place)(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer())


def _load(place: Any, width: int) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(sig.return_type)
        return builder.load(_place(context, builder, sig.args[0], args, vector), align=4)

    if isinstance(place, types.Array):
        return Vector(place.dtype, width)(place, types.intp), codegen
    return Vector(types.float32, width)(types.intp, types.intp), codegen


@intrinsic
def load(typingctx: Any, place: Any, offset: Any) -> Any:
    """Return the `WIDTH` numbers from `offset` on of an array or an address."""
    return _load(place, WIDTH)


@intrinsic
def load_wide(typingctx: Any, place: Any, offset: Any) -> Any:
    """Return twice as many, of an array."""
    return _load(place, 2 * WIDTH)


@intrinsic
def store(typingctx: Any, place: Any, offset: Any, value: Any) -> Any:
    """Write a vector to an array or an address from `offset` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(sig.args[2])
        builder.store(args[2], _place(context, builder, sig.args[0], args, vector), align=4)
        return context.get_dummy_value()

    return types.void(place if isinstance(place, types.Array) else types.intp, types.intp, value), codegen


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
def splat(typingctx: Any, number: Any) -> Any:
    """Return a vector of one float32 or float64."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(context, builder, args[0], sig.return_type)

    return Vector(number)(number), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """Return the sum of a vector's numbers, halves added to each other."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result, width = args[0], value.width
        while width > 1:
            width //= 2
            nothing = ir.Constant(result.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(result, nothing, ir.Constant(ir.VectorType(_INDEX, width), list(part)))
                for part in (range(width), range(width, 2 * width))
            )
            result = builder.fadd(low, high)
        return builder.extract_element(result, _INDEX(0))

    return value.dtype(value), codegen


# 2^f on [−1/2, 1/2] by a polynomial, fitted where the relative error counts. The largest error is below 2e-7.
_NODES = np.cos(np.pi * (np.arange(64) + 0.5) / 64) / 2
_EXP2 = np.polynomial.polynomial.polyfit(_NODES, 2.0**_NODES, 5, w=2.0**-_NODES)
_EXP2[0] = 1.0


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [float(np.float32(value))] * WIDTH)


@intrinsic
def clamp(typingctx: Any, value: Any) -> Any:
    """Return the numbers limited to ±LARGEST; NaN stays NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z = args[0]
        for bound, comparison in ((-LARGEST, "<"), (LARGEST, ">")):  # false for a NaN, which passes
            limit = _constant(bound)
            z = builder.select(builder.fcmp_ordered(comparison, z, limit), limit, z)
        return z

    return FLOATS(FLOATS), codegen


@intrinsic
def one_plus_exp2(typingctx: Any, value: Any) -> Any:
    """Return 1 + 2 to the power of numbers between −126 and 127; NaN stays NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        shifted = builder.fadd(args[0], _constant(ROUND))
        fraction = builder.fsub(args[0], builder.fsub(shifted, _constant(ROUND)))
        result = _constant(_EXP2[-1])
        for coefficient in _EXP2[-2::-1]:
            result = builder.fmul(result, fraction, flags=_FLAGS)
            result = builder.fadd(result, _constant(coefficient), flags=_FLAGS)
        # Integer plus bias, moved to the place of the exponent, is the power of two.
        power = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * WIDTH))
        product = builder.fmul(result, builder.bitcast(power, _FLOATS), flags=_FLAGS)
        return builder.fadd(product, _constant(1.0), flags=_FLAGS)

    return FLOATS(FLOATS), codegen


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
    """Return the pointer to row min(k, count − 1), rows `stride` elements apart."""
    last = builder.sub(count, ir.Constant(count.type, 1))
    index = ir.Constant(count.type, k)
    index = builder.select(builder.icmp_signed("<", index, last), index, last)
    return _row(builder, address, builder.mul(index, stride))


@intrinsic
def gather_square(typingctx: Any, source: Any, stride: Any, count: Any, target: Any) -> Any:
    """Read `WIDTH` neighbouring numbers of `WIDTH` rows and write them transposed, a vector for each number.

    Args:
        typingctx: numba's.
        source: address of the first row.
        stride: elements from row to row.
        count: rows that there are; the last one stands in for those that are missing.
        target: address of WIDTH × WIDTH floats.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = [builder.load(_strided(builder, args[0], args[1], args[2], k), align=4) for k in range(WIDTH)]
        for k, vector in enumerate(_transposed(builder, rows)):
            builder.store(vector, _row(builder, args[3], ir.Constant(args[3].type, k * WIDTH)), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def scatter_square(typingctx: Any, source: Any, target: Any, stride: Any, count: Any) -> Any:
    """Write `WIDTH` vectors to `WIDTH` rows, the inverse of `gather_square`; rows beyond `count` are left out."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = [
            builder.load(_row(builder, args[0], ir.Constant(args[0].type, k * WIDTH)), align=4) for k in range(WIDTH)
        ]
        # From the last row to the first: what a missing row writes into the last one is overwritten by its own.
        for k, row in reversed(list(enumerate(_transposed(builder, vectors)))):
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


_OPTIONS: Any = {"fastmath": {*_FLAGS}, "error_model": "numpy"}
# Division without a check for zero, whose branch would stop the vectoriser.

_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
_SINGLE_LOG2_E, _SINGLE_ROUND = np.float32(LOG2_E), np.float32(ROUND)
# ln 2 in two parts, so that x − k ln 2 keeps its digits.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_TAYLOR = tuple(np.float32(1 / math.factorial(n)) for n in range(7))


def exp(x: Any) -> Any:
    """e^x of a scalar.

    In single precision the relative error is below 3·10⁻⁷ on [−87, 88]; outside the argument is clamped, so the result
    is tiny or huge but never 0 or infinite. NaN stays NaN. Double precision calls libm: it is there for checks.
    """
    return _exp_double(x)


@overload(exp, jit_options=_OPTIONS)
def _exp(x: Any) -> Any:
    return _exp_single if x is types.float32 else _exp_double


def _exp_single(x: Any) -> Any:
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    shifted = x * _SINGLE_LOG2_E + _SINGLE_ROUND
    k = shifted - _SINGLE_ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _TAYLOR[6]
    p = p * r + _TAYLOR[5]
    p = p * r + _TAYLOR[4]
    p = p * r + _TAYLOR[3]
    p = p * r + _TAYLOR[2]
    p = p * r + _TAYLOR[1]
    p = p * r + _TAYLOR[0]
    power = np.float32(shifted).view(np.int32) << np.int32(23)
    return p * np.int32(power).view(np.float32)


def _exp_double(x: Any) -> Any:
    return math.exp(700.0 if x > 700.0 else x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^−x) of a scalar."""
    return 1.0 / (1.0 + exp(-x))


@overload(sigmoid, jit_options=_OPTIONS)
def _sigmoid(x):
    one = _number(1, x)
    return lambda x: one / (one + exp(-x))


def tanh(x: Any) -> Any:
    """Hyperbolic tangent of a scalar, absolute error below 2·10⁻⁷ in single precision."""
    return 1.0 - 2.0 / (1.0 + exp(2.0 * x))


@overload(tanh, jit_options=_OPTIONS)
def _tanh(x):
    one, two = _number(1, x), _number(2, x)
    return lambda x: one - two / (one + exp(two * x))


def _number(value: float, kind: Any) -> Any:
    """Return a constant in the type of the argument: an int or double beside a float32 would make it a double."""
    return np.float32(value) if kind is types.float32 else np.float64(value)
