"""Lists of synapses: checked, in order, as arrays and as matrices.

A synapse is `(source, target, polarity)`. Lists are sorted by target, then source; matrices are `[sources, targets]`
with 0 where there is no synapse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Synapse = tuple[int, int, int]
"""Source, target, polarity (+1 excites, −1 inhibits)."""


def in_order(synapses: tuple[Synapse, ...], sources: int, targets: int, kind: str) -> tuple[Synapse, ...]:
    """Check every number and sort the list.

    Args:
        synapses: in any order.
        sources: how many there are to start from.
        targets: how many there are to end at.
        kind: what to call them in errors.

    Raises:
        ValueError: if one ends outside the circuit or comes twice, or a polarity is not +1 or −1.
    """
    seen: set[tuple[int, int]] = set()
    for source, target, polarity in synapses:
        if not (0 <= source < sources and 0 <= target < targets):
            raise ValueError(
                f"A {kind} synapse must go from 0..{sources - 1} to 0..{targets - 1}, got {source} → {target}."
            )
        if polarity not in (-1, 1):
            raise ValueError(f"The polarity of {kind} synapse {source} → {target} must be +1 or −1, got {polarity}.")
        if (source, target) in seen:
            raise ValueError(f"The {kind} synapse {source} → {target} comes twice.")
        seen.add((source, target))
    return tuple(sorted(((int(s), int(t), int(p)) for s, t, p in synapses), key=lambda syn: (syn[1], syn[0])))


def as_array(synapses: tuple[Synapse, ...]) -> NDArray[np.int64]:
    """Return the list as a read-only array `[synapses, 3]`."""
    array = np.array(synapses, np.int64).reshape(-1, 3)
    array.setflags(write=False)
    return array


def as_matrix(array: NDArray[np.int64], sources: int, targets: int) -> NDArray[np.int64]:
    """Return the polarities `[sources, targets]` of an array `[synapses, 3]`."""
    matrix = np.zeros((sources, targets), np.int64)
    matrix[array[:, 0], array[:, 1]] = array[:, 2]
    return matrix


def from_matrix(matrix: NDArray[Any]) -> tuple[Synapse, ...]:
    """Return the list that a matrix of polarities stands for."""
    return tuple((int(s), int(t), int(matrix[s, t])) for s, t in np.argwhere(matrix))
