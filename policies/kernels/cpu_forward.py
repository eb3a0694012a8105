"""The LTC sequence on the CPU, forward: sixteen samples side by side, all steps and substeps in one function.

Addresses are of float32 unless said otherwise; a row is 16 lanes, one a sample. The maths is that of `reference.py`,
the layout that of `cpu_layout.py`, and why it is arranged so stands in the README of this folder.
"""

from __future__ import annotations

from policies.kernels.cpu_lanes import (
    WIDTH,
    exp2,
    gather_tile,
    get,
    get_byte,
    get_int,
    load,
    put,
    scatter_tile,
    splat,
    store,
    use_wide_registers,
)
from policies.kernels.cpu_layout import MU, NEURON, STEEPNESS, SYNAPSE, WEIGHT, WEIGHT_EREV
from policies.kernels.jit import compiled, inlined

FLOAT = 4
LONG = 8


@inlined
def sigmoid(x, mu, steepness):
    """Return 1 / (1 + exp(−sigma · (x − mu))); `steepness` is −sigma · log2(e)."""
    return 1.0 / (1.0 + exp2((x - mu) * steepness))


@compiled
def gather_rows(source, stride, count, width, target):
    """Turn `count` samples of `width` numbers, `stride` apart, into `width` rows; missing samples copy the last."""
    use_wide_registers()
    done = 0
    while done + WIDTH <= width:
        gather_tile(source + FLOAT * done, stride, count, target + FLOAT * WIDTH * done)
        done += WIDTH
    for k in range(done, width):
        for lane in range(WIDTH):
            put(target, k * WIDTH + lane, get(source, min(lane, count - 1) * stride + k))


@compiled
def scatter_rows(source, target, stride, count, width):
    """Turn `width` rows into `count` samples of `width` numbers, `stride` apart."""
    use_wide_registers()
    done = 0
    while done + WIDTH <= width:
        scatter_tile(source + FLOAT * WIDTH * done, target + FLOAT * done, stride, count)
        done += WIDTH
    for k in range(done, width):
        for lane in range(count):
            put(target, lane * stride + k, get(source, k * WIDTH + lane))


@compiled
def reset_started(starts, stride, count, neurons, voltages):
    """Zero the voltages of the samples whose `starts` (bytes, `stride` apart) is set."""
    for lane in range(WIDTH):
        if get_byte(starts, min(lane, count - 1) * stride):
            for j in range(neurons):
                put(voltages, j * WIDTH + lane, 0.0)


@compiled
def map_inputs(inputs, scale, offset, u):
    """Put `u · scale + offset` in the place of every row of u."""
    use_wide_registers()
    for i in range(inputs):
        store(u, i * WIDTH, load(u, i * WIDTH) * get(scale, i) + get(offset, i))


@compiled
def prepare_step(elapsed, stride, count, substeps, neurons, pack, rate):
    """Write the rows `substeps / elapsed` and, after it, c_j = cm_j · substeps / elapsed of every neuron.

    Args:
        elapsed: address of the first sample's, `stride` apart; 0 stands for ones.
        stride: floats from sample to sample.
        count: samples.
        substeps: K.
        neurons: N.
        pack: address of the packed parameters.
        rate: address of 1 + N rows.
    """
    use_wide_registers()
    substeps_float = float(substeps)
    if elapsed == 0:
        store(rate, 0, splat(substeps_float))
    else:
        for lane in range(WIDTH):
            put(rate, lane, get(elapsed, min(lane, count - 1) * stride))
        store(rate, 0, substeps_float / load(rate, 0))
    for j in range(neurons):
        store(rate, (1 + j) * WIDTH, load(rate, 0) * get(pack, j * NEURON + 2))


