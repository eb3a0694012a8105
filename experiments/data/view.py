"""`wormwheel data view PATH`: a film of a recording with its steering drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from tyro.conf import Positional, arg

from agents.recordings.doctor.motion import measure_motion
from agents.recordings.episodes import Episode
from agents.recordings.options import ReadOptions
from agents.runs.ours import check_ours
from envs.dashboard.canvas import text
from experiments.console import check_json, progress, say, write_results
from experiments.data.reading import load
from experiments.data.step_picture import check_picture, draw_step
from experiments.film.video import VideoWriter

WIDTH = 640
"""Columns of the film."""
FOOT = 96
"""Rows below the picture, for the steering."""
_STEER = (255, 183, 77)
_LINE = (90, 100, 120)


@checked(frozen=True, config={"extra": "forbid"})
class FilmOptions:
    """What of the recording is shown."""

    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Longest film, seconds."""


@dataclass(frozen=True)
class ViewOptions:
    """Film a recording with its steering drawn; --from-s, --to-s and --episodes choose the part."""

    path: Positional[Path]
    """The recording: a data set, a tub, a log, a table, a video with --table, ..."""
    out: Path | None = None
    """MP4 file; the recording's name with .mp4 in the current directory when not given."""
    film: Annotated[FilmOptions, arg(name="")] = FilmOptions()
    """How much is shown."""
    step: Path | None = None
    """PNG file as well, for steering and turning over time: it shows whether pictures and labels are in step."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How it is read."""
    json: Path | None = None
    """File for what was filmed, as JSON."""


def run(options: ViewOptions) -> Path:
    """Film; returns the file."""
    check_json(options.json)
    out = options.out or Path(f"{options.path.resolve().stem}.mp4")
    check_ours(out, options.step)
    check_picture(options.step)
    episodes = load(options.path, options.reading)
    if any(episode.source is None for episode in episodes):
        raise ValueError(f"{options.path} has no pictures, only logs: there is nothing to show.")
    period_s = float(np.median([episode.meta.nominal_period_s for episode in episodes]))
    left = max(1, round(options.film.seconds / period_s))
    total = min(left, episodes.frame_count)
    first = episodes[0].meta
    height = max(2, round(WIDTH * first.height / first.width) // 2 * 2)
    with VideoWriter(out, 1 / period_s) as writer, progress("filming", total) as bar:
        for number, episode in enumerate(episodes):
            shown = min(left, len(episode))
            for start in range(0, shown, 64):
                stop = min(start + 64, shown)
                for step, frame in enumerate(episode.frames(start, stop), start):
                    writer.append(draw(frame, episode, step, f"episode {number}", height))
                bar.advance(stop - start)
            left -= shown
            if left <= 0:
                break
    say(f"film: {out}")
    write_results(options.json, "data view", options, {"film": str(out), "frames": writer.frame_count})
    if options.step is not None:
        draw_step(measure_motion(episodes), options.step, str(options.path))
        say(f"picture: {options.step}")
    return out


def draw(frame: NDArray[np.uint8], episode: Episode, step: int, title: str, height: int) -> NDArray[np.uint8]:
    """Draw one frame, enlarged, with the steering below it: a bar that grows to the side of the steering, and its past.

    Args:
        frame: uint8 `[H, W, 3]`.
        episode: Where it stands.
        step: Which it is.
        title: A few words.
        height: Rows of the picture in the film.

    Returns:
        uint8 `[height + FOOT, WIDTH, 3]`.
    """
    canvas = np.zeros((height + FOOT, WIDTH, 3), np.uint8)
    canvas[:height] = cv2.resize(frame, (WIDTH, height), interpolation=cv2.INTER_LINEAR)
    steering = float(episode.steering[step])
    middle, reach, row = WIDTH // 2, WIDTH // 2 - 20, height + 18
    cv2.line(canvas, (middle - reach, row), (middle + reach, row), _LINE, 1, cv2.LINE_AA)
    end = int(round(middle - steering * reach))  # positive is left
    cv2.rectangle(canvas, (min(middle, end), row - 7), (max(middle, end), row + 7), _STEER, -1)
    cv2.line(canvas, (middle, row - 10), (middle, row + 10), (232, 238, 247), 1)
    past = episode.steering[max(0, step - 100) : step + 1]
    points = (
        np.stack([middle + 2 * (np.arange(len(past)) - len(past) + 1), height + 62 - 24 * past], axis=1)
        .round()
        .astype(np.int32)
    )
    cv2.polylines(canvas, [points], False, _STEER, 1, cv2.LINE_AA)
    time_s = episode.meta.start_s + float(episode.time_s[step] - episode.time_s[0])
    text(canvas, f"{title}, frame {step}, {time_s:.2f} s", 12, height + FOOT - 20, 13)
    side = "left" if steering > 0 else "right" if steering < 0 else "straight"
    text(canvas, f"{abs(steering):.2f} {side}", WIDTH - 12, height + FOOT - 20, 13, anchor="r")
    return canvas
