"""How PPO learns: every number in one frozen dataclass.

    config = PPOConfig(n_steps=256, chunk=16)

The names are those of Stable-Baselines3 where it has one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from agents.runs.renamed import with_current_names

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config={"extra": "forbid"})
class PPOConfig:
    """How to learn by proximal policy optimisation (Schulman et al. 2017)."""

    n_steps: Annotated[int, Field(gt=0, le=10_000_000)] = 256
    """T, steps that each env makes between two updates; a multiple of `chunk`."""
    chunk: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """K, steps of a sequence that gradients flow through; each chunk starts from the state stored in the rollout."""
    batch_size: Annotated[int, Field(gt=0, le=100_000_000)] = 256
    """Steps in a minibatch, `batch_size / chunk` sequences side by side; a multiple of `chunk`."""
    n_epochs: Annotated[int, Field(gt=0, le=10_000)] = 4
    """Passes over a rollout."""
    learning_rate: Positive = 1e-3
    """Learning rate of head and critic at the start."""
    core_learning_rate: Positive = 3e-3
    """Learning rate of the core and of the spread of the actions at the start."""
    learning_rate_end: Share = 1.0
    """Share of the learning rates that is left at the end; they change linearly. 1 keeps them, 0 lets them run out."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Discount of a step, in [0, 1)."""
    gae_lambda: Share = 0.95
    """Lambda of generalised advantage estimation (Schulman et al. 2016), in [0, 1]."""
    clip_range: Positive = 0.2
    """The probability ratio counts within 1 ± this."""
    clip_range_end: Share = 1.0
    """Share of `clip_range` that is left at the end; it changes linearly."""
    clip_range_vf: NotNegative = 0.0
    """Largest change of a value in one update, in units of reward; 0 does not limit it."""
    normalize_advantage: bool = True
    """Give the advantages of each minibatch zero mean and unit deviation."""
    ent_coef: NotNegative = 0.0
    """Weight of the entropy in the loss."""
    vf_coef: NotNegative = 0.5
    """Weight of the squared error of the values in the loss."""
    max_grad_norm: Positive = 0.5
    """Largest norm of the gradient; head, core and critic apart."""
    target_kl: NotNegative = 0.0
    """An update ends early when the new policy's divergence from the old exceeds 1.5 times this; 0 never ends it."""
    sde_sample_freq: PositiveInt = 4
    """With `use_sde`: steps that the noise is held for; new noise at the start of every rollout in any case."""
    critic_warmup: NonNegativeInt = 0
    """Rollouts at the start from which only the critic learns; for drivers that can drive already."""
    imitator_kl_coef: NotNegative = 0.0
    """Weight of the divergence KL(policy ‖ imitator) in the loss; needs a driver to start from."""
    imitator_kl_coef_end: Share = 0.0
    """Share of `imitator_kl_coef` that is left at the end; it changes linearly."""

    def __post_init__(self) -> None:
        """Check that chunks fill rollouts and minibatches."""
        for name in ("n_steps", "batch_size"):
            if getattr(self, name) % self.chunk:
                raise ValueError(
                    f"{name} must be a multiple of chunk = {self.chunk}, for sequences of equal length; got "
                    f"{getattr(self, name)}."
                )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PPOConfig:
        """Build the config from `dataclasses.asdict` after a way through JSON, of earlier versions too."""
        return cls(**with_current_names(values))


def scheduled(start: float, end_share: float, remaining: float) -> float:
    """Return the value of a linear schedule.

    Args:
        start: value at the start.
        end_share: share of it that is left at the end.
        remaining: share of the training that is still to come, in [0, 1].
    """
    return start * (end_share + (1.0 - end_share) * min(max(remaining, 0.0), 1.0))
