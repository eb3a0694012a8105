"""comma2k19: minutes of highway driving as logs of the car's bus and a video.

    ROUTE/SEGMENT/processed_log/CAN/steering_angle/{t,value}  degrees at the wheel, positive left, about 89 Hz
                  processed_log/CAN/speed/{t,value}           m/s
                  global_pose/frame_times                     the camera's clock, 20 Hz
                  global_pose/frame_{orientations,positions}  where the car was, if they are there: its yaw rate and
                                                              its speed by another instrument than the bus
                  video.hevc or video.mp4                     without it there are logs to plot, but not to learn from

The path may be a segment, a route, or up to two folders above. Steering is interpolated to the frames and divided by
the angle at full lock. Segments of a route share its `source`, so `split_by_source` keeps routes apart.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeSet
from agents.recordings.native import PickedFrames
from agents.recordings.options import ReadOptions
from agents.recordings.reading.assemble import cut_rows, make_episode
from agents.recordings.reading.clock import read_clock
from agents.recordings.reading.files import load_array, one_line
from agents.recordings.reading.video import VideoFile

EXPECTS = "comma2k19 (a segment with processed_log and global_pose, or a folder of such)"
"""What a path of this format looks like."""
TAKES = frozenset({"max_gap_s", "full_lock_deg", "degrees", "straight", "positive"})
"""Options that mean something in this format; see `agents.recordings.READERS`."""
USUAL_PERIOD_S = 0.05
"""The camera runs at 20 Hz."""
LONGEST_SILENCE_S = 0.2
"""A frame further than this from the next steering sample has no label, seconds."""

VIDEOS = ("video.hevc", "video.mp4", "qcamera.ts")
"""Names that a segment's film has, the best first."""

_MARK = "processed_log/CAN/steering_angle/t"


