"""Threads and scratch memory of the CPU kernels.

The parts of a kernel run on the very threads that torch's own operations run on, those of the OpenMP library that torch
brings along. Between two operations these threads do not sleep but spin, for some milliseconds, so that the next one
begins at once. Threads of our own would have to share a core with them: on two cores, a training step (kernel,
optimizer, kernel, ...) would run as if there were one.

OpenMP does not survive a fork, which data loaders do; a forked process uses a pool of Python threads. So does one whose
torch was built without OpenMP. The results are the same, whatever the threads.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_log = logging.getLogger(__name__)
_local = threading.local()
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def scratch_addresses(floats: int, parts: int) -> list[int]:
    """Return addresses of memory for each of some parts, at the starts of cache lines.

    Its contents are whatever was there. It belongs to the calling thread and is kept for its next call.

    Args:
        floats: float32 numbers for each part.
        parts: how many.
    """
    line = 16
    stride = -(-floats // line) * line
    scratch: NDArray[np.float32] | None = getattr(_local, "scratch", None)
    if scratch is None or scratch.size < parts * stride + line:
        scratch = _local.scratch = np.empty(parts * stride + line, np.float32)
        _local.address = scratch.ctypes.data + -scratch.ctypes.data % 64
    return [_local.address + 4 * stride * k for k in range(parts)]


def side_by_side(part: Callable[[int], None], parts: int) -> None:
    """Call `part(0)` to `part(parts − 1)`, each on a thread of its own if there are enough.

    Args:
        part: what to do; it gains from threads as far as it releases the interpreter lock.
        parts: how many; at most `torch.get_num_threads()` make sense.

    Raises:
        Exception: what a part raised, after all have ended.
    """
    if parts == 1:
        part(0)
    elif _openmp is not None:
        _on_openmp(part, parts)
    else:
        others = [_pool().submit(part, k) for k in range(1, parts)]
        try:
            part(0)
        finally:
            for other in others:
                other.result()


def _on_openmp(part: Callable[[int], None], parts: int) -> None:
    """Do the parts in a parallel region of torch's OpenMP library."""
    waiting = list(range(parts - 1, -1, -1))
    errors: list[BaseException] = []

    def work(_: Any) -> None:
        # A team may be smaller than asked for: whoever is done takes the next part.
        while True:
            try:
                number = waiting.pop()
            except IndexError:
                return
            try:
                part(number)
            except BaseException as error:
                errors.append(error)

    _openmp(_CALLBACK(work), None, parts, 0)
    if errors:
        raise errors[0]


def _find_openmp() -> Any:
    """Return `GOMP_parallel` of the OpenMP library that torch has loaded; None if there is none.

    GNU's library has it, and LLVM's for the sake of programs made for GNU's.
    """
    if not torch.backends.openmp.is_available():
        return None
    for library in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")):
        try:
            # Looking a name up in a library also looks in those that it was linked with.
            region = ctypes.CDLL(str(library)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        region.argtypes = (_CALLBACK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        region.restype = None
        return region
    _log.info("torch's OpenMP library is out of reach; the CPU kernels use Python threads.")
    return None


_openmp: Any = _find_openmp()
_threads: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def _pool() -> ThreadPoolExecutor:
    global _threads
    with _lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="wormwheel-kernel")
        return _threads


def _after_fork() -> None:
    """In a forked process there are no threads, neither the pool's nor OpenMP's, and a lock may be held for ever."""
    global _openmp, _threads, _lock
    _openmp, _threads, _lock = None, None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
