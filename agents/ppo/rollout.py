"""One rollout: the policy acts in every env, and the buffer records what it saw, did and earned.

The recurrent state is a tensor that goes from step to step and is stored where a chunk begins; nothing is copied to
NumPy but the actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.ppo.learner import Learner


@dataclass(frozen=True)
class Step:
    """What one step of all envs brought, as the VecEnv returned it."""

    number: int
    """Of the rollout, from 0."""
    rewards: NDArray[np.float32]
    """`[N]`."""
    dones: NDArray[np.bool_]
    """`[N]` True where an episode ended; the observation is the first of the next one."""
    infos: list[dict[str, Any]]
    """One for each env."""


@torch.no_grad()
def collect(learner: Learner, env: VecEnv, on_step: Callable[[Step], bool]) -> bool:
    """Let the policy act for `n_steps` steps in every env and fill the buffer.

    Args:
        learner: with a buffer for N envs; its last observation and its states move on.
        env: N envs that have shown `learner.observation`.
        on_step: called after each step, when the learner stands behind it; returns False to stop.

    Returns:
        False if it was stopped; the buffer is incomplete then.
    """
    networks, buffer, config = learner.networks, learner.buffer, learner.config
    assert buffer is not None and learner.state is not None
    held = config.sde_sample_freq if networks.config.use_sde else 1
    for number in range(config.n_steps):
        content, elapsed, starts = learner.observe()
        if number % config.chunk == 0:
            buffer.state[:, number // config.chunk] = learner.state
        if number % held == 0:
            noise = networks.actions.draw_noise(env.num_envs, learner.generator)
        features = networks.head(content)  # [N, F]
        motors, values, learner.state = networks(features[:, None], learner.state, elapsed[:, None], starts[:, None])
        actions = networks.actions.act(motors[:, 0], features, noise)
        if learner.imitator is not None:
            buffer.imitator[:, number] = _imitate(learner, content, elapsed, starts)
        observation, rewards, dones, infos = env.step(networks.actions.to_env(actions))

        buffer.content[:, number], buffer.elapsed[:, number], buffer.starts[:, number] = content, elapsed, starts
        buffer.actions[:, number], buffer.values[:, number] = actions, values[:, 0]
        buffer.log_prob[:, number] = networks.actions.log_prob(motors[:, 0], features, actions)
        behind = _values_behind_time_limits(learner, infos, dones)
        buffer.rewards[:, number] = torch.as_tensor(rewards + config.gamma * behind)
        buffer.ends[:, number] = torch.as_tensor(dones)
        learner.observation, learner.starts = observation, dones
        if not on_step(Step(number, rewards, dones, infos)):
            return False
    content, elapsed, starts = learner.observe()
    _, values, _ = networks(networks.head(content)[:, None], learner.state, elapsed[:, None], starts[:, None])
    buffer.finish(values[:, 0], config.gamma, config.gae_lambda)
    return True


def _imitate(learner: Learner, content: Tensor, elapsed: Tensor, starts: Tensor) -> Tensor:
    """Return the imitator's motor outputs `[N, M]` and keep its state."""
    assert learner.imitator is not None
    motors, learner.imitator_state = learner.imitator.motors(
        content[:, None], learner.imitator_state, elapsed[:, None], starts[:, None]
    )
    return motors[:, 0]


def _values_behind_time_limits(
    learner: Learner, infos: list[dict[str, Any]], dones: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return `[N]` the value of the last observation where a time limit ended an episode; 0 elsewhere.

    An episode that was terminated earns nothing more, one that was truncated would have.
    """
    values = np.zeros(len(dones), np.float32)
    cut = [int(n) for n in np.flatnonzero(dones) if infos[n].get("TimeLimit.truncated", False)]
    if cut:
        assert learner.state is not None
        last = [infos[n]["terminal_observation"] for n in cut]
        first = last[0]
        batch: Any = {key: np.stack([one[key] for one in last]) for key in first} if isinstance(first, dict) else None
        content, elapsed = learner.networks.adapter(np.stack(last) if batch is None else batch, learner.device)
        features = learner.networks.head(content)[:, None]
        no_starts = torch.zeros(len(cut), 1, dtype=torch.bool, device=learner.device)
        _, behind, _ = learner.networks(features, learner.state[cut], elapsed[:, None], no_starts)
        values[cut] = behind[:, 0].cpu().numpy()
    return values
