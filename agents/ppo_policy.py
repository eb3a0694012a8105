"""The learner's networks: a head, a core whose motor neurons act, and a critic.

For a continuous action the motor outputs are the mean of a Gaussian, in units of half the range of each action, and
its spread is a parameter that does not depend on the state. For a discrete action they are the logits.

    networks = ActorCritic(ActorCriticConfig(core="ltc"), observation_space, action_space, seed=0)
    features = networks.head(content)  # [B·T, F], flat: real frames only
    motors, values, state = networks(features.unflatten(0, (B, T)), state, elapsed, starts)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.ppo_observations import ObservationAdapter
from policies.cores import make_core
from policies.perception import HEADS, ConvHead, HeadConfig, whiten
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

CRITICS = ("features", "shared", "own")
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class ActorCriticConfig:
    """What the learner's networks are made of."""

    core: str = "ltc"
    """Recurrent core; `wormwheel info cores` lists them."""
    core_options: dict[str, Any] = field(default_factory=dict)
    """Fields of the core's own config that differ from its defaults."""
    head: HeadConfig = HEADS["small"]
    """Conv head, for envs that show frames."""
    preprocessing: dict[str, int] = field(default_factory=dict)
    """Crop and resize of frames: fields of `policies.preprocessing.Preprocessing`; none keeps them as they are."""
    vector_features: int = 32
    """Features, linear with tanh, that a vector observation is turned into; 0 feeds it to the core as it is."""
    critic: str = "features"
    """What judges: "features" (a small MLP on the features of the moment), "shared" (the same on features and motor
    outputs), or "own" (a core of its own kind and size beside the actor's)."""
    critic_hidden: int = 64
    """Hidden units of the critic's MLP."""
    log_std_init: float = -0.5
    """Initial logarithm of the actions' spread, in units of half an action's range."""
    nominal_period_s: float = 0.05
    """Time between frames that `elapsed = 1` stands for, seconds; kept with the driver."""

    def __post_init__(self) -> None:
        """Check choices and ranges."""
        if self.critic not in CRITICS:
            raise ValueError(f"critic must be one of {', '.join(CRITICS)}, got {self.critic!r}.")
        if self.vector_features < 0 or self.critic_hidden < 1:
            raise ValueError(
                f"vector_features must be at least 0 and critic_hidden at least 1, got {self.vector_features} and "
                f"{self.critic_hidden}."
            )
        if not math.isfinite(self.log_std_init):
            raise ValueError(f"log_std_init must be finite, got {self.log_std_init}.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ActorCriticConfig:
        """Build the config from `dataclasses.asdict` after a way through JSON."""
        head: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values["head"].items()}
        return cls(**{**values, "head": HeadConfig(**head)})


