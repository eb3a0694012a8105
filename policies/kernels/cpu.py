"""The fused LTC sequence on the CPU: a torch op around the numba kernels.

`torch.ops.wormwheel.ltc_sequence_cpu` runs a whole sequence, differentiable in inputs, input map, start state, elapsed
times and all parameters; it works under `torch.compile`, `torch.func` and `functional_call`. Samples go to lanes,
groups of 16 lanes to threads, as many as torch is set to use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.kernels import cpu_layout
from policies.kernels.cpu_backward import backward as _backward_kernel
from policies.kernels.cpu_forward import forward as _forward_kernel
from policies.kernels.cpu_layout import EREV, MU, NEURON, SIGMA, STEEPNESS, SYNAPSE, WEIGHT, WEIGHT_EREV, Structure
from policies.kernels.cpu_lanes import WIDTH
from policies.kernels.reference import Circuit

LEAST_WORK = 30_000
"""Synapse evaluations of 16 lanes below which a second thread costs more than it brings."""


def ltc_sequence(
    inputs: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    circuit: Circuit,
    substeps: int = 6,
    input_w: Tensor | None = None,
    input_b: Tensor | None = None,
    motors: int = 0,
) -> tuple[Tensor, Tensor]:
    """Run the circuit with the fused solver; float32 on the CPU.

    Args:
        inputs: `[B, T, I]` sensory inputs.
        state: `[B, N]` voltages before the first step.
        elapsed: `[B, T]` time that each step spans, in nominal frame periods, > 0.
        starts: `[B, T]` bool; True zeroes the voltages before that step.
        circuit: parameters and synapse lists.
        substeps: K, solver steps within each step.
        input_w: `[I]` factors of the inputs; ones when None.
        input_b: `[I]` added to the inputs after that; zeros when None.
        motors: M, how many of the first neurons are wanted on their own, which makes their gradient cheap.

    Returns:
        `[B, T, M]` voltages of the motor neurons and `[B, T, N]` of all after each step.
    """
    return _forward(inputs, input_w, input_b, state, elapsed, starts, *circuit, substeps, motors)


@torch.library.custom_op("wormwheel::ltc_sequence_cpu", mutates_args=(), device_types="cpu")
def _forward(
    inputs: Tensor,
    input_w: Tensor | None,
    input_b: Tensor | None,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    gleak: Tensor,
    vleak: Tensor,
    cm: Tensor,
    sensory_w: Tensor,
    sensory_mu: Tensor,
    sensory_sigma: Tensor,
    sensory_erev: Tensor,
    w: Tensor,
    mu: Tensor,
    sigma: Tensor,
    erev: Tensor,
    sensory_source: Tensor,
    sensory_target: Tensor,
    source: Tensor,
    target: Tensor,
    substeps: int,
    motors: int,
) -> tuple[Tensor, Tensor]:
    (batch, steps, features), neurons = inputs.shape, gleak.shape[0]
    structure = _structure(neurons, sensory_source, sensory_target, source, target)
    neuron, sensory = (gleak, vleak, cm), (sensory_mu, sensory_sigma, sensory_w, sensory_erev)
    pack = _pack(neuron, sensory, (mu, sigma, w, erev), (input_w, input_b), features, structure)
    inputs, state, elapsed, starts = (x.contiguous() for x in (inputs, state, elapsed, starts))
    voltages = torch.empty(batch, steps, neurons)
    motor_voltages = torch.empty(batch, steps, motors)
    n_in, n_rec = sensory_source.shape[0], source.shape[0]
    mapped = int(input_w is not None or input_b is not None)
    rows = cpu_layout.forward_rows(features, neurons)

    def part(first: int, last: int) -> None:
        _forward_kernel(
            first, last, steps, features, neurons, n_in, n_rec, motors, substeps,
            inputs.data_ptr(), state.data_ptr(), elapsed.data_ptr(), starts.data_ptr(),
            pack.ctypes.data, structure.lists.ctypes.data, mapped,
            voltages.data_ptr(), motor_voltages.data_ptr(), 0, _scratch(rows).ctypes.data,
        )  # fmt: skip

    _in_parts(part, batch, steps * (n_in + substeps * n_rec))
    return motor_voltages, voltages


@_forward.register_fake
def _(inputs, input_w, input_b, state, *rest):
    batch, steps = inputs.shape[:2]
    return inputs.new_empty(batch, steps, rest[-1]), inputs.new_empty(batch, steps, state.shape[1])


@torch.library.custom_op("wormwheel::ltc_sequence_cpu_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad_motors: Tensor | None,
    grad_voltages: Tensor | None,
    voltages: Tensor,
    want_inputs: bool,
    inputs: Tensor,
    input_w: Tensor | None,
    input_b: Tensor | None,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    gleak: Tensor,
    vleak: Tensor,
    cm: Tensor,
    sensory_w: Tensor,
    sensory_mu: Tensor,
    sensory_sigma: Tensor,
    sensory_erev: Tensor,
    w: Tensor,
    mu: Tensor,
    sigma: Tensor,
    erev: Tensor,
    sensory_source: Tensor,
    sensory_target: Tensor,
    source: Tensor,
    target: Tensor,
    substeps: int,
    motors: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of inputs, state and elapsed, and one tensor with those of all parameters."""
    (batch, steps, features), neurons = inputs.shape, gleak.shape[0]
    structure = _structure(neurons, sensory_source, sensory_target, source, target)
    neuron, sensory = (gleak, vleak, cm), (sensory_mu, sensory_sigma, sensory_w, sensory_erev)
    pack = _pack(neuron, sensory, (mu, sigma, w, erev), (input_w, input_b), features, structure)
    inputs, state, elapsed, starts = (x.contiguous() for x in (inputs, state, elapsed, starts))
    voltages = voltages.contiguous()
    grad_motors = None if grad_motors is None else grad_motors.contiguous()
    grad_voltages = None if grad_voltages is None else grad_voltages.contiguous()
    grad_inputs = torch.empty(inputs.shape if want_inputs else 0)
    grad_state, grad_elapsed = torch.empty_like(state), torch.empty_like(elapsed)
    n_in, n_rec = sensory_source.shape[0], source.shape[0]
    mapped = int(input_w is not None or input_b is not None)
    sum_rows = cpu_layout.sum_rows(features, neurons, n_in, n_rec)
    rows = cpu_layout.backward_rows(features, neurons, n_in, n_rec, substeps)
    all_totals: dict[int, NDArray[np.float64]] = {}

    def part(first: int, last: int) -> None:
        scratch = _scratch(rows + sum_rows).ctypes.data
        all_totals[first] = totals = np.zeros(sum_rows)
        _backward_kernel(
            first, last, steps, features, neurons, n_in, n_rec, motors, substeps,
            inputs.data_ptr(), state.data_ptr(), elapsed.data_ptr(), starts.data_ptr(),
            pack.ctypes.data, structure.lists.ctypes.data, mapped, voltages.data_ptr(),
            0 if grad_voltages is None else grad_voltages.data_ptr(),
            0 if grad_motors is None else grad_motors.data_ptr(),
            grad_inputs.data_ptr(), grad_state.data_ptr(), grad_elapsed.data_ptr(),
            scratch, scratch + 4 * WIDTH * rows, totals,
        )  # fmt: skip

    _in_parts(part, batch, 3 * steps * (n_in + substeps * n_rec))
    # In the order of the samples, whichever thread was first: the result does not change from run to run.
    totals = sum(all_totals[first] for first in sorted(all_totals))
    grad_parameters = _unpack_gradients(np.asarray(totals), pack, neurons, n_in, n_rec, features, structure)
    return grad_inputs, grad_state, grad_elapsed, grad_parameters


