"""Writing so that nothing is lost: everything is made beside its place and moved there when it is complete.

A kill, a full disk or a missing permission in the middle leaves what was there before, untouched. Every failure is one
`WriteError` (an `OSError`) whose message is a single line: what was being written, what went wrong, what to do.

    write_json("runs/a/results.json", {"crashes": 0})
    with replacing("runs/a/drive.mp4") as path:
        encode(path)
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial-"
"""Mark in the name of whatever is not complete yet; readers pass over names that hold it."""
ASIDE = ".aside.partial-"
"""Mark in the name of a directory that was set aside while its successor is moved into place."""
_LEFTOVER = re.compile(rf"\.(?P<name>.+?)(?P<aside>\.aside)?{re.escape(PARTIAL)}[0-9a-zA-Z_-]+(?P<suffix>\.\w+)?")

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EACCES: "no permission to write there; choose another place or change its permissions",
    errno.EPERM: "no permission to write there; choose another place or change its permissions",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOTDIR: "a part of the path is a file, not a directory; choose another place",
    errno.EISDIR: "it is a directory and a file was to be written; choose another name",
    errno.EEXIST: "a file is in the way; remove it or choose another place",
    errno.ENOTEMPTY: "something is in the way; remove it or choose another place",
    errno.EFBIG: "the file would grow beyond the size that is allowed; raise the limit or choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


class WriteError(OSError):
    """Something could not be written; the message is one complete line and what existed before is still there."""


@contextmanager
def clear_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any `OSError` inside the block into a one-line `WriteError` about `path`."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, str(error))
        clear = WriteError(f"cannot write {os.fspath(path)}: {advice}. What was there before is kept.")
        clear.errno = error.errno
        raise clear from error


def make_directory(path: str | os.PathLike[str]) -> Path:
    """Make a directory with its parents and check that files can be made in it.

    Raises:
        WriteError: if it cannot be made or nothing can be written to it.
    """
    directory = Path(path)
    with clear_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _probe(directory)
    return directory


def _probe(directory: Path) -> None:
    """Make a file in a directory; where the system knows files without a name, a kill leaves none behind."""
    if hasattr(os, "O_TMPFILE"):
        try:
            os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600))
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
    probe = _beside(directory / "probe")
    probe.touch(exist_ok=False)
    probe.unlink()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of a temporary file beside `path`; move it to `path` when the block ends well, else remove it.

    The temporary name keeps the suffix of `path`, for encoders that choose the format by it. Links are followed. A
    device or a pipe (`/dev/stdout`) cannot be replaced and is written to directly.

    Raises:
        WriteError: if the file cannot be written or moved.
    """
    target = Path(os.path.realpath(path))
    with clear_errors(path):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            yield target
            return
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_dead(target.parent)
        partial, held = _make_beside(target)
        try:
            yield partial
            if target.exists():
                shutil.copymode(target, partial)
            _flush_to_disk(partial)
            os.replace(partial, target)
        finally:
            remove(partial)
            if held is not None:
                os.close(held)


@contextmanager
def replacing_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a fresh directory beside `path`; move it to `path` when the block ends well, else remove it.

    A directory already at `path` is set aside first and removed only once the new one is in place.

    Raises:
        WriteError: if the directory cannot be made, filled or moved.
    """
    target = Path(os.path.realpath(path))
    with clear_errors(path):
        if target.exists() and not target.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial, aside = _beside(target), _beside(target, ASIDE)
        partial.mkdir()
        try:
            yield partial
            if target.exists():
                os.rename(target, aside)
            try:
                os.rename(partial, target)
            except OSError:
                if aside.exists():
                    os.rename(aside, target)
                raise
        finally:
            remove(partial)
        remove(aside)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file in one piece: readers see the old content or the new, never a part."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write a UTF-8 text file in one piece; what UTF-8 cannot say, as in some names of files, becomes an escape."""
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write an indented JSON file in one piece.

    Raises:
        TypeError: if `content` has no JSON form; nothing is written then.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def is_half_made(name: str) -> bool:
    """Whether a name is one of those under which a process of ours makes what it then moves into place."""
    return _LEFTOVER.fullmatch(name) is not None


def clear_leftovers(directory: Path) -> list[Path]:
    """Remove what killed processes left half-made anywhere below a directory that nobody writes to now.

    A directory that was set aside, and whose successor never came into place, goes back to its place.

    Returns:
        What was removed or put back.
    """
    cleared = []
    for entry in sorted(directory.rglob(f".*{PARTIAL}*")):
        match = _LEFTOVER.fullmatch(entry.name)
        if match is None or not os.path.lexists(entry):  # Its parent may have gone with it.
            continue
        target = entry.with_name(match["name"] + (match["suffix"] or ""))
        if match["aside"] and not target.exists():
            os.rename(entry, target)
        else:
            remove(entry)
        cleared.append(entry)
    return cleared


def private_directory(name: str) -> Path | None:
    """Return a directory of this user's own in the user's cache, made if needed; None where there can be none.

    Nobody else can write to it: it is the user's, with mode 0700, and no link.

    Args:
        name: of the directory, below `wormwheel` in the cache.
    """
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    place = Path(root) / "wormwheel" / name
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = place.lstat()
    except OSError:
        return None
    if place.is_symlink() or (hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077)):
        return None
    return place


def _beside(path: Path, mark: str = PARTIAL) -> Path:
    """Return a hidden, unused name in the same directory, with the same suffix."""
    return path.with_name(f".{path.stem}{mark}{secrets.token_hex(4)}{path.suffix}")


def _make_beside(target: Path) -> tuple[Path, int | None]:
    """Make an empty file under a hidden name and hold its lock, by which others see that its maker lives."""
    while True:
        partial = _beside(target)
        held = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:  # Windows moves no file that is open.
            os.close(held)
            return partial, None
        with suppress(OSError):  # Where the file system knows no locks, leftovers stay.
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(held).st_nlink:
            return partial, held
        os.close(held)  # Somebody who cleared up was faster than the lock.


_looked_through: set[Path] = set()
"""Directories that this process has cleared; once is enough, and they may hold many files."""


def _clear_dead(directory: Path) -> None:
    """Remove what killed processes have left half-made in a directory: hidden files of our naming that nobody holds."""
    if fcntl is None or directory in _looked_through:
        return
    _looked_through.add(directory)
    for entry in directory.glob(f".*{PARTIAL}*"):
        if _LEFTOVER.fullmatch(entry.name) is None:
            continue
        with suppress(OSError):
            descriptor = os.open(entry, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    entry.unlink()
            finally:
                os.close(descriptor)


def _flush_to_disk(path: Path) -> None:
    """Force a file's bytes out, so that the move that follows cannot put an empty file in place after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a directory if it is there; a failure to clean up never hides the error that led here."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            pass
