"""Parquet files of others: columns of numbers and text, and columns that hold the pictures themselves.

    names, rows, pictures = read_parquet(Path("train-00000-of-00001.parquet"))

Pictures stand in a column of bytes, or of structs with `bytes` and `path` as Hugging Face's `datasets` writes them.
They are not read with the table: each gets a name, by which `ParquetStore` reads it when it is asked for, one row group
in memory at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from agents.recordings.reading.files import MOST_BYTES, DamagedFile, check_regular, one_line
from agents.recordings.reading.pictures import is_picture, is_picture_name

MOST_FILE_BYTES = 2 << 30
"""Largest parquet file without pictures that is read, bytes."""
_LONGEST_LIST = 32  # numbers of a list that become columns: longer ones are what a sensor saw
_BATCH = 256  # rows of pictures that are in memory while their names are read


def parquet() -> Any:
    """Return `pyarrow.parquet`, or say how to get it."""
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("parquet files need pyarrow", name="pyarrow") from error
    return pq


class ParquetCells:
    """The cells of one column, one row group in memory at a time.

    Args:
        file: The file.
        column: Its name.

    Raises:
        DamagedFile: if the file cannot be opened.
    """

    def __init__(self, file: Path, column: str) -> None:
        self.file, self.column = file, column
        with opened(file) as source:
            sizes = [source.metadata.row_group(group).num_rows for group in range(source.num_row_groups)]
        self._ends = np.cumsum(sizes)
        self._group: tuple[int, Sequence[Any]] = (-1, ())
        self._lock = threading.Lock()

    def __getitem__(self, row: int) -> Any:
        """Return a cell; None where there is none, or it cannot be read."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        with self._lock:
            if self._group[0] != group:
                try:
                    with parquet().ParquetFile(self.file) as source:
                        found = source.read_row_group(group, columns=[self.column]).column(self.column)
                except Exception:  # damaged pages
                    found = ()
                self._group = (group, found)
            cells = self._group[1]
        place = row - (int(self._ends[group - 1]) if group else 0)
        if place >= len(cells):
            return None
        try:
            return cells[place].as_py()
        except Exception:  # damaged text in a struct
            return None


class ParquetStore:
    """A `Store` over the pictures in a column; their names are those that `read_parquet` gave them."""

    def __init__(self, file: Path, column: str, rows: dict[PurePosixPath, int]) -> None:
        self.place = file
        self._cells = ParquetCells(file, column)
        self._rows = rows

    def names(self, folder: PurePosixPath | Path, pattern: str) -> list[PurePosixPath]:
        """See `Store`."""
        return [name for name in self._rows if name.parent == folder and name.match(pattern)]

    def has(self, name: PurePosixPath) -> bool:
        """See `Store`."""
        return name in self._rows

    def read(self, name: PurePosixPath, most: int = MOST_BYTES) -> bytes:
        """See `Store`."""
        if name not in self._rows:
            raise FileNotFoundError(2, "No such picture in the file", f"{self.place}/{name}")
        content = picture_bytes(self._cells[self._rows[name]])
        if content is None or len(content) > most:
            raise DamagedFile(f"{name} in {self.place} cannot be read.")
        return content

    def lines(self, name: PurePosixPath) -> Iterator[Any]:
        """See `Store`; there are pictures alone."""
        raise DamagedFile(f"{name} in {self.place} is a picture.")


def read_parquet(path: Path) -> tuple[list[str], list[list[Any]], dict[str, ParquetStore]]:
    """Read a parquet file.

    Args:
        path: The file.

    Returns:
        The columns' names, their values, and by name the stores of those that hold pictures; their values are the
        pictures' names, None where a row has none. What structs hold stands under names such as `control.steering`,
        what short lists of numbers hold under `action[0]`; other lists and other bytes are left out.

    Raises:
        DamagedFile: if it cannot be read.
        ModuleNotFoundError: if pyarrow is not installed.
    """
    with opened(path) as source:
        stores: dict[str, ParquetStore] = {}
        names, columns = [], []
        schema = source.schema_arrow
        held = [field.name for field in schema if _may_hold_pictures(field.type)]
        plain = [field.name for field in schema if field.name not in held and not _is_nested(field.type)]
        check_regular(path, None if held else MOST_FILE_BYTES)
        try:
            table = source.read(columns=plain)
            for field in schema:
                if field.name in plain:
                    names.append(field.name)
                    columns.append(table.column(field.name).to_pylist())
                elif field.name not in held:
                    for name, values in _unfolded(source, field):
                        names.append(name)
                        columns.append(values)
                elif field.name in held and (found := _name_pictures(source, field.name)) is not None:
                    cells, rows = found
                    names.append(field.name)
                    columns.append(cells)
                    if rows:
                        stores[field.name] = ParquetStore(path, field.name, rows)
        # Anything: for a damaged file pyarrow lets out ArrowInvalid, OSError, NotImplementedError, MemoryError, ...
        except Exception as error:
            raise DamagedFile(f"{path} cannot be read as parquet ({one_line(error)}); copy it again.") from None
    return names, columns, stores


