"""What a command will write, checked before it begins: names that can be, each its own, none a pipe that nobody reads.

Verbs declare their outputs as fields of their options (`OUTPUTS`); the command line checks them for all verbs at once.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

OUTPUTS = ("out", "json", "preview", "step", "picture")
"""Fields of a verb's options that name what it will write."""
LIVING = ("/dev/", "/proc/")
"""Places of pipes that somebody has opened already, such as /dev/stdout."""


def check_outputs(options: Any) -> None:
    """Check the names of all outputs of a verb.

    Raises:
        ValueError: if one is no name of a file, if two are the same or one lies where another would be a file, or if
            one is a pipe.
    """
    named = {name: value for name in OUTPUTS if isinstance(value := getattr(options, name, None), Path)}
    for name, path in named.items():
        _check_name(f"--{name}", path)
    placed = {name: Path(os.path.realpath(path)) for name, path in named.items()}
    for name, path in placed.items():
        for other, place in placed.items():
            if name == other or (path == Path(os.devnull) and place == path):
                continue
            # A directory of results may hold other outputs, a file may not.
            if path == place or (path in place.parents and name != "out"):
                raise ValueError(f"--{name} and --{other} both name {named[name]}: give each a place of its own.")


def _check_name(option: str, path: Path) -> None:
    from agents.runs.reading import one_line, possible_name

    if not possible_name(os.fspath(path)):
        raise ValueError(f"{option} should be a name that a file can have, got {one_line(repr(path.name)):.80}.")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{option} {path} is a link that leads to itself: remove it, or give a file.") from None
        return  # Not there, or told by whoever makes it.
    if stat.S_ISFIFO(mode) and not os.path.abspath(path).startswith(LIVING):
        raise ValueError(f"{option} {path} is a pipe, and writing would wait for its reader: give a file.")
