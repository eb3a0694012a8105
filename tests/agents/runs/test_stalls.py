"""Workers that are halted or killed are noticed in seconds, and none outlives whoever started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing import forkserver
from pathlib import Path

import pytest

from agents.runs import workers
from agents.runs.stalls import StallWatch, is_halted
from agents.runs.workers import WorkerLost, end_processes, run_jobs, worker_context

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/stat").exists(), reason="stalls are noticed by /proc, which this system has not"
    ),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
    pytest.mark.usefixtures("light_server"),
]


def halt(jobs: Iterable[int], report: Callable[[int], None]) -> None:
    """Report, and stop in the middle of the second job."""
    for job in jobs:
        report(job)
        if job:
            os.kill(os.getpid(), signal.SIGSTOP)


def test_a_halted_worker_ends_the_work_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(StallWatch, "EVERY_S", 0.05)
    started_s = time.monotonic()
    with pytest.raises(WorkerLost, match="has stopped making progress"):
        run_jobs(halt, [0, 1, 2, 3], 2, lambda news: None)
    assert time.monotonic() - started_s < 30


def halt_the_server(jobs: Iterable[int], report: Callable[[int], None]) -> None:
    """Report, and stop the process that forked this one, before the first job."""
    for job in jobs:
        if not job:
            os.kill(os.getppid(), signal.SIGSTOP)
        report(job)


def test_a_halted_server_of_workers_holds_nobody_up():
    """It is to say that workers have ended and to start the next ones: nobody waits."""
    for _ in range(2):
        started_s, heard = time.monotonic(), []
        run_jobs(halt_the_server, [0, 1, 2, 3], 2, heard.append)
        assert sorted(heard) == [0, 1, 2, 3]
        assert time.monotonic() - started_s < 60


def test_a_server_of_workers_that_is_halted_as_it_starts_holds_nobody_up():
    """What it is to answer is waited for in Python's own code, which knows of no patience."""
    forkserver._forkserver._stop()  # the next worker starts another one

    def halt_it() -> None:
        while forkserver._forkserver._forkserver_pid is None:
            time.sleep(0.001)
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGSTOP)

    hitman, started_s = threading.Thread(target=halt_it), time.monotonic()
    hitman.start()
    with pytest.raises(WorkerLost, match="the process that starts workers ended"):
        run_jobs(report_all, [0, 1, 2], 2, lambda news: None)
    hitman.join()
    assert time.monotonic() - started_s < 30
    heard: list[int] = []
    run_jobs(report_all, [0, 1, 2], 2, heard.append)
    assert sorted(heard) == [0, 1, 2]


def report_all(jobs: Iterable[int], report: Callable[[int], None]) -> None:
    """Report every job."""
    for job in jobs:
        report(job)


def test_who_works_is_not_stalled_and_who_waits_is():
    watch = StallWatch(patience_s=0.2)
    assert not watch.stalled(os.getpid())
    end_s = time.monotonic() + 0.4
    while time.monotonic() < end_s:
        pass
    assert not watch.stalled(os.getpid())
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        time.sleep(0.1)
        assert not watch.stalled(child)
        time.sleep(0.5)
        assert watch.stalled(child)
        watch.forget(child)
        assert not watch.stalled(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not watch.stalled(child), "who is gone is no matter of progress"


def sleep(seconds: float) -> None:
    """Be halted, or sleep for long."""
    workers.end_with_parent()
    time.sleep(seconds)


def test_processes_that_do_not_end_are_killed():
    process = worker_context().Process(target=sleep, args=(60.0,), daemon=True)
    process.start()
    os.kill(process.pid, signal.SIGSTOP)
    while not is_halted(process.pid):
        time.sleep(0.01)
    end_processes([process], patience_s=5.0)
    assert not process.is_alive()
