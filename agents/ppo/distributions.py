"""What motor outputs mean: how actions are drawn from them, and how likely an action was.

A continuous action is Gaussian. Motor outputs `[…, A]` are its mean, in units of half the range of each action; its
spread is either a parameter of its own or, with generalised state-dependent exploration (gSDE; Raffin, Kober and
Stulp, *Smooth Exploration for Robotic Reinforcement Learning*, arXiv:2005.05719), a matter of the features:

    a = μ + (θ ∘ exp(log σ))ᵀ z,    θ ~ N(0, 1) of shape [F + 1, A],    so a ~ N(μ, Σ_f z_f² σ_f²)

θ is held for some steps, so the same sight gets the same push: a car swerves instead of trembling. Here z is the
features and a 1, scaled to unit length, so that with equal σ the spread is σ whatever the features are. The features
get no gradient from the spread.

A discrete action is categorical; motor outputs are its logits.

    noise = actions.draw_noise(count, generator)  # held as long as one likes
    chosen = actions.act(motors, features, noise)
    actions.log_prob(motors, features, chosen)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Actions(nn.Module, ABC):
    """How motor outputs become actions; `[…]` stands for any leading dimensions.

    Attributes:
        log_std: logarithm of the spread, `[A]` or `[F + 1, A]`; None for discrete actions.
    """

    log_std: nn.Parameter | None

    @abstractmethod
    def draw_noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Return `[count, …]` what chance adds to the actions of so many envs; `generator` is on the CPU."""

    @abstractmethod
    def act(self, motors: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Return actions, float `[N, A]` in motor units or int64 `[N]`, for motors `[N, M]` and features `[N, F]`."""

    @abstractmethod
    def choose(self, motors: Tensor) -> Tensor:
        """Return the likeliest actions for motors `[N, M]`."""

    @abstractmethod
    def log_prob(self, motors: Tensor, features: Tensor, actions: Tensor) -> Tensor:
        """Return the log-probabilities `[…]` of actions under motors `[…, M]` and features `[…, F]`."""

    @abstractmethod
    def entropy(self, motors: Tensor, features: Tensor) -> Tensor:
        """Return the entropies `[…]`, nats."""

    @abstractmethod
    def divergence(self, motors: Tensor, features: Tensor, others: Tensor) -> Tensor:
        """Return KL(policy ‖ other) `[…]`, nats; the other has motors `[…, M]` and the initial spread."""

    @abstractmethod
    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Turn actions into the env's."""


class GaussianActions(Actions):
    """Continuous actions."""

    def __init__(self, space: spaces.Box, log_std_init: float, features: int = 0):
        """Make the spread.

        Args:
            space: of the actions, `[A]` with finite limits.
            log_std_init: initial logarithm of the spread, in units of half an action's range.
            features: F, features that the spread depends on; 0 for a spread of its own.
        """
        super().__init__()
        shape = (features + 1, space.shape[0]) if features else (space.shape[0],)
        self.log_std_init, self.depends_on_state = log_std_init, bool(features)
        self.log_std = nn.Parameter(torch.full(shape, log_std_init))
        self._middle, self._half_range = 0.5 * (space.high + space.low), 0.5 * (space.high - space.low)

    def draw_noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard normal `[count, A]`, or θ `[count, F + 1, A]`."""
        assert self.log_std is not None
        return torch.randn(count, *self.log_std.shape, generator=generator).to(self.log_std.device)

    def act(self, motors: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Add noise to the mean; actions may lie beyond the limits, where `to_env` clips them."""
        assert self.log_std is not None
        scaled = noise * self.log_std.exp()
        if self.depends_on_state:
            scaled = torch.einsum("nf,nfa->na", _direction(features), scaled)
        return motors + scaled

    def choose(self, motors: Tensor) -> Tensor:
        """Return the mean."""
        return motors

    def log_prob(self, motors: Tensor, features: Tensor, actions: Tensor) -> Tensor:
        """Sum the logarithms of the densities of the A actions."""
        log_std = self.log_spread(features)
        scaled = (actions - motors) * torch.exp(-log_std)
        return (-0.5 * scaled.square() - log_std - _HALF_LOG_TWO_PI).sum(-1)

    def entropy(self, motors: Tensor, features: Tensor) -> Tensor:
        """Depends on the spread alone."""
        return (self.log_spread(features) + (0.5 + _HALF_LOG_TWO_PI)).sum(-1).expand(motors.shape[:-1])

    def divergence(self, motors: Tensor, features: Tensor, others: Tensor) -> Tensor:
        """KL of two Gaussians with diagonal covariances."""
        wide = self.log_spread(features) - self.log_std_init  # log of the ratio of the spreads
        apart = (motors - others).square() * math.exp(-2 * self.log_std_init)
        return (0.5 * ((2 * wide).exp() + apart - 1) - wide).sum(-1)

    def log_spread(self, features: Tensor) -> Tensor:
        """Return the logarithm of the spread, `[A]` or for features `[…, F]` `[…, A]`."""
        assert self.log_std is not None
        if not self.depends_on_state:
            return self.log_std
        return 0.5 * torch.log(_direction(features).square() @ (2 * self.log_std).exp())

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Clip to [−1, 1], then stretch to the range of each action."""
        array = actions.detach().cpu().numpy()
        return np.clip(array, -1.0, 1.0).astype(np.float32) * self._half_range + self._middle


class CategoricalActions(Actions):
    """Discrete actions."""

    def __init__(self, space: spaces.Discrete):
        """Note where the env begins to count."""
        super().__init__()
        self.log_std = None
        self._start = int(space.start)

    def draw_noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Even in [0, 1), `[count]`."""
        return torch.rand(count, generator=generator)

    def act(self, motors: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Return the action in whose part of [0, 1) the noise falls; parts are as long as the action is likely."""
        ends = torch.softmax(motors, 1).cumsum(1)[:, :-1]
        return (noise.to(motors.device)[:, None] >= ends).sum(1)

    def choose(self, motors: Tensor) -> Tensor:
        """Return the most likely action of each row, int64 `[N]`: the greedy choice."""
        return motors.argmax(1)

    def log_prob(self, motors: Tensor, features: Tensor, actions: Tensor) -> Tensor:
        """Look them up."""
        return torch.log_softmax(motors, -1).gather(-1, actions[..., None])[..., 0]

    def entropy(self, motors: Tensor, features: Tensor) -> Tensor:
        """Sum over the actions."""
        logs = torch.log_softmax(motors, -1)
        return -(logs.exp() * logs).sum(-1)

    def divergence(self, motors: Tensor, features: Tensor, others: Tensor) -> Tensor:
        """Sum over the actions."""
        logs, other_logs = torch.log_softmax(motors, -1), torch.log_softmax(others, -1)
        return (logs.exp() * (logs - other_logs)).sum(-1)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Count from where the env begins."""
        return actions.cpu().numpy() + self._start


def make_actions(space: spaces.Space[Any], log_std_init: float, features: int = 0) -> tuple[Actions, int]:
    """Make what suits an action space; returns it and M, the motor outputs that it needs.

    Raises:
        ValueError: if the space is not supported, or a discrete one is asked for a spread.
    """
    if isinstance(space, spaces.Discrete):
        if features:
            raise ValueError("use_sde is for continuous actions; this env's are discrete: leave it out.")
        return CategoricalActions(space), int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.all(np.isfinite([space.low, space.high])):
        return GaussianActions(space, log_std_init, features), space.shape[0]
    raise ValueError(f"actions must be Discrete or a Box vector with finite limits, got {space}.")


def _direction(features: Tensor) -> Tensor:
    """Return z `[…, F + 1]`: the features and a 1, scaled to unit length, without gradient."""
    features = features.detach()
    longer = torch.cat([features, torch.ones_like(features[..., :1])], -1)
    return longer / torch.linalg.vector_norm(longer, dim=-1, keepdim=True)
