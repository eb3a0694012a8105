"""What the columns of a table mean: by the names in its header, by the options, or by what stands in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.recordings.options import ReadOptions
from agents.recordings.reading.files import number
from agents.recordings.reading.pictures import is_picture_name
from agents.recordings.reading.stamps import Stamps, is_moment, read_stamps, share_of_stamps
from agents.recordings.reading.tables import Table

MPH = 0.44704
"""Metres a second in a mile an hour."""

Meaning = Literal["centre", "left", "right", "steering", "throttle", "brake", "speed", "time", "nanoseconds", "frame"]

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
            "steering normalized",
            "steering angle normalized",
            "steering value",
        ),
    ),
    "throttle": ("throttle", "user throttle", "gas", "acceleration pedal", "accelerator"),
    "brake": ("brake", "reverse", "brake pedal"),
    "speed": ("speed", "velocity", "vel", "v", "vehicle speed"),
    "time": (
        *("time", "timestamp", "time stamp", "t", "stamp", "datetime", "date time", "clock", "sec", "seconds"),
        *("secs", "ts", "ms", "msec", "millis", "milliseconds", "unix time", "epoch", "utc"),
        *("ros time", "rosbag timestamp", "capture time"),
    ),
    "nanoseconds": ("nanosec", "nsec", "nsecs", "nanosecs", "nanoseconds"),
    "frame": ("frame", "frame id", "frame index", "frame number", "frame no", "video frame", "index", "idx", "id"),
}
_CLOCKS = {"time", "timestamp", "timestamps", "stamp", "clock", "timecode", "elapsed"}
# Times that are no clock of the rows, whatever else their names say.
_DURATIONS = {"diff", "difference", "delta", "dt", "lap", "step", "delay", "latency", "reaction", "exposure", "best"}
_DURATIONS |= {"duration", "interval", "period", "remaining", "since", "to", "per", "between", "of", "day", "zone"}
_OF_PICTURES = {"image", "img", "frame", "camera", "cam", "picture", "video", "header"}
_UNITS = {
    **dict.fromkeys(("deg", "degree", "degrees", "°"), "deg"),
    **dict.fromkeys(("rad", "radian", "radians"), "rad"),
    **dict.fromkeys(("%", "percent", "pct"), "percent"),
    **dict.fromkeys(("pwm",), "pwm"),
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


def find_columns(table: Table, options: ReadOptions, name: PurePath | str, need: Sequence[Meaning]) -> Columns:
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
    units: dict[Meaning, str] = {}
    if table.header is not None:
        places, units = _by_header(names, table)
    else:
        places = _by_content(table, name, options)
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
        if meaning == "time":
            places.pop("nanoseconds", None)
        units[meaning] = unit_of(names[index]) or units.get(meaning, "")
    ambiguous = [m for m in need if places.get(m, 0) < 0]
    for meaning in ambiguous:
        candidates = [names[index] for index in _candidates(names, meaning)]
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


def _index_of(wanted: str, names: Sequence[str], name: PurePath | str) -> int:
    for same in (lambda n: n == wanted, lambda n: n.strip().lower() == wanted.strip().lower()):
        found = [index for index, known in enumerate(names) if same(known)]
        if found:
            return found[0]
    if wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise ValueError(f"{name} has no column {wanted!r}; it has: {', '.join(map(repr, names))}.")


def _by_header(names: Sequence[str], table: Table) -> tuple[dict[Meaning, int], dict[Meaning, str]]:
    """Find the columns by their names; −1 where several could be meant."""
    places: dict[Meaning, int] = {}
    units: dict[Meaning, str] = {}
    for meaning in _NAMES:
        found = _candidates(names, meaning)
        if meaning == "time":
            # The first that holds stamps: "time" may be a text beside a "timestamp".
            found = found or _clocks(names, table)
            shares = [share_of_stamps(table.column(index)[:200]) for index in found]
            found = [index for index, share in zip(found, shares, strict=True) if share > 0.5] or found
        if not found:
            continue
        if meaning == "steering" and len(found) > 1:
            places[meaning] = -1
            continue
        places[meaning] = found[0]
        units[meaning] = unit_of(names[found[0]])
    if "centre" not in places and table.rows:
        # Called as no other camera's picture is: known by what stands in it.
        sample = table.rows[:200]
        pictured = [i for i in range(len(names)) if sum(is_picture_name(row[i]) for row in sample) > 0.5 * len(sample)]
        free = [i for i in pictured if not _words(names[i]) & {"left", "right", "rear", "back", "depth", "seg"}]
        if len(free) == 1:
            places["centre"] = free[0]
    if "nanoseconds" in places and _words(names[places.get("time", -1)]).isdisjoint({"sec", "secs", "seconds", "s"}):
        del places["nanoseconds"]
    return places, units


def _candidates(names: Sequence[str], meaning: Meaning) -> list[int]:
    """Return the columns whose names say what is looked for, the surest first."""
    words = _NAMES[meaning]
    found = sorted((words.index(stem), index) for index, n in enumerate(names) if (stem := _split(n)[0]) in words)
    if not found and meaning in ("steering", "time", "nanoseconds"):
        # Messages of ROS bring the path to a field along: "field.drive.steering_angle", "header.stamp.secs".
        paths = [(_split(n)[0], index) for index, n in enumerate(names) if "." in n or "/" in n]
        ends = words if meaning != "time" else ("stamp", "timestamp", "time", "secs", "sec")
        found = sorted(
            (ends.index(end), index)
            for stem, index in paths
            if (end := next((w for w in sorted(ends, key=len, reverse=True) if stem.endswith(" " + w)), None))
        )
    return [index for _, index in found]


def _clocks(names: Sequence[str], table: Table) -> list[int]:
    """Return the columns that are called a time of some kind and rise from row to row as a clock does; that of the
    pictures first.
    """  # noqa: D205
    found = []
    for index, name in enumerate(names):
        words = _words(name)
        if not words & _CLOCKS or words & _DURATIONS or not table.rows:
            continue
        stamps_s = read_stamps(table.column(index), unit_of(name), None, []).since_first_s
        steps = np.diff(stamps_s[np.isfinite(stamps_s)])
        if len(steps) >= 0.5 * (len(stamps_s) - 1) and (steps > 0).any() and (steps < 0).mean() <= 0.1:
            found.append((not words & _OF_PICTURES, index))
    return [index for _, index in sorted(found)]


def unit_of(name: str) -> str:
    """Return the unit that a column's name gives or implies; "" when it does neither."""
    stem, unit = _split(name)
    # Ackermann messages of ROS have radians (REP 103).
    ackermann = stem.endswith(("drive steering angle", "ackermann steering angle"))
    return unit or ("rad" if ackermann else _UNITS.get(stem, ""))


