"""Where something is in an env that others made: `observation.rgb`, `info.speed`, `env.vehicle.lane_offset.1`.

A place is a root and the way from there, separated by dots: attributes, keys, or positions in a sequence. The roots are
`observation`, `info`, `env` (the unwrapped env), `render` (what `env.render()` gives), `constant` (a number follows).

    speed = find("env.vehicle.speed", Roots(env, observation, info))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

ROOTS = ("observation", "info", "env", "render", "constant")


@dataclass
class Roots:
    """What places are looked up in.

    Attributes:
        env: with all its wrappers.
        observation: the last one.
        info: the last one.
    """

    env: gymnasium.Env[Any, Any]
    observation: Any
    info: dict[str, Any]


def check_place(place: str) -> str:
    """Check the root of a place.

    Raises:
        ValueError: if it has none.
    """
    root, _, rest = place.partition(".")
    if place and root not in ROOTS:
        raise ValueError(f"a place begins with {', '.join(ROOTS)}, got {place!r}. Write for example info.speed.")
    if root == "constant" and not _is_number(rest):
        raise ValueError(f"constant is followed by a number, got {place!r}. Write for example constant.3.5.")
    return place


def find(place: str, roots: Roots) -> Any:
    """Look a place up.

    Raises:
        ValueError: if there is nothing at it; says how far the way leads and what is there.
    """
    root, _, rest = place.partition(".")
    if root == "constant":
        return float(rest)
    if root == "render":
        value: Any = roots.env.render()
        if value is None:
            raise ValueError("the env renders nothing: make it with render_mode='rgb_array'.")
    else:
        value = {"observation": roots.observation, "info": roots.info, "env": roots.env.unwrapped}[root]
    gone = root
    for step in rest.split(".") if rest else ():
        try:
            value = _follow(value, step)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError):
            there = f" with {', '.join(map(str, value))}" if isinstance(value, Mapping) else ""
            raise ValueError(f"{place}: {gone} is a {type(value).__name__}{there} and has no {step!r}.") from None
        gone = f"{gone}.{step}"
    return value


def find_number(place: str, roots: Roots) -> float:
    """Look a number up; of a vector, its length.

    Raises:
        ValueError: if there is none at that place, or it is NaN or infinite.
    """
    value = find(place, roots)
    try:
        array = np.asarray(value, np.float64)
        number = float(array) if array.ndim == 0 else math.hypot(*array.reshape(-1).tolist())
    except (TypeError, ValueError):
        raise ValueError(f"{place}: expected a number, got a {type(value).__name__}.") from None
    if not math.isfinite(number):
        raise ValueError(f"{place}: expected a finite number, got {number}.")
    return number


def _follow(value: Any, step: str) -> Any:
    if isinstance(value, Mapping):
        return value[step]
    if step.lstrip("-").isdigit():
        return value[int(step)]
    return getattr(value, step)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
