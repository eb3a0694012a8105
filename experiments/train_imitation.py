"""`wormwheel train imitation`: learn to drive from recordings.

    wormwheel train imitation --data runs/record --core ltc

Frames are cropped and resized once, to disk. The last part of the driving is held out; at the end the driver is
measured on it, beside predicting the mean and, with --baseline, beside a memoryless network trained the same way. How
long that will take is measured in a few steps and said before it starts.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.car import car_of_episodes
from agents.driving.metrics import Estimate, open_loop
from agents.driving.open_loop import evaluate_open_loop
from agents.driving.recorded_world import RigOptions
from agents.imitation.augmentation import AugmentationConfig
from agents.imitation.train import ImitationConfig, ImitationResult, Progress, make_windows, train_imitation
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.fingerprint import fingerprint
from agents.recordings.options import ReadOptions
from agents.runs.checkpoints import new_checkpoint, newest_whole
from agents.runs.device import check_device, gains_by_bfloat16
from agents.runs.directory import RunDirectory, check_directory, open_run
from experiments.console import check_json, duration, new_directory, progress, say, say_next, show, table, write_results
from experiments.learning_extras import learning_extras
from experiments.learning_start import gently, shape_of, start_from
from experiments.options import check_resume, parse_core_options, refuse_unused
from experiments.training_runs import OnPoint, check_mirror, dead_driver, mirrored, run_seeds
from experiments.training_sets import (
    FrameOptions,
    Sets,
    SplitOptions,
    are_simulated,
    choose_preprocessing,
    crop_by_view,
    fit_frames,
    split,
)
from experiments.training_time import describe_time, estimate_s
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
VERB = "train imitation"
FREE = (
    *("out", "baseline", "resume", "keep_frames", "json", "learning.keep_checkpoints"),
    *("device", "wandb", "dead_exit_code"),
)
"""Options that may change when a run is resumed."""


@dataclass(frozen=True, config={"extra": "forbid"})
class TrainOptions:
    """Train a driver on recorded driving, by imitation.

    The format of the data is recognised. Defaults of the learning options are shown for simulated data; a few minutes
    of real driving are learnt from with overlapping windows, more epochs and mirrored frames. What was chosen is in
    the run directory's config.json.
    """

    data: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Recordings to learn from, one or more: data sets of `wormwheel record`, Donkeycar tubs, Udacity logs, ..."""
    out: Path | None = None
    """Run directory; runs/imitation-DATA-CORE, with a number added if that is taken, when not given."""
    core: str = "ltc"
    """Recurrent core; `wormwheel info cores` lists them."""
    core_options: tuple[str, ...] = ()
    """NAME=VALUE for fields of the core's own config, such as units=19; `wormwheel info cores` lists them."""
    head: Literal["small", "published"] = "small"
    """Conv head: "small", or that of Lechner et al. 2020 (use --height 78 --width 200)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the head's last map that is dropped while training, in [0, 1); 0.3 for real recordings."""
    learning: Annotated[ImitationConfig, arg(name="")] = SIMULATED
    """How to learn."""
    frames: Annotated[FrameOptions, arg(name="")] = FrameOptions()
    """How recorded frames are cropped and resized."""
    split: Annotated[SplitOptions, arg(name="")] = SplitOptions()
    """What is held out."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How the recordings are read."""
    init_from: Path | None = None
    """Directory of a driver to start from, head and core, such as one that learnt in simulation: frames are cropped as
    it knows the road, and it learns gently. Leave out --core, --head, --height and --width: they are its own."""
    init_head_from: Path | None = None
    """Directory of a driver whose conv head alone to start from, such as one that learnt in simulation; with
    --freeze-head it stays as it is. --height, --width and --head must be its own."""
    data_weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """Weight of each --data in the loss, where some should count more than others."""
    rig: RigOptions = RigOptions()
    """With --views.share: camera and car of the recordings, where they do not know them."""
    baseline: bool = False
    """Train a memoryless network with the same budget as well and measure it beside the driver; takes as long again."""
    seeds: tuple[NonNegativeInt, ...] = ()
    """Train once for each of these seeds instead of --seed, each in a directory seed-N in --out; `robustness` takes
    --out as one driver with so many runs."""
    device: str = "cpu"
    """Where the networks train: cpu, cuda or cuda:N."""
    wandb: str | None = None
    """Project of Weights & Biases that the figures go to as well; needs the extra `wandb`."""
    dead_exit_code: Annotated[int, Field(ge=0, le=125)] = 0
    """Exit code when the driver turns out no better than steering that is always the same; a warning names it in any
    case."""
    resume: bool = False
    """Resume the run in --out from its last complete epoch; give the options of the first run again."""
    keep_frames: bool = False
    """Keep the cropped and resized frames in the run directory at the end."""
    json: Path | None = None
    """File for the figures on the held-out driving, as JSON; they go to results.json in the run directory anyway."""


