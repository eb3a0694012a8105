"""What all tests share: a server of workers that has imported what their workers need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.runs import workers

PRELOADED = ("pytest", "agents.ppo.algorithm", "agents.driving.trials", "experiments.gate.drives")
"""Beside what the server of workers imports anyway: else each of the tests' workers imports it, for seconds."""


@pytest.fixture(scope="session", autouse=True)
def workers_find_their_modules_imported() -> Iterator[None]:
    """Let the server that forks workers import the tests' packages once. A package that is not there is passed over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "PRELOADED", (*workers.PRELOADED, *PRELOADED))
        yield
