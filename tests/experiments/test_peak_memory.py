"""The memory of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INNER = "from experiments.peak_memory import peak_mib; print(peak_mib())"
OUTER = f"""
import subprocess, sys
held = bytearray(200 * 2**20)
held[::4096] = bytes([1]) * len(held[::4096])
print(subprocess.run([sys.executable, "-c", {INNER!r}], capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says it")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it() -> None:
    """Trainings are measured in processes of their own, by one that has held much itself."""
    ran = subprocess.run([sys.executable, "-c", OUTER], capture_output=True, text=True, check=True)
    assert 10 < float(ran.stdout) < 150
