"""What a command will write, checked before it begins: names that can be, each its own, none a pipe that nobody reads.

Verbs declare their outputs as fields of their options (`OUTPUTS`); the command line checks them for all verbs at once.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

FILES = ("preview", "step", "picture", "plot", "rerun")
"""Fields of a command's options that name a file which carries our mark."""
OUTPUTS = ("out", "json", "publish", *FILES)
"""Fields of a command's options that name what it will write."""
RUNS_OWN = ("config.json", "made.json", "results.json", "summary.json", "plan.json", "dataset.json", "manifest.json")
"""JSON files that runs put into their directories themselves."""
LIVING = ("/dev/std", "/dev/fd/", "/proc/")
"""Places of pipes that somebody has opened already, such as /dev/stdout; /dev/shm holds files."""


def check_outputs(options: Any, verb: str = "") -> None:
    """Check the names of all outputs of a verb.

    Args:
        options: of the verb.
        verb: its name; where it is given, results of another verb are not written over.

    Raises:
        ValueError: if one is no name of a file, if two are the same or one lies where another would be a file or where
            a run keeps its own, if one is a pipe, or holds what another verb has measured or somebody else has made.
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
            if path == place or (path in place.parents and name not in ("out", "publish")):
                raise ValueError(f"--{name} and --{other} both name {named[name]}: give each a place of its own.")
            if name == "out" and path in place.parents and not _is_free(place.relative_to(path)):
                raise ValueError(
                    f"--{other} {named[other]} lies where --out keeps its own files: give it a name such as "
                    f"{named['out'] / 'figures.json'}, or another directory."
                )
    results = named.get("json")
    measured = _verb_of(results) if verb and results is not None else None
    if measured is not None and measured != verb:
        raise ValueError(
            f"--json {results} holds what `wormwheel {measured}` has measured, which is not written over: give another "
            "name."
        )
    if any(name in FILES for name in named):
        from agents.runs.ours import check_ours

        check_ours(*(path for name, path in named.items() if name in FILES))
    if "publish" in named:
        _check_publish(named["publish"])


def _check_publish(path: Path) -> None:
    """Check that a directory for a copy of results is new, empty, or holds an earlier copy, which has a summary."""
    if not path.exists():
        return
    there = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    summary = path / "summary.json"
    if path.is_dir() and (not there or (summary.is_file() and b'"wormwheel": "' in summary.read_bytes())):
        return
    what = f"holds {there[0]} and no results of ours" if there else "is a file"
    raise ValueError(f"{path} {what}; it is not written over: give --publish a new or an empty directory.")


def _is_free(place: Path) -> bool:
    """Whether a place in a directory of results can be another output: a file right in it that no run calls so."""
    taken = place.name in RUNS_OWN or place.name.startswith(".")
    return len(place.parts) == 1 and place.suffix != "" and not taken


def _verb_of(path: Path) -> str | None:
    """Return the verb whose results a file holds; None where it holds none."""
    from agents.runs.reading import read_object

    try:
        if not path.is_file() or path.stat().st_size == 0:
            return None
        content = read_object(path)
    except (OSError, ValueError):
        return None  # Whoever is to write there says so.
    verb = content.get("verb")
    return verb if isinstance(verb, str) and "figures" in content else None


def _is_text(name: str) -> bool:
    """Whether a name can be written down; bytes that are no UTF-8 come as lone surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_name(option: str, path: Path) -> None:
    from agents.runs.reading import one_line, possible_name

    if not possible_name(os.fspath(path)):
        raise ValueError(f"{option} should be a name that a file can have, got {one_line(repr(path.name)):.80}.")
    if not _is_text(os.fspath(path)):
        raise ValueError(
            f"{option} {one_line(repr(path.name)):.80} is no UTF-8: pages, logs and TensorBoard cannot name it. Give "
            "another name."
        )
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{option} {path} is a link that leads to itself: remove it, or give a file.") from None
        return  # Not there, or told by whoever makes it.
    if stat.S_ISFIFO(mode) and not os.path.abspath(path).startswith(LIVING):
        raise ValueError(f"{option} {path} is a pipe, and writing would wait for its reader: give a file.")
