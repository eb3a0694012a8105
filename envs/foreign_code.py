"""Code that others wrote, called from here: imported by name, and whatever it raises becomes one line.

    make = load_object("net.py:make")
    with foreign_code("net.py:make"):
        made = make()

The line says whose code it was, what it raised, and where in the other's file. `SystemExit` counts as well: a program
that tests somebody's driver does not end because the driver calls `sys.exit`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent.parent
"""Where our own packages lie."""
ROOMS = tuple(str(HERE / room) + os.sep for room in ("agents", "envs", "experiments", "policies", "tests"))
"""Beginnings of the names of our own files."""
LIBRARIES = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})
"""Beginnings of the names of files that came with Python."""
_ORIGIN = "origin_in_foreign_code"
_WRITTEN = "_wormwheel_written_ns"
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class ForeignCodeError(ValueError):
    """Code of somebody else failed, or gave what it must not; the message is one line."""


class NoSuchFile(ForeignCodeError, FileNotFoundError):
    """The file that was named is not there."""


@contextmanager
def foreign_code(what: str, advice: str = "") -> Iterator[None]:
    """Turn whatever the block raises into one line.

    Args:
        what: whose code it is and what it is doing, such as "net.py:make".
        advice: what to do about it.

    Raises:
        ForeignCodeError: instead of anything but a missing package, missing memory and Ctrl-C.
    """
    try:
        yield
    except (ForeignCodeError, ImportError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise ForeignCodeError(f"{what} failed: {describe_error(error)}.{f' {advice}' if advice else ''}") from error


def describe_error(error: BaseException) -> str:
    """Return what an error says and where it was raised in the code of others, on one line without a full stop."""
    words = " ".join(str(error).split())[:300].rstrip(".")
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        kind, words = "it ended the program", f"sys.exit({error.code!r})"
    place = foreign_place(error)
    return f"{kind}{f': {words}' if words else ''}{f' ({place})' if place else ''}"


def foreign_place(error: BaseException) -> str | None:
    """Return the last line of somebody else's code that an error came through, as "net.py, line 12"; None without one.

    What was installed counts as nobody's: the line that called it is the one to look at.
    """
    return origin_of(error)[0]


def is_foreign(error: BaseException) -> bool:
    """Whether code of somebody else raised an error, or a library that it called."""
    return origin_of(error)[1]


def origin_of(error: BaseException) -> tuple[str | None, bool]:
    """Return the last place in the code of others that an error came through, and whether nothing of ours came after.

    An error that comes from another process has lost its traceback and brings this along (`note_origin`).
    """
    brought = error.__dict__.get(_ORIGIN)
    return _last(error.__traceback__) if brought is None else brought


def note_origin(error: BaseException, origin: tuple[str | None, bool]) -> None:
    """Note on an error what `origin_of` found in the process where it was raised."""
    error.__dict__[_ORIGIN] = origin


def _last(trace: TracebackType | None) -> tuple[str | None, bool]:
    place, last = None, False
    while trace is not None:
        name = os.path.realpath(trace.tb_frame.f_code.co_filename)
        if name.startswith(ROOMS):
            last = False
        elif os.path.isfile(name) and not name.startswith(LIBRARIES) and not any(part in name for part in _INSTALLED):
            place, last = f"{os.path.basename(name)}, line {trace.tb_lineno}", True
        trace = trace.tb_next
    return place, last


def split_object(text: str) -> tuple[str, str] | None:
    """Split `module:name` or `file.py:name`; None for anything else, such as paths with a drive letter."""
    place, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or Path(text).exists():
        return None
    if place.endswith(".py") or all(part.isidentifier() for part in place.split(".")):
        return (place, name) if len(place) > 1 else None
    return None


def load_object(text: str) -> Any:
    """Return what `module:name` or `file.py:name` names; imports it.

    Modules are looked for where Python looks, and at last in the current directory; a file finds those beside it.

    Raises:
        ValueError: if the text names nothing, or the code fails.
        FileNotFoundError: if the file is not there.
        ImportError: if the module needs another one that is missing.
    """
    parts = split_object(text)
    if parts is None:
        raise ValueError(f"{text!r} must be module:name or file.py:name.")
    place, name = parts
    module = import_place(place)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [word for word in vars(module) if not word.startswith("_") and callable(vars(module)[word])]
        known = ", ".join(public) or "nothing to call"
        raise ValueError(f"{place} has no function {name!r}. It has: {known}.") from None


def import_place(place: str) -> ModuleType:
    """Import a module by name, or a file that ends in .py; see `load_object` for where they are looked for.

    Raises:
        ValueError: if the code fails.
        FileNotFoundError: if the file is not there.
        ImportError: if the module needs another one that is missing.
    """
    with foreign_code(f"importing {place}"):
        return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ForeignCodeError(
            f"there is no module {error.name!r}: it is neither installed nor in the current directory. Give "
            "module:name or file.py:name."
        ) from None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NoSuchFile(f"there is no file {path}. Give file.py:name or module:name.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    written, name = path.stat().st_mtime_ns, f"wormwheel_own_{path.stem}_{zlib.crc32(os.fsencode(path.resolve())):08x}"
    known = sys.modules.get(name)
    if known is not None and vars(known).get(_WRITTEN) == written:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses and pickles look their module up there.
    spec.loader.exec_module(module)
    _check_neighbours(path)
    setattr(module, _WRITTEN, written)
    return module


def _check_neighbours(path: Path) -> None:
    """Check that what a file imports from its own folder is what it got.

    One process has one module of a name: of two drivers in two folders, each with a `model.py` beside it, the second
    would get the first one's. In a package, and of the names of Python's own modules, the file's author cannot have
    meant the neighbour.

    Raises:
        ForeignCodeError: if another module of that name was there before.
    """
    folder = path.resolve().parent
    if (folder / "__init__.py").exists():
        return
    waiting, seen = [path.resolve()], set()
    while waiting:
        file = waiting.pop()
        seen.add(file)
        for name in sorted(_imported_by(file) - sys.stdlib_module_names):
            meant = next((one for one in (folder / name / "__init__.py", folder / f"{name}.py") if one.is_file()), None)
            got = getattr(sys.modules.get(name), "__file__", None)
            if meant is None or got is None or meant in seen:
                continue
            if Path(got).resolve() != meant:
                raise ForeignCodeError(
                    f"{file.name} in {folder} imports {name}, and got {got} instead of the file beside it: one process "
                    "has one module of a name. Rename one of the two."
                )
            waiting.append(meant)


def _imported_by(file: Path) -> set[str]:
    """Return the names of the top-level modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
