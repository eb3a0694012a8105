"""One writer a directory: a lock that names its holder and ends with its process, whatever ends that.

    with locked(Path("runs/a")):
        train()

The operating system holds the lock, so the file that a killed process left behind locks nothing. Where the file system
knows no locks, the process number in the file decides.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agents.runs.files import clear_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""Name of the file; it is there while somebody writes, or after a kill."""
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class DirectoryInUse(ValueError):
    """Another process writes to the directory."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only one who writes to a directory.

    Raises:
        DirectoryInUse: if somebody is; names the process, its machine and since when.
        WriteError: if nothing can be written there.
    """
    path = directory / LOCK
    with clear_errors(path):
        descriptor = _acquire(path)
        os.ftruncate(descriptor, 0)
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        os.pwrite(
            descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode(), 0
        )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # While the lock is held, so that nobody else's file is removed.
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Return the descriptor of the lock file, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _try_to_lock(descriptor):
                raise DirectoryInUse(_who(path))
            if _is_still_there(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # Its last holder has removed it in between.


def _try_to_lock(descriptor: int) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                return False
    holder = _read(os.pread(descriptor, 4096, 0))
    return not (holder and holder.get("host") == socket.gethostname() and _is_alive(holder.get("pid")))


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid < 1 or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read(content: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _who(path: Path) -> str:
    holder = _read(path.read_bytes()[:4096])
    who = (
        f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        if len(holder) == 3
        else "another process"
    )
    return f"{path.parent} is being written by {who}: wait until that ends, or give another directory."
