"""Donkeycar tubs, version 2 of the format.

    TUB/manifest.json       five JSON lines: inputs, types, metadata, sessions, and which catalogs and records count
        catalog_N.catalog   JSON lines, one a record
        images/             one picture a record

The manifest decides: catalogs that it does not name are left-overs and are passed over, records that it calls deleted
are dropped. Garbled lines and unusable pictures are counted and skipped. The angle is positive to the right and is
turned round. Records made while the pilot drove carry no human steering and are skipped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agents.recordings.episodes import EpisodeSet
from agents.recordings.reading import ReadOptions, Records, picture_episodes, read_clock, since_first_s, usable_steering

EXPECTS = "a Donkeycar tub, version 2 (a directory with manifest.json)"
"""What a path of this format looks like."""
USUAL_PERIOD_S = 0.05
"""Donkeycar's loop runs at 20 Hz unless told otherwise."""

_TOO_LARGE = 2**53


def recognises(path: Path) -> bool:
    """Say whether a path is a tub, its manifest, or what is left of a tub."""
    return _is_manifest(path) or (path.is_dir() and (_is_manifest(path / "manifest.json") or _has_remains(path)))


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a tub.

    Args:
        path: Its directory, or the manifest in it.
        options: Nominal period and longest gap.

    Returns:
        One episode for each stretch without a change of session, a step back of the running number, or a long gap.

    Raises:
        ValueError: if the manifest is missing or damaged, the tub is of version 1, or pictures differ in size.
    """
    tub = path.parent if path.is_file() else path
    manifest = _read_manifest(tub)
    skipped: Counter[str] = Counter()
    records = Records(extras={"throttle": []})
    numbers: list[int] = []
    stamps_ms: list[float] = []
    sessions: list[Any] = []
    deleted = frozenset(manifest["deleted_indexes"])
    for number, record in _records(tub, manifest["paths"], skipped):
        if number in deleted:
            skipped["deleted by its owner"] += 1
            continue
        if record.get("user/mode", "user") != "user":
            skipped["driven by the pilot, not a person"] += 1
            continue
        name = record.get("cam/image_array")
        if not isinstance(name, str) or not name:
            skipped["no picture named"] += 1
            continue
        angle = usable_steering(record.get("user/angle"), skipped)
        if angle is None:
            continue
        records.pictures.append(tub / "images" / Path(name.replace("\\", "/")).name)
        records.steering.append(-angle)
        records.extras["throttle"].append(_number(record.get("user/throttle")))
        numbers.append(number)
        stamps_ms.append(_number(record.get("_timestamp_ms")))
        sessions.append(record.get("_session_id"))
    if not numbers:
        return EpisodeSet((), dict(skipped))
    index = np.asarray(numbers, np.int64)
    breaks = np.zeros(len(index), bool)
    breaks[1:] = [now != before for before, now in zip(sessions, sessions[1:], strict=False)]
    breaks[1:] |= np.diff(index) <= 0
    clock = read_clock(since_first_s(stamps_ms), index, breaks, USUAL_PERIOD_S, options)
    meta = {"source": str(path), "vehicle": "donkeycar", "renderer": "camera"}
    episodes = picture_episodes(records, clock, meta, options, skipped)
    return EpisodeSet(tuple(episodes), dict(skipped), (clock.notice,) if clock.notice else ())


def _read_manifest(tub: Path) -> dict[str, Any]:
    """Return the manifest's last part: the catalogs to read and the records to drop."""
    path = tub / "manifest.json"
    if not path.is_file():
        if any(tub.glob("record_*.json")):
            raise ValueError(
                f"{tub} is a Donkeycar tub of version 1; convert it with Donkeycar's convert_to_tub_v2.py."
            )
        raise ValueError(f"{tub} has catalogs but no manifest.json, which says what counts; copy the whole tub again.")
    found: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict) and "paths" in content:
            found = content
    names, deleted = found.get("paths"), found.get("deleted_indexes", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not isinstance(deleted, list):
        raise ValueError(
            f"{path} should name the catalogs of the tub in a line with 'paths'; it is damaged, copy it again."
        )
    return {"paths": names, "deleted_indexes": [number for number in deleted if isinstance(number, int)]}


def _records(tub: Path, names: list[str], skipped: Counter[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield running number and content of each record of the catalogs, counting what cannot be read."""
    for name in names:
        catalog = tub / Path(name.replace("\\", "/")).name
        if not catalog.is_file():
            skipped["catalog missing"] += 1
            continue
        with catalog.open(encoding="utf-8-sig", errors="replace") as lines:
            for line in lines:
                if not line.strip(" \t\r\n\0"):
                    continue
                try:
                    record = json.loads(line)
                    number = int(record["_index"])
                    if not 0 <= number < _TOO_LARGE:
                        raise ValueError("not a running number")
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    skipped["garbled line"] += 1
                    continue
                yield number, record


def _number(value: Any) -> float:
    """Return a field as a float; NaN when it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _is_manifest(path: Path) -> bool:
    return path.name == "manifest.json" and path.is_file()


def _has_remains(path: Path) -> bool:
    return any(path.glob("catalog_*.catalog")) or any(path.glob("record_*.json"))
