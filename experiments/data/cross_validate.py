"""`wormwheel data cross-validate PATH`: figures that decide, from all of a recording instead of its last part.

The time line is cut into blocks; each is steered by a driver that was trained on the others, with a gap between them,
so every frame is tested on once by a driver that never saw it. Drivers, seeds and blocks are trained one after another;
what each one steered is kept, so the command goes on where it was stopped and shows what there is by then.

    wormwheel data cross-validate tub --cores ltc feedforward --seeds 0 1 2 --out runs/cv

Strict figures: R² and correlation of the steering as it stands. Beside them R² with a gain and a bias that were fitted
on the other blocks, which forgives a driver that steers too weakly but in time. A last row says how much of the
steering shows in what the car then did: what a driver cannot see on its way is how a person taps the keys.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from tyro.conf import Positional, arg

from agents.driving.car import car_of_episodes
from agents.driving.open_loop import predict
from agents.driving.recorded_world import RigOptions
from agents.driving.statistics import Estimate, bootstrap
from agents.imitation.train import ImitationConfig, Progress, train_imitation
from agents.recordings.doctor.motion import cut_motion, lags, measure_motion, paired
from agents.recordings.episodes import EpisodeSet
from agents.recordings.fingerprint import fingerprint
from agents.recordings.options import ReadOptions
from agents.recordings.reading.files import load_array
from agents.recordings.splits import cut_into_blocks, split_by_time_block
from agents.runs.checkpoints import newest_whole
from agents.runs.device import check_device
from agents.runs.directory import RunDirectory, check_directory, open_run
from agents.runs.files import replacing
from experiments.console import check_json, duration, new_directory, progress, say, show, table, write_results
from experiments.data.reading import load
from experiments.learning_extras import learning_extras
from experiments.learning_start import gently, shape_of, start_from
from experiments.options import check_resume, refuse_unused
from experiments.train_imitation import RECORDED, RECORDED_DROPOUT, SIMULATED
from experiments.training_sets import (
    FrameOptions,
    are_simulated,
    check_apart,
    choose_preprocessing,
    crop_by_view,
    fit_frames,
)
from policies.cores import import_core
from policies.perception import HEADS
from policies.policy import PolicyConfig

VERB = "data cross-validate"
FREE = ("out", "cores", "seeds", "json", "resume", "device", "learning.keep_checkpoints")
"""Options that may change from one start to the next: more drivers and more seeds are added to what is there."""
RESULTS = ("blocks", "results.json")
"""What in the directory is worth keeping."""
BLOCK_FRAMES = 50
"""Frames that the bootstrap draws together: neighbours are not independent."""
MOST_TURNS = 20_000
"""Frames in which the car's turning is looked for."""
TURNING = "the car's own turning, seen afterwards"
"""Row of the table."""


@dataclass(frozen=True)
class CrossValidateOptions:
    """Train on all blocks of a recording but one, test on that one, in turn; R² and correlation over all of it."""

    path: Positional[Path]
    """The recording: a data set, a tub, a log, a table, a video with --table, ..."""
    out: Path | None = None
    """Directory for what was trained and steered; runs/cross-validate-NAME when not given."""
    cores: Annotated[tuple[str, ...], Field(min_length=1)] = ("ltc", "feedforward")
    """Cores of the drivers that are compared."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    """Seeds that each driver is trained from."""
    blocks: Annotated[int, Field(ge=2)] = 5
    """Blocks that the time line is cut into."""
    gap_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    """Driving left out on both sides of the block that is tested on, seconds."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the other blocks' time that chooses the best epoch, from their end, in (0, 1)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the head's last map that is dropped while training, in [0, 1)."""
    learning: Annotated[ImitationConfig, arg(name="")] = SIMULATED
    """How to learn; as `train imitation` does when not given."""
    frames: Annotated[FrameOptions, arg(name="")] = FrameOptions()
    """How recorded frames are cropped and resized."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How it is read."""
    init_from: Path | None = None
    """Directory of a driver that every driver starts from, head and core, such as one that learnt in simulation:
    frames are cropped as it knows the road, and it learns gently. Leave out --cores, --height and --width: they are its
    own."""
    init_head_from: Path | None = None
    """Directory of a driver whose conv head alone every driver starts from, such as one that learnt in simulation; with
    --freeze-head it stays as it is. --height and --width must be its own."""
    rig: RigOptions = RigOptions()
    """With --views.share: camera and car of the recording, where it does not know them."""
    device: str = "cpu"
    """Where the networks train: cpu, cuda or cuda:N."""
    resume: bool = False
    """Go on with what stands in --out; other cores and seeds may be named."""
    json: Path | None = None
    """File for the figures, as JSON; they go to results.json in --out anyway."""


