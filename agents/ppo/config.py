"""How PPO learns: every number in one frozen dataclass.

    config = PPOConfig(n_steps=256, chunk=16)

The names are those of Stable-Baselines3 where it has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PPOConfig:
    """How to learn by proximal policy optimisation (Schulman et al. 2017)."""

    n_steps: int = 256
    """T, steps that each env makes between two updates; a multiple of `chunk`."""
    chunk: int = 16
    """K, steps of a sequence that gradients flow through; each chunk starts from the state stored in the rollout."""
    batch_size: int = 256
    """Steps in a minibatch, `batch_size / chunk` sequences side by side; a multiple of `chunk`."""
    n_epochs: int = 4
    """Passes over a rollout."""
    learning_rate: float = 1e-3
    """Learning rate of head and critic at the start."""
    core_learning_rate: float = 3e-3
    """Learning rate of the core and of the spread of the actions at the start."""
    learning_rate_end: float = 1.0
    """Share of the learning rates that is left at the end; they change linearly. 1 keeps them, 0 lets them run out."""
    gamma: float = 0.99
    """Discount of a step, in [0, 1)."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation (Schulman et al. 2016), in [0, 1]."""
    clip_range: float = 0.2
    """The probability ratio counts within 1 ± this."""
    clip_range_end: float = 1.0
    """Share of `clip_range` that is left at the end; it changes linearly."""
    clip_range_vf: float = 0.0
    """Largest change of a value in one update, in units of reward; 0 does not limit it."""
    normalize_advantage: bool = True
    """Give the advantages of each minibatch zero mean and unit deviation."""
    ent_coef: float = 0.0
    """Weight of the entropy in the loss."""
    vf_coef: float = 0.5
    """Weight of the squared error of the values in the loss."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradient; head, core and critic apart."""
    target_kl: float = 0.0
    """An update ends early when the new policy's divergence from the old exceeds 1.5 times this; 0 never ends it."""
    sde_sample_freq: int = 4
    """With `use_sde`: steps that the noise is held for; new noise at the start of every rollout in any case."""
    critic_warmup: int = 0
    """Rollouts at the start from which only the critic learns; for drivers that can drive already."""
    leash: float = 0.0
    """Weight of the divergence KL(policy ‖ imitator) in the loss; needs a driver to start from."""
    leash_end: float = 0.0
    """Share of `leash` that is left at the end; it changes linearly."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("n_steps", "chunk", "batch_size", "n_epochs", "sde_sample_freq"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("n_steps", "batch_size"):
            if getattr(self, name) % self.chunk:
                raise ValueError(
                    f"{name} must be a multiple of chunk = {self.chunk}, for sequences of equal length; got "
                    f"{getattr(self, name)}."
                )
        for name in ("learning_rate", "core_learning_rate", "clip_range", "max_grad_norm"):
            value = getattr(self, name)
            if callable(value):
                raise ValueError(
                    f"{name} must be a number, got a function: schedules are linear, to the share of the start that "
                    "learning_rate_end and clip_range_end name."
                )
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}.")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must lie in [0, 1), got {self.gamma}.")
        for name in ("gae_lambda", "learning_rate_end", "clip_range_end", "leash_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        for name in ("clip_range_vf", "ent_coef", "vf_coef", "target_kl", "critic_warmup", "leash"):
            value = getattr(self, name)
            if value is None:
                raise ValueError(f"{name} must be a number, got None: 0 is how it is left out.")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} cannot be negative, got {value}.")


def scheduled(start: float, end_share: float, remaining: float) -> float:
    """Return the value of a linear schedule.

    Args:
        start: value at the start.
        end_share: share of it that is left at the end.
        remaining: share of the training that is still to come, in [0, 1].
    """
    return start * (end_share + (1.0 - end_share) * min(max(remaining, 0.0), 1.0))
