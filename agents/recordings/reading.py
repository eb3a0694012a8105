"""What the readers of picture recordings share: the clock, the checks of the pictures, the cuts between episodes.

Frames kept as picture files, one a frame, as Donkeycar tubs and Udacity logs keep them.

`picture_size` reads a header and checks that the file is complete, without decoding: cheap enough for every file at
load. `PictureFiles` decodes when frames are asked for. A picture that passes the first and fails the second is stood in
for by its nearest good neighbour and marked, and the log says so once.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeMeta

_LOG = logging.getLogger(__name__)
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset(range(0xD0, 0xDA)) | {0x01}


class BadPicture(ValueError):
    """A file that is not a complete picture; the message is the reason, as counted in `EpisodeSet.skipped`."""


def picture_size(path: Path) -> tuple[int, int]:
    """Return H and W in pixels of a JPEG or PNG file after checking that it has an end.

    Raises:
        BadPicture: if the file is missing, empty, of another kind, or truncated.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadPicture("picture file missing") from None
    except OSError:
        raise BadPicture("picture file unreadable") from None
    if not content:
        raise BadPicture("picture file of zero bytes")
    if content[:2] == b"\xff\xd8":
        if b"\xff\xd9" not in content[-1024:]:
            raise BadPicture("picture file truncated")
        return _jpeg_size(content)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        if len(content) < 33 or b"IEND" not in content[-1024:]:
            raise BadPicture("picture file truncated")
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    raise BadPicture("file neither JPEG nor PNG")


class PictureFiles:
    """A `FrameSource` over picture files of one size.

    Args:
        paths: One file a frame, in order.
        height: H of every picture, pixels.
        width: W of every picture, pixels.
    """

    def __init__(self, paths: Sequence[Path], height: int, width: int) -> None:
        self.paths = tuple(paths)
        self.height = height
        self.width = width
        self._reported = False

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Decode a run of pictures.

        Returns:
            uint8 `[n, H, W, 3]` RGB and bool `[n]`, False where a neighbour stands in.

        Raises:
            ValueError: if no picture of the run can be decoded.
        """
        frames = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        good = np.zeros(stop - start, bool)
        for row in range(stop - start):
            good[row] = self._decode(start + row, frames[row])
        if not good.all():
            self._stand_in(frames, good, start)
        return frames, good

    def _decode(self, index: int, out: NDArray[np.uint8]) -> bool:
        """Decode one picture into uint8 `[H, W, 3]`; False when it cannot be done."""
        picture = cv2.imread(str(self.paths[index]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is None or picture.shape != out.shape:
            return False
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=out)
        return True

    def _stand_in(self, frames: NDArray[np.uint8], good: NDArray[np.bool_], start: int) -> None:
        """Fill each undecodable frame with its nearest good neighbour."""
        first_bad = self.paths[start + int(np.argmin(good))]
        if not self._reported:
            _LOG.warning("%s cannot be decoded; the frame next to it stands in (said once a recording)", first_bad)
            self._reported = True
        if not good.any():
            others = sorted(range(len(self.paths)), key=lambda index: abs(index - start))
            if not any(self._decode(index, frames[0]) for index in others):
                raise ValueError(
                    f"{first_bad} and the other pictures beside it cannot be decoded; record or copy again."
                )
            frames[1:] = frames[0]
            return
        known = np.flatnonzero(good)
        for row in np.flatnonzero(~good):
            frames[row] = frames[known[np.argmin(np.abs(known - row))]]


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Walk the segments of a JPEG to its frame header (SOF)."""
    at = 2
    while at + 9 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        elif marker in _SIZE_MARKERS:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            if height == 0 or width == 0:
                break
            return height, width
        else:
            at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    raise BadPicture("picture header damaged")


PLAUSIBLE_PERIOD_S = (0.01, 1.0)
"""Median spacings of time stamps outside this range are not those of a driving camera."""
MOST_FAULTS = 0.1
"""Share of time stamps that may be missing or fail to rise before the clock as a whole is given up."""
STEERING_SLACK = 0.05
"""How far a label may overshoot [-1, 1] and be clipped; beyond, the record is left out."""


