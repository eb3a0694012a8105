"""What the trainer of imitation takes besides data: a head to start from, and views from beside the recorded line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.driving.recorded_world import RigOptions, camera_of
from agents.imitation.train import ImitationConfig
from agents.imitation.views import ViewSynthesis
from agents.recordings.episodes import EpisodeSet
from envs.camera.plane import View
from experiments.console import say
from experiments.learning_start import Start
from experiments.policy_paths import find_policy
from policies.checkpoint import load_policy
from policies.preprocessing import Preprocessing


def learning_extras(
    learning: ImitationConfig,
    init_head_from: Path | None,
    rig: RigOptions,
    episodes: EpisodeSet,
    preprocessing: Preprocessing,
    start: Start | None = None,
) -> dict[str, Any]:
    """Return arguments of `train_imitation`.

    Args:
        learning: how to learn; its views and whether the head stays as it is.
        init_head_from: run or policy directory whose conv head to start from.
        rig: camera and car of the recordings, where they do not know them.
        episodes: the recordings as they were read, neither cropped nor resized.
        preprocessing: how they are cropped and resized.
        start: a whole driver to start from.

    Raises:
        ValueError: if a camera is given for views that are not made, the head is to stay as it is and there is none, or
            the camera of the views is not known or not the only one.
    """
    if learning.freeze_head and init_head_from is None and start is None:
        raise ValueError("--freeze-head leaves the conv head as it is drawn: give --init-head-from or --init-from.")
    if not learning.views.share and rig != RigOptions():
        raise ValueError("--rig.… are for views from beside the line: give --views.share, or leave them out.")
    extras: dict[str, Any] = {} if start is None else {"initial": start.policy, "head_only": False}
    if init_head_from is not None:
        extras |= {"initial": load_policy(find_policy(init_head_from)), "head_only": True}
    if learning.views.share:
        if len(episodes.centre) < len(episodes):
            raise ValueError(
                "--views.share redraws frames of the centre camera and makes its own labels: leave out --side-cameras."
            )
        camera, curvature, words = camera_of(episodes, rig)
        if words:
            say(words)
        shown = asdict(preprocessing)
        del shown["crop_horizon"]  # of rows that no camera saw; a policy that learns has none
        extras["synthesis"] = ViewSynthesis(View(camera, **shown), curvature, learning.views)
    return extras
