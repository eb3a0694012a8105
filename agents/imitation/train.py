"""Learning to drive from recorded driving.

Behaviour cloning with truncated backpropagation through time: windows of frames are drawn at random, the first
`burn_in` frames of each only warm up the circuit's state, the rest are compared with the recorded steering. The loss
is the squared error, weighted by `exp(steering_weight · |steering|)` if asked for (Lechner et al. 2020), so that rare
bends are not drowned by straight road. `carry_state` walks whole episodes instead, side by side, and hands the state
of one window on to the next.

    result = train_imitation(ImitationConfig(epochs=10), training, validation, Path("runs/mine"))
    result.policy  # the best one on the validation set
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, NonNegativeInt, TypeAdapter
from pydantic.dataclasses import dataclass
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from agents.driving.open_loop import score
from agents.imitation.augmentation import AugmentationConfig, augment
from agents.imitation.batches import Batch, Streams, Windows
from agents.imitation.views import ViewsConfig, ViewSynthesis
from agents.recordings.episodes import EpisodeSet
from agents.runs.checkpoints import new_checkpoint, newest_whole
from agents.runs.device import gains_by_bfloat16
from agents.runs.directory import RunDirectory
from agents.runs.events import cut_back, write_hyperparameters
from agents.runs.files import clear_errors
from agents.runs.reading import damaged
from agents.runs.training_state import TRAINING_STATE, load_training_state, save_training_state
from policies.checkpoint import load_policy, save_policy
from policies.policy import DrivingPolicy, PolicyConfig

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
STRAIGHT = 0.02
"""Steering, in full locks, up to which a frame counts as straight."""


def _as_word(value: object) -> object:
    """Accept True and False as well."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


@dataclass(frozen=True, config={"extra": "forbid"})
class ImitationConfig:
    """How to learn from recorded driving."""

    epochs: Annotated[int, Field(gt=0, le=1_000_000)] = 10
    """Passes over the training set."""
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)] = 16
    """B, windows side by side."""
    window: Annotated[int, Field(gt=0, le=1_000_000)] = 20
    """T, frames in a window, burn-in included."""
    burn_in: NonNegativeInt = 4
    """Frames at the start of a window that warm up the state and are not in the loss; none where it is carried."""
    stride: NonNegativeInt = 0
    """Frames between the starts of two windows; 0 stands for those that count in the loss, so that each counts once."""
    carry_state: bool = False
    """Walk whole episodes side by side and carry the state from window to window, instead of drawing windows at
    random."""
    head_learning_rate: Positive = 2e-3
    """Largest learning rate of the conv head."""
    core_learning_rate: Positive = 2e-2
    """Largest learning rate of the core."""
    weight_decay: NotNegative = 1e-4
    """Decoupled weight decay of the conv head (AdamW)."""
    warmup: Share = 0.05
    """Share of the training over which the learning rates rise; they fall along a half cosine after it."""
    gradient_clip: Positive = 1.0
    """Largest norm of the gradient, head and core apart."""
    average: Share = 0.05
    """Share of the training over which the weights are averaged (exponentially) for validation and for the saved
    driver: steadier, and it carries over to unseen roads better; 0 takes the last weights."""
    bfloat16: Annotated[Literal["auto", "on", "off"], BeforeValidator(_as_word)] = "off"
    """Run the conv head in bfloat16: 1.5 times as fast on CPUs with AMX and faster on GPUs, slower on others; "auto"
    does so where the device gains by it."""
    steering_weight: Annotated[float, Field(ge=0, le=50)] = 0.0
    """Alpha of the loss weight exp(alpha · |steering|), in [0, 50]; 0 weighs all frames alike."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """How frames are changed while training."""
    views: ViewsConfig = ViewsConfig()
    """Windows that are seen from beside the recorded line."""
    straight_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of frames that are steered straight, relative to the others: where most of a drive is straight, less than
    1 keeps it from drowning the bends."""
    label_smoothing_s: NotNegative = 0.0
    """Deviation of the Gaussian with which recorded steering is smoothed in time, seconds; 0 leaves it as it is. For
    steering by keys, which is all or nothing."""
    patch_dropping: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the frame, in squares of an eighth of its height, that is painted grey while training, others in every
    window."""
    freeze_head: bool = False
    """Leave the conv head as it is, and train the core alone; for a head that comes from elsewhere."""
    patience: NonNegativeInt = 0
    """Epochs without a better validation error after which training stops; 0 never stops early."""
    keep_checkpoints: Annotated[int, Field(gt=0, le=1000)] = 2
    """Checkpoints of the last epochs that are kept, besides the best policy; a resumed run takes the newest that is
    whole."""
    seed: NonNegativeInt = 0
    """Seed of initial weights, window order and augmentation."""

    def __post_init__(self) -> None:
        """Check that something of a window is left behind its burn-in."""
        if self.burn_in >= self.window:
            raise ValueError(f"burn_in must be shorter than the window of {self.window} frames, got {self.burn_in}.")
        if self.carry_state and (self.stride or self.burn_in not in (0, type(self).burn_in)):
            raise ValueError(
                "burn_in and stride are for windows that are drawn at random; with carry_state each goes on where the "
                "last one ended: leave them out."
            )


@dataclasses.dataclass
class Progress:
    """Where training stands; all of it is saved, so that a run resumes exactly."""

    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Optimizer steps taken."""
    best_epoch: int = 0
    """Epoch with the best validation error so far."""
    best_rmse: float = math.inf
    """Best validation RMSE so far, steering in [−1, 1]."""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """Figures of each epoch."""


