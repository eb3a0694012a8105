"""`wormwheel train imitation`: learn to drive from recordings.

    wormwheel train imitation --data runs/record --core ltc

Frames are cropped and resized once, to disk. The last part of the driving is held out; at the end the driver is
measured on it, beside a memoryless network trained the same way and beside predicting the mean.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from tyro.conf import arg

from agents.driving.metrics import Estimate, open_loop
from agents.driving.open_loop import evaluate_open_loop
from agents.imitation.augmentation import AugmentationConfig
from agents.imitation.train import ImitationConfig, ImitationResult, Progress, for_fitted_frames, train_imitation
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import ReadOptions
from agents.runs.directory import RunDirectory, to_json
from experiments.console import check_json, duration, new_directory, progress, say, show, table, write_results
from experiments.options import parse_core_options
from experiments.training_sets import FrameOptions, Sets, SplitOptions, choose_preprocessing, fit_frames, split
from policies.checkpoint import save_policy
from policies.perception import HEADS
from policies.policy import PolicyConfig
from policies.preprocessing import Preprocessing

BASELINE = "feedforward"
"""The memoryless core that every driver is measured beside."""

SIMULATED = ImitationConfig()
"""How to learn from many varied roads, recorded in simulation."""
RECORDED = ImitationConfig(
    epochs=60,
    stride=4,
    augmentation=AugmentationConfig(flip=0.5, shift=0.05),
)
"""How to learn from a few minutes of one real road: windows overlap and frames are mirrored."""
RECORDED_DROPOUT = 0.3
"""Dropout of the head for a few minutes of one real road."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a driver on recorded driving, by imitation.

    The format of the data is recognised. Defaults of the learning options are shown for simulated data; a few minutes
    of real driving are learnt from with overlapping windows, more epochs and mirrored frames. What was chosen is in
    the run directory's config.json.
    """

    data: tuple[Path, ...]
    """Recordings to learn from, one or more: data sets of `wormwheel record`, Donkeycar tubs, Udacity logs, ..."""
    out: Path | None = None
    """Run directory; runs/imitation-DATA-CORE, with a number added if that is taken, when not given."""
    core: str = "ltc"
    """Recurrent core; `wormwheel info cores` lists them."""
    core_options: tuple[str, ...] = ()
    """NAME=VALUE for fields of the core's own config, such as units=19; `wormwheel info cores` lists them."""
    head: Literal["small", "published"] = "small"
    """Conv head: "small", or that of Lechner et al. 2020 (use --height 78 --width 200)."""
    dropout: float = 0.0
    """Share of the head's last map that is dropped while training, in [0, 1); 0.3 for real recordings."""
    learning: Annotated[ImitationConfig, arg(name="")] = SIMULATED
    """How to learn."""
    frames: Annotated[FrameOptions, arg(name="")] = FrameOptions()
    """How recorded frames are cropped and resized."""
    split: Annotated[SplitOptions, arg(name="")] = SplitOptions()
    """What is held out."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How the recordings are read."""
    baseline: bool = True
    """Train a memoryless network with the same budget and measure it beside the driver."""
    resume: bool = False
    """Go on with the run in --out from its last complete epoch; give the options of the first run again."""
    keep_frames: bool = False
    """Keep the cropped and resized frames in the run directory at the end."""
    json: Path | None = None
    """File for the figures on the held-out driving, as JSON; they go to results.json in the run directory anyway."""


def defaults_for(options: TrainOptions) -> TrainOptions:
    """Return the options with the defaults that suit the data; what the command line names comes on top of them."""
    if _simulated(_load(options)):
        return replace(options, learning=SIMULATED)
    return replace(options, learning=RECORDED, dropout=RECORDED_DROPOUT)


def run(options: TrainOptions) -> Path:
    """Train and measure; returns the run directory."""
    check_json(options.json)
    core_options = parse_core_options(options.core, options.core_options)
    episodes = _load(options)
    out = _directory(options)
    preprocessing = choose_preprocessing(episodes.frame_size, options.frames)
    policy_config = PolicyConfig(
        core=options.core,
        core_options=core_options,
        head=replace(HEADS[options.head], dropout=options.dropout),
        preprocessing=preprocessing,
        nominal_period_s=episodes.nominal_period_s,
    )
    _check_resume(out, options)
    directory = RunDirectory(out, "train imitation", options, options.resume)
    _describe(episodes, preprocessing)
    fitted = fit_frames(episodes, preprocessing, out / "frames")
    sets = split(fitted, options.split)
    notes: dict[str, object] = {
        "data": [str(path) for path in options.data],
        "steering_mean": sets.steering_mean,
        "training_frames": sets.training.frame_count,
        "seed": options.learning.seed,
    }

    started_s = time.perf_counter()
    result = _train(options, policy_config, sets, directory, notes)
    seconds = {options.core: time.perf_counter() - started_s}
    figures: dict[str, Any] = {}
    if sets.held_out is not None:
        figures[options.core] = _measure(result, sets)
        if options.baseline and options.core != BASELINE:
            started_s = time.perf_counter()
            beside = RunDirectory(out / "baseline", "train imitation", replace(options, core=BASELINE), options.resume)
            baseline = _train(options, replace(policy_config, core=BASELINE, core_options={}), sets, beside, notes)
            seconds[BASELINE] = time.perf_counter() - started_s
            figures[BASELINE] = _measure(baseline, sets)
        figures["mean"] = _measure_mean(sets)
        _show(figures, sets, options)
    summary = {
        "directory": str(out),
        "policy": str(directory.policy),
        "best_epoch": result.progress.best_epoch,
        "epochs": result.progress.epoch,
        "training_s": seconds,
        "frames": {
            "training": sets.training.frame_count,
            "validation": sets.validation.frame_count,
            "held_out": sets.held_out.frame_count if sets.held_out is not None else 0,
        },
        "skipped": dict(fitted.skipped),
        "held_out": figures,
    }
    save_policy(result.policy, directory.policy, {**notes, "held_out": _values(figures.get(options.core, {}))})
    if not options.keep_frames:
        shutil.rmtree(out / "frames", ignore_errors=True)
    write_results(out / "results.json", "train imitation", options, summary)
    write_results(options.json, "train imitation", options, summary)
    say(f"policy: {directory.policy}")
    return out