def defaults_for(options: TrainOptions) -> TrainOptions:
    """Return the options with the defaults that suit the data; what the command line names comes on top of them."""
    if are_simulated(options.data):
        options = replace(options, learning=SIMULATED)
    else:
        recorded = replace(RECORDED, stride=0) if options.learning.carry_state else RECORDED
        options = replace(options, learning=recorded, dropout=RECORDED_DROPOUT)
    if options.init_from is None:
        return options
    core, frames = shape_of(options.init_from, options.frames)
    return replace(options, core=core, frames=frames, learning=gently(options.learning))


def run(options: TrainOptions, on_point: OnPoint | None = None) -> Path | int:
    """Train and measure.

    Args:
        options: of the verb.
        on_point: called after each epoch of the driver with its number and the validation RMSE.

    Returns:
        The run directory, or the exit code for a driver that has learnt nothing.
    """
    check_json(options.json)
    check_device(options.device)
    check_mirror(options.wandb)
    if options.seeds:
        refuse_unused(options.learning, ("seed",), "--seeds names them")
        same = fingerprint(load_episodes(options.data, options=options.reading))
        return run_seeds(
            VERB, options, FREE, lambda seed, out, resume: run(_with_seed(options, seed, out, resume)), same
        )
    core_options = parse_core_options(options.core, options.core_options)
    if not options.split.hold_out:
        refuse_unused(options, ("baseline",), "with --hold-out 0 there is nothing to measure it on")
    if options.core == BASELINE:
        refuse_unused(options, ("baseline",), f"--core {BASELINE} is what it would be")
    out = _directory(options)
    if options.data_weights and len(options.data_weights) != len(options.data):
        raise ValueError(f"--data-weights: {len(options.data)} numbers were expected, got {len(options.data_weights)}.")
    if options.init_from is not None and options.init_head_from is not None:
        raise ValueError("--init-from takes the whole driver, --init-head-from its head alone: give one of them.")
    episodes = load_episodes(options.data, options=options.reading)
    start = None
    if options.init_from is not None:
        start = start_from(options.init_from, episodes, options.frames, options.core)
        if options.core_options:
            raise ValueError(f"{options.init_from} is trained as it is: leave out --core-options.")
        car = car_of_episodes(episodes)
        policy_config = start.config(options.dropout, car=car)
    else:
        frames, why = crop_by_view(episodes, options.frames)
        if why:
            say(f"--crop-top {frames.crop_top} --crop-bottom {frames.crop_bottom} is taken{why}")
        policy_config = PolicyConfig(
            core=options.core,
            core_options=core_options,
            head=replace(HEADS[options.head], dropout=options.dropout),
            preprocessing=choose_preprocessing(episodes.frame_size, frames),
            nominal_period_s=episodes.nominal_period_s,
            car=car_of_episodes(episodes),
        )
    preprocessing = policy_config.preprocessing
    extras = learning_extras(options.learning, options.init_head_from, options.rig, episodes, preprocessing, start)
    split(episodes, options.split)  # what cannot be divided is said before anything is made
    with open_run(out, VERB, options, options.resume, fingerprint=fingerprint(episodes)) as directory:
        with mirrored(directory, options.wandb, options):
            return _run_in(directory, options, episodes, policy_config, on_point, extras)


def _with_seed(options: TrainOptions, seed: int, out: Path, resume: bool) -> TrainOptions:
    return replace(options, seeds=(), learning=replace(options.learning, seed=seed), out=out, resume=resume, json=None)