def defaults_for(options: CrossValidateOptions) -> CrossValidateOptions:
    """Return the options with the defaults that suit the data, as `train imitation` has them."""
    if not are_simulated([options.path]):
        recorded = replace(RECORDED, stride=0) if options.learning.carry_state else RECORDED
        options = replace(options, learning=recorded, dropout=RECORDED_DROPOUT)
    if options.init_from is None:
        return options
    core, frames = shape_of(options.init_from, options.frames)
    return replace(options, cores=(core,), frames=frames, learning=gently(options.learning))


def run(options: CrossValidateOptions) -> Path:
    """Train, test and show; returns the directory."""
    check_json(options.json)
    check_device(options.device)
    refuse_unused(options.learning, ("seed",), "--seeds names them")
    for core in options.cores:
        import_core(core)
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the run.")
    out = new_directory(options.out, f"runs/cross-validate-{options.path.resolve().name}")
    check_directory(out, VERB, options.resume, RESULTS)
    if options.resume:
        check_resume(out, options, FREE)
    if options.init_from is not None and options.init_head_from is not None:
        raise ValueError("--init-from takes the whole driver, --init-head-from its head alone: give one of them.")
    episodes = load(options.path, options.reading)
    start = None
    if options.init_from is not None:
        start = start_from(options.init_from, episodes, options.frames, " ".join(options.cores), "--cores")
        fit, why = start.preprocessing, ", as the driver to start from knows the road"
    else:
        frames, why = crop_by_view(episodes, options.frames)
        fit = choose_preprocessing(episodes.frame_size, frames)
    say(f"frames lose {fit.crop_top} rows at the top and {fit.crop_bottom} at the bottom{why}")
    extras = learning_extras(options.learning, options.init_head_from, options.rig, episodes, fit, start)
    for rest, held in cut_into_blocks(episodes, options.blocks, options.gap_s):
        check_apart(rest, held)
    with open_run(out, VERB, options, options.resume, RESULTS, fingerprint(episodes)) as directory:
        fitted = fit_frames(episodes, fit, out / "frames")
        car = car_of_episodes(episodes)
        if start is not None:
            config = start.config(options.dropout, car=car)
        else:
            head = replace(HEADS["small"], dropout=options.dropout)
            config = PolicyConfig(head=head, preprocessing=fit, nominal_period_s=episodes.nominal_period_s, car=car)
        # Elapsed time counts in the driver's own period, whatever the recording's rate.
        folds = cut_into_blocks(fitted.with_nominal_period(config.nominal_period_s), options.blocks, options.gap_s)
        targets = [np.concatenate([episode.steering for episode in held]) for _, held in folds]
        tested = replace(fitted, episodes=tuple(episode for _, held in folds for episode in held))
        directory.begin()
        turning = by_turning(episodes, options.blocks)
        steered: dict[str, dict[int, list[NDArray[np.float32]]]] = {}
        for seed in options.seeds:
            for core in options.cores:
                wanted = replace(config, core=core)
                one = [
                    _steer(options, wanted, seed, number, fold, out, len(targets[number]), extras)
                    for number, fold in enumerate(folds)
                ]
                steered.setdefault(core, {})[seed] = one
                figures = {name: summarise(list(by_seed.values()), targets) for name, by_seed in steered.items()}
                _write(out / "results.json", options, tested, steered, targets, figures, turning)
        shutil.rmtree(out / "frames", ignore_errors=True)
    _write(options.json, options, tested, steered, targets, figures, turning)
    _show(options, tested, steered, figures, turning)
    return out


