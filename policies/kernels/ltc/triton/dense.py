"""Triton: the recurrent part of a small LTC circuit, held entirely in registers.

One program runs one sequence of the batch at a time through all its steps and solver substeps. The circuit is a tile
`[sources, coupled]`: every element is a possible synapse, absent ones have `w = 0`. The parameter tiles are loaded
once, the voltages stay in registers, and a substep is one sigmoid an element and one sum over the sources. Free
neurons, which no recurrent synapse reaches, have no column; they are affine in their own voltage.

A program walks the rows `pid, pid + programs, ...`, so what the rows of a program give a parameter is added in a fixed
order, in registers, and written once: the result does not change from run to run.

The backward pass keeps nothing of the forward pass but the voltages after each step. It runs the substeps of a step
again, notes each substep's voltages and denominators in scratch memory, and goes back through them.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dense_forward(
    state,  # [B, N]
    elapsed,  # [B, T]
    starts,  # [B, T] uint8
    numerator,  # [B, T, N] sensory sums
    denominator,  # [B, T, N]
    gleak,  # [N], likewise the next two
    vleak,
    cm,
    w,  # [S], likewise the next three
    mu,
    sigma,
    erev,
    coupled,  # [R] int32
    free,  # [F] int32
    slots,  # [COUPLED + FREE, COUPLED] int32
    voltages,  # [B, T, N] out
    batch,
    steps,
    neurons,
    coupled_count,
    free_count,
    COUPLED: tl.constexpr,
    FREE: tl.constexpr,
    SUBSTEPS: tl.constexpr,
):
    """Write the voltages after every step."""
    in_c = tl.arange(0, COUPLED) < coupled_count
    in_f = tl.arange(0, FREE) < free_count
    id_c = tl.load(coupled + tl.arange(0, COUPLED), mask=in_c, other=0)
    id_f = tl.load(free + tl.arange(0, FREE), mask=in_f, other=0)
    gl_c, vl_c, cm_c = neuron_parameters(gleak, vleak, cm, id_c, in_c)
    gl_f, vl_f, cm_f = neuron_parameters(gleak, vleak, cm, id_f, in_f)
    slot_cc = dense_slots(slots, 0, COUPLED, COUPLED)
    slot_fc = dense_slots(slots, COUPLED, FREE, COUPLED)
    w_cc, mu_cc, sigma_cc, erev_cc = synapse_parameters(w, mu, sigma, erev, slot_cc)
    w_fc, mu_fc, sigma_fc, erev_fc = synapse_parameters(w, mu, sigma, erev, slot_fc)
    for row in range(tl.program_id(0), batch, tl.num_programs(0)):
        at_row = tl.cast(row, tl.int64)
        v_c = tl.load(state + at_row * neurons + id_c, mask=in_c, other=0.0)
        v_f = tl.load(state + at_row * neurons + id_f, mask=in_f, other=0.0)
        for step in range(steps):
            at_step = at_row * steps + step
            fresh = tl.load(starts + at_step) != 0
            v_c = tl.where(fresh, 0.0, v_c)
            v_f = tl.where(fresh, 0.0, v_f)
            rate = SUBSTEPS / tl.load(elapsed + at_step)
            at_c, at_f = at_step * neurons + id_c, at_step * neurons + id_f
            num_c = gl_c * vl_c + tl.load(numerator + at_c, mask=in_c, other=0.0)
            num_f = gl_f * vl_f + tl.load(numerator + at_f, mask=in_f, other=0.0)
            den_c = cm_c * rate + gl_c + tl.load(denominator + at_c, mask=in_c, other=0.0) + 1e-8
            den_f = cm_f * rate + gl_f + tl.load(denominator + at_f, mask=in_f, other=0.0) + 1e-8
            for _ in range(SUBSTEPS):
                v_next, _den = coupled_substep(
                    v_c, v_f, cm_c * rate, num_c, den_c, w_cc, mu_cc, sigma_cc, erev_cc, w_fc, mu_fc, sigma_fc, erev_fc
                )
                v_f = (cm_f * rate * v_f + num_f) / den_f
                v_c = v_next
            tl.store(voltages + at_c, v_c, mask=in_c)
            tl.store(voltages + at_f, v_f, mask=in_f)


@triton.jit
def dense_backward(
    state,  # [B, N]
    elapsed,  # [B, T]
    starts,  # [B, T] uint8
    numerator,  # [B, T, N] sensory sums
    denominator,  # [B, T, N]
    gleak,  # [N], likewise the next two
    vleak,
    cm,
    w,  # [S], likewise the next three
    mu,
    sigma,
    erev,
    coupled,  # [R] int32
    free,  # [F] int32
    slots,  # [COUPLED + FREE, COUPLED] int32
    voltages,  # [B, T, N]
    grad_voltages,  # [B, T, N]
    grad_state,  # [B, N] out
    grad_elapsed,  # [B, T] out
    grad_numerator,  # [B, T, N] out
    grad_denominator,  # [B, T, N] out
    neuron_partial,  # [programs, 3, N] out: gleak, vleak, cm
    synapse_partial,  # [programs, 4, S] out: w, mu, sigma, erev
    scratch,  # [programs, SUBSTEPS, 2, COUPLED + FREE]
    batch,
    steps,
    neurons,
    synapses,
    coupled_count,
    free_count,
    COUPLED: tl.constexpr,
    FREE: tl.constexpr,
    SUBSTEPS: tl.constexpr,
):
    """Write all gradients; those of the parameters as one partial sum a program."""
    WIDTH: tl.constexpr = COUPLED + FREE
    lane_c, lane_f = tl.arange(0, COUPLED), tl.arange(0, FREE)
    in_c, in_f = lane_c < coupled_count, lane_f < free_count
    id_c = tl.load(coupled + lane_c, mask=in_c, other=0)
    id_f = tl.load(free + lane_f, mask=in_f, other=0)
    gl_c, vl_c, cm_c = neuron_parameters(gleak, vleak, cm, id_c, in_c)
    gl_f, vl_f, cm_f = neuron_parameters(gleak, vleak, cm, id_f, in_f)
    slot_cc = dense_slots(slots, 0, COUPLED, COUPLED)
    slot_fc = dense_slots(slots, COUPLED, FREE, COUPLED)
    w_cc, mu_cc, sigma_cc, erev_cc = synapse_parameters(w, mu, sigma, erev, slot_cc)
    w_fc, mu_fc, sigma_fc, erev_fc = synapse_parameters(w, mu, sigma, erev, slot_fc)
    zero_c, zero_f = tl.zeros_like(gl_c), tl.zeros_like(gl_f)
    g_gl_c, g_vl_c, g_cm_c = zero_c, zero_c, zero_c
    g_gl_f, g_vl_f, g_cm_f = zero_f, zero_f, zero_f
    g_w_cc, g_mu_cc, g_sigma_cc, g_erev_cc = zeros4(w_cc)
    g_w_fc, g_mu_fc, g_sigma_fc, g_erev_fc = zeros4(w_fc)
    pid = tl.program_id(0)
    notes_c = scratch + pid.to(tl.int64) * SUBSTEPS * 2 * WIDTH + lane_c
    notes_f = scratch + pid.to(tl.int64) * SUBSTEPS * 2 * WIDTH + COUPLED + lane_f
    for row in range(pid, batch, tl.num_programs(0)):
        at_row = tl.cast(row, tl.int64)
        grad_c, grad_f = zero_c, zero_f
        for back in range(steps):
            step = steps - 1 - back
            at_step = at_row * steps + step
            fresh = tl.load(starts + at_step) != 0
            before = voltages + (at_step - 1) * neurons
            if step == 0:
                before = state + at_row * neurons
            v_c = tl.where(fresh, 0.0, tl.load(before + id_c, mask=in_c, other=0.0))
            v_f = tl.where(fresh, 0.0, tl.load(before + id_f, mask=in_f, other=0.0))
            dt = tl.load(elapsed + at_step)
            rate = SUBSTEPS / dt
            at_c, at_f = at_step * neurons + id_c, at_step * neurons + id_f
            num_c = gl_c * vl_c + tl.load(numerator + at_c, mask=in_c, other=0.0)
            num_f = gl_f * vl_f + tl.load(numerator + at_f, mask=in_f, other=0.0)
            den_c = cm_c * rate + gl_c + tl.load(denominator + at_c, mask=in_c, other=0.0) + 1e-8
            den_f = cm_f * rate + gl_f + tl.load(denominator + at_f, mask=in_f, other=0.0) + 1e-8
            for k in range(SUBSTEPS):
                tl.store(notes_c + k * 2 * WIDTH, v_c)
                tl.store(notes_f + k * 2 * WIDTH, v_f)
                v_c, all_den = coupled_substep(
                    v_c, v_f, cm_c * rate, num_c, den_c, w_cc, mu_cc, sigma_cc, erev_cc, w_fc, mu_fc, sigma_fc, erev_fc
                )
                v_f = (cm_f * rate * v_f + num_f) / den_f
                tl.store(notes_c + (k * 2 + 1) * WIDTH, all_den)
            tl.debug_barrier()  # the notes may be read by another thread than the one that wrote them
            grad_c += tl.load(grad_voltages + at_c, mask=in_c, other=0.0)
            grad_f += tl.load(grad_voltages + at_f, mask=in_f, other=0.0)
            sum_num_c, sum_den_c, sum_rate_c = zero_c, zero_c, zero_c
            sum_num_f, sum_den_f, sum_rate_f = zero_f, zero_f, zero_f
            for k_back in range(SUBSTEPS):
                k = SUBSTEPS - 1 - k_back
                after_c, after_f = v_c, v_f
                v_c = tl.load(notes_c + k * 2 * WIDTH)
                v_f = tl.load(notes_f + k * 2 * WIDTH)
                d_num_c = grad_c / tl.load(notes_c + (k * 2 + 1) * WIDTH)
                d_num_f = grad_f / den_f
                d_den_c, d_den_f = -d_num_c * after_c, -d_num_f * after_f
                sum_num_c += d_num_c
                sum_num_f += d_num_f
                sum_den_c += d_den_c
                sum_den_f += d_den_f
                sum_rate_c += d_num_c * v_c + d_den_c
                sum_rate_f += d_num_f * v_f + d_den_f
                grad_v, d_w, d_mu, d_sigma, d_erev = synapses_backward(
                    v_c, d_num_c, d_den_c, w_cc, mu_cc, sigma_cc, erev_cc
                )
                grad_c = d_num_c * cm_c * rate + grad_v
                g_w_cc += d_w
                g_mu_cc += d_mu
                g_sigma_cc += d_sigma
                g_erev_cc += d_erev
                grad_v, d_w, d_mu, d_sigma, d_erev = synapses_backward(
                    v_f, d_num_c, d_den_c, w_fc, mu_fc, sigma_fc, erev_fc
                )
                grad_f = d_num_f * cm_f * rate + grad_v
                g_w_fc += d_w
                g_mu_fc += d_mu
                g_sigma_fc += d_sigma
                g_erev_fc += d_erev
            tl.debug_barrier()  # the next step writes over the notes
            tl.store(grad_numerator + at_c, sum_num_c, mask=in_c)
            tl.store(grad_numerator + at_f, sum_num_f, mask=in_f)
            tl.store(grad_denominator + at_c, sum_den_c, mask=in_c)
            tl.store(grad_denominator + at_f, sum_den_f, mask=in_f)
            g_gl_c += vl_c * sum_num_c + sum_den_c
            g_gl_f += vl_f * sum_num_f + sum_den_f
            g_vl_c += gl_c * sum_num_c
            g_vl_f += gl_f * sum_num_f
            g_cm_c += rate * sum_rate_c
            g_cm_f += rate * sum_rate_f
            # Padding has cm = 1 but no gradient, so it adds nothing here.
            grad_rate = tl.sum(cm_c * sum_rate_c, 0) + tl.sum(cm_f * sum_rate_f, 0)
            tl.store(grad_elapsed + at_step, -grad_rate * rate / dt)
            grad_c = tl.where(fresh, 0.0, grad_c)
            grad_f = tl.where(fresh, 0.0, grad_f)
        tl.store(grad_state + at_row * neurons + id_c, grad_c, mask=in_c)
        tl.store(grad_state + at_row * neurons + id_f, grad_f, mask=in_f)
    sums = neuron_partial + pid.to(tl.int64) * 3 * neurons
    store3(sums, neurons, id_c, in_c, g_gl_c, g_vl_c, g_cm_c)
    store3(sums, neurons, id_f, in_f, g_gl_f, g_vl_f, g_cm_f)
    sums = synapse_partial + pid.to(tl.int64) * 4 * synapses
    store4(sums, synapses, slot_cc, g_w_cc, g_mu_cc, g_sigma_cc, g_erev_cc)
    store4(sums, synapses, slot_fc, g_w_fc, g_mu_fc, g_sigma_fc, g_erev_fc)


@triton.jit
def coupled_substep(v_c, v_f, c, num, den, w_cc, mu_cc, sigma_cc, erev_cc, w_fc, mu_fc, sigma_fc, erev_fc):
    """One semi-implicit substep of the coupled neurons: voltages `[COUPLED]` after it, and its denominator."""
    a_cc = w_cc * tl.sigmoid(sigma_cc * (v_c[:, None] - mu_cc))
    a_fc = w_fc * tl.sigmoid(sigma_fc * (v_f[:, None] - mu_fc))
    all_num = c * v_c + num + tl.sum(a_cc * erev_cc, 0) + tl.sum(a_fc * erev_fc, 0)
    all_den = den + tl.sum(a_cc, 0) + tl.sum(a_fc, 0)
    return all_num / all_den, all_den


@triton.jit
def synapses_backward(v, d_num, d_den, w, mu, sigma, erev):
    """Back through one block of synapses: gradients of the source voltages and of the block's parameters."""
    distance = v[:, None] - mu
    gate = tl.sigmoid(sigma * distance)
    d_a = d_num[None, :] * erev + d_den[None, :]
    d_w = d_a * gate
    d_pre = d_w * w * (1.0 - gate)
    d_mu = -d_pre * sigma
    return -tl.sum(d_mu, 1), d_w, d_mu, d_pre * distance, d_num[None, :] * w * gate


