"""How the CPU kernels lay out the circuit and their scratch memory.

Packed parameters, float32: a header, then a record for every neuron, every sensory and every recurrent synapse, so that
what one synapse needs lies in one cache line; synapses in the order of their targets. Then input_w and input_b.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NEURON = 4
"""Floats in a neuron's record: gleak, gleak · vleak, cm, vleak."""

HEADER = 2
"""Floats before the records: see `packing.pack_parameters`."""

BLOCK = 8
"""Steps whose sensory synapses the backward pass handles together."""

STEEPNESS, OFFSET, WEIGHT, WEIGHT_EREV, EREV, SLOPE, SIGMA, MU = range(8)
"""Places in a synapse's record. Its opening is 1 / (1 + 2^(STEEPNESS · x + OFFSET)), x the source's voltage or, the
input map being part of these numbers, the input as it comes. SLOPE is what the sigmoid's argument gains with x."""

SYNAPSE = 8
"""Floats in a synapse's record."""

SYNAPSE_SUMS = 4
"""Rows of gradient sums a synapse: see `backward`."""


@dataclass(frozen=True)
class Structure:
    """The synapse lists by target neuron."""

    inputs: int
    """I."""

    neurons: int
    """N."""

    sensory: int
    """S_in."""

    recurrent: int
    """S_rec."""

    lists: NDArray[np.int64]
    """Offsets of each neuron's sensory synapses `[N + 1]`, their sources `[S_in]`; the same for the recurrent ones."""

    order: NDArray[np.int64]
    """`[S_in]` which sensory synapse, as the caller numbers them, stands at each place; then the recurrent ones."""

    lists_address: int
    """Where `lists` lies in memory."""

    order_address: int
    """Where `order` lies in memory."""

    @property
    def pack_size(self) -> int:
        """Floats of the packed parameters."""
        return HEADER + NEURON * self.neurons + SYNAPSE * (self.sensory + self.recurrent) + 2 * self.inputs

    @property
    def forward_rows(self) -> int:
        """Rows of scratch that `forward.forward` needs."""
        return self.inputs + 1 + 6 * self.neurons

    def sum_rows(self, motors: int) -> int:
        """Return the rows of gradient sums of `backward`: neurons, sensory, recurrent, output map."""
        return 3 * self.neurons + SYNAPSE_SUMS * (self.sensory + self.recurrent) + 2 * motors

    def backward_rows(self, motors: int, substeps: int) -> int:
        """Return the rows of scratch that `backward.backward` needs, without the sums."""
        in_block = 2 * self.inputs + self.sensory + 1 + 5 * self.neurons
        per_substep = 4 * self.neurons + self.recurrent
        return BLOCK * in_block + 3 * self.neurons + max(motors, 1) + substeps * per_substep


@lru_cache(maxsize=64)
def structure_of(
    inputs: int, neurons: int, sensory_source: bytes, sensory_target: bytes, source: bytes, target: bytes
) -> Structure:
    """Sort the synapses by target.

    Args:
        inputs: I.
        neurons: N.
        sensory_source: bytes of the int64 list; the contents are the key of the cache, so that it cannot go stale.
        sensory_target: targets of the sensory synapses.
        source: sources of the recurrent synapses.
        target: targets of the recurrent synapses.

    Raises:
        ValueError: if the lists differ in length or a synapse starts or ends outside the circuit.
    """
    lists, orders = [], []
    for senders, sources, targets in ((inputs, sensory_source, sensory_target), (neurons, source, target)):
        from_neuron, to_neuron = np.frombuffer(sources, np.int64), np.frombuffer(targets, np.int64)
        if from_neuron.size != to_neuron.size:
            raise ValueError(f"every synapse needs a source and a target, got {from_neuron.size} and {to_neuron.size}.")
        for ids, size in ((from_neuron, senders), (to_neuron, neurons)):
            if ids.size and not (0 <= ids.min() and ids.max() < size):
                raise ValueError(
                    f"a synapse list must hold numbers from 0 to {size - 1}, got {ids.min()} to {ids.max()}."
                )
        order = np.argsort(to_neuron, kind="stable")
        lists += [np.searchsorted(to_neuron[order], np.arange(neurons + 1)), from_neuron[order]]
        orders.append(order)
    all_lists, order = np.concatenate(lists).astype(np.int64), np.concatenate(orders).astype(np.int64)
    counts = orders[0].size, orders[1].size
    return Structure(inputs, neurons, *counts, all_lists, order, all_lists.ctypes.data, order.ctypes.data)
