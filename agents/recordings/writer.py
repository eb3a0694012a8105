"""Writing the project's own data set (`native.py`) as a stream.

    writer = EpisodeWriter("runs/record/data")
    with writer.episode(EpisodeMeta(source="expert", nominal_period_s=0.05)) as recording:
        recording.append(frame, steering=0.1, time_s=0.0, speed_mps=1.5)

Frames go straight to the file, so an episode of any length takes no memory. An episode moves into place when it is
complete: a kill loses the episodes in flight and nothing else. Several may be in flight at once; the number is given on
completion. Appending to a data set continues its numbers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeMeta
from agents.recordings.native import FORMAT, VERSION, check_header, episode_directories
from agents.runs.directory import MARKER
from agents.runs.files import PARTIAL, clear_errors, make_directory, write_json
from agents.runs.lock import LOCK

_HEADER_BYTES = 128


class EpisodeWriter:
    """Makes or extends a data set.

    What a killed process left of its episodes in flight has a hidden name with `.partial-` in it, is passed over by
    readers, and can be deleted.

    Args:
        directory: Of the data set; made when absent.

    Raises:
        ValueError: if the directory holds something else.
        WriteError: if nothing can be written there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        header = self.directory / "dataset.json"
        if header.exists():
            check_header(self.directory)
        elif self.directory.is_dir() and any(map(_is_foreign, self.directory.iterdir())):
            raise ValueError(f"{self.directory} is neither empty nor a data set; name a new directory to record to.")
        make_directory(self.directory)
        if not header.exists():
            write_json(header, {"format": FORMAT, "version": VERSION})

    def episode(self, meta: EpisodeMeta, number: int | None = None) -> EpisodeRecording:
        """Begin an episode; use it as a context, or call its `finish` or `abort`.

        Args:
            meta: of the episode.
            number: its place in the data set; the next free one on completion when None.
        """
        return EpisodeRecording(self.directory, meta, number)


class EpisodeRecording:
    """An episode in flight.

    Args:
        directory: Of the data set.
        meta: Of the episode; height and width are filled in from the frames.
        number: Its place in the data set, which must be free on completion; the next free one when None.
    """

    def __init__(self, directory: Path, meta: EpisodeMeta, number: int | None = None) -> None:
        self.directory = directory
        self.meta = meta
        self.number = number
        self.shape: tuple[int, ...] | None = None
        self._columns: dict[str, list[Any]] = {"steering": [], "time_s": []}
        self._partial = directory / f".episode{PARTIAL}{os.getpid()}-{os.urandom(4).hex()}"
        with clear_errors(directory):
            self._partial.mkdir()
            self._file = (self._partial / "frames.npy").open("wb", buffering=1 << 20)
            self._file.write(_header((0, 0, 0, 3)))

    def __len__(self) -> int:
        return len(self._columns["steering"])

    def append(self, frame: NDArray[np.uint8], steering: float, time_s: float, **extras: Any) -> None:
        """Add one step.

        Args:
            frame: uint8 `[H, W, 3]` RGB, of the same size in every step.
            steering: In [-1, 1], positive left.
            time_s: Seconds, above that of the step before.
            **extras: Numbers or arrays to keep beside, the same names in every step.

        Raises:
            ValueError: if the step does not fit those before.
            WriteError: if the disk is full or gone; the episode is given up and the complete ones stay.
        """
        if "frames" in extras:
            raise ValueError("an extra cannot be called 'frames', which is the name of the pictures; choose another.")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}.")
        step = {"steering": steering, "time_s": time_s, **extras}
        if self.shape is None:
            self.shape = frame.shape
            self._columns = {name: [] for name in step}
        if frame.shape != self.shape:
            raise ValueError(f"frames of an episode must have one size: {list(self.shape)}, got {list(frame.shape)}.")
        if step.keys() != self._columns.keys():
            raise ValueError(f"every step must have the fields {sorted(self._columns)}, got {sorted(step)}.")
        if not abs(steering) <= 1.0:
            raise ValueError(f"steering must lie within [-1, 1], got {steering}.")
        times = self._columns["time_s"]
        if not np.isfinite(time_s) or (times and not time_s > times[-1]):
            raise ValueError(
                f"time_s must be finite and rise: {time_s} came after {times[-1] if times else 'nothing'}."
            )
        try:
            with clear_errors(self.directory):
                self._file.write(np.ascontiguousarray(frame).data)
        except OSError:
            self.abort()
            raise
        for name, value in step.items():
            self._columns[name].append(value)

    def finish(self) -> Path | None:
        """Complete the episode and move it into place; an episode without steps leaves nothing.

        Returns:
            The directory of the episode, or None without steps.

        Raises:
            WriteError: if it cannot be written or its number is taken; the episode is given up and the complete ones
                stay.
        """
        if self.shape is None:
            self.abort()
            return None
        try:
            with clear_errors(self.directory):
                self._file.seek(0)
                self._file.write(_header((len(self), *self.shape)))
                self._file.close()
                types: dict[str, type] = {"steering": np.float32, "time_s": np.float64}
                for name, values in self._columns.items():
                    np.save(self._partial / f"{name}.npy", _column(values, types.get(name)), allow_pickle=False)
                meta = dataclasses.replace(self.meta, height=self.shape[0], width=self.shape[1])
                (self._partial / "meta.json").write_text(json.dumps(meta.to_json(), indent=2), encoding="utf-8")
                return _place(self.directory, self._partial, self.number)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give the episode up and remove what was written of it."""
        try:
            self._file.close()
        except OSError:
            pass  # Closing flushes, and on a full disk fails again; the file goes away in the next line.
        shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> EpisodeRecording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file.closed:
            return  # Finished or given up inside the block.
        if kind is None:
            self.finish()
        else:
            self.abort()


def _is_foreign(entry: Path) -> bool:
    """Whether something in a directory without `dataset.json` is neither half-made nor the mark and lock of a run."""
    return PARTIAL not in entry.name and entry.name not in (MARKER, LOCK)


def _header(shape: tuple[int, ...]) -> bytes:
    """Return a .npy header of fixed length, so that the true T can be filled in when it is known."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape})
    body = text.encode("latin1").ljust(_HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def _column(values: list[Any], kind: type | None) -> NDArray[Any]:
    """Stack one field; refuse what could only be pickled."""
    column = np.asarray(values, dtype=kind)
    if column.dtype == object:
        raise ValueError("extras must be numbers or arrays of one shape; leave out what is not.")
    return column


def _place(directory: Path, partial: Path, number: int | None) -> Path:
    """Move a complete episode to its number; the next free one may be taken by another process first, so try on."""
    while True:
        taken = episode_directories(directory)
        free = int(taken[-1].name.removeprefix("episode_")) + 1 if taken else 0
        target = directory / f"episode_{free if number is None else number:06d}"
        try:
            os.rename(partial, target)
            return target
        except OSError:
            if number is not None or not target.exists():
                raise
