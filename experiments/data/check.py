"""`wormwheel data check PATH`: a doctor for recordings; exit code 1 when something should be mended first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from agents.recordings.doctor import Report, examine
from agents.recordings.doctor.view import suggestion
from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import ReadOptions
from agents.runs.ours import check_ours
from experiments.console import check_json, duration, say, screen, table, write_results
from experiments.data.reading import load
from experiments.data.step_picture import check_picture, draw_step
from experiments.training_sets import FrameOptions, SplitOptions, crop_by_view, split

FAULTS_FOUND = 1
"""Exit code when something should be mended first."""


@dataclass(frozen=True)
class CheckOptions:
    """Look for what would spoil the learning or flatter the test, and say what to do.

    Looked for: records left out, a clock that lies, labels all equal, steering turned round, labels ahead of or behind
    the pictures, an offset, held-out frames that stand in the training part, bends and light that are never shown.
    """

    path: Positional[Path]
    """The recording: a data set, a tub, a log, a table, a video with --table, ..."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How it is read."""
    split: Annotated[SplitOptions, arg(name="")] = SplitOptions()
    """What training would hold out; leaks are looked for between the two sides."""
    picture: Path | None = None
    """PNG file for steering and turning over time: it shows whether pictures and labels are in step."""
    json: Path | None = None
    """File for what was found, as JSON."""


def run(options: CheckOptions) -> int:
    """Examine; returns the exit code."""
    check_json(options.json)
    check_ours(options.picture)
    check_picture(options.picture)
    episodes = load(options.path, options.reading)
    report = examine_split(episodes, options.split)
    rows = [
        ["fault" if f.fault else "note", f.about, f"{f.what}.", f"{f.do[:1].upper()}{f.do[1:]}."]
        for f in report.findings
    ]
    title = f"{options.path}: {episodes.frame_count:,} frames, {duration(episodes.duration_s)}"
    if rows:
        table(title, ["", "about", "found", "what to do"], rows, left=4)
    else:
        screen().print(f"{title}: nothing found.", markup=False, soft_wrap=True)
    for line in measured(report, episodes):
        screen().print(line, markup=False, soft_wrap=True)
    figures = {"path": str(options.path), "findings": [f.to_json() for f in report.findings], "facts": report.facts}
    write_results(options.json, "data check", options, figures)
    if options.picture is not None:
        if report.motion is None:
            raise ValueError(
                f"{options.path} has no pictures and no yaw rate: there is nothing to compare steering with."
            )
        draw_step(report.motion, options.picture, str(options.path))
        say(f"picture: {options.picture}")
    return FAULTS_FOUND if report.faults else 0


def examine_split(episodes: EpisodeSet, options: SplitOptions) -> Report:
    """Examine a recording and the split that training would make of it."""
    training = held_out = None
    if options.hold_out:
        try:
            sets = split(episodes, options, refuse_leaks=False)
            training, held_out = sets.training, sets.held_out
        except ValueError as error:
            say(f"note: no leak is looked for: {error}")
    return examine(episodes, training, held_out)


def measured(report: Report, episodes: EpisodeSet) -> list[str]:
    """Say in words what was measured."""
    lines = []
    motion = report.facts.get("motion", {})
    if "correlation" in motion:
        lines.append(
            f"steering and turning in the pictures: correlation {motion['correlation']:.2f}, turning "
            f"{1000 * motion['lag_s']:.0f} ms after the steering, offset {motion['offset']:+.3f} of full lock"
        )
    view = report.facts.get("view", {})
    crop = suggestion(view, taken=bool(crop_by_view(episodes, FrameOptions(), view)[1]))
    if crop:
        lines.append(f"view: {crop}")
    return lines