def _run_in(
    directory: RunDirectory,
    options: TrainOptions,
    episodes: EpisodeSet,
    policy_config: PolicyConfig,
    on_point: OnPoint | None,
    extras: dict[str, Any],
) -> Path | int:
    """Train and measure in a directory; returns it, or an exit code."""
    out, preprocessing = directory.path, policy_config.preprocessing
    _describe(episodes, preprocessing)
    fitted = fit_frames(episodes, preprocessing, out / "frames")
    # Elapsed time counts in the driver's own period, whatever the recording's rate.
    sets = split(fitted.with_nominal_period(policy_config.nominal_period_s), options.split)
    extras |= _episode_weights(options, sets)
    notes: dict[str, object] = {
        "data": [str(path) for path in options.data],
        "steering_mean": sets.steering_mean,
        "training_frames": sets.training.frame_count,
        "seed": options.learning.seed,
        **({} if options.init_from is None else {"started_from": str(options.init_from)}),
    }

    _say_time(options, policy_config, sets)
    started_s = time.perf_counter()
    result = _train(options, policy_config, sets, directory, notes, on_point, extras)
    seconds = {options.core: time.perf_counter() - started_s}
    figures: dict[str, Any] = {}
    if sets.held_out is not None:
        figures[options.core] = _measure(result, sets)
        if options.baseline and options.core != BASELINE:
            started_s = time.perf_counter()
            beside = RunDirectory(out / "baseline", VERB, replace(options, core=BASELINE), options.resume)
            memoryless = replace(policy_config, core=BASELINE, core_options={})
            baseline = _train(options, memoryless, sets, beside, notes, None, {**extras, "head_only": True})
            seconds[BASELINE] = time.perf_counter() - started_s
            figures[BASELINE] = _measure(baseline, sets)
        figures["mean"] = _measure_constant(sets, sets.steering_mean)
        figures["straight"] = _measure_constant(sets, 0.0)
        _show(figures, sets, options)
    dead = _dead(options.core, result, sets, figures)
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
        "dead": bool(dead),
    }
    with new_checkpoint(directory.policy) as place:
        save_policy(result.policy, place, {**notes, "held_out": _values(figures.get(options.core, {}))})
    if fitted is not episodes and not options.keep_frames:
        shutil.rmtree(out / "frames", ignore_errors=True)
    write_results(out / "results.json", VERB, options, summary)
    write_results(options.json, VERB, options, summary)
    say(f"policy: {directory.policy}")
    if dead:
        say(dead)
    elif are_simulated(options.data):
        say_next("to drive it on roads that it has not seen", "evaluate", "--policy", out)
    elif options.reading == ReadOptions():
        say_next("to see it steer", "render", "--policy", out, "--data", *options.data)
    return options.dead_exit_code if dead and options.dead_exit_code else out


def _say_time(options: TrainOptions, config: PolicyConfig, sets: Sets) -> None:
    """Say how long training will take, before it starts."""
    learning = options.learning
    seconds = estimate_s(learning, config, sets.training, sets.validation, options.device)
    steps = len(make_windows(learning, sets.training))
    advice = f"fewer --epochs (now {learning.epochs}) or a larger --stride make it shorter"
    if learning.bfloat16 == "off" and gains_by_bfloat16(options.device):
        advice += ", and --bfloat16 auto some 1.5 times as fast"
    if options.baseline and options.core != BASELINE:
        seconds *= 2
    if options.resume:
        advice += "; what stands already is not trained again"
    for line in describe_time(f"training {config.core}", seconds, learning.epochs, steps, advice):
        say(line)


def _episode_weights(options: TrainOptions, sets: Sets) -> dict[str, Any]:
    """Return the weight of each training episode for the trainer, where recordings weigh differently."""
    if not options.data_weights:
        return {}
    by_source = {
        episode.meta.source: weight
        for path, weight in zip(options.data, options.data_weights, strict=True)
        for episode in load_episodes(path, options=options.reading)
    }
    return {"weights": [by_source[episode.meta.source] for episode in sets.training]}


def _dead(core: str, result: ImitationResult, sets: Sets, figures: dict[str, Any]) -> str:
    """Say whether the driver is no better than constant steering, on what is held out or else on the validation set."""
    if sets.held_out is not None:
        rmse, mean, straight = (figures[name]["rmse"].value for name in (core, "mean", "straight"))
    else:
        steering = np.concatenate([episode.steering for episode in sets.validation])
        rmse = result.progress.best_rmse
        mean, straight = (float(np.sqrt(np.mean((steering - c) ** 2))) for c in (sets.steering_mean, 0.0))
    return dead_driver(core, rmse, {"always the mean steering": mean, "always straight": straight})


