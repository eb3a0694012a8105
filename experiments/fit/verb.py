"""`wormwheel fit`: crop and gain for another camera and another car, before anything drives.

    wormwheel fit --policy runs/mine --data a_few_frames --json fit.json
    wormwheel evaluate --policy runs/mine --data more_frames --fit fit.json

The frames come with the steering that is right for them, in full locks of the new car; a few hundred with bends to both
sides do. Where the curvature of the path is known instead, `--curvature` names the column that holds it (1/m).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from tyro.conf import arg

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.fit import CameraFit, fit_camera
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import ReadOptions
from experiments.console import check_json, progress, say, table, write_results
from experiments.policy_paths import name_drivers
from policies.car import CarInfo


@checked_dataclass(frozen=True, config={"extra": "forbid"})
class FitOptions:
    """Suggest crop and gain for a driver in another camera and car, from frames with known steering."""

    policy: str
    """The driver: a policy or run directory, an .onnx file, a .zip of Stable-Baselines3, or file.py:factory."""
    data: tuple[Path, ...] = ()
    """Recordings from the new camera, with the steering that is right in the new car."""
    recording: ReadOptions = ReadOptions()
    """How the recordings are read."""
    frames: Annotated[int, Field(gt=0, le=10_000_000)] = 600
    """Frames that are looked at, from the beginning of each recording's episodes in turn."""
    curvature: str | None = None
    """Column of the recording that holds the curvature of the path, 1/m, positive left; taken instead of steering."""
    full_lock_curvature_per_m: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Curvature of the new car's path at full lock, 1/m: what turns curvature into steering."""
    car: CarInfo = CarInfo()
    """The new car and its camera, as far as they are known and the recordings do not say it: with height, field of view
    and horizon of both cameras, the crop follows from geometry."""
    own_car: CarInfo = CarInfo()
    """Those that the driver learnt in, where it does not say it."""
    driver: Annotated[DriverOptions, arg(name="")] = DriverOptions()
    """What the driver cannot say of itself; a crop that is given is kept."""
    json: Path | None = None
    """File for what was found; `--fit FILE` of other verbs reads it."""

    def __post_init__(self) -> None:
        """Check that options go together."""
        if not self.data:
            raise ValueError("nothing to fit to: give --data with a recording of the new camera.")
        if (self.curvature is None) != (self.full_lock_curvature_per_m is None):
            raise ValueError("--curvature and --full-lock-curvature-per-m go together: give both or none.")


def run(options: FitOptions) -> CameraFit:
    """Fit and show what was found."""
    check_json(options.json)
    ((name, spec),) = name_drivers([options.policy], options.driver).items()
    episodes = _steered(load_episodes(options.data, options=options.recording, to_test_on=True), options)
    chosen, left = [], options.frames
    for episode in episodes:
        if left > 1:
            chosen.append(episode.slice(0, min(left, len(episode))))
            left -= len(chosen[-1])
    episodes = replace(episodes, episodes=tuple(chosen))
    with progress("trying crops", 40, "crops") as bar:
        found = fit_camera(
            DriverSpec(spec.source, options.driver),
            episodes,
            on_try=lambda: bar.advance(1),
            car=options.car,
            own_car=options.own_car,
        )
        bar.update(40)
    cut = ", ".join(f"{side} {found.crops[f'crop_{side}']}" for side in ("top", "bottom", "left", "right"))
    rows, columns = episodes.frame_size
    table(
        f"{name} on {found.frames:,} frames of {columns}×{rows}, with 95 % intervals",
        ["crop, pixels", "by", "steering gain", "correlation", "correlation without a crop", "offset, full locks"],
        [
            [
                cut,
                found.by,
                found.steering_gain.text(2),
                found.correlation.text(2),
                f"{found.uncropped:.2f}",
                f"{found.offset:+.3f}",
            ]
        ],
    )
    flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in found.crops.items())
    say(f"use it: {flags} --steering-gain {found.steering_gain.value:.3g}")
    if found.gain_by_geometry is not None:
        say(f"the same curvature per lane width in both cars would be a gain of {found.gain_by_geometry:.3g}")
    if found.is_weak:
        say("note: the answers hardly follow the known steering; do not drive with this before you know why")
    write_results(options.json, "fit", options, {"fit": to_json(found)})
    return found


def to_json(found: CameraFit) -> dict[str, Any]:
    """Return what `DriverOptions.fit` reads, and how sure it is."""
    return {
        **found.crops,
        "steering_gain": found.steering_gain.value,
        "steering_gain_95": [found.steering_gain.low, found.steering_gain.high],
        "correlation": found.correlation.to_json(),
        "correlation_without_crop": found.uncropped,
        "offset": found.offset,
        "by": found.by,
        "gain_by_geometry": found.gain_by_geometry,
        "frames": found.frames,
        "weak": found.is_weak,
    }


def _steered(episodes: EpisodeSet, options: FitOptions) -> EpisodeSet:
    """Take the steering from a column of curvature where one is named."""
    if options.curvature is None or options.full_lock_curvature_per_m is None:
        return episodes
    changed = []
    for episode in episodes:
        if options.curvature not in episode.extras:
            raise ValueError(
                f"{episode.meta.source} has no column {options.curvature!r}. It has: "
                f"{', '.join(sorted(episode.extras)) or 'none'}."
            )
        share = np.asarray(episode.extras[options.curvature], np.float32) / options.full_lock_curvature_per_m
        changed.append(replace(episode, steering=np.clip(share, -1.0, 1.0)))
    return replace(episodes, episodes=tuple(changed))