def plain_name(name: str) -> str:
    """Return a column's name in plain words, without its unit."""
    return _split(name)[0]


def _words(name: str) -> set[str]:
    return {*_split(name)[0].split(), _split(name)[1]}


def _split(name: str) -> tuple[str, str]:
    """Return a column's name in plain words, and the unit at its end."""
    # "steeringAngle[deg]" → "steering angle deg"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip().lstrip("#%"))
    words = words.lower().replace("km/h", "kmh").replace("m/s", "mps")
    parts = [part for part in re.split(r"[^\w°µ%]+|_+", words) if part]
    unit = ""
    if len(parts) > 1 and parts[-1] in _UNITS:
        unit = _UNITS[parts.pop()]
        if len(parts) > 1 and parts[-1] == "in":
            parts.pop()
    return " ".join(parts), unit


def _by_content(table: Table, name: PurePath | str, options: ReadOptions) -> dict[Meaning, int]:
    """Find the columns of a log without a header: pictures by their names, numbers behind them by their order.

    Of columns that the options name nothing more has to be known.
    """
    if not table.rows:
        return {}
    sample = table.rows[:200]
    pictures = [i for i in range(len(sample[0])) if sum(is_picture_name(row[i]) for row in sample) > 0.5 * len(sample)]
    if not pictures:
        if options.steering_column is not None:
            return {}
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
    cameras = len(pictures)
    while cameras < 3 and len(behind) > 1 and not any(row[behind[0]] for row in sample):
        behind.pop(0)  # side cameras that were off leave their columns empty
        cameras += 1
    moments = [index for index in behind if sum(is_moment(row[index]) for row in sample) > 0.5 * len(sample)]
    if moments:
        places["time"] = moments[0]
        behind = [index for index in behind if index not in moments]
    if options.steering_column is not None:
        return places
    if not behind and pictures[0] > 0:
        raise ValueError(
            f"{name} has its numbers before the picture, and no header that says what they are: give the column that "
            "steers by --steering-column (by number, from 1)."
        )
    if len(behind) > 4 and cameras == 3:
        # The simulator's later versions write where the car was behind its speed. What is steering is no decimal that a
        # comma cut, and no clock.
        first = [row[behind[0]] for row in sample]
        if any("." in cell for cell in first) and (np.diff(floats(first)) < 0).any():
            behind = behind[:4]
    if not 1 <= len(behind) <= 4:
        raise ValueError(
            f"{name} should have the 7 columns centre, left, right, steering, throttle, brake, speed, "
            f"got {len(sample[0])}, {len(pictures)} of them with pictures; numbers must be written with a decimal "
            "point, and other columns need a header (or --steering-column, by number, from 1)."
        )
    order: tuple[Meaning, ...] = ("steering", "throttle", "brake", "speed")
    places.update(zip(order, behind, strict=False))
    return places


def floats(cells: Sequence[object]) -> NDArray[np.float64]:
    """Return cells as float64 `[n]`; NaN where there is no number."""
    return np.asarray([number(cell) for cell in cells], np.float64)


def speed_scale(unit: str, usual: float = 1.0) -> float:
    """Return metres a second in a unit of speed."""
    return {"mph": MPH, "kmh": 1 / 3.6, "mps": 1.0}.get(unit, usual)


def stamps_of(table: Table, columns: Columns, notices: list[str], lasts_s: float | None = None) -> Stamps:
    """Return the clock of a table's rows; NaN throughout where it has none.

    Args:
        table: The table.
        columns: Where the time stamps stand.
        notices: What was decided is said here.
        lasts_s: Time that the rows should cover, where a video tells it, seconds.
    """
    if "time" not in columns:
        return Stamps(np.full(len(table.rows), np.nan))
    fractions = table.column(columns.places["nanoseconds"]) if "nanoseconds" in columns else None
    return read_stamps(table.column(columns.places["time"]), columns.units.get("time", ""), fractions, notices, lasts_s)


def extras_of(table: Table, columns: Columns, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return throttle, brake and speed of chosen rows, where the table has them."""
    extras: dict[str, NDArray[Any]] = {}
    for name, meaning in (("throttle", "throttle"), ("brake", "brake"), ("speed_mps", "speed")):
        place = {str(key): index for key, index in columns.places.items()}.get(meaning)
        if place is not None:
            scale = speed_scale(columns.units.get("speed", "")) if meaning == "speed" else 1.0
            extras[name] = (floats(table.column(place))[rows] * scale).astype(np.float32)
    return extras
