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
    is_bounded,
    map_inputs,
    prepare_step,
    reset_started,
    scatter_rows,
    sensory_drive,
    substep,
)
from policies.kernels.cpu_lanes import WIDTH, get, get_int, load, put, splat, store, total, use_wide_registers
from policies.kernels.cpu_layout import BLOCK, EREV, HEADER, MU, NEURON, SIGMA, SYNAPSE, SYNAPSE_SUMS, WEIGHT
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
def recurrent_adjoint(begin, end, synapses, sources, x, openings, g_n, g_d, g_x, sums):
    """Carry a target's gradients of one substep through its synapses.

    Args:
        begin: first synapse.
        end: synapse after the last.
        synapses: address of the records.
        sources: address of the int64 sources.
        x: address of the rows of the sources' voltages.
        openings: address of the rows of the openings.
        g_n: address of the row of the numerator's gradient.
        g_d: address of the row of the denominator's gradient.
        g_x: address of the rows of the sources' gradients, to which is added.
        sums: address of the rows of gradient sums, to which is added.
    """
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
        add_to(of_synapse, 3 * WIDTH, g_z * (load(x, source) - get(synapse, MU)))
        add_to(g_x, source, g_z * get(synapse, SIGMA))


@compiled
def sensory_adjoint(block, inputs, neurons, sensory, lists, synapses, u, openings, g_n, g_d, g_u, sums):
    """As `recurrent_adjoint`, for the sensory synapses of all targets and `block` steps; one step's rows after another.

    There are many sensory synapses, and their sums together do not fit into the nearest cache; so the steps are the
    inner loop, and the sums of a synapse stay in registers meanwhile.
    """
    use_wide_registers()
    for j in range(neurons):
        for s in range(get_int(lists, j), get_int(lists, j + 1)):
            synapse = synapses + FLOAT * SYNAPSE * s
            erev, weight, mu, sigma = get(synapse, EREV), get(synapse, WEIGHT), get(synapse, MU), get(synapse, SIGMA)
            source = get_int(lists, neurons + 1 + s)
            of_synapse = sums + FLOAT * WIDTH * SYNAPSE_SUMS * s
            sum_n, sum_d = load(of_synapse, 0), load(of_synapse, WIDTH)
            sum_z, sum_zx = load(of_synapse, 2 * WIDTH), load(of_synapse, 3 * WIDTH)
            for k in range(block):
                here = (k * inputs + source) * WIDTH
                numerator, denominator = load(g_n, (k * neurons + j) * WIDTH), load(g_d, (k * neurons + j) * WIDTH)
                opening = load(openings, (k * sensory + s) * WIDTH)
                g_z = (numerator * erev + denominator) * weight * (opening - opening * opening)
                sum_n = sum_n + numerator * opening
                sum_d = sum_d + denominator * opening
                sum_z = sum_z + g_z
                sum_zx = sum_zx + g_z * (load(u, here) - mu)
                add_to(g_u, here, g_z * sigma)
            store(of_synapse, 0, sum_n)
            store(of_synapse, WIDTH, sum_d)
            store(of_synapse, 2 * WIDTH, sum_z)
            store(of_synapse, 3 * WIDTH, sum_zx)


