"""`wormwheel record`: the expert drives, and what the camera sees is kept beside what it steers.

wormwheel record --out runs/record --frames 20000 --vehicle bullet
wormwheel train imitation --data runs/record
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.record import RecorderConfig, RecordingProgress, RecordingSummary, record, with_vehicle
from agents.recordings.writer import EpisodeWriter
from agents.runs.directory import check_directory, open_run
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.console import check_json, new_directory, progress, say, say_next, table, with_tracks, write_results
from experiments.options import check_resume
from experiments.robustness.provenance import fingerprint_roads

WORLD = LaneKeepingConfig(episode_s=6.0, start_offset=0.4, start_heading_rad=0.25)
"""Where the expert drives unless told otherwise: short episodes, so that the data see many roads, and starts well off
the middle of the lane, so that they show how to come back."""

FREE = ("out", "workers", "resume", "json")
"""Options that may change when a recording is resumed."""
RESULTS = ("episode_*",)
"""What is worth keeping of a recording."""


@dataclass(frozen=True, config={"extra": "forbid"})
class RecordOptions:
    """Let the expert drive and record frames and steering.

    The wheel is pushed now and then; the label stays what the expert steers, so the data show how to come back.
    """

    out: Path | None = None
    """Directory of the data set; runs/record, with a number added if that is taken, when not given."""
    recorder: Annotated[RecorderConfig, arg(name="")] = RecorderConfig()
    """How much, how disturbed."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = WORLD
    """Where it drives."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 2
    """Processes that record; they do not change what is recorded."""
    resume: bool = False
    """Resume a recording that was stopped: only the episodes that are missing are made."""
    json: Path | None = None
    """File for what was recorded and how fast, as JSON."""


def run(options: RecordOptions) -> Path:
    """Record; returns the directory of the data set."""
    check_json(options.json)
    if options.world.throttle:
        raise ValueError("the expert steers and leaves the speed to the cruise controller: record without --throttle.")
    world = with_vehicle(with_tracks(options.world))
    options = replace(options, world=world)
    out = new_directory(options.out, "runs/record")
    check_directory(out, "record", options.resume and out.exists(), RESULTS)
    if options.resume:
        check_resume(out, options, FREE)
    resume = options.resume and out.exists()
    with open_run(out, "record", options, resume, RESULTS, fingerprint_roads(world)) as directory:
        EpisodeWriter(out)
        directory.begin()
        return _record(out, world, options)


def _record(out: Path, world: LaneKeepingConfig, options: RecordOptions) -> Path:
    """Record to a directory; returns it."""
    started_s = time.perf_counter()
    with progress("recording", options.recorder.frames) as bar:

        def note(made: RecordingProgress) -> None:
            bar.advance(made.frames)

        recorded = record(out, world, options.recorder, options.workers, note)
    seconds = time.perf_counter() - started_s
    figures = _figures(recorded, options, seconds)
    table(
        f"recorded to {out}",
        ["frames", "episodes", "of driving", "driven again", "frames per second"],
        [
            [
                f"{recorded.frames:,}",
                f"{recorded.episodes:,}",
                f"{figures['driving_s'] / 60:.1f} min",
                str(recorded.redrawn),
                f"{figures['frames_per_s']:,.0f}",
            ]
        ],
        left=0,
    )
    if recorded.redrawn:
        drives = (
            "1 drive ended off the road and was"
            if recorded.redrawn == 1
            else f"{recorded.redrawn} drives ended off the road and were"
        )
        say(f"note: {drives} driven again, pushed less")
    say_next("to train on it", "train", "imitation", "--data", out)
    write_results(options.json, "record", options, {**figures, "directory": str(out)})
    return out


def _figures(recorded: RecordingSummary, options: RecordOptions, seconds: float) -> dict[str, Any]:
    """Return what was recorded and how fast."""
    new = recorded.frames - recorded.kept_frames
    return {
        "frames": recorded.frames,
        "episodes": recorded.episodes,
        "driving_s": recorded.frames * options.world.period_s,
        "redrawn_episodes": recorded.redrawn,
        "new_frames": new,
        "seconds": seconds,
        "frames_per_s": new / seconds,
    }