@_backward.register_fake
def _(grad_motors, grad_voltages, voltages, want_inputs, inputs, input_w, input_b, state, elapsed, starts, *rest):
    parameters = sum(parameter.shape[0] for parameter in rest[:11]) + 2 * inputs.shape[2]
    grad_inputs = torch.empty_like(inputs) if want_inputs else inputs.new_empty(0)
    return grad_inputs, torch.empty_like(state), torch.empty_like(elapsed), inputs.new_empty(parameters)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.substeps, ctx.motors = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, grad_motors: Tensor | None, grad_voltages: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, voltages = ctx.saved_tensors
    if ctx.motors == 0:
        grad_motors = None
    want = ctx.needs_input_grad
    grads = _backward(grad_motors, grad_voltages, voltages, want[0], *tensors, ctx.substeps, ctx.motors)
    grad_inputs, grad_state, grad_elapsed, grad_parameters = grads
    sizes = [parameter.shape[0] for parameter in tensors[6:17]]
    features = tensors[0].shape[2]
    *parameters, input_w, input_b = grad_parameters.split([*sizes, features, features])
    first = (grad_inputs if want[0] else None, input_w if want[1] else None, input_b if want[2] else None)
    return (*first, grad_state, grad_elapsed, None, *parameters, *[None] * 6)


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _structure(
    neurons: int, sensory_source: Tensor, sensory_target: Tensor, source: Tensor, target: Tensor
) -> Structure:
    lists = (x.numpy().tobytes() for x in (sensory_source, sensory_target, source, target))
    return cpu_layout.structure_of(neurons, *lists)