def _steer(
    options: CrossValidateOptions,
    config: PolicyConfig,
    seed: int,
    number: int,
    fold: tuple[EpisodeSet, EpisodeSet],
    out: Path,
    count: int,
    extras: Mapping[str, Any],
) -> NDArray[np.float32]:
    """Return what a driver that never saw a block steers on it, `[n]`; trained unless that was done before."""
    place = out / "blocks" / f"{config.core.replace(':', '-')}-seed-{seed}-block-{number}"
    kept = place.parent / f"{place.name}.npy"
    if kept.is_file():
        steering = load_array(kept)
        if steering.shape != (count,) or steering.dtype.kind != "f" or not np.isfinite(steering).all():
            raise ValueError(f"{kept} should hold {count} finite numbers, one a frame of the block; remove it.")
        return np.asarray(steering, np.float32)
    rest, held = fold
    training, validation = split_by_time_block(rest, options.validation, options.gap_s)
    learning = replace(options.learning, seed=seed)
    directory = RunDirectory(place, VERB, options, resume=place.is_dir())
    resume = newest_whole(directory.last) is not None
    with progress(f"{config.core}, seed {seed}, block {number + 1} of {options.blocks}", 1, "steps") as bar:

        def on_step(state: Progress, total: int, loss: float) -> None:
            bar.update(state.step, f"epoch {state.epoch + 1} of {learning.epochs}, loss {loss:.4f}", total)

        started_s = time.perf_counter()
        result = train_imitation(
            learning, config, training, validation, directory, resume, on_step, device=options.device, **extras
        )
    steering = np.concatenate(predict(result.policy, held, preprocessed=True))
    seconds = time.perf_counter() - started_s
    say(f"{config.core}, seed {seed}, block {number + 1}: {seconds:.0f} s, best epoch {result.progress.best_epoch}")
    with replacing(kept) as partial, partial.open("wb") as file:
        np.save(file, steering)
    shutil.rmtree(place)
    return steering


def summarise(
    runs: Sequence[Sequence[NDArray[np.floating]]], targets: Sequence[NDArray[np.floating]], seed: int = 0
) -> dict[str, Estimate]:
    """Return figures over all blocks, the mean over training runs, with intervals over stretches of the driving.

    Args:
        runs: For each training run the steering on each block, `[n]`.
        targets: The recorded steering on each block, `[n]`.
        seed: Of the bootstrap.

    Returns:
        `r2` and `correlation` of the steering as it is, and `r2_fitted`: R² after a gain and a bias that were fitted on
        the other blocks. The intervals draw stretches of `BLOCK_FRAMES` frames, the same ones in all runs.
    """
    kinds: dict[str, list[Any]] = {"r2": list(runs), "r2_fitted": [_fitted(run, targets) for run in runs]}
    sums = {name: np.stack([_moments(run, targets) for run in kind]) for name, kind in kinds.items()}

    def r2(of: NDArray[np.float64]) -> float:
        n, y, _, yy, _, _, squared = np.moveaxis(of, -1, 0)
        return float(np.mean(1 - squared / np.maximum(yy - y * y / n, 1e-12)))

    def correlation(of: NDArray[np.float64]) -> float:
        n, y, p, yy, pp, yp, _ = np.moveaxis(of, -1, 0)
        spread = (yy - y * y / n) * (pp - p * p / n)
        return float(np.mean((yp - y * p / n) / np.sqrt(np.maximum(spread, 1e-12))))

    count = sums["r2"].shape[1]
    return {
        "r2": bootstrap(lambda chosen: r2(sums["r2"][:, chosen].sum(1)), count, seed=seed),
        "correlation": bootstrap(lambda chosen: correlation(sums["r2"][:, chosen].sum(1)), count, seed=seed),
        "r2_fitted": bootstrap(lambda chosen: r2(sums["r2_fitted"][:, chosen].sum(1)), count, seed=seed),
    }


