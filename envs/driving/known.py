"""Envs whose names are known here, and one function that makes any env to drive in.

env = driving_env("racetrack-v1")  # of highway-env: known
env = driving_env("mysim/envs.py:make", DrivingNames(camera="observation.rgb", speed="info.speed"))
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from envs.car_racing import CAR_RACING, car_racing_env
from envs.driving.env import DrivingEnv
from envs.driving.make import make_env
from envs.driving.names import DrivingNames

RACETRACK = "racetrack-v1"
"""A circuit seen from above, of highway-env (https://highway-env.farama.org), which has an own steering and speed."""
RACETRACK_NAMES = DrivingNames(
    camera="render",
    positive="right",  # its y axis points down the picture
    steering_gain=0.5,
    speed_mps=10.0,
    speed="env.vehicle.speed",
    lateral_offset="env.vehicle.lane_offset.1",
    offset_positive="right",
    heading_error="env.vehicle.lane_offset.2",
    lane_width="constant.5",
    period_s=0.2,
    episode_s=30.0,
)
"""Where everything is in it."""


def racetrack_env(names: DrivingNames = RACETRACK_NAMES, **overrides: Any) -> DrivingEnv:
    """Make highway-env's racetrack as an env to drive in: 96×96 pixels from above, no other cars, constant speed.

    Args:
        names: where everything is.
        **overrides: attributes of the names to replace.

    Raises:
        ValueError: if highway-env is not installed, or an attribute is unknown or out of range.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "offscreen")  # it draws with pygame, and not at all under "dummy"
    try:
        import highway_env  # noqa: F401 - registers the envs
    except ImportError as error:
        raise ValueError(f"{RACETRACK} needs highway-env: pip install highway-env.") from error
    config = {
        "action": {"type": "ContinuousAction", "longitudinal": False, "lateral": True},
        "other_vehicles": 0,
        "screen_width": 96,
        "screen_height": 96,
        "scaling": 3.0,
        "offscreen_rendering": True,
    }
    return DrivingEnv(make_env(RACETRACK, render_mode="rgb_array", config=config), names, **overrides)


KNOWN: dict[str, Callable[..., DrivingEnv]] = {
    CAR_RACING: partial(car_racing_env, render_mode="rgb_array"),
    RACETRACK: racetrack_env,
}
"""What makes an env to drive in of an id, with `names` and their attributes as arguments."""


def driving_env(name: str, names: DrivingNames | None = None, **overrides: Any) -> DrivingEnv:
    """Make an env to drive in.

    Args:
        name: an id in `KNOWN`, any other id of Gymnasium, `module:function` or `file.py:function`, which may give a
            `DrivingEnv` itself.
        names: where everything is; those of a known env, or the defaults, when None.
        **overrides: attributes of the names to replace.

    Raises:
        ValueError: if there is no such env, or a name leads nowhere in it.
    """
    if name in KNOWN:
        return KNOWN[name](**({} if names is None else {"names": names}), **overrides)
    env = make_env(name, render_mode="rgb_array") if ":" not in name else make_env(name)
    if isinstance(env.unwrapped, DrivingEnv):
        return env.unwrapped.renamed(names, **overrides)
    return DrivingEnv(env, names, **overrides)