_PROGRESS = TypeAdapter(Progress)


@dataclasses.dataclass(frozen=True)
class ImitationResult:
    """What training left behind."""

    policy: DrivingPolicy
    """The best policy on the validation set, in evaluation mode."""
    progress: Progress
    """Where training ended."""
    directory: Path
    """The run directory; the policy is in `policy/`."""


def train_imitation(
    config: ImitationConfig,
    policy_config: PolicyConfig,
    training: EpisodeSet,
    validation: EpisodeSet,
    run: RunDirectory,
    resume: bool = False,
    on_step: Callable[[Progress, int, float], None] | None = None,
    notes: dict[str, object] | None = None,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[Progress], None] | None = None,
    initial: DrivingPolicy | None = None,
    head_only: bool = False,
    synthesis: ViewSynthesis | None = None,
    weights: Sequence[float] | None = None,
) -> ImitationResult:
    """Train a driver by imitation.

    Args:
        config: how to learn.
        policy_config: the driver to make.
        training: episodes to learn from, frames as `policy_config.preprocessing` leaves them: cropped and resized once,
            not in every epoch. The policy is saved with the preprocessing.
        validation: episodes to choose the best epoch by, frames alike.
        run: where checkpoints, metrics and TensorBoard events go.
        resume: continue from the newest checkpoint in `run` that is whole.
        on_step: called after each optimizer step with the progress, the total of steps and the loss.
        notes: JSON values to keep with the policy.
        device: where the networks train; the policy that is returned is on the CPU.
        on_epoch: called after each epoch, when its checkpoint is kept; an exception ends training there.
        initial: a driver to start from; a fresh one when None.
        head_only: take its conv head alone, and a fresh core.
        synthesis: redraws windows from beside the line, as `config.views` says.
        weights: of the frames of each training episode in the loss; all alike when None.

    Returns:
        The best policy and how it came about.

    Raises:
        ValueError: if the data do not fit the policy, there is no checkpoint to resume, or the loss or the validation
            error is no longer finite.
        OSError: if the run directory cannot be written; the last checkpoint is whole.
    """
    policy = DrivingPolicy.create(policy_config, seed=config.seed)
    if initial is not None:
        adopt(policy, initial, head_only)
    policy.to(device)
    if config.freeze_head:
        policy.head.requires_grad_(False)
    training = smoothed(training, config.label_smoothing_s)
    optimizer = make_optimizer(policy, config)
    generator = torch.Generator().manual_seed(config.seed + 1)
    windows = make_windows(config, training, lambda batch: _changed(batch, config, synthesis, generator))
    shares = weights_of_pieces(training, windows.episodes, weights)
    bfloat16 = head_in_bfloat16(config, device)
    total_steps = config.epochs * len(windows)
    decay = 1 - 1 / max(1.0, config.average * total_steps)
    models = nn.ModuleDict({"policy": policy, "average": copy.deepcopy(policy).requires_grad_(False)})
    average: DrivingPolicy = models["average"]  # type: ignore[assignment]
    progress = Progress()
    if resume:
        checkpoint = newest_whole(run.last)
        if checkpoint is None:
            raise ValueError(f"there is no run to resume: {run.last} does not exist. Train without resume first.")
        saved = load_training_state(checkpoint / TRAINING_STATE, models, optimizer, generator)
        with damaged(checkpoint / TRAINING_STATE, "train again without resume"):
            _PROGRESS.validate_python(saved)
            progress = Progress(**saved)
    # A kill may have come between a checkpoint and its line in the logs, or after some lines of the next epoch.
    run.rewrite_log(progress.history)
    cut_back(run.tensorboard, lambda tag, at: at <= (progress.epoch if tag.startswith("epoch/") else progress.step))
    run.begin()

    def save(directory: Path, figures: dict[str, float]) -> None:
        with clear_errors(directory):
            save_policy(average, directory, {**(notes or {}), "epoch": progress.epoch, **figures})

    with closing(SummaryWriter(str(run.tensorboard))) as board, torch.random.fork_rng(devices=[]):
        for epoch in range(progress.epoch, config.epochs):
            if config.patience and progress.epoch - progress.best_epoch >= config.patience:
                break
            policy.train()
            torch.manual_seed(config.seed + 1_000_003 * (epoch + 1))  # dropout draws from torch's own generator
            started_s, losses, frames_seen = time.perf_counter(), [], 0
            state: Tensor | None = None
            windows.load_state_dict({"seed": config.seed, "epoch": epoch, "position": 0})
            for batch in windows:
                set_learning_rates(optimizer, progress.step / total_steps, config)
                frames, steering = torch.from_numpy(batch.frames), torch.from_numpy(batch.steering)
                elapsed, starts = torch.from_numpy(batch.elapsed), torch.from_numpy(batch.starts)
                frames, steering, elapsed, starts = (x.to(device) for x in (frames, steering, elapsed, starts))
                with torch.autocast(frames.device.type, torch.bfloat16, enabled=bfloat16):
                    predicted, last_state = policy.motors(frames, state, elapsed, starts, preprocessed=True)
                state = last_state.detach() if config.carry_state else None
                weight = torch.from_numpy(batch.valid).float().to(device)
                if weights is not None:
                    weight = weight * torch.from_numpy(shares[batch.of]).to(device)
                if config.straight_share < 1:
                    weight = torch.where(steering.abs() < STRAIGHT, config.straight_share * weight, weight)
                loss = weighted_squared_error(predicted[..., 0], steering, weight, config.steering_weight)
                optimizer.zero_grad()
                loss.backward()
                for group in optimizer.param_groups:
                    torch.nn.utils.clip_grad_norm_(group["params"], config.gradient_clip)
                optimizer.step()
                with torch.no_grad():
                    torch._foreach_lerp_(list(average.parameters()), list(policy.parameters()), 1 - decay)
                progress.step += 1
                frames_seen += batch.steering.size
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    raise ValueError(
                        f"the training loss is no longer finite at step {progress.step}: lower the learning rates "
                        f"(head {config.head_learning_rate:g}, core {config.core_learning_rate:g})."
                    )
                board.add_scalar("train/loss", losses[-1], progress.step)
                if on_step is not None:
                    on_step(progress, total_steps, losses[-1])
            seconds = time.perf_counter() - started_s
            scores = score(copy.deepcopy(average).cpu(), validation, preprocessed=True)
            if not all(map(math.isfinite, scores.values())):
                raise ValueError(
                    f"the validation error is no longer finite after epoch {epoch + 1} (RMSE {scores['rmse']}): lower "
                    f"the learning rates (head {config.head_learning_rate:g}, core {config.core_learning_rate:g})."
                )
            figures = {f"validation_{key}": value for key, value in scores.items()}
            progress.epoch = epoch + 1
            record = {
                "epoch": progress.epoch,
                "step": progress.step,
                "train_loss": sum(losses) / len(losses),
                **figures,
            }
            progress.history.append(record)
            for key, value in {**record, "frames_per_s": frames_seen / seconds}.items():
                board.add_scalar(f"epoch/{key}", value, progress.epoch)
            board.flush()
            if figures["validation_rmse"] < progress.best_rmse:
                progress.best_rmse, progress.best_epoch = figures["validation_rmse"], progress.epoch
                with new_checkpoint(run.policy) as place:
                    save(place, figures)
            # The state, with the history in it, is what a resumed run goes by; the log comes after it.
            with new_checkpoint(run.last, config.keep_checkpoints) as place:
                save(place, figures)
                save_training_state(place / TRAINING_STATE, models, optimizer, generator, vars(progress))
            run.log(**record)
            if on_epoch is not None:
                on_epoch(progress)
    measured = {"validation_rmse": progress.best_rmse, "best_epoch": progress.best_epoch}
    write_hyperparameters(run.tensorboard, {**dataclasses.asdict(config), **policy_config.to_json()}, measured)
    return ImitationResult(load_policy(run.policy), progress, run.path)


