"""The LTC sequence on the CPU, backward: from the stored voltages of each step, its substeps are computed again.

Going backwards, a step (1) recomputes its substeps, keeping openings and voltages in scratch memory, and (2) carries
the gradient through them, adding up for every synapse over samples, steps and substeps, with g_n and g_d the gradients
of its target's numerator and denominator, x the source's voltage, s the opening and z = sigma · (x − mu):

    Σ g_n s      Σ g_d s      Σ g_z      Σ g_z (x − mu)

from which the parameters' gradients follow (`cpu.py`). The sums run in float32 lanes over one sequence of 16 samples
and in float64 beyond. See the README of this folder.
"""

from __future__ import annotations

from policies.kernels.cpu_forward import (
    FLOAT,
    LONG,
    gather_rows,
    map_inputs,
    prepare_step,
    reset_started,
    scatter_rows,
    sigmoid,
)
from policies.kernels.cpu_lanes import WIDTH, get, get_int, load, put, splat, store, total, use_wide_registers
from policies.kernels.cpu_layout import EREV, MU, NEURON, SIGMA, STEEPNESS, SYNAPSE, SYNAPSE_SUMS, WEIGHT, WEIGHT_EREV
from policies.kernels.jit import compiled, inlined


@inlined
def add_to(address, offset, value):
    """Add a row to the one in memory."""
    store(address, offset, load(address, offset) + value)


@compiled
def fill(address, rows, value):
    """Set rows to one value."""
    use_wide_registers()
    for k in range(rows):
        store(address, k * WIDTH, splat(value))


@compiled
def sensory_drive(
    neurons, sensory_starts, sensory_sources, sensory_pack, pack, u, c, openings, numerators, denominators
):
    """Recompute the sensory openings and, from them, what does not change over the substeps."""
    use_wide_registers()
    for j in range(neurons):
        numerator = splat(get(pack, j * NEURON + 1))
        denominator = load(c, j * WIDTH) + get(pack, j * NEURON)
        for s in range(get_int(sensory_starts, j), get_int(sensory_starts, j + 1)):
            synapse = sensory_pack + FLOAT * SYNAPSE * s
            x = load(u, get_int(sensory_sources, s) * WIDTH)
            opening = sigmoid(x, get(synapse, MU), get(synapse, STEEPNESS))
            store(openings, s * WIDTH, opening)
            denominator = denominator + opening * get(synapse, WEIGHT)
            numerator = numerator + opening * get(synapse, WEIGHT_EREV)
        store(numerators, j * WIDTH, numerator)
        store(denominators, j * WIDTH, denominator + 1e-8)


@compiled
def substep(neurons, target_starts, sources, recurrent_pack, c, numerators, denominators, v, v_next, inverse, openings):
    """Recompute one substep from v, keeping its openings and the inverse of its denominators."""
    use_wide_registers()
    for j in range(neurons):
        numerator = load(c, j * WIDTH) * load(v, j * WIDTH) + load(numerators, j * WIDTH)
        denominator = load(denominators, j * WIDTH)
        for s in range(get_int(target_starts, j), get_int(target_starts, j + 1)):
            synapse = recurrent_pack + FLOAT * SYNAPSE * s
            x = load(v, get_int(sources, s) * WIDTH)
            opening = sigmoid(x, get(synapse, MU), get(synapse, STEEPNESS))
            store(openings, s * WIDTH, opening)
            denominator = denominator + opening * get(synapse, WEIGHT)
            numerator = numerator + opening * get(synapse, WEIGHT_EREV)
        denominator = 1.0 / denominator
        store(inverse, j * WIDTH, denominator)
        store(v_next, j * WIDTH, numerator * denominator)


@compiled
def synapses_adjoint(begin, end, synapses, sources, x_rows, openings, g_n, g_d, g_x, sums):
    """Carry a target's gradients g_n, g_d (addresses of a row) through its synapses, to the rows g_x of the sources."""
    use_wide_registers()
    numerator, denominator = load(g_n, 0), load(g_d, 0)
    for s in range(begin, end):
        synapse = synapses + FLOAT * SYNAPSE * s
        source = get_int(sources, s) * WIDTH
        opening = load(openings, s * WIDTH)
        of_synapse = sums + FLOAT * WIDTH * SYNAPSE_SUMS * s
        g_a = numerator * get(synapse, EREV) + denominator
        g_z = g_a * get(synapse, WEIGHT) * (opening - opening * opening)
        add_to(of_synapse, 0, numerator * opening)
        add_to(of_synapse, WIDTH, denominator * opening)
        add_to(of_synapse, 2 * WIDTH, g_z)
        add_to(of_synapse, 3 * WIDTH, g_z * (load(x_rows, source) - get(synapse, MU)))
        add_to(g_x, source, g_z * get(synapse, SIGMA))


