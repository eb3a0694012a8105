"""Which file is the table of a recording, and where what it names lies: beside it, in a folder, or in an archive.

found = locate_table(Path("drive.zip"), options, notices)
table = read_table(found.table, found.table_store)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agents.recordings.options import ReadOptions
from agents.recordings.reading.parquet import has_pictures
from agents.recordings.reading.pictures import is_picture_name
from agents.recordings.reading.places import AnyPath, Disk, Tree, open_packed
from agents.recordings.reading.store import ARCHIVES, Folder, Store, files_in, is_archive, open_archive
from agents.recordings.reading.tables import PARQUET, decode_text
from agents.recordings.reading.video import SUFFIXES as VIDEOS

TABLES = (".csv", ".tsv", ".parquet", ".pq")
"""Ends of the names of tables."""
TEXTS = (".txt", ".dat")
"""Ends of the names of files that are tables where they name pictures."""
_BEGINNING = 4096  # bytes of a text that are looked at


@dataclass(frozen=True)
class Located:
    """A table, and where what it names lies."""

    table: AnyPath
    """The table."""
    name: str
    """What it is called in messages: with its archive, where it lies in one."""
    table_store: Store | None
    """The archive that the table lies in; None on disk."""
    store: Store
    """Reads what lies beside it."""
    tree: Tree
    """Lists that."""
    folder: AnyPath
    """That its pictures are named from."""
    video: Path | None
    """The video, when that was named and not the table."""


def locate_table(path: Path, options: ReadOptions, notices: list[str]) -> Located:
    """Find the table.

    Args:
        path: The table, the video, or the folder or archive of both.
        options: `table` may name another one.
        notices: What had to be decided is said here.

    Raises:
        ValueError: if there is none, or more than one.
        FileNotFoundError: if the table that the options name is not there.
    """
    if not is_archive(path):
        table, video, folder = _parts(path, options)
        return Located(table, str(table), None, Folder(folder), Disk(), folder, video)
    store, tree = open_packed(path, notices)
    if options.table is not None:
        own = _existing(options.table)
        return Located(own, str(own), None, store, tree, PurePosixPath(), None)
    inside = _packed_table(path)
    return Located(inside, f"{path}/{inside}", store, store, tree, inside.parent, None)


def holds_table(path: Path) -> bool:
    """Say whether a path is a table, a video, or a folder or archive with a table and pictures or a video.

    What is in archives of no other format, and whether they can be read at all, is said when they are read.
    """
    if path.is_dir():
        return _in_folder(path) is not None
    if is_archive(path):
        return True
    if path.suffix.lower() in TEXTS:
        return path.is_file() and _lists_pictures(path)
    return path.suffix.lower() in (*TABLES, *VIDEOS) and path.is_file()


def _packed_table(path: Path) -> PurePosixPath:
    """Return the one table in an archive.

    Raises:
        ValueError: if there is none, or more than one.
    """
    store = open_archive(path)
    files = files_in(path)
    tables = [name for name in files if name.suffix.lower() in TABLES]
    if not tables:
        texts = [name for name in files if name.suffix.lower() in TEXTS]
        tables = [name for name in texts if _names_pictures(store.read(name)[:_BEGINNING])]
    tables = [name for name in tables if name.parent == tables[0].parent]
    if len(tables) == 1:
        return tables[0]
    if tables:
        listed = ", ".join(map(str, tables[:6]))
        raise ValueError(f"{path} holds {len(tables)} tables ({listed}): unpack it and give the path of the right one.")
    packed = next((name for name in files if name.name.lower().endswith(ARCHIVES)), None)
    what = f"{len(files):,} files" if files else "no file"
    raise ValueError(
        f"{path} holds {what}, and neither a Donkeycar tub, a Udacity log nor a table of labels among them. "
        + (f"It holds an archive, {packed}: " if packed else "Recordings of other kinds are read unpacked only: ")
        + "unpack it and give the path of what is inside."
    )


def _parts(path: Path, options: ReadOptions) -> tuple[Path, Path | None, Path]:
    """Return the table, the video when one was named, and the folder that pictures are named from."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix in VIDEOS:
        table = options.table or next((found for end in TABLES if (found := path.with_suffix(end)).is_file()), None)
        if table is None:
            raise ValueError(f"{path} is a video without labels; name the table with its steering by --table.")
        return _existing(table), path, path.parent
    if path.is_dir():
        if options.table is not None:
            return _existing(options.table), None, path
        only = _in_folder(path)
        assert only is not None, "recognises() has seen it"
        return only, None, path
    return path, None, path.parent


def _existing(table: Path) -> Path:
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there; --table needs the path of a CSV or parquet file.")
    return table


def _in_folder(folder: Path) -> Path | None:
    """Return the one table of a folder that has pictures or a video too."""
    tables = tables_in(folder)
    if len(tables) != 1:
        return None
    has_frames = any(
        _shows(entry) or (entry.is_dir() and any(map(_shows, entry.iterdir()))) for entry in folder.iterdir()
    ) or (tables[0].suffix.lower() in PARQUET and has_pictures(tables[0]))
    return tables[0] if has_frames else None


def tables_in(folder: Path) -> list[Path]:
    """Return the tables right inside a folder; text files count where there is no other, and where they list pictures.

    Hidden files, such as those that macOS leaves on other disks, are none.
    """
    files = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_file())
    tables = [entry for entry in files if entry.suffix.lower() in TABLES]
    return tables or [entry for entry in files if entry.suffix.lower() in TEXTS and _lists_pictures(entry)]


def pictures_in(folder: Path) -> list[str]:
    """Return the names of the pictures in a folder or, where it has none, in the first one below that has some."""
    for place in (folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())):
        if found := sorted(entry.name for entry in place.iterdir() if is_picture_name(entry.name)):
            return found
    return []


def _lists_pictures(file: Path) -> bool:
    with file.open("rb") as content:
        return _names_pictures(content.read(_BEGINNING))


def _names_pictures(beginning: bytes) -> bool:
    """Say whether a text names pictures near its beginning."""
    head, _ = decode_text(beginning)
    return any(is_picture_name(word) for word in re.split(r"[\s,;|\"']+", head))


def _shows(entry: Path) -> bool:
    """Say whether a file is a picture or a video by its name."""
    return entry.suffix.lower() in VIDEOS or is_picture_name(entry.name)


def video_beside(table: Path) -> Path:
    """Return the one video beside a table that names no pictures, or in a folder there."""
    videos = sorted(entry for entry in table.parent.iterdir() if entry.suffix.lower() in VIDEOS)
    videos = videos or sorted(entry for entry in table.parent.glob("*/*") if entry.suffix.lower() in VIDEOS)
    same = [video for video in videos if video.stem == table.stem]
    if len(same) == 1 or len(videos) == 1:
        return (same or videos)[0]
    raise ValueError(
        f"{table} names no picture in a column and there is {'no' if not videos else 'more than one'} video beside it: "
        "name the column by --frame-column, or give the video as --data and this table as --table."
    )
