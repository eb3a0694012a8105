"""Tables of numbers and names: CSV in every dialect that says what it means, and parquet.

    table = read_table(Path("driving_log.csv"))
    table.header, table.rows

Encoding, separator and decimal mark are found out from the content; lines before the header are passed over, and a row
of units below it joins it. What could be read in two ways is refused: a comma that may separate columns or decimals
must never turn a label into 0, nor a second header with other columns the rows below it into nonsense.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from agents.recordings.reading.files import DamagedFile, check_fetched, read_bytes
from agents.recordings.reading.parquet import read_parquet
from agents.recordings.reading.pictures import is_picture_name
from agents.recordings.reading.store import Folder, Store

MOST_BYTES = 200 << 20
"""Longest table that is read, bytes: some thirty hours of an ordinary log."""
MOST_COLUMNS = 1000
"""A row with more columns belongs to no log."""
PARQUET = (".parquet", ".pq")
"""Ends of the names of parquet files."""
SEPARATORS = (",", ";", "\t", "|")
"""Tried in this order; of equals the first wins."""
LONGEST_PREAMBLE = 50
"""A header stands within so many lines."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?")
_WHOLE = re.compile(r"[-+]?\d+")
_HALF = re.compile(r"[-+]?\d+([eE][-+]?\d+)?")  # of a decimal that was cut at its comma
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_SEP_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\s*", re.IGNORECASE)
_PICTURE_FIRST = re.compile(r"\s*([^\s,;|]+\.[A-Za-z]{3,4}) +([-+.\d][^\t]*)")
_SAYS_WHAT = re.compile(r"steer|angle|image|img|picture|center|centre|file|frame|time|stamp|throttle", re.IGNORECASE)
_UNIT = re.compile(
    r"[\[(]?(deg|degrees?|°|rad|radians?|%|percent|m?s|us|µs|ns|sec|seconds?|k?m/?h|kph|mph|m/s(\^?2|²)?|m|g|v|hz|rpm|-)?[\])]?",
    re.IGNORECASE,
)
_LOG = ["center", "left", "right", "steering", "throttle", "brake", "speed"]
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
    before: list[str] = field(default_factory=list)
    """Lines before the header."""
    pictures: Mapping[int, Store] = field(default_factory=dict)
    """Where the pictures lie that columns hold themselves, by index; their cells are names there."""

    def column(self, index: int) -> list[str]:
        """Return one column."""
        return [row[index] for row in self.rows]


def read_table(path: Path | PurePosixPath, store: Store | None = None) -> Table:
    """Read a CSV or parquet file.

    Args:
        path: The file.
        store: The archive that it lies in; the file system when None.

    Raises:
        DamagedFile: if it cannot be read, is too large, or its commas could mean two things.
    """
    if store is not None and not isinstance(store, Folder):
        if path.suffix.lower() in PARQUET:
            raise DamagedFile(f"{path} in {store.place} is parquet, which is read unpacked only: unpack it.")
        content = store.read(path, MOST_BYTES)
    else:
        check_fetched(path := Path(path))
        if path.suffix.lower() in PARQUET:
            return _read_parquet(path)
        content = read_bytes(path, MOST_BYTES)
    text, encoding = decode_text(content)
    name = path if store is None or isinstance(store, Folder) else f"{store.place}/{path}"
    table = parse_csv(text, name)
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
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        # Where no letter beyond English ones is UTF-8, it is the code page of a Western Windows; else damage.
        good = content.decode("utf-8", "ignore")
        if content.count(0) == 0 and good.isascii():
            return content.decode("cp1252", "replace"), "cp1252"
        return content.decode("utf-8", "replace"), "utf-8"


def parse_csv(text: str, name: PurePath | str) -> Table:
    """Parse the text of a table.

    Args:
        text: All of it.
        name: Whose it is, for messages.

    Raises:
        DamagedFile: if it cannot be read or could be read in two ways.
    """
    text, separator = _separated(text.replace("\0", ""))
    sample = text[: 1 << 18].splitlines()[:_SAMPLE]
    separator = separator or _choose_separator(sample)
    if _spaced_commas(sample, separator):
        rows = [_split_spaced(line) for line in text.splitlines() if line.strip(" ,;\t")]
    else:
        rows = list(_rows(text, separator, name))
    if not rows:
        return Table(None, [])
    notices = []
    before: list[str] = []
    if preamble := _preamble(rows):
        notices.append(f"{preamble} lines before the header are passed over")
        before = [" ".join(row) for row in rows[:preamble]]
        del rows[:preamble]
    header = rows.pop(0) if _is_header(rows[0], rows[1:2]) else None
    if header is not None:
        while header and not header[-1]:
            header.pop()  # a trailing separator in the header alone
    units = rows.pop(0) if header is not None and rows and _is_units(rows[0]) else []
    rows = _without_headers(rows, header, name, notices)
    if header is not None and units:
        header = [
            f"{column} {unit}".strip() for column, unit in zip_longest(header, units[: len(header)], fillvalue="")
        ]
    rows, joined = _join_decimals(rows, header, separator, name)
    table = _even(header, rows)
    if header is not None and len(table.rows) < 0.5 * len(rows):
        raise DamagedFile(
            f"{name} has {len(header)} columns by its header, and {table.damaged:,} of {len(rows):,} rows have another "
            "number of them: numbers must be written with a decimal point, or columns be separated by semicolons."
        )
    if joined:
        notices.append("decimals are written with a comma")
    table.notices += notices
    table.before = before
    _turn_commas(table)
    return table


