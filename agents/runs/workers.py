"""Doing many independent jobs in several processes, with a pipe to each for jobs, for news and for its life.

Jobs are handed out one at a time, in order, to whoever is free: one long job holds nobody up. Which process does a job
is therefore left to chance, and what a job gives must not depend on it. A worker that cannot reach the parent any more,
because it is gone or has given up, stops: a killed program leaves no process behind.

    run_jobs(record_some, jobs, workers=2, on_news=bar.advance)
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn, TypeVar

from agents.runs.sockets import mark_socket_directory
from agents.runs.stalls import StallWatch, is_halted
from envs.foreign_code import note_origin, origin_of

Job = TypeVar("Job")


PRELOADED = ("torch", "numba", "cv2", "gymnasium", "pydantic", "agents.driving.rollout")
"""What every worker needs and takes long to import."""


class WorkerLost(OSError):
    """A worker process ended without a word, killed from outside, most likely for memory; or it makes no progress."""


class WorkerTrace(Exception):
    """Where in a worker process its cause was raised."""


class _NoParent(BaseException):
    """The parent does not listen any more."""


class _NoMore:
    """What a worker gets for a job when all are taken."""


def run_jobs(
    work: Callable[[Iterable[Job], Callable[[Any], None]], None],
    jobs: Sequence[Job],
    workers: int,
    on_news: Callable[[Any], None],
) -> None:
    """Do every job, some at the same time.

    Args:
        work: does jobs one after the other; called once in each process with an iterator that gives the next job when
            it is asked for one, and with a function that passes news (anything that pickles) to `on_news`. With more
            than one worker it must be importable by name, and news should come at least every few seconds.
        jobs: what to do; must pickle.
        workers: processes; 1 does all jobs in this process.
        on_news: called in this process with what the jobs report.

    Raises:
        ValueError: if `workers` is less than 1.
        WorkerLost: if a process was killed, or makes no progress.
        Exception: what a job raised; the other workers are stopped first.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}.")
    workers = min(workers, len(jobs))
    if workers <= 1:
        if jobs:
            work(iter(jobs), on_news)
        return
    context = worker_context()
    processes = []
    pipes: list[Connection] = []
    waiting = iter(jobs)
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(theirs, work), daemon=True)
            start_process(process)
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        open_pipes, watch, looked_s = list(pipes), StallWatch(), time.monotonic()
        while open_pipes:
            heard = wait(open_pipes, timeout=StallWatch.EVERY_S)
            if time.monotonic() > looked_s + StallWatch.EVERY_S:
                looked_s = time.monotonic()
                for pipe, process in zip(pipes, processes, strict=True):
                    if pipe in open_pipes and pipe not in heard and watch.stalled(process.pid):
                        raise WorkerLost(
                            f"worker process {process.pid} has stopped making progress; what was complete is kept. "
                            "Start again; with --workers 1 there are no other processes."
                        )
            for pipe in pipes:
                if pipe not in heard:
                    continue
                watch.forget(processes[pipes.index(pipe)].pid)
                try:
                    kind, content = pipe.recv()
                    if kind == "free":
                        pipe.send(next(waiting, _NoMore()))
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    raise WorkerLost(
                        "a worker process was killed, most likely because memory ran out; what was complete is kept. "
                        "Try again with --workers 1."
                    ) from None
                if kind == "news":
                    on_news(content)
                elif kind == "done":
                    open_pipes.remove(pipe)
                elif kind == "error":
                    raise_here(content)
    finally:
        for pipe in pipes:
            pipe.close()
        end_processes(processes)


def end_processes(processes: Sequence[BaseProcess], patience_s: float = 10.0) -> None:
    """Wait for processes whose pipes are closed; kill those that do not end, as one that is halted never would."""
    deadline_s = time.monotonic() + patience_s
    for process in processes:
        while process.is_alive() and time.monotonic() < deadline_s and not is_halted(process.pid):
            end_halted_server()
            process.join(timeout=0.05)
        if process.is_alive():
            process.kill()
        end_halted_server()
        process.join()


