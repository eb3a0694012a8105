"""The LTC sequence on the CPU, forward: sixteen samples side by side, all steps and substeps in one function.

Addresses are of float32 unless said otherwise; a row is 16 floats, one a sample. The maths is that of `reference.py`,
the layout that of `layout.py`, and why it is arranged so stands in the README two folders up.
"""

from __future__ import annotations

import numpy as np

from policies.kernels.jit import compiled, inlined
from policies.kernels.ltc.cpu.layout import HEADER, NEURON, OFFSET, STEEPNESS, SYNAPSE, WEIGHT, WEIGHT_EREV
from policies.kernels.simd import (
    WIDTH,
    clamp,
    gather_square,
    get,
    get_byte,
    get_int,
    load,
    one_plus_exp2,
    put,
    scatter_square,
    splat,
    store,
    use_wide_registers,
)

FLOAT = 4
LONG = 8
ZERO = np.float32(0)


@inlined
def drive(begin, end, synapses, sources, x, openings, numerator, denominator, bounded):
    """Add a target's synapses `begin` to `end` to the rows of its numerator and denominator.

    Two synapses share a division: 1/a = b · (1/ab) and 1/b = a · (1/ab).

    Args:
        begin: first synapse.
        end: synapse after the last.
        synapses: address of the records.
        sources: address of the int64 sources.
        x: address of the rows of the sources' voltages.
        openings: address of the rows to keep the openings in; 0 when they are not wanted.
        numerator: address of a row.
        denominator: address of a row.
        bounded: whether no exponent can be beyond ±LARGEST, so that clamping is not needed.
    """
    use_wide_registers()
    top, bottom = load(numerator, 0), load(denominator, 0)
    s = begin
    while s + 1 < end:
        first = synapses + FLOAT * SYNAPSE * s
        second = first + FLOAT * SYNAPSE
        z = load(x, get_int(sources, s) * WIDTH) * get(first, STEEPNESS) + get(first, OFFSET)
        z2 = load(x, get_int(sources, s + 1) * WIDTH) * get(second, STEEPNESS) + get(second, OFFSET)
        if not bounded:
            z, z2 = clamp(z), clamp(z2)
        a, b = one_plus_exp2(z), one_plus_exp2(z2)
        inverse = 1.0 / (a * b)
        opening, opening2 = inverse * b, inverse * a
        if openings != 0:
            store(openings, s * WIDTH, opening)
            store(openings, (s + 1) * WIDTH, opening2)
        bottom = bottom + opening * get(first, WEIGHT)
        top = top + opening * get(first, WEIGHT_EREV)
        bottom = bottom + opening2 * get(second, WEIGHT)
        top = top + opening2 * get(second, WEIGHT_EREV)
        s += 2
    if s < end:
        first = synapses + FLOAT * SYNAPSE * s
        z = clamp(load(x, get_int(sources, s) * WIDTH) * get(first, STEEPNESS) + get(first, OFFSET))
        opening = 1.0 / one_plus_exp2(z)
        if openings != 0:
            store(openings, s * WIDTH, opening)
        bottom = bottom + opening * get(first, WEIGHT)
        top = top + opening * get(first, WEIGHT_EREV)
    store(numerator, 0, top)
    store(denominator, 0, bottom)


@compiled
def sensory_drive(neurons, lists, sensory, synapses, neuron_pack, u, c, openings, numerators, denominators):
    """Write the rows of what does not change over the substeps: leak, capacitance and sensory synapses.

    Args:
        neurons: N.
        lists: address of the int64 synapse lists.
        sensory: S_in.
        synapses: address of the sensory records.
        neuron_pack: address of the neurons' records.
        u: address of the rows of the inputs.
        c: address of the rows of cm · K / elapsed.
        openings: as in `drive`.
        numerators: address of N rows.
        denominators: address of N rows; the inverse of the denominator for a neuron without recurrent synapses,
            for which it is the same in all substeps.
    """
    use_wide_registers()
    target_starts = lists + LONG * (neurons + 1 + sensory)
    for j in range(neurons):
        numerator, denominator = numerators + FLOAT * WIDTH * j, denominators + FLOAT * WIDTH * j
        store(numerator, 0, splat(get(neuron_pack, j * NEURON + 1)))
        store(denominator, 0, load(c, j * WIDTH) + (get(neuron_pack, j * NEURON) + 1e-8))
        begin, end = get_int(lists, j), get_int(lists, j + 1)
        if begin < end:
            drive(begin, end, synapses, lists + LONG * (neurons + 1), u, openings, numerator, denominator, False)
        if get_int(target_starts, j) == get_int(target_starts, j + 1):
            store(denominator, 0, 1.0 / load(denominator, 0))


