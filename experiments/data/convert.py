"""`wormwheel data convert PATH --out DIR --to FORMAT`: the same driving in another format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from agents.recordings import load_episodes
from agents.recordings.convert import Converted, Format, convert
from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import ReadOptions
from experiments.console import check_json, progress, say, table, write_results


@dataclass(frozen=True)
class ConvertOptions:
    """Write a recording in another format, as a stream; the same command resumes after a stop."""

    path: Positional[Path]
    """The recording: a data set, a tub, a log, a table, a video with --table, ..."""
    out: Path
    """Directory to write to; empty or absent, or left by this command when it was stopped."""
    to: Format = "native"
    """The format: this project's own, LeRobot 3.0, Minari, or a Donkeycar tub (version 2)."""
    exact: bool = True
    """Pictures come back as they are; --no-exact takes each format's usual, smaller form (H.264, JPEG)."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How it is read."""
    json: Path | None = None
    """File for what was written, as JSON."""


def say_what_is_lost(episodes: EpisodeSet, to: Format) -> None:
    """Say what a format has no place for."""
    if to == "donkeycar" and len(episodes.centre) < len(episodes):
        say("note: a tub cannot say which frames are of side cameras: their made-up labels will pass for a person's")


def run(options: ConvertOptions) -> Path:
    """Convert; returns the directory."""
    check_json(options.json)
    episodes = load_episodes(options.path, options=options.reading)
    say_what_is_lost(episodes, options.to)

    def keep(made: Converted) -> None:
        write_results(options.json, "data convert", options, {**asdict(made), "directory": str(options.out)})

    with progress("converting", episodes.frame_count) as bar:
        made = convert(episodes, options.out, options.to, options.exact, bar.advance, keep)
    columns = ["episodes", "frames", "left out, undecodable", "episodes that stood already"]
    table(f"{options.out} ({options.to})", columns, [[f"{n:,}" for n in asdict(made).values()]], left=0)
    return options.out
