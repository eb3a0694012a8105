"""Triton: the recurrent part of an LTC circuit that is too large for registers, over padded synapse lists.

As in `dense`, one program runs one sequence at a time through all its steps and substeps, so a thousand neurons of
one sequence fill a block of threads. Voltages go through scratch memory between substeps (one store, one barrier, then
each neuron reads its own sources from the first-level cache), and each neuron walks its list, `FAN` synapses at a time.
Work grows with neurons x largest fan-in, not with neurons squared.

The backward pass runs the substeps of a step again by receiving neuron, then goes back by sending neuron, where the
gradient of a voltage is a sum over the neuron's own list. What a synapse's parameters get is added to memory that
belongs to the program and is summed over the programs afterwards, so the result does not change from run to run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from policies.kernels.ltc.triton.dense import neuron_parameters


@triton.jit
def sparse_forward(
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
    source,  # [S] int64
    in_slots,  # [fan_in, N] int32, a column for every neuron
    voltages,  # [B, T, N] out
    scratch,  # [programs, NEURONS]
    batch,
    steps,
    neurons,
    fan_in,
    NEURONS: tl.constexpr,
    FAN: tl.constexpr,
    SUBSTEPS: tl.constexpr,
):
    """Write the voltages after every step."""
    neuron = tl.arange(0, NEURONS)
    real = neuron < neurons
    gl, vl, cm_ = neuron_parameters(gleak, vleak, cm, neuron, real)
    shared = scratch + tl.program_id(0).to(tl.int64) * NEURONS
    for row in range(tl.program_id(0), batch, tl.num_programs(0)):
        at_row = tl.cast(row, tl.int64)
        v = tl.load(state + at_row * neurons + neuron, mask=real, other=0.0)
        for step in range(steps):
            at_step = at_row * steps + step
            v = tl.where(tl.load(starts + at_step) != 0, 0.0, v)
            rate = SUBSTEPS / tl.load(elapsed + at_step)
            at = at_step * neurons + neuron
            num = gl * vl + tl.load(numerator + at, mask=real, other=0.0)
            den = cm_ * rate + gl + tl.load(denominator + at, mask=real, other=0.0) + 1e-8
            for _ in range(SUBSTEPS):
                tl.store(shared + neuron, v)
                tl.debug_barrier()
                a, a_erev = incoming(shared, w, mu, sigma, erev, source, in_slots, neuron, real, neurons, fan_in, FAN)
                v = (cm_ * rate * v + num + a_erev) / (den + a)
                tl.debug_barrier()
            tl.store(voltages + at, v, mask=real)


@triton.jit
def sparse_backward(
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
    source,  # [S] int64
    target,  # [S] int64
    in_slots,  # [fan_in, N] int32
    out_slots,  # [fan_out, N] int32
    voltages,  # [B, T, N]
    grad_voltages,  # [B, T, N]
    grad_state,  # [B, N] out
    grad_elapsed,  # [B, T] out
    grad_numerator,  # [B, T, N] out
    grad_denominator,  # [B, T, N] out
    neuron_partial,  # [programs, 3, N] out: gleak, vleak, cm
    synapse_partial,  # [programs, 4, S] in and out, zero at the start: w, mu, sigma, erev
    scratch,  # [programs, 2 * SUBSTEPS + 2, NEURONS]
    batch,
    steps,
    neurons,
    synapses,
    fan_in,
    fan_out,
    NEURONS: tl.constexpr,
    FAN: tl.constexpr,
    SUBSTEPS: tl.constexpr,
):
    """Write all gradients; those of the parameters as one partial sum a program."""
    neuron = tl.arange(0, NEURONS)
    real = neuron < neurons
    gl, vl, cm_ = neuron_parameters(gleak, vleak, cm, neuron, real)
    zero = tl.zeros_like(gl)
    g_gl, g_vl, g_cm = zero, zero, zero
    pid = tl.program_id(0).to(tl.int64)
    notes = scratch + pid * (2 * SUBSTEPS + 2) * NEURONS  # row 2k: voltages before substep k; 2k + 1: its denominators
    shared_num = notes + 2 * SUBSTEPS * NEURONS
    shared_den = shared_num + NEURONS
    sums = synapse_partial + pid * 4 * synapses
    for row in range(tl.program_id(0), batch, tl.num_programs(0)):
        at_row = tl.cast(row, tl.int64)
        grad = zero
        for back in range(steps):
            step = steps - 1 - back
            at_step = at_row * steps + step
            fresh = tl.load(starts + at_step) != 0
            before = voltages + (at_step - 1) * neurons
            if step == 0:
                before = state + at_row * neurons
            v = tl.where(fresh, 0.0, tl.load(before + neuron, mask=real, other=0.0))
            dt = tl.load(elapsed + at_step)
            rate = SUBSTEPS / dt
            at = at_step * neurons + neuron
            num = gl * vl + tl.load(numerator + at, mask=real, other=0.0)
            den = cm_ * rate + gl + tl.load(denominator + at, mask=real, other=0.0) + 1e-8
            for k in range(SUBSTEPS):
                note = notes + 2 * k * NEURONS
                tl.store(note + neuron, v)
                tl.debug_barrier()
                a, a_erev = incoming(note, w, mu, sigma, erev, source, in_slots, neuron, real, neurons, fan_in, FAN)
                tl.store(note + NEURONS + neuron, den + a)
                v = (cm_ * rate * v + num + a_erev) / (den + a)
            tl.debug_barrier()  # the notes may be read by another thread than the one that wrote them
            grad += tl.load(grad_voltages + at, mask=real, other=0.0)
            sum_num, sum_den, sum_rate = zero, zero, zero
            for k_back in range(SUBSTEPS):
                note = notes + 2 * (SUBSTEPS - 1 - k_back) * NEURONS
                after = v
                v = tl.load(note + neuron)
                d_num = grad / tl.load(note + NEURONS + neuron)
                d_den = -d_num * after
                sum_num += d_num
                sum_den += d_den
                sum_rate += d_num * v + d_den
                tl.store(shared_num + neuron, d_num)
                tl.store(shared_den + neuron, d_den)
                tl.debug_barrier()
                grad = d_num * cm_ * rate + outgoing_backward(
                    v,
                    shared_num,
                    shared_den,
                    w,
                    mu,
                    sigma,
                    erev,
                    target,
                    out_slots,
                    sums,
                    neuron,
                    real,
                    neurons,
                    synapses,
                    fan_out,
                    FAN,
                )
                tl.debug_barrier()  # shared_num, shared_den and the sums are used again
            tl.store(grad_numerator + at, sum_num, mask=real)
            tl.store(grad_denominator + at, sum_den, mask=real)
            g_gl += vl * sum_num + sum_den
            g_vl += gl * sum_num
            g_cm += rate * sum_rate
            tl.store(grad_elapsed + at_step, -tl.sum(cm_ * sum_rate, 0) * rate / dt)
            grad = tl.where(fresh, 0.0, grad)
        tl.store(grad_state + at_row * neurons + neuron, grad, mask=real)
    place = neuron_partial + pid * 3 * neurons + neuron
    tl.store(place, g_gl, mask=real)
    tl.store(place + neurons, g_vl, mask=real)
    tl.store(place + 2 * neurons, g_cm, mask=real)


@triton.jit
def incoming(shared, w, mu, sigma, erev, source, in_slots, neuron, real, neurons, fan_in, FAN: tl.constexpr):
    """Return `[NEURONS]` sums of a and of a * erev over the synapses that each neuron receives."""
    a_sum = tl.zeros_like(tl.load(shared + neuron))
    a_erev_sum = a_sum
    for first in range(0, fan_in, FAN):
        slot = fan_slots(in_slots, first, neuron, real, neurons, fan_in, FAN)
        here = slot >= 0
        v = tl.load(shared + tl.load(source + slot, mask=here, other=0), mask=here, other=0.0)
        w_s = tl.load(w + slot, mask=here, other=0.0)
        mu_s = tl.load(mu + slot, mask=here, other=0.0)
        sigma_s = tl.load(sigma + slot, mask=here, other=0.0)
        a = w_s * tl.sigmoid(sigma_s * (v - mu_s))
        a_sum += tl.sum(a, 0)
        a_erev_sum += tl.sum(a * tl.load(erev + slot, mask=here, other=0.0), 0)
    return a_sum, a_erev_sum


@triton.jit
def outgoing_backward(
    v,
    shared_num,
    shared_den,
    w,
    mu,
    sigma,
    erev,
    target,
    out_slots,
    sums,
    neuron,
    real,
    neurons,
    synapses,
    fan_out,
    FAN: tl.constexpr,
):
    """Return what the synapses that each neuron sends give its voltage's gradient; add theirs to `sums` `[4, S]`."""
    grad_v = tl.zeros_like(v)
    for first in range(0, fan_out, FAN):
        slot = fan_slots(out_slots, first, neuron, real, neurons, fan_out, FAN)
        here = slot >= 0
        end = tl.load(target + slot, mask=here, other=0)
        d_num = tl.load(shared_num + end, mask=here, other=0.0)
        d_den = tl.load(shared_den + end, mask=here, other=0.0)
        w_s = tl.load(w + slot, mask=here, other=0.0)
        sigma_s = tl.load(sigma + slot, mask=here, other=0.0)
        distance = v[None, :] - tl.load(mu + slot, mask=here, other=0.0)
        gate = tl.sigmoid(sigma_s * distance)
        d_w = (d_num * tl.load(erev + slot, mask=here, other=0.0) + d_den) * gate
        d_pre = d_w * w_s * (1.0 - gate)
        grad_v += tl.sum(d_pre * sigma_s, 0)
        add(sums + slot, d_w, here)
        add(sums + synapses + slot, -d_pre * sigma_s, here)
        add(sums + 2 * synapses + slot, d_pre * distance, here)
        add(sums + 3 * synapses + slot, d_num * w_s * gate, here)
    return grad_v


@triton.jit
def fan_slots(slots, first, neuron, real, neurons, fan, FAN: tl.constexpr):
    """Load `[FAN, NEURONS]` slots: entries `first` to `first + FAN` of every neuron's list, -1 past its end."""
    f = first + tl.arange(0, FAN)
    return tl.load(slots + f[:, None] * neurons + neuron[None, :], mask=(f < fan)[:, None] & real[None, :], other=-1)


@triton.jit
def add(place, value, mask):
    """Add to memory that no other program touches; every address at most once between two barriers."""
    tl.store(place, tl.load(place, mask=mask, other=0.0) + value, mask=mask)
