"""What the page may ask for, checked before anything is done.

command = parse_message('{"kind": "hold", "direction": 1}')
command.apply(session)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from experiments.drive.keeping import HUMAN
from experiments.drive.session import DriveSession

MOST_BYTES = 16_384
"""Longest message that is read."""

_STRICT = {"extra": "forbid", "strict": True}
_Unit = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Hold:
    """A key is held: 1 left, −1 right, 0 none. Who steers has the wheel: from a policy it is taken back."""

    kind: Literal["hold"]
    direction: _Unit

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        if self.direction:
            session.hand_to(HUMAN)
        session.wheel.hold(self.direction)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Turn:
    """A mouse, a finger or a gamepad puts the wheel somewhere, and takes it back from a policy."""

    kind: Literal["turn"]
    steering: _Unit

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        session.hand_to(HUMAN)
        session.wheel.turn(self.steering)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Hand:
    """The wheel goes to the person or the policy."""

    kind: Literal["hand"]
    to: Literal["human", "policy"]

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        session.hand_to(self.to)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Speed:
    """The cruise controller is to hold a speed, m/s."""

    kind: Literal["speed"]
    wanted_mps: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        session.set_speed(self.wanted_mps)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Variety:
    """Variety of looks and cameras from the next road on."""

    kind: Literal["variety"]
    variety: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        session.set_variety(self.variety)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Perturb:
    """What is wrong with the world: by family, a kind and its severity, 0 to 5."""

    kind: Literal["perturb"]
    severities: dict[str, tuple[str, Annotated[int, Field(ge=0, le=5)]]]

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        session.perturb(self.severities)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Record:
    """Driving is kept from now on, or no more."""

    kind: Literal["record"]
    on: bool

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        session.record(self.on)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Restart:
    """The next drive: the next road, or the same one again."""

    kind: Literal["restart"]
    same: bool = False

    def apply(self, session: DriveSession) -> None:
        """Do it."""
        session.restart(session.seed if self.same else None)


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Pause:
    """Stand still, or go on."""

    kind: Literal["pause"]
    on: bool


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Shown:
    """A frame is on the screen, so many milliseconds after it was taken."""

    kind: Literal["shown"]
    number: int
    age_ms: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)] | None = None


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class Ping:
    """What time is it there? For the age of frames."""

    kind: Literal["ping"]
    at_ms: Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, config=_STRICT)  # type: ignore[call-overload]
class End:
    """The person has finished."""

    kind: Literal["end"]


Command = Hold | Turn | Hand | Speed | Variety | Perturb | Record | Restart
"""What is done to the session between two steps."""
Message = Command | Pause | Shown | Ping | End
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def parse_message(text: str | bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: if it is none, or a value is out of range.
    """
    return _ADAPTER.validate_json(text)
