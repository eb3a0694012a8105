"""What the columns of a table mean: by the names in its header, by the options, or by what stands in them.

`steering_fractions` is the one place where a label gets its unit: a share of full lock, degrees or radians, as the
column's name or its values say; values that could be anything are refused, never left out one by one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.recordings.options import ReadOptions
from agents.recordings.reading.files import number
from agents.recordings.reading.pictures import is_picture_name
from agents.recordings.reading.tables import Table

MPH = 0.44704
"""Metres a second in a mile an hour."""
STEERING_SLACK = 0.05
"""How far a label may overshoot [-1, 1] and be clipped; beyond, the record is left out."""
MOST_OUTLIERS = 0.01
"""Share of labels beyond [-1, 1] up to which they are single faults; more of them mean another unit."""

Meaning = Literal["centre", "left", "right", "steering", "throttle", "brake", "speed", "time", "frame"]

_NAMES: dict[Meaning, tuple[str, ...]] = {
    "centre": (
        *("center", "centre", "center camera", "centre camera", "center image", "centre image", "center path"),
        *("image", "image path", "image file", "image name", "img", "img path", "picture", "photo", "frame path"),
        *("filename", "file name", "file", "path", "cam image array", "frame file", "rgb", "camera", "front", "jpg"),
    ),
    "left": ("left", "left camera", "left image"),
    "right": ("right", "right camera", "right image"),
    "steering": (
        *("steering", "steering angle", "steer", "steer angle", "angle", "user angle", "user steering"),
        *(
            "steering wheel angle",
            "wheel angle",
            "steering command",
            "steer command",
            "steering norm",
            "steering value",
        ),
    ),
    "throttle": ("throttle", "user throttle", "gas", "acceleration pedal", "accelerator"),
    "brake": ("brake", "reverse", "brake pedal"),
    "speed": ("speed", "velocity", "vel", "v", "vehicle speed"),
    "time": ("time", "timestamp", "time stamp", "t", "stamp", "datetime", "date time", "clock", "sec", "seconds"),
    "frame": ("frame", "frame id", "frame index", "frame number", "frame no", "video frame", "index", "idx", "id"),
}
_MISSING = {"nan", "-nan", "none", "null", "na", "n/a", "-", "?"}
_UNITS = {
    **dict.fromkeys(("deg", "degree", "degrees", "°"), "deg"),
    **dict.fromkeys(("rad", "radian", "radians"), "rad"),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds", "millisecond"), "ms"),
    **dict.fromkeys(("us", "usec", "µs", "micros", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanoseconds", "nanosecond"), "ns"),
    **dict.fromkeys(("s", "sec", "secs", "seconds"), "s"),
    **dict.fromkeys(("mph",), "mph"),
    **dict.fromkeys(("kmh", "kph", "kmph"), "kmh"),
    **dict.fromkeys(("mps", "ms-1"), "mps"),
}


@dataclass(frozen=True)
class Columns:
    """Where what stands in a table, as indices of columns, and the units that the names give."""

    places: dict[Meaning, int]
    """Index by meaning; what is not there is absent."""
    units: dict[Meaning, str]
    """Unit by meaning, such as "deg"; absent where the name gives none."""
    names: list[str]
    """All columns' names, for messages; made up where the table has no header."""

    def __contains__(self, meaning: Meaning) -> bool:
        return meaning in self.places


def find_columns(table: Table, options: ReadOptions, name: Path | str, need: Sequence[Meaning]) -> Columns:
    """Find out what each column is.

    Args:
        table: The table.
        options: Columns named by hand; they come first.
        name: Of the file, for messages.
        need: Without these, the table is refused.

    Raises:
        ValueError: if a needed column is missing or two could be it.
    """
    wide = len(table.rows[0]) if table.rows else len(table.header or [])
    names = list(table.header or [f"column {index + 1}" for index in range(wide)])
    places, units = _by_header(names, name) if table.header is not None else (_by_content(table, name), {})
    named: dict[Meaning, str | None] = {
        "steering": options.steering_column,
        "time": options.time_column,
        "speed": options.speed_column,
        "centre": options.frame_column,
    }
    for meaning, wanted in named.items():
        if wanted is None:
            continue
        index = _index_of(wanted, names, name)
        if meaning == "centre" and table.rows and not any(is_picture_name(row[index]) for row in table.rows[:50]):
            meaning = "frame"
        places = {m: place for m, place in places.items() if place != index} | {meaning: index}
        units[meaning] = _split(names[index])[1] or units.get(meaning, "")
    ambiguous = [m for m in need if places.get(m, 0) < 0]
    for meaning in ambiguous:
        candidates = [n for n in names if _split(n)[0] in _NAMES[meaning]]
        raise ValueError(
            f"{name}: the {meaning} could be in any of the columns {', '.join(candidates)}; name the one that counts "
            f"by --{'frame' if meaning == 'centre' else meaning}-column."
        )
    missing = [m for m in need if m not in places]
    if missing:
        option = "--frame-column" if missing[0] == "centre" else f"--{missing[0]}-column"
        raise ValueError(
            f"{name} should have a column for {' and '.join(missing)}, it has: "
            f"{', '.join(map(repr, names)) or 'none'}. Name it by {option}."
        )
    places = {meaning: place for meaning, place in places.items() if place >= 0}
    return Columns(places, {meaning: unit for meaning, unit in units.items() if unit}, names)