@compiled
def substep(
    neurons, target_starts, sources, synapses, c, numerators, denominators, v, v_next, inverses, openings, bounded
):
    """Advance all voltages by one substep.

    Args:
        neurons: N.
        target_starts: address of the int64 offsets of the recurrent synapses.
        sources: address of their int64 sources.
        synapses: address of their records.
        c: as in `sensory_drive`.
        numerators: what `sensory_drive` wrote.
        denominators: what `sensory_drive` wrote.
        v: address of N rows, the voltages before.
        v_next: address of N rows, the voltages after.
        inverses: address of N rows to write the inverse denominators to.
        openings: as in `drive`.
        bounded: as in `drive`.
    """
    use_wide_registers()
    for j in range(neurons):
        here = j * WIDTH
        numerator = load(c, here) * load(v, here) + load(numerators, here)
        begin, end = get_int(target_starts, j), get_int(target_starts, j + 1)
        if begin == end:
            store(inverses, here, load(denominators, here))
            store(v_next, here, numerator * load(denominators, here))
        else:
            store(v_next, here, numerator)
            store(inverses, here, load(denominators, here))
            at = FLOAT * here
            drive(begin, end, synapses, sources, v, openings, v_next + at, inverses + at, bounded)
            inverse = 1.0 / load(inverses, here)
            store(inverses, here, inverse)
            store(v_next, here, load(v_next, here) * inverse)


@compiled
def is_bounded(pack, neurons, v):
    """Return whether all voltages lie within the bound that the header of the pack gives for unclamped exponents."""
    low, high = -get(pack, 0), get(pack, 0)
    for k in range(neurons * WIDTH):
        if not (low <= get(v, k) <= high):
            return False
    return get(pack, 1) != 0.0


@compiled
def gather_rows(source, stride, count, width, target):
    """Turn `count` samples of `width` numbers, `stride` apart, into `width` rows; missing samples copy the last."""
    use_wide_registers()
    done = 0
    while done + WIDTH <= width:
        gather_square(source + FLOAT * done, stride, count, target + FLOAT * WIDTH * done)
        done += WIDTH
    for k in range(done, width):
        for sample in range(WIDTH):
            put(target, k * WIDTH + sample, get(source, min(sample, count - 1) * stride + k))


@compiled
def scatter_rows(source, target, stride, count, width):
    """Turn `width` rows into `count` samples of `width` numbers, `stride` apart."""
    use_wide_registers()
    done = 0
    while done + WIDTH <= width:
        scatter_square(source + FLOAT * WIDTH * done, target + FLOAT * done, stride, count)
        done += WIDTH
    for k in range(done, width):
        for sample in range(count):
            put(target, sample * stride + k, get(source, k * WIDTH + sample))


@compiled
def reset_started(starts, stride, count, neurons, voltages):
    """Zero the voltages of the samples whose `starts` (bytes, `stride` apart) is set."""
    for sample in range(WIDTH):
        if get_byte(starts, min(sample, count - 1) * stride):
            for j in range(neurons):
                put(voltages, j * WIDTH + sample, 0.0)


@compiled
def prepare_step(elapsed, stride, count, substeps, neurons, neuron_pack, rate):
    """Write the rows `substeps / elapsed` and, after it, c_j = cm_j · substeps / elapsed of every neuron.

    Args:
        elapsed: address of the first sample's, `stride` apart; 0 stands for ones.
        stride: floats from sample to sample.
        count: samples.
        substeps: K.
        neurons: N.
        neuron_pack: address of the neurons' records.
        rate: address of 1 + N rows.
    """
    use_wide_registers()
    substeps_float = np.float32(substeps)
    if elapsed == 0:
        store(rate, 0, splat(substeps_float))
    else:
        for sample in range(WIDTH):
            put(rate, sample, get(elapsed, min(sample, count - 1) * stride))
        store(rate, 0, substeps_float / load(rate, 0))
    for j in range(neurons):
        store(rate, (1 + j) * WIDTH, load(rate, 0) * get(neuron_pack, j * NEURON + 2))


