"""Between the parameters as torch keeps them and the records that the CPU kernels read."""

from __future__ import annotations

import math

from policies.kernels.jit import compiled, inlined
from policies.kernels.ltc.cpu.forward import FLOAT
from policies.kernels.ltc.cpu.layout import (
    EREV,
    HEADER,
    MU,
    NEURON,
    OFFSET,
    SIGMA,
    SLOPE,
    STEEPNESS,
    SYNAPSE,
    SYNAPSE_SUMS,
    WEIGHT,
    WEIGHT_EREV,
)
from policies.kernels.simd import LARGEST, LOG2_E, get, get_int, put
from policies.limits import LEAST_ELAPSED, MOST_ELAPSED

TABLE = 13
"""Addresses in a table of parameters: the eleven of `Circuit`, in its order, then input_w and input_b or 0."""


@inlined
def positive(value, raw):
    """Return the effective value of a parameter that must be positive: as torch's softplus, in float64, when raw."""
    wide = float(value)
    if raw and wide <= 20.0:
        wide = math.log1p(math.exp(wide))
    return wide


@compiled
def pack_parameters(table, order, lists, neurons, sensory, recurrent, inputs, raw, pack):
    """Write the header and the records that `layout` describes.

    The header: a bound of all voltages that start within it, the largest |vleak| or |erev|; and 1 if with such voltages
    no recurrent synapse's exponent goes beyond LARGEST, so that it need not be clamped.

    Args:
        table: address of TABLE int64 addresses.
        order: address of the int64 orders, `Structure.order`.
        lists: address of the int64 synapse lists, `Structure.lists`.
        neurons: N.
        sensory: S_in.
        recurrent: S_rec.
        inputs: I.
        raw: whether gleak, cm, w and sensory_w have still to pass the softplus.
        pack: address of `Structure.pack_size` floats.
    """
    of_neurons = pack + FLOAT * HEADER
    bound = 0.0
    for j in range(neurons):
        gleak = positive(get(get_int(table, 0), j), raw)
        vleak = get(get_int(table, 1), j)
        put(of_neurons, NEURON * j, gleak)
        put(of_neurons, NEURON * j + 1, gleak * vleak)
        put(of_neurons, NEURON * j + 2, positive(get(get_int(table, 2), j), raw))
        put(of_neurons, NEURON * j + 3, vleak)
        bound = max(bound, abs(vleak))
    records = of_neurons + FLOAT * NEURON * neurons
    for s in range(sensory + recurrent):
        of = table + 8 * (3 if s < sensory else 7)
        k = get_int(order, s)
        record = records + FLOAT * SYNAPSE * s
        w, mu = positive(get(get_int(of, 0), k), raw), get(get_int(of, 1), k)
        sigma, erev = get(get_int(of, 2), k), get(get_int(of, 3), k)
        scale, offset = 1.0, 0.0
        if s < sensory:
            source = get_int(lists, neurons + 1 + s)
            scale = get(get_int(table, 11), source) if get_int(table, 11) else 1.0
            offset = get(get_int(table, 12), source) if get_int(table, 12) else 0.0
        put(record, STEEPNESS, -LOG2_E * sigma * scale)
        put(record, OFFSET, (offset - mu) * (-LOG2_E * sigma))
        put(record, WEIGHT, w)
        put(record, WEIGHT_EREV, w * erev)
        put(record, EREV, erev)
        put(record, SLOPE, sigma * scale)
        put(record, SIGMA, sigma)
        put(record, MU, mu)
        bound = max(bound, abs(erev))
    put(pack, 0, bound)
    bounded = 1.0
    for s in range(sensory, sensory + recurrent):
        record = records + FLOAT * SYNAPSE * s
        # A voltage may round to a little more than its bound. The comparison is such that a NaN counts as too large.
        if not (abs(get(record, STEEPNESS)) * bound + abs(get(record, OFFSET)) < 0.99 * LARGEST):
            bounded = 0.0
    put(pack, 1, bounded)
    scale = records + FLOAT * SYNAPSE * (sensory + recurrent)
    for i in range(inputs):
        put(scale, i, get(get_int(table, 11), i) if get_int(table, 11) else 1.0)
        put(scale, inputs + i, get(get_int(table, 12), i) if get_int(table, 12) else 0.0)


@inlined
def through_softplus(gradient, value, raw):
    """Return the gradient before the softplus, whose slope is 1 − exp(−value), when raw."""
    return -math.expm1(-float(value)) * gradient if raw else gradient


