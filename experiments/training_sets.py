"""From recordings to what a learner takes: frames of the driver's size, and three sets that do not overlap.

Training, validation and held-out frames are blocks of time with a gap between them, or whole episodes. The validation
set chooses the best epoch, so figures on the held-out set are not flattered by that choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from agents.recordings import native
from agents.recordings.cache import cache_frames, held_in_memory
from agents.recordings.doctor.leaks import shared_files, with_digests
from agents.recordings.doctor.view import view_facts
from agents.recordings.episodes import EpisodeSet
from agents.recordings.native import PickedFrames, RawFrames
from agents.recordings.splits import split_by_episode, split_by_time_block
from agents.runs.reading import read_json
from experiments.console import progress
from experiments.options import refuse_unused
from policies.preprocessing import Preprocessing

MOST_COPIES = 2
"""Frames of a set that may be copies of others by chance: a picture all black or white."""
MANY_EPISODES = 10
"""From so many simulated episodes on, whole episodes are held out by default."""


@dataclass(frozen=True, config={"extra": "forbid"})
class FrameOptions:
    """How recorded frames become what the driver sees."""

    height: PositiveInt = 48
    """Rows that the driver sees, pixels."""
    width: PositiveInt = 96
    """Columns that the driver sees, pixels."""
    crop_top: NonNegativeInt | None = None
    """Rows cut off at the top, pixels of the recording; when not given, what lies above the horizon where the frames
    show it, else as many as keep the shape of height × width."""
    crop_bottom: NonNegativeInt = 0
    """Rows cut off at the bottom, pixels of the recording; without --crop-top, the car's own bonnet as well."""
    crop_left: NonNegativeInt = 0
    """Columns cut off on the left, pixels of the recording."""
    crop_right: NonNegativeInt = 0
    """Columns cut off on the right, pixels of the recording."""


@dataclass(frozen=True, config={"extra": "forbid"})
class SplitOptions:
    """Which frames are kept from the learner."""

    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the driving that is held out to test on, in [0, 1); 0 holds nothing out."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rest that chooses the best epoch, in (0, 1)."""
    split: Literal["auto", "time", "episode"] = "auto"
    """What is held out: the last block of "time" of each recording, or whole "episode"s drawn at random; "auto" takes
    episodes for simulated sets of ten or more."""
    gap_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    """Time left out before a held-out block, seconds."""
    split_seed: NonNegativeInt = 0
    """Seed of the draw of episodes."""


@plain(frozen=True)
class Sets:
    """Episodes to learn from, to choose by and to test on."""

    training: EpisodeSet
    """To learn from."""
    validation: EpisodeSet
    """To choose the best epoch by."""
    held_out: EpisodeSet | None
    """To test on; None when nothing is held out."""

    @property
    def steering_mean(self) -> float:
        """Mean steering of the training set, in [−1, 1]."""
        return float(np.concatenate([episode.steering for episode in self.training]).mean())


def choose_preprocessing(frame_size: tuple[int, int], options: FrameOptions) -> Preprocessing:
    """Choose crop and resize for frames of a size.

    Args:
        frame_size: rows and columns of the recording, pixels.
        options: what the user wants; without `crop_top`, the top is cropped until what is left has the shape of the
            driver's frame. The horizon and the ceiling go, the road stays.

    Raises:
        ValueError: if nothing would be left.
    """
    rows, columns = frame_size
    top = options.crop_top
    if top is None:
        kept_rows = (columns - options.crop_left - options.crop_right) * options.height / max(options.width, 1)
        top = max(0, rows - options.crop_bottom - round(kept_rows))
    return Preprocessing(
        source_height=rows,
        source_width=columns,
        crop_top=top,
        crop_bottom=options.crop_bottom,
        crop_left=options.crop_left,
        crop_right=options.crop_right,
        height=options.height,
        width=options.width,
    )


def crop_by_view(
    episodes: EpisodeSet, options: FrameOptions, view: dict[str, Any] | None = None
) -> tuple[FrameOptions, str]:
    """Take the crop from the frames where none was given: what lies above the horizon goes, and the car's own bonnet.

    Args:
        episodes: recordings, as they were read.
        options: what the user wants.
        view: what the camera sees, as `view_facts` returns it; looked at when None.

    Returns:
        The options with that crop, and why it was taken; unchanged and "" where a crop was given, the pictures were
        drawn by a simulator of ours, or show no horizon.
    """
    drawn = all(episode.meta.seed is not None for episode in episodes)
    if options.crop_top is not None or drawn or not episodes.frame_size[0]:
        return options, ""
    view = view_facts(episodes) if view is None else view
    rows = episodes.frame_size[0]
    bottom = max(options.crop_bottom, view.get("crop_bottom") or 0)
    if view.get("crop_top") is None or rows - view["crop_top"] - bottom < rows // 4:
        return options, ""
    why = f", for the horizon lies at {view['horizon']:.0%} of the height, by {view['horizon_by']}"
    return replace(options, crop_top=view["crop_top"], crop_bottom=bottom), why


