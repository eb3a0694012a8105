"""The Triton kernels in Triton's interpreter, where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from policies.kernels.gpu import HAS_TRITON, interpreted

FILES = [
    "tests/policies/kernels/ltc/test_triton.py",
    "tests/policies/kernels/cell/test_triton.py",
    "tests/policies/kernels/scan/test_scan.py",
    "tests/experiments/benchmarks/test_gru_triton.py",
]

pytestmark = [
    pytest.mark.skipif(not HAS_TRITON, reason="needs Triton: pip install -e '.[cuda]'"),
    pytest.mark.skipif(torch.cuda.is_available() or interpreted(), reason="the kernels run in this very process"),
]


def interpret(*selection: str) -> None:
    """Run the tests of the Triton kernels in a process where Triton interprets."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *FILES, "-k", "triton", *selection],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = [line for line in done.stdout.splitlines() if " PASSED " in line]
    assert all(any(line.startswith(file) for line in passed) for file in FILES), done.stdout[-4000:]


def test_small_problems_in_the_interpreter() -> None:
    interpret("-m", "not thorough")


@pytest.mark.thorough
def test_everything_in_the_interpreter() -> None:
    interpret()