def _unfolded(source: Any, field: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield what a column of structs or of short lists of numbers holds, as columns of their own."""
    import pyarrow as pa

    first = next((batch.column(0)[0].as_py() for batch in source.iter_batches(1, columns=[field.name])), None)
    if pa.types.is_struct(field.type):
        if not _is_small(first):
            return
        cells = source.read(columns=[field.name]).column(field.name).to_pylist()
        flat = [_leaves(cell, field.name) for cell in cells]
    elif isinstance(first, list) and _is_small(first):
        cells = source.read(columns=[field.name]).column(field.name).to_pylist()
        flat = [_leaves(cell or [], field.name) for cell in cells]
    else:
        return
    for name in dict.fromkeys(name for row in flat[:_BATCH] for name in row):
        yield name, [row.get(name) for row in flat]


def _leaves(cell: Any, name: str) -> dict[str, Any]:
    """Return what a struct holds, by the way to it."""
    if isinstance(cell, dict):
        return {key: value for part, one in cell.items() for key, value in _leaves(one, f"{name}.{part}").items()}
    if isinstance(cell, list):
        return {f"{name}[{i}]" if len(cell) > 1 else name: value for i, value in enumerate(cell)}
    return {name: cell}


def _is_small(cell: Any) -> bool:
    """Say whether a cell is numbers, short texts, or few of them."""
    if isinstance(cell, dict):
        return all(_is_small(one) or one is None for one in cell.values())
    if isinstance(cell, list):
        return len(cell) <= _LONGEST_LIST and all(isinstance(one, (int, float)) for one in cell)
    return not isinstance(cell, bytes) and len(str(cell)) <= 1000


def has_pictures(path: Path) -> bool:
    """Say whether a parquet file has a column that may hold pictures; False where it cannot be read."""
    try:
        with opened(path) as source:
            return any(_may_hold_pictures(field.type) for field in source.schema_arrow)
    except (DamagedFile, ModuleNotFoundError):
        return False


def opened(path: Path) -> Any:
    """Open a parquet file.

    Raises:
        DamagedFile: if it cannot be opened.
    """
    pq = parquet()
    check_regular(path)
    try:
        return pq.ParquetFile(path)
    except Exception as error:
        raise DamagedFile(f"{path} cannot be read as parquet ({one_line(error)}); copy it again.") from None


def picture_bytes(cell: Any) -> bytes | None:
    """Return the picture in a cell of bytes or of a struct with `bytes`; None where there is none."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) and content else None


def _name_pictures(source: Any, column: str) -> tuple[list[str | None], dict[PurePosixPath, int]] | None:
    """Name the pictures of a column, and say in which row each stands; None where it holds something else.

    The names are those in `path` where all pictures have one of their own, else the rows' numbers. Where no bytes are
    held, `path` names files beside the table.
    """
    paths: list[str | None] = []
    held: list[bool] = []
    known = False
    for batch in source.iter_batches(_BATCH, columns=[column]):
        for cell in batch.column(0).to_pylist():
            content = picture_bytes(cell)
            if content is not None and not known:
                if not is_picture(content):
                    if len(held) > _BATCH:
                        return None
                    content = None
                known = content is not None
            path = cell.get("path") if isinstance(cell, dict) else None
            held.append(content is not None)
            paths.append(path if isinstance(path, str) and path else None)
    if not known:
        return (paths, {}) if any(path is not None and is_picture_name(path) for path in paths) else None
    short = [None if path is None else PurePosixPath(path.replace("\\", "/")).name for path in paths]
    given = [name for name, here in zip(short, held, strict=True) if here]
    own = len(set(given)) == len(given) and all(name is not None and is_picture_name(name) for name in given)
    names: list[str | None] = [
        None if not here else f"{name}" if own else f"{row:07d}.png"
        for row, (here, name) in enumerate(zip(held, short, strict=True))
    ]
    return names, {PurePosixPath(name): row for row, name in enumerate(names) if name is not None}


def _may_hold_pictures(kind: Any) -> bool:
    """Say whether a type is bytes, or a struct with `bytes`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _may_hold_pictures(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_nested(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(kind))
