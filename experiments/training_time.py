"""How long a training will take, measured in a few steps before it starts.

say(describe_time(estimate_s(config, policy_config, training, validation), ...))
"""

from __future__ import annotations

import time

import torch

from agents.imitation.train import (
    ImitationConfig,
    augmented,
    head_in_bfloat16,
    make_optimizer,
    make_windows,
    weighted_squared_error,
)
from agents.recordings.episodes import EpisodeSet
from experiments.console import duration
from policies.policy import DrivingPolicy, PolicyConfig

LONG_S = 3600.0
"""From this on a training is said to be long, seconds."""
MEASURED_S = 0.3
"""Steps are measured for about this long, seconds; at least two of them."""
VALIDATION_SHARE = 0.3
"""Time for a frame that is only steered, as a share of that for one that is learnt from."""


def estimate_s(
    config: ImitationConfig,
    policy_config: PolicyConfig,
    training: EpisodeSet,
    validation: EpisodeSet,
    device: torch.device | str = "cpu",
) -> float:
    """Return how long a training will take on this computer, seconds.

    A throw-away policy takes a few steps on the first batches of the training set; the first step, in which kernels are
    compiled, does not count.
    """
    policy = DrivingPolicy.create(policy_config, seed=config.seed).to(device)
    optimizer = make_optimizer(policy, config)
    generator = torch.Generator().manual_seed(config.seed)
    windows = make_windows(config, training)
    windows.prefetch = 0
    half = head_in_bfloat16(config, device)
    steps, started_s, frames = 0, 0.0, 0
    with torch.random.fork_rng(devices=[]):
        for batch in windows:
            if steps == 1:
                started_s, frames = time.perf_counter(), 0
            changed = augmented(batch, config.augmentation, generator)
            pictures, steering, elapsed, starts, valid = (
                torch.from_numpy(array).to(device)
                for array in (changed.frames, changed.steering, changed.elapsed, changed.starts, changed.valid)
            )
            with torch.autocast(pictures.device.type, torch.bfloat16, enabled=half):
                predicted, _ = policy.motors(pictures, None, elapsed, starts, preprocessed=True)
            loss = weighted_squared_error(predicted[..., 0], steering, valid.float(), config.steering_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss.item()
            steps += 1
            frames += batch.steering.size
            if steps >= 3 and time.perf_counter() - started_s > MEASURED_S:
                break
    if steps < 2:
        return 0.0
    per_frame_s = (time.perf_counter() - started_s) / frames
    learnt = len(windows) * config.batch_size * config.window
    return config.epochs * per_frame_s * (learnt + VALIDATION_SHARE * validation.frame_count)


def describe_time(name: str, seconds: float, epochs: int, steps: int, advice: str) -> list[str]:
    """Say how long a training will take; a second line warns where that is hours.

    Args:
        name: What is trained.
        seconds: How long.
        epochs: Passes over the training set.
        steps: Optimizer steps in each.
        advice: What makes it shorter.
    """
    lines = [f"{name}: {epochs:,} epochs of {steps:,} steps, about {duration(seconds)} on this computer"]
    if seconds > LONG_S:
        lines.append(f"note: that is long: {advice}")
    return lines
