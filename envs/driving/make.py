"""Envs by id or by a function of one's own.

env = make_env("racetrack-v1")
env = make_env("mysim/envs.py:make_track")
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import gymnasium


def make_env(name: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Make an env.

    Args:
        name: an id of Gymnasium, or `module:function` or `file.py:function`, which imports and calls it.
        **options: handed to `gymnasium.make` or to the function.

    Raises:
        ValueError: if there is no such env, it needs a package that is missing, or the function gives something else.
    """
    place, colon, function = name.partition(":")
    if not colon:
        try:
            return gymnasium.make(name, **options)
        except gymnasium.error.Error as error:
            raise ValueError(
                f"there is no env {name!r}: {str(error).splitlines()[0]} Give an id of Gymnasium, module:function or "
                "file.py:function."
            ) from error
    if "/" in function or function.rsplit("-v", 1)[-1].isdigit():
        raise ValueError(
            f"{name!r} is an id of Gymnasium that imports a module. Import it yourself and give {function!r}, or give "
            "module:function."
        )
    found = _load(place, function)
    env = found(**options)
    if not isinstance(env, gymnasium.Env):
        raise ValueError(f"{name} gave a {type(env).__name__}, expected a gymnasium.Env.")
    return env


def _load(place: str, function: str) -> Any:
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise ValueError(f"there is no file {place}. Give file.py:function.")
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise ValueError(f"there is no module {error.name!r}. Give module:function or file.py:function.") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise ValueError(f"{place} has no function {function!r}.")
    return found
