"""Where the pictures lie that a table names: on disk, or in the archive that the table lies in."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Protocol
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.files import possible_name
from agents.recordings.reading.store import TarStore, ZipStore, open_archive

AnyPath = Path | PurePosixPath
"""A file on disk, or one in an archive."""
_SAME_LABEL = 0.01  # labels of one picture that differ by more are those of two


class Tree(Protocol):
    """Folders and files, by their paths as texts."""

    def is_file(self, path: str) -> bool:
        """Say whether there is a file of this path."""

    def folders(self, path: str) -> list[str]:
        """Return the paths of the folders right inside a folder, in order; none where there is no such folder."""

    def files(self, path: str) -> list[str]:
        """Return the names of the files right inside a folder, in order; none where there is no such folder."""


class Disk:
    """The file system as a `Tree`."""

    def is_file(self, path: str) -> bool:
        """See `Tree`."""
        return os.path.isfile(path)

    def folders(self, path: str) -> list[str]:
        """See `Tree`."""
        return sorted(entry.path for entry in os.scandir(path) if entry.is_dir()) if os.path.isdir(path) else []

    def files(self, path: str) -> list[str]:
        """See `Tree`."""
        return sorted(entry.name for entry in os.scandir(path) if entry.is_file()) if os.path.isdir(path) else []


class Packed:
    """The files in an archive as a `Tree`."""

    def __init__(self, names: Iterable[PurePosixPath]) -> None:
        self._files: dict[str, list[str]] = {}
        self._folders: dict[str, set[str]] = {}
        self._paths = set()
        for name in names:
            self._paths.add(str(name))
            self._files.setdefault(str(name.parent), []).append(name.name)
            for below, above in zip(name.parents, name.parents[1:], strict=False):
                self._folders.setdefault(str(above), set()).add(str(below))

    def is_file(self, path: str) -> bool:
        """See `Tree`."""
        return path.removeprefix("./") in self._paths

    def folders(self, path: str) -> list[str]:
        """See `Tree`."""
        return sorted(self._folders.get(path.removeprefix("./"), ()))

    def files(self, path: str) -> list[str]:
        """See `Tree`."""
        return sorted(self._files.get(path.removeprefix("./"), ()))


def open_packed(path: Path, notices: list[str]) -> tuple[ZipStore | TarStore, Packed]:
    """Open an archive, and list it; that it ends early is said.

    Raises:
        DamagedFile: if it is none.
    """
    store = open_archive(path)
    if store.ends_early:
        notices.append(f"the archive is damaged ({store.ends_early}); what stands before that is read")
    return store, Packed(store.index)


class Places:
    """Finds the pictures that a table names.

    A path from the table's folder comes first, as it stands or without its first folders; then its name in the usual
    folders, or beside the table; then an absolute path of this machine, and the one folder below the table that has a
    file of this name; last a file whose name differs in capitals, in the form of its accents or in the escapes of a URL
    alone. Where none is, a place in the first usual folder is given, and the picture counts as missing.

    Args:
        folder: Where the table lies, or the pictures, when that was said.
        usual: Folders below it, in the order tried.
        tree: Where to look; the file system when None.
    """

    def __init__(
        self, folder: AnyPath, usual: tuple[str, ...] = ("IMG", "images", ""), tree: Tree | None = None
    ) -> None:
        self.folder = folder
        self.usual = usual
        self.tree: Tree = Disk() if tree is None else tree
        # Texts: for a hundred thousand rows, paths as objects would take ten times as long as looking for the files.
        self._usual = [os.path.join(folder, name) if name else str(folder) for name in usual]
        self._below: list[str] | None = None
        self._alike: dict[str, dict[str, str | None]] = {}

    def find(self, field: str) -> AnyPath:
        """Return the path of one picture."""
        parts = [part for part in re.split(r"[\\/]+", field.strip()) if part not in ("", ".", "..")]
        if not parts or not possible_name(field):
            return self.folder / self.usual[0] / (field if parts else "no-picture-named")
        candidates = [os.path.join(self.folder, *parts[first:]) for first in range(len(parts) - 1)]
        candidates += [os.path.join(usual, parts[-1]) for usual in self._usual]
        if os.path.isabs(field.strip()) and isinstance(self.tree, Disk):
            candidates.append(field.strip())
        elif ".." in (steps := re.split(r"[\\/]+", field.strip())):
            candidates.insert(0, os.path.normpath(os.path.join(self.folder, *steps)))
        found = next(filter(self.tree.is_file, candidates), None)
        kind = type(self.folder)
        return kind(found or self._elsewhere(candidates, parts[-1]) or os.path.join(self._usual[0], parts[-1]))

    def _elsewhere(self, candidates: list[str], name: str) -> str | None:
        """Return the file in the one folder below that has it, or that has almost this name."""
        if self._below is None:
            self._below = self.tree.folders(str(self.folder))
        below = [os.path.join(entry, name) for entry in self._below]
        exact = list(filter(self.tree.is_file, below))
        if len(exact) == 1:
            return exact[0]
        return next((found for place in [*candidates, *below] if (found := self._like(place)) is not None), None)

    def _like(self, wanted: str) -> str | None:
        """Return the one file of a folder whose name is the same but for capitals, accents and escapes."""
        folder, name = os.path.split(wanted)
        if folder not in self._alike:
            names: dict[str, str | None] = {}
            top = str(self.folder)
            inside = folder == top or top == "." or folder.startswith(os.path.join(top, ""))
            for entry in self.tree.files(folder) if inside else ():
                key = _plain(entry)
                names[key] = None if key in names else os.path.join(folder, entry)
            self._alike[folder] = names
        return self._alike[folder].get(_plain(name))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def told_apart(
    cells: Sequence[str], files: Sequence[PurePath], steering: NDArray[np.float64], skipped: Counter[str]
) -> NDArray[np.bool_]:
    """Say which rows have a picture of their own: `run1/1.jpg` and `run2/1.jpg` may not both be the one `1.jpg` there.

    Args:
        cells: `[n]` paths as the table has them.
        files: `[n]` what was found for them.
        steering: `[n]` labels, NaN where there is none; where they agree, the rows are repeats.
        skipped: Rows that cannot be told apart are counted here.
    """
    rows: dict[PurePath, list[int]] = {}
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