@compiled
def backward(
    first, last, steps, inputs, neurons, sensory, recurrent, motors, substeps,
    u_all, state, elapsed, starts, pack, structure, mapped, output_w, voltages,
    grad_voltages, grad_motors, grad_final, grad_u, grad_state, grad_elapsed, scratch, sums, totals,
):  # fmt: skip
    """Carry the gradients of samples `first` to `last` back; arguments beyond those of `forward` are below.

    Args:
        first: as in `forward`, and so on to `output_w`; the addresses `state`, `elapsed` and `starts` may not be 0.
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
        output_w: .
        voltages: address of `[B, T, N]`, what `forward` wrote.
        grad_voltages: address of `[B, T, N]`, gradient of the voltages; 0 for zeros.
        grad_motors: address of `[B, T, M]`, gradient of the mapped motor voltages; 0 for zeros.
        grad_final: address of `[B, N]`, gradient of the last voltages; 0 for zeros.
        grad_u: address of `[B, T, I]` to write, gradient of the inputs before the map; 0 when not wanted.
        grad_state: address of `[B, N]` to write.
        grad_elapsed: address of `[B, T]` to write.
        scratch: address of `Structure.backward_rows` rows.
        sums: address of `Structure.sum_rows` rows.
        totals: float64 array `[sum_rows]`, to which the sums over samples and steps are added.
    """
    use_wide_registers()
    row = FLOAT * WIDTH
    target_starts = structure + LONG * (neurons + 1 + sensory)
    sources = target_starts + LONG * (neurons + 1)
    neuron_pack = pack + FLOAT * HEADER
    sensory_pack = neuron_pack + FLOAT * NEURON * neurons
    recurrent_pack = sensory_pack + FLOAT * SYNAPSE * sensory
    scale = recurrent_pack + FLOAT * SYNAPSE * recurrent
    # Of every step of a block.
    u_block = scratch
    raw_block = u_block + row * BLOCK * inputs
    g_u_block = raw_block + row * BLOCK * inputs
    openings_block = g_u_block + row * BLOCK * inputs
    rate_block = openings_block + row * BLOCK * sensory  # substeps / elapsed, then c of all neurons
    numerators_block = rate_block + row * BLOCK * (1 + neurons)
    denominators_block = numerators_block + row * BLOCK * neurons
    g_n_block = denominators_block + row * BLOCK * neurons
    g_d_block = g_n_block + row * BLOCK * neurons
    # Of one step.
    g_v = g_d_block + row * BLOCK * neurons
    g_before = g_v + row * neurons
    g_n = g_before + row * neurons
    g_d = g_n + row * neurons
    g_out = g_d + row * neurons
    v = g_out + row * motors  # K + 1 times N rows
    inverses = v + row * neurons * (substeps + 1)  # K times N rows
    openings = inverses + row * neurons * substeps  # K times S_rec rows
    recurrent_sums = sums + row * (3 * neurons + SYNAPSE_SUMS * sensory)
    map_sums = recurrent_sums + row * SYNAPSE_SUMS * recurrent
    output_sums = map_sums + row * 2 * inputs
    rows = 3 * neurons + SYNAPSE_SUMS * (sensory + recurrent) + 2 * inputs + 2 * motors
    for b in range(first, last, WIDTH):
        count = min(WIDTH, last - b)
        fill(sums, rows, 0.0)
        if grad_final == 0:
            fill(g_v, neurons, 0.0)
        else:
            gather_rows(grad_final + FLOAT * b * neurons, neurons, count, neurons, g_v)
        gather_rows(state + FLOAT * b * neurons, neurons, count, neurons, v)
        bounded = is_bounded(pack, neurons, v)
        block_end = steps
        while block_end > 0:
            block_start = max(0, block_end - BLOCK)
            for t in range(block_start, block_end):
                k, moment = t - block_start, b * steps + t
                u, rate = u_block + row * inputs * k, rate_block + row * (1 + neurons) * k
                gather_rows(u_all + FLOAT * moment * inputs, steps * inputs, count, inputs, u)
                if mapped:
                    for i in range(inputs):
                        store(raw_block + row * inputs * k, i * WIDTH, load(u, i * WIDTH))
                    map_inputs(inputs, scale, scale + FLOAT * inputs, u)
                prepare_step(elapsed + FLOAT * moment, steps, count, substeps, neurons, neuron_pack, rate)
                sensory_drive(
                    neurons, structure, sensory, sensory_pack, neuron_pack, u, rate + row,
                    openings_block + row * sensory * k,
                    numerators_block + row * neurons * k, denominators_block + row * neurons * k,
                )  # fmt: skip
            for t in range(block_end - 1, block_start - 1, -1):
                k, moment = t - block_start, b * steps + t
                rate, c = rate_block + row * (1 + neurons) * k, rate_block + row * ((1 + neurons) * k + 1)
                sum_n, sum_d = g_n_block + row * neurons * k, g_d_block + row * neurons * k
                # The gradient that reaches this step's voltages: from the later steps (g_v) and from outside.
                if grad_voltages != 0:
                    gather_rows(grad_voltages + FLOAT * moment * neurons, steps * neurons, count, neurons, g_before)
                    for j in range(neurons):
                        add_to(g_v, j * WIDTH, load(g_before, j * WIDTH))
                if grad_motors != 0:
                    gather_rows(grad_motors + FLOAT * moment * motors, steps * motors, count, motors, g_out)
                    for m in range(motors):
                        factor = 1.0 if output_w == 0 else get(output_w, m)
                        add_to(g_v, m * WIDTH, load(g_out, m * WIDTH) * factor)
                for lane in range(count, WIDTH):
                    for j in range(neurons):
                        put(g_v, j * WIDTH + lane, 0.0)
                    for m in range(motors):
                        put(g_out, m * WIDTH + lane, 0.0)
                # Recompute the substeps.
                if t > 0:
                    gather_rows(voltages + FLOAT * (moment - 1) * neurons, steps * neurons, count, neurons, v)
                else:
                    gather_rows(state + FLOAT * b * neurons, neurons, count, neurons, v)
                reset_started(starts + moment, steps, count, neurons, v)
                for i in range(substeps):
                    substep(
                        neurons, target_starts, sources, recurrent_pack, c,
                        numerators_block + row * neurons * k, denominators_block + row * neurons * k,
                        v + row * neurons * i, v + row * neurons * (i + 1),
                        inverses + row * neurons * i, openings + row * recurrent * i, bounded,
                    )  # fmt: skip
                if output_w != 0 and grad_motors != 0:
                    v_last = v + row * neurons * substeps
                    for m in range(motors):
                        add_to(output_sums, m * WIDTH, load(g_out, m * WIDTH) * load(v_last, m * WIDTH))
                if grad_motors != 0:
                    for m in range(motors):
                        add_to(output_sums, (motors + m) * WIDTH, load(g_out, m * WIDTH))
                # Go back through them.
                fill(sum_n, neurons, 0.0)
                fill(sum_d, neurons, 0.0)
                of_elapsed = splat(0.0)
                for i in range(substeps - 1, -1, -1):
                    v_i = v + row * neurons * i
                    for j in range(neurons):
                        here = j * WIDTH
                        numerator = load(g_v, here) * load(inverses, (i * neurons + j) * WIDTH)
                        denominator = 0.0 - numerator * load(v_i, (neurons + j) * WIDTH)
                        store(g_n, here, numerator)
                        store(g_d, here, denominator)
                        add_to(sum_n, here, numerator)
                        add_to(sum_d, here, denominator)
                        g_c = numerator * load(v_i, here) + denominator
                        of_elapsed = of_elapsed + g_c * load(c, here)
                        add_to(sums, (2 * neurons + j) * WIDTH, g_c * load(rate, 0))
                        store(g_before, here, numerator * load(c, here))
                    for j in range(neurons):
                        begin, end = get_int(target_starts, j), get_int(target_starts, j + 1)
                        if begin < end:
                            recurrent_adjoint(
                                begin, end, recurrent_pack, sources, v_i, openings + row * recurrent * i,
                                g_n + row * j, g_d + row * j, g_before, recurrent_sums,
                            )  # fmt: skip
                    g_v, g_before = g_before, g_v
                for j in range(neurons):
                    add_to(sums, j * WIDTH, load(sum_n, j * WIDTH))
                    add_to(sums, (neurons + j) * WIDTH, load(sum_d, j * WIDTH))
                store(g_n, 0, of_elapsed * load(rate, 0) * (-1.0 / substeps))
                scatter_rows(g_n, grad_elapsed + FLOAT * moment, steps, count, 1)
                reset_started(starts + moment, steps, count, neurons, g_v)
            block = block_end - block_start
            fill(g_u_block, block * inputs, 0.0)
            sensory_adjoint(
                block, inputs, neurons, sensory, structure, sensory_pack, u_block, openings_block,
                g_n_block, g_d_block, g_u_block, sums + row * 3 * neurons,
            )  # fmt: skip
            for t in range(block_start, block_end):
                k = t - block_start
                g_u = g_u_block + row * inputs * k
                if mapped:
                    for i in range(inputs):
                        here = i * WIDTH
                        add_to(map_sums, here, load(g_u, here) * load(raw_block, (k * inputs + i) * WIDTH))
                        add_to(map_sums, (inputs + i) * WIDTH, load(g_u, here))
                        store(g_u, here, load(g_u, here) * get(scale, i))
                if grad_u != 0:
                    scatter_rows(g_u, grad_u + FLOAT * (b * steps + t) * inputs, steps * inputs, count, inputs)
            block_end = block_start
        scatter_rows(g_v, grad_state + FLOAT * b * neurons, neurons, count, neurons)
        for k in range(rows):
            totals[k] += total(load(sums, k * WIDTH))