def _index_of(wanted: str, names: Sequence[str], name: Path | str) -> int:
    for same in (lambda n: n == wanted, lambda n: n.strip().lower() == wanted.strip().lower()):
        found = [index for index, known in enumerate(names) if same(known)]
        if found:
            return found[0]
    if wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise ValueError(f"{name} has no column {wanted!r}; it has: {', '.join(map(repr, names))}.")


def _by_header(names: Sequence[str], name: Path | str) -> tuple[dict[Meaning, int], dict[Meaning, str]]:
    """Find the columns by their names; −1 where several could be meant."""
    places: dict[Meaning, int] = {}
    units: dict[Meaning, str] = {}
    for meaning, words in _NAMES.items():
        found = [(words.index(stem), index) for index, n in enumerate(names) if (stem := _split(n)[0]) in words]
        if not found:
            continue
        if meaning == "steering" and len(found) > 1:
            places[meaning] = -1
            continue
        _, places[meaning] = min(found)
        units[meaning] = _split(names[places[meaning]])[1]
    return places, units


def _split(name: str) -> tuple[str, str]:
    """Return a column's name in plain words, and the unit at its end."""
    # "steeringAngle[deg]" → "steering angle deg"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip().lstrip("#"))
    words = words.lower().replace("km/h", "kmh").replace("m/s", "mps")
    parts = [part for part in re.split(r"[^\w°µ]+|_+", words) if part]
    unit = ""
    if len(parts) > 1 and parts[-1] in _UNITS:
        unit = _UNITS[parts.pop()]
    return " ".join(parts), unit


def _by_content(table: Table, name: Path | str) -> dict[Meaning, int]:
    """Find the columns of a log without a header: pictures by their names, numbers behind them by their order."""
    if not table.rows:
        return {}
    sample = table.rows[:200]
    pictures = [i for i in range(len(sample[0])) if sum(is_picture_name(row[i]) for row in sample) > 0.5 * len(sample)]
    if not pictures:
        raise ValueError(
            f"{name} should name a picture in its first column, got {sample[0][0][:60]!r}; it has no header that says "
            "what stands where. Name the columns by --frame-column and --steering-column (by number, from 1)."
        )
    places: dict[Meaning, int] = {}
    sides: tuple[Meaning, ...] = ("centre", "left", "right")
    for position, index in enumerate(pictures[:3]):
        base = sample[0][index].replace("\\", "/").rsplit("/", 1)[-1].lower()
        said: Meaning | None = next((side for side in sides if base.startswith(side[:4])), None)
        places.setdefault(said or sides[position], index)
    if "centre" not in places:
        places["centre"] = pictures[0]
    behind = list(range(pictures[-1] + 1, len(sample[0])))
    for _ in range(3 - len(pictures)):  # side cameras that were off leave their columns empty
        if len(behind) > 1 and not any(row[behind[0]] for row in sample):
            behind.pop(0)
    if not 1 <= len(behind) <= 4:
        raise ValueError(
            f"{name} should have the 7 columns centre, left, right, steering, throttle, brake, speed, "
            f"got {len(sample[0])}; numbers must be written with a decimal point, and other columns need a header."
        )
    order: tuple[Meaning, ...] = ("steering", "throttle", "brake", "speed")
    places.update(zip(order, behind, strict=False))
    return places


