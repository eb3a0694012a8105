"""A fuzzer over the ways in which people write tables of driving: read right, or refused in one line.

    python -m tests.reliability.fuzz_tables --count 2000 --seed 0

Each case writes the same drive by a seeded choice of separator, decimal mark, quotes, encoding, line ends, unit of the
steering, kind of time stamps, paths, order of rows and columns, lines before the header, and columns beside. Faults
are: a label, a place or a time that is not the one written; another error than ValueError; a message of several lines.
What a table does not say (its unit, without a header) is not drawn.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents.recordings import load_episodes
from tests.agents.recordings.makers import picture, save

COUNT = 40
"""Rows of a drive."""
BEGIN = datetime.datetime(2023, 11, 14, 22, 59, 58)
NUMBERS = {"plain": "{:.5f}", "short": "{:.6g}", "power": "{:.5e}"}
UNITS = ("", "", "", "degrees", "named degrees", "per cent", "radians", "pulses", "degrees by value")
CLOCKS = ("none", "seconds", "since 1970", "milliseconds", "nanoseconds", "ISO 8601", "time of day", "days")


@dataclass
class Case:
    """One way to write a drive."""

    kind: str
    name: str = "steering"
    values: list[float] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    period_s: float = 0.05
    text: bytes = b""
    told: dict[str, Any] = field(default_factory=dict)


def names_of(kind: str) -> list[str]:
    """Return the names of the pictures of a drive."""
    if kind == "table":
        return [f"{i:04d}.png" for i in range(COUNT)]
    return [f"center_2018_07_16_17_11_{i // 10:02d}_{100 * i % 1000:03d}.png" for i in range(COUNT)]


def make_pictures(place: Path) -> None:
    """Write the pictures of both kinds of drives; their brightness is their number."""
    for kind, folder in (("table", "images"), ("udacity", "IMG")):
        (place / kind).mkdir()
        for i, name in enumerate(names_of(kind)):
            save(place / kind / folder / name, picture(level=4 * i))


def draw(seed: int) -> Case:
    """Draw a way to write a drive."""
    rng = random.Random(seed)
    case = Case(rng.choice(["table", "udacity"]))
    header = rng.random() < 0.75
    reach = rng.choice([0.02, 0.3, 0.9])
    labels = np.round(reach * np.sin(np.arange(COUNT) / rng.uniform(2, 9) + rng.uniform(0, 6)), 5)
    if rng.random() < 0.2:
        labels[::7] = 0
    unit = rng.choice(UNITS) if header else ""
    if (case.kind == "udacity" and unit == "named degrees") or (reach < 0.1 and unit == "degrees by value"):
        unit = ""  # the format's own car has another lock; so small angles may be anything
    case.labels, case.values = labels.tolist(), labels.tolist()
    name = rng.choice(["steering", "Steering", "steering_angle", "steer", "angle", "user/angle"])
    scale, ends, case.options = {
        "": (1.0, "", {}),
        "degrees": (30.0, "_deg", {"degrees": 30.0}),
        "named degrees": (30.0, " [deg]", {}),
        "per cent": (100.0, rng.choice(["_percent", " [%]"]), {}),
        "radians": (0.5, " (rad)", {"degrees": float(np.degrees(0.5))}),
        "pulses": (400.0, "", {"straight": 1500.0, "degrees": 400.0}),
        "degrees by value": (25.0, "", {}),
    }[unit]
    case.name = name + ends
    case.values = (scale * labels + (1500 if unit == "pulses" else 0)).tolist()
    case.text = _write(case, header, rng)
    case.told |= {"seed": seed, "unit": unit, "reach": reach, "header": header}
    return case


def _write(case: Case, header: bool, rng: random.Random) -> bytes:
    """Write the table's text."""
    separator = rng.choice([",", ",", ",", ";", "\t", "|", ", ", " ; "])
    mark, form = rng.choice([".", ".", ".", ","]), rng.choice(sorted(NUMBERS))

    def shown(value: float) -> str:
        return NUMBERS[form].format(value).replace(".", mark)

    before = rng.choice(["", "C:\\Users\\x y\\IMG\\", "/home/jo/data/IMG/", "IMG/", "./", "images\\"])
    pictures = [before + name for name in names_of(case.kind)]
    columns = [("image" if case.kind == "table" else "center", pictures), (case.name, [*map(shown, case.values)])]
    clock = rng.choice(CLOCKS) if header and case.kind == "table" else "none"
    case.period_s = 0.1 if case.kind == "udacity" else 0.05 if clock == "none" else rng.choice([0.05, 0.1])
    if clock != "none":
        columns.append((rng.choice(["time", "timestamp", "t"]), _clock(clock, case.period_s, mark)))
    more = rng.sample(["throttle", "brake", "speed", "lap", "note", "roll"], rng.randint(0, 3)) if header else []
    for name in more or ["throttle", "brake", "speed"][: rng.randint(0, 3)]:
        whole = {"note": lambda: rng.choice("xy"), "lap": lambda: str(rng.randint(0, 3))}
        columns.append((name, [whole.get(name, lambda: shown(rng.random()))() for _ in range(COUNT)]))
    if header and rng.random() < 0.3:
        rng.shuffle(columns)
    order = list(range(COUNT))
    order = {"": order, "back": order[::-1], "twice": order + order[:9], "any": rng.sample(order, COUNT)}[
        rng.choice(["", "", "back", "twice", "any"])
    ]
    quote = '"' if rng.random() < 0.25 and len(separator) == 1 else ""
    lines = [separator.join(f"{quote}{cells[i]}{quote}" for _, cells in columns) for i in order]
    first = rng.choice(["", "", "", "# log", "My log 3", f"sep={separator.strip()}" if separator.strip() else ""])
    if header:
        lines = [*([first] if first else []), separator.join(f"{quote}{name}{quote}" for name, _ in columns), *lines]
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
    case.told |= {"separator": separator, "mark": mark, "form": form, "clock": clock, "quote": quote, "first": first}
    case.told |= {"columns": [name for name, _ in columns], "encoding": encoding}
    return (rng.choice(["\n", "\r\n", "\r"]).join(lines) + "\n").encode(encoding)


