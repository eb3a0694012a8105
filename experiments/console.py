"""What every verb shares: the screen, progress with time left, tables, results as JSON, names of run directories.

Results go to standard output; progress and notices go to standard error, so that a pipe gets the results alone. A
terminal sees bars; a file or a pipe sees a plain line every tenth of the way.
"""

from __future__ import annotations

import errno
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from agents.driving.statistics import Estimate
from agents.runs.directory import command, to_json, versions
from agents.runs.files import clear_errors, make_directory, write_json
from agents.runs.ours import check_ours

if TYPE_CHECKING:
    from envs.lane_keeping.config import LaneKeepingConfig

MILESTONES = 10
"""Plain progress lines for one piece of work when the output is not a terminal."""
LEAST_PAUSE_S = 2.0
"""Shortest time between two such lines, the last one excepted."""
WORD = 24
"""Longest word, in columns of the screen, that a table makes room for; a path is broken sooner than the table."""


def screen() -> Console:
    """Return the console for results: as wide as COLUMNS says, as the terminal, or 80 columns."""
    return Console(file=sys.stdout, highlight=False, width=shutil.get_terminal_size().columns)


def side_screen() -> Console:
    """Return the console for progress and notices."""
    return Console(file=sys.stderr, highlight=False, width=shutil.get_terminal_size().columns)


def say(text: str) -> None:
    """Print a line for the person who waits; not part of the results."""
    side_screen().print(text, markup=False, soft_wrap=True)


def say_next(purpose: str, *words: str | Path) -> None:
    """Print the command that comes next, as it can be pasted.

    Args:
        purpose: what it is for, such as "to train on it".
        *words: what follows `wormwheel`.
    """
    say(f"{purpose}: {shlex.join(['wormwheel', *map(str, words)])}")


class Bar:
    """How far a piece of work has come."""

    def __init__(self, title: str, total: int, unit: str, bars: Progress | None):
        """Use `progress` to make one."""
        self.title, self.total, self.unit = title, max(total, 1), unit
        self.done = 0
        self.note = ""
        self._bars = bars
        self._task = bars.add_task(title, total=self.total, note="", unit=unit) if bars is not None else None
        self._started_s = self._said_s = time.monotonic()
        self._next = 1

    def advance(self, count: int = 1) -> None:
        """Count some more as done."""
        self.update(self.done + count)

    def update(self, done: int, note: str | None = None, total: int | None = None) -> None:
        """Say how much is done in all.

        Args:
            done: so far.
            note: a few words shown behind the bar; as before when None.
            total: the new total; as before when None.
        """
        self.done = done
        self.note = self.note if note is None else note
        self.total = self.total if total is None else max(total, 1)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=self.total, note=self.note)
        elif done >= self._next * self.total / MILESTONES:
            now_s = time.monotonic()
            if now_s - self._said_s >= LEAST_PAUSE_S and done < self.total:
                left_s = (now_s - self._started_s) * (self.total - done) / done
                say(self._line(f"{done / self.total:4.0%}", f"about {duration(left_s)} left"))
                self._said_s = now_s
            self._next = int(MILESTONES * done / self.total) + 1

    def finish(self) -> None:
        """Say that all is done; early or not."""
        if self._bars is None:
            say(self._line("done", f"in {duration(time.monotonic() - self._started_s)}"))

    def _line(self, share: str, when: str) -> str:
        note = f", {self.note}" if self.note else ""
        return f"{self.title}: {share}, {self.done:,} of {self.total:,} {self.unit}, {when}{note}"


@contextmanager
def progress(title: str, total: int, unit: str = "frames") -> Iterator[Bar]:
    """Show how far a piece of work has come, and how long it still takes.

    Args:
        title: what is being done, such as "recording".
        total: how much there is to do.
        unit: of what.

    Yields:
        The bar, to be updated with what is done.
    """
    if not sys.stderr.isatty():
        bar = Bar(title, total, unit, None)
        yield bar
        bar.finish()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=side_screen(), refresh_per_second=4, speed_estimate_period=60) as bars:
        yield Bar(title, total, unit, bars)


def duration(seconds: float) -> str:
    """Write a time as `8 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a table of results; one that the screen is too narrow for becomes a block of lines for each row.

    Args:
        title: above it; may be empty.
        columns: headings.
        rows: cells.
        left: columns from the left that hold text; the others are right-aligned figures.
    """
    shown = screen()
    if title:
        shown.print(Text(title, style="bold"), soft_wrap=True)
    room = shown.width - 3 * len(columns) - 1  # without lines and padding
    least = [_narrowest(name, [row[number] for row in rows], number < left) for number, name in enumerate(columns)]
    if sum(least) > room:
        _print_blocks(shown, columns, rows)
        return
    most = [max(map(cell_len, (name, *(row[number] for row in rows)))) for number, name in enumerate(columns)]
    grid = Table(show_header=any(columns), header_style="bold")
    for number, (column, width) in enumerate(zip(columns, _shared(room, least, most), strict=True)):
        grid.add_column(column, justify="left" if number < left else "right", overflow="fold", width=width)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))  # Text: what looks like rich's markup stays as it is
    shown.print(grid)