@compiled
def unpack_gradients(totals, pack, order, lists, neurons, sensory, recurrent, inputs, motors, raw, gradients):
    """Turn the sums of `backward` into the gradients of the parameters.

    Args:
        totals: float64 array of the sums.
        pack: address of the packed parameters.
        order: address of the int64 orders.
        lists: address of the int64 synapse lists.
        neurons: N.
        sensory: S_in.
        recurrent: S_rec.
        inputs: I.
        motors: M.
        raw: whether the parameters are stored before the softplus.
        gradients: address of floats to write: one parameter after the other, in the order of a table, then output_w
            and output_b.
    """
    of_neurons = pack + FLOAT * HEADER
    for j in range(neurons):
        record = of_neurons + FLOAT * NEURON * j
        gleak, cm, vleak = get(record, 0), get(record, 2), get(record, 3)
        put(gradients, j, through_softplus(vleak * totals[j] + totals[neurons + j], gleak, raw))
        put(gradients, neurons + j, gleak * totals[j])
        put(gradients, 2 * neurons + j, through_softplus(totals[2 * neurons + j], cm, raw))
    records = of_neurons + FLOAT * NEURON * neurons
    scales = records + FLOAT * SYNAPSE * (sensory + recurrent)
    of_maps = gradients + FLOAT * (3 * neurons + 4 * (sensory + recurrent))
    for i in range(2 * inputs):
        put(of_maps, i, 0.0)
    of, count = gradients + FLOAT * 3 * neurons, sensory
    for s in range(sensory + recurrent):
        if s == sensory:
            of, count = of + FLOAT * 4 * sensory, recurrent
        k = get_int(order, s)
        record = records + FLOAT * SYNAPSE * s
        at = 3 * neurons + SYNAPSE_SUMS * s
        of_z, of_zx = totals[at + 2], totals[at + 3]
        weight, sigma, mu = get(record, WEIGHT), get(record, SIGMA), get(record, MU)
        scale, offset = 1.0, 0.0
        if s < sensory:
            source = get_int(lists, neurons + 1 + s)
            scale, offset = get(scales, source), get(scales, inputs + source)
            put(of_maps, source, get(of_maps, source) + sigma * of_zx)
            put(of_maps, inputs + source, get(of_maps, inputs + source) + sigma * of_z)
        put(of, k, through_softplus(get(record, EREV) * totals[at] + totals[at + 1], weight, raw))
        put(of, count + k, -sigma * of_z)
        put(of, 2 * count + k, scale * of_zx + (offset - mu) * of_z)
        put(of, 3 * count + k, weight * totals[at])
    for m in range(2 * motors):
        put(of_maps, 2 * inputs + m, totals[3 * neurons + SYNAPSE_SUMS * (sensory + recurrent) + m])


@inlined
def copy_changed(source, target, count, changed):
    """Copy floats and return `changed`, or 1 if one of them was different (NaN counts as different)."""
    if source == 0:
        return changed
    differences = 0
    for k in range(count):
        value = get(source, k)
        differences += value != get(target, k)
        put(target, k, value)
    return 1 if differences else changed


def _refresh_pack(table, order, lists, neurons, sensory, recurrent, inputs, copy, pack):
    """Write the records again if a raw parameter differs from its copy; the copies are of the raw values.

    Comparing every number takes a fraction of a microsecond and cannot be fooled, unlike version counters, which
    `parameter.data` goes past.

    Args:
        table: address of TABLE int64 addresses of raw parameters.
        order: address of the int64 orders.
        lists: address of the int64 synapse lists.
        neurons: N.
        sensory: S_in.
        recurrent: S_rec.
        inputs: I.
        copy: address of `Structure.pack_size` floats, the raw values of the last time; NaN before the first.
        pack: address of the records that may be written again.
    """
    changed = 0
    for k in range(TABLE):
        count = neurons if k < 3 else sensory if k < 7 else recurrent if k < 11 else inputs
        changed = copy_changed(get_int(table, k), copy, count, changed)
        copy += FLOAT * count
    if changed:
        pack_parameters(table, order, lists, neurons, sensory, recurrent, inputs, True, pack)


# With the interpreter lock: two threads that call the same core must not write the records at once.
refresh_pack = compiled(_refresh_pack, nogil=False)


@compiled
def all_positive(values, count):
    """Return whether all floats are times between two frames: positive and finite, and such that quotients are."""
    wrong = 0
    for k in range(count):
        wrong += not (LEAST_ELAPSED <= get(values, k) <= MOST_ELAPSED)
    return wrong == 0
