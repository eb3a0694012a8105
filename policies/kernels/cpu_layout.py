"""How the CPU kernels lay out the circuit and their scratch memory.

Packed parameters, float32: a record for every neuron, every sensory and every recurrent synapse, so that what one
synapse needs lies in one cache line; synapses in the order of their targets. Then input_w and input_b, `[I]` each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from policies.kernels.cpu_lanes import WIDTH

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

    lists: NDArray[np.int64]
    """Offsets of each neuron's sensory synapses `[N + 1]`, their sources `[S_in]`; the same for the recurrent ones."""

    sensory_order: NDArray[np.int64]
    """`[S_in]` which synapse, as the caller numbers them, stands at each place."""

    recurrent_order: NDArray[np.int64]
    """`[S_rec]` the same for the recurrent synapses."""

    in_order: bool
    """Whether the caller's order is the one needed, as it is for every `Wiring`."""


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
    in_order = all(bool((order == np.arange(order.size)).all()) for order in orders)
    return Structure(np.concatenate(lists).astype(np.int64), orders[0], orders[1], in_order)


def forward_rows(inputs: int, neurons: int) -> int:
    """Rows of scratch that `cpu_forward.forward` needs."""
    return inputs + 1 + 5 * neurons


def sum_rows(inputs: int, neurons: int, sensory: int, recurrent: int) -> int:
    """Rows of gradient sums that `cpu_backward.backward` adds up: neurons, sensory, recurrent, input map."""
    return 3 * neurons + SYNAPSE_SUMS * (sensory + recurrent) + 2 * inputs


def backward_rows(inputs: int, neurons: int, sensory: int, recurrent: int, substeps: int) -> int:
    """Rows of scratch that `cpu_backward.backward` needs, without the sums."""
    per_substep = 2 * neurons + recurrent
    return 3 * inputs + sensory + 1 + 10 * neurons + substeps * per_substep


def aligned_rows(rows: int) -> NDArray[np.float32]:
    """Return uninitialised memory of `rows` rows that starts at a cache line."""
    raw = np.empty(rows * WIDTH + WIDTH, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + rows * WIDTH]