@triton.jit
def neuron_parameters(gleak, vleak, cm, ids, real):
    """Load gleak, vleak and cm of some neurons; padding gets a circuit that stays at zero."""
    return (
        tl.load(gleak + ids, mask=real, other=0.0),
        tl.load(vleak + ids, mask=real, other=0.0),
        tl.load(cm + ids, mask=real, other=1.0),
    )


@triton.jit
def dense_slots(slots, first, SOURCES: tl.constexpr, COUPLED: tl.constexpr):
    """Load the slots `[SOURCES, COUPLED]` of the tile's rows from `first` on."""
    return tl.load(slots + (first + tl.arange(0, SOURCES))[:, None] * COUPLED + tl.arange(0, COUPLED)[None, :])


@triton.jit
def synapse_parameters(w, mu, sigma, erev, slot):
    """Load w, mu, sigma and erev of a block of slots; absent synapses get zeros."""
    real = slot >= 0
    return (
        tl.load(w + slot, mask=real, other=0.0),
        tl.load(mu + slot, mask=real, other=0.0),
        tl.load(sigma + slot, mask=real, other=0.0),
        tl.load(erev + slot, mask=real, other=0.0),
    )


@triton.jit
def zeros4(like):
    """Return four zero accumulators of the shape of `like`."""
    zero = tl.zeros_like(like)
    return zero, zero, zero, zero


@triton.jit
def store3(place, stride, index, real, first, second, third):
    """Store three rows of a program's partial sums."""
    tl.store(place + index, first, mask=real)
    tl.store(place + stride + index, second, mask=real)
    tl.store(place + 2 * stride + index, third, mask=real)


@triton.jit
def store4(place, stride, slot, first, second, third, fourth):
    """Store four rows of a program's partial sums, by slot."""
    real = slot >= 0
    tl.store(place + slot, first, mask=real)
    tl.store(place + stride + slot, second, mask=real)
    tl.store(place + 2 * stride + slot, third, mask=real)
    tl.store(place + 3 * stride + slot, fourth, mask=real)
