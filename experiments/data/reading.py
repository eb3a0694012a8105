"""What the verbs of `wormwheel data` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.recordings import donkeycar, load_episodes, reader_of
from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import ReadOptions


def load(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read the recording at a path, pictures of any sizes."""
    return load_episodes(path, options=options, mixed_sizes=True)


def format_of(path: Path) -> str:
    """Return the name of the format that is found at a path."""
    reader = reader_of(path)
    if reader is None:
        return "unknown"
    name = reader.__name__.rpartition(".")[2]
    if name == "donkeycar":
        packed = path.suffix.lower() in (".zip", ".gz", ".tgz", ".tar")
        version = 2 if packed or path.is_file() or not any(donkeycar.tub_in(path).glob("record_*.json")) else 1
        return f"donkeycar{' (packed)' if packed else f' (version {version})'}"
    return name


def shown(value: Any) -> str:
    """Write a fact in a table."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
