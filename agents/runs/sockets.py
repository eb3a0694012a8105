"""Where `multiprocessing` keeps the sockets of this process, marked as ours: what a kill leaves can then be removed.

The mark is a file that this process locks for as long as it lives. Other programs' directories have none, and those of
programs that still run, whose server of workers may have ended and will be started again, have one that is locked.
"""

from __future__ import annotations

import multiprocessing.util
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from agents.runs.files import remove

try:
    import fcntl
except ImportError:  # Windows, whose workers need no sockets
    fcntl = None  # type: ignore[assignment]

MARK = "wormwheel.lock"
"""Name of the file that says whose a directory of sockets is."""

_held: dict[Path, int] = {}
"""Directories that this process has marked, with the descriptors that hold their locks."""


def mark_socket_directory() -> None:
    """Mark the directory of this process's sockets, made if needed; once is enough."""
    if fcntl is None:
        return
    place = Path(multiprocessing.util.get_temp_dir())
    if place in _held:
        return
    descriptor = os.open(place / MARK, os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):  # A worker that starts workers: its parent holds the lock.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held[place] = descriptor


def clear_dead_sockets() -> None:
    """Remove the marked directories of sockets that killed processes have left in the directory of temporary files.

    Only those whose mark nobody holds, and which hold nothing but the mark and sockets.
    """
    if fcntl is None:
        return
    for place in Path(tempfile.gettempdir()).glob("pymp-*"):
        with suppress(OSError):
            descriptor = os.open(place / MARK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if all(entry.is_socket() for entry in place.iterdir() if entry.name != MARK):
                    remove(place)
            finally:
                os.close(descriptor)
