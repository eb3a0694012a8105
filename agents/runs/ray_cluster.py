"""Doing many independent jobs on a Ray cluster: the counterpart of `agents.runs.workers` on more than one machine.

Each job is a task with one core. A task whose node dies is done again elsewhere. Nothing is shared but Ray itself: the
policy directories travel through its object store and are unpacked once on each node; Wormwheel must be installed there
(`pip install -e '.[cluster]'`), recordings and road files must lie at the same path, so name them from the root.

    ray start --head --num-cpus=8                  # on one machine, and on others: ray start --address=HEAD:6379
    run_jobs_on_ray(drive_jobs, jobs, "auto", on_news)
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agents.runs.files import private_directory

RETRIES = 5
"""Nodes that may die under one job before it is given up."""
PATIENCE_S = 5.0
"""Time in which the machine of an address must answer; Ray itself would try for more than a minute."""
EXTRA = "pip install -e '.[cluster]'"
"""How to get what this needs."""

Files = dict[str, bytes]
"""The content of a directory's files, by name."""


class Movable(Protocol):
    """A job that reads directories, which may lie elsewhere on another machine."""

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories that it reads."""
        ...

    def moved(self, places: Mapping[Path, Path]) -> Movable:
        """Return the same job with its directories at other places."""
        ...


Job = TypeVar("Job", bound=Movable)


def run_jobs_on_ray(
    work: Callable[[Iterable[Any], Callable[[Any], None]], None],
    jobs: Sequence[Job],
    address: str,
    on_news: Callable[[Any], None],
) -> None:
    """Do every job on a cluster.

    Args:
        work: as for `agents.runs.workers.run_jobs`; called once for each job.
        jobs: what to do; must pickle.
        address: of the cluster; "auto" is the one that this machine belongs to.
        on_news: called in this process with what a job reports, once the job is done.

    Raises:
        ValueError: if Ray is not installed.
        OSError: if there is no cluster at that address.
        Exception: what a job raised; the others are stopped first.
    """
    ray = _connect(address)
    try:
        # In the object store once, however many jobs read it.
        luggage = {path: ray.put(_pack(path)) for path in sorted({p for job in jobs for p in job.directories})}
        task = ray.remote(_do).options(num_cpus=1, max_retries=RETRIES)
        # A list inside an argument is not waited for, so each directory is an argument of its own.
        waiting = [task.remote(work, job, *(luggage[path] for path in job.directories)) for job in jobs]
        try:
            while waiting:
                finished, waiting = ray.wait(waiting, num_returns=1)
                for news in ray.get(finished[0]):
                    on_news(news)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, (ValueError, OSError)) else error) from error
        except ray.exceptions.RayError as error:
            reason = str(error).splitlines()[0]
            raise OSError(f"the Ray cluster gave a job up: {reason}. What was complete is kept.") from error
        finally:
            for one in waiting:
                ray.cancel(one, force=True)
    finally:
        ray.shutdown()


def check_cluster(address: str) -> None:
    """Join a cluster and leave it, before anything is made.

    Raises:
        ValueError: if Ray is not installed.
        OSError: if there is no cluster at that address.
    """
    _connect(address).shutdown()


def _connect(address: str) -> Any:
    """Join a cluster; Ray's own statistics are not sent anywhere."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ValueError(f"driving on a cluster needs Ray, which is not installed: {EXTRA}") from None
    try:
        _call(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        hint = "start one by `ray start --head`, or leave --ray out to drive on this machine alone"
        raise ConnectionError(f"there is no Ray cluster at {address!r}: {hint}. ({error})") from error
    return ray


def _call(address: str) -> None:
    """See whether anybody answers at HOST:PORT; other addresses are for Ray to understand.

    Raises:
        OSError: if nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), PATIENCE_S).close()


def _do(work: Callable[[Iterable[Any], Callable[[Any], None]], None], job: Movable, *luggage: Files) -> list[Any]:
    """Do one job on a node; returns its news."""
    places = {path: _unpack(files) for path, files in zip(job.directories, luggage, strict=True)}
    news: list[Any] = []
    work([job.moved(places)], news.append)
    return news


def _pack(directory: Path) -> Files:
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir()) if file.is_file()}


def _unpack(files: Files) -> Path:
    """Write files to a directory of this user's own that is named by their content; one that is there is complete."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name} {len(content)} ".encode() + content)
    root = private_directory("policies") or Path(tempfile.mkdtemp(prefix="wormwheel-"))
    place = root / digest.hexdigest()[:24]
    if place.is_dir():
        return place
    partial = root / f".{secrets.token_hex(8)}"
    partial.mkdir()
    for name, content in files.items():
        (partial / Path(name).name).write_bytes(content)
    try:
        partial.rename(place)
    except OSError:  # another task on this node was faster
        if not place.is_dir():
            raise
    return place