def _pack(
    neuron: tuple[Tensor, ...],
    sensory: tuple[Tensor, ...],
    recurrent: tuple[Tensor, ...],
    input_map: tuple[Tensor | None, Tensor | None],
    features: int,
    structure: Structure,
) -> NDArray[np.float32]:
    """Lay the parameters out as `cpu_layout` says."""
    neurons, n_in, n_rec = neuron[0].shape[0], sensory[0].shape[0], recurrent[0].shape[0]
    pack = np.empty(NEURON * neurons + SYNAPSE * (n_in + n_rec) + 2 * features, np.float32)
    of_neurons = pack[: NEURON * neurons].reshape(neurons, NEURON)
    gleak, vleak, cm = (x.detach().numpy() for x in neuron)
    of_neurons[:, 0] = gleak
    np.multiply(gleak, vleak, out=of_neurons[:, 1])
    of_neurons[:, 2] = cm
    of_neurons[:, 3] = vleak
    done = NEURON * neurons
    for count, tensors, order in (
        (n_in, sensory, structure.sensory_order),
        (n_rec, recurrent, structure.recurrent_order),
    ):
        records = pack[done : done + SYNAPSE * count].reshape(count, SYNAPSE)
        mu, sigma, w, erev = (x.detach().numpy() for x in tensors)
        if not structure.in_order:
            mu, sigma, w, erev = mu[order], sigma[order], w[order], erev[order]
        records[:, MU] = mu
        np.multiply(sigma, np.float32(-1 / np.log(2)), out=records[:, STEEPNESS])
        records[:, WEIGHT] = w
        np.multiply(w, erev, out=records[:, WEIGHT_EREV])
        records[:, EREV] = erev
        records[:, SIGMA] = sigma
        done += SYNAPSE * count
    for default, values in zip((1.0, 0.0), input_map, strict=True):
        pack[done : done + features] = default if values is None else values.detach().numpy()
        done += features
    return pack


def _unpack_gradients(
    totals: NDArray[np.float64],
    pack: NDArray[np.float32],
    neurons: int,
    n_in: int,
    n_rec: int,
    features: int,
    structure: Structure,
) -> Tensor:
    """Turn the sums of `cpu_backward` into the gradients of the parameters, in the order of the op's arguments."""
    of_neurons = pack[: NEURON * neurons].reshape(neurons, NEURON)
    sum_n, sum_d, g_cm = totals[: 3 * neurons].reshape(3, neurons)
    parts = [of_neurons[:, 3] * sum_n + sum_d, of_neurons[:, 0] * sum_n, g_cm]
    at, done = NEURON * neurons, 3 * neurons
    for count, order in ((n_in, structure.sensory_order), (n_rec, structure.recurrent_order)):
        records = pack[at : at + SYNAPSE * count].reshape(count, SYNAPSE)
        g_n, g_d, g_z, g_zx = totals[done : done + 4 * count].reshape(count, 4).T
        gradients = (
            records[:, EREV] * g_n + g_d,  # w
            -records[:, SIGMA] * g_z,  # mu
            g_zx,  # sigma
            records[:, WEIGHT] * g_n,  # erev
        )
        for gradient in gradients:
            if structure.in_order:
                parts.append(gradient)
            else:
                scattered = np.empty_like(gradient)
                scattered[order] = gradient
                parts.append(scattered)
        at, done = at + SYNAPSE * count, done + 4 * count
    parts.append(totals[done : done + 2 * features])
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


# ---------------------------------------------------------------------- threads

_local = threading.local()
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _scratch(rows: int) -> NDArray[np.float32]:
    """Return this thread's scratch memory, at least `rows` rows; its contents are whatever was there."""
    scratch = getattr(_local, "scratch", None)
    if scratch is None or scratch.size < rows * WIDTH:
        scratch = _local.scratch = cpu_layout.aligned_rows(rows)
    return scratch


def _in_parts(part: Callable[[int, int], None], batch: int, work: int) -> None:
    """Call `part(first, last)` for stretches of the batch, multiples of 16 samples, in several threads if it pays.

    Args:
        part: what to do; it must release the interpreter lock.
        batch: B.
        work: synapse evaluations of 16 lanes that each 16 samples need.
    """
    tiles = -(-batch // WIDTH)
    threads = min(torch.get_num_threads(), tiles, 1 + tiles * work // LEAST_WORK)
    if threads <= 1:
        part(0, batch)
        return
    bounds = [min(batch, WIDTH * (tiles * k // threads)) for k in range(threads + 1)]
    others = [_workers().submit(part, *bounds[k : k + 2]) for k in range(1, threads)]
    try:
        part(*bounds[:2])
    finally:
        for other in others:
            other.result()


def _workers() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="ltc-kernel")
        return _pool


def _forget_pool() -> None:
    """In a forked process the pool's threads do not exist, and its lock may be held for ever."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
