"""A whole driver to start from, such as one that learnt in simulation, made ready for recordings of another car.

Its frames are cropped so that the road lies in them as it knows it, and its steering is converted to the kind of car,
by the rules by which it would be shown the recording without learning (`experiments.evaluate.default_view`). So before
the first step it drives the recording as `wormwheel evaluate --data` has it, and learning goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agents.imitation.train import ImitationConfig
from agents.recordings.episodes import EpisodeSet
from experiments.console import say
from experiments.evaluate.default_view import crops_for, gain_for, road_view
from experiments.policy_paths import find_policy
from experiments.training_sets import FrameOptions, choose_preprocessing
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

EPOCHS = 15
"""Rounds through a few minutes of real driving that a driver needs which can drive already."""
RATE = 0.3
"""Factor on both learning rates: what it knows is to be bent, not replaced."""


@dataclass(frozen=True)
class Start:
    """A driver to start from.

    Attributes:
        policy: it, with its steering converted to the kind of car.
        preprocessing: how frames of the recordings are shown to it.
    """

    policy: DrivingPolicy
    preprocessing: Preprocessing

    def config(self, dropout: float, **fields: Any) -> PolicyConfig:
        """Return what the driver that is trained is made of; `fields` of its config come on top.

        Its period stays: elapsed time is to be counted in that, as when it drives.
        """
        mine = self.policy.config
        return replace(
            mine,
            head=replace(mine.head, dropout=dropout),
            preprocessing=self.preprocessing,
            **fields,
        )


def gently(learning: ImitationConfig) -> ImitationConfig:
    """Return how a driver that can drive already learns more."""
    return replace(
        learning,
        epochs=min(learning.epochs, EPOCHS),
        head_learning_rate=RATE * learning.head_learning_rate,
        core_learning_rate=RATE * learning.core_learning_rate,
    )


def shape_of(path: Path, frames: FrameOptions) -> tuple[str, FrameOptions]:
    """Return the core of a driver, and the options of frames with the rows and columns that it sees."""
    config = load_policy(find_policy(path)).config
    return config.core, replace(frames, height=config.preprocessing.height, width=config.preprocessing.width)


def start_from(path: Path, episodes: EpisodeSet, frames: FrameOptions, core: str, option: str = "--core") -> Start:
    """Make a driver ready to learn from recordings.

    Args:
        path: run or policy directory of the driver.
        episodes: the recordings as they were read, neither cropped nor resized.
        frames: a crop given there is taken, else the one that shows the road as the driver knows it.
        core: the one that is asked for.
        option: which asks for it.

    Raises:
        ValueError: if the driver has another core, or sees frames of another size than `frames` asks for.
    """
    policy = load_policy(find_policy(path))
    fit = policy.config.preprocessing
    if core != policy.config.core:
        raise ValueError(
            f"{path} is a driver with core {policy.config.core}, which is trained as it is, got {option} {core}: leave "
            "it out."
        )
    if (frames.height, frames.width) != (fit.height, fit.width):
        raise ValueError(
            f"{path} sees {fit.width}×{fit.height} pixels, got --width {frames.width} --height {frames.height}: leave "
            "them out."
        )
    given = frames.crop_top is not None or any((frames.crop_bottom, frames.crop_left, frames.crop_right))
    if episodes.frame_size == (fit.source_height, fit.source_width) and not given:
        return Start(policy, fit)
    road = road_view(episodes)
    if given:
        shown = choose_preprocessing(episodes.frame_size, frames)
    else:
        rows, columns = episodes.frame_size
        crops: dict[str, Any] = dict(crops_for(policy.config, episodes.frame_size, road))
        shown = Preprocessing(source_height=rows, source_width=columns, height=fit.height, width=fit.width, **crops)
    gain = None if road is None else gain_for(policy.config, road)
    outputs = policy.core.output_map()
    if gain is not None and outputs:
        with torch.no_grad():
            for parameter in outputs:
                parameter[:1] *= gain
        say(f"{path}: its steering begins {gain:.2f} times as strong, for this kind of car")
    return Start(policy, shown)
