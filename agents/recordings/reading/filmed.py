"""Tables beside a video: which row belongs to which frame, and whose clock counts.

By the frame's number, row by row, or by time stamps on the video's clock, between which steering is interpolated. A
video that was written at another rate than its camera's plays its frames too fast or too slowly: rows that are one a
frame then belong to them in turn, and theirs is the clock.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeSet
from agents.recordings.native import PickedFrames
from agents.recordings.options import ReadOptions
from agents.recordings.reading.assemble import cut_rows, make_episode
from agents.recordings.reading.clock import read_clock
from agents.recordings.reading.columns import Columns, extras_of, floats, plain_name, stamps_of
from agents.recordings.reading.tables import Table
from agents.recordings.reading.video import VideoFile

USUAL_PERIOD_S = 0.05
"""Where neither the table nor the video tells the time."""
LONGEST_SILENCE_S = 0.5
"""A frame of a video further than this from the next row has no label, seconds."""
MOST_DRIFT = 0.05
"""A video that plays its frames in a time that differs from their rows' by more than this share was written at a rate
that is not the camera's, as programs do that fix the rate before they know it."""
_FAR_S = 1e6
_COUNTERS = ("frame", "frame id", "frame index", "frame number", "frame no", "video frame")


def with_video(
    path: Path,
    table: Table,
    columns: Columns,
    steering: NDArray[np.float64],
    video_path: Path,
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
) -> EpisodeSet:
    """Give every frame of a video its label: by frame number, or interpolated on the time line.

    Args:
        path: Of the recording, for messages.
        table: The rows.
        columns: Their columns.
        steering: `[n]` labels of the rows, shares of full lock, positive left; NaN where there is none.
        video_path: The video.
        options: Rate, offset, columns.
        skipped: Rows and frames left out are counted here.
        notices: What was decided is said here.

    Raises:
        ValueError: if the clocks do not meet, or nothing tells which row belongs to which frame.
    """
    video = VideoFile(video_path)
    try:
        frame_s = video.stamps_s()
    except ValueError:
        if options.period_s is None:
            raise
        frame_s = np.zeros(0)
    if options.nominal_rate is not None or len(frame_s) == 0:
        count = len(frame_s) or _count(video)
        laid_s = options.period_s or USUAL_PERIOD_S if options.nominal_rate is None else 1 / options.nominal_rate
        frame_s = np.arange(count, dtype=np.float64) * laid_s
    usable = np.flatnonzero(np.isfinite(steering))
    lasts_s = float(frame_s[-1]) if len(frame_s) else 0.0
    numbers = _counted(table, columns, frame_s, video_path, options, notices)
    line_s = frame_s
    if numbers is not None:
        own_s = _times_of_rows(table, columns, numbers, frame_s, options, notices)
        numbers = numbers[usable]
        within = (numbers >= 0) & (numbers < len(frame_s))
        skipped["row of a frame that the video does not have"] += int((~within).sum())
        usable, numbers = usable[within], numbers[within]
        numbers, first = np.unique(numbers, return_index=True)
        skipped["repeat of an earlier record"] += len(usable) - len(first)
        rows, source = usable[first], numbers.astype(np.int64)
        values, extras = steering[rows], extras_of(table, columns, rows)
        if own_s is not None:
            line_s = np.zeros(len(frame_s))
            line_s[source] = own_s[rows]
        if options.offset_s:
            raise ValueError(f"{path}: --offset-s needs time stamps, and the table counts frames; leave it out.")
    else:
        stamps_s = _video_stamps(table, columns, lasts_s, notices)[usable] - options.offset_s
        known = stamps_s[np.isfinite(stamps_s)]
        if len(known) and (known.min() > lasts_s + LONGEST_SILENCE_S or known.max() < -LONGEST_SILENCE_S):
            raise ValueError(
                f"{path}: the table's clock runs from {known.min():.6g} to {known.max():.6g} s, the video from 0 to "
                f"{lasts_s:.6g} s, and they do not meet: give --offset-s {known.min() + options.offset_s:.10g} if the "
                "table's first row belongs to the video's first frame."
            )
        source, values, extras = _at_frames(table, columns, steering, usable, stamps_s, frame_s, skipped)
    skipped += Counter()  # reasons counted as zero go
    clean = {reason: times for reason, times in skipped.items() if times}
    if len(source) == 0:
        return EpisodeSet((), clean, tuple(notices))
    clock = read_clock(line_s[source], source, np.zeros(len(source), bool), USUAL_PERIOD_S, options)
    if clock.notice:
        notices.append(clock.notice)
    meta = {"source": str(path), "renderer": "camera", "extra": {"format": "table", "video": video_path.name}}
    size = (video.height, video.width)
    episodes = [
        make_episode(values, extras, clock, rows, size, PickedFrames(video, source[rows]), meta)
        for rows in cut_rows(np.arange(len(source)), clock)
    ]
    return EpisodeSet(tuple(episodes), clean, tuple(notices))