def _narrowest(heading: str, cells: Sequence[str], is_text: bool) -> int:
    """Return the width of a column in which no word and no figure is broken, as far as that is at most `WORD` wide."""
    pieces = [word for cell in (heading, *(cells if is_text else ())) for word in cell.split()]
    return max((min(cell_len(piece), WORD) for piece in (*pieces, *(() if is_text else cells))), default=0)


def _shared(room: int, least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Share the room among columns, evenly beyond what each needs at least; rich gives them more than there is."""
    widths = list(least)
    while sum(widths) < room and any(width < wanted for width, wanted in zip(widths, most, strict=True)):
        for number, wanted in enumerate(most):
            widths[number] += widths[number] < wanted and sum(widths) < room
    return widths


def _print_blocks(shown: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of heading and cell."""
    wide = max(map(cell_len, columns))
    for row in rows:
        for name, cell in zip(columns, row, strict=True):
            grid = Table.grid(padding=(0, 2))
            grid.add_column(width=min(wide, shown.width // 3), style="bold", overflow="fold")
            grid.add_column(overflow="fold")
            grid.add_row(Text(name), Text(cell))
            shown.print(grid)
        shown.print()


def show(estimate: Estimate, digits: int) -> str:
    """Write a figure with its interval; a dash when there is none."""
    return estimate.text(digits) if math.isfinite(estimate.value) else "–"


def new_directory(wanted: Path | None, default: str) -> Path:
    """Choose the directory that a verb writes to.

    Args:
        wanted: what the user asked for.
        default: path to use when nothing was asked for; a number is added when it is taken.
    """
    if wanted is not None:
        return wanted
    path, number = Path(default), 1
    while path.exists():
        number += 1
        path = Path(f"{default}-{number}")
    return path


def expand_tracks(track: str | Sequence[str]) -> str | tuple[str, ...]:
    """Replace each directory among road files by the CSV files in it, sorted by name.

    Args:
        track: "random", or one or more CSV files and directories.

    Raises:
        ValueError: if a directory holds no CSV file.
    """
    if track == "random":
        return "random"
    files: list[str] = []
    for entry in [track] if isinstance(track, str) else track:
        if Path(entry).is_dir():
            found = sorted(str(path) for path in Path(entry).glob("*.csv"))
            if not found:
                raise ValueError(f"{entry} holds no .csv file; give a directory of centre lines, or the files.")
            files += found
        else:
            files.append(entry)
    return tuple(files)


def with_tracks(world: LaneKeepingConfig) -> LaneKeepingConfig:
    """Return the world with its road files named, after a look into each file.

    Raises:
        FileNotFoundError: if a road file is not there.
        ValueError: if one cannot be driven, or a road is to be kept over resets: each episode of a verb has a seed.
    """
    from envs.road.files import load_track

    if world.resets_per_road != 1:
        raise ValueError("--resets-per-road: every episode here has a seed, and so a road, of its own; leave it out.")
    named = replace(world, track=expand_tracks(world.track))
    for file in () if named.track == "random" else named.track:
        load_track(file, named.track_scale, named.track_lane_width_m, named.track_min_radius_m, named.track_reverse)
    return named


FULL = "/dev/full"
"""A device of Linux without any space, which is known before any work."""


def check_json(path: Path | None) -> None:
    """Check before a long run that its results can be written at the end.

    Raises:
        OSError: if they could not.
        ValueError: if a file of somebody else's is there.
    """
    if path is not None and path.is_dir():
        raise IsADirectoryError(21, "is a directory and a file was to be written; give --json a file name", str(path))
    if path is not None and os.path.realpath(path) == FULL:
        with clear_errors(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if path is not None and (path.is_file() or not path.exists()):
        check_ours(path)
        check_place(path.parent)
        with clear_errors(path):
            if path.exists():
                path.open("ab").close()


def check_place(directory: Path) -> None:
    """Check that files can be made in a directory, which may not be there yet; nothing is left behind.

    Raises:
        OSError: if they cannot.
    """
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        make_directory(directory)
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()


def write_results(path: Path | None, verb: str, options: Any, figures: Any) -> None:
    """Write what was measured, and everything needed to measure it again, to a JSON file in one piece.

    Args:
        path: the file; nothing is written when None.
        verb: what was run.
        options: dataclass of the resolved options.
        figures: JSON values; a number that is not finite becomes null.

    Raises:
        OSError: if it cannot be written; what was there is kept.
    """
    if path is None:
        return
    content = {
        "verb": verb,
        "command": command(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "options": plain(options),
        "versions": versions(),
        "figures": plain(figures),
    }
    write_json(path, content)
    say(f"results: {path}")


def plain(value: Any) -> Any:
    """Turn anything into JSON values that every reader takes: `to_json`, with null for what is not finite."""
    value = value.to_json() if hasattr(value, "to_json") else to_json(value)
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "item"):
        return plain(value.item())
    return value