class FrameHead(nn.Module):
    """Frames to features: preprocessing, whitening, conv head."""

    def __init__(self, preprocessing: Preprocessing, head: HeadConfig, generator: torch.Generator):
        """Draw the weights from `generator`."""
        super().__init__()
        self.preprocessing = preprocessing
        self.conv = ConvHead(head, preprocessing.height, preprocessing.width, generator)
        self.output_size = self.conv.output_size

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 `[N, H, W, 3]` → `[N, F]`."""
        return self.conv(whiten(self.preprocessing(frames))[:, None])[:, 0]


class VectorHead(nn.Module):
    """A vector to features: one linear layer with tanh, or nothing."""

    def __init__(self, input_size: int, output_size: int, generator: torch.Generator):
        """Draw the weights from `generator`; an `output_size` of 0 passes the vector on."""
        super().__init__()
        self.output_size = output_size or input_size
        self.linear = _linear(input_size, output_size, math.sqrt(2), generator) if output_size else None

    def forward(self, vectors: Tensor) -> Tensor:
        """`[N, D]` → `[N, F]`."""
        return vectors if self.linear is None else torch.tanh(self.linear(vectors))


class ActorCritic(nn.Module):
    """Head, core and critic; the state is an argument, the actor's part first.

    Attributes:
        config: what it is made of.
        head: content → features, on flat batches.
        core: features → motor outputs.
        critic_core: the critic's own core, or None.
        log_std: `[A]` logarithm of the spread, or None for discrete actions.
        state_size: S, of actor and critic together.
    """

    def __init__(
        self,
        config: ActorCriticConfig,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        seed: int = 0,
    ):
        """Build the networks with weights drawn from `seed`; torch's global generator is left alone.

        Raises:
            ValueError: if a space or the config is not supported.
        """
        super().__init__()
        self.config, self.action_space = config, action_space
        self.adapter = ObservationAdapter(observation_space)
        self.is_discrete, motors = _motors(action_space)
        generator = torch.Generator().manual_seed(seed)
        self.head: FrameHead | VectorHead
        if self.adapter.is_visual:
            height, width, _ = self.adapter.shape
            fit = Preprocessing(**{**_same_size(height, width), **config.preprocessing})
            self.head = FrameHead(fit, config.head, generator)
        else:
            self.head = VectorHead(self.adapter.shape[0], config.vector_features, generator)
        features = self.head.output_size
        self.core = make_core(config.core, features, motors, config.core_options, seed=seed)
        critic_inputs = features + (motors if config.critic == "shared" else 0)
        self.critic_core = None
        if config.critic == "own":
            self.critic_core = make_core(config.core, features, motors, config.core_options, seed=seed + 1)
            critic_inputs += motors
        self.critic = nn.Sequential(
            _linear(critic_inputs, config.critic_hidden, math.sqrt(2), generator),
            nn.Tanh(),
            _linear(config.critic_hidden, 1, 1.0, generator),
        )
        self.log_std = None if self.is_discrete else nn.Parameter(torch.full((motors,), config.log_std_init))
        self.actor_state_size = self.core.state_size
        self.state_size = self.core.state_size + (self.critic_core.state_size if self.critic_core is not None else 0)
        if not self.is_discrete:
            assert isinstance(action_space, spaces.Box)
            self._middle = 0.5 * (action_space.high + action_space.low)
            self._half_range = 0.5 * (action_space.high - action_space.low)

    def forward(
        self, features: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, critic_trains_head: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run whole sequences.

        Args:
            features: `[B, T, F]` from the head.
            state: `[B, S]` before the first step.
            elapsed: `[B, T]` in nominal periods.
            starts: `[B, T]` bool.
            critic_trains_head: let the critic's gradient into the features and the actor's core.

        Returns:
            motor outputs `[B, T, M]`, values `[B, T]` and the `[B, S]` state after the last step.
        """
        size = self.actor_state_size
        motors, last = self.core(features, state[:, :size].contiguous(), elapsed, starts)
        judged = [features, motors] if self.config.critic == "shared" else [features]
        if not critic_trains_head:
            judged = [part.detach() for part in judged]
        if self.critic_core is not None:
            heard, critic_last = self.critic_core(judged[0], state[:, size:].contiguous(), elapsed, starts)
            judged.append(heard)
            last = torch.cat([last, critic_last], 1)
        inputs = judged[0] if len(judged) == 1 else torch.cat(judged, 2)
        return motors, self.critic(inputs)[..., 0], last

    def fresh_state(self, count: int) -> Tensor:
        """Return the `[count, S]` state of envs that have not started."""
        return torch.zeros(count, self.state_size, device=next(self.parameters()).device)

    def sample(self, motors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions.

        Args:
            motors: `[N, M]`.
            generator: owner of the draws, on the CPU.

        Returns:
            actions, float `[N, A]` in motor units or int64 `[N]`, and their log-probabilities `[N]`.
        """
        if self.log_std is None:
            probabilities = torch.softmax(motors, 1)
            actions = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0].to(motors.device)
        else:
            noise = torch.randn(motors.shape, generator=generator).to(motors.device)
            actions = motors + noise * self.log_std.exp()
        return actions, self.log_prob(motors, actions)

    def log_prob(self, motors: Tensor, actions: Tensor) -> Tensor:
        """Return the log-probabilities `[…]` of actions `[…, A]` (or `[…]`) under motor outputs `[…, M]`."""
        if self.log_std is None:
            return torch.log_softmax(motors, -1).gather(-1, actions[..., None])[..., 0]
        scaled = (actions - motors) * torch.exp(-self.log_std)
        return (-0.5 * scaled.square() - self.log_std - _HALF_LOG_TWO_PI).sum(-1)

    def entropy(self, motors: Tensor) -> Tensor:
        """Return the entropies `[…]` of the actions under motor outputs `[…, M]`, nats."""
        if self.log_std is None:
            logs = torch.log_softmax(motors, -1)
            return -(logs.exp() * logs).sum(-1)
        return (self.log_std + 0.5 + _HALF_LOG_TWO_PI).sum().expand(motors.shape[:-1])

    def divergence(self, motors: Tensor, others: Tensor) -> Tensor:
        """Return KL(policy ‖ other) `[…]`, nats; the other has motors `[…, M]` and the initial spread."""
        if self.log_std is None:
            logs, other_logs = torch.log_softmax(motors, -1), torch.log_softmax(others, -1)
            return (logs.exp() * (logs - other_logs)).sum(-1)
        wide = self.log_std - self.config.log_std_init  # log of the ratio of the spreads
        apart = (motors - others).square() * math.exp(-2 * self.config.log_std_init)
        return (0.5 * ((2 * wide).exp() + apart - 1) - wide).sum(-1)

    def choose(self, motors: Tensor) -> Tensor:
        """Return the likeliest actions for motors `[N, M]`: `[N, M]` in motor units, or int64 `[N]`."""
        return motors.argmax(1) if self.is_discrete else motors

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Turn actions in motor units into the env's: clipped to [−1, 1], then stretched to the action's range."""
        array = actions.detach().cpu().numpy()
        if self.is_discrete:
            assert isinstance(self.action_space, spaces.Discrete)
            return array + self.action_space.start
        return np.clip(array, -1.0, 1.0).astype(np.float32) * self._half_range + self._middle

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters that learn: of the head, of the core and the spread, of the critic."""
        critic = [*self.critic.parameters(), *(self.critic_core.parameters() if self.critic_core is not None else ())]
        core = [*self.core.parameters(), *([self.log_std] if self.log_std is not None else ())]
        groups = (self.head.parameters(), core, critic)
        return [[p for p in group if p.requires_grad] for group in groups]

    def driver(self) -> DrivingPolicy:
        """Return the actor as a `DrivingPolicy` that shares its weights.

        Raises:
            ValueError: if the env shows no frames or its actions are not continuous.
        """
        if not isinstance(self.head, FrameHead) or self.is_discrete:
            raise ValueError("only drivers that see frames and act continuously are saved as driving policies.")
        config = PolicyConfig(
            core=self.config.core,
            core_options=self.config.core_options,
            head=self.config.head,
            preprocessing=self.head.preprocessing,
            motors=self.core.output_size,
            nominal_period_s=self.config.nominal_period_s,
        )
        return DrivingPolicy(config, self.head.conv, self.core)

    @property
    def is_driver(self) -> bool:
        """Whether `driver` works."""
        return isinstance(self.head, FrameHead) and not self.is_discrete

    def adopt(self, driver: DrivingPolicy) -> None:
        """Take over the weights of a driver.

        Raises:
            ValueError: if it is made of other parts.
        """
        mine = self.driver()
        ours, theirs = (asdict(one.config) for one in (mine, driver))
        differing = [name for name in ours if ours[name] != theirs[name] and name != "nominal_period_s"]
        if differing:
            raise ValueError(
                f"the driver to start from differs in {', '.join(differing)}: it has "
                f"{', '.join(repr(theirs[name]) for name in differing)}, needed is "
                f"{', '.join(repr(ours[name]) for name in differing)}."
            )
        mine.load_state_dict(driver.state_dict())


def config_for(driver: DrivingPolicy, **others: Any) -> ActorCriticConfig:
    """Return the config of networks that a driver's weights fit."""
    config = driver.config
    return ActorCriticConfig(
        core=config.core,
        core_options=dict(config.core_options),
        head=config.head,
        preprocessing=asdict(config.preprocessing),
        nominal_period_s=config.nominal_period_s,
        **others,
    )


def _same_size(height: int, width: int) -> dict[str, int]:
    return {"source_height": height, "source_width": width, "height": height, "width": width}


def _motors(space: spaces.Space[Any]) -> tuple[bool, int]:
    """Return whether actions are discrete, and the number of motor outputs that they need."""
    if isinstance(space, spaces.Discrete):
        return True, int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.all(np.isfinite([space.low, space.high])):
        return False, space.shape[0]
    raise ValueError(f"actions must be Discrete or a Box vector with finite limits, got {space}.")


def _linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """A linear layer with orthogonal weights and no bias at first."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
