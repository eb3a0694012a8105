"""What a rollout leaves behind, in tensors that are allocated once.

N envs make T steps each. Everything is stored `[N, T, …]`, so cutting into chunks of K steps is a reshape without a
copy. Frames stay uint8. The recurrent state is stored where a chunk begins.

The advantage of a step is (Schulman et al. 2016)

    delta_t = r_t + gamma · V_{t+1} · (1 − end_t) − V_t
    A_t = delta_t + gamma · lambda · (1 − end_t) · A_{t+1}

where `end` marks the last step of an episode. The value behind a time limit is added to that step's reward by whoever
fills the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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
    """One rollout of N envs × T steps; the attributes are tensors `[N, T, …]` named as in `Chunks`."""

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
        """Allocate the tensors, zeros.

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

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(envs, *shape, dtype=dtype, device=device)

        self.content = zeros(steps, *content[0], dtype=content[1])
        self.actions = zeros(steps, *actions[0], dtype=actions[1])
        self.starts = zeros(steps, dtype=torch.bool)
        self.ends = zeros(steps, dtype=torch.bool)
        self.state = zeros(steps // chunk, state_size)
        self.imitator = zeros(steps, imitator_motors)
        self.elapsed, self.log_prob, self.values = zeros(steps), zeros(steps), zeros(steps)
        self.rewards, self.advantages, self.returns = zeros(steps), zeros(steps), zeros(steps)

    def finish(self, last_values: Tensor, gamma: float, gae_lambda: float) -> None:
        """Compute advantages and returns.

        Args:
            last_values: `[N]` values of the observations after the last step.
            gamma: discount of a step.
            gae_lambda: lambda of the estimator.
        """
        running, following = torch.zeros_like(last_values), last_values
        alive = (~self.ends).to(self.values.dtype)  # [N, T]
        for step in range(self.steps - 1, -1, -1):
            values, on = self.values[:, step], alive[:, step]
            delta = self.rewards[:, step] + gamma * following * on - values
            running = delta + gamma * gae_lambda * on * running
            self.advantages[:, step] = running
            following = values
        torch.add(self.advantages, self.values, out=self.returns)

    def minibatches(self, batch_size: int, generator: torch.Generator) -> Iterator[Chunks]:
        """Cut the rollout into chunks and yield them in random order.

        Args:
            batch_size: steps in a minibatch, a multiple of K; the last one may be smaller.
            generator: source of the order, on the CPU.
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