def _at_frames(
    table: Table,
    columns: Columns,
    steering: NDArray[np.float64],
    usable: NDArray[np.int64],
    stamps_s: NDArray[np.float64],
    frame_s: NDArray[np.float64],
    skipped: Counter[str],
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, NDArray[Any]]]:
    """Interpolate the table's rows to the frames; return frames with a label, labels, and more columns."""
    known = np.isfinite(stamps_s)
    skipped["row without a time stamp"] += int((~known).sum())
    usable, stamps_s = usable[known], stamps_s[known]
    stamps_s, first = np.unique(stamps_s, return_index=True)
    skipped["row with the time stamp of another"] += len(usable) - len(first)
    usable = usable[first]
    if len(usable) == 0:
        return np.zeros(0, np.int64), np.zeros(0), {}
    after = np.clip(np.searchsorted(stamps_s, frame_s), 0, len(stamps_s) - 1)
    before = np.maximum(after - 1, 0)
    silence_s = np.minimum(np.abs(stamps_s[after] - frame_s), np.abs(stamps_s[before] - frame_s))
    source = np.flatnonzero(silence_s <= LONGEST_SILENCE_S + 1e-6)
    skipped["frame without a row near it"] += len(frame_s) - len(source)
    at = frame_s[source]
    extras = {
        name: np.interp(at, stamps_s, values).astype(np.float32)
        for name, values in extras_of(table, columns, usable).items()
    }
    return source, np.interp(at, stamps_s, steering[usable]), extras


def _video_stamps(table: Table, columns: Columns, lasts_s: float, notices: list[str]) -> NDArray[np.float64]:
    """Return the rows' time stamps on the video's clock; those of a calendar are counted from the earliest."""
    stamps = stamps_of(table, columns, notices, lasts_s)
    if abs(stamps.first_s) > _FAR_S or (stamps.written and stamps.first_s > lasts_s):
        notices.append("the table's clock is that of a calendar: its first row is taken to be the video's first frame")
        return stamps.since_first_s
    return stamps.since_first_s + stamps.first_s


