"""What all tests share: a server of workers that has imported what they need, and kernels that are compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from agents.runs import workers
from policies.cores import make_core

PRELOADED = ("pytest", "agents.ppo.algorithm", "agents.driving.trials", "experiments.gate.drives")
"""Beside what the server of workers imports anyway: else each of the tests' workers imports it, for seconds."""


@pytest.fixture(scope="session", autouse=True)
def workers_find_their_modules_imported() -> Iterator[None]:
    """Let the server that forks workers import the tests' packages once. A package that is not there is passed over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "PRELOADED", (*workers.PRELOADED, *PRELOADED))
        yield


def _compile_cell(dtype: torch.dtype) -> None:
    core = make_core("ctrnn", 3, 1).to(dtype)
    core(torch.zeros(1, 2, 3, dtype=dtype))[0].sum().backward()


def _compile_others() -> None:
    from agents.imitation.augmentation import AugmentationConfig, augment

    make_core("ltc", 3, 1)(torch.zeros(1, 2, 3))[0].sum().backward()
    for dtype in (torch.float32, torch.float64):
        make_core("lrc_ssm", 3, 1).to(dtype)(torch.zeros(1, 2, 3, dtype=dtype))[0].sum().backward()
    frames = torch.zeros(1, 1, 8, 8, 3, dtype=torch.uint8)
    augment(frames, torch.zeros(1, 1), AugmentationConfig(), torch.Generator())


@pytest.fixture(scope="session", autouse=True)
def processes_compile_different_kernels(request: pytest.FixtureRequest) -> None:
    """Where tests run in several processes, let each begin with kernels of its own.

    On a bare checkout nothing is compiled yet. What one process compiles the others wait for, and in the same order
    they would all wait at each kernel, for most of a minute.
    """
    number = getattr(request.config, "workerinput", {}).get("workerid")
    if number == "gw0":
        _compile_others()
    elif number == "gw1":
        _compile_cell(torch.float32)
        _compile_cell(torch.float64)