def _directory(options: TrainOptions) -> Path:
    """Choose the run directory and check that the run may write there; nothing is written yet."""
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the run.")
    out = new_directory(options.out, f"runs/imitation-{options.data[0].resolve().name}-{options.core}")
    check_directory(out, VERB, options.resume)
    for path in options.data:
        if path.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"--data {path} lies in --out {out}, where the run writes: give another --out.")
    if options.resume:
        check_resume(out, options, FREE)
    return out


def _describe(episodes: EpisodeSet, fit: Preprocessing) -> None:
    """Say what was read and how the driver sees it."""
    driven = episodes.centre if len(episodes.centre) else episodes
    say(
        f"{episodes.frame_count:,} frames in {len(episodes)} episodes, {duration(driven.duration_s)} of driving, "
        f"one frame every {1000 * episodes.nominal_period_s:.4g} ms"
    )
    sides = ""
    if fit.crop_left or fit.crop_right:
        sides = f", {fit.crop_left} columns on the left and {fit.crop_right} on the right (below zero: they are added)"
    say(
        f"frames of {fit.source_width}×{fit.source_height} pixels lose {fit.crop_top} rows at the top and "
        f"{fit.crop_bottom} at the bottom{sides} (--crop-top, --crop-bottom) and are seen at {fit.width}×{fit.height}"
    )


def _train(
    options: TrainOptions,
    config: PolicyConfig,
    sets: Sets,
    directory: RunDirectory,
    notes: dict[str, object],
    on_point: OnPoint | None = None,
    extras: dict[str, Any] | None = None,
) -> ImitationResult:
    """Train one driver, with a bar."""
    epochs = options.learning.epochs
    resume = options.resume and newest_whole(directory.last) is not None
    if options.resume and not resume:
        say(f"{directory.path} holds no checkpoint yet: training of {config.core} starts from the beginning")
    with progress(f"training {config.core}", 1, "steps") as bar:

        def on_step(state: Progress, total: int, loss: float) -> None:
            best = f", validation RMSE {state.best_rmse:.3f}" if state.history else ""
            bar.update(state.step, f"epoch {state.epoch + 1} of {epochs}, loss {loss:.4f}{best}", total)

        def on_epoch(state: Progress) -> None:
            if on_point is not None:
                on_point(state.epoch, state.history[-1]["validation_rmse"])

        return train_imitation(
            options.learning,
            config,
            sets.training,
            sets.validation,
            directory,
            resume,
            on_step,
            notes,
            options.device,
            on_epoch,
            **(extras or {}),
        )


def _measure(result: ImitationResult, sets: Sets) -> dict[str, Estimate]:
    """Measure a driver on the held-out set."""
    assert sets.held_out is not None
    with progress("testing", sets.held_out.frame_count) as bar:
        return evaluate_open_loop(
            result.policy, sets.held_out, sets.steering_mean, on_frames=bar.advance, preprocessed=True
        )


def _measure_constant(sets: Sets, steering: float) -> dict[str, Estimate]:
    """Measure what steering that is always the same comes to."""
    assert sets.held_out is not None
    targets = [episode.steering for episode in sets.held_out]
    return open_loop([np.full_like(target, steering) for target in targets], targets, sets.steering_mean)


def _values(figures: dict[str, Estimate]) -> dict[str, float | None]:
    return {name: estimate.to_json()["value"] for name, estimate in figures.items()}


def _show(figures: dict[str, dict[str, Estimate]], sets: Sets, options: TrainOptions) -> None:
    """Print the table of held-out figures."""
    assert sets.held_out is not None
    labels = {options.core: options.core, BASELINE: f"{BASELINE} (no memory)", "mean": "predict the mean"}
    labels["straight"] = "always straight"
    rows = [
        [labels[name], *(show(one[key], digits) for key, digits in (("r2", 2), ("correlation", 2), ("rmse", 3)))]
        for name, one in figures.items()
    ]
    held = sets.held_out
    title = f"on {held.frame_count:,} held-out frames ({duration(held.duration_s)}), with 95 % intervals"
    table(title, ["driver", "R²", "correlation", "RMSE, full locks"], rows)