def labels(table: Table, columns: Columns, name: Path | str) -> NDArray[np.float64]:
    """Return the steering column as float64 `[n]`; NaN where the cell is empty or says that there is none.

    Raises:
        ValueError: if text stands in the place of numbers so often that it is no single fault.
    """
    place = columns.places["steering"]
    cells = [cell.strip("'\"` ").replace("\u2212", "-") for cell in table.column(place)]
    values = floats(cells)
    text = [c for c, v in zip(cells, values, strict=True) if c and np.isnan(v) and c.lower() not in _MISSING]
    if len(text) > 2 and len(text) > MOST_OUTLIERS * len(cells):
        raise ValueError(
            f"{name}: the steering column {columns.names[place]!r} holds {len(text):,} cells that are no numbers, such "
            f"as {text[0][:40]!r}; name another column by --steering-column, or write numbers with a decimal point."
        )
    return values


def floats(cells: Sequence[object]) -> NDArray[np.float64]:
    """Return cells as float64 `[n]`; NaN where there is no number."""
    return np.asarray([number(cell) for cell in cells], np.float64)


def steering_fractions(
    raw: NDArray[np.float64],
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
    *,
    name: Path | str,
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
        unit: "deg" or "rad" when the column's name says so.
        usual_lock_deg: Angle at full lock of the format's own car, degrees; None when there is no such car.

    Returns:
        `[n]` in [-1, 1]; NaN where the record is to be left out.

    Raises:
        ValueError: if the values are in a unit that nothing tells.
    """
    finite = np.isfinite(raw)
    if n := int((~finite).sum()):
        skipped["steering not a number"] += n
    if not finite.any():
        return raw
    most = float(np.abs(raw[finite]).max())
    beyond = finite & (np.abs(np.where(finite, raw, 0.0)) > 1 + STEERING_SLACK)
    other_unit = int(beyond.sum()) > 2 and beyond.sum() > MOST_OUTLIERS * finite.sum()
    lock: float | None = None
    if unit == "rad":
        if options.degrees is None:
            raise ValueError(
                f"{name}: steering is in radians (up to {most:.3g}); give the angle at full lock by --degrees."
            )
        lock = math.radians(options.degrees)
    elif options.degrees is not None:
        lock = options.degrees
    elif unit == "deg" or (other_unit and usual_lock_deg is not None):
        lock = usual_lock_deg
        robust = float(np.quantile(np.abs(raw[finite]), 1 - MOST_OUTLIERS))
        if lock is None or robust > lock * (1 + STEERING_SLACK):
            car = "" if lock is None else f", beyond the {lock:g}° of this format's car"
            raise ValueError(
                f"{name}: steering seems to be in degrees (up to {most:.4g}{car}); give the angle at full lock by "
                "--degrees."
            )
        notices.append(f"steering is taken to be in degrees, {lock:g}° at full lock; --degrees sets another angle")
    elif other_unit:
        raise ValueError(
            f"{name}: steering should lie within [-1, 1], {int(beyond.sum()):,} of {int(finite.sum()):,} labels lie "
            f"outside (up to {most:.4g}); if it is in degrees give the angle at full lock by --degrees."
        )
    values = raw * options.side(usual_side) / (lock or 1.0)
    out = finite & (np.abs(np.where(finite, values, 0.0)) > 1 + STEERING_SLACK)
    if n := int(out.sum()):
        skipped["steering outside [-1, 1]"] += n
    if lock is not None and out.sum() > 0.5 * finite.sum():
        raise ValueError(
            f"{name}: {int(out.sum()):,} of {int(finite.sum()):,} labels are beyond a full lock of "
            f"{math.degrees(lock) if unit == 'rad' else lock:g}° (up to {most:.4g}); give a larger --degrees."
        )
    return np.where(out | ~finite, np.nan, np.clip(np.where(finite, values, 0.0), -1, 1) + 0.0)


SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds in a unit of time stamps."""


def stamps_in_seconds(raw: NDArray[np.float64], unit: str, notices: list[str]) -> NDArray[np.float64]:
    """Turn time stamps into seconds since the earliest one.

    Args:
        raw: `[n]`; NaN where there is none.
        unit: As the column's name gives it; when it gives none, the one in which frames are as far apart as those of a
            camera.
        notices: What was decided is said here.
    """
    known = raw[np.isfinite(raw)]
    if len(known) == 0:
        return raw
    relative = raw - known.min()
    if unit not in SECONDS:
        steps = np.abs(np.diff(np.sort(known)))
        median = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.05
        unit = next((u for u, scale in SECONDS.items() if 0.004 <= median * scale < 4), "s")
        if unit != "s":
            notices.append(f"time stamps are taken to be in {unit}")
    return relative * SECONDS[unit]


def speed_scale(unit: str, usual: float = 1.0) -> float:
    """Return metres a second in a unit of speed."""
    return {"mph": MPH, "kmh": 1 / 3.6, "mps": 1.0}.get(unit, usual)