def _separated(text: str) -> tuple[str, str | None]:
    """Return the text with one separator, and which, where it is said (`sep=;`) or where it is white space."""
    first, _, rest = text.partition("\n")
    if said := _SEP_LINE.fullmatch(first):
        return rest, said[1]
    lines = text.splitlines()
    filled = [line for line in lines[:_SAMPLE] if line.strip()]
    # "12.jpg 3.25" and "12.jpg 3.25,2018-07-01 17:09:44:912"
    split = [_PICTURE_FIRST.fullmatch(line) for line in filled]
    if filled and sum(match is not None and is_picture_name(match[1]) for match in split) > 0.9 * len(filled):
        mark = "," if any("," in match[2] for match in split if match) else "\t"
        joined = (_PICTURE_FIRST.sub(rf"\1{mark}\2", line) for line in lines)
        return "\n".join(line if mark == "," else re.sub(r"\s+", "\t", line.strip()) for line in joined), mark
    if any(mark in line for line in filled for mark in SEPARATORS):
        return text, None
    columns = Counter(len(line.split()) for line in filled)
    if len(columns) == 1 and next(iter(columns)) > 1 and any(_NUMBER.fullmatch(cell) for cell in filled[-1].split()):
        return "\n".join("\t".join(line.split()) for line in lines), "\t"
    return text, None


def _preamble(rows: Sequence[Sequence[str]]) -> int:
    """Return how many rows stand before the header that are neither header nor data."""
    wide = Counter(len(row) for row in rows[:_SAMPLE]).most_common(1)[0][0]
    for index, row in enumerate(rows[:LONGEST_PREAMBLE]):
        if any(is_picture_name(cell) for cell in row):
            return 0
        if abs(len(row) - wide) <= 1 and len(row) > 1 and _names_columns(row, rows[index + 1 : index + 2]):
            return index
        if len(row) == wide and sum(_NUMBER.fullmatch(cell) is not None for cell in row) > 0.5 * wide:
            return 0
    return 0


def _names_columns(row: Sequence[str], after: Sequence[Sequence[str]]) -> bool:
    """Say whether a row is a header of driving wherever it stands."""
    return _is_header(row, after) and any(_SAYS_WHAT.search(cell) for cell in row)


def _is_units(row: Sequence[str]) -> bool:
    """Say whether a row below the header gives units."""
    said = [cell for cell in row if cell.strip("-[]() ")]
    return bool(said) and all(_UNIT.fullmatch(cell) for cell in row)


def _without_headers(
    rows: list[list[str]], header: list[str] | None, name: PurePath | str, notices: list[str]
) -> list[list[str]]:
    """Drop the headers that logs bring along when they are appended to each other.

    Raises:
        DamagedFile: if one names other columns than the first.
    """
    found = []
    for index, row in enumerate(rows):
        if any(_NUMBER.fullmatch(cell) for cell in row) or sum(bool(cell) for cell in row) < 2:
            continue
        if not _names_columns(row, [["0"]]) or sum(_SAYS_WHAT.search(cell) is not None for cell in row) < 2:
            continue
        same = [cell.lower() for cell in header] if header is not None else _LOG[: len(row)]
        if [cell.lower() for cell in row if cell] != [cell for cell in same if cell]:
            raise DamagedFile(
                f"{name} has a second header, with other columns ({', '.join(row)[:120]}), after {index:,} rows: put "
                "what stands below it into a table of its own."
            )
        found.append(index)
    if found:
        notices.append(f"the header stands in it {len(found) + 1 if header is not None else len(found)} times")
        passed = {*found}
        return [row for index, row in enumerate(rows) if index not in passed]
    return rows


