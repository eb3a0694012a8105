"""Memory that is freed stays with the process.

An update of a conv head frees and takes tens of megabytes for every minibatch. glibc hands such blocks back to the
kernel, which gives them out again one zeroed page after another: a fifth to a third of the time of an update goes there
(minibatches of 128 and 512 frames of 48×96 pixels, one core).
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # The parameters of mallopt(3).
_LARGEST_BLOCK, _KEPT, _STEP = 1 << 30, (1 << 31) - 1, 1 << 26


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to take large blocks from the heap and to keep up to 2 GiB of what is freed.

    Holds for the whole process from here on. Other C libraries are left alone.

    Returns:
        Whether malloc agreed.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wishes = ((_MMAP_THRESHOLD, _LARGEST_BLOCK), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _STEP))
    return mallopt is not None and all([mallopt(name, value) == 1 for name, value in wishes])