@dataclass(frozen=True)
class ReadOptions:
    """How recordings are read."""

    nominal_period_s: float | None = None
    """Time between frames when all is on time, seconds; also the spacing of frames whose clock is unusable. None takes
    the median of the time stamps, or the usual rate of the format when they are unusable."""
    max_gap_s: float = 1.0
    """A longer gap between frames begins a new episode, seconds."""
    side_cameras: bool = False
    """Udacity: add the left and right cameras as episodes of their own."""
    side_camera_correction: float = 0.2
    """Udacity: steering added to a side camera's label so that it leads back to the middle, in [0, 1]."""
    full_lock_deg: float = 450.0
    """comma2k19: angle of the steering wheel that counts as full lock, degrees. The cars' true locks lie near 380° and
    500°; a smaller angle spreads the small angles of a motorway and leaves out what is beyond it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        period = self.nominal_period_s
        if period is not None and not (np.isfinite(period) and period > 0):
            raise ValueError(f"nominal_period_s must be a positive number of seconds, got {period}.")
        if not self.max_gap_s > 0:
            raise ValueError(f"max_gap_s must be positive, got {self.max_gap_s}.")
        if not self.full_lock_deg > 0:
            raise ValueError(f"full_lock_deg must be positive, got {self.full_lock_deg}.")
        if not 0 <= self.side_camera_correction <= 1:
            raise ValueError(f"side_camera_correction must lie within [0, 1], got {self.side_camera_correction}.")


@dataclass(frozen=True)
class Clock:
    """The time line of a recording."""

    time_s: NDArray[np.float64]
    """`[T]` seconds as stamped; may fall back or stand still where `segment` changes."""
    segment: NDArray[np.int64]
    """`[T]` rises by one wherever one record does not follow from the record before."""
    line_s: NDArray[np.float64]
    """`[T]` seconds on a line without gaps or steps back, on which time blocks are cut."""
    period_s: float
    """Nominal period, seconds."""
    notice: str | None = None
    """What to tell a person, when the stamps were not used."""


@dataclass
class Records:
    """Labelled pictures of one camera before they are checked."""

    pictures: list[Path] = field(default_factory=list)
    """`[T]` files."""
    steering: list[float] = field(default_factory=list)
    """`[T]` positive left."""
    extras: dict[str, list[float]] = field(default_factory=dict)
    """More columns `[T]`."""


def since_first_s(stamps_ms: Sequence[float]) -> NDArray[np.float64]:
    """Turn time stamps in milliseconds since 1970 or so into seconds since the first known one.

    In seconds, such stamps have only some 2e-7 s of float64's precision left; in milliseconds they are whole.

    Args:
        stamps_ms: `[T]`; NaN where there is none.

    Returns:
        `[T]` seconds; NaN where there is none.
    """
    stamps = np.asarray(stamps_ms, np.float64)
    known = stamps[np.isfinite(stamps)]
    return (stamps - known[0]) / 1000 if len(known) else stamps


def read_clock(
    stamps_s: NDArray[np.float64],
    index: NDArray[np.int64],
    breaks: NDArray[np.bool_],
    usual_period_s: float,
    options: ReadOptions,
) -> Clock:
    """Judge the time stamps of a recording and lay its time line.

    Args:
        stamps_s: `[T]` time stamps, seconds; NaN where there is none.
        index: `[T]` running numbers of the records, for the spacing when the stamps are unusable.
        breaks: `[T]` True where a record is known not to follow from the one before.
        usual_period_s: Nominal period of the format, seconds.
        options: Nominal period and longest gap.

    Returns:
        The clock. A few missing stamps are filled in from their neighbours. Stamps are unusable when too many are
        missing or do not rise, or their median spacing is not one of a camera; frames are then laid out at the nominal
        period, by their running numbers.
    """
    known = np.isfinite(stamps_s)
    if known.mean() >= 1 - MOST_FAULTS:
        stamps_s = np.interp(np.arange(len(stamps_s)), np.flatnonzero(known), stamps_s[known])
    steps = np.diff(stamps_s)[~breaks[1:]]
    notice = None
    median_s = round(float(np.median(steps)), 9) if len(steps) else usual_period_s
    low_s, high_s = PLAUSIBLE_PERIOD_S
    if len(steps) and not (low_s <= median_s <= high_s and (steps <= 0).mean() <= MOST_FAULTS):
        period_s = options.nominal_period_s or usual_period_s
        found = f"{1000 * median_s:.3g} ms apart in the median" if np.isfinite(median_s) else "missing"
        notice = (
            f"time stamps cannot be used ({found}): frames are taken to be {1000 * period_s:.4g} ms apart; "
            "give the nominal period if this is wrong"
        )
        time_s = index.astype(np.float64) * period_s
    else:
        period_s = options.nominal_period_s or median_s
        time_s = stamps_s
    step_s = np.diff(time_s)
    cuts = breaks[1:] | (step_s <= 0) | (step_s > options.max_gap_s)
    segment = np.concatenate([[0], np.cumsum(cuts)])
    line_s = np.concatenate([[0.0], np.cumsum(np.where(cuts, period_s, step_s))])
    return Clock(time_s, segment, line_s, period_s, notice)


def usable_steering(value: Any, skipped: Counter[str]) -> float | None:
    """Return a label as a float in [-1, 1], or None after counting why it cannot be one."""
    try:
        steering = float(value)
    except (TypeError, ValueError, OverflowError):
        skipped["steering not a number"] += 1
        return None
    if not np.isfinite(steering):
        skipped["steering not a number"] += 1
        return None
    if abs(steering) > 1.0 + STEERING_SLACK:
        skipped["steering outside [-1, 1]"] += 1
        return None
    return min(max(steering, -1.0), 1.0)


def picture_episodes(
    records: Records,
    clock: Clock,
    meta: Mapping[str, Any],
    options: ReadOptions,
    skipped: Counter[str],
) -> list[Episode]:
    """Check the pictures and cut the records into episodes.

    Args:
        records: `[T]` labelled pictures.
        clock: Their time line.
        meta: Fields of `EpisodeMeta` besides size, period and start.
        options: Longest gap.
        skipped: Counts of records left out; bad pictures are added.

    Returns:
        Episodes in order; none when no picture is good.

    Raises:
        ValueError: if two pictures differ in size.
    """
    keep, size = _check_pictures(records.pictures, skipped)
    if size is None:
        return []
    step_s = np.diff(clock.time_s[keep])
    cuts = (np.diff(clock.segment[keep]) > 0) | (step_s > options.max_gap_s)
    episodes = []
    for rows in np.split(keep, np.flatnonzero(cuts) + 1):
        time_s = clock.time_s[rows]
        about = EpisodeMeta(
            nominal_period_s=clock.period_s, height=size[0], width=size[1], start_s=float(clock.line_s[rows[0]]), **meta
        )
        episodes.append(
            Episode(
                np.asarray(records.steering, np.float32)[rows],
                time_s - time_s[0],
                about,
                PictureFiles([records.pictures[row] for row in rows], *size),
                extras={name: np.asarray(values, np.float32)[rows] for name, values in records.extras.items()},
            )
        )
    return episodes


def _check_pictures(
    pictures: Sequence[Path], skipped: Counter[str]
) -> tuple[NDArray[np.int64], tuple[int, int] | None]:
    """Return the rows whose pictures are good, and their one size."""
    keep: list[int] = []
    size: tuple[int, int] | None = None
    for row, path in enumerate(pictures):
        try:
            found = picture_size(path)
        except BadPicture as error:
            skipped[str(error)] += 1
            continue
        if size is not None and found != size:
            raise ValueError(
                f"pictures of one size were expected, got {size[1]}×{size[0]} in {pictures[keep[0]]} and "
                f"{found[1]}×{found[0]} in {path}; keep them in two data sets."
            )
        size = found
        keep.append(row)
    return np.asarray(keep, np.int64), size
