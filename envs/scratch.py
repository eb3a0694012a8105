"""Folders for files that a library wants on the disk; those of killed processes are removed by the next one.

scratch = Scratch()
(scratch.path / "car.urdf").write_bytes(text)
scratch.remove()
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = "wormwheel-"
"""What the names of these folders begin with."""
ALIVE = "alive"
"""File in each of them whose lock its process holds."""
_cleared: set[str] = set()


class Scratch:
    """A folder among the temporary files that is this process's own.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        """Make it, after a look for those that killed processes have left."""
        if tempfile.gettempdir() not in _cleared:
            _cleared.add(tempfile.gettempdir())
            clear_dead(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.path / ALIVE, os.O_RDWR | os.O_CREAT, 0o600)
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        os.close(self._lock)
        shutil.rmtree(self.path, ignore_errors=True)


def clear_dead(place: Path) -> list[Path]:
    """Remove the folders of this user in a place whose process is gone; returns them."""
    removed: list[Path] = []
    for folder in place.glob(f"{PREFIX}*") if fcntl is not None else ():
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            descriptor = os.open(folder / ALIVE, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(descriptor)
    return removed
