"""One update: passes over a rollout in minibatches of chunks, by the clipped objective of PPO.

    L = E[ −min(r A, clip(r, 1 − ε, 1 + ε) A) + c_v (V − V_target)² − c_e H + c_i KL(policy ‖ imitator) ]

with r the ratio of an action's probability now to that when it was drawn (Schulman et al. 2017, arXiv:1707.06347).
The head sees flat frames; the core runs whole sequences, with `starts` and `elapsed`, in one call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from agents.ppo.actor_critic import ActorCritic
from agents.ppo.buffer import Chunks, RolloutBuffer
from agents.ppo.config import PPOConfig, scheduled
from agents.ppo.learner import Learner


@dataclass(frozen=True)
class Weights:
    """What changes from one update to the next."""

    clip_range: float
    """ε."""
    imitator_kl_coef: float = 0.0
    """c_i; 0 without an imitator."""
    only_critic: bool = False
    """Let the critic alone learn, from features that stay as they are."""


def update(
    networks: ActorCritic,
    optimizer: torch.optim.Optimizer,
    buffer: RolloutBuffer,
    config: PPOConfig,
    weights: Weights,
    generator: torch.Generator,
) -> tuple[dict[str, float], int]:
    """Make up to `n_epochs` passes over a rollout.

    Args:
        networks: to be improved.
        optimizer: of their parameters, a group each for head, core and critic.
        buffer: a finished rollout.
        config: how to learn.
        weights: what changes from update to update.
        generator: owner of the order of the minibatches.

    Returns:
        Means over the minibatches of the figures that Stable-Baselines3 logs, and how many passes were made.

    Raises:
        FloatingPointError: if the loss is no longer finite.
    """
    records: list[list[float]] = []
    for epoch in range(config.n_epochs):
        for batch in buffer.minibatches(config.batch_size, generator):
            loss, figures = objective(networks, batch, config, weights)
            record = torch.stack(list(figures.values())).tolist()
            records.append(record)
            if not math.isfinite(record[0]):
                raise FloatingPointError("the loss is no longer finite")
            if config.target_kl and record[1] > 1.5 * config.target_kl:
                return _means(figures, records), epoch + 1
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], config.max_grad_norm)
            optimizer.step()
    return _means(figures, records), config.n_epochs


def objective(
    networks: ActorCritic, batch: Chunks, config: PPOConfig, weights: Weights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a minibatch, and figures without gradient: `loss`, `approx_kl` and others."""
    features, motors, values = evaluate_actions(networks, batch, critic_trains_head=not weights.only_critic)
    advantages = batch.advantages
    if config.normalize_advantage and advantages.numel() > 1:  # One step alone has no deviation.
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    log_ratio = networks.actions.log_prob(motors, features, batch.actions) - batch.log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - weights.clip_range, 1 + weights.clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()

    if config.clip_range_vf:
        values = batch.values + (values - batch.values).clamp(-config.clip_range_vf, config.clip_range_vf)
    value_loss = (values - batch.returns).square().mean()
    entropy_loss = -networks.actions.entropy(motors, features).mean()

    loss = config.vf_coef * value_loss
    if not weights.only_critic:
        loss = loss + policy_loss + config.ent_coef * entropy_loss
        if weights.imitator_kl_coef:
            loss = (
                loss + weights.imitator_kl_coef * networks.actions.divergence(motors, features, batch.imitator).mean()
            )
    with torch.no_grad():
        figures = {
            "loss": loss,
            "approx_kl": (ratio - 1 - log_ratio).mean(),
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": entropy_loss,
            "clip_fraction": ((ratio - 1).abs() > weights.clip_range).float().mean(),
        }
    return loss, {name: figure.detach() for name, figure in figures.items()}


def evaluate_actions(
    networks: ActorCritic, batch: Chunks, critic_trains_head: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the networks on a minibatch: features `[B, K, F]`, motor outputs `[B, K, M]` and values `[B, K]`."""
    features = networks.head(batch.content.flatten(0, 1)).unflatten(0, batch.elapsed.shape)  # [B·K, F] → [B, K, F]
    motors, values, _ = networks(features, batch.state, batch.elapsed, batch.starts, critic_trains_head)
    return features, motors, values


def _means(figures: dict[str, Tensor], records: list[list[float]]) -> dict[str, float]:
    """Return the mean of each figure over the minibatches; `records` holds their values in the order of `figures`."""
    return {name: float(mean) for name, mean in zip(figures, np.mean(records, axis=0), strict=True)}


def train(learner: Learner, remaining: float) -> tuple[dict[str, float], int]:
    """Update a learner from its buffer.

    Args:
        learner: after a rollout.
        remaining: share of the training that is still to come, in [0, 1]; the schedules go by it.

    Returns:
        The figures to log, and how many passes were made.

    Raises:
        FloatingPointError: if the loss is no longer finite.
    """
    config, buffer = learner.config, learner.buffer
    assert buffer is not None
    clip_range = scheduled(config.clip_range, config.clip_range_end, remaining)
    kl_coef = 0.0
    if learner.imitator is not None:
        kl_coef = scheduled(config.imitator_kl_coef, config.imitator_kl_coef_end, remaining)
    rates = {"head": config.learning_rate, "core": config.core_learning_rate, "critic": config.learning_rate}
    rates = {name: scheduled(rate, config.learning_rate_end, remaining) for name, rate in rates.items()}
    for group in learner.optimizer.param_groups:
        group["lr"] = rates[group["name"]]
    weights = Weights(clip_range, kl_coef, only_critic=learner.rollouts < config.critic_warmup)
    figures, passes = update(learner.networks, learner.optimizer, buffer, config, weights, learner.generator)
    explained = explained_variance(buffer.values.flatten().cpu().numpy(), buffer.returns.flatten().cpu().numpy())
    figures["explained_variance"] = float(explained)
    figures |= {"learning_rate": rates["head"], "core_learning_rate": rates["core"], "clip_range": clip_range}
    if learner.networks.actions.log_std is not None:
        figures["std"] = learner.networks.actions.log_std.detach().exp().mean().item()
    if learner.imitator is not None:
        figures["imitator_kl_coef"] = kl_coef
    return figures, passes
