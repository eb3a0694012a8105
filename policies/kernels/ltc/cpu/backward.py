"""The LTC sequence on the CPU, backward: from the stored voltages of each step, its substeps are computed again.

Going backwards, a step (1) recomputes its substeps, keeping openings and voltages in scratch memory, and (2) carries
the gradient through them, adding up for every synapse over samples, steps and substeps, with g_n and g_d the gradients
of its target's numerator and denominator, x the source's voltage, s the opening and z = sigma · (x − mu):

    Σ g_n s      Σ g_d s      Σ g_z      Σ g_z x

from which the parameters' gradients follow (`packing.unpack_gradients`). The sums run in float32 over one sequence of
16 samples and in float64 beyond. See the README two folders up.
"""

from __future__ import annotations

from policies.kernels.jit import compiled, inlined
from policies.kernels.ltc.cpu.forward import (
    FLOAT,
    LONG,
    ZERO,
    gather_rows,
    is_bounded,
    prepare_step,
    reset_started,
    scatter_rows,
    sensory_drive,
    substep,
)
from policies.kernels.ltc.cpu.layout import BLOCK, EREV, HEADER, NEURON, SLOPE, SYNAPSE, SYNAPSE_SUMS, WEIGHT
from policies.kernels.simd import WIDTH, get, get_int, load, put, splat, store, total, use_wide_registers


@inlined
def add_to(address, offset, value):
    """Add a row to the one in memory."""
    store(address, offset, load(address, offset) + value)


@compiled
def fill(address, rows, value):
    """Set rows to one float32 value."""
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
        add_to(of_synapse, 3 * WIDTH, g_z * load(x, source))
        add_to(g_x, source, g_z * get(synapse, SLOPE))


@compiled
def sensory_adjoint(block, inputs, neurons, sensory, lists, synapses, u, openings, g_n, g_d, g_u, sums):
    """As `recurrent_adjoint`, for the sensory synapses of all targets and `block` steps; one step's rows after another.

    There are many sensory synapses, and their sums together do not fit into the nearest cache; so the steps are the
    inner loop, and the sums of a synapse stay in registers meanwhile. `g_u` is 0 when it is not wanted.
    """
    use_wide_registers()
    for j in range(neurons):
        for s in range(get_int(lists, j), get_int(lists, j + 1)):
            synapse = synapses + FLOAT * SYNAPSE * s
            erev, weight, slope = get(synapse, EREV), get(synapse, WEIGHT), get(synapse, SLOPE)
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
                sum_zx = sum_zx + g_z * load(u, here)
                if g_u != 0:
                    add_to(g_u, here, g_z * slope)
            store(of_synapse, 0, sum_n)
            store(of_synapse, WIDTH, sum_d)
            store(of_synapse, 2 * WIDTH, sum_z)
            store(of_synapse, 3 * WIDTH, sum_zx)


