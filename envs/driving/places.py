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

from envs.foreign_code import foreign_code

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
        with foreign_code("render() of the env"):
            value: Any = roots.env.render()
        if value is None:
            raise ValueError("the env renders nothing: make it with render_mode='rgb_array'.")
    else:
        value = {"observation": roots.observation, "info": roots.info, "env": roots.env.unwrapped}[root]
    gone = root
    for step in rest.split(".") if rest else ():
        try:
            value = _follow(value, step)
        except Exception:  # Attributes may run any code.
            there = f" with {', '.join(map(str, value)) or 'nothing'}" if isinstance(value, Mapping) else ""
            raise ValueError(f"{place}: {gone} is a {type(value).__name__}{there} and has no {step!r}.") from None
        gone = f"{gone}.{step}"
    return value


def find_number(place: str, roots: Roots, vector: bool = False) -> float:
    """Look a number up; where a `vector` of up to three may be there, its length.

    Raises:
        ValueError: if there is none at that place, or it is NaN or infinite.
    """
    value = find(place, roots)
    try:
        array = np.asarray(value, np.float64)
    except Exception:  # Whatever it is, it cannot be made an array of.
        raise ValueError(f"{place}: expected a number, got a {type(value).__name__}.") from None
    if array.size != 1 and not (vector and array.ndim == 1 and 2 <= array.size <= 3):
        wanted = "a number or a vector of up to 3" if vector else "a number"
        raise ValueError(f"{place}: expected {wanted}, got an array {list(array.shape)}: name one of it, as in x.0.")
    number = array.item() if array.size == 1 else math.hypot(*array.tolist())
    if not math.isfinite(number):
        raise ValueError(f"{place}: expected a finite number, got {number}.")
    return number


def find_flag(place: str, roots: Roots) -> bool:
    """Look a yes or no up: a truth value or a number, or an array of one.

    Raises:
        ValueError: if there is none at that place.
    """
    value = find(place, roots)
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf" or array.item() != array.item():
        raise ValueError(f"{place}: expected True, False or a number, got a {type(value).__name__} {value!r:.60}.")
    return bool(array.item())


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
