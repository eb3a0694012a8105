"""Where the files of a recording lie: a folder, a zip, or a tar file with or without gzip, read without unpacking.

    store = open_archive(Path("tub.tar.gz"))
    store.read(PurePosixPath("tub/images/0_cam_image_array_.jpg"))

A gzip stream can only be read forwards. While it is passed the first time, the state of the decompressor is kept every
so often (a mark takes some 40 kB), so that later any place is reached by decompressing at most one stretch again.
"""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from agents.recordings.reading.files import (
    MOST_BYTES,
    DamagedFile,
    check_fetched,
    check_regular,
    json_lines,
    one_line,
    possible_name,
    read_bytes,
)

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
"""Ends of the names of archives that are read."""
MARKS = 1024
"""Most marks kept in a gzip stream; when there are more, every second one goes."""
MOST_EXPANSION = 400
"""A gzip stream that grows more than so many times (beyond the first 64 MB) is no recording: pictures hardly shrink."""


class Store(Protocol):
    """Reads the files of a recording by name."""

    place: Path
    """The folder or the archive."""

    def names(self, folder: PurePosixPath | Path, pattern: str) -> list[Any]:
        """Return the files right inside a folder whose names match a pattern, in no order."""

    def has(self, name: Any) -> bool:
        """Say whether there is a file of this name."""

    def read(self, name: Any, most: int = MOST_BYTES) -> bytes:
        """Read one file whole.

        Raises:
            FileNotFoundError: if it is missing.
            DamagedFile: if it cannot be read or is too large.
        """

    def lines(self, name: Any) -> Iterator[Any]:
        """Yield the values of a file of JSON lines; None for a damaged one."""


class Folder:
    """Files of the file system; names are paths."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def names(self, folder: PurePosixPath | Path, pattern: str) -> list[Path]:
        """See `Store`."""
        return list(Path(folder).glob(pattern))

    def has(self, name: Path) -> bool:
        """See `Store`."""
        return possible_name(str(name)) and name.is_file()

    def read(self, name: Path, most: int = MOST_BYTES) -> bytes:
        """See `Store`."""
        return read_bytes(name, most)

    def lines(self, name: Path) -> Iterator[Any]:
        """See `Store`; the file is read as the values are asked for."""
        check_regular(name)
        with name.open("rb") as file:
            yield from json_lines(file)


class _Archive(ABC):
    """What zip and tar share: names are paths inside, looked up in an index made once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.index: dict[PurePosixPath, Any] = {}
        self.ends_early: str | None = None
        self._folders: dict[PurePosixPath, list[PurePosixPath]] | None = None
        self._lock = threading.Lock()

    def names(self, folder: PurePosixPath | Path, pattern: str) -> list[PurePosixPath]:
        """See `Store`."""
        if self._folders is None:
            self._folders = {}
            for name in self.index:
                self._folders.setdefault(name.parent, []).append(name)
        return [name for name in self._folders.get(PurePosixPath(folder), []) if name.match(pattern)]

    def has(self, name: PurePosixPath) -> bool:
        """See `Store`."""
        return name in self.index

    def lines(self, name: PurePosixPath) -> Iterator[Any]:
        """See `Store`."""
        yield from json_lines(io.BytesIO(self.read(name)))

    @abstractmethod
    def read(self, name: PurePosixPath, most: int = MOST_BYTES) -> bytes:
        """See `Store`."""


class ZipStore(_Archive):
    """A zip archive.

    Raises:
        DamagedFile: if it is none.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        check_regular(place)
        try:
            self._zip = zipfile.ZipFile(place)
            self.index = {
                PurePosixPath(info.filename.replace("\\", "/")): info
                for info in self._zip.infolist()
                # What macOS packs beside the files: notes of its own under the files' names.
                if not info.is_dir() and not info.filename.startswith("__MACOSX/")
            }
        # Anything: zipfile lets out BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError, ... for damage.
        except Exception as error:
            raise DamagedFile(f"{place} cannot be read as a zip archive ({one_line(error)}); copy it again.") from None

    def read(self, name: PurePosixPath, most: int = MOST_BYTES) -> bytes:
        """See `Store`."""
        info = self.index.get(name)
        if info is None:
            raise FileNotFoundError(2, "No such file in the archive", f"{self.place}/{name}")
        try:
            with self._lock, self._zip.open(info) as file:
                content = file.read(most + 1)
        except Exception as error:
            raise DamagedFile(f"{name} in {self.place} cannot be read ({one_line(error)}).") from None
        if len(content) > most:
            raise DamagedFile(f"{name} in {self.place} is larger than the {most:,} bytes expected.")
        return content


class TarStore(_Archive):
    """A tar archive, as it is or under gzip.

    Raises:
        DamagedFile: if it is none. An archive that ends early keeps the files before its end; `ends_early` says why.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        check_regular(place)
        with place.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        self._stream: BinaryIO = io.BufferedReader(GzipMarks(place), 1 << 16) if zipped else place.open("rb")
        try:
            with tarfile.open(fileobj=self._stream, mode="r:") as tar:
                for member in tar:
                    if member.isreg():
                        name = PurePosixPath(member.name.removeprefix("./"))
                        self.index[name] = (member.offset_data, member.size)
            self._check_end()
        except Exception as error:  # tarfile lets out TarError, EOFError, zlib.error, UnicodeDecodeError, ValueError.
            if not self.index:
                text = f"{place} cannot be read as a tar archive ({one_line(error)}); copy it again."
                raise DamagedFile(text) from None
            self.ends_early = one_line(error)

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.close()

    def _check_end(self) -> None:
        """Check that the last file is complete; tarfile passes over the end of a short file in silence."""
        if self.index:
            offset, size = max(self.index.values())
            self._stream.seek(offset + size - 1 if size else offset)
            if size and not self._stream.read(1):
                raise EOFError("the archive ends within a file")

    def read(self, name: PurePosixPath, most: int = MOST_BYTES) -> bytes:
        """See `Store`."""
        if name not in self.index:
            raise FileNotFoundError(2, "No such file in the archive", f"{self.place}/{name}")
        offset, size = self.index[name]
        if size > most:
            raise DamagedFile(f"{name} in {self.place} has {size:,} bytes, at most {most:,} were expected.")
        try:
            with self._lock:
                self._stream.seek(offset)
                content = self._stream.read(size)
        except Exception as error:
            raise DamagedFile(f"{name} in {self.place} cannot be read ({one_line(error)}).") from None
        return content


