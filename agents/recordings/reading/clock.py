"""Time: which stamps can be used, where a recording is cut, and in which order its rows follow each other.

`arrange` is the one place where rows are ordered by their stamps and repeats are dropped and counted; `read_clock`
judges the stamps and lays the time line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.recordings.options import ReadOptions

PLAUSIBLE_PERIOD_S = (0.008, 1.0)
"""Median spacings of time stamps outside this range are not those of a driving camera."""
MOST_FAULTS = 0.1
"""Share of time stamps that may be missing or fail to rise before the clock as a whole is given up."""
LEAST_SHARED = 0.4
"""Share of rows with the time stamp of the row before from which on the clock was written too coarsely."""
FAR_SPANS = 10
"""A single time stamp so many times the length of a drive away from its middle is a slip."""
OWN_DRIVE = 20
"""Rows in order that make a drive of its own: two such runs at overlapping times come from a clock that was set back,
and are not sorted into one another."""


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
    longest_s: float = 1.0
    """A longer step between frames is a gap, seconds."""


def since_first_s(stamps_ms: Sequence[float]) -> NDArray[np.float64]:
    """Turn time stamps in milliseconds since 1970 or so into seconds since the earliest one.

    In seconds, such stamps have only some 2e-7 s of float64's precision left; in milliseconds they are whole.

    Args:
        stamps_ms: `[T]`; NaN where there is none.

    Returns:
        `[T]` seconds; NaN where there is none.
    """
    stamps = np.asarray(stamps_ms, np.float64)
    known = stamps[np.isfinite(stamps)]
    return (stamps - known.min()) / 1000 if len(known) else stamps


def arrange(
    identities: Sequence[Hashable],
    stamps_s: NDArray[np.float64],
    index: NDArray[np.int64],
    sessions: Sequence[Hashable] | None,
    usual_period_s: float,
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
) -> tuple[NDArray[np.int64], Clock]:
    """Drop repeats, put the rows in the order of their stamps, and lay the time line.

    Args:
        identities: `[T]` what makes a row the same as another: its picture.
        stamps_s: `[T]` seconds; NaN where there is none.
        index: `[T]` running numbers.
        sessions: `[T]` names of the sittings that rows belong to; None when that is not known.
        usual_period_s: Nominal period of the format, seconds.
        options: Nominal period, rate, longest gap.
        skipped: Repeats are counted here.
        notices: What was done to the order is said here.

    Returns:
        Which rows to keep, in order, `[n]`, and their clock.
    """
    seen: set[Hashable] = set()
    first: list[int] = []
    for row, identity in enumerate(identities):
        if identity not in seen:
            seen.add(identity)
            first.append(row)
    if repeats := len(identities) - len(first):
        skipped["repeat of an earlier record"] += repeats
    keep = np.asarray(first, np.int64)
    if sessions is not None:
        # Sittings keep the order in which they begin; rows stay with their own.
        ranks: dict[Hashable, int] = {}
        rank = np.asarray([ranks.setdefault(sessions[row], len(ranks)) for row in keep], np.int64)
        keep, rank = keep[np.argsort(rank, kind="stable")], np.sort(rank)
    else:
        rank = np.zeros(len(keep), np.int64)
    parts = np.split(keep, np.flatnonzero(np.diff(rank)) + 1)
    stamps_s = stamps_s.copy()
    for part in parts:
        stamps_s[part] = _without_slips(stamps_s[part], notices)
    order = np.concatenate([part[_order(stamps_s[part], index[part])] for part in parts])
    moved = int((order != np.asarray(first)).sum())
    if moved:
        notices.append(
            f"{moved:,} of {len(order):,} records did not stand in the order of their time stamps or numbers: sorted"
        )
    breaks = np.zeros(len(order), bool)
    breaks[1:] = np.diff(rank) > 0
    breaks[1:] |= np.diff(index[order]) <= 0 if not moved else False
    numbers = index[order] if not moved or (np.diff(index[order]) > 0).all() else np.arange(len(order))
    clock = read_clock(stamps_s[order], numbers, breaks, usual_period_s, options)
    if clock.notice:
        notices.append(clock.notice)
    return order, clock


def _without_slips(stamps_s: NDArray[np.float64], notices: list[str]) -> NDArray[np.float64]:
    """Take out single stamps that lie far from all others, such as a 0 among seconds since 1970: they are no order."""
    known = stamps_s[np.isfinite(stamps_s)]
    if len(known) < OWN_DRIVE:
        return stamps_s
    low, high = np.quantile(known, [0.05, 0.95])
    far = np.isfinite(stamps_s) & (np.abs(stamps_s - (low + high) / 2) > FAR_SPANS * (high - low) + 1)
    beside = np.zeros(len(far), bool)
    beside[1:] |= far[:-1]
    beside[:-1] |= far[1:]
    # Several in a row are another drive.
    slips = far & ~beside
    if not slips.any() or slips.mean() > MOST_FAULTS / 2:
        return stamps_s
    notices.append(f"{int(slips.sum()):,} time stamps lie far from all others: not used")
    return np.where(slips, np.nan, stamps_s)


def _order(stamps_s: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order of one sitting's rows: by stamps, where all are there and unique; else by running numbers."""
    count = len(stamps_s)
    as_is = np.arange(count)
    for values in (stamps_s, index.astype(np.float64)):
        if count < 2 or not np.isfinite(values).all() or len(np.unique(values)) < count:
            continue
        steps = np.diff(values)
        if (steps > 0).all():
            return as_is
        jump = 10 * np.median(steps[steps > 0]) if (steps > 0).any() else np.inf
        runs = np.split(as_is, np.flatnonzero((steps < 0) | (steps > jump)) + 1)
        drives = sorted((values[run[0]], values[run[-1]]) for run in runs if len(run) >= OWN_DRIVE)
        reset = any(after[0] < before[1] for before, after in zip(drives, drives[1:], strict=False))
        return as_is if reset else np.argsort(values, kind="stable")
    return as_is


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
        options: Nominal period or rate, and longest gap.

    Returns:
        The clock. A few missing stamps are filled in from their neighbours. Stamps are unusable when too many are
        missing or do not rise, or their median spacing is not one of a camera; frames are then laid out at the nominal
        period, by their running numbers.
    """
    known = np.isfinite(stamps_s)
    notice = None
    if known.all() and options.nominal_rate is None and (spread := _spread(stamps_s, breaks)) is not None:
        stamps_s, grid_s = spread
        notice = (
            f"time stamps are whole multiples of {grid_s:.4g} s, several rows each: rows are spread evenly between them"
        )
    if known.mean() >= 1 - MOST_FAULTS:
        stamps_s = np.interp(np.arange(len(stamps_s)), np.flatnonzero(known), stamps_s[known])
    steps = np.diff(stamps_s)[~breaks[1:]]
    median_s = round(float(np.median(steps)), 9) if len(steps) else usual_period_s
    low_s, high_s = PLAUSIBLE_PERIOD_S
    if options.nominal_rate is not None:
        period_s = options.period_s or usual_period_s
        time_s = (index - index.min()).astype(np.float64) / options.nominal_rate
    elif (
        not np.isfinite(stamps_s).all()
        or len(steps)
        and not (low_s <= median_s <= high_s and (steps <= 0).mean() <= MOST_FAULTS)
    ):
        period_s = options.period_s or usual_period_s
        found = f"{1000 * median_s:.3g} ms apart in the median" if np.isfinite(stamps_s).all() else "missing"
        notice = (
            f"time stamps cannot be used ({found}): frames are taken to be {1000 * period_s:.4g} ms apart; "
            f"give --nominal-rate if this is wrong"
        )
        time_s = (index - index.min()).astype(np.float64) * period_s
    else:
        period_s = options.period_s or median_s
        time_s = stamps_s
    step_s = np.diff(time_s)
    # Frames that were laid out farther apart than the longest gap still follow from one another.
    laid_s = 0.0 if time_s is stamps_s else period_s if options.nominal_rate is None else 1 / options.nominal_rate
    longest_s = max(options.max_gap_s, 1.5 * laid_s)
    cuts = breaks[1:] | (step_s <= 0) | (step_s > longest_s)
    segment = np.concatenate([[0], np.cumsum(cuts)])
    line_s = np.concatenate([[0.0], np.cumsum(np.where(cuts, period_s, step_s))])
    return Clock(time_s, segment, line_s, period_s, notice, longest_s)


def _spread(stamps_s: NDArray[np.float64], breaks: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float] | None:
    """Spread rows evenly that share a stamp because the clock was written too coarsely, such as in whole seconds.

    Args:
        stamps_s: `[T]` seconds.
        breaks: `[T]` True where a row does not follow from the one before.

    Returns:
        `[T]` seconds, and the clock's step; None where rows do not share stamps so.
    """
    steps = np.diff(stamps_s)[~breaks[1:]]
    rises = steps[steps > 0]
    if len(rises) < 2 or (steps < 0).any() or (steps == 0).mean() < LEAST_SHARED:
        return None
    grid_s = float(rises.min())
    multiples = rises / grid_s
    if (np.abs(multiples - np.round(multiples)) > 0.01).any() or np.median(rises) > 1.5 * grid_s:
        return None
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(stamps_s) != 0) | breaks[1:]]))
    sizes = np.diff(np.append(starts, len(stamps_s)))
    place = np.arange(len(stamps_s)) - np.repeat(starts, sizes)
    follows = ~breaks[starts]  # the group before goes on into this one
    fills = np.append(follows[1:] & (np.abs(np.diff(stamps_s[starts]) - grid_s) < 0.5 * grid_s), False)
    begins = np.concatenate([[True], ~fills[:-1]])
    whole = sizes[fills & ~begins]
    usual = float(np.median(whole)) if len(whole) else float(sizes.max())
    # A drive begins and ends within a step of the clock: there rows are as far apart as usual.
    apart_s = np.where(begins | ~fills, grid_s / np.maximum(usual, sizes), grid_s / sizes)
    late_s = np.where(begins & fills, grid_s - sizes * apart_s, 0.0)
    return stamps_s + np.repeat(late_s, sizes) + place * np.repeat(apart_s, sizes), grid_s