@compiled
def forward(
    first, last, steps, inputs, neurons, sensory, recurrent, motors, substeps,
    u_all, state, elapsed, starts, pack, structure, mapped, output_w, output_b,
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
        mapped: whether the inputs pass the input map.
        output_w: address of `[M]`, factors of the motor voltages that are written; 0 for ones.
        output_b: address of `[M]`, added to them after that; 0 for zeros.
        voltages: address of `[B, T, N]` to write; 0 when not wanted.
        motor_voltages: address of `[B, T, M]` to write.
        final: address of `[B, N]` to write the last voltages to; 0 when not wanted.
        scratch: address of `cpu_layout.forward_rows` rows.
    """
    use_wide_registers()
    sensory_starts = structure
    sensory_sources = sensory_starts + LONG * (neurons + 1)
    target_starts = sensory_sources + LONG * sensory
    sources = target_starts + LONG * (neurons + 1)
    sensory_pack = pack + FLOAT * NEURON * neurons
    recurrent_pack = sensory_pack + FLOAT * SYNAPSE * sensory
    scale = recurrent_pack + FLOAT * SYNAPSE * recurrent
    row = FLOAT * WIDTH
    u = scratch
    rate = u + row * inputs
    c = rate + row
    numerators = c + row * neurons
    denominators = numerators + row * neurons
    v = denominators + row * neurons
    v_next = v + row * neurons
    for b in range(first, last, WIDTH):
        count = min(WIDTH, last - b)
        if state == 0:
            for j in range(neurons):
                store(v, j * WIDTH, splat(0.0))
        else:
            gather_rows(state + FLOAT * b * neurons, neurons, count, neurons, v)
        if elapsed == 0:
            prepare_step(0, steps, count, substeps, neurons, pack, rate)
        for t in range(steps):
            moment = b * steps + t
            gather_rows(u_all + FLOAT * moment * inputs, steps * inputs, count, inputs, u)
            if mapped:
                map_inputs(inputs, scale, scale + FLOAT * inputs, u)
            if starts != 0:
                reset_started(starts + moment, steps, count, neurons, v)
            if elapsed != 0:
                prepare_step(elapsed + FLOAT * moment, steps, count, substeps, neurons, pack, rate)
            for j in range(neurons):
                numerator = splat(get(pack, j * NEURON + 1))
                denominator = load(c, j * WIDTH) + get(pack, j * NEURON)
                for s in range(get_int(sensory_starts, j), get_int(sensory_starts, j + 1)):
                    synapse = sensory_pack + FLOAT * SYNAPSE * s
                    x = load(u, get_int(sensory_sources, s) * WIDTH)
                    opening = sigmoid(x, get(synapse, MU), get(synapse, STEEPNESS))
                    denominator = denominator + opening * get(synapse, WEIGHT)
                    numerator = numerator + opening * get(synapse, WEIGHT_EREV)
                denominator = denominator + 1e-8
                if get_int(target_starts, j) == get_int(target_starts, j + 1):
                    # No recurrent input: the denominator is the same in all substeps.
                    denominator = 1.0 / denominator
                store(numerators, j * WIDTH, numerator)
                store(denominators, j * WIDTH, denominator)
            for _ in range(substeps):
                for j in range(neurons):
                    numerator = load(c, j * WIDTH) * load(v, j * WIDTH) + load(numerators, j * WIDTH)
                    denominator = load(denominators, j * WIDTH)
                    begin, end = get_int(target_starts, j), get_int(target_starts, j + 1)
                    if begin == end:
                        store(v_next, j * WIDTH, numerator * denominator)
                    else:
                        for s in range(begin, end):
                            synapse = recurrent_pack + FLOAT * SYNAPSE * s
                            x = load(v, get_int(sources, s) * WIDTH)
                            opening = sigmoid(x, get(synapse, MU), get(synapse, STEEPNESS))
                            denominator = denominator + opening * get(synapse, WEIGHT)
                            numerator = numerator + opening * get(synapse, WEIGHT_EREV)
                        store(v_next, j * WIDTH, numerator / denominator)
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
