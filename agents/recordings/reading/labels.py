"""Labels: from a column of steering to shares of full lock, positive left.

`steering_fractions` is the one place where a label gets its unit: a share of full lock, per cent, degrees or radians,
as the column's name or its values say; values that could be anything are refused, never left out one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.recordings.options import ReadOptions
from agents.recordings.reading.columns import Columns, floats
from agents.recordings.reading.tables import Table

STEERING_SLACK = 0.05
"""How far a label may overshoot [-1, 1] and be clipped; beyond, the record is left out."""
MOST_OUTLIERS = 0.01
"""Share of labels beyond [-1, 1] up to which they are single faults; more of them mean another unit."""
UNITS = {"share": "share", "percent": "percent", "degrees": "deg", "radians": "rad"}
"""Units by the words of the option."""

_SCALES = (1, 100, 180, 255, 1000, 1023, 4095, 65_535)  # tops of what sticks, servos and converters give
# Dashes that stand for a minus, and marks that cannot be seen.
_SIGNS = {**dict.fromkeys(map(ord, "\u2212\u2010\u2011\u2012\u2013\uff0d\ufe63"), "-"), 0x200B: None, 0xFEFF: None}
_FULL_SCALES = (*((0, top) for top in _SCALES), (1000, 2000))
_LEAST_TO_TELL = 40  # labels from which on a distribution says something
_LEAST_LOCK_DEG = 5  # a smaller "full lock" is meant in another unit
_FEW = 10  # of so few labels all may lie on one side
_MISSING = {"nan", "-nan", "none", "null", "na", "n/a", "-", "?"}


class UnitNotTold(ValueError):
    """Labels are in a unit that nothing tells: this concerns all of a recording, not the episode where it shows."""


def labels(table: Table, columns: Columns, name: PurePath | str) -> NDArray[np.float64]:
    """Return the steering column as float64 `[n]`; NaN where the cell is empty or says that there is none.

    A unit that stands in every cell ("12.5 %") becomes that of the column.

    Raises:
        ValueError: if text stands in the place of numbers so often that it is no single fault.
    """
    place = columns.places["steering"]
    cells = [cell.strip("'\"` ").translate(_SIGNS) for cell in table.column(place)]
    for mark, unit in (("%", "percent"), ("°", "deg")):
        if cells and all(cell.endswith(mark) or cell.lower() in ("", *_MISSING) for cell in cells):
            cells = [cell.rstrip(f"{mark} ") for cell in cells]
            columns.units["steering"] = unit
    values = floats(cells)
    text = [c for c, v in zip(cells, values, strict=True) if c and np.isnan(v) and c.lower() not in _MISSING]
    if len(text) > 2 and len(text) > MOST_OUTLIERS * len(cells):
        raise ValueError(
            f"{name}: the steering column {columns.names[place]!r} holds {len(text):,} cells that are no numbers, such "
            f"as {text[0][:40]!r}; name another column by --steering-column, or write numbers with a decimal point."
        )
    return values


def steering_fractions(
    raw: NDArray[np.float64],
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
    *,
    name: PurePath | str,
    usual_side: Literal["left", "right"],
    unit: str = "",
    usual_lock_deg: float | None = None,
) -> NDArray[np.float64]:
    """Turn labels as recorded into shares of full lock, positive left.

    Args:
        raw: `[n]` as recorded; NaN where there is no number.
        options: Angle at full lock, side of positive steering.
        skipped: Labels that cannot be used are counted here.
        notices: What was decided is said here.
        name: Of the recording, for messages.
        usual_side: Where positive steering goes in this format.
        unit: "deg", "rad", "percent" or "share" when that is known.
        usual_lock_deg: Angle at full lock of the format's own car, degrees; None when there is no such car.

    Returns:
        `[n]` in [-1, 1]; NaN where the record is to be left out.

    Raises:
        UnitNotTold: if the values are in a unit that nothing tells.
    """
    if options.steering_unit != "auto":
        unit = UNITS[options.steering_unit]
    finite = np.isfinite(raw)
    if n := int((~finite).sum()):
        skipped["steering not a number"] += n
    if not finite.any():
        return raw
    if options.straight:
        if options.degrees is None:
            raise UnitNotTold(
                f"{name}: with --straight {options.straight:g} the value at full lock, counted from there, is needed: "
                "give it by --degrees (0.5 where 0 and 1 are full lock, 500 where 1000 and 2000 are)."
            )
        raw = raw - options.straight
    most = float(np.abs(raw[finite]).max())
    beyond = finite & (np.abs(np.where(finite, raw, 0.0)) > 1 + STEERING_SLACK)
    other_unit = int(beyond.sum()) > 2 and (beyond.sum() > MOST_OUTLIERS * finite.sum() or _longest_run(beyond) > 2)
    lock: float | None = None
    if unit == "rad":
        if options.degrees is None:
            raise UnitNotTold(
                f"{name}: steering is in radians (up to {most:.3g}); give the angle at full lock by --degrees."
            )
        lock = math.radians(options.degrees)
    elif unit == "percent":
        lock = options.degrees or 100.0
    elif unit == "share":
        lock = options.degrees or 1.0
    elif options.degrees is not None:
        lock = options.degrees
        if 0 < most <= 1.0 and lock >= _LEAST_LOCK_DEG and not options.straight:
            notices.append(
                f"steering in degrees never passes {most:.3g}, {100 * most / lock:.2g} % of full lock; if it is in "
                "radians or a share of full lock, --steering-unit says so"
            )
    elif unit == "deg" or (other_unit and usual_lock_deg is not None):
        lock = usual_lock_deg
        robust = float(np.quantile(np.abs(raw[finite]), 1 - MOST_OUTLIERS))
        if lock is None or robust > lock * (1 + STEERING_SLACK):
            car = "" if lock is None else f", beyond the {lock:g}° of this format's car"
            raise UnitNotTold(
                f"{name}: steering seems to be in degrees (up to {most:.4g}{car}); give the angle at full lock by "
                f"--degrees{_and_straight(raw[finite])}."
            )
        notices.append(f"steering is taken to be in degrees, {lock:g}° at full lock; --degrees sets another angle")
    elif other_unit:
        raise UnitNotTold(
            f"{name}: steering should lie within [-1, 1], {int(beyond.sum()):,} of {int(finite.sum()):,} labels lie "
            f"outside (up to {most:.4g}); give the value at full lock by --degrees, such as 25 in degrees, 100 in per "
            f"cent{_and_straight(raw[finite])}."
        )
    values = raw * options.side(usual_side) / (lock or 1.0)
    out = finite & (np.abs(np.where(finite, values, 0.0)) > 1 + STEERING_SLACK)
    if n := int(out.sum()):
        skipped["steering outside [-1, 1]"] += n
    if lock is not None and out.sum() > 0.5 * finite.sum():
        raise UnitNotTold(
            f"{name}: {int(out.sum()):,} of {int(finite.sum()):,} labels are beyond a full lock of "
            f"{math.degrees(lock) if unit == 'rad' else lock:g}° (up to {most:.4g}); give a larger --degrees"
            f"{_and_straight(raw[finite])}."
        )
    return np.where(out | ~finite, np.nan, np.clip(np.where(finite, values, 0.0), -1, 1) + 0.0)


def check_sides(
    raw: NDArray[np.float64],
    table: Table,
    columns: Columns,
    options: ReadOptions,
    name: PurePath | str,
    any_scale: bool,
    recognise: bool = False,
) -> tuple[float, float] | None:
    """Refuse labels that have no sign: those of a servo or a stick, whose straight ahead is not 0, or bare magnitudes.

    Args:
        raw: `[n]` labels.
        table: Where they stand.
        columns: Its columns.
        options: `straight` says how they are meant, and nothing is checked.
        name: For messages.
        any_scale: Whether nothing tells the scale of the labels, as some format would.
        recognise: Whether straight ahead may be found out.

    Returns:
        The value of straight ahead, and how far full lock is from it, where both are plain; else None.

    Raises:
        ValueError: if none lies on the other side of 0, and the usual one lies far from it or a column names the side.
    """
    values = raw[np.isfinite(raw)]
    if options.straight is not None or len(values) < _FEW or not (values.min() >= 0 or values.max() <= 0):
        return None
    most, middle = float(np.abs(values).max()), float(np.median(values))
    if most == 0 or values.min() == values.max():
        return None
    for index, column in enumerate(columns.names[: len(table.rows[0])]):
        words = {cell.strip("'\" ").lower() for cell in table.column(index)[:2000]}
        if len(words) <= 5 and words & {"left", "l"} and words & {"right", "r"}:
            raise ValueError(
                f"{name}: steering is never below 0, and the column {column!r} seems to say the side; write labels "
                "with a sign, or give --straight 0 to take them as they are."
            )
    if recognise and options.degrees is None and (plain := plain_middle(values)) is not None:
        return plain
    usual = float((np.abs(values - middle) <= 0.1 * most).mean())
    straight = float((np.abs(values) <= 0.1 * most).mean())
    # Nearly nothing at 0 and most around another value; or all of a scale from 0 on, as much below its middle as above.
    around = abs(middle) >= 0.3 * most and usual > 3 * straight
    if most <= 1 + STEERING_SLACK:  # else they may be shares of full lock on a round course
        around = around and 0.4 <= abs(middle) <= 0.6
    scale = next((top for top in _SCALES if 0.9 * top <= most <= 1.05 * top), None)
    whole = scale is not None and np.abs(values).min() <= 0.1 * scale
    if not any_scale:  # of the format's own scale only what fills another one to both its ends
        whole = whole and most >= 0.95 and np.abs(values).min() <= 0.05
    if scale is not None and whole:
        whole = max(abs(abs(middle) - scale / 2), abs(abs(float(values.mean())) - scale / 2)) <= 0.1 * scale
    if around or whole:
        raise ValueError(
            f"{name}: steering is never {'below' if middle > 0 else 'above'} 0 and mostly near {middle:.4g}, so that "
            "straight ahead seems to be there: give its value by --straight (0.5 between 0 and 1, 1500 of a servo's "
            "pulse) and full lock, counted from there, by --degrees; --straight 0 takes the labels as they are."
        )
    return None


def plain_middle(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return where straight ahead is among a servo's or a stick's values, and how far full lock is from there.

    Plain it is where the labels fill a scale that such things have (0 to 1, 0 to 255, pulses of 1000 to 2000 µs, ...)
    to both its ends, as often and as far on either side of its middle, and mostly near it; bare magnitudes are mostly
    small.

    Args:
        values: `[n]` finite labels, none below 0.
    """
    if len(values) < _LEAST_TO_TELL:
        return None
    best: tuple[float, tuple[float, float]] | None = None
    low_end, first, middle, third, high_end = np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])
    for low, high in _FULL_SCALES:
        wide, centre = high - low, (high + low) / 2
        filled = (
            low - 0.01 * wide <= low_end <= low + 0.1 * wide and high - 0.1 * wide <= high_end <= high + 0.01 * wide
        )
        even = abs(middle - centre) <= 0.03 * wide and abs(first + third - 2 * centre) <= 0.08 * wide
        even = even and abs(float(values.mean()) - centre) <= 0.06 * wide
        near = float((np.abs(values - centre) <= 0.1 * wide).mean())
        outside = float((values <= low + 0.2 * wide).mean())
        if filled and even and near > 1.2 * outside:
            at_rest = float((np.abs(values - middle) <= 0.002 * wide).mean()) >= 0.1
            off = abs(middle - centre) / wide
            if best is None or off < best[0]:
                best = off, (float(middle) if at_rest else centre, wide / 2)
    return None if best is None else best[1]


def _longest_run(found: NDArray[np.bool_]) -> int:
    """Return how many True stand in a row at most."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _and_straight(values: NDArray[np.float64]) -> str:
    """Return what to do besides, where no label lies on the other side of 0."""
    if len(values) < _FEW or values.min() < 0 < values.max():
        return ""
    return f", and the value of straight ahead, if it is not 0, by --straight (the median is {np.median(values):.4g})"
