"""Folders for files that a library wants on the disk; those of killed processes are removed by the next one.

scratch = Scratch()
(scratch.path / "car.urdf").write_bytes(text)
scratch.remove()
"""

from __future__ import annotations

import os
import re
import shutil
import stat
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
MADE = re.compile(PREFIX + "[a-z0-9_]{8}")
"""What `tempfile` makes of that."""
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
        while (lock := self._make()) is None:
            pass  # another process that starts took it, empty, for one that was left
        self._lock = lock

    def _make(self) -> int | None:
        """Make a folder and hold its lock; returns the open file, None if the folder is gone again."""
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = os.open(self.path / ALIVE, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (self.path / ALIVE).exists():
            return lock
        os.close(lock)
        return None

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        if fcntl is None:
            os.close(self._lock)  # Windows removes no open file
            _remove(self.path)
        else:
            _remove(self.path)
            os.close(self._lock)


def _remove(folder: Path) -> None:
    """Remove a folder, what says whose it is last: a kill on the way leaves what the next one recognises."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != ALIVE:
                path.unlink()
        (folder / ALIVE).unlink(missing_ok=True)
        folder.rmdir()


def clear_dead(place: Path) -> list[Path]:
    """Remove the folders of this user in a place whose process is gone; returns them.

    One that is named, owned and closed to others like these and is empty was left by a kill as it was made or removed.
    """
    removed: list[Path] = []
    for folder in place.glob(f"{PREFIX}*") if fcntl is not None else ():
        with suppress(OSError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            if MADE.fullmatch(folder.name) and stat.S_IMODE(status.st_mode) == 0o700 and not any(folder.iterdir()):
                folder.rmdir()
                removed.append(folder)
                continue
            descriptor = os.open(folder / ALIVE, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
                removed.append(folder)
            finally:
                os.close(descriptor)
    return removed
