"""What an update goes by and what is logged about it: schedules, figures, the names that Stable-Baselines3 uses."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from stable_baselines3.common.utils import explained_variance, safe_mean

from agents.ppo_config import scheduled
from agents.ppo_update import Weights, update

if TYPE_CHECKING:
    from agents.ppo import LiquidPPO


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
