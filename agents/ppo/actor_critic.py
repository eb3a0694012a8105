"""The learner's networks: a head, a core whose motor neurons act, and a critic.

networks = ActorCritic(ActorCriticConfig(core="ltc"), observation_space, action_space, seed=0)
features = networks.head(content)  # [B·T, F], flat: real frames only
motors, values, state = networks(features.unflatten(0, (B, T)), state, elapsed, starts)
networks.actions.log_prob(motors, features, actions)

What turns the content of an observation into features, on flat batches: frames through convolutions, vectors
through one linear layer.

    head = make_head(adapter, HEADS["small"], {}, vector_features=32, generator=generator)
    features = head(content)  # uint8 [N, H, W, 3] or float32 [N, D] → [N, F]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from agents.ppo.distributions import make_actions
from agents.ppo.observations import ObservationAdapter
from policies.car import CarInfo
from policies.cores import make_core
from policies.perception import HEADS, ConvHead, HeadConfig, whiten
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing


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
        return self.conv.encode(whiten(self.preprocessing(frames)))


class VectorHead(nn.Module):
    """A vector to features: one linear layer with tanh, or nothing."""

    def __init__(self, input_size: int, output_size: int, generator: torch.Generator):
        """Draw the weights from `generator`; an `output_size` of 0 passes the vector on."""
        super().__init__()
        self.output_size = output_size or input_size
        self.linear = linear(input_size, output_size, math.sqrt(2), generator) if output_size else None

    def forward(self, vectors: Tensor) -> Tensor:
        """`[N, D]` → `[N, F]`."""
        return vectors if self.linear is None else torch.tanh(self.linear(vectors))


def make_head(
    adapter: ObservationAdapter,
    frames: HeadConfig,
    preprocessing: Mapping[str, int | None],
    vector_features: int,
    generator: torch.Generator,
) -> FrameHead | VectorHead:
    """Make the head that suits a kind of observation.

    Args:
        adapter: knows the kind and the size.
        frames: conv head for frames.
        preprocessing: fields of `Preprocessing` for frames; what is missing keeps them as they are.
        vector_features: F for vectors; 0 passes them on.
        generator: owner of the weights.
    """
    if not adapter.is_visual:
        return VectorHead(adapter.shape[0], vector_features, generator)
    height, width, _ = adapter.shape
    fields: dict[str, Any] = {"source_height": height, "source_width": width, "height": height, "width": width}
    return FrameHead(Preprocessing(**{**fields, **preprocessing}), frames, generator)


def linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """Make a linear layer with orthogonal weights and no bias at first."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True, config={"extra": "forbid"})
class ActorCriticConfig:
    """What the learner's networks are made of."""

    core: str = "ltc"
    """Recurrent core; `wormwheel info cores` lists them."""
    core_options: dict[str, Any] = field(default_factory=dict)
    """Fields of the core's own config that differ from its defaults."""
    head: HeadConfig = HEADS["small"]
    """Conv head, for envs that show frames."""
    preprocessing: dict[str, int | None] = field(default_factory=dict)
    """Crop and resize of frames: fields of `policies.preprocessing.Preprocessing`; none keeps them as they are."""
    vector_features: Annotated[int, Field(ge=0, le=65_536)] = 32
    """Features, linear with tanh, that a vector observation is turned into; 0 feeds it to the core as it is."""
    critic: Literal["features", "shared", "own"] = "features"
    """What judges: "features" (a small MLP on the features of the moment), "shared" (the same on features and motor
    outputs), or "own" (a core of its own kind and size beside the actor's)."""
    critic_hidden: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Hidden units of the critic's MLP."""
    log_std_init: Annotated[float, Field(allow_inf_nan=False)] = -0.5
    """Initial logarithm of the actions' spread, in units of half an action's range."""
    use_sde: bool = False
    """Continuous actions: let the spread depend on the features, and hold the noise for `sde_sample_freq` steps
    (generalised state-dependent exploration, Raffin et al. 2020)."""
    nominal_period_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    """Time between frames that `elapsed = 1` stands for, seconds; kept with the driver."""
    car: CarInfo | None = None
    """The car, lane and camera that it learns in; kept with the driver. None where they are not known."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ActorCriticConfig:
        """Build the config from `dataclasses.asdict` after a way through JSON."""
        head: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values["head"].items()}
        car = CarInfo(**values["car"]) if values.get("car") is not None else None
        return cls(**{**values, "head": HeadConfig(**head), "car": car})


class ActorCritic(nn.Module):
    """Head, core and critic; the state is an argument, the actor's part first.

    Attributes:
        config: what it is made of.
        head: content → features, on flat batches.
        core: features → motor outputs.
        critic_core: the critic's own core, or None.
        actions: motor outputs → actions.
        actor_state_size: the actor's part of the state.
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
        generator = torch.Generator().manual_seed(seed)
        self.head = make_head(self.adapter, config.head, config.preprocessing, config.vector_features, generator)
        features = self.head.output_size
        self.actions, motors = make_actions(action_space, config.log_std_init, features if config.use_sde else 0)
        self.core = make_core(config.core, features, motors, config.core_options, seed=seed)
        critic_inputs = features + (motors if config.critic == "shared" else 0)
        self.critic_core = None
        if config.critic == "own":
            self.critic_core = make_core(config.core, features, motors, config.core_options, seed=seed + 1)
            critic_inputs += motors
        self.critic = nn.Sequential(
            linear(critic_inputs, config.critic_hidden, math.sqrt(2), generator),
            nn.Tanh(),
            linear(config.critic_hidden, 1, 1.0, generator),
        )
        self.actor_state_size = self.core.state_size
        self.state_size = self.core.state_size + (self.critic_core.state_size if self.critic_core is not None else 0)

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

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that learn by where they belong; the spread of the actions goes with the core."""
        critic = [*self.critic.parameters(), *(self.critic_core.parameters() if self.critic_core is not None else ())]
        core = [*self.core.parameters(), *self.actions.parameters()]
        groups = {"head": self.head.parameters(), "core": core, "critic": critic}
        return {name: [p for p in group if p.requires_grad] for name, group in groups.items()}

    def driver(self) -> DrivingPolicy:
        """Return the actor as a `DrivingPolicy` that shares its weights.

        Raises:
            ValueError: if the env shows no frames or its actions are not continuous.
        """
        if not isinstance(self.head, FrameHead) or self.actions.log_std is None:
            raise ValueError("only drivers that see frames and act continuously are saved as driving policies.")
        config = PolicyConfig(
            core=self.config.core,
            core_options=self.config.core_options,
            head=self.config.head,
            preprocessing=self.head.preprocessing,
            motors=self.core.output_size,
            nominal_period_s=self.config.nominal_period_s,
            car=self.config.car,
        )
        return DrivingPolicy(config, self.head.conv, self.core)

    @property
    def is_driver(self) -> bool:
        """Whether `driver` works."""
        return isinstance(self.head, FrameHead) and self.actions.log_std is not None

    def adopt(self, driver: DrivingPolicy) -> None:
        """Take over the weights of a driver.

        Raises:
            ValueError: if it is made of other parts.
        """
        mine = self.driver()
        ours, theirs = (asdict(one.config) for one in (mine, driver))
        differing = [name for name in ours if ours[name] != theirs[name] and name not in ("nominal_period_s", "car")]
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
        **{"car": config.car, **others},
    )
