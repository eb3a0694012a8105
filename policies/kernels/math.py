"""exp, sigmoid and tanh for numba kernels, written so that a loop over contiguous lanes becomes vector code.

A call into libm stops LLVM from vectorising a loop. In single precision exp is therefore computed here: x / ln 2 is
rounded to an integer k by adding and subtracting 1.5·2²³, the rest r = x − k ln 2 (ln 2 in two parts) goes through a
polynomial of degree 6, and k goes straight into the exponent bits. Relative error below 3·10⁻⁷ on [−87, 88]; outside
the argument is clamped, so the result is tiny or huge but never 0, NaN or infinite. Double precision calls libm: it is
there for checks, not for speed.

Compile callers with `numba.njit(**OPTIONS)`: fused multiply-add, but no reordering, which would undo the rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

OPTIONS: Any = {"fastmath": {"contract", "nnan", "ninf", "nsz"}, "error_model": "numpy"}
"""For `numba.njit` and `overload`: fast-math flags that keep the order of additions, and division without a check for
zero, whose branch would stop the vectoriser."""

_LOWEST = np.float32(-87.0)
_HIGHEST = np.float32(88.0)
_LOG2_E = np.float32(1.44269504088896341)
_ROUNDER = np.float32(12582912.0)  # 1.5 · 2²³: adding it leaves no bits for a fraction
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_POLYNOMIAL = tuple(np.float32(1 / math.factorial(n)) for n in range(7))


def exp(x: Any) -> Any:
    """e^x of a scalar, for use inside numba functions only."""
    raise NotImplementedError("policies.kernels.math.exp runs inside numba functions only.")


@overload(exp, jit_options=OPTIONS)
def _exp(x: Any) -> Any:
    return _exp_single if x is types.float32 else _exp_double


def _exp_single(x: Any) -> Any:
    x = min(max(x, _LOWEST), _HIGHEST)
    k = (x * _LOG2_E + _ROUNDER) - _ROUNDER
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _POLYNOMIAL[6]
    p = p * r + _POLYNOMIAL[5]
    p = p * r + _POLYNOMIAL[4]
    p = p * r + _POLYNOMIAL[3]
    p = p * r + _POLYNOMIAL[2]
    p = p * r + _POLYNOMIAL[1]
    p = p * r + _POLYNOMIAL[0]
    return p * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


def _exp_double(x: Any) -> Any:
    return math.exp(min(x, 700.0))


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^−x) of a scalar, for use inside numba functions only."""
    raise NotImplementedError("policies.kernels.math.sigmoid runs inside numba functions only.")


@overload(sigmoid, jit_options=OPTIONS)
def _sigmoid(x):
    one = _constant(1, x)
    return lambda x: one / (one + exp(-x))


def tanh(x: Any) -> Any:
    """Hyperbolic tangent of a scalar, absolute error below 2·10⁻⁷ in single precision, for numba functions only."""
    raise NotImplementedError("policies.kernels.math.tanh runs inside numba functions only.")


@overload(tanh, jit_options=OPTIONS)
def _tanh(x):
    one, two = _constant(1, x), _constant(2, x)
    return lambda x: one - two / (one + exp(two * x))


def _constant(value: float, kind: Any) -> Any:
    """Return a constant in the type of the argument: an int or double beside a float32 would make it a double."""
    return np.float32(value) if kind is types.float32 else np.float64(value)
