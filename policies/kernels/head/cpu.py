"""Whitening, convolutions and read-out of a conv head on the CPU, frame by frame, in one function.

At one frame, torch's convolutions spend most of their time on getting ready: this function does the multiplications
only. Maps lie channels-last, framed by zeros, so that the `kernel · C` numbers that an output pixel reads of one row
are neighbours. Channels are computed eight to a vector and stored rounded up to whole vectors; those that are added
have zero weights. The sums of a few neighbouring pixels times up to four vectors of channels stay in registers while
the weights pass once.

Addresses are of float32 unless said otherwise. The reference is `policies.perception`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _untyped

from policies.kernels.jit import compiled, inlined
from policies.kernels.simd import get, get_byte, get_int, put

intrinsic: Any = _untyped

LANES = 8
"""Channels in a vector: a register of AVX2, two of NEON."""
MOST = 4
"""Vectors of channels that a pass over the input computes."""
PIXELS = (8, 6, 4, 3)
"""Neighbouring pixels that are computed together, for 1, 2, 3 and 4 vectors: 16 registers hold their sums."""
FIELDS = 13
"""Numbers that describe a layer: see `encode`."""

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_LANES = ir.VectorType(_FLOAT, LANES)
_FLAGS = ("contract", "nsz")


def _sums(vectors: int, pixels: int) -> Any:
    """Return an intrinsic that computes `vectors` · 8 channels of `pixels` neighbouring pixels."""

    def typing(
        typingctx: Any,
        source: Any,
        row: Any,
        step: Any,
        rows: Any,
        length: Any,
        weights: Any,
        bias: Any,
        target: Any,
        apart: Any,
    ) -> Any:
        """Write relu(bias + Σ weights · source).

        Args:
            typingctx: numba's.
            source: address of the first number that the first pixel reads.
            row: numbers from one row of the source to the next.
            step: numbers from what a pixel reads to what the next one reads.
            rows: rows that a pixel reads.
            length: neighbouring numbers that it reads of each.
            weights: address of `[rows, length, vectors, 8]`.
            bias: address of `[vectors, 8]`.
            target: address of the first pixel's channels.
            apart: numbers from one pixel's channels to the next one's.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            source, row, step, rows, length, weights, bias, target, apart = args

            def at(address: Any, offset: Any, kind: Any) -> Any:
                place = builder.gep(builder.inttoptr(address, _FLOAT.as_pointer()), [offset])
                return builder.bitcast(place, kind.as_pointer())

            sums = [[cgutils.alloca_once(builder, _LANES) for _ in range(vectors)] for _ in range(pixels)]
            for v in range(vectors):
                first = builder.load(at(bias, _INDEX(v * LANES), _LANES), align=4)
                for pixel in range(pixels):
                    builder.store(first, sums[pixel][v])
            nothing, zeros = (
                ir.Constant(_LANES, ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * 8),
            )
            with cgutils.for_range(builder, rows) as outer:
                here, passed = builder.mul(outer.index, row), builder.mul(outer.index, length)
                with cgutils.for_range(builder, length) as inner:
                    number = builder.mul(builder.add(passed, inner.index), _INDEX(vectors * LANES))
                    factors = [
                        builder.load(at(weights, builder.add(number, _INDEX(v * LANES)), _LANES), align=4)
                        for v in range(vectors)
                    ]
                    place = builder.add(here, inner.index)
                    for pixel in range(pixels):
                        offset = builder.add(place, builder.mul(step, _INDEX(pixel)))
                        value = builder.load(at(source, offset, _FLOAT), align=4)
                        value = builder.shuffle_vector(
                            builder.insert_element(nothing, value, _INDEX(0)), nothing, zeros
                        )
                        for v in range(vectors):
                            product = builder.fmul(value, factors[v], flags=_FLAGS)
                            held = sums[pixel][v]
                            builder.store(builder.fadd(builder.load(held), product, flags=_FLAGS), held)
            none = ir.Constant(_LANES, [0.0] * LANES)
            for pixel in range(pixels):
                for v in range(vectors):
                    value = builder.load(sums[pixel][v])
                    value = builder.select(builder.fcmp_ordered("<", value, none), none, value)  # NaN stays NaN
                    offset = builder.add(builder.mul(apart, _INDEX(pixel)), _INDEX(v * LANES))
                    builder.store(value, at(target, offset, _LANES), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 9), codegen

    return intrinsic(typing)


FLOAT, LONG = 4, 8


def _by_vectors(one, two, three, four):
    """Return one function of four that compute 1 to 4 vectors of channels."""

    @inlined
    def compute(vectors, source, row, step, rows, length, weights, bias, target, apart):
        if vectors == 1:
            one(source, row, step, rows, length, weights, bias, target, apart)
        elif vectors == 2:
            two(source, row, step, rows, length, weights, bias, target, apart)
        elif vectors == 3:
            three(source, row, step, rows, length, weights, bias, target, apart)
        else:
            four(source, row, step, rows, length, weights, bias, target, apart)

    return compute


_together = _by_vectors(*(_sums(v, pixels) for v, pixels in zip(range(1, MOST + 1), PIXELS, strict=True)))
_alone = _by_vectors(*(_sums(v, 1) for v in range(1, MOST + 1)))


@inlined
def _line(vectors, columns, source, row, step, rows, length, weights, bias, target, apart):
    """Compute `vectors` · 8 channels of one row of a map; arguments as in `_sums`."""
    together = PIXELS[vectors - 1]
    x = 0
    while x < columns:
        if columns < together:
            _alone(
                vectors, source + FLOAT * x * step, row, step, rows, length, weights, bias,
                target + FLOAT * x * apart, apart,
            )  # fmt: skip
            x += 1
            continue
        at = min(x, columns - together)  # the last ones again rather than a loop for what is left
        _together(
            vectors, source + FLOAT * at * step, row, step, rows, length, weights, bias,
            target + FLOAT * at * apart, apart,
        )  # fmt: skip
        x += together