def are_simulated(paths: Sequence[Path]) -> bool:
    """Say by their headers, without reading the frames, whether all recordings come from a simulator.

    Args:
        paths: recordings of any format; one that cannot be read counts as real, and reading it says what is wrong.
    """
    return all(_is_simulated(path) for path in paths)


def _is_simulated(path: Path) -> bool:
    if not native.recognises(path):
        return False
    try:
        first = native.episode_directories(path)[0]
        return read_json(first / "meta.json")["seed"] is not None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return False


def fit_frames(episodes: EpisodeSet, preprocessing: Preprocessing, directory: Path) -> EpisodeSet:
    """Crop and resize every frame once, to disk; frames that fit already are read where they are.

    Small sets are held in memory after that.

    Args:
        episodes: what was recorded.
        preprocessing: crop and resize.
        directory: where the fitted frames go; replaced.
    """
    raw = all(isinstance(episode.source, (RawFrames, PickedFrames)) for episode in episodes)
    if preprocessing.is_identity and raw:
        return held_in_memory(episodes)
    with progress("fitting frames", episodes.frame_count) as bar:
        fitted = cache_frames(episodes, directory, fitter(preprocessing), lambda done, total: bar.update(done))
    return held_in_memory(fitted)


def fitter(preprocessing: Preprocessing) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Return the preprocessing as a function on arrays."""

    def fit(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return preprocessing(torch.from_numpy(frames)).numpy()

    return fit


def split(episodes: EpisodeSet, options: SplitOptions, refuse_leaks: bool = True) -> Sets:
    """Divide episodes into training, validation and held-out sets.

    Side cameras are for training alone: the other two sets hold centre frames only.

    Args:
        episodes: what was recorded.
        options: what is held out.
        refuse_leaks: check that no frame of a set is a copy of one of another.

    Raises:
        ValueError: if there is too little driving for that, or a set would be tested on what it was trained on.
    """
    if refuse_leaks:
        episodes = with_digests(episodes)
    by_episode = options.split == "episode" or (options.split == "auto" and _are_many(episodes))
    if by_episode:
        refuse_unused(options, ("gap_s",), "whole episodes are held out; --split time holds out blocks of time")
    else:
        refuse_unused(options, ("split_seed",), "the last block of time is held out; --split episode draws episodes")

    def part(whole: EpisodeSet, share: float) -> tuple[EpisodeSet, EpisodeSet]:
        if by_episode:
            return split_by_episode(whole, share, options.split_seed)
        return split_by_time_block(whole, share, options.gap_s)

    held_out = None
    if options.hold_out:
        episodes, held_out = part(episodes, options.hold_out)
    training, validation = part(episodes, options.validation)
    if refuse_leaks and held_out is not None:
        check_apart(training, held_out)
        check_apart(validation, held_out, by="chosen by")
    if refuse_leaks:
        check_apart(training, validation, "validation", flattered="the choice of the best epoch")
    return Sets(training, validation, held_out)


def check_apart(
    training: EpisodeSet,
    other: EpisodeSet,
    name: str = "held-out",
    by: str = "trained on",
    flattered: str = "the test",
) -> None:
    """Check that a set holds no copies of what is learnt from, or of what the best epoch is chosen by.

    Args:
        training: what is learnt from or chosen by.
        other: the set.
        name: of the set.
        by: what is done with the first ones.
        flattered: what would be too good.

    Raises:
        ValueError: if there are more than chance would have.
    """
    copies, example = shared_files(training, other)
    if copies > MOST_COPIES:
        raise ValueError(
            f"{copies:,} of {other.frame_count:,} {name} frames are copies of frames that are {by}, the first is "
            f"{example}: {flattered} would be flattered. See wormwheel data check, or mend by data fix."
        )


def _are_many(episodes: EpisodeSet) -> bool:
    return len(episodes) >= MANY_EPISODES and all(episode.meta.seed is not None for episode in episodes)
