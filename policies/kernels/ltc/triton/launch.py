"""Starts the Triton kernels of one LTC sequence: buffers, layouts, grid sizes. Imports Triton, so import it late."""

from __future__ import annotations

from collections.abc import Sequence as Sized

import torch
from torch import Tensor

from policies.kernels.gpu import FUSE_MULTIPLY_ADD, on_card
from policies.kernels.ltc.triton.dense import dense_backward, dense_forward
from policies.kernels.ltc.triton.layout import LayoutCache, dense_layout, power_of_two, sparse_layout
from policies.kernels.ltc.triton.sensory import sensory_backward, sensory_forward
from policies.kernels.ltc.triton.sparse import sparse_backward, sparse_forward

PARTIAL_NUMBERS = 1 << 24
"""Most numbers that the partial sums of the parameter gradients may take, over all programs (64 MiB in float32)."""

MOST_PROGRAMS = 4096
"""Most programs of a backward pass; each walks several rows when there are more."""

ROWS = 32
"""Steps that a program of the sensory kernels works on at once."""

COLUMNS = 16
"""Neurons (forward) or inputs (backward) that a program of the sensory kernels works on at once."""

SPARSE_BLOCK = 4096
"""Elements that a program of the sparse kernels works on at once: neurons, padded, times synapses of each."""

Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

_dense_layouts = LayoutCache(dense_layout)
_sparse_layouts = LayoutCache(sparse_layout)


