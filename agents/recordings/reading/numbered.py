"""What the names of pictures say: their numbers, their time stamps, and which of them a row's number means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.files import number
from agents.recordings.reading.pictures import SUFFIXES
from agents.recordings.reading.places import AnyPath, Tree
from agents.recordings.reading.stamps import Stamps, epoch_unit, is_moment, read_stamps

_LAST_NUMBER = re.compile(r"(.*?)(\d{1,15})(\D*)")
_MOST_SPARSE = 20  # numbers for each picture: some were left out, or belong to another table
_MOST_PARTS = 9  # numbers in a name that is looked at for a time stamp
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
    """Return the time stamps in pictures' names, such as `1479425441182877835.jpg` or `frame_000012_1700000000_05.jpg`.

    NaN throughout without such.
    """
    for cells in _parts_of_names([file.stem for file in files]):
        if all(is_moment(cell) or epoch_unit(number(cell)) for cell in cells):
            notices.append("time stamps are those in the pictures' names")
            return read_stamps(cells, "", None, notices)
    return Stamps(np.full(len(files), np.nan))


def _parts_of_names(stems: Sequence[str]) -> Iterator[list[str]]:
    """Yield what may be time stamps in names that are built alike: all from one number to another, the longest first.

    Fractions without leading zeros get them. A beginning that never changes, with a number behind it, is a drive's name
    and a counter.
    """
    places = [[match.span() for match in re.finditer(r"\d+", stem)] for stem in stems]
    count = len(places[0]) if places else 0
    if not 0 < count <= _MOST_PARTS or any(len(found) != count for found in places):
        return
    spans = [(first, last) for first in range(count) for last in range(first, count)]
    for first, last in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        heads = [stem[found[first][0] : found[last][0]] for stem, found in zip(stems, places, strict=True)]
        tails = [stem[slice(*found[last])] for stem, found in zip(stems, places, strict=True)]
        widest = max(map(len, tails))
        if len(stems) > 1 and len(set(tails if last == first else heads)) == 1:
            continue
        if last == first:
            yield tails
            continue
        if min(map(len, tails)) < widest and 2 < widest <= 9:
            tails = [tail.zfill(3 * -(-widest // 3)) for tail in tails]
        if last == first + 1 and widest <= 9 and epoch_unit(number(re.sub(r"\D", "", heads[0]))) == "s":
            heads = [re.sub(r"\D", "", head) + "." for head in heads]
        yield [head + tail for head, tail in zip(heads, tails, strict=True)]


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
