"""`wormwheel data fix PATH --out DIR`: a mended copy; the recording itself is never touched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from agents.recordings import load_episodes
from agents.recordings.convert import Converted, Format, convert
from agents.recordings.doctor.mend import mend
from agents.recordings.options import ReadOptions
from experiments.console import check_json, progress, say_next, screen, write_results
from experiments.data.check import examine_split
from experiments.data.convert import say_what_is_lost
from experiments.training_sets import SplitOptions


@dataclass(frozen=True)
class FixOptions:
    """Write a copy in which what `data check` found is mended, as far as the recording tells how.

    Broken records are left out, repeats dropped, rows put in order; steering that looks flipped is turned round, labels
    ahead of or behind the pictures are shifted, an offset is taken off. A clock that lies needs --nominal-rate.
    """

    path: Positional[Path]
    """The recording: a data set, a tub, a log, a table, a video with --table, ..."""
    out: Path
    """Directory of the copy; empty or absent."""
    to: Format = "native"
    """Its format."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How the recording is read."""
    split: Annotated[SplitOptions, arg(name="")] = SplitOptions()
    """What training would hold out; frames on both sides are dropped from the later one."""
    json: Path | None = None
    """File for what was done, as JSON."""


def run(options: FixOptions) -> Path:
    """Mend; returns the directory."""
    check_json(options.json)
    episodes = load_episodes(options.path, options=options.reading)
    report = examine_split(episodes, options.split)
    mended, lines = mend(episodes, report)
    if len(mended) == 0:
        raise ValueError(f"{options.path}: nothing is left after mending; see wormwheel data check.")

    say_what_is_lost(mended, options.to)

    def keep(made: Converted) -> None:
        write_results(options.json, "data fix", options, {**asdict(made), "done": lines, "directory": str(options.out)})

    with progress("writing", mended.frame_count) as bar:
        made = convert(mended, options.out, options.to, True, bar.advance, keep)
    for line in lines or ["nothing had to be mended beyond what is left out when it is read"]:
        screen().print(line, markup=False, soft_wrap=True)
    screen().print(f"{made.frames:,} frames in {made.episodes:,} episodes: {options.out}", markup=False, soft_wrap=True)
    say_next("to look at it again", "data", "check", options.out)
    return options.out