class Sequence:
    """One call of the op: its tensors, contiguous, and the kernels that suit its wiring."""

    def __init__(self, sequences: Sized[Tensor], parameters: Sized[Tensor], wiring: Sized[Tensor], substeps: int):
        self.inputs, self.state, self.elapsed, starts = (x.contiguous() for x in sequences)
        self.starts = starts.view(torch.uint8)
        parameters = [x.contiguous() for x in parameters]
        self.neuron, self.sensory, self.recurrent = parameters[:3], parameters[3:7], parameters[7:]
        self.sensory_source, self.sensory_target, self.source, self.target = wiring
        self.substeps = substeps
        self.batch, self.steps = self.elapsed.shape
        self.neurons = self.state.shape[1]
        self.synapses = self.source.numel()

    def forward(self) -> Tensor:
        """Return the `[B, T, N]` voltages after each step."""
        voltages = scratch(self.state, self.batch, self.steps, self.neurons)
        if voltages.numel() == 0:
            return voltages
        with on_card(self.state):
            sums = self._sensory_sums()
            before = self._before(sums)
            sizes = (self.batch, self.steps, self.neurons)
            dense = _dense_layouts.get(self.source, self.target, self.neurons)
            if dense is not None:
                tables = (dense.coupled, dense.free, dense.slots)
                counts = (dense.coupled.numel(), dense.free.numel())
                shape = dense_shape(dense.coupled_pad, dense.free_pad)
                dense_forward[(self.batch,)](
                    *before, *tables, voltages, *sizes, *counts, **shape, SUBSTEPS=self.substeps
                )
            else:
                sparse = _sparse_layouts.get(self.source, self.target, self.neurons, self.neurons)
                shape = sparse_shape(self.neurons)
                shared = scratch(self.state, self.batch, shape["NEURONS"])
                sparse_forward[(self.batch,)](
                    *before,
                    self.source,
                    sparse.in_slots,
                    voltages,
                    shared,
                    *sizes,
                    sparse.in_slots.shape[0],
                    **shape,
                    SUBSTEPS=self.substeps,
                )
        return voltages

    def backward(self, voltages: Tensor, grad_voltages: Tensor) -> Six:
        """Return the gradients, given the `[B, T, N]` result of `forward` and its gradient.

        Returns:
            Those of inputs `[B, T, I]`, state `[B, N]` and elapsed `[B, T]`, and stacked, `[3, N]` of gleak, vleak and
            cm, `[4, S_in]` and `[4, S_rec]` of w, mu, sigma and erev.
        """
        if voltages.numel() == 0:
            shapes = ((3, self.neurons), (4, self.sensory_source.numel()), (4, self.synapses))
            sequences = (torch.zeros_like(x) for x in (self.inputs, self.state, self.elapsed))
            return *sequences, *(self.state.new_zeros(shape) for shape in shapes)  # type: ignore[return-value]
        grad_state = scratch(self.state, self.batch, self.neurons)
        grad_elapsed = scratch(self.state, self.batch, self.steps)
        grad_sums = scratch(self.state, 2, self.batch, self.steps, self.neurons)
        count = programs(self.batch, 3 * self.neurons + 4 * self.synapses)
        neuron_sums = scratch(self.state, count, 3, self.neurons)
        flows = (voltages, grad_voltages.contiguous(), grad_state, grad_elapsed, *grad_sums, neuron_sums)
        sizes = (self.batch, self.steps, self.neurons, self.synapses)
        with on_card(self.state):
            before = self._before(self._sensory_sums())
            dense = _dense_layouts.get(self.source, self.target, self.neurons)
            if dense is not None:
                synapse_sums = scratch(self.state, count, 4, self.synapses)
                notes = scratch(self.state, count, self.substeps, 2, dense.coupled_pad + dense.free_pad)
                dense_tables = (dense.coupled, dense.free, dense.slots)
                counts = (dense.coupled.numel(), dense.free.numel())
                shape = dense_shape(dense.coupled_pad, dense.free_pad)
                dense_backward[(count,)](
                    *before,
                    *dense_tables,
                    *flows,
                    synapse_sums,
                    notes,
                    *sizes,
                    *counts,
                    **shape,
                    SUBSTEPS=self.substeps,
                )
            else:
                sparse = _sparse_layouts.get(self.source, self.target, self.neurons, self.neurons)
                shape = sparse_shape(self.neurons)
                synapse_sums = self.state.new_zeros(count, 4, self.synapses)
                notes = scratch(self.state, count, 2 * self.substeps + 2, shape["NEURONS"])
                tables = (self.source, self.target, sparse.in_slots, sparse.out_slots)
                fans = (sparse.in_slots.shape[0], sparse.out_slots.shape[0])
                sparse_backward[(count,)](
                    *before, *tables, *flows, synapse_sums, notes, *sizes, *fans, **shape, SUBSTEPS=self.substeps
                )
            grad_inputs, grad_sensory = self._sensory_backward(grad_sums)
        return grad_inputs, grad_state, grad_elapsed, neuron_sums.sum(0), grad_sensory, synapse_sums.sum(0)

    def _before(self, sums: Tensor) -> tuple[Tensor, ...]:
        """Return what the recurrent kernels all begin with."""
        return self.state, self.elapsed, self.starts, *sums, *self.neuron, *self.recurrent

    def _sensory_sums(self) -> Tensor:
        """Return the `[2, B, T, N]` numerators and denominators of the sensory synapses."""
        if self.sensory_source.numel() == 0:
            return self.state.new_zeros(2, self.batch, self.steps, self.neurons)
        sums = scratch(self.state, 2, self.batch, self.steps, self.neurons)
        rows, features = self.batch * self.steps, self.inputs.shape[2]
        sparse = _sparse_layouts.get(self.sensory_source, self.sensory_target, features, self.neurons)
        grid = (ceil_div(rows, ROWS), ceil_div(self.neurons, COLUMNS))
        sensory_forward[grid](
            self.inputs,
            *self.sensory,
            self.sensory_source,
            sparse.in_slots,
            *sums,
            rows,
            features,
            self.neurons,
            sparse.in_slots.shape[0],
            ROWS=ROWS,
            TARGETS=COLUMNS,
            **FUSE_MULTIPLY_ADD,
        )
        return sums

    def _sensory_backward(self, grad_sums: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the inputs `[B, T, I]` and of the sensory parameters `[4, S_in]`."""
        rows, features, synapses = self.batch * self.steps, self.inputs.shape[2], self.sensory_source.numel()
        if synapses == 0:
            return torch.zeros_like(self.inputs), self.state.new_zeros(4, 0)
        grad_inputs = scratch(self.inputs, *self.inputs.shape)
        count = programs(ceil_div(rows, ROWS), 4 * synapses)
        partial = self.state.new_zeros(count, 4, synapses)
        sparse = _sparse_layouts.get(self.sensory_source, self.sensory_target, features, self.neurons)
        sensory_backward[(count, ceil_div(features, COLUMNS))](
            self.inputs,
            *self.sensory,
            self.sensory_target,
            sparse.out_slots,
            *grad_sums,
            grad_inputs,
            partial,
            rows,
            features,
            self.neurons,
            synapses,
            sparse.out_slots.shape[0],
            ROWS=ROWS,
            SOURCES=COLUMNS,
            **FUSE_MULTIPLY_ADD,
        )
        return grad_inputs, partial.sum(0)


def scratch(like: Tensor, *shape: int) -> Tensor:
    """Return memory that a kernel writes before anything reads it; the tests fill it with NaN."""
    return like.new_empty(shape)


def programs(rows: int, numbers: int) -> int:
    """Return how many programs share `rows`, each with partial sums of `numbers` numbers; a function of sizes alone."""
    return max(1, min(rows, MOST_PROGRAMS, PARTIAL_NUMBERS // max(numbers, 1)))


def dense_shape(coupled_pad: int, free_pad: int) -> dict[str, int]:
    """Return the compile-time sizes of the dense kernels: a thread keeps about eight elements of the dense."""
    return {
        "COUPLED": coupled_pad,
        "FREE": free_pad,
        "num_warps": max(1, min(8, coupled_pad * (coupled_pad + free_pad) // 256)),
        **FUSE_MULTIPLY_ADD,
    }


def sparse_shape(neurons: int) -> dict[str, int]:
    """Return the compile-time sizes of the sparse kernels."""
    width = power_of_two(neurons)
    fan = max(1, min(8, SPARSE_BLOCK // width))
    return {"NEURONS": width, "FAN": fan, "num_warps": max(1, min(8, width * fan // 256)), **FUSE_MULTIPLY_ADD}


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)
