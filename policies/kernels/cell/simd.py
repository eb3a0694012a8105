"""Sixteen or thirty-two lanes as one value inside numba functions: explicit vector code.

The vectoriser that comes with numba gives up, or checks for overlap before every short loop, when all operands lie in
one array. These intrinsics say what is meant: `load` and `store` neighbours of an array, `splat` a number to all
lanes, `fma` multiply and add, `total` over the lanes; `load_wide` and `splat_wide` make values of twice as many lanes.
LLVM maps them to whatever vectors the CPU has.

    acc = load(file, 0)
    acc = fma(splat(weight), load(file, 16), acc)
    store(file, 0, acc)

exp, sigmoid and tanh for numba kernels, written so that a loop over contiguous lanes becomes vector code.

A call into libm stops LLVM from vectorising a loop. In single precision exp is therefore computed here: x / ln 2 is
rounded to an integer k by adding 1.5·2²³ + 127, which leaves k + 127 in the lowest bits, ready to be shifted into the
exponent of 2^k; the rest r = x − k ln 2 (ln 2 in two parts) goes through a polynomial of degree 6. Relative error below
3·10⁻⁷ on [−87, 88]; outside the argument is clamped, so the result is tiny or huge but never 0 or infinite. NaN stays
NaN. Double precision calls libm: it is there for checks, not for speed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import datamodel
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16
"""Lanes of a value; the largest vector of single precision numbers there is."""

_INDEX = ir.IntType(32)

# Called with one argument less than written here, which the type checker cannot know.
_intrinsic: Any = intrinsic


class Lanes(types.Type):
    """Numba type of `width` numbers of a dtype."""

    def __init__(self, dtype: Any, width: int):
        """Name the type by what it holds."""
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Lanes({dtype}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: datamodel.DataModelManager, kind: Any):
        number = ir.FloatType() if kind.dtype is types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(number, kind.width))


@_intrinsic
def load(typing: Any, array: Any, start: Any) -> Any:
    """Return array[start : start + 16]."""
    return Lanes(array.dtype, WIDTH)(array, types.intp), _load


@_intrinsic
def load_wide(typing: Any, array: Any, start: Any) -> Any:
    """Return array[start : start + 32]."""
    return Lanes(array.dtype, 2 * WIDTH)(array, types.intp), _load


@_intrinsic
def splat(typing: Any, number: Any) -> Any:
    """Return the number in sixteen lanes."""
    return Lanes(number, WIDTH)(number), _splat


@_intrinsic
def splat_wide(typing: Any, number: Any) -> Any:
    """Return the number in thirty-two lanes."""
    return Lanes(number, 2 * WIDTH)(number), _splat


@_intrinsic
def store(typing: Any, array: Any, start: Any, value: Any) -> Any:
    """Write a value to the array from `start` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], args, context.get_value_type(signature.args[2]))
        builder.store(args[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@_intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a · b + c, rounded once where the CPU can."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(builder.fmul(args[0], args[1], flags=("contract",)), args[2], flags=("contract",))

    return c(a, b, c), generate


@_intrinsic
def total(typing: Any, value: Any) -> Any:
    """Return the sum of the lanes, halves added to each other."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
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

    return value.dtype(value), generate


def _load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    place = _place(context, builder, signature.args[0], args, context.get_value_type(signature.return_type))
    return builder.load(place, align=4)


def _splat(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = context.get_value_type(signature.return_type)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, args[0], _INDEX(0))
    width = signature.return_type.width
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, width), [0] * width))


def _place(context: Any, builder: Any, kind: Any, args: Any, vector: Any) -> Any:
    """Return the address of array[start] as that of a vector."""
    array = context.make_array(kind)(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer())


_OPTIONS: Any = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
# Fused multiply-add, but no reordering, which would undo the rounding; division without a check for zero, whose branch
# would stop the vectoriser.

_LOWEST = np.float32(-87.0)
_HIGHEST = np.float32(88.0)
_LOG2_E = np.float32(1.44269504088896341)
_ROUNDER = np.float32(1.5 * 2**23 + 127)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_POLYNOMIAL = tuple(np.float32(1 / math.factorial(n)) for n in range(7))


def exp(x: Any) -> Any:
    """e^x of a scalar; inside numba functions what is above, elsewhere libm."""
    return _exp_double(x)


@overload(exp, jit_options=_OPTIONS)
def _exp(x: Any) -> Any:
    return _exp_single if x is types.float32 else _exp_double


def _exp_single(x: Any) -> Any:
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    shifted = x * _LOG2_E + _ROUNDER
    k = shifted - _ROUNDER
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _POLYNOMIAL[6]
    p = p * r + _POLYNOMIAL[5]
    p = p * r + _POLYNOMIAL[4]
    p = p * r + _POLYNOMIAL[3]
    p = p * r + _POLYNOMIAL[2]
    p = p * r + _POLYNOMIAL[1]
    p = p * r + _POLYNOMIAL[0]
    power = np.float32(shifted).view(np.int32) << np.int32(23)
    return p * np.int32(power).view(np.float32)


def _exp_double(x: Any) -> Any:
    return math.exp(700.0 if x > 700.0 else x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^−x) of a scalar."""
    return 1.0 / (1.0 + exp(-x))


@overload(sigmoid, jit_options=_OPTIONS)
def _sigmoid(x):
    one = _constant(1, x)
    return lambda x: one / (one + exp(-x))


def tanh(x: Any) -> Any:
    """Hyperbolic tangent of a scalar, absolute error below 2·10⁻⁷ in single precision."""
    return 1.0 - 2.0 / (1.0 + exp(2.0 * x))


@overload(tanh, jit_options=_OPTIONS)
def _tanh(x):
    one, two = _constant(1, x), _constant(2, x)
    return lambda x: one - two / (one + exp(two * x))


def _constant(value: float, kind: Any) -> Any:
    """Return a constant in the type of the argument: an int or double beside a float32 would make it a double."""
    return np.float32(value) if kind is types.float32 else np.float64(value)
