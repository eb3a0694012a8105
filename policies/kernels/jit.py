"""Compile numba functions once and keep the machine code on disk.

numba looks at the file of the function that it compiles to decide whether the stored code is still good; here the
functions of several files are compiled into one. So the code is stored in a folder named after the contents of all
files of this package: a changed kernel never runs old code. The folder lies in `NUMBA_CACHE_DIR` when that is set,
else beside this file, else, for an installation that cannot be written, in the user's cache folder, else in the
temporary folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numba.core.config

_log = logging.getLogger(__name__)
_config: Any = numba.core.config


def compiled(function: Callable[..., Any], nogil: bool = True) -> Any:
    """Compile a function at its first call and keep the machine code on disk.

    Division by zero gives inf or NaN, as in torch. Floating-point shortcuts are chosen not here but in `cpu_lanes`,
    `lanes` and `math`.

    Args:
        function: what to compile.
        nogil: run without the interpreter lock, so that threads run side by side.
    """
    options: dict[str, Any] = {"nogil": nogil, "error_model": "numpy"}
    if _FOLDER is None:
        return numba.njit(**options)(function)
    previous, _config.CACHE_DIR = _config.CACHE_DIR, str(_FOLDER)
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        _config.CACHE_DIR = previous


def inlined(function: Callable[..., Any]) -> Any:
    """Mark a function that is compiled into those that call it."""
    return numba.njit(forceinline=True, nogil=True, error_model="numpy")(function)


def cache_folder() -> Path | None:
    """Return the folder for the compiled code, or None when no place can be written."""
    here = Path(__file__).parent
    contents = hashlib.sha256()
    for source in sorted(here.rglob("*.py")):
        contents.update(source.relative_to(here).as_posix().encode() + b"\0" + source.read_bytes())
    name = f"wormwheel-{contents.hexdigest()[:16]}"
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    places = [_beside(), user / "wormwheel", Path(tempfile.gettempdir()) / f"wormwheel-{_user_id()}"]
    if _config.CACHE_DIR:
        places.insert(0, Path(_config.CACHE_DIR))
    for place in places:
        folder = place / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    _log.warning("No folder can be written to keep compiled kernels; they are compiled anew in every process.")
    return None


def _beside() -> Path:
    return Path(__file__).parent / "__pycache__"


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


_FOLDER = cache_folder()
