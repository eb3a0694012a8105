"""Files that came from elsewhere, read so that none can hang, flood memory, or end in anything but one clear line.

Pipes and devices are refused before they are opened, sizes are checked before bytes are read, and whatever a parser
lets out becomes a `DamagedFile` whose message names the file. What serves all rooms lies in `agents.runs.reading`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from agents.runs.reading import (
    MOST_BYTES,
    DamagedFile,
    check_regular,
    one_line,
    parse_json,
    possible_name,
    read_bytes,
    read_json,
)

__all__ = [
    "DamagedFile",
    "LONGEST_LINE",
    "MOST_BYTES",
    "check_fetched",
    "check_regular",
    "is_pointer",
    "json_lines",
    "load_array",
    "npy_header",
    "number",
    "one_line",
    "parse_json",
    "possible_name",
    "read_bytes",
    "read_json",
]

LONGEST_LINE = 1 << 20
"""Longest line of a file of JSON lines, bytes; the rest of a longer one is damage."""


def is_pointer(content: bytes) -> bool:
    """Say whether what should be a file's content is what Git keeps in its place where LFS was not installed."""
    return content.startswith(b"version https://git-lfs.github.com/")


def check_fetched(path: Path) -> None:
    """Refuse a file of which only Git's pointer to it is here, or a web page that says why it is not.

    Raises:
        DamagedFile: if it is one.
    """
    check_regular(path)
    with path.open("rb") as file:
        head = file.read(200)
    if is_pointer(head):
        raise DamagedFile(f"{path} is a Git LFS pointer, not the file itself; fetch it by git lfs pull.")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise DamagedFile(f"{path} is a web page, not the file itself; download it again.")


def json_lines(file: BinaryIO) -> Iterator[Any]:
    """Yield the value of each line that is not empty; None for a line that is no JSON."""
    while line := file.readline(LONGEST_LINE):
        if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line.strip(b" \t\r\n\0\xef\xbb\xbf"):
            try:
                yield json.loads(line.decode("utf-8-sig", "replace"))
            except (ValueError, RecursionError):
                yield None


def number(value: Any) -> float:
    """Return a field as a float; NaN when it is none, such as text, a list or a truth value."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def npy_header(file: BinaryIO, path: str | os.PathLike[str], size: int) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Read the header of an .npy file and check that the file holds what it promises.

    Args:
        file: Open at its beginning.
        path: For the message.
        size: Bytes of the file.

    Returns:
        Shape, dtype, and where the data begin.

    Raises:
        DamagedFile: if it is damaged, cut short, pickled or in Fortran's order.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # NumPy's header parser lets nearly anything out: TokenError, SyntaxError, MemoryError.
        raise DamagedFile(f"{path} should be an .npy file and is damaged ({one_line(error)}); copy it again.") from None
    if dtype.hasobject or (fortran and len(shape) > 1) or any(length < 0 for length in shape):
        raise DamagedFile(f"{path} should hold a plain array, got {dtype} {list(shape)}; save it again by numpy.save.")
    if size < file.tell() + math.prod(shape) * dtype.itemsize:
        raise DamagedFile(f"{path} is cut short: an array {list(shape)} of {dtype} was promised; copy it again.")
    return shape, dtype, file.tell()


def load_array(path: Path) -> NDArray[Any]:
    """Load an .npy file; memory is taken only once the file is known to hold what its header promises.

    Raises:
        FileNotFoundError: if it is missing.
        DamagedFile: if it is damaged.
    """
    size = check_regular(path)
    with path.open("rb") as file:
        shape, dtype, start = npy_header(file, path, size)
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    return np.fromfile(path, dtype, math.prod(shape), offset=start).reshape(shape)