def end_halted_server(patience_s: float = 5.0) -> None:
    """Kill the server that forks workers where it has been stopped, as by SIGSTOP.

    It tells when a worker ends and starts the next one; whoever waits for that would wait for ever. Python starts
    another one when one is needed.
    """
    pid = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if pid is None or not is_halted(pid):
        return
    os.kill(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + patience_s
    # Not before it has ended in full does Python see that it needs another one. Its status is left for Python to take.
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None and time.monotonic() < deadline_s:
        time.sleep(0.01)


def end_with_parent(grace_s: float = 5.0) -> None:
    """End this process soon after the one that started it is gone, whatever it is doing.

    Args:
        grace_s: time to notice it and to clear away what is half made, s.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            time.sleep(grace_s)
            os._exit(1)

        threading.Thread(target=watch, name="parent", daemon=True).start()


def worker_context() -> Any:
    """Return how worker processes are made: forked from a server process that has imported torch and the rest once.

    A fork of this process would copy the locks of torch's and OpenCV's threads in whatever state they are; the server
    has started no thread. Without one (Windows) each worker is a new process that imports everything itself.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def start_process(process: BaseProcess) -> None:
    """Start a worker process, Ctrl-C held back meanwhile.

    Raises:
        WorkerLost: if the server that forks workers has ended, or was stopped, as by SIGSTOP.
    """
    end_halted_server()
    with interrupts_held_back(), _server_watched():
        mark_socket_directory()
        try:
            process.start()
        except (EOFError, ConnectionError):
            raise WorkerLost(
                "the process that starts workers ended without a word, killed from outside, most likely for memory: "
                "run the command again."
            ) from None


@contextmanager
def _server_watched(every_s: float = 0.5) -> Iterator[None]:
    """Kill the server of workers if it is stopped inside the block, where its answer is waited for without end.

    Twice in a row, since a whole group that goes on after Ctrl-Z does not do so at one moment.
    """
    over = threading.Event()

    def watch() -> None:
        halted = False
        while not over.wait(every_s):
            server = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
            if halted and is_halted(server):
                end_halted_server()
            halted = is_halted(server)

    watcher = threading.Thread(target=watch, name="server of workers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back while processes are started; they inherit that and leave it to their parent for good.

    Else one that comes while they import their modules ends them with a traceback. In this process it comes through at
    the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker(pipe: Connection, work: Callable[[Iterable[Any], Callable[[Any], None]], None]) -> None:
    """Do jobs as long as there are any, and send what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides what it means.
    end_with_parent()

    def send(kind: str, content: Any) -> None:
        try:
            pipe.send((kind, content))
        except (BrokenPipeError, ConnectionResetError):
            raise _NoParent from None

    def ask() -> Iterator[Any]:
        while True:
            send("free", None)
            try:
                job = pipe.recv()
            except (EOFError, ConnectionResetError):
                raise _NoParent from None
            if isinstance(job, _NoMore):
                return
            yield job

    try:
        work(ask(), lambda news: send("news", news))
        send("done", None)
    except _NoParent:
        return
    except (Exception, SystemExit) as error:
        content = portable(error)
        try:
            send("error", content)
        except _NoParent:
            return
    finally:
        pipe.close()


def portable(error: Exception | SystemExit) -> Exception:
    """Return the error, or one with the same words if it cannot be pickled, fit to be sent to another process.

    A traceback does not travel with its exception; its text does, and `raise_here` makes it the cause over there.
    """
    try:
        content: Exception = pickle.loads(pickle.dumps(error))
        if not isinstance(content, Exception):
            raise TypeError(f"{type(error).__name__} would end the other process.")
    except Exception:
        content = RuntimeError(f"{type(error).__name__} in a worker process: {error}")
    note_origin(content, origin_of(error))
    content.__dict__["trace"] = "".join(traceback.format_exception(error))
    return content


def raise_here(error: Exception) -> NoReturn:
    """Raise what another process made portable, with the place where it was raised there as its cause."""
    raise error from WorkerTrace(error.__dict__.pop("trace", ""))