@compiled
def backward(  # noqa: D417 - the rest are those of `forward`
    first, last, steps, inputs, neurons, sensory, recurrent, motors, substeps,
    u_all, state, elapsed, starts, pack, structure, output_w, voltages,
    grad_voltages, grad_motors, grad_final, grad_u, grad_state, grad_elapsed, scratch, sums, totals,
):  # fmt: skip
    """Carry the gradients of samples `first` to `last` back.

    The arguments up to `output_w` are those of `forward`, save that the addresses `state`, `elapsed` and `starts` may
    not be 0.

    Args:
        voltages: address of `[B, T, N]`, what `forward` wrote.
        grad_voltages: address of `[B, T, N]`, gradient of the voltages; 0 for zeros.
        grad_motors: address of `[B, T, M]`, gradient of the mapped motor voltages; 0 for zeros.
        grad_final: address of `[B, N]`, gradient of the last voltages; 0 for zeros.
        grad_u: address of `[B, T, I]` to write, gradient of the inputs; 0 when not wanted.
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
    # Of every step of a block.
    u_block = scratch
    g_u_block = u_block + row * BLOCK * inputs
    openings_block = g_u_block + row * BLOCK * inputs
    rate_block = openings_block + row * BLOCK * sensory  # substeps / elapsed, then c of all neurons
    numerators_block = rate_block + row * BLOCK * (1 + neurons)
    denominators_block = numerators_block + row * BLOCK * neurons
    sum_n_block = denominators_block + row * BLOCK * neurons
    sum_d_block = sum_n_block + row * BLOCK * neurons
    # Of one step, of every substep.
    g_n = sum_d_block + row * BLOCK * neurons
    g_d = g_n + row * neurons * substeps
    inverses = g_d + row * neurons * substeps
    openings = inverses + row * neurons * substeps
    v = openings + row * recurrent * substeps  # K + 1 times N rows
    # Of one step.
    g_v = v + row * neurons * (substeps + 1)
    g_before = g_v + row * neurons
    g_out = g_before + row * neurons
    recurrent_sums = sums + row * (3 * neurons + SYNAPSE_SUMS * sensory)
    output_sums = recurrent_sums + row * SYNAPSE_SUMS * recurrent
    rows = 3 * neurons + SYNAPSE_SUMS * (sensory + recurrent) + 2 * motors
    for b in range(first, last, WIDTH):
        count = min(WIDTH, last - b)
        fill(sums, rows, ZERO)
        if grad_final == 0:
            fill(g_v, neurons, ZERO)
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
                prepare_step(elapsed + FLOAT * moment, steps, count, substeps, neurons, neuron_pack, rate)
                sensory_drive(
                    neurons, structure, sensory, sensory_pack, neuron_pack, u, rate + row,
                    openings_block + row * sensory * k,
                    numerators_block + row * neurons * k, denominators_block + row * neurons * k,
                )  # fmt: skip
            for t in range(block_end - 1, block_start - 1, -1):
                k, moment = t - block_start, b * steps + t
                rate, c = rate_block + row * (1 + neurons) * k, rate_block + row * ((1 + neurons) * k + 1)
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
                for sample in range(count, WIDTH):
                    for j in range(neurons):
                        put(g_v, j * WIDTH + sample, 0.0)
                    for m in range(motors):
                        put(g_out, m * WIDTH + sample, 0.0)
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
                for i in range(substeps - 1, -1, -1):
                    v_i, at = v + row * neurons * i, row * neurons * i
                    for j in range(neurons):
                        here = j * WIDTH
                        numerator = load(g_v, here) * load(inverses + at, here)
                        store(g_n + at, here, numerator)
                        store(g_d + at, here, 0.0 - numerator * load(v_i, (neurons + j) * WIDTH))
                        store(g_before, here, numerator * load(c, here))
                    for j in range(neurons):
                        begin, end = get_int(target_starts, j), get_int(target_starts, j + 1)
                        if begin < end:
                            recurrent_adjoint(
                                begin, end, recurrent_pack, sources, v_i, openings + row * recurrent * i,
                                g_n + at + row * j, g_d + at + row * j, g_before, recurrent_sums,
                            )  # fmt: skip
                    g_v, g_before = g_before, g_v
                # Sum over the substeps.
                of_elapsed = splat(ZERO)
                for j in range(neurons):
                    here = j * WIDTH
                    sum_n, sum_d, sum_c = splat(ZERO), splat(ZERO), splat(ZERO)
                    for i in range(substeps):
                        at = (i * neurons + j) * WIDTH
                        sum_n = sum_n + load(g_n, at)
                        sum_d = sum_d + load(g_d, at)
                        sum_c = sum_c + load(g_n, at) * load(v, at)
                    sum_c = sum_c + sum_d
                    of_elapsed = of_elapsed + sum_c * load(c, here)
                    store(sum_n_block, (k * neurons + j) * WIDTH, sum_n)
                    store(sum_d_block, (k * neurons + j) * WIDTH, sum_d)
                    add_to(sums, here, sum_n)
                    add_to(sums, (neurons + j) * WIDTH, sum_d)
                    add_to(sums, (2 * neurons + j) * WIDTH, sum_c * load(rate, 0))
                store(g_out, 0, of_elapsed * load(rate, 0) * (-1.0 / substeps))
                scatter_rows(g_out, grad_elapsed + FLOAT * moment, steps, count, 1)
                reset_started(starts + moment, steps, count, neurons, g_v)
            block = block_end - block_start
            if grad_u != 0:
                fill(g_u_block, block * inputs, ZERO)
            sensory_adjoint(
                block, inputs, neurons, sensory, structure, sensory_pack, u_block, openings_block,
                sum_n_block, sum_d_block, g_u_block if grad_u != 0 else 0, sums + row * 3 * neurons,
            )  # fmt: skip
            if grad_u != 0:
                for t in range(block_start, block_end):
                    g_u = g_u_block + row * inputs * (t - block_start)
                    scatter_rows(g_u, grad_u + FLOAT * (b * steps + t) * inputs, steps * inputs, count, inputs)
            block_end = block_start
        scatter_rows(g_v, grad_state + FLOAT * b * neurons, neurons, count, neurons)
        for k in range(rows):
            totals[k] += total(load(sums, k * WIDTH))
