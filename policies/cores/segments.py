"""Cut sequences at their episode starts, so that one fused recurrent call runs them all.

torch's fused LSTM and GRU cannot reset their state inside a sequence. Every stretch from one start to the next is a
sequence of its own: here the `[B, T]` steps are laid out as torch's packed sequence of G ≥ B stretches, longest first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Segments(NamedTuple):
    """Where each step of a `[B, T]` batch goes in a packed sequence of G stretches.

    Attributes:
        order: `[B·T]` int64, index of the step (sample-major) at each packed place.
        place: `[B·T]` int64, packed place of each step; the inverse of `order`.
        batch_sizes: `[T']` int64 on the CPU, stretches still running at each offset.
        first: `[B]` int64, rank of the sample's first stretch.
        last: `[B]` int64, rank of the sample's last stretch.
    """

    order: Tensor
    place: Tensor
    batch_sizes: Tensor
    first: Tensor
    last: Tensor


def split_at_starts(starts: Tensor) -> Segments:
    """Lay out the stretches between starts.

    Args:
        starts: `[B, T]` bool; True where a stretch begins. The first step of a sample always begins one.

    Returns:
        The layout; a rank is the place of a stretch in the order of falling length.
    """
    batch_size, steps = starts.shape
    begins = starts.clone()
    begins[:, 0] = True
    stretch = begins.flatten().cumsum(0) - 1  # [B·T], which stretch a step is in
    step = torch.arange(batch_size * steps, device=starts.device)
    begin = step[begins.flatten()]  # [G]
    offset = step - begin[stretch]  # [B·T], steps since the stretch began
    lengths = torch.bincount(stretch)
    rank = torch.empty_like(begin)
    rank[lengths.argsort(descending=True, stable=True)] = torch.arange(len(begin), device=starts.device)
    order = (offset * len(begin) + rank[stretch]).argsort()
    place = torch.empty_like(order)
    place[order] = step
    of_sample = rank[stretch].unflatten(0, (batch_size, steps))
    batch_sizes = torch.bincount(offset).cpu()
    return Segments(order, place, batch_sizes, of_sample[:, 0], of_sample[:, -1])


class Stretches(NamedTuple):
    """The stretches between starts as rows of their own, each padded to the longest; what a convolution takes.

    Attributes:
        step: `[G, L]` int64, index of the step (sample-major) at each place; 0 beyond the end of a stretch.
        valid: `[G, L]` bool, False beyond the end.
        place: `[B·T]` int64, place of each step in the flattened `[G · L]`.
        lengths: `[G]` int64.
        first: `[B]` int64, row of the sample's first stretch.
        last: `[B]` int64, row of the sample's last stretch.
    """

    step: Tensor
    valid: Tensor
    place: Tensor
    lengths: Tensor
    first: Tensor
    last: Tensor

    def lay_out(self, x: Tensor) -> Tensor:
        """Return `[B, T, N]` as rows `[G, L, N]`, zeros beyond the ends."""
        return torch.where(self.valid[..., None], x.flatten(0, 1)[self.step], 0)

    def take_back(self, rows: Tensor) -> Tensor:
        """Return rows `[G, L, N]` as `[B, T, N]`."""
        return rows.flatten(0, 1)[self.place].unflatten(0, (len(self.first), -1))


def cut_at_starts(starts: Tensor) -> Stretches:
    """Lay the stretches between starts out as rows.

    Args:
        starts: `[B, T]` bool; the first step of a sample always begins a stretch.
    """
    batch_size, steps = starts.shape
    begins = starts.clone()
    begins[:, 0] = True
    row = begins.flatten().cumsum(0) - 1  # [B·T], which stretch a step is in
    step = torch.arange(batch_size * steps, device=starts.device)
    begin = step[begins.flatten()]  # [G]
    lengths = torch.bincount(row)
    longest = int(lengths.max())
    offsets = torch.arange(longest, device=starts.device)
    valid = offsets < lengths[:, None]
    of_sample = row.unflatten(0, (batch_size, steps))
    return Stretches(
        torch.where(valid, begin[:, None] + offsets, 0),
        valid,
        row * longest + step - begin[row],
        lengths,
        of_sample[:, 0],
        of_sample[:, -1],
    )


def start_columns(starts: Tensor) -> list[int]:
    """Return 0, every later step at which any sample starts, and T."""
    later = starts[:, 1:].any(dim=0).nonzero().flatten() + 1
    return [0, *later.tolist(), starts.shape[1]]


def transforms_active() -> bool:
    """Return whether a transform of torch.func is under way.

    Its tensors have no memory of their own, which torch's packed recurrent calls look into.
    """
    # torch has no public question for this; its own autograd.Function asks the same.
    return bool(torch._C._are_functorch_transforms_active())
