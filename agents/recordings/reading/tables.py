"""Tables of numbers and names: CSV in every dialect that says what it means, and parquet.

    table = read_table(Path("driving_log.csv"))
    table.header, table.rows

Encoding, separator and decimal mark are found out from the content. What could be read in two ways is refused: a comma
that may separate columns or decimals must never turn a label into 0.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.recordings.reading.files import DamagedFile, check_regular, one_line, read_bytes
from agents.recordings.reading.pictures import is_picture_name

MOST_BYTES = 200 << 20
"""Longest table that is read, bytes: some thirty hours of an ordinary log."""
MOST_COLUMNS = 1000
"""A row with more columns belongs to no log."""
SEPARATORS = (",", ";", "\t", "|")
"""Tried in this order; of equals the first wins."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?")
_WHOLE = re.compile(r"[-+]?\d+")
_SAMPLE = 200


@dataclass
class Table:
    """Rows of text."""

    header: list[str] | None
    """Names of the columns as they stand; None without a header."""
    rows: list[list[str]]
    """Cells, stripped of white space, decimal marks turned to points; all rows have equal length."""
    damaged: int = 0
    """Rows left out because they have another number of columns than the others."""
    notices: list[str] = field(default_factory=list)
    """What had to be decided."""

    def column(self, index: int) -> list[str]:
        """Return one column."""
        return [row[index] for row in self.rows]


def read_table(path: Path) -> Table:
    """Read a CSV or parquet file.

    Raises:
        DamagedFile: if it cannot be read, is too large, or its commas could mean two things.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    text, encoding = decode_text(read_bytes(path, MOST_BYTES))
    table = parse_csv(text, path)
    if encoding not in ("utf-8", "utf-8-sig"):
        table.notices.append(f"read as {encoding}")
    return table


def decode_text(content: bytes) -> tuple[str, str]:
    """Decode text whose encoding is not said; return the text and the encoding."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(name, "replace"), name
    head = content[:2000]
    # ASCII text in two bytes a character: every second byte is zero.
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) >= 8 and head[offset::2].count(0) > 0.8 * len(head[offset::2]):
            return content.decode(name, "replace"), name
    return content.decode("utf-8", "replace"), "utf-8"


def parse_csv(text: str, name: Path | str) -> Table:
    """Parse the text of a table.

    Args:
        text: All of it.
        name: Whose it is, for messages.

    Raises:
        DamagedFile: if it cannot be read or could be read in two ways.
    """
    text = text.replace("\0", "")
    sample = text[: 1 << 18].splitlines()[:_SAMPLE]
    separator = _choose_separator(sample)
    if _spaced_commas(sample, separator):
        rows = [_split_spaced(line) for line in text.splitlines() if line.strip(" ,;\t")]
    else:
        rows = list(_rows(text, separator, name))
    if not rows:
        return Table(None, [])
    header = rows.pop(0) if _is_header(rows[0], rows[1:2]) else None
    if header is not None:
        while header and not header[-1]:
            header.pop()  # a trailing separator in the header alone
    rows, joined = _join_decimals(rows, header, separator, name)
    table = _even(header, rows)
    if joined:
        table.notices.append("decimals are written with a comma")
    _turn_commas(table)
    return table


def _rows(text: str, separator: str, name: Path | str) -> Iterator[list[str]]:
    try:
        for row in csv.reader(text.splitlines(keepends=True), delimiter=separator, skipinitialspace=True):
            if len(row) > MOST_COLUMNS:
                raise DamagedFile(f"{name} has a row of {len(row):,} columns; it is no table of driving.")
            if any(cell.strip() for cell in row):
                yield [cell.strip() for cell in row]
    except csv.Error as error:
        raise DamagedFile(f"{name} is not a readable CSV file: {error}. Copy the table again.") from None


def _choose_separator(sample: Sequence[str]) -> str:
    """Take the separator that makes most cells into numbers, pictures or the words of a header, in rows alike."""
    best, best_score = ",", -1.0
    for separator in SEPARATORS:
        try:
            rows = [row for row in csv.reader(sample, delimiter=separator, skipinitialspace=True) if any(row)]
        except csv.Error:
            continue
        if not rows:
            continue
        columns, alike = Counter(map(len, rows)).most_common(1)[0]
        if columns < 2:
            continue
        cells = [cell.strip() for row in rows for cell in row]
        # A cell that still holds another separator beside text was not separated: "a.jpg;0" is neither.
        plain = sum(_plain(cell) for cell in cells)
        score = plain / len(cells) + alike / len(rows)
        if score > best_score + 0.05:
            best, best_score = separator, score
    return best


def _plain(cell: str) -> bool:
    if not cell or _NUMBER.fullmatch(cell) or _COMMA_NUMBER.fullmatch(cell):
        return True
    return not any(mark in cell for mark in SEPARATORS)


def _spaced_commas(sample: Sequence[str], separator: str) -> bool:
    """Say whether columns are separated by comma and space while commas without a space are decimal marks."""
    if separator != "," or any('"' in line for line in sample) or not any(", " in line for line in sample):
        return False
    split = [_split_spaced(line) for line in sample if line.strip()]
    if _is_header(split[0], split[1:2]):
        split = split[1:]
    cells = [cell for row in split for cell in row]
    with_comma = [cell for cell in cells if "," in cell]
    even = len(set(map(len, split))) == 1
    return even and bool(with_comma) and all(_COMMA_NUMBER.fullmatch(cell) for cell in with_comma)


