"""How the CPU kernels lay out the circuit and their scratch memory.

Packed parameters, float32: a record for every neuron, every sensory and every recurrent synapse, so that what one
synapse needs lies in one cache line; synapses in the order of their targets. Then input_w and input_b, `[I]` each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NEURON = 4
"""Floats in a neuron's record: gleak, gleak · vleak, cm, vleak."""

MU, STEEPNESS, WEIGHT, WEIGHT_EREV, EREV, SIGMA = range(6)
"""Places in a synapse's record; steepness is −sigma · log2(e)."""

SYNAPSE = 6
"""Floats in a synapse's record."""

SYNAPSE_SUMS = 4
"""Rows of gradient sums a synapse: see `cpu_backward`."""


@dataclass(frozen=True)
class Structure:
    """The synapse lists by target neuron."""

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

    def pack_size(self, inputs: int) -> int:
        """Return the floats of the packed parameters."""
        return NEURON * self.neurons + SYNAPSE * (self.sensory + self.recurrent) + 2 * inputs

    def sum_rows(self, inputs: int) -> int:
        """Return the rows of gradient sums that `cpu_backward` adds up: neurons, sensory, recurrent, input map."""
        return 3 * self.neurons + SYNAPSE_SUMS * (self.sensory + self.recurrent) + 2 * inputs

    def forward_rows(self, inputs: int) -> int:
        """Return the rows of scratch that `cpu_forward.forward` needs."""
        return inputs + 1 + 5 * self.neurons

    def backward_rows(self, inputs: int, substeps: int) -> int:
        """Return the rows of scratch that `cpu_backward.backward` needs, without the sums."""
        per_substep = 2 * self.neurons + self.recurrent
        return 3 * inputs + self.sensory + 1 + 10 * self.neurons + substeps * per_substep


@lru_cache(maxsize=64)
def structure_of(neurons: int, sensory_source: bytes, sensory_target: bytes, source: bytes, target: bytes) -> Structure:
    """Sort the synapses by target.

    Args:
        neurons: N.
        sensory_source: bytes of the int64 list; the contents are the key of the cache, so that it cannot go stale.
        sensory_target: as above.
        source: as above.
        target: as above.
    """
    lists, orders = [], []
    for sources, targets in ((sensory_source, sensory_target), (source, target)):
        from_neuron, to_neuron = np.frombuffer(sources, np.int64), np.frombuffer(targets, np.int64)
        order = np.argsort(to_neuron, kind="stable")
        lists += [np.searchsorted(to_neuron[order], np.arange(neurons + 1)), from_neuron[order]]
        orders.append(order)
    all_lists, order = np.concatenate(lists).astype(np.int64), np.concatenate(orders).astype(np.int64)
    counts = orders[0].size, orders[1].size
    return Structure(neurons, *counts, all_lists, order, all_lists.ctypes.data, order.ctypes.data)
