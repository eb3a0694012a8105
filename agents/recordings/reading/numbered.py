"""What the names of pictures say: their numbers, their time stamps, and which of them a row's number means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.files import number
from agents.recordings.reading.pictures import SUFFIXES
from agents.recordings.reading.places import AnyPath, Tree
from agents.recordings.reading.stamps import Stamps, epoch_unit, is_moment, read_stamps

_LAST_NUMBER = re.compile(r"(.*?)(\d{1,15})(\D*)")
_MOST_SPARSE = 20  # numbers for each picture: some were left out, or belong to another table
_MOST_OUT = 0.1  # share of rows that may lack their picture


def numbers_in_names(files: Sequence[PurePath]) -> NDArray[np.int64] | None:
    """Return the running numbers that pictures bear, `[n]`, in their smallest step; None without such.

    In each folder names differ in one number alone, and so many are there that they can be no names drawn by chance.
    Folders follow each other in the order of their first rows.
    """
    found = [_LAST_NUMBER.fullmatch(file.stem) for file in files]
    if len(set(files)) < 2 or not all(found):
        return None
    names = {(file.parent, match[1], match[3]) for file, match in zip(files, found, strict=True) if match}
    if len(names) > len({file.parent for file in files}):
        return None
    numbers = np.asarray([int(match[2]) for match in found if match], np.int64)
    folders = folders_of(files)
    after = 0
    for folder in range(int(folders.max()) + 1):
        rows = folders == folder
        since = numbers[rows] - numbers[rows].min()
        since //= max(int(np.gcd.reduce(since)), 1)
        if since.max() > _MOST_SPARSE * len(np.unique(since)):
            return None
        numbers[rows] = after + since
        after += int(since.max()) + 1
    return numbers


def folders_of(files: Sequence[PurePath]) -> NDArray[np.int64]:
    """Return the number of each picture's folder, `[n]`, in the order of their first rows."""
    ranks: dict[PurePath, int] = {}
    return np.asarray([ranks.setdefault(file.parent, len(ranks)) for file in files], np.int64)


def running_numbers(files: Sequence[PurePath]) -> NDArray[np.int64]:
    """Return how many other pictures come before each, `[n]`: repeats have the number of the first."""
    ranks: dict[PurePath, int] = {}
    return np.asarray([ranks.setdefault(file, len(ranks)) for file in files], np.int64)


def stamps_in_names(files: Sequence[PurePath], notices: list[str]) -> Stamps:
    """Return the time stamps in pictures' names, such as `1479425441182877835.jpg`; NaN throughout without such."""
    cores = [re.sub(r"^\D+|\D+$", "", file.stem) for file in files]
    if not cores or not all(is_moment(core) or epoch_unit(number(core)) for core in cores):
        return Stamps(np.full(len(files), np.nan))
    notices.append("time stamps are those in the pictures' names")
    return read_stamps(cores, "", None, notices)


def pictures_of_numbers(
    tree: Tree, folder: AnyPath, cells: Sequence[str], column: str, name: PurePath | str
) -> list[AnyPath] | None:
    """Find the pictures that rows mean by a number or a name without its ending.

    Args:
        tree: The file system or an archive.
        folder: Where the table lies; the pictures lie there or in one folder below.
        cells: `[n]` such as `17` for `frame_000017.png`.
        column: Its name, for messages.
        name: Of the table, for messages.

    Returns:
        `[n]` files, one that is not there where a row has none; None where they are not meant so.

    Raises:
        ValueError: if rows and pictures count from different numbers.
    """
    kind = type(folder)
    folders = [folder, *map(kind, tree.folders(str(folder)))]
    best: list[AnyPath] | None = None
    fewest = _MOST_OUT * len(cells)
    for place in folders:
        names = [entry for entry in tree.files(str(place)) if kind(entry).suffix.lower() in SUFFIXES]
        files: list[AnyPath] = [kind(place, entry) for entry in names]
        if not files:
            continue
        stems: dict[str, AnyPath] = {file.stem: file for file in files}
        numbers = numbers_in_names(files)
        by_number: dict[int, AnyPath] = {} if numbers is None else {_number_of(file): file for file in files}
        found: list[AnyPath] = [stems[c] if c in stems else by_number.get(_whole(c), kind(place, c)) for c in cells]
        lost = sum(not (file.stem in stems and file is stems[file.stem]) for file in found)
        if lost > fewest or (best is not None and lost == fewest):
            continue
        if not all(cell in stems for cell in cells) and by_number:
            rows = sorted({_whole(cell) for cell in cells} - {-1})
            shift = rows[0] - min(by_number) if rows else 0
            if shift and rows == [known + shift for known in sorted(by_number)]:
                raise ValueError(
                    f"{name} counts from {rows[0]:,} in its column {column!r} and the pictures in {place} from "
                    f"{min(by_number):,}: name the pictures in a column of their own, or number both alike."
                )
        best, fewest = found, lost
    return best


def _number_of(file: PurePath) -> int:
    match = _LAST_NUMBER.fullmatch(file.stem)
    return int(match[2]) if match else -1


def _whole(cell: str) -> int:
    """Return a whole number that is not negative; −1 for anything else."""
    value = number(cell)
    return int(value) if np.isfinite(value) and value == int(value) and value >= 0 else -1
