"""Doing many independent jobs in several processes, with a pipe from each for news and for its life.

Jobs are dealt round-robin, so which process does a job depends on nothing but its place in the list. A worker that
cannot send news any more, because the parent is gone or has given up, stops: a killed program leaves no process behind.

    run_jobs(record_some, jobs, workers=2, on_news=bar.advance)
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Job = TypeVar("Job")


class WorkerLost(OSError):
    """A worker process ended without a word: killed from outside, most likely for memory."""


class WorkerTrace(Exception):
    """Where in a worker process its cause was raised."""


class _NoParent(BaseException):
    """The parent does not listen any more."""


def run_jobs(
    work: Callable[[Sequence[Job], Callable[[Any], None]], None],
    jobs: Sequence[Job],
    workers: int,
    on_news: Callable[[Any], None],
) -> None:
    """Do every job, some at the same time.

    Args:
        work: does a share of the jobs, one after the other; called with them and with a function that passes news
            (anything that pickles) to `on_news`. With more than one worker it must be importable by name, and news
            should come at least every few seconds.
        jobs: what to do; must pickle.
        workers: processes; 1 does all jobs in this process.
        on_news: called in this process with what the jobs report.

    Raises:
        ValueError: if `workers` is less than 1.
        WorkerLost: if a process was killed.
        Exception: what a job raised; the other workers are stopped first.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}.")
    workers = min(workers, len(jobs))
    if workers <= 1:
        if jobs:
            work(jobs, on_news)
        return
    # spawn: a fork would copy the threads' locks of torch and OpenCV in whatever state they are.
    context = multiprocessing.get_context("spawn")
    processes = []
    pipes: list[Connection] = []
    try:
        for number in range(workers):
            listening, talking = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(talking, work, jobs[number::workers]), daemon=True)
            process.start()
            talking.close()
            processes.append(process)
            pipes.append(listening)
        open_pipes = list(pipes)
        while open_pipes:
            for pipe in wait(open_pipes):
                assert isinstance(pipe, Connection)
                try:
                    kind, content = pipe.recv()
                except (EOFError, ConnectionResetError):
                    raise WorkerLost(
                        "a worker process was killed, most likely because memory ran out; what was complete is kept. "
                        "Try again with --workers 1."
                    ) from None
                if kind == "news":
                    on_news(content)
                elif kind == "done":
                    open_pipes.remove(pipe)
                else:
                    raise content from WorkerTrace(content.__dict__.pop("trace", ""))
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(timeout=10)
            if process.is_alive():
                process.terminate()
                process.join()


def _worker(
    pipe: Connection, work: Callable[[Sequence[Any], Callable[[Any], None]], None], jobs: Sequence[Any]
) -> None:
    """Do a share of the jobs and send what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides what it means.

    def send(kind: str, content: Any) -> None:
        try:
            pipe.send((kind, content))
        except (BrokenPipeError, ConnectionResetError):
            raise _NoParent from None

    try:
        work(jobs, lambda news: send("news", news))
        send("done", None)
    except _NoParent:
        return
    except Exception as error:
        try:
            content = pickle.loads(pickle.dumps(error))
        except Exception:
            content = RuntimeError(f"{type(error).__name__} in a worker process: {error}")
        # A traceback does not travel with its exception; its text does, and becomes the cause over there.
        content.__dict__["trace"] = traceback.format_exc()
        try:
            send("error", content)
        except _NoParent:
            return
    finally:
        pipe.close()
