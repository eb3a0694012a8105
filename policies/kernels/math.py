"""exp, sigmoid and tanh for numba kernels, written so that a loop over contiguous lanes becomes vector code.

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
from numba import types
from numba.extending import overload

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
