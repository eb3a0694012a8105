"""Where the pictures lie that a table names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agents.recordings.reading.files import possible_name


class Places:
    """Finds the pictures that a table names.

    A path below the table comes first, as it stands or without its first folders; then its name in the usual folders,
    or beside the table; last an absolute path of this machine. Where none is, a place in the first usual folder is
    given, and the picture counts as missing.

    Args:
        folder: Where the table lies, or the pictures, when that was said.
        usual: Folders below it, in the order tried.
    """

    def __init__(self, folder: Path, usual: tuple[str, ...] = ("IMG", "images", "")) -> None:
        self.folder = folder
        self.usual = usual

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
        return self.folder / self.usual[0] / parts[-1]