def _rows(text: str, separator: str, name: PurePath | str) -> Iterator[list[str]]:
    try:
        for row in csv.reader(text.splitlines(keepends=True), delimiter=separator, skipinitialspace=True):
            if len(row) > MOST_COLUMNS:
                raise DamagedFile(f"{name} has a row of {len(row):,} columns; it is no table of driving.")
            if any(cell.strip() for cell in row):
                yield [_unquoted(cell.strip()) for cell in row]
    except csv.Error as error:
        raise DamagedFile(f"{name} is not a readable CSV file: {error}. Copy the table again.") from None


def _unquoted(cell: str) -> str:
    """Take off single quotes, which the reader of CSV leaves."""
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == "'" else cell


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
    split = [_split_spaced(line) for line in sample if ", " in line]
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
    rows: list[list[str]], header: list[str] | None, separator: str, name: PurePath | str
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
    if not all(_HALF.fullmatch(cell) or not cell for row in numbers for cell in row):
        return rows, False
    powers = any("e" in cell.lower() for row in numbers for cell in row)  # "2,65e-01"; no whole number is written so
    # All that stands behind the pictures is whole numbers: either it is so, or decimals were cut in two.
    expected = len(header) if header is not None else lead + 4 if lead else columns
    longer = sum(times for length, times in counts.items() if length > min(columns, expected))
    seconds = [row[1] for row in numbers if len(row) > 1 and len(row[1]) < 18 and _WHOLE.fullmatch(row[1])]
    second = max((abs(int(cell)) for cell in seconds), default=0)
    # The second number would be a throttle within [-1, 1].
    cut = powers or (bool(lead) and header is None and second > 1)
    if longer <= 0.01 * len(rows) and not cut:
        return rows, False
    values = (columns - lead) // 2
    paired = len(counts) == 1 and columns - lead == 2 * values > 0
    # Without a header only steering alone or all four are sure: three pairs may be four numbers, one of them whole.
    paired = paired and (values in (1, 4) if header is None else values == len(header) - lead)
    if lead and paired and all(row[1::2] and all(half.isdigit() for half in row[1::2]) for row in numbers):
        if all(abs(int(row[0])) <= 90 for row in numbers if len(row[0]) < 18 and _WHOLE.fullmatch(row[0])):
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
        # (where they begin with no such index, a decimal comma may have cut a cell in two)
        if trimmed and all(len(row) == wide + 1 for row in trimmed) and _counts([row[0] for row in trimmed]):
            return Table(["", *header], trimmed)
        return Table(header, [], len(rows))
    columns = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    good = [row for row in rows if len(row) == columns]
    return Table(None, good, len(rows) - len(good))


def _counts(cells: Sequence[str]) -> bool:
    """Say whether cells are whole numbers, no two the same, none below 0."""
    return len(set(cells)) == len(cells) and all(cell.isdigit() for cell in cells)


def _turn_commas(table: Table) -> None:
    """Turn decimal commas into points in every column whose cells are all numbers with or without one.

    Commas that set off thousands are taken out instead: where nothing else can be meant, or where the numbers rise from
    row to row only so, as those of a clock do ("950", "1,000", "1,050").
    """
    if not table.rows:
        return
    for index in range(len(table.rows[0])):
        cells = table.column(index)
        with_comma = [cell for cell in cells if "," in cell]
        if not with_comma:
            continue
        decimal = all(_COMMA_NUMBER.fullmatch(cell) for cell in with_comma)
        thousands = all(_THOUSANDS.fullmatch(cell) for cell in with_comma)
        if thousands and (not decimal or (_rise(cells, "") and not _rise(cells, "."))):
            for row in table.rows:
                row[index] = row[index].replace(",", "")
        elif decimal:
            for row in table.rows:
                row[index] = row[index].replace(",", ".")


def _rise(cells: Sequence[str], comma: str) -> bool:
    """Say whether numbers never fall from row to row, once their commas are replaced."""
    values = [float(text) for cell in cells if _NUMBER.fullmatch(text := cell.replace(",", comma))]
    return len(values) > 1 and all(a <= b for a, b in zip(values, values[1:], strict=False))


def _read_parquet(path: Path) -> Table:
    """Read a parquet file; cells become text, as if they stood in a CSV file."""
    names, columns, stores = read_parquet(path)
    rows = [list(map(_cell, row)) for row in zip(*columns, strict=True)]
    return Table(names, rows, pictures={names.index(name): store for name, store in stores.items()})


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if hasattr(value, "timestamp"):  # a datetime
        return repr(value.timestamp())
    if hasattr(value, "total_seconds"):
        return repr(value.total_seconds())
    return repr(value) if isinstance(value, float) else str(value)
