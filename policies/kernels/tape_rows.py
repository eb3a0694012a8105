"""Sums and products on rows of lanes, which the instructions of a tape are made of; see `tape_loops`.

A row is `lanes` neighbouring numbers, one for each sample of the tile; `lanes` is a multiple of 16. A product with a
matrix adds up rows of lanes in registers. All but those that say so add to what is there, as gradients need it.
"""

from __future__ import annotations

from typing import Any

from policies.kernels.jit import compiled
from policies.kernels.lanes import WIDTH, fma, load, load_wide, splat, splat_wide, store, total
from policies.kernels.tape import Code

ADD, SUBTRACT, MULTIPLY = int(Code.ADD), int(Code.SUBTRACT), int(Code.MULTIPLY)


@compiled
def add_matrix(y: Any, x: Any, weights: Any, rows: int, columns: int, down: int, across: int, lanes: int) -> None:
    """Add a matrix times rows: y[r] += Σ_c weights[r · down + c · across] · x[c], four rows of y in registers."""
    pairs, fours = lanes // (2 * WIDTH) * 2 * WIDTH, rows // 4 * 4
    for lane in range(0, pairs, 2 * WIDTH):
        for r in range(0, fours, 4):
            at, w = r * lanes + lane, r * down
            y0, y1 = load_wide(y, at), load_wide(y, at + lanes)
            y2, y3 = load_wide(y, at + 2 * lanes), load_wide(y, at + 3 * lanes)
            for c in range(columns):
                value = load_wide(x, c * lanes + lane)
                y0 = fma(splat_wide(weights[w]), value, y0)
                y1 = fma(splat_wide(weights[w + down]), value, y1)
                y2 = fma(splat_wide(weights[w + 2 * down]), value, y2)
                y3 = fma(splat_wide(weights[w + 3 * down]), value, y3)
                w += across
            store(y, at, y0)
            store(y, at + lanes, y1)
            store(y, at + 2 * lanes, y2)
            store(y, at + 3 * lanes, y3)
    for lane in range(pairs, lanes, WIDTH):  # at most once: the same for sixteen lanes
        for r in range(0, fours, 4):
            at, w = r * lanes + lane, r * down
            z0, z1, z2, z3 = load(y, at), load(y, at + lanes), load(y, at + 2 * lanes), load(y, at + 3 * lanes)
            for c in range(columns):
                term = load(x, c * lanes + lane)
                z0 = fma(splat(weights[w]), term, z0)
                z1 = fma(splat(weights[w + down]), term, z1)
                z2 = fma(splat(weights[w + 2 * down]), term, z2)
                z3 = fma(splat(weights[w + 3 * down]), term, z3)
                w += across
            store(y, at, z0)
            store(y, at + lanes, z1)
            store(y, at + 2 * lanes, z2)
            store(y, at + 3 * lanes, z3)
    for lane in range(0, lanes, WIDTH):
        for r in range(fours, rows):
            last = load(y, r * lanes + lane)
            for c in range(columns):
                last = fma(splat(weights[r * down + c * across]), load(x, c * lanes + lane), last)
            store(y, r * lanes + lane, last)


@compiled
def add_row(y: Any, to: int, x: Any, source: int, weight: Any, lanes: int) -> None:
    """Add weight · x to y, one row."""
    for lane in range(0, lanes, WIDTH):
        store(y, to + lane, fma(splat(weight), load(x, source + lane), load(y, to + lane)))


@compiled
def copy_row(y: Any, to: int, x: Any, source: int, lanes: int) -> None:
    """Copy one row."""
    for lane in range(0, lanes, WIDTH):
        store(y, to + lane, load(x, source + lane))


@compiled
def row_and_weight(y: Any, x: Any, at: int, weight: Any, adds: bool, lanes: int) -> None:
    """Set y to x + weight or to x · weight, one row."""
    kind = y.dtype.type
    factor = kind(1) if adds else weight
    term = weight if adds else kind(0)
    for lane in range(0, lanes, WIDTH):
        store(y, at + lane, fma(splat(factor), load(x, at + lane), splat(term)))


@compiled
def add(y: Any, x: Any, factor: Any) -> None:
    """Add factor · x to y."""
    for j in range(y.size):
        y[j] += factor * x[j]


@compiled
def combine(what: int, y: Any, x: Any, z: Any) -> None:
    """Set y to x + z, x − z or x · z."""
    if what == MULTIPLY:
        for j in range(y.size):
            y[j] = x[j] * z[j]
    elif what == ADD:
        for j in range(y.size):
            y[j] = x[j] + z[j]
    else:
        for j in range(y.size):
            y[j] = x[j] - z[j]


@compiled
def combine_back(what: int, x: Any, z: Any, dy: Any, dx: Any, dz: Any) -> None:
    """Add the gradients of `combine` to those of x and z, which may be the same rows."""
    if what == MULTIPLY:
        for j in range(dy.size):
            dx[j] += dy[j] * z[j]
        for j in range(dy.size):
            dz[j] += dy[j] * x[j]
    else:
        sign = dy.dtype.type(1 if what == ADD else -1)
        add(dx, dy, dy.dtype.type(1))
        add(dz, dy, sign)


@compiled
def combine_one(what: int, y: Any, x: Any, z: Any, rows: int, lane: int, lanes: int) -> None:
    """As `combine` in sixteen lanes, every row of x with the same z."""
    one = splat(y.dtype.type(-1 if what == SUBTRACT else 1))
    for at in range(lane, rows * lanes, lanes):
        if what == MULTIPLY:
            store(y, at, fma(load(x, at), z, splat(y.dtype.type(0))))
        else:
            store(y, at, fma(z, one, load(x, at)))


@compiled
def combine_one_back(what: int, x: Any, z: Any, dy: Any, dx: Any, dz: Any, rows: int, lane: int, lanes: int) -> Any:
    """Add the gradients of `combine_one` to dx and return dz with its own."""
    one = splat(dy.dtype.type(1))
    sign = splat(dy.dtype.type(-1 if what == SUBTRACT else 1))
    for at in range(lane, rows * lanes, lanes):
        slope = load(dy, at)
        if what == MULTIPLY:
            dz = fma(slope, load(x, at), dz)
            store(dx, at, fma(slope, z, load(dx, at)))
        else:
            dz = fma(slope, sign, dz)
            store(dx, at, fma(slope, one, load(dx, at)))
    return dz


@compiled
def product(x: Any, at: int, y: Any, to: int, lanes: int) -> Any:
    """Σ over lanes of one row of x times one row of y."""
    acc = splat(x.dtype.type(0))
    for lane in range(0, lanes, WIDTH):
        acc = fma(load(x, at + lane), load(y, to + lane), acc)
    return total(acc)


@compiled
def turn(turned: Any, x: Any, rows: int, columns: int, lanes: int) -> None:
    """Transpose the rows of x: turned[lane · columns + r] = x[r · lanes + lane], 0 for r from `rows` on."""
    for lane in range(lanes):
        for r in range(rows):
            turned[lane * columns + r] = x[r * lanes + lane]
        for r in range(rows, columns):
            turned[lane * columns + r] = 0