def recognises(path: Path) -> bool:
    """Say whether a path is a segment or a folder of segments."""
    return bool(_segments(path))


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read all segments at or below a path.

    Args:
        path: Segment, route, or a folder of routes.
        options: Nominal period, longest gap, angle at full lock.

    Returns:
        Episodes by route and segment number. Damaged segments and frames without a label are counted and left out, and
        so are segments without video when others have one.

    Raises:
        ValueError: if videos differ in size.
    """
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    episodes: list[Episode] = []
    line_s: dict[Path, float] = {}
    for segment in _segments(path):
        try:
            found = _read_segment(segment, options, line_s.get(segment.parent, 0.0), skipped)
        except Exception as error:  # NumPy's header parser lets out nearly anything.
            skipped["segment with damaged files"] += 1
            notices.append(f"{segment.name} left out: {one_line(error)}")
            continue
        if found:
            line_s[segment.parent] = found[-1].meta.start_s + found[-1].duration_s
        episodes += found
    filmed = [episode for episode in episodes if episode.source is not None]
    if not filmed and episodes:
        notices.append(
            "no video.hevc or video.mp4 beside the logs: there is steering and speed to plot, but nothing to learn from"
        )
    elif len(filmed) < len(episodes):
        skipped["segment without video"] += len(episodes) - len(filmed)
        episodes = filmed
    result = EpisodeSet(tuple(episodes), dict(skipped), tuple(notices))
    if episodes:
        _ = result.frame_size
    return result


def _segments(path: Path) -> list[Path]:
    """Return the segments at or up to three folders below a path, by route and number."""
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        found = [mark.parents[3] for mark in path.glob(depth + _MARK)]
        if found:
            return sorted(found, key=lambda segment: (str(segment.parent), segment.name.zfill(9)))
    return []


def _read_segment(segment: Path, options: ReadOptions, start_s: float, skipped: Counter[str]) -> list[Episode]:
    """Read one segment as one episode or, where its clock has gaps, several."""
    stamps_s = load_array(segment / "global_pose" / "frame_times").astype(np.float64).ravel()
    count = len(stamps_s)
    clock = read_clock(stamps_s, np.arange(count), np.zeros(count, bool), USUAL_PERIOD_S, options)
    steering_deg, labelled = _at(stamps_s, segment / "processed_log" / "CAN" / "steering_angle")
    steering = (
        (steering_deg - (options.straight or 0.0)) / (options.degrees or options.full_lock_deg) * options.side("left")
    )
    within = np.abs(steering) <= 1.0
    skipped["frame without a steering sample near it"] += int((~labelled).sum())
    skipped["steering outside [-1, 1]"] += int((labelled & ~within).sum())
    for reason in [reason for reason, times in skipped.items() if times == 0]:
        del skipped[reason]
    extras: dict[str, NDArray[Any]] = {}
    if (segment / "processed_log" / "CAN" / "speed" / "t").is_file():
        extras["speed_mps"] = _at(stamps_s, segment / "processed_log" / "CAN" / "speed")[0].astype(np.float32)
    extras |= _pose(segment / "global_pose", stamps_s)
    film = next((segment / name for name in VIDEOS if (segment / name).is_file()), None)
    video = VideoFile(film) if film is not None else None
    filmed = np.ones(count, bool) if video is None else np.arange(count) < _length(video, count)
    if not filmed.all():
        skipped["frame that the film does not have"] += int((labelled & within & ~filmed).sum())
    episodes = []
    for rows in cut_rows(np.flatnonzero(labelled & within & filmed), clock):
        meta = {
            "source": str(segment.parent),
            "vehicle": "car",
            "renderer": "camera" if video else "",
            "extra": {"segment": segment.name},
        }
        size = (video.height, video.width) if video else (0, 0)
        frames = PickedFrames(video, rows) if video else None
        episode = make_episode(steering, extras, clock, rows, size, frames, meta)
        about = dataclasses.replace(episode.meta, start_s=start_s + episode.meta.start_s)
        episodes.append(dataclasses.replace(episode, meta=about))
    return episodes


def _length(video: VideoFile, otherwise: int) -> int:
    """Return how many frames a film has; a raw stream does not tell, and its end is marked when it is read."""
    try:
        return len(video.stamps_s())
    except ValueError:
        return otherwise


def _pose(log: Path, stamps_s: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return yaw rate (positive left) and speed of the pose log, `[n]` each; nothing where it is missing or odd."""
    steps = len(stamps_s)
    step_s = np.diff(stamps_s)
    if steps < 2 or not (step_s > 0).all():
        return {}
    found: dict[str, NDArray[Any]] = {}
    if (log / "frame_orientations").is_file():
        turn = load_array(log / "frame_orientations").astype(np.float64)
        if turn.shape == (steps, 4) and np.isfinite(turn).all():
            # Unit quaternions from forward, right, down to the earth's frame: q(t)⁻¹ q(t + 1) is the turn between them.
            (w0, x0, y0, z0), (w1, x1, y1, z1) = turn[:-1].T, turn[1:].T
            down = w0 * z1 - z0 * w1 - x0 * y1 + y0 * x1
            same = np.sign(w0 * w1 + x0 * x1 + y0 * y1 + z0 * z1)
            rate = -2 * same * down / step_s
            found["yaw_rate_radps"] = np.append(rate, rate[-1]).astype(np.float32)
    if (log / "frame_positions").is_file():
        place = load_array(log / "frame_positions").astype(np.float64)
        if place.shape == (steps, 3) and np.isfinite(place).all():
            speed = np.linalg.norm(np.diff(place, axis=0), axis=1) / step_s
            found["pose_speed_mps"] = np.append(speed, speed[-1]).astype(np.float32)
    return found


def _at(moments_s: NDArray[np.float64], log: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Interpolate a log to given moments; False where no sample is near."""
    time_s = load_array(log / "t").astype(np.float64).ravel()
    value = load_array(log / "value").astype(np.float64).ravel()
    if time_s.shape != value.shape:
        raise ValueError(f"{log} should have as many values as times, got {value.size} and {time_s.size}.")
    usable = np.isfinite(time_s) & np.isfinite(value)
    time_s, value = time_s[usable], value[usable]
    if len(time_s) == 0:
        raise ValueError(f"{log} holds no usable sample.")
    order = np.argsort(time_s, kind="stable")
    time_s, value = time_s[order], value[order]
    after = np.clip(np.searchsorted(time_s, moments_s), 0, len(time_s) - 1)
    before = np.maximum(after - 1, 0)
    silence_s = np.minimum(np.abs(time_s[after] - moments_s), np.abs(time_s[before] - moments_s))
    return np.interp(moments_s, time_s, value), silence_s <= LONGEST_SILENCE_S
