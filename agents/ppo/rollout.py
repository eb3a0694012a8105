"""One rollout: the policy acts in every env, and the buffer takes down what it saw, did and felt.

The recurrent state is a tensor that goes from step to step and is stored where a chunk begins; nothing is copied to
NumPy but the actions.

What a rollout leaves behind, in tensors that are allocated once.

N envs make T steps each. Everything is stored `[N, T, …]`, so cutting into chunks of K steps is a change of shape and
no copy. Frames stay uint8. The state is stored where a chunk begins.

The advantage of a step is (Schulman et al. 2016)

    delta_t = r_t + gamma · V_{t+1} · (1 − end_t) − V_t
    A_t = delta_t + gamma · lambda · (1 − end_t) · A_{t+1}

where `end` marks the end of an episode. What an episode that was cut short by a time limit would have earned after it
is added to its last reward by whoever fills the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

if TYPE_CHECKING:
    from agents.ppo.algorithm import LiquidPPO


@dataclass(frozen=True)
class Chunks:
    """A minibatch: B sequences of K steps."""

    content: Tensor
    """`[B, K, …]` frames uint8 or vectors float32."""
    elapsed: Tensor
    """`[B, K]` time since the previous observation, nominal periods."""
    starts: Tensor
    """`[B, K]` bool; True where an episode begins."""
    state: Tensor
    """`[B, S]` before the first step."""
    actions: Tensor
    """`[B, K, A]` in motor units, or int64 `[B, K]`."""
    log_prob: Tensor
    """`[B, K]` when the actions were drawn."""
    values: Tensor
    """`[B, K]` when the actions were drawn."""
    advantages: Tensor
    """`[B, K]`."""
    returns: Tensor
    """`[B, K]` targets of the values."""
    imitator: Tensor
    """`[B, K, M]` motor outputs of the imitator; M = 0 without one."""


class RolloutBuffer:
    """Room for one rollout; the attributes are tensors `[N, T, …]` named as in `Chunks`."""

    def __init__(
        self,
        envs: int,
        steps: int,
        chunk: int,
        content: tuple[tuple[int, ...], torch.dtype],
        actions: tuple[tuple[int, ...], torch.dtype],
        state_size: int,
        imitator_motors: int = 0,
        device: torch.device | str = "cpu",
    ):
        """Allocate it.

        Args:
            envs: N.
            steps: T, a multiple of `chunk`.
            chunk: K.
            content: shape and dtype of one observation's content.
            actions: shape and dtype of one action.
            state_size: S.
            imitator_motors: M of the imitator, or 0.
            device: where the tensors live.
        """
        self.envs, self.steps, self.chunk = envs, steps, chunk

        def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(envs, *shape, dtype=dtype, device=device)

        self.content = room(steps, *content[0], dtype=content[1])
        self.actions = room(steps, *actions[0], dtype=actions[1])
        self.starts = room(steps, dtype=torch.bool)
        self.ends = room(steps, dtype=torch.bool)
        self.state = room(steps // chunk, state_size)
        self.imitator = room(steps, imitator_motors)
        self.elapsed, self.log_prob, self.values = room(steps), room(steps), room(steps)
        self.rewards, self.advantages, self.returns = room(steps), room(steps), room(steps)

    def finish(self, last_values: Tensor, gamma: float, gae_lambda: float) -> None:
        """Work out advantages and returns.

        Args:
            last_values: `[N]` values of the observations after the last step.
            gamma: discount of a step.
            gae_lambda: lambda of the estimator.
        """
        running, following = torch.zeros_like(last_values), last_values
        going = (~self.ends).to(self.values.dtype)  # [N, T]
        for step in range(self.steps - 1, -1, -1):
            values, on = self.values[:, step], going[:, step]
            delta = self.rewards[:, step] + gamma * following * on - values
            running = delta + gamma * gae_lambda * on * running
            self.advantages[:, step] = running
            following = values
        torch.add(self.advantages, self.values, out=self.returns)

    def minibatches(self, batch_size: int, generator: torch.Generator) -> Iterator[Chunks]:
        """Cut everything into chunks and deal them out in random order.

        Args:
            batch_size: steps in a minibatch, a multiple of K; the last one may be smaller.
            generator: owner of the order, on the CPU.
        """
        order = torch.randperm(self.envs * self.steps // self.chunk, generator=generator)
        for picked in order.split(batch_size // self.chunk):
            yield self.pick(picked)

    def pick(self, picked: Tensor) -> Chunks:
        """Return the chunks with these numbers, int64 `[B]`; chunk c of env n has number n · T / K + c."""
        rows = self.envs * self.steps // self.chunk

        def cut(stored: Tensor) -> Tensor:
            return stored.view(rows, self.chunk, *stored.shape[2:])[picked.to(stored.device)]  # [N, T, …] → [B, K, …]

        return Chunks(
            content=cut(self.content),
            elapsed=cut(self.elapsed),
            starts=cut(self.starts),
            state=self.state.flatten(0, 1)[picked.to(self.state.device)],  # [N, T / K, S] → [B, S]
            actions=cut(self.actions),
            log_prob=cut(self.log_prob),
            values=cut(self.values),
            advantages=cut(self.advantages),
            returns=cut(self.returns),
            imitator=cut(self.imitator),
        )


@torch.no_grad()
def collect(model: LiquidPPO, callback: BaseCallback) -> bool:
    """Let the policy act for `n_steps` steps in every env and fill the buffer.

    Args:
        model: the learner; its last observation, its states and its count of steps move on.
        callback: as in Stable-Baselines3.

    Returns:
        False if the callback asked to stop; the buffer is incomplete then.
    """
    env, networks, buffer, config = model.env, model.policy, model.rollout_buffer, model.config
    assert env is not None and model._state is not None
    held = config.sde_sample_freq if networks.config.use_sde else 1
    callback.on_rollout_start()
    model._between_rollouts = False
    for step in range(config.n_steps):
        content, elapsed, starts = see(model)
        if step % config.chunk == 0:
            buffer.state[:, step // config.chunk] = model._state
        if step % held == 0:
            noise = networks.actions.draw_noise(env.num_envs, model.generator)
        features = networks.head(content)  # [N, F]
        motors, values, model._state = networks(features[:, None], model._state, elapsed[:, None], starts[:, None])
        actions = networks.actions.act(motors[:, 0], features, noise)
        if model.imitator is not None:
            buffer.imitator[:, step] = _imitate(model, content, elapsed, starts)
        new_obs, rewards, dones, infos = env.step(networks.actions.to_env(actions))

        buffer.content[:, step], buffer.elapsed[:, step], buffer.starts[:, step] = content, elapsed, starts
        buffer.actions[:, step], buffer.values[:, step] = actions, values[:, 0]
        buffer.log_prob[:, step] = networks.actions.log_prob(motors[:, 0], features, actions)
        buffer.rewards[:, step] = torch.as_tensor(rewards + config.gamma * _cut_off(model, infos, dones))
        buffer.ends[:, step] = torch.as_tensor(dones)
        # Set before the callback, so that what it saves goes on from here.
        model._last_obs, model._last_episode_starts = new_obs, dones  # type: ignore[assignment]
        model.num_timesteps += env.num_envs
        model._update_info_buffer(infos, dones)
        callback.update_locals(locals())
        if not callback.on_step():
            return False
    content, elapsed, starts = see(model)
    _, values, _ = networks(networks.head(content)[:, None], model._state, elapsed[:, None], starts[:, None])
    buffer.finish(values[:, 0], config.gamma, config.gae_lambda)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


def make_room(model: LiquidPPO) -> None:
    """Allocate buffer and states for the learner's envs."""
    networks = model.policy
    if model._state is None or len(model._state) != model.n_envs:
        model._state, model._imitator_state = networks.fresh_state(model.n_envs), None
    motors = networks.core.output_size
    discrete = networks.actions.log_std is None
    model.rollout_buffer = RolloutBuffer(
        envs=model.n_envs,
        steps=model.config.n_steps,
        chunk=model.config.chunk,
        content=(networks.adapter.shape, networks.adapter.dtype),
        actions=((), torch.int64) if discrete else ((motors,), torch.float32),
        state_size=networks.state_size,
        imitator_motors=motors if model.imitator is not None else 0,
        device=model.device,
    )


