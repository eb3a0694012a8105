"""Sixteen or thirty-two lanes as one value inside numba functions: explicit vector code.

The vectoriser that comes with numba gives up, or checks for overlap before every short loop, when all operands lie in
one array. These intrinsics say what is meant: `load` and `store` neighbours of an array, `splat` a number to all
lanes, `fma` multiply and add, `total` over the lanes; `load_wide` and `splat_wide` make values of twice as many lanes.
LLVM maps them to whatever vectors the CPU has.

    acc = load(file, 0)
    acc = fma(splat(weight), load(file, 16), acc)
    store(file, 0, acc)
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import datamodel
from numba.extending import intrinsic, models, register_model

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