def _clock(clock: str, period_s: float, mark: str) -> list[str]:
    """Write time stamps."""
    since = [period_s * i for i in range(COUNT)]
    moments = [BEGIN + datetime.timedelta(seconds=s) for s in since]
    return {
        "seconds": [f"{s:.3f}".replace(".", mark) for s in since],
        "since 1970": [f"{1.7e9 + s:.3f}".replace(".", mark) for s in since],
        "milliseconds": [str(round(1000 * s)) for s in since],
        "nanoseconds": [str(17 * 10**17 + round(1000 * s) * 10**6) for s in since],
        "ISO 8601": [moment.isoformat(timespec="milliseconds") for moment in moments],
        "time of day": [moment.strftime("%H:%M:%S.%f") for moment in moments],
        "days": [f"{45_244.9 + s / 86_400:.10f}".replace(".", mark) for s in since],
    }[clock]


def examine(case: Case, place: Path) -> tuple[str, str]:
    """Write and read a case; return "right", "refused" or "fault", and what was said or is wrong."""
    path = place / case.kind / ("labels.csv" if case.kind == "table" else "driving_log.csv")
    path.write_bytes(case.text)
    try:
        episodes = load_episodes(path, **case.options)
    except ValueError as error:
        said = str(error)
        return ("fault", f"several lines: {said!r}") if "\n" in said else ("refused", said)
    except Exception as error:  # anything else is a fault, whatever it is
        return "fault", repr(error)
    steering = np.concatenate([episode.steering for episode in episodes])
    numbers = np.concatenate([episode.frames()[:, -1, 0, 0] for episode in episodes]) // 4
    written = np.asarray(case.labels)[numbers] * (1 if case.kind == "table" else -1)
    wrong = np.abs(steering - written) > 6e-3 + 0.01 * np.abs(written)
    if wrong.any():
        return "fault", f"labels {steering[wrong][:3]} instead of {written[wrong][:3]}"
    if len(numbers) < COUNT - 1 or (np.diff(numbers) < 0).any():
        return "fault", f"frames {numbers.tolist()} ({dict(episodes.skipped)})"
    if abs(episodes[0].meta.nominal_period_s - case.period_s) > 3e-3:
        return "fault", f"period {episodes[0].meta.nominal_period_s} instead of {case.period_s}"
    return "right", ""


def run(count: int, seed: int, place: Path) -> Iterator[tuple[Case, str, str]]:
    """Examine cases one after the other."""
    make_pictures(place)
    for number in range(seed, seed + count):
        case = draw(number)
        yield case, *examine(case, place)


def main() -> int:
    """Run it from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        for case, end, said in run(given.count, 1_000_000 * given.seed, Path(place)):
            ends[end] += 1
            if end == "fault":
                print(case.told, said, flush=True)
    print(f"{given.count} tables: {ends['right']} read right, {ends['refused']} refused, {ends['fault']} faults")
    return 1 if ends["fault"] else 0


if __name__ == "__main__":
    sys.exit(main())
