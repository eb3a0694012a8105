"""Ranges of numbers in configs, declared at their fields.

@dataclass(frozen=True, config={"extra": "forbid"})  # of pydantic.dataclasses
class Car:
    mass_kg: Positive = 5.9
    speed_mps: Annotated[tuple[Positive, Positive], Ordered] = (1.2, 2.0)
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Angle = Annotated[float, Field(ge=-180.0, le=180.0, allow_inf_nan=False)]
"""Degrees."""


def _ordered(value: tuple[Any, Any]) -> tuple[Any, Any]:
    low, high = value
    if low > high:
        raise PydanticCustomError("range", "Input should be a range (low, high) with low <= high")
    return value


Ordered = AfterValidator(_ordered)
"""Of a pair: the first is at most the second."""


def one_of(*options: str) -> AfterValidator:
    """Of a text: one of the options."""

    def check(value: str) -> str:
        if value not in options:
            raise PydanticCustomError("one_of", f"Input should be one of {', '.join(options)}")
        return value

    return AfterValidator(check)


def some_of(*options: str) -> AfterValidator:
    """Of a text or several: each one of the options, and at least one."""

    def check(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        named = (value,) if isinstance(value, str) else value
        if not named or not set(named) <= set(options):
            raise PydanticCustomError("some_of", f"Input should be one or more of {', '.join(options)}")
        return value

    return AfterValidator(check)