@compiled
def backward(
    first, last, steps, inputs, neurons, sensory, recurrent, motors, substeps,
    u_all, state, elapsed, starts, pack, structure, mapped, voltages,
    grad_voltages, grad_motors, grad_u, grad_state, grad_elapsed, scratch, sums, totals,
):  # fmt: skip
    """Carry the gradients of samples `first` to `last` back; arguments beyond those of `forward` are below.

    Args:
        first: as in `forward`, and so on to `mapped`; the addresses `state`, `elapsed` and `starts` may not be 0.
        last: .
        steps: .
        inputs: .
        neurons: .
        sensory: .
        recurrent: .
        motors: .
        substeps: .
        u_all: .
        state: .
        elapsed: .
        starts: .
        pack: .
        structure: .
        mapped: .
        voltages: address of `[B, T, N]`, what `forward` wrote.
        grad_voltages: address of `[B, T, N]`, gradient of the voltages; 0 for zeros.
        grad_motors: address of `[B, T, M]`, gradient of the motor voltages; 0 for zeros.
        grad_u: address of `[B, T, I]` to write, gradient of the inputs before the map; 0 when not wanted.
        grad_state: address of `[B, N]` to write.
        grad_elapsed: address of `[B, T]` to write.
        scratch: address of `cpu_layout.backward_rows` rows.
        sums: address of `cpu_layout.sum_rows` rows.
        totals: float64 array `[sum_rows]`, to which the sums over samples and steps are added.
    """
    use_wide_registers()
    row = FLOAT * WIDTH
    sensory_starts = structure
    sensory_sources = sensory_starts + LONG * (neurons + 1)
    target_starts = sensory_sources + LONG * sensory
    sources = target_starts + LONG * (neurons + 1)
    sensory_pack = pack + FLOAT * NEURON * neurons
    recurrent_pack = sensory_pack + FLOAT * SYNAPSE * sensory
    scale = recurrent_pack + FLOAT * SYNAPSE * recurrent
    u = scratch
    u_raw = u + row * inputs
    g_u = u_raw + row * inputs
    sensory_openings = g_u + row * inputs
    rate = sensory_openings + row * sensory
    c = rate + row
    numerators = c + row * neurons
    denominators = numerators + row * neurons
    g_v = denominators + row * neurons
    g_before = g_v + row * neurons
    g_n = g_before + row * neurons
    g_d = g_n + row * neurons
    sum_n = g_d + row * neurons
    sum_d = sum_n + row * neurons
    v = sum_d + row * neurons  # K + 1 times N rows
    inverse = v + row * neurons * (substeps + 1)  # K times N rows
    openings = inverse + row * neurons * substeps  # K times S_rec rows
    sensory_sums = sums + row * 3 * neurons
    recurrent_sums = sensory_sums + row * SYNAPSE_SUMS * sensory
    map_sums = recurrent_sums + row * SYNAPSE_SUMS * recurrent
    rows = 3 * neurons + SYNAPSE_SUMS * (sensory + recurrent) + 2 * inputs
    for b in range(first, last, WIDTH):
        count = min(WIDTH, last - b)
        fill(sums, rows, 0.0)
        fill(g_v, neurons, 0.0)
        for t in range(steps - 1, -1, -1):
            moment = b * steps + t
            # The gradient that reaches this step's voltages: from the later steps (g_v) and from outside.
            if grad_voltages != 0:
                gather_rows(grad_voltages + FLOAT * moment * neurons, steps * neurons, count, neurons, g_before)
                for j in range(neurons):
                    add_to(g_v, j * WIDTH, load(g_before, j * WIDTH))
            if grad_motors != 0:
                gather_rows(grad_motors + FLOAT * moment * motors, steps * motors, count, motors, g_before)
                for j in range(motors):
                    add_to(g_v, j * WIDTH, load(g_before, j * WIDTH))
            for lane in range(count, WIDTH):
                for j in range(neurons):
                    put(g_v, j * WIDTH + lane, 0.0)

            # Recompute the step.
            if t > 0:
                gather_rows(voltages + FLOAT * (moment - 1) * neurons, steps * neurons, count, neurons, v)
            else:
                gather_rows(state + FLOAT * b * neurons, neurons, count, neurons, v)
            reset_started(starts + moment, steps, count, neurons, v)
            gather_rows(u_all + FLOAT * moment * inputs, steps * inputs, count, inputs, u)
            if mapped:
                for i in range(inputs):
                    store(u_raw, i * WIDTH, load(u, i * WIDTH))
                map_inputs(inputs, scale, scale + FLOAT * inputs, u)
            prepare_step(elapsed + FLOAT * moment, steps, count, substeps, neurons, pack, rate)
            sensory_drive(
                neurons, sensory_starts, sensory_sources, sensory_pack, pack, u, c,
                sensory_openings, numerators, denominators,
            )  # fmt: skip
            for k in range(substeps):
                substep(
                    neurons, target_starts, sources, recurrent_pack, c, numerators, denominators,
                    v + row * neurons * k, v + row * neurons * (k + 1),
                    inverse + row * neurons * k, openings + row * recurrent * k,
                )  # fmt: skip

            # Go back through the substeps.
            fill(sum_n, 2 * neurons, 0.0)
            of_elapsed = splat(0.0)
            for k in range(substeps - 1, -1, -1):
                v_k = v + row * neurons * k
                for j in range(neurons):
                    here = j * WIDTH
                    numerator = load(g_v, here) * load(inverse, (k * neurons + j) * WIDTH)
                    denominator = 0.0 - numerator * load(v_k, (neurons + j) * WIDTH)
                    store(g_n, here, numerator)
                    store(g_d, here, denominator)
                    add_to(sum_n, here, numerator)
                    add_to(sum_d, here, denominator)
                    g_c = numerator * load(v_k, here) + denominator
                    of_elapsed = of_elapsed + g_c * load(c, here)
                    add_to(sums, (2 * neurons + j) * WIDTH, g_c * load(rate, 0))
                    store(g_before, here, numerator * load(c, here))
                for j in range(neurons):
                    begin, end = get_int(target_starts, j), get_int(target_starts, j + 1)
                    if begin < end:
                        synapses_adjoint(
                            begin, end, recurrent_pack, sources, v_k, openings + row * recurrent * k,
                            g_n + row * j, g_d + row * j, g_before, recurrent_sums,
                        )  # fmt: skip
                g_v, g_before = g_before, g_v

            # And to what is constant within the step.
            fill(g_u, inputs, 0.0)
            for j in range(neurons):
                add_to(sums, j * WIDTH, load(sum_n, j * WIDTH))
                add_to(sums, (neurons + j) * WIDTH, load(sum_d, j * WIDTH))
                begin, end = get_int(sensory_starts, j), get_int(sensory_starts, j + 1)
                if begin < end:
                    synapses_adjoint(
                        begin, end, sensory_pack, sensory_sources, u, sensory_openings,
                        sum_n + row * j, sum_d + row * j, g_u, sensory_sums,
                    )  # fmt: skip
            if mapped:
                for i in range(inputs):
                    here = i * WIDTH
                    add_to(map_sums, here, load(g_u, here) * load(u_raw, here))
                    add_to(map_sums, (inputs + i) * WIDTH, load(g_u, here))
                    store(g_u, here, load(g_u, here) * get(scale, i))
            if grad_u != 0:
                scatter_rows(g_u, grad_u + FLOAT * moment * inputs, steps * inputs, count, inputs)
            store(g_n, 0, of_elapsed * load(rate, 0) * (-1.0 / substeps))
            scatter_rows(g_n, grad_elapsed + FLOAT * moment, steps, count, 1)
            reset_started(starts + moment, steps, count, neurons, g_v)
        scatter_rows(g_v, grad_state + FLOAT * b * neurons, neurons, count, neurons)
        for k in range(rows):
            totals[k] += total(load(sums, k * WIDTH))