def by_turning(episodes: EpisodeSet, blocks: int) -> dict[str, Estimate] | None:
    """Return how well the turning that the pictures show afterwards tells the steering; None where it is not seen.

    Args:
        episodes: the recording as it was read.
        blocks: that the time line is cut into; gain and bias of each come from the others.

    Returns:
        `correlation`, each block at the lag at which the car follows its wheel in the others, and `r2_fitted`, as
        `summarise` has them.
    """
    targets, turns = [], []
    for rest, block in cut_motion(measure_motion(episodes, MOST_TURNS), blocks):
        tried, correlations = lags(rest)
        if correlations.max() <= 0:
            return None
        steering, turning = paired(block, int(tried[correlations.argmax()]))
        targets.append(steering)
        turns.append(turning)
    if sum(map(len, targets)) < blocks * BLOCK_FRAMES or not all(map(len, targets)):
        return None
    figures = summarise([turns], targets)
    return {name: figures[name] for name in ("correlation", "r2_fitted")}


def _fitted(run: Sequence[NDArray[np.floating]], targets: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
    """Return the steering of each block times a gain plus a bias, both by least squares on the other blocks."""
    fitted = []
    for number, steering in enumerate(run):
        others = [k for k in range(len(run)) if k != number]
        x, y = (np.concatenate([part[k] for k in others]).astype(np.float64) for part in (run, targets))
        gain = float(np.cov(x, y, bias=True)[0, 1] / max(x.var(), 1e-12))
        fitted.append(gain * (steering.astype(np.float64) - x.mean()) + y.mean())
    return fitted


def _moments(run: Sequence[NDArray[np.floating]], targets: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return count, sums, squares, products and squared error of each stretch, `[stretches, 7]`."""
    rows = []
    for steering, target in zip(run, targets, strict=True):
        for start in range(0, len(target), BLOCK_FRAMES):
            y = target[start : start + BLOCK_FRAMES].astype(np.float64)
            p = steering[start : start + BLOCK_FRAMES].astype(np.float64)
            rows.append([len(y), y.sum(), p.sum(), (y * y).sum(), (p * p).sum(), (y * p).sum(), ((y - p) ** 2).sum()])
    return np.asarray(rows)


def _write(
    path: Path | None,
    options: CrossValidateOptions,
    tested: EpisodeSet,
    steered: Mapping[str, Mapping[int, Sequence[NDArray[np.float32]]]],
    targets: Sequence[NDArray[np.float32]],
    figures: Mapping[str, Mapping[str, Estimate]],
    turning: Mapping[str, Estimate] | None,
) -> None:
    """Write the figures, over all seeds and for each."""
    drivers: dict[str, Any] = {}
    for core, one in figures.items():
        seeds = {str(seed): _values(summarise([blocks], targets)) for seed, blocks in steered[core].items()}
        drivers[core] = {**_values(one), "seeds": seeds}
    summary = {"frames": tested.frame_count, "driving_s": tested.duration_s, "drivers": drivers}
    summary["turning"] = None if turning is None else _values(turning)
    write_results(path, VERB, options, summary)


def _values(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in figures.items()}


def _show(
    options: CrossValidateOptions,
    tested: EpisodeSet,
    steered: Mapping[str, Mapping[int, object]],
    figures: Mapping[str, Mapping[str, Estimate]],
    turning: Mapping[str, Estimate] | None,
) -> None:
    """Print the table."""
    rows = [
        [core, str(len(steered[core])), *(show(one[key], 2) for key in ("r2", "correlation", "r2_fitted"))]
        for core, one in figures.items()
    ]
    if turning is not None:
        rows.append([TURNING, "", "", *(show(turning[key], 2) for key in ("correlation", "r2_fitted"))])
    title = (
        f"{options.path}: {tested.frame_count:,} frames ({duration(tested.duration_s)}) in {options.blocks} "
        "blocks, each steered by drivers trained on the others, with 95 % intervals"
    )
    table(title, ["driver", "seeds", "R²", "correlation", "R², gain and bias from other blocks"], rows)
