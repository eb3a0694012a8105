"""The driver: conv head, liquid core, steering.

    policy = DrivingPolicy.create(PolicyConfig(core="ltc"), seed=0)
    steering, state = policy(frames)  # uint8 [B, T, 48, 96, 3] → [B, T, 1] in [−1, 1], positive steers left

The motor neurons are the steering: nothing stands between the circuit's output and the wheel but a clamp to full lock.
"""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from policies.car import CarInfo
from policies.cores import Core, make_core
from policies.limits import Positive
from policies.perception import HEADS, ConvHead, HeadConfig
from policies.preprocessing import Preprocessing


@dataclass(frozen=True, config={"extra": "forbid"})
class PolicyConfig:
    """What a driver is made of; enough to build it again.

    Attributes:
        core: name of the recurrent core (`wormwheel info cores` lists them).
        core_options: fields of the core's own config that differ from its defaults.
        head: layers of the conv head.
        preprocessing: crop and resize before the head.
        motors: M, motor outputs: 1 is steering, 2 adds throttle.
        nominal_period_s: time between frames that `elapsed = 1` stands for, seconds.
        car: the car, lane and camera that it learnt in; None where they are not known.
    """

    core: str = "ltc"
    core_options: dict[str, Any] = field(default_factory=dict)
    head: HeadConfig = HEADS["small"]
    preprocessing: Preprocessing = Preprocessing()
    motors: Annotated[int, Field(ge=1, le=1024)] = 1
    nominal_period_s: Positive = 0.05
    car: CarInfo | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the config as plain JSON values."""
        values = asdict(self)
        if self.car is None:
            del values["car"]  # as files of earlier versions have it
        else:
            values["car"] = self.car.to_json()
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PolicyConfig:
        """Build the config from what `to_json` returned.

        Raises:
            ValueError: if a field is missing, unknown or out of range.
        """
        try:
            values = dict(values)
            head = HeadConfig(**values.pop("head"))
            car = CarInfo(**values.pop("car")) if values.get("car") is not None else None
            fit = Preprocessing(**values.pop("preprocessing"))
            return cls(head=head, preprocessing=fit, **{**values, "car": car})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            if "argument" in first["type"]:  # missing or unexpected
                raise ValueError(
                    f"the policy's config does not have the fields of this version: {field}: {first['msg']}."
                ) from error
            raise ValueError(
                f"the policy's config is wrong: {field}: {first['msg']}, got {first['input']!r:.80}."
            ) from error
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the policy's config does not have the fields of this version: {error}.") from error


class DrivingPolicy(nn.Module):
    """Frames in, steering out; the state is an argument."""

    def __init__(self, config: PolicyConfig, head: ConvHead, core: Core):
        """Join a head and a core.

        Args:
            config: what the two were made from.
            head: conv head with F outputs.
            core: core with F inputs and `config.motors` outputs.
        """
        super().__init__()
        if core.input_size != head.output_size or core.output_size != config.motors:
            raise ValueError(
                f"the head gives {head.output_size} features and the config asks for {config.motors} motors; the core "
                f"has {core.input_size} inputs and {core.output_size} outputs."
            )
        fit = config.preprocessing
        if (fit.height, fit.width) != (head.height, head.width):
            raise ValueError(
                f"the head sees {head.height}×{head.width} pixels, and the preprocessing ends at "
                f"{fit.height}×{fit.width}."
            )
        self.config = config
        self.head = head
        self.core = core

    @classmethod
    def create(cls, config: PolicyConfig, seed: int = 0) -> DrivingPolicy:
        """Build a driver with fresh weights, all drawn from `seed`; torch's global generator is left alone."""
        generator = torch.Generator().manual_seed(seed)
        fit = config.preprocessing
        head = ConvHead(config.head, fit.height, fit.width, generator)
        core = make_core(config.core, head.output_size, config.motors, config.core_options, seed=seed)
        return cls(config, head, core)

    def features(self, frames: Tensor, preprocessed: bool = False) -> Tensor:
        """Run preprocessing, whitening and the head: uint8 `[B, T, H, W, 3]` → `[B, T, F]`; arguments as `forward`."""
        if frames.ndim != 5:
            raise ValueError(f"frames must have shape [B, T, H, W, 3], got {tuple(frames.shape)}.")
        batch_size, steps = frames.shape[:2]
        fit = self.config.preprocessing.after if preprocessed else self.config.preprocessing
        features = self.head.encode_pixels(fit(frames).flatten(0, 1))  # [B·T, F]
        return features.unflatten(0, (batch_size, steps))

    def motors(
        self,
        frames: Tensor,
        state: Tensor | None = None,
        elapsed: Tensor | None = None,
        starts: Tensor | None = None,
        preprocessed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, without the clamp: what a learner compares with its targets."""
        return self.core(self.features(frames, preprocessed), state, elapsed, starts)

    def forward(
        self,
        frames: Tensor,
        state: Tensor | None = None,
        elapsed: Tensor | None = None,
        starts: Tensor | None = None,
        preprocessed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Drive.

        Args:
            frames: `[B, T, H, W, 3]` uint8 RGB at the size that `config.preprocessing` names as source.
            state: `[B, S]` state before the first frame; fresh when None.
            elapsed: `[B, T]` time since the previous frame in units of `config.nominal_period_s`; ones when None.
            starts: `[B, T]` bool; True starts an episode at that frame.
            preprocessed: whether the frames are cropped and resized already, to the height and width that
                `config.preprocessing` ends at; nothing is cut off twice then.

        Returns:
            `[B, T, M]` motor values in [−1, 1], the first one steering, positive left, and the `[B, S]` state.

        Raises:
            ValueError: if a shape, dtype or size is wrong, or `elapsed` is not positive.
        """
        motors, state = self.motors(frames, state, elapsed, starts, preprocessed)
        return motors.clamp(-1, 1), state

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