def adopt(policy: DrivingPolicy, other: DrivingPolicy, head_only: bool = False) -> None:
    """Take the weights of another driver, or those of its conv head alone.

    Raises:
        ValueError: if they do not fit.
    """
    try:
        policy.head.load_state_dict(other.head.state_dict())
        if not head_only:
            policy.core.load_state_dict(other.core.state_dict())
    except RuntimeError as error:
        mine, theirs = policy.config, other.config
        raise ValueError(
            f"the driver to start from sees {theirs.preprocessing.width}×{theirs.preprocessing.height} pixels with the "
            f"core {theirs.core}, this one {mine.preprocessing.width}×{mine.preprocessing.height} with {mine.core}: "
            "give --height, --width, --head and --core as it has them."
        ) from error


def smoothed(episodes: EpisodeSet, deviation_s: float) -> EpisodeSet:
    """Return episodes whose steering is smoothed in time by a Gaussian; the same ones for a deviation of 0."""
    if deviation_s <= 0:
        return episodes
    kept = []
    for episode in episodes:
        steps_s = np.diff(episode.time_s)  # the nominal period may be another recording's, or the driver's
        deviation = deviation_s / (float(np.median(steps_s)) if len(steps_s) else episode.meta.nominal_period_s)
        steering = gaussian_filter1d(episode.steering.astype(np.float64), deviation, mode="nearest")
        kept.append(dataclasses.replace(episode, steering=np.clip(steering, -1, 1).astype(np.float32)))
    return dataclasses.replace(episodes, episodes=tuple(kept))


