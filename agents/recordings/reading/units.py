"""The unit of a column of steering that names none: radians pass for shares of full lock, both within [-1, 1].

`find_unit` looks for what cannot be chance: a note beside the table ("angle: steering angle in radians"), labels that
stop at a whole number of degrees (0.4363 is 25°), labels that are whole degrees throughout. Labels that stop at 1 are
shares. How the car turned does not tell: a gain that is not known stands between it and either.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.columns import Columns, plain_name
from agents.recordings.reading.files import DamagedFile
from agents.recordings.reading.places import AnyPath, Tree
from agents.recordings.reading.store import Store
from agents.recordings.reading.tables import Table, decode_text

_NOTES = re.compile(
    r"readme.*|(info|meta|metadata|dataset|dataset_?infos?|schema|columns|units|description|about|data_?card|format)"
    r"\.(md|txt|rst|json|ya?ml|toml|ini|cfg)",
    re.IGNORECASE,
)
_MOST_NOTES, _MOST_BYTES, _MOST_LINE = 12, 1 << 16, 300
_UNITS = {
    "rad": re.compile(r"\brad(ian)?s?\b", re.IGNORECASE),
    "deg": re.compile(r"\bdeg(ree)?s?\b|°", re.IGNORECASE),
    "percent": re.compile(r"\bper ?cent\b|\bpct\b", re.IGNORECASE),
    "share": re.compile(
        r"\bnormali[sz]ed\b|[\[(]\s*-1(\.0)?\s*[,;:]\s*\+?1(\.0)?\s*[\])]|-1 (to|\.\.) \+?1", re.IGNORECASE
    ),
}
_STEERING = re.compile(r"steer|(?<![a-z])angle", re.IGNORECASE)
_OTHER = re.compile(r"camera|\bfov\b|view|pitch|yaw|heading|\broll|lens|slip|gyro|pose|orientation", re.IGNORECASE)
_WRITTEN = 6e-5  # labels are written with four digits or more
_STOPS = 3  # labels at the outermost value from which on they were stopped there
_LEAST_LOCK_DEG, _MOST_LOCK_DEG = 10, 57
_KINDS = 5  # angles that are told apart, all of them whole degrees


class Unit(NamedTuple):
    """What a column's labels are in."""

    unit: str
    """"rad", "deg", "percent", "share", or "" where nothing tells."""
    reason: str = ""
    """How that is known, for messages."""
    lock_deg: float | None = None
    """Full lock, where the labels stop there, degrees."""


def find_unit(
    raw: NDArray[np.float64],
    table: Table,
    columns: Columns,
    tree: Tree,
    folder: AnyPath,
    store: Store,
) -> Unit:
    """Find out the unit of labels that lie within [-1, 1] and whose column names none.

    Args:
        raw: `[n]` labels, NaN where there is none.
        table: Where they stand.
        columns: Its columns.
        tree: Where the table lies: the file system or an archive.
        folder: That of the table.
        store: Reads files there.
    """
    name = plain_name(columns.names[columns.places["steering"]])
    by_values = unit_of_values(raw)
    noted = unit_in_notes(_lines(table, tree, folder, store), name)
    if by_values.unit == "share" or noted.unit == "deg":  # what never leaves one degree is no steering in degrees
        return by_values
    if noted.unit == "rad" and by_values.unit == "rad":
        return noted._replace(lock_deg=by_values.lock_deg)
    return noted if noted.unit else by_values


def unit_of_values(raw: NDArray[np.float64]) -> Unit:
    """Say what the values themselves tell of their unit."""
    values = raw[np.isfinite(raw)]
    most = float(np.abs(values).max()) if len(values) else 0.0
    if not 0 < most <= 1.0 + _WRITTEN:
        return Unit("")
    outermost = np.abs(values) > most - 1e-6
    stopped = outermost.sum() >= _STOPS or (abs(values.max() + values.min()) < 1e-6)
    if abs(most - 1.0) < _WRITTEN:
        return Unit("share", "labels stop at 1") if stopped and values.min() < 0 else Unit("")
    turned = np.abs(values[np.abs(values) > _WRITTEN])
    whole = np.abs(turned - np.radians(np.round(np.degrees(turned)))) < _WRITTEN
    if len(np.unique(np.round(np.degrees(turned[whole])))) >= _KINDS and whole.mean() > 0.98:
        return Unit("rad", "labels are whole degrees in radians")  # of such the outermost repeats without a stop
    degrees = round(math.degrees(most))
    if stopped and _LEAST_LOCK_DEG <= degrees <= _MOST_LOCK_DEG and abs(most - math.radians(degrees)) < _WRITTEN:
        return Unit("rad", f"labels stop at {most:.4f}, which is {degrees}°", float(degrees))
    return Unit("")


def unit_in_notes(lines: Sequence[tuple[str, str]], name: str) -> Unit:
    """Say what notes tell of the unit of steering.

    Args:
        lines: Where each stands, and its text.
        name: Of the column, in plain words; lines that have it come before others about steering.
    """
    found: dict[bool, dict[str, str]] = {True: {}, False: {}}
    for place, line in lines:
        plain = re.sub(r"[_/.`*|\"']+", " ", line)
        named = re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", plain, re.IGNORECASE) is not None
        if not (named or _STEERING.search(plain)) or _OTHER.search(plain):
            continue
        units = [unit for unit, pattern in _UNITS.items() if pattern.search(plain) or pattern.search(line)]
        if len(units) == 1:
            found[named].setdefault(units[0], f"{place} says {' '.join(line.split())[:60]!r}")
    for group in (found[True], found[False]):
        if len(group) == 1:
            return Unit(*next(iter(group.items())))
        if group:
            return Unit("")
    return Unit("")


def _lines(table: Table, tree: Tree, folder: AnyPath, store: Store) -> list[tuple[str, str]]:
    """Return the lines before the header and those of the notes beside the table."""
    lines = [("the line before the header", line) for line in table.before]
    kind = type(folder)
    places = [kind(folder, name) for name in tree.files(str(folder)) if _NOTES.fullmatch(name)]
    places += [kind(folder, "meta", name) for name in tree.files(str(kind(folder, "meta"))) if _NOTES.fullmatch(name)]
    for place in places[:_MOST_NOTES]:
        try:
            text, _ = decode_text(store.read(place, _MOST_BYTES))
        except (OSError, DamagedFile):
            continue
        lines += [(place.name, line) for line in _said(place, text) if len(line) <= _MOST_LINE]
    return lines


def _said(place: PurePath, text: str) -> Iterator[str]:
    """Yield lines of text, or of what JSON says as lines of names and values."""
    if place.suffix.lower() != ".json":
        yield from text.splitlines()
        return
    try:
        yield from _flat(json.loads(text), "", 0)
    except (ValueError, RecursionError):
        return


def _flat(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth > 12:
        return
    if isinstance(value, dict):
        plain = {key: one for key, one in value.items() if isinstance(one, (str, int, float))}
        if any(str(key).lower() in ("unit", "units", "description") for key in plain):
            yield f"{path} " + ", ".join(f"{key}: {one}" for key, one in plain.items())
        for key, one in value.items():
            yield from _flat(one, f"{path} {key}".strip(), depth + 1)
    elif isinstance(value, list):
        for one in value[:200]:
            yield from _flat(one, path, depth + 1)
    elif isinstance(value, (str, int, float)):
        yield f"{path}: {value}"
