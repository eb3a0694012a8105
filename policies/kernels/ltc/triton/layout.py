"""How a synapse list is laid out for the GPU: pure index work, done once a wiring and kept.

The kernels of `dense` want the circuit as a small matrix, those of `sparse` and `sensory` want one padded list of
synapses a neuron. Both are tables of *slots*: a slot is a position in the synapse list, or -1.
A slot table is all a kernel needs, because parameters are read, and their gradients written, through it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary

DENSE_LIMIT = 4096
"""Most elements the parameter tile of `dense` may have: four such tiles and their gradients live in registers."""


@dataclass(frozen=True)
class DenseLayout:
    """A circuit as one block of possible synapses, without the rows and columns that are empty.

    *Coupled* neurons receive a recurrent synapse; *free* ones do not (the inter neurons of an NCP), so they can only be
    sources, and the tile has no columns for them.

    Attributes:
        coupled: `[R]` int32 ids of the coupled neurons.
        free: `[F]` int32 ids of the free neurons.
        slots: `[coupled_pad + free_pad, coupled_pad]` int32; synapse from the row's neuron to the column's, or -1.
        coupled_pad: R rounded up to a power of two.
        free_pad: F rounded up to a power of two.
    """

    coupled: Tensor
    free: Tensor
    slots: Tensor
    coupled_pad: int
    free_pad: int


@dataclass(frozen=True)
class SparseLayout:
    """A circuit as padded synapse lists, one for each receiving and one for each sending neuron (or input).

    Attributes:
        in_slots: `[fan_in, receivers]` int32 synapses into each receiver, or -1.
        out_slots: `[fan_out, senders]` int32 synapses out of each sender, or -1.
    """

    in_slots: Tensor
    out_slots: Tensor


def dense_layout(source: Tensor, target: Tensor, neurons: int) -> DenseLayout | None:
    """Return the tile of a recurrent wiring, or None when the wiring is too large or doubles a synapse.

    Args:
        source: `[S]` int64 sending neuron of each synapse.
        target: `[S]` int64 receiving neuron of each synapse.
        neurons: N.
    """
    coupled = torch.unique(target)
    is_free = torch.ones(neurons, dtype=torch.bool, device=target.device)
    is_free[coupled] = False
    free = is_free.nonzero().flatten()
    coupled_pad, free_pad = power_of_two(coupled.numel()), power_of_two(free.numel())
    if coupled_pad * (coupled_pad + free_pad) > DENSE_LIMIT:
        return None
    if torch.unique(source * neurons + target).numel() != source.numel():
        return None
    row_of = torch.empty(neurons, dtype=torch.long, device=target.device)
    row_of[coupled] = torch.arange(coupled.numel(), device=target.device)
    row_of[free] = coupled_pad + torch.arange(free.numel(), device=target.device)
    slots = torch.full((coupled_pad + free_pad, coupled_pad), -1, dtype=torch.int32, device=target.device)
    slots[row_of[source], row_of[target]] = torch.arange(source.numel(), dtype=torch.int32, device=target.device)
    return DenseLayout(coupled.int(), free.int(), slots, coupled_pad, free_pad)


def sparse_layout(source: Tensor, target: Tensor, senders: int, receivers: int) -> SparseLayout:
    """Return the padded lists of a wiring; doubled synapses are allowed.

    Args:
        source: `[S]` int64 sender of each synapse.
        target: `[S]` int64 receiver of each synapse.
        senders: neurons or inputs that may send.
        receivers: neurons that may receive.
    """
    return SparseLayout(_padded(target, receivers), _padded(source, senders))


def power_of_two(size: int, least: int = 4) -> int:
    """Return the smallest power of two that is at least `size` and `least`."""
    return max(least, 1 << max(size - 1, 0).bit_length())


class LayoutCache:
    """Layouts by wiring, so that the index work and its waiting for the device happen once, not once a call.

    The key is the identity of the two index tensors and their version counters; an entry dies with its tensors.
    """

    def __init__(self, build):
        self._build = build
        self._entries: WeakIdKeyDictionary = WeakTensorKeyDictionary()

    def get(self, source: Tensor, target: Tensor, *sizes: int):
        """Return the layout of this wiring, built on first sight."""
        per_source = self._entries.setdefault(source, WeakTensorKeyDictionary())
        stamp = (_version(source), _version(target), *sizes)
        found = per_source.get(target)
        if found is None or found[0] != stamp:
            found = (stamp, self._build(source, target, *sizes))
            per_source[target] = found
        return found[1]


def _padded(member: Tensor, groups: int) -> Tensor:
    """Group synapses by `member` `[S]`: `[fan, groups]` slots, -1 below the end of a shorter list."""
    order = torch.argsort(member, stable=True)  # [S] synapses, group after group
    count = torch.bincount(member, minlength=groups)  # [groups]
    first = torch.cumsum(count, 0) - count  # [groups] where each begins in `order`
    rank = torch.arange(member.numel(), device=member.device) - first[member[order]]
    slots = torch.full((int(count.max()), groups), -1, dtype=torch.int32, device=member.device)
    slots[rank, member[order]] = order.int()
    return slots


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
