"""A server of workers that starts at once, for tests that start and halt it."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import forkserver

import pytest

from agents.runs import workers


@pytest.fixture(scope="module")
def light_server() -> Iterator[None]:
    """Let the server of workers import no torch, which would take seconds at each of its starts; none runs afterwards.

    The jobs of these tests need nothing but themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "PRELOADED", ("tests.agents.runs.test_stalls", "tests.agents.runs.test_sockets"))
        workers.end_halted_server()
        forkserver._forkserver._stop()
        yield
        workers.end_halted_server()
        forkserver._forkserver._stop()
