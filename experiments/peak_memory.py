"""The most memory that this process has had: what a benchmark measures in processes of their own."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """Return the largest resident size that this process has had, MiB."""
    # Linux hands `ru_maxrss` on from the parent to the program that it starts; VmHWM is the program's own.
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2**20 if sys.platform == "darwin" else size / 2**10