@lru_cache(maxsize=1)
def _read(paths: tuple[Path, ...], reading: ReadOptions) -> EpisodeSet:
    """Read recordings; asked for twice, once for the defaults and once to learn from."""
    return load_episodes(paths, options=reading)


def _load(options: TrainOptions) -> EpisodeSet:
    return _read(options.data, options.reading)


def _simulated(episodes: EpisodeSet) -> bool:
    return all(episode.meta.seed is not None for episode in episodes)


def _directory(options: TrainOptions) -> Path:
    """Choose the run directory."""
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the run to go on with.")
    default = f"runs/imitation-{options.data[0].resolve().name}-{options.core}"
    return new_directory(options.out, default, taken_by="config.json", reuse=options.resume)


def _check_resume(out: Path, options: TrainOptions) -> None:
    """Check that a run that is gone on with was started with the same options, as far as they shape it."""
    if not options.resume:
        return
    try:
        before = json.loads((out / "config.json").read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{out} holds no run to resume: its config.json is missing or damaged ({error}).") from error
    now = json.loads(json.dumps(to_json(options)))
    names = ["data", "core", "core_options", "head", "learning", "frames", "split"]
    if "reading" in before:  # runs from before there was such a group have its fields elsewhere
        names.append("reading")
    for name in names:
        if now[name] != before.get(name):
            raise ValueError(
                f"{out} was started with other values of {name}; resume with the options of the first run."
            )


def _describe(episodes: EpisodeSet, fit: Preprocessing) -> None:
    """Say what was read and how the driver sees it."""
    say(
        f"{episodes.frame_count:,} frames in {len(episodes)} episodes, {duration(episodes.duration_s)} of driving, "
        f"one frame every {1000 * episodes.nominal_period_s:.4g} ms"
    )
    say(
        f"frames of {fit.source_width}×{fit.source_height} pixels lose {fit.crop_top} rows at the top and "
        f"{fit.crop_bottom} at the bottom (--crop-top, --crop-bottom) and are seen at {fit.width}×{fit.height}"
    )


def _train(
    options: TrainOptions, config: PolicyConfig, sets: Sets, directory: RunDirectory, notes: dict[str, object]
) -> ImitationResult:
    """Train one driver, with a bar."""
    resume = options.resume and directory.training_state.exists()
    epochs = options.learning.epochs
    with progress(f"training {config.core}", 1, "steps") as bar:

        def on_step(state: Progress, total: int, loss: float) -> None:
            best = f", validation RMSE {state.best_rmse:.3f}" if state.history else ""
            bar.update(state.step, f"epoch {state.epoch + 1} of {epochs}, loss {loss:.4f}{best}", total)

        return train_imitation(
            options.learning, config, sets.training, sets.validation, directory, resume, on_step, notes
        )


def _measure(result: ImitationResult, sets: Sets) -> dict[str, Estimate]:
    """Measure a driver on the held-out set."""
    assert sets.held_out is not None
    with progress("testing", sets.held_out.frame_count) as bar:
        policy = for_fitted_frames(result.policy)
        return evaluate_open_loop(policy, sets.held_out, sets.steering_mean, on_frames=bar.advance)


def _measure_mean(sets: Sets) -> dict[str, Estimate]:
    """Measure what predicting the training set's mean steering comes to."""
    assert sets.held_out is not None
    targets = [episode.steering for episode in sets.held_out]
    return open_loop([np.full_like(target, sets.steering_mean) for target in targets], targets, sets.steering_mean)


def _values(figures: dict[str, Estimate]) -> dict[str, float | None]:
    return {name: estimate.to_json()["value"] for name, estimate in figures.items()}


def _show(figures: dict[str, dict[str, Estimate]], sets: Sets, options: TrainOptions) -> None:
    """Print the table of held-out figures."""
    assert sets.held_out is not None
    labels = {options.core: options.core, BASELINE: f"{BASELINE} (no memory)", "mean": "predict the mean"}
    rows = [
        [labels[name], *(show(one[key], digits) for key, digits in (("r2", 2), ("correlation", 2), ("rmse", 3)))]
        for name, one in figures.items()
    ]
    held = sets.held_out
    title = f"on {held.frame_count:,} held-out frames ({duration(held.duration_s)}), with 95 % intervals"
    table(title, ["driver", "R²", "correlation", "RMSE, full locks"], rows)