@compiled
def forward(
    first, last, steps, inputs, neurons, sensory, recurrent, motors, substeps,
    u_all, state, elapsed, starts, pack, structure, output_w, output_b,
    voltages, motor_voltages, final, scratch,
):  # fmt: skip
    """Run samples `first` to `last`.

    Args:
        first: first sample, a multiple of 16.
        last: sample after the last.
        steps: T.
        inputs: I.
        neurons: N.
        sensory: S_in.
        recurrent: S_rec.
        motors: M.
        substeps: K.
        u_all: address of inputs `[B, T, I]`.
        state: address of `[B, N]`; 0 for zeros.
        elapsed: address of `[B, T]`; 0 for ones.
        starts: address of bool `[B, T]`; 0 for none.
        pack: address of the packed parameters.
        structure: address of the int64 synapse lists.
        output_w: address of `[M]`, factors of the motor voltages that are written; 0 for ones.
        output_b: address of `[M]`, added to them after that; 0 for zeros.
        voltages: address of `[B, T, N]` to write; 0 when not wanted.
        motor_voltages: address of `[B, T, M]` to write.
        final: address of `[B, N]` to write the last voltages to; 0 when not wanted.
        scratch: address of `layout.forward_rows` rows.
    """
    use_wide_registers()
    target_starts = structure + LONG * (neurons + 1 + sensory)
    sources = target_starts + LONG * (neurons + 1)
    neuron_pack = pack + FLOAT * HEADER
    sensory_pack = neuron_pack + FLOAT * NEURON * neurons
    recurrent_pack = sensory_pack + FLOAT * SYNAPSE * sensory
    row = FLOAT * WIDTH
    u = scratch
    rate = u + row * inputs
    c = rate + row
    numerators = c + row * neurons
    denominators = numerators + row * neurons
    inverses = denominators + row * neurons
    v = inverses + row * neurons
    v_next = v + row * neurons
    for b in range(first, last, WIDTH):
        count = min(WIDTH, last - b)
        if state == 0:
            for j in range(neurons):
                store(v, j * WIDTH, splat(ZERO))
        else:
            gather_rows(state + FLOAT * b * neurons, neurons, count, neurons, v)
        bounded = is_bounded(pack, neurons, v)
        if elapsed == 0:
            prepare_step(0, steps, count, substeps, neurons, neuron_pack, rate)
        for t in range(steps):
            moment = b * steps + t
            gather_rows(u_all + FLOAT * moment * inputs, steps * inputs, count, inputs, u)
            if starts != 0:
                reset_started(starts + moment, steps, count, neurons, v)
            if elapsed != 0:
                prepare_step(elapsed + FLOAT * moment, steps, count, substeps, neurons, neuron_pack, rate)
            sensory_drive(neurons, structure, sensory, sensory_pack, neuron_pack, u, c, 0, numerators, denominators)
            for _ in range(substeps):
                substep(
                    neurons, target_starts, sources, recurrent_pack, c, numerators, denominators,
                    v, v_next, inverses, 0, bounded,
                )  # fmt: skip
                v, v_next = v_next, v
            for m in range(motors):
                out = load(v, m * WIDTH)
                if output_w != 0:
                    out = out * get(output_w, m)
                if output_b != 0:
                    out = out + get(output_b, m)
                store(v_next, m * WIDTH, out)
            scatter_rows(v_next, motor_voltages + FLOAT * moment * motors, steps * motors, count, motors)
            if voltages != 0:
                scatter_rows(v, voltages + FLOAT * moment * neurons, steps * neurons, count, neurons)
        if final != 0:
            scatter_rows(v, final + FLOAT * b * neurons, neurons, count, neurons)