def drop_patches(frames: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Paint squares of an eighth of the height grey, the same ones through a window; uint8 `[B, T, H, W, 3]`."""
    if share <= 0:
        return frames
    batch_size, _, height, width, _ = frames.shape
    side = max(1, height // 8)
    rows, columns = -(-height // side), -(-width // side)
    dropped = torch.rand(batch_size, rows, columns, generator=generator) < share
    whole = dropped.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None, :height, :width, None]
    return torch.where(whole, torch.full((), 127, dtype=torch.uint8), frames)


def _changed(
    batch: Batch, config: ImitationConfig, synthesis: ViewSynthesis | None, generator: torch.Generator
) -> Batch:
    """Return the batch as it is learnt from: seen from beside the line, augmented, with patches dropped."""
    if synthesis is not None:
        frames, steering = synthesis(torch.from_numpy(batch.frames), torch.from_numpy(batch.steering), generator)
        batch = dataclasses.replace(batch, frames=frames.numpy(), steering=steering.numpy())
    batch = augmented(batch, config.augmentation, generator)
    if config.patch_dropping:
        frames = drop_patches(torch.from_numpy(batch.frames), config.patch_dropping, generator)
        batch = dataclasses.replace(batch, frames=frames.numpy())
    return batch


def augmented(batch: Batch, config: AugmentationConfig, generator: torch.Generator) -> Batch:
    """Return the batch as a camera might have seen it instead."""
    frames, steering = augment(torch.from_numpy(batch.frames), torch.from_numpy(batch.steering), config, generator)
    return dataclasses.replace(batch, frames=frames.numpy(), steering=steering.numpy())


def head_in_bfloat16(config: ImitationConfig, device: torch.device | str) -> bool:
    """Say whether the conv head runs in bfloat16 on a device."""
    return config.bfloat16 == "on" or (config.bfloat16 == "auto" and gains_by_bfloat16(device))


def make_windows(
    config: ImitationConfig, episodes: EpisodeSet, change: Callable[[Batch], Batch] | None = None
) -> Windows | Streams:
    """Cut the training set as the config says; a pass depends on the config's seed and the epoch alone.

    Args:
        config: Of the training.
        episodes: To learn from.
        change: Applied to each batch as it is read, in order.
    """
    if config.carry_state:
        pieces = episodes.cut(max(config.window, episodes.frame_count // (4 * config.batch_size)))
        return Streams(pieces, config.window, config.batch_size, seed=config.seed, change=change)
    stride = config.stride or None
    return Windows(episodes, config.window, config.burn_in, stride, config.batch_size, seed=config.seed, change=change)


def weights_of_pieces(training: EpisodeSet, pieces: EpisodeSet, weights: Sequence[float] | None) -> NDArray[np.float32]:
    """Return the weight of each piece that episodes were cut into, in their order, by the weights of the episodes."""
    whole = np.ones(len(training)) if weights is None else np.asarray(weights, np.float64)
    by_frame = np.repeat(whole, [len(episode) for episode in training])
    begins = np.cumsum([0, *(len(piece) for piece in pieces)])[:-1]
    return np.asarray(by_frame[begins], np.float32)


def make_optimizer(policy: DrivingPolicy, config: ImitationConfig) -> torch.optim.AdamW:
    """Adam with two groups of parameters: head and core, each with its own learning rate; only the head decays."""
    return torch.optim.AdamW(
        [
            {"params": [p for p in policy.head.parameters() if p.requires_grad], "weight_decay": config.weight_decay},
            {"params": [p for p in policy.core.parameters() if p.requires_grad], "weight_decay": 0.0},
        ],
        lr=config.head_learning_rate,
        fused=True,
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, done: float, config: ImitationConfig) -> None:
    """Set the rates for a share `done` in [0, 1] of the training: linear rise, then half a cosine down to zero."""
    rise = done / config.warmup if done < config.warmup else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * max(0.0, done - config.warmup) / (1 - config.warmup)))
    for group, rate in zip(optimizer.param_groups, (config.head_learning_rate, config.core_learning_rate), strict=True):
        group["lr"] = rate * max(rise * fall, 1e-3)


def weighted_squared_error(predicted: Tensor, steering: Tensor, weight: Tensor, steering_weight: float) -> Tensor:
    """Mean squared error of the frames that count.

    Args:
        predicted: `[B, T]`.
        steering: `[B, T]` recorded, in [−1, 1].
        weight: `[B, T]`, 0 for burn-in and padding.
        steering_weight: alpha; frames weigh exp(alpha · |steering|) more.

    Returns:
        Scalar; weights are normalised to mean one, so alpha does not change the scale of the loss.
    """
    weight = weight * torch.exp(steering_weight * steering.abs())
    return (weight * (predicted - steering).square()).sum() / weight.sum().clamp_min(1e-8)
