"""Compile numba functions once and keep the machine code on disk.

numba looks at path and age of the function's file to decide whether the stored code is still good; here the functions
of several files are compiled into one. So the code is stored in a folder named after the contents of all files of this
package, and in it in one named after the contents of the function's own file: a changed kernel never runs old code, and
the same kernels in another place, such as another checkout with the same `NUMBA_CACHE_DIR`, find what was compiled.

What is stored is code that will run, so it lies where nobody else can write: a folder of the user's own with mode 0700,
in `NUMBA_CACHE_DIR` when that is set, else beside this file, else in the user's cache folder or in the temporary one;
where none of them will do, the code is compiled in memory in every process. Each file begins with the digest of the
rest: what was cut short or altered is compiled again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pickle
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numba
import numba.core.config
from numba.core.caching import IndexDataCacheFile
from numba.core.serialize import dumps

LONGEST_WAIT_S = 60.0
"""How long a process waits for another one that compiles the same function."""
_log = logging.getLogger(__name__)
_config: Any = numba.core.config


def compiled(function: Callable[..., Any], nogil: bool = True) -> Any:
    """Compile a function at its first call and keep the machine code on disk.

    Division by zero gives inf or NaN, as in torch. Floating-point shortcuts are chosen not here but in `simd`.

    Args:
        function: what to compile.
        nogil: run without the interpreter lock, so that threads run side by side.
    """
    options: dict[str, Any] = {"nogil": nogil, "error_model": "numpy"}
    if _FOLDER is None or _config.DISABLE_JIT:
        return numba.njit(**options)(function)
    previous, _config.CACHE_DIR = _config.CACHE_DIR, str(_FOLDER)
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    finally:
        _config.CACHE_DIR = previous
    cache = dispatcher._cache
    cache._impl.locator._cache_path = cache._cache_path = str(_folder_of(function))
    cache._cache_file = _CheckedFile(cache.cache_path, cache._impl.filename_base, source_stamp="")
    _compile_in_one_process(cache, Path(cache.cache_path) / f"{cache._impl.filename_base}.lock")
    return dispatcher


def _compile_in_one_process(cache: Any, place: Path) -> None:
    """Let one process compile a function while the others wait for what it stores: they would all do the same work."""
    load, save = cache.load_overload, cache.save_overload

    @functools.cache
    def lock_of(process: int) -> filelock.BaseFileLock:
        return filelock.FileLock(place, timeout=LONGEST_WAIT_S)  # a lock that a fork inherits is refused

    def load_or_lock(signature: Any, context: Any) -> Any:
        found = load(signature, context)
        if found is not None:
            return found
        try:
            lock_of(os.getpid()).acquire()
        except (filelock.Timeout, OSError):  # whoever compiles is slow, or the folder takes no locks: do it here too
            return None
        found = load(signature, context)
        if found is not None:
            lock_of(os.getpid()).release()
        return found

    def save_and_unlock(signature: Any, data: Any) -> None:
        try:
            save(signature, data)
        finally:
            lock_of(os.getpid()).release()

    cache.load_overload, cache.save_overload = load_or_lock, save_and_unlock


def _folder_of(function: Callable[..., Any]) -> Path:
    """Return where a function's code is stored: where it lies and how old its file is tell nothing."""
    assert _FOLDER is not None
    source = Path(function.__code__.co_filename)
    return _FOLDER / f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"


def inlined(function: Callable[..., Any]) -> Any:
    """Mark a function that is compiled into those that call it."""
    return numba.njit(forceinline=True, nogil=True, error_model="numpy")(function)


class _CheckedFile(IndexDataCacheFile):
    """numba's store of one function's code, with a digest before every file; nothing is unpickled unchecked."""

    def save(self, key: Any, data: Any) -> None:
        try:
            super().save(key, data)
        except OSError as error:  # a full disk ends the keeping, not the training
            _log.warning("Compiled kernels cannot be kept in %s: %s.", self._cache_path, error)

    def _load_index(self) -> dict[Any, Any]:
        stored = self._read(self._index_path)
        if stored is None or stored[:2] != (self._version, self._source_stamp):
            return {}
        return pickle.loads(stored[2])

    def _save_index(self, overloads: dict[Any, Any]) -> None:
        self._write(self._index_path, overloads)

    def _load_data(self, name: str) -> Any:
        stored = self._read(self._data_path(name))
        return None if stored is None else pickle.loads(stored[2])

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> tuple[str, Any, bytes] | None:
        try:
            content = Path(path).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            _log.warning("%s was cut short or altered; the kernel is compiled again.", path)
            return None
        return pickle.loads(content[32:])

    def _write(self, path: str, data: Any) -> None:
        content = pickle.dumps((self._version, self._source_stamp, dumps(data)))
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(content).digest() + content)


def cache_folder() -> Path | None:
    """Return the folder for the compiled code, or None when there is no place for one that is the user's own."""
    here = Path(__file__).parent
    contents = hashlib.sha256()
    for source in sorted(here.rglob("*.py")):
        contents.update(source.relative_to(here).as_posix().encode() + b"\0" + source.read_bytes())
    name = f"wormwheel-{contents.hexdigest()[:16]}"
    places = [_beside(), *_in_home(), Path(tempfile.gettempdir()) / f"wormwheel-{_user_id()}"]
    if _config.CACHE_DIR:
        places.insert(0, Path(_config.CACHE_DIR))
    for place in places:
        folder = place / name
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            if _is_own(place, folder):
                with tempfile.TemporaryFile(dir=folder):
                    return folder
        except OSError:
            continue
    _log.warning(
        "There is no folder of your own to keep compiled kernels in (tried %s); every process compiles them again. Set "
        "NUMBA_CACHE_DIR to one that nobody else can write.",
        ", ".join(map(str, places)),
    )
    return None


def _is_own(place: Path, folder: Path) -> bool:
    """Return whether nobody but the user (and root) can write the folder, or put another in its place."""
    if not hasattr(os, "getuid"):
        return True
    user, inside = os.getuid(), folder.lstat()
    ours = place.name.startswith("wormwheel")  # in the user's or the temporary folder; no link may stand in for it
    for around in (place.parent.stat(), place.lstat()) if ours else (place.stat(),):
        if around.st_uid not in (user, 0) or (around.st_mode & 0o022 and not around.st_mode & stat.S_ISVTX):
            return False
    if not stat.S_ISDIR(inside.st_mode) or inside.st_uid != user:
        return False
    if inside.st_mode & 0o077:
        if inside.st_mode & 0o022:  # what lies in it may be anyone's
            return False
        folder.chmod(0o700)
    return True


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _beside() -> Path:
    return Path(__file__).parent / "__pycache__"


def _in_home() -> list[Path]:
    """Return the user's cache folder, when there is a home to hold it."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no entry for this user
        home = Path("/nonexistent")
    if cache and Path(cache).is_absolute():
        return [Path(cache) / "wormwheel"]
    return [home / ".cache" / "wormwheel"] if home.is_dir() else []


_FOLDER = cache_folder()
