"""Threads and scratch memory of the CPU kernels.

Plain Python threads around functions that release the interpreter lock, instead of numba's parallel loops: numba's
portable threading layer must not be entered by two threads at once, and OpenMP's does not survive a fork, which data
loaders do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from policies.kernels.cpu_lanes import WIDTH

LEAST_WORK = 30_000
"""Synapse evaluations of 16 lanes below which a further thread costs more than it brings; 0.1 to 0.2 ms."""

_local = threading.local()
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def scratch_address(rows: int) -> int:
    """Return the address of this thread's scratch memory, at least `rows` rows, at the start of a cache line.

    Its contents are whatever was there. It is kept for the next call.
    """
    scratch: NDArray[np.float32] | None = getattr(_local, "scratch", None)
    if scratch is None or scratch.size < rows * WIDTH + WIDTH:
        scratch = _local.scratch = np.empty(rows * WIDTH + WIDTH, np.float32)
        _local.address = scratch.ctypes.data + -scratch.ctypes.data % 64
    return _local.address


def in_parts(part: Callable[[int, int], None], batch: int, work: int) -> None:
    """Call `part(first, last)` for stretches of the batch, multiples of 16 samples, in several threads if it pays.

    Args:
        part: what to do; it must release the interpreter lock.
        batch: B.
        work: synapse evaluations of 16 lanes that each 16 samples need.
    """
    tiles = -(-batch // WIDTH)
    threads = 1 if tiles == 1 else min(torch.get_num_threads(), tiles, 1 + tiles * work // LEAST_WORK)
    if threads <= 1:
        part(0, batch)
        return
    bounds = [min(batch, WIDTH * (tiles * k // threads)) for k in range(threads + 1)]
    others = [_workers().submit(part, bounds[k], bounds[k + 1]) for k in range(1, threads)]
    try:
        part(bounds[0], bounds[1])
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