def _split_spaced(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(", ")]


def _is_header(row: Sequence[str], after: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row names the columns: words, no number and no picture."""
    cells = [cell.strip().lstrip("#").strip() for cell in row if cell.strip()]
    words = [cell for cell in cells if re.search(r"[^\W\d_]", cell) and not _NUMBER.fullmatch(cell)]
    if not words or len(words) < len(cells) or any(is_picture_name(cell) for cell in cells):
        return False
    if not after or not after[0]:
        return True
    return any(_NUMBER.fullmatch(c) or _COMMA_NUMBER.fullmatch(c) or is_picture_name(c) for c in after[0]) or any(
        set(re.split(r"[\W_]+", word.lower())) & {"steering", "angle", "center", "centre", "image"} for word in words
    )


def _join_decimals(
    rows: list[list[str]], header: list[str] | None, separator: str, name: Path | str
) -> tuple[list[list[str]], bool]:
    """Join decimals that a comma cut in two, where that is the only way to read the rows; refuse where it may be one.

    Raises:
        DamagedFile: if it cannot be said where a number ends.
    """
    if separator != "," or not rows:
        return rows, False
    counts = Counter(map(len, rows))
    columns = counts.most_common(1)[0][0]
    lead = max(sum(map(is_picture_name, row)) for row in rows[:_SAMPLE])
    numbers = [row[lead:] for row in rows if len(row) > lead]
    if not all(_WHOLE.fullmatch(cell) or not cell for row in numbers for cell in row):
        return rows, False
    # All that stands behind the pictures is whole numbers: either it is so, or decimals were cut in two.
    expected = len(header) if header is not None else lead + 4 if lead else columns
    longer = sum(times for length, times in counts.items() if length > min(columns, expected))
    second = max((abs(int(row[1])) for row in numbers if len(row) > 1 and 0 < len(row[1]) < 18), default=0)
    # The second number would be a throttle within [-1, 1].
    cut = bool(lead) and header is None and second > 1
    if longer <= 0.01 * len(rows) and not cut:
        return rows, False
    values = (columns - lead) // 2
    paired = len(counts) == 1 and columns - lead == 2 * values > 0
    # Without a header only steering alone or all four are sure: three pairs may be four numbers, one of them whole.
    paired = paired and (values in (1, 4) if header is None else values == len(header) - lead)
    if lead and paired and all(row[1::2] and all(half.isdigit() for half in row[1::2]) for row in numbers):
        if all(abs(int(row[0])) <= 90 for row in numbers if len(row[0]) < 18):
            halves = [(row[:lead], zip(row[lead::2], row[lead + 1 :: 2], strict=True)) for row in rows]
            return [[*names, *(f"{whole}.{part}" for whole, part in pairs)] for names, pairs in halves], True
    raise DamagedFile(
        f"{name} seems to write decimals with the comma that separates its columns too, so that it cannot be said "
        f"where a number ends: got {max(counts)} columns; numbers must be written with a decimal point, or columns be "
        "separated by semicolons."
    )


def _even(header: list[str] | None, rows: list[list[str]]) -> Table:
    """Keep the rows that have the number of columns that most have, or that of the header."""
    if header is not None:
        wide = len(header)
        trimmed = [row[:wide] if len(row) > wide and not any(row[wide:]) else row for row in rows]
        if any(len(row) == wide for row in trimmed):
            good = [row for row in trimmed if len(row) == wide]
            return Table(header, good, len(rows) - len(good))
        # pandas writes an index without a name for it, or not at all: rows one longer than the header
        if trimmed and all(len(row) == wide + 1 for row in trimmed):
            return Table(["", *header], trimmed)
        return Table(header, [], len(rows))
    columns = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    good = [row for row in rows if len(row) == columns]
    return Table(None, good, len(rows) - len(good))


def _turn_commas(table: Table) -> None:
    """Turn decimal commas into points in every column whose cells are all numbers with or without one."""
    if not table.rows:
        return
    for index in range(len(table.rows[0])):
        cells = table.column(index)
        with_comma = [cell for cell in cells if "," in cell]
        if with_comma and all(_COMMA_NUMBER.fullmatch(cell) for cell in with_comma):
            for row in table.rows:
                row[index] = row[index].replace(",", ".")


def _read_parquet(path: Path) -> Table:
    """Read a parquet file; cells become text, as if they stood in a CSV file."""
    header, columns = parquet_columns(path)
    flat = {name: values for name, values in zip(header, columns, strict=True)}
    names = [name for name, values in flat.items() if not any(isinstance(v, (list, dict, bytes)) for v in values[:50])]
    rows = [list(map(_cell, row)) for row in zip(*(flat[name] for name in names), strict=True)]
    return Table(names, rows)


def parquet_columns(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Return the names and the values of a parquet file's columns.

    Raises:
        DamagedFile: if it cannot be read, or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} is a parquet file, which needs pyarrow", name="pyarrow") from error
    check_regular(path, 2 << 30)
    try:
        found = pq.read_table(path)
        return list(found.column_names), [column.to_pylist() for column in found.columns]
    # Anything: for a damaged file pyarrow lets out ArrowInvalid, OSError, NotImplementedError, MemoryError, ...
    except Exception as error:
        raise DamagedFile(f"{path} cannot be read as parquet ({one_line(error)}); copy it again.") from None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if hasattr(value, "timestamp"):  # a datetime
        return repr(value.timestamp())
    return repr(value) if isinstance(value, float) else str(value)
