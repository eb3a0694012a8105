"""From recordings to what a learner takes: frames of the driver's size, and three sets that do not overlap.

Training, validation and held-out frames are blocks of time with a gap between them, or whole episodes. The validation
set chooses the best epoch, so figures on the held-out set are not flattered by that choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from agents.recordings.cache import materialise
from agents.recordings.episodes import EpisodeSet
from agents.recordings.native import PickedFrames, RawFrames
from agents.recordings.splits import split_by_episode, split_by_time_block
from experiments.console import progress
from policies.preprocessing import Preprocessing

MANY_EPISODES = 10
"""From so many simulated episodes on, whole episodes are held out unless told otherwise."""


@dataclass(frozen=True)
class FrameOptions:
    """How recorded frames become what the driver sees."""

    height: int = 48
    """Rows that the driver sees, pixels."""
    width: int = 96
    """Columns that the driver sees, pixels."""
    crop_top: int | None = None
    """Rows cut off at the top, pixels of the recording; when not given, as many as keep the shape of height × width."""
    crop_bottom: int = 0
    """Rows cut off at the bottom, pixels of the recording."""
    crop_left: int = 0
    """Columns cut off on the left, pixels of the recording."""
    crop_right: int = 0
    """Columns cut off on the right, pixels of the recording."""


@dataclass(frozen=True)
class SplitOptions:
    """Which frames are kept from the learner."""

    hold_out: float = 0.2
    """Share of the driving that is held out to test on, in (0, 1); 0 holds nothing out."""
    validation: float = 0.1
    """Share of the rest that chooses the best epoch, in (0, 1)."""
    split: Literal["auto", "time", "episode"] = "auto"
    """What is held out: the last block of "time" of each recording, or whole "episode"s drawn by chance; "auto" takes
    episodes for simulated sets of ten or more."""
    gap_s: float = 2.0
    """Time left out before a held-out block, seconds."""
    split_seed: int = 0
    """Seed of the draw of episodes."""


@dataclass(frozen=True)
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


def fit_frames(episodes: EpisodeSet, preprocessing: Preprocessing, directory: Path) -> EpisodeSet:
    """Crop and resize every frame once, to disk; frames that fit already are read where they are.

    Args:
        episodes: what was recorded.
        preprocessing: crop and resize.
        directory: where the fitted frames go; replaced.
    """
    raw = all(isinstance(episode.source, (RawFrames, PickedFrames)) for episode in episodes)
    if preprocessing.is_identity and raw:
        return episodes
    with progress("fitting frames", episodes.frame_count) as bar:
        return materialise(episodes, directory, fitter(preprocessing), lambda done, total: bar.update(done))


def fitter(preprocessing: Preprocessing) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Return the preprocessing as a function on arrays."""

    def fit(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return preprocessing(torch.from_numpy(frames)).numpy()

    return fit


def split(episodes: EpisodeSet, options: SplitOptions) -> Sets:
    """Divide episodes into training, validation and held-out sets.

    Raises:
        ValueError: if there is too little driving for that.
    """
    by_episode = options.split == "episode" or (options.split == "auto" and _are_many(episodes))

    def part(whole: EpisodeSet, share: float) -> tuple[EpisodeSet, EpisodeSet]:
        if by_episode:
            return split_by_episode(whole, share, options.split_seed)
        return split_by_time_block(whole, share, options.gap_s)

    held_out = None
    if options.hold_out:
        episodes, held_out = part(episodes, options.hold_out)
    training, validation = part(episodes, options.validation)
    return Sets(training, validation, held_out)


def _are_many(episodes: EpisodeSet) -> bool:
    return len(episodes) >= MANY_EPISODES and all(episode.meta.seed is not None for episode in episodes)
