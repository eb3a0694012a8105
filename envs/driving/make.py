"""Envs by id or by a function of one's own.

env = make_env("racetrack-v1")
env = make_env("mysim/envs.py:make_track")
env = make_env("mysim:mysim/Track-v0")
"""

from __future__ import annotations

from typing import Any

import gymnasium

from envs.foreign_code import ForeignCodeError, foreign_code, import_place, load_object


def make_env(name: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Make an env.

    Args:
        name: an id of Gymnasium; `module:id` or `file.py:id`, which is imported first; or `module:function` or
            `file.py:function`, which is called.
        **options: handed to `gymnasium.make` or to the function.

    Raises:
        ValueError: if there is no such env, the function fails or gives something else.
        ImportError: if it needs a package that is missing.
    """
    place, colon, function = name.rpartition(":")
    if not colon:
        return _by_id(name, options)
    if "/" in function or function.rsplit("-v", 1)[-1].isdigit():
        import_place(place)
        return _by_id(function, options)
    found = load_object(name)
    if not callable(found):
        raise ForeignCodeError(
            f"{name.rpartition(':')[0]} has no function {function!r}, it is a {type(found).__name__}: give one without "
            "arguments that makes a gymnasium.Env, since every drive needs one of its own."
        )
    with foreign_code(name, "It must be a function without arguments that makes a gymnasium.Env."):
        env = found(**options)
    if not isinstance(env, gymnasium.Env):
        raise ForeignCodeError(f"{name} gave a {type(env).__name__}, expected a gymnasium.Env.")
    return env


def _by_id(name: str, options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        with foreign_code(f"making the env {name}"):
            return gymnasium.make(name, **options)
    except ForeignCodeError as error:
        cause = error.__cause__
        if not isinstance(cause, gymnasium.error.Error):
            raise
        raise ValueError(
            f"there is no env {name!r}: {str(cause).splitlines()[0]} Give an id of Gymnasium, with module: before it "
            "where a module registers it, or module:function or file.py:function."
        ) from cause
