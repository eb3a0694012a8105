"""A place to drive in that others made: any env that `envs.driving` adapts, as a value that can go to another process.

world = look_at_world("racetrack-v1", episode_s=10.0)
env = world.make(48, 96)  # a DrivingEnv whose frames have the driver's size
world.unknown  # ("curvature_per_m",): what the env does not tell
"""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from envs.car_racing import CAR_RACING
from envs.driving.env import DrivingEnv
from envs.driving.known import driving_env
from envs.driving.names import DrivingNames

FIGURES = ("lateral_offset_m", "lane_width_m", "progress_m")
"""What an env's info must tell for offsets and for crashes per kilometre."""
_ALIASES = {"CarRacing": CAR_RACING}
"""Names that PPO has for worlds, and what they are made of."""


@dataclass(frozen=True)
class OtherWorld:
    """An env that others made, and where things are in it; stands where a `LaneKeepingConfig` does."""

    name: str
    """An id of Gymnasium, `module:function` or `file.py:function`; see `envs.driving.known.driving_env`."""
    overrides: tuple[tuple[str, Any], ...]
    """Attributes of its `DrivingNames` that are replaced."""
    episode_s: float
    """Length of a drive, s."""
    period_s: float
    """Time between two actions, s."""
    height: int
    """Rows of its frames, pixels, unless a driver wants others."""
    width: int
    """Columns of its frames, pixels, unless a driver wants others."""
    unknown: tuple[str, ...] = ()
    """Those of `FIGURES` that its info does not tell."""
    code: str = ""
    """A few letters that change when the file does that makes it, or the one that its class is in."""

    @property
    def throttle(self) -> bool:
        """Whether a driver works the pedals; a cruise controller does where there are any."""
        return False

    def make(self, height: int, width: int) -> DrivingEnv:
        """Make the env, its frames of a size."""
        given = dict(self.overrides) | {"episode_s": self.episode_s}
        if (height, width) != (self.height, self.width):
            given |= {"height": height, "width": width}
        return driving_env(_ALIASES.get(self.name, self.name), **given)


def look_at_world(name: str, names: DrivingNames | None = None, episode_s: float | None = None) -> OtherWorld:
    """Make an env once, to see what it shows and tells.

    Args:
        name: see `OtherWorld.name`.
        names: where everything is; what is left at its default is as the known env or the function has it.
        episode_s: length of a drive, s; that of the names when None.

    Raises:
        ValueError: if there is no such env, or a name leads nowhere in it.
    """
    plain = DrivingNames()
    given = {item.name: getattr(names, item.name) for item in fields(plain)} if names is not None else {}
    overrides = {key: value for key, value in given.items() if value != getattr(plain, key)}
    named_s = overrides.pop("episode_s", None)
    env = driving_env(_ALIASES.get(name, name), **overrides)
    try:
        _, info = env.reset(seed=0)
        rows, columns, _ = env.observation_space["camera"].shape  # type: ignore[index]
        unknown = tuple(key for key in FIGURES if not math.isfinite(float(info.get(key, math.nan))))
        usual = named_s or env.names.episode_s
        length = episode_s or usual
        code = _fingerprint(name, env)
        return OtherWorld(name, tuple(overrides.items()), length, env.period_s, rows, columns, unknown, code)
    finally:
        env.close()


def _fingerprint(name: str, env: DrivingEnv) -> str:
    """Return a few letters for the files that an env is made by."""
    digest = hashlib.sha256()
    place, _, _ = name.partition(":")
    files = {Path(place)} if place.endswith(".py") else set()
    for module in {type(env.inner.unwrapped).__module__, place}:
        file = getattr(sys.modules.get(module), "__file__", None)
        files |= {Path(file)} if file else set()
    for path in sorted(files):
        digest.update(path.read_bytes() if path.suffix == ".py" and path.is_file() else b"")
    return digest.hexdigest()[:8]
