"""What a PPO learner is made of and where it stands: all that rollout, update and checkpoint work on.

`LiquidPPO` owns one and keeps the books of Stable-Baselines3 (logger, callbacks, episode statistics) around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.ppo.actor_critic import ActorCritic
from agents.ppo.buffer import RolloutBuffer
from agents.ppo.config import PPOConfig
from policies.policy import DrivingPolicy


@dataclass
class Learner:
    """Networks, optimizer, and the recurrent state that goes from one rollout to the next."""

    config: PPOConfig
    """How it learns."""
    networks: ActorCritic
    """Head, core and critic; always in evaluation mode, since dropout would make the probabilities of an update differ
    from the rollout's."""
    optimizer: torch.optim.Optimizer
    """Of the networks; one group each for head, core and critic, named so."""
    generator: torch.Generator
    """Source of all random draws of the learner, on the CPU."""
    imitator: DrivingPolicy | None = None
    """The driver that the policy is held near, or None."""
    buffer: RolloutBuffer | None = None
    """The last rollout; None before `allocate`."""
    state: Tensor | None = None
    """`[N, S]` recurrent state of actor and critic after the last step; None before `allocate`."""
    imitator_state: Tensor | None = None
    """`[N, S']` recurrent state of the imitator; None at its first step."""
    observation: Any = None
    """What the N envs showed last; None before their first reset."""
    starts: NDArray[np.bool_] | None = None
    """`[N]` True where that observation begins an episode."""
    rollouts: int = 0
    """Updates made; `critic_warmup` counts by it."""
    between_rollouts: bool = True
    """Whether no rollout is under way, so that what is saved now resumes exactly."""

    @property
    def device(self) -> torch.device:
        """Where the networks live."""
        return next(self.networks.parameters()).device

    def allocate(self, envs: int) -> None:
        """Allocate the buffer, and the states unless they are those of so many envs already.

        Args:
            envs: N.
        """
        networks = self.networks
        if self.state is None or len(self.state) != envs:
            self.state, self.imitator_state = networks.fresh_state(envs), None
        motors = networks.core.output_size
        discrete = networks.actions.log_std is None
        self.buffer = RolloutBuffer(
            envs=envs,
            steps=self.config.n_steps,
            chunk=self.config.chunk,
            content=(networks.adapter.shape, networks.adapter.dtype),
            actions=((), torch.int64) if discrete else ((motors,), torch.float32),
            state_size=networks.state_size,
            imitator_motors=motors if self.imitator is not None else 0,
            device=self.device,
        )

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return content `[N, …]`, elapsed time `[N]` and start flags `[N]` of the last observations."""
        content, elapsed = self.networks.adapter(self.observation, self.device)
        return content, elapsed, torch.as_tensor(self.starts, dtype=torch.bool, device=self.device)