class GzipMarks(io.RawIOBase):
    """A gzip file as a stream that can seek.

    Args:
        path: The file.
        spacing: Bytes of output between two marks, at first; it doubles whenever there are more than `MARKS`.
    """

    def __init__(self, path: Path, spacing: int = 1 << 20) -> None:
        self._file = path.open("rb")
        self._path = path
        self._spacing = spacing
        self._bytes = path.stat().st_size
        self._engine = zlib.decompressobj(wbits=31)
        self._input = b""
        self._read_to = 0  # bytes of the file that were read, those in `_input` among them
        self._at = 0  # bytes of output so far
        self._ahead = b""  # output not yet asked for, which begins at `_at`
        self._furthest = 0
        self._marks: list[tuple[int, int, Any]] = [(0, 0, self._engine.copy())]

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Return the place in the output, bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the output; from the start or from here."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a gzip stream is not known")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        best = max((mark for mark in self._marks if mark[0] <= target), key=lambda mark: mark[0])
        if target < self._at or best[0] > self._at + len(self._ahead):
            self._at, self._read_to, engine = best
            self._engine, self._input, self._ahead = engine.copy(), b"", b""
            self._file.seek(self._read_to)
        while self._at < target and self._fill():
            step = min(len(self._ahead), target - self._at)
            self._ahead = self._ahead[step:]
            self._at += step
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what is there, at most as much as fits."""
        if not self._fill():
            return 0
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        self._at += count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _fill(self) -> bool:
        """Decompress some more when nothing is ahead; False at the end."""
        while not self._ahead:
            if self._engine.eof:
                rest = self._engine.unused_data + self._input
                if not rest:
                    rest = self._more()
                if not rest.strip(b"\0"):
                    return False
                self._engine, self._input = zlib.decompressobj(wbits=31), rest
            if not self._input:
                self._input = self._more()
                if not self._input:
                    if not self._engine.eof:
                        raise EOFError("the archive ends before its end")
                    return False
            self._ahead = self._engine.decompress(self._input, 1 << 18)
            self._input = self._engine.unconsumed_tail
            self._mark()
        return True

    def _more(self) -> bytes:
        content = self._file.read(1 << 16)
        self._read_to += len(content)
        return content

    def _mark(self) -> None:
        """Keep the decompressor's state now and then, and refuse a stream that grows beyond reason."""
        output = self._at + len(self._ahead)
        if output <= self._furthest:
            return
        self._furthest = output
        if output > (64 << 20) + MOST_EXPANSION * self._bytes:
            raise DamagedFile(f"{self._path} grows more than {MOST_EXPANSION} times when unpacked; it is no recording.")
        if output - self._marks[-1][0] >= self._spacing and not self._engine.eof:
            self._marks.append((output, self._read_to - len(self._input), self._engine.copy()))
            if len(self._marks) > MARKS:
                self._marks = self._marks[::2]
                self._spacing *= 2


def is_archive(path: Path) -> bool:
    """Say whether a path is a file whose name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES) and path.is_file()


def open_archive(path: Path) -> ZipStore | TarStore:
    """Open an archive; one that was just opened, and did not change, is not read again.

    Raises:
        DamagedFile: if it is none.
    """
    facts = path.stat()
    return _open(path.absolute(), path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=4)
def _open(key: Path, path: Path, changed_ns: int, size: int) -> ZipStore | TarStore:
    check_fetched(path)
    return ZipStore(path) if path.name.lower().endswith(".zip") else TarStore(path)


def files_in(path: Path) -> list[PurePosixPath]:
    """Return the names of the files in an archive, the shallowest first; none where it cannot be read.

    Hidden files are passed over: macOS packs notes of its own beside files of other disks.
    """
    try:
        found = [name for name in open_archive(path).index if not name.name.startswith(".")]
    except (OSError, ValueError):
        return []
    return sorted(found, key=lambda name: (len(name.parts), str(name)))
