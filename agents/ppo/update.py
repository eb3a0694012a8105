"""One update: passes over a rollout in minibatches of chunks, by the clipped objective of PPO.

    L = E[ −min(r A, clip(r, 1 − ε, 1 + ε) A) + c_v (V − V_target)² − c_e H + c_l KL(policy ‖ imitator) ]

with r the ratio of an action's probability now to that when it was drawn (Schulman et al. 2017, arXiv:1707.06347).
The head sees flat frames; the core runs whole sequences, `starts` and `elapsed` in hand, in one call.

What an update goes by and what is logged about it: schedules, figures, the names that Stable-Baselines3 uses.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance, safe_mean
from torch import Tensor

from agents.ppo.actor_critic import ActorCritic
from agents.ppo.config import PPOConfig, scheduled
from agents.ppo.rollout import Chunks, RolloutBuffer

if TYPE_CHECKING:
    from agents.ppo.algorithm import LiquidPPO


@dataclass(frozen=True)
class Weights:
    """What an update goes by besides the config: what changes from one to the next."""

    clip_range: float
    """ε."""
    leash: float = 0.0
    """c_l; 0 without an imitator."""
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
    """Improve the networks.

    Args:
        networks: to improve.
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
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], config.max_grad_norm)
            optimizer.step()
    return _means(figures, records), config.n_epochs


def objective(
    networks: ActorCritic, batch: Chunks, config: PPOConfig, weights: Weights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a minibatch, and figures without gradient: `loss`, `approx_kl` and others."""
    features, motors, values = look_again(networks, batch, critic_trains_head=not weights.only_critic)
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
        if weights.leash:
            loss = loss + weights.leash * networks.actions.divergence(motors, features, batch.imitator).mean()
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


def look_again(networks: ActorCritic, batch: Chunks, critic_trains_head: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Run the networks on a minibatch: features `[B, K, F]`, motor outputs `[B, K, M]` and values `[B, K]`."""
    features = networks.head(batch.content.flatten(0, 1)).unflatten(0, batch.elapsed.shape)  # [B·K, F] → [B, K, F]
    motors, values, _ = networks(features, batch.state, batch.elapsed, batch.starts, critic_trains_head)
    return features, motors, values


def _means(figures: dict[str, Tensor], records: list[list[float]]) -> dict[str, float]:
    """Name the means of what was taken down."""
    return {name: float(mean) for name, mean in zip(figures, np.mean(records, axis=0), strict=True)}


def train(model: LiquidPPO) -> None:
    """Update the networks from the buffer and log how it went; see `ppo_update.update`.

    Args:
        model: the learner, after a rollout.

    Raises:
        ValueError: if the loss is no longer finite.
    """
    config, buffer, remaining = model.config, model.rollout_buffer, model._current_progress_remaining
    clip_range = scheduled(config.clip_range, config.clip_range_end, remaining)
    leash = scheduled(config.leash, config.leash_end, remaining) if model.imitator is not None else 0.0
    rates = {"head": config.learning_rate, "core": config.core_learning_rate, "critic": config.learning_rate}
    rates = {name: scheduled(rate, config.learning_rate_end, remaining) for name, rate in rates.items()}
    for group in model.optimizer.param_groups:
        group["lr"] = rates[group["name"]]
    weights = Weights(clip_range, leash, only_critic=model._rollouts < config.critic_warmup)
    try:
        figures, passes = update(model.policy, model.optimizer, buffer, config, weights, model.generator)
    except FloatingPointError as error:
        raise ValueError(
            f"{error} after {model.num_timesteps:,} steps: lower the learning rates ({config.learning_rate:g}, core "
            f"{config.core_learning_rate:g}) or check the env's rewards."
        ) from error
    model._n_updates += passes
    explained = explained_variance(buffer.values.flatten().cpu().numpy(), buffer.returns.flatten().cpu().numpy())
    figures["explained_variance"] = float(explained)
    figures |= {"learning_rate": rates["head"], "core_learning_rate": rates["core"], "clip_range": clip_range}
    if model.policy.actions.log_std is not None:
        figures["std"] = model.policy.actions.log_std.detach().exp().mean().item()
    if model.imitator is not None:
        figures["leash"] = leash
    for name, value in figures.items():
        model.logger.record(f"train/{name}", value)
    model.logger.record("train/n_updates", model._n_updates, exclude="tensorboard")


def write_log(model: LiquidPPO, iteration: int) -> None:
    """Write the log, after so many rollouts of this `learn`."""
    assert model.ep_info_buffer is not None and model.ep_success_buffer is not None
    seconds = max((time.time_ns() - model.start_time) / 1e9, sys.float_info.epsilon)
    log = model.logger
    log.record("time/iterations", iteration, exclude="tensorboard")
    if model.ep_info_buffer:
        log.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in model.ep_info_buffer]))
        log.record("rollout/ep_len_mean", safe_mean([info["l"] for info in model.ep_info_buffer]))
    if model.ep_success_buffer:
        log.record("rollout/success_rate", safe_mean(model.ep_success_buffer))
    log.record("time/fps", int((model.num_timesteps - model._num_timesteps_at_start) / seconds))
    log.record("time/time_elapsed", int(seconds), exclude="tensorboard")
    log.record("time/total_timesteps", model.num_timesteps, exclude="tensorboard")
    log.dump(step=model.num_timesteps)
