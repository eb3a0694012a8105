"""Where the pictures lie that a table names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.files import possible_name

_SAME_LABEL = 0.01  # labels of one picture that differ by more are those of two


class Places:
    """Finds the pictures that a table names.

    A path below the table comes first, as it stands or without its first folders; then its name in the usual folders,
    or beside the table; then an absolute path of this machine, and the one folder below the table that has a file of
    this name; last a file whose name differs in capitals, in the form of its accents or in the escapes of a URL alone.
    Where none is, a place in the first usual folder is given, and the picture counts as missing.

    Args:
        folder: Where the table lies, or the pictures, when that was said.
        usual: Folders below it, in the order tried.
    """

    def __init__(self, folder: Path, usual: tuple[str, ...] = ("IMG", "images", "")) -> None:
        self.folder = folder
        self.usual = usual
        self._below: list[Path] | None = None
        self._alike: dict[Path, dict[str, Path | None]] = {}

    def find(self, field: str) -> Path:
        """Return the path of one picture."""
        parts = [part for part in re.split(r"[\\/]+", field.strip()) if part not in ("", ".", "..")]
        if not parts or not possible_name(field):
            return self.folder / self.usual[0] / (field if parts else "no-picture-named")
        candidates = [self.folder.joinpath(*parts[first:]) for first in range(len(parts) - 1)]
        candidates += [self.folder / usual / parts[-1] for usual in self.usual]
        if os.path.isabs(field.strip()):
            candidates.append(Path(field.strip()))
        for candidate in candidates:
            if os.path.isfile(candidate):
                return candidate
        if self._below is None:
            self._below = [entry for entry in self.folder.iterdir() if entry.is_dir()] if self.folder.is_dir() else []
        below = [place for entry in self._below if os.path.isfile(place := entry / parts[-1])]
        if len(below) == 1:
            return below[0]
        for candidate in [*candidates, *(entry / parts[-1] for entry in self._below)]:
            if (found := self._like(candidate)) is not None:
                return found
        return self.folder / self.usual[0] / parts[-1]

    def _like(self, wanted: Path) -> Path | None:
        """Return the one file of a folder whose name is the same but for capitals, accents and escapes."""
        if wanted.parent not in self._alike:
            names: dict[str, Path | None] = {}
            if wanted.parent == self.folder or self.folder in wanted.parent.parents:
                for entry in wanted.parent.iterdir() if wanted.parent.is_dir() else ():
                    key = _plain(entry.name)
                    names[key] = None if key in names else entry
            self._alike[wanted.parent] = names
        return self._alike[wanted.parent].get(_plain(wanted.name))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def told_apart(
    cells: Sequence[str], files: Sequence[Path], steering: NDArray[np.float64], skipped: Counter[str]
) -> NDArray[np.bool_]:
    """Say which rows have a picture of their own: `run1/1.jpg` and `run2/1.jpg` may not both be the one `1.jpg` there.

    Args:
        cells: `[n]` paths as the table has them.
        files: `[n]` what was found for them.
        steering: `[n]` labels, NaN where there is none; where they agree, the rows are repeats.
        skipped: Rows that cannot be told apart are counted here.
    """
    rows: dict[Path, list[int]] = {}
    for row, file in enumerate(files):
        rows.setdefault(file, []).append(row)
    keep = np.ones(len(files), bool)
    for alike in rows.values():
        if len(alike) > 1 and len({cells[row].strip().replace("\\", "/").lower() for row in alike}) > 1:
            known = steering[alike][np.isfinite(steering[alike])]
            if len(known) and np.ptp(known) > _SAME_LABEL:
                keep[alike] = False
    if n := int((~keep).sum()):
        skipped["picture that rows of several folders mean, with different labels"] += n
    return keep