def _counted(
    table: Table,
    columns: Columns,
    frame_s: NDArray[np.float64],
    video: Path,
    options: ReadOptions,
    notices: list[str],
) -> NDArray[np.float64] | None:
    """Return the frame that each row belongs to, by its column or row by row; None where time stamps tell it.

    A column that counts frames comes before time stamps whose zero or whose rate is not the video's; so do rows, one a
    frame, before time stamps at another rate.

    Raises:
        ValueError: if rows can be no frames.
    """
    frames, lasts_s = len(frame_s), float(frame_s[-1]) if len(frame_s) else 0.0
    one_a_frame = abs(len(table.rows) - frames) <= 1
    clock = stamps_of(table, columns, [], lasts_s)
    if "frame" not in columns:
        in_turn = np.arange(len(table.rows), dtype=np.float64)
        if "time" in columns:
            drifts = one_a_frame and _drift(clock.since_first_s, in_turn, frame_s) > MOST_DRIFT
            return in_turn if drifts and not options.offset_s else None
        if one_a_frame:
            return in_turn
        raise ValueError(_not_told(video, frames, len(table.rows)))
    name = columns.names[columns.places["frame"]]
    counter = is_frame_counter(name) or options.frame_column is not None
    numbers = floats(table.column(columns.places["frame"]))
    known = numbers[np.isfinite(numbers)]
    beyond = int((known > frames).sum() + (known < 0).sum())
    if "time" in columns:
        whole = len(known) > 0 and bool((known == np.floor(known)).all())
        all_shown = len(np.unique(known)) > 0.9 * frames and not options.offset_s
        drifts = all_shown and _drift(clock.since_first_s, numbers, frame_s) > MOST_DRIFT
        other = clock.first_s > lasts_s or drifts
        if not (counter and whole and not beyond and other) or options.time_column is not None:
            return None
    elif not counter and beyond > max(2, 0.01 * len(known)):
        raise ValueError(_not_told(video, frames, len(table.rows)))
    if len(known) and known.min() == 1 and known.max() == frames:
        notices.append(f"frames are counted from 1 in the column {name!r}")
        numbers = numbers - 1
    elif len(known) and known.min() == 1 and "time" not in columns:
        notices.append(f"frames are taken to be counted from 0 in the column {name!r}; there is no row of frame 0")
    return numbers


def _drift(since_s: NDArray[np.float64], numbers: NDArray[np.float64], frame_s: NDArray[np.float64]) -> float:
    """Return by what share the time between rows differs from that between the frames that they belong to."""
    within = np.isfinite(since_s) & np.isfinite(numbers) & (numbers >= 0) & (numbers < len(frame_s))
    if within.sum() < 2:
        return 0.0
    rows_s, shown_s = since_s[within], frame_s[numbers[within].astype(np.int64)]
    first, last = int(shown_s.argmin()), int(shown_s.argmax())
    shown, said = float(shown_s[last] - shown_s[first]), float(rows_s[last] - rows_s[first])
    return abs(said / shown - 1) if min(shown, said) > 0 else 0.0


def _times_of_rows(
    table: Table,
    columns: Columns,
    numbers: NDArray[np.float64],
    frame_s: NDArray[np.float64],
    options: ReadOptions,
    notices: list[str],
) -> NDArray[np.float64] | None:
    """Return the rows' own times `[n]` where the video was written at another rate; None where its clock counts."""
    if "time" not in columns or options.nominal_rate is not None or len(frame_s) < 2:
        return None
    since_s = stamps_of(table, columns, notices, float(frame_s[-1])).since_first_s
    if _drift(since_s, numbers, frame_s) <= MOST_DRIFT:
        return None
    known_s = since_s[np.isfinite(since_s)]
    notices.append(
        f"the video plays its {len(frame_s):,} frames in {frame_s[-1] - frame_s[0]:.1f} s, and their rows take "
        f"{known_s.max() - known_s.min():.1f} s: it was written at another rate, and the rows' clock counts"
    )
    return since_s


def is_frame_counter(name: str) -> bool:
    """Say whether a column counts the frames of a video, rather than the rows of a table."""
    return plain_name(name) in _COUNTERS


def _not_told(video: Path, frames: int, rows: int) -> str:
    return (
        f"{video} has {frames:,} frames and the table {rows:,} rows: say by --time-column or --frame-column "
        "which row belongs to which frame."
    )


def _count(video: VideoFile) -> int:
    """Count the frames of a video that keeps no times, by decoding it."""
    low, step = 0, 256
    while True:
        _, good = video.read(low, low + step)
        if not good.all():
            return low + int(good.sum())
        low += step
