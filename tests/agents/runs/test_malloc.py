"""Freed memory stays with the process where malloc can be told so, and other systems are left alone."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from agents.runs.malloc import keep_freed_memory

FAULTS = """
import resource, sys
from agents.runs.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc's malloc")
def test_blocks_come_back_without_new_pages() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "let go")
    }
    assert faults["keep"] < 0.2 * faults["let go"]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
