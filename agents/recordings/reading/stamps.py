"""Time stamps as tables have them: numbers in any unit, moments of a calendar, times of day, a spreadsheet's days.

    stamps = read_stamps(["2023-11-14T22:13:20.05Z", ...], "", None, notices)
    stamps.since_first_s, stamps.first_s

A number's unit comes from the column's name; where it gives none, from what cannot be chance: a number that is a moment
of our days in one unit alone, the length of the video that it belongs to, or frames as far apart as those of a camera.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.files import number

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds in a unit of time stamps."""
DAY_S = 86_400
"""Seconds in a day, the unit of a spreadsheet's moments."""

_OUR_DAYS_S = (9.4e8, 4.2e9)  # the years 2000 to 2103, seconds since 1970
_SHEET_DAYS = (36_500, 74_500)  # the same years, days since 1900
_STEP_S = (1e-4, 60.0)  # spacings of rows that a log may have
_CAMERA_STEP_S = (0.004, 4.0)

_ZONE = r"\s*(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
_COMPACT = re.compile(
    r"(?P<a>(?:19|20)\d\d)[-_/.]?(?P<b>\d\d)[-_/.]?(?P<c>\d\d)[T _-]?(?P<h>\d\d)[:_.-]?(?P<m>\d\d)[:_.-]?(?P<s>\d\d)"
    r"(?:(?P<mark>[.,:_]?|-(?=\d{3}(?!\d)|\d{5,9}(?!\d)))(?P<part>\d{1,9}))?(?P<half>)" + _ZONE,
    re.IGNORECASE,
)
_WRITTEN = re.compile(
    r"(?:0 days,? +)?(?:(?P<a>\d{1,4})[-/.](?P<b>\d{1,2})[-/.](?P<c>\d{1,4})[T _,]+)?"
    r"(?P<h>\d{1,3}):(?P<m>\d\d)(?::(?P<s>\d\d))?"
    r"(?:(?P<mark>[.,:])(?P<part>\d{1,9}))?\s*(?P<half>[AP]M)?" + _ZONE,
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Stamps:
    """The clock of a table."""

    since_first_s: NDArray[np.float64]
    """`[n]` seconds since the earliest stamp; NaN where a row has none."""
    first_s: float = 0.0
    """The earliest stamp on the table's own clock, seconds."""
    written: bool = False
    """Whether they are moments or times of day, not numbers."""


def is_moment(cell: str) -> bool:
    """Say whether a cell is a moment or a time of day in words of a clock, such as `22:13:20.05`."""
    return _match(cell) is not None


def epoch_unit(value: float) -> str | None:
    """Return the unit in which a number is a moment of our days, counted from 1970; None where it is none in any."""
    return next((unit for unit, scale in SECONDS.items() if _OUR_DAYS_S[0] <= value * scale <= _OUR_DAYS_S[1]), None)


def read_stamps(
    cells: Sequence[str],
    unit: str,
    fractions: Sequence[str] | None,
    notices: list[str],
    lasts_s: float | None = None,
) -> Stamps:
    """Read a column of time stamps.

    Args:
        cells: `[n]` as they stand.
        unit: Of numbers, as the column's name gives it; "" when it gives none.
        fractions: `[n]` nanoseconds that a column beside it adds to whole seconds; None where there is no such column.
        notices: What was decided is said here.
        lasts_s: Time that the rows should cover, where a video tells it, seconds.
    """
    written = [_match(cell) for cell in cells]
    if cells and sum(match is not None for match in written) > 0.5 * len(cells):
        return _calendar(written, notices)
    raw = np.asarray([number(cell) for cell in cells], np.float64)
    known = raw[np.isfinite(raw)]
    if len(known) == 0:
        return Stamps(raw)
    first = float(known.min())
    if fractions is not None:
        whole = np.asarray([number(cell) for cell in fractions], np.float64)
        since = (raw - first) + whole * 1e-9
        begin = float(np.nanmin(since)) if np.isfinite(since).any() else 0.0
        return Stamps(since - begin, first + begin)
    if unit not in SECONDS:
        unit = _unit(known, lasts_s)
        if unit != "s":
            notices.append(f"time stamps are taken to be in {'days' if unit == 'd' else unit}")
    scale = SECONDS.get(unit, DAY_S)
    return Stamps((raw - first) * scale, first * scale)


def _unit(known: NDArray[np.float64], lasts_s: float | None) -> str:
    """Return the unit of numbers whose column does not name it."""
    steps = np.abs(np.diff(np.sort(known)))
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    middle = float(np.median(known))
    for unit, scale in SECONDS.items():
        if _OUR_DAYS_S[0] <= middle * scale <= _OUR_DAYS_S[1] and (
            step == 0 or _STEP_S[0] <= step * scale <= _STEP_S[1]
        ):
            return unit
    if _SHEET_DAYS[0] <= middle <= _SHEET_DAYS[1] and _CAMERA_STEP_S[0] <= step * DAY_S <= _CAMERA_STEP_S[1]:
        return "d"
    spread = float(known.max() - known.min())
    if lasts_s and spread > 0:
        fitting = [u for u, scale in SECONDS.items() if _STEP_S[0] <= step * scale <= _STEP_S[1]]
        if fitting:
            return min(fitting, key=lambda u: abs(np.log(spread * SECONDS[u] / lasts_s)))
    low, high = _CAMERA_STEP_S
    return next((u for u, scale in SECONDS.items() if low <= (step or 0.05) * scale < high), "s")


def _match(cell: str) -> re.Match[str] | None:
    """Return the parts of a moment that is written with a date or a time of day."""
    found = _COMPACT.fullmatch(cell) or (_WRITTEN.fullmatch(cell) if ":" in cell else None)
    if found is None or found["a"] is None:
        return found
    # A number of seconds, such as 2000000000123456789, is no date, nor is one that has no such month.
    month, day, hour, minute, second = (int(found[part] or 0) for part in "bchms")
    possible = 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60
    return found if found.re is _WRITTEN or possible else None


def _calendar(written: Sequence[re.Match[str] | None], notices: list[str]) -> Stamps:
    """Turn moments of a calendar, or times of day, into seconds."""
    found = [match for match in written if match is not None]
    after_colon = [match["part"] for match in found if match["mark"] == ":"]
    frames_a_second = None
    if after_colon and all(len(part) == 2 for part in after_colon):
        frames = np.unique([int(part) for part in after_colon])
        # As many as a second shows, in their smallest step: every third of 30 may be kept.
        frames_a_second = len(frames) * int(np.gcd.reduce(np.diff(frames))) if len(frames) > 1 else None
    dated = any(match["a"] is not None for match in found)
    if not dated:
        moments = [None if match is None else _time_ns(match, frames_a_second) for match in written]
        return _since(_unwrapped(moments))
    orders = [_days(written, day_first) for day_first in (True, False)]
    spans = [max(days) - min(days) if (days := [d for d in order if d is not None]) else 1 << 40 for order in orders]
    chosen = orders[0] if spans[0] <= spans[1] else orders[1]
    if any(match["a"] is not None and len(match["a"]) < 3 and match.string[len(match["a"])] != "." for match in found):
        if spans[0] != spans[1]:
            notices.append(f"dates are read {'day' if spans[0] < spans[1] else 'month'} first")
    return _since(
        [
            None if match is None or day is None else day * DAY_S * 10**9 + _time_ns(match, frames_a_second)
            for match, day in zip(written, chosen, strict=True)
        ]
    )


def _days(written: Sequence[re.Match[str] | None], day_first: bool) -> list[int | None]:
    """Return the day of each moment, counted from the year 1; None where there is no such day."""
    known: dict[tuple[str, ...], int | None] = {}
    days: list[int | None] = []
    for match in written:
        if match is None or match["a"] is None:
            days.append(None)
            continue
        parts = (match["a"], match["b"], match["c"], match.string[len(match["a"])])
        if parts not in known:
            first, second, third = map(int, parts[:3])
            if len(parts[0]) > 2:
                year, month, day = first, second, third
            else:
                year = third + 2000 if third < 100 else third
                day, month = (first, second) if day_first or parts[3] == "." else (second, first)
            try:
                known[parts] = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
            except ValueError:
                known[parts] = None
        days.append(known[parts])
    return days


def _time_ns(match: re.Match[str], frames_a_second: int | None) -> int:
    """Return the time of day of a moment at Greenwich, whole nanoseconds."""
    hours, minutes, part = int(match["h"]), int(match["m"]), match["part"] or ""
    if match["s"] is None and part:
        seconds = 60 * hours + minutes  # "02:05.30" are minutes and seconds
    else:
        if match["half"]:
            hours = hours % 12 + (12 if match["half"].lower() == "pm" else 0)
        seconds = 3600 * hours + 60 * minutes + int(match["s"] or 0)
    if match["mark"] == ":" and frames_a_second is not None:
        fraction = int(part) * 10**9 // frames_a_second
    elif match["mark"] == ":" and len(part) <= 3:
        fraction = int(part) * 10**6  # milliseconds, with or without leading zeros
    else:
        fraction = int(part.ljust(9, "0")) if part else 0
    zone = match["zone"] or ""
    if zone[:1] in "+-" and zone:
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = 3600 * int(digits[:2]) + 60 * int(digits[2:4])
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * 10**9 + fraction


def _unwrapped(moments: list[int | None]) -> list[int | None]:
    """Add a day after midnight, where times of day fall back once by more than half a day."""
    known = [row for row, moment in enumerate(moments) if moment is not None]
    half = DAY_S * 10**9 // 2
    falls = [b for a, b in zip(known, known[1:], strict=False) if (moments[b] or 0) - (moments[a] or 0) < -half]
    if len(falls) != 1:
        return moments
    return [m if m is None or row < falls[0] else m + 2 * half for row, m in enumerate(moments)]


def _since(moments_ns: Sequence[int | None]) -> Stamps:
    """Count whole nanoseconds from the earliest, so that nothing is lost by their size."""
    known = [moment for moment in moments_ns if moment is not None]
    if not known:
        return Stamps(np.full(len(moments_ns), np.nan))
    first = min(known)
    since = np.asarray([np.nan if moment is None else (moment - first) / 1e9 for moment in moments_ns], np.float64)
    return Stamps(since, first / 1e9, True)


def share_of_stamps(cells: Sequence[str]) -> float:
    """Return the share of cells that can be time stamps at all: numbers or moments."""
    if not cells:
        return 0.0
    kinds = Counter(np.isfinite(number(cell)) or _match(cell) is not None for cell in cells)
    return kinds[True] / len(cells)
