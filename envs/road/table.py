"""Centre lines and race lines as people keep them: the dialects of CSV.

Columns are found by the names in the header, `x_m`, `y_m` and, where there are widths, `w_tr_right_m` and
`w_tr_left_m`; without a header the rows are `x_m,y_m,w_tr_right_m,w_tr_left_m`. The header may be a comment (`#`) or
the first row. Cells are separated by commas, semicolons, tabs or spaces; a decimal comma is read where cells are not
separated by commas. A byte-order mark and a separator at the end of a row are left out.

    line = read_centre_line(Path("docs/circuit.csv"))
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.road.curves import FloatArray
from envs.road.track import TrackError

EXPECTED = "a CSV with columns x_m,y_m,w_tr_right_m,w_tr_left_m"
"""What a road file is, for errors."""
MOST_BYTES = 64 * 2**20
"""Largest file that is read."""
_NAMES = {
    "x": ("x_m", "x"),
    "y": ("y_m", "y"),
    "right": ("w_tr_right_m", "w_tr_right", "w_right_m", "w_right", "width_right_m", "width_right"),
    "left": ("w_tr_left_m", "w_tr_left", "w_left_m", "w_left", "width_left_m", "width_left"),
}
_POSITIONS = {"x": 0, "y": 1, "right": 2, "left": 3}


class CentreLine(NamedTuple):
    """The rows of a file, in its own units."""

    points: FloatArray
    """`[N, 2]` positions; the last one joins the first, which is not repeated."""
    widths: FloatArray | None
    """`[N, 2]` distances to the right and left edge, > 0; None for a race line."""


def read_centre_line(path: Path) -> CentreLine:
    """Read the rows.

    Raises:
        TrackError: if the file is no such table, naming the line; or larger than `MOST_BYTES`.
    """
    columns = dict(_POSITIONS)
    split: str | None = None
    names: list[str] = []
    rows: list[list[float]] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        text = line.strip()
        header = text.startswith("#")
        text = text.lstrip("#").strip()
        if not text:
            continue
        here = _separator(text)
        if header or not (rows or names or _is_row(text, here)):
            found = _cells(text, here)
            if not rows and {"x", "y"} <= set(_columns(found)):
                names, columns = found, _columns(found)
                continue
            if header:
                continue
        if split is None:
            split = here
        rows.append(_row(text, split, columns, len(names) or 4, f"{path}, line {number}"))
        if len(rows) > 1 and rows[-1][:2] == rows[-2][:2]:
            raise TrackError(f"{path}, line {number}: the same position as the row before. Remove one of the two.")
    if len(rows) > 1 and rows[0][:2] == rows[-1][:2]:
        rows.pop()  # some files repeat the first point to close the line
    if len(rows) < 8:
        raise TrackError(f"{path}: expected at least 8 points, got {len(rows)}. {EXPECTED[0].upper()}{EXPECTED[1:]}.")
    table = np.asarray(rows)
    return CentreLine(table[:, :2], table[:, 2:] if table.shape[1] == 4 else None)


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():  # Opening a pipe would wait for its writer for ever.
        raise TrackError(f"{path}: a directory, a pipe or a device, expected {EXPECTED}.")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise TrackError(f"{path}: {size:,} bytes, expected at most {MOST_BYTES:,}. Is it {EXPECTED}?")
    data = path.read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if data and ("\0" in text or not re.search("[0-9]", text)):
        raise TrackError(f"{path}: not a text file. Expected {EXPECTED}.")
    return text


def _separator(text: str) -> str | None:
    """What separates the cells of a row; None for blanks."""
    return next((mark for mark in (";", "\t", ",") if mark in text), None)


def _cells(text: str, split: str | None) -> list[str]:
    cells = [cell.strip().strip('"') for cell in text.split(split)]
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells


def _is_row(text: str, split: str | None) -> bool:
    """Whether a line holds numbers, as far as one can tell: a broken row still does, a header does not."""
    return any(re.fullmatch(r"[-+]?[0-9.,]+([eE][-+]?[0-9]+)?|[-+]?nan|[-+]?inf", cell) for cell in _cells(text, split))


def _columns(names: list[str]) -> dict[str, int]:
    """Where the columns are that a header names."""
    places = {re.sub(r"[\s\[\]()]+", "_", name.lower()).strip("_"): place for place, name in enumerate(names)}
    found = {key: next((places[name] for name in accepted if name in places), None) for key, accepted in _NAMES.items()}
    if found["right"] is None or found["left"] is None:
        found["right"] = found["left"] = None
    return {key: place for key, place in found.items() if place is not None}


def _row(text: str, split: str | None, columns: dict[str, int], count: int, where: str) -> list[float]:
    """The columns of one row that are wanted: x, y and, where there are widths, right and left."""
    wanted = ("x_m", "y_m", "w_tr_right_m", "w_tr_left_m")[: len(columns)]
    cells = _cells(text, split)
    try:
        row = [_number(cells[columns[key]], split) for key in _POSITIONS if key in columns]
    except (ValueError, IndexError):
        row = []
    if len(cells) != count or not row or not np.isfinite(row).all():
        raise TrackError(
            f"{where}: expected {'four' if len(wanted) == 4 else 'two'} finite numbers {','.join(wanted)} among "
            f"{count} cells, got {text[:60]!r}."
        )
    if len(row) == 4 and min(row[2:]) <= 0.0:
        raise TrackError(f"{where}: the widths must be positive, got {row[2]} and {row[3]}.")
    return row


def _number(cell: str, split: str | None) -> float:
    if split != "," and "," in cell:
        if not re.fullmatch(r"[-+]?[0-9]+,[0-9]+([eE][-+]?[0-9]+)?", cell):
            raise ValueError(cell)
        cell = cell.replace(",", ".")
    return math.nan if "_" in cell else float(cell)