@compiled
def convolve(layer, pack, scratch):
    """Run one layer; see `encode`."""
    rows, columns, stride = get_int(layer, 0), get_int(layer, 1), get_int(layer, 2)
    kernel, channels, source_row = get_int(layer, 3), get_int(layer, 4), get_int(layer, 5)
    vectors, source, target = (
        get_int(layer, 6),
        scratch + FLOAT * get_int(layer, 7),
        scratch + FLOAT * get_int(layer, 8),
    )
    target_row, weights, bias = get_int(layer, 9), pack + FLOAT * get_int(layer, 10), pack + FLOAT * get_int(layer, 11)
    length, apart = kernel * channels, vectors * LANES
    passes = (vectors + MOST - 1) // MOST
    done = 0
    for number in range(passes):
        some = (vectors - done + passes - number - 1) // (passes - number)  # 5 are 3 and 2, not 4 and 1
        for y in range(rows):
            _line(
                some, columns,
                source + FLOAT * y * stride * source_row, source_row, stride * channels, kernel, length,
                weights, bias + FLOAT * done * LANES,
                target + FLOAT * (y * target_row + done * LANES), apart,
            )  # fmt: skip
        weights += FLOAT * kernel * length * some * LANES
        done += some


@compiled
def whiten(frame, height, width, target, target_row):
    """Write a frame of bytes with zero mean and unit variance; see `perception.whiten`.

    Args:
        frame: address of bytes `[height, width, 3]`.
        height: rows.
        width: columns.
        target: address of the first pixel to write.
        target_row: numbers from row to row there.
    """
    size = height * width * 3
    first, second = np.int64(0), np.int64(0)  # whole numbers: nothing cancels
    for k in range(size):
        value = np.int64(get_byte(frame, k))
        first += value
        second += value * value
    mean = first / size
    variance = (second - mean * first) / size
    scale = np.float32(1.0 / np.sqrt(max(variance, 0.0) + 0.25))
    middle = np.float32(mean)
    for y in range(height):
        for k in range(width * 3):
            away = np.float32(get_byte(frame, y * width * 3 + k)) - middle
            put(target, y * target_row + k, away * scale)


@compiled
def read_out(maps, pixels, channels, stored, each, weights, bias, features):
    """Write `[channels, each]` features of a last map.

    Args:
        maps: address of `[pixels, stored]`.
        pixels: h · w.
        channels: C, those that count.
        stored: C rounded up.
        each: features of a channel.
        weights: address of `[C, pixels, each]`.
        bias: address of `[C, each]`.
        features: address to write to.
    """
    for k in range(channels * each):
        put(features, k, get(bias, k))
    for p in range(pixels):
        for c in range(channels):
            value, row = get(maps, p * stored + c), (c * pixels + p) * each
            for k in range(each):
                put(features, c * each + k, get(features, c * each + k) + value * get(weights, row + k))


@compiled
def clear(target, size):
    """Write zeros."""
    for k in range(size):
        put(target, k, np.float32(0))


@compiled
def encode(frames, first, last, height, width, layers, plan, pack, readout, bias, features, each, scratch, size):
    """Turn frames `first` to `last` into features.

    Args:
        frames: address of bytes `[N, height, width, 3]`.
        first: first frame.
        last: frame after the last.
        height: rows of a frame.
        width: columns of a frame.
        layers: how many convolutions.
        plan: address of int64 `[layers + 1, FIELDS]`: rows, columns, stride, kernel, channels read as they are stored,
            numbers in a row of the source, vectors of channels written, offset of the source in the scratch, offset of
            the target's first pixel, numbers in a row of the target, offset of the weights in the pack, offset of the
            biases, channels written that count. The last line's source is the last map.
        pack: address of the weights and biases.
        readout: address of the read-out's weights, `[C, h · w, each]`.
        bias: address of its biases, `[C, each]`.
        features: address of `[N, C · each]` to write.
        each: features of a channel.
        scratch: address of `size` numbers.
        size: of the scratch.
    """
    clear(scratch, size)  # the frames of zeros; nothing writes there
    end = plan + LONG * FIELDS * (layers - 1)
    channels, stored = get_int(end, 12), get_int(end, 6) * LANES
    maps = scratch + FLOAT * get_int(end, 8)
    pixels = get_int(end, 0) * get_int(end, 1)
    margin, row = get_int(plan, 3) // 2, get_int(plan, 5)
    for n in range(first, last):
        whiten(frames + n * height * width * 3, height, width, scratch + FLOAT * (margin * row + margin * 3), row)
        for k in range(layers):
            convolve(plan + LONG * FIELDS * k, pack, scratch)
        read_out(maps, pixels, channels, stored, each, readout, bias, features + FLOAT * n * channels * each)


@compiled
def differ(addresses, sizes, count, copy):
    """Return whether arrays differ from a copy of them all in a row; NaN differs from everything.

    Args:
        addresses: address of int64 addresses of float32 arrays.
        sizes: address of their int64 sizes.
        count: how many.
        copy: address of the copy.
    """
    for k in range(count):
        here, size, different = get_int(addresses, k), get_int(sizes, k), 0
        for i in range(size):
            different += get(here, i) != get(copy, i)
        if different:
            return True
        copy += FLOAT * size
    return False