def see(model: LiquidPPO) -> tuple[Tensor, Tensor, Tensor]:
    """Return content `[N, …]`, elapsed time `[N]` and start flags `[N]` of the last observations."""
    content, elapsed = model.policy.adapter(model._last_obs, model.device)
    return content, elapsed, torch.as_tensor(model._last_episode_starts, dtype=torch.bool, device=model.device)


def _imitate(model: LiquidPPO, content: Tensor, elapsed: Tensor, starts: Tensor) -> Tensor:
    """Return the imitator's motor outputs `[N, M]` and carry its state on."""
    assert model.imitator is not None
    motors, model._imitator_state = model.imitator.motors(
        content[:, None], model._imitator_state, elapsed[:, None], starts[:, None]
    )
    return motors[:, 0]


def _cut_off(model: LiquidPPO, infos: list[dict[str, Any]], dones: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return `[N]` the value of what lies behind a time limit, 0 elsewhere; an end that is an end is worth 0."""
    values = np.zeros(len(dones), np.float32)
    cut = [int(n) for n in np.flatnonzero(dones) if infos[n].get("TimeLimit.truncated", False)]
    if cut:
        assert model._state is not None
        last = [infos[n]["terminal_observation"] for n in cut]
        batch: Any = np.stack(last) if not isinstance(model.observation_space, spaces.Dict) else None
        if batch is None:
            batch = {key: np.stack([one[key] for one in last]) for key in last[0]}
        content, elapsed = model.policy.adapter(batch, model.device)
        features = model.policy.head(content)[:, None]
        no_starts = torch.zeros(len(cut), 1, dtype=torch.bool, device=model.device)
        _, behind, _ = model.policy(features, model._state[cut], elapsed[:, None], no_starts)
        values[cut] = behind[:, 0].cpu().numpy()
    return values
