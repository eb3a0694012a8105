"""What a command has left, in a form that two runs can be compared in: all but clocks, names by chance and the command.

snapshot(Path("runs/a"))["metrics.jsonl"]
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from agents.runs.directory import LEDGER
from tests.reliability.zygote import without_chance

CLOCKS = {
    *("started", "command", "seconds", "training_s", "frames_per_s", "resume", "resumed", "new_frames", "steps_per_s"),
    *("timestamp", "time", "t", "finished", "learner.safetensors", "fps", "machine", "generated", "wall_s"),
}
"""Keys of JSON objects whose values are times, speeds, how much stood already, how the command was typed, or digests
over such values."""
_CLOCKS_IN_PAGES = (
    re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00|Z| UTC)?"),
    re.compile(r"\d+(\.\d+)? (s|seconds|min|minutes|ms)\b"),
    re.compile(r"\d+ (min|h) \d+ (s|min)\b"),
    re.compile(r"wormwheel [^<\n]*--resume[^<\n]*"),
)


def snapshot(directory: Path) -> dict[str, str]:
    """Return the content of everything below a directory by its name, comparable; a directory's content is its kind."""
    found: dict[str, str] = {}
    events: dict[str, list[str]] = {}
    for path in sorted(directory.rglob("*")):
        name = without_chance(str(path.relative_to(directory)))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            found[name] = "directory"
        elif "events.out.tfevents" in name:
            events.setdefault(name, []).extend(_events(path))
        elif not path.is_file():
            found[name] = "something else"
        else:
            while name in found:  # Two that differ by chance alone: both are of interest.
                name += "+"
            found[name] = _content(path)
    return {**found, **{name: "\n".join(sorted(lines)) for name, lines in events.items()}}


def differences(expected: dict[str, str], got: dict[str, str]) -> list[str]:
    """Say in what two snapshots differ, in a line each."""
    lines = [f"missing: {name}" for name in expected if name not in got]
    lines += [f"left over: {name}" for name in got if name not in expected]
    for name, content in expected.items():
        if name in got and got[name] != content:
            lines.append(f"other: {name}: {_first_difference(content, got[name])}")
    return lines


def _content(path: Path) -> str:
    """Return a file's content without clocks; a digest where it is not text."""
    content = path.read_bytes()
    if path.name == LEDGER:  # A resumed training has an event file for each start; their figures are compared as one.
        return "\n".join(sorted(set(json.loads(without_chance(content.decode("utf-8"))))))
    if path.suffix in (".json", ".jsonl"):
        try:
            text = without_chance(content.decode("utf-8"))
            lines = [text] if path.suffix == ".json" else text.splitlines()
            return "\n".join(json.dumps(_timeless(json.loads(line)), indent=1) for line in lines)
        except ValueError:
            return text
    if path.name == "learner.safetensors":  # Its header keeps when each of the last episodes ended.
        length = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:length])
        inner = _timeless(json.loads(header["__metadata__"].pop("learner")))
        parts = sorted(
            (name, hashlib.sha256(content[length:][slice(*value["data_offsets"])]).hexdigest(), value["shape"])
            for name, value in header.items()
            if name != "__metadata__"
        )
        return json.dumps([inner, parts], indent=1)
    if path.name == "trials.log":  # Optuna's journal holds every word of a killed trial; the table is what counts.
        return "journal"
    if path.suffix == ".parquet":
        import pandas as pd

        table = pd.read_parquet(path)
        return str(table.drop(columns=[name for name in table.columns if name in CLOCKS]).to_csv())
    if path.suffix in (".html", ".md", ".xml"):
        text = content.decode("utf-8")
        for pattern in _CLOCKS_IN_PAGES:
            text = pattern.sub("…", text)
        return re.sub(r'(time|timestamp)="[^"]*"', "", text)
    return hashlib.sha256(content).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in CLOCKS}
    if isinstance(value, list):
        return [_timeless(inner) for inner in value]
    return value


def _events(path: Path) -> list[str]:
    """Return the figures of an event file, one a line."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    lines = []
    for content in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(content)
        for value in event.summary.value:
            if value.tag in CLOCKS or value.tag.rpartition("/")[2] in CLOCKS or value.tag.startswith("_hparams_"):
                continue
            number = value.simple_value if value.HasField("simple_value") else value.tensor.SerializeToString().hex()
            lines.append(f"{value.tag} {event.step} {number!r}")
    return lines


def _first_difference(one: str, other: str) -> str:
    for number, (mine, yours) in enumerate(zip(one.splitlines(), other.splitlines(), strict=False)):
        if mine != yours:
            at = next((i for i, (a, b) in enumerate(zip(mine, yours, strict=False)) if a != b), 0)
            cut = slice(max(0, at - 60), at + 60)
            return f"line {number}: {mine[cut]!r} is now {yours[cut]!r}"
    return f"{len(one.splitlines())} lines are now {len(other.splitlines())}"
