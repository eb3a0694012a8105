"""What the figures of a drive depend on besides the policy: the code of the env, and doses and code of perturbations.

Two drives with the same fingerprint were made by the same code. A file that changes in a comment alone changes it, too:
to drive once more costs minutes, a figure that is not what it says costs more.

    fingerprint_code("fog:3+latency:2")
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from functools import cache, lru_cache
from pathlib import Path

import envs
from agents.driving.trials import Place
from envs.lane_keeping.config import LaneKeepingConfig
from envs.perturbations import PERTURBATIONS, parse

LETTERS = 16
"""Letters of a fingerprint."""


@lru_cache(maxsize=1)
def fingerprint_env() -> str:
    """Return a few letters that change when a file of the package `envs` does, the families of perturbations aside."""
    root = Path(envs.__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if "families" not in name.parts:
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:LETTERS]


def fingerprint_world(world: Place | None = None) -> str:
    """Return a few letters that change with our envs, and with the road files, code or recordings of a world."""
    if world is None or isinstance(world, LaneKeepingConfig) and world.track == "random":
        return fingerprint_env()
    if not isinstance(world, LaneKeepingConfig):
        return f"{fingerprint_env()}-{world.code}"
    return f"{fingerprint_env()}-{fingerprint_roads(world)}"


def fingerprint_perturbation(perturbation: str) -> str:
    """Return a few letters that change with the doses of a perturbation, or with the file that declares it.

    Args:
        perturbation: in the registry's syntax; "" is clean.
    """
    digest = hashlib.sha256()
    for part in parse(perturbation).parts:
        kind = PERTURBATIONS[part.name]
        digest.update(repr((part.name, part.family, part.severity, kind.unit, kind.doses, kind.large_doses)).encode())
        digest.update(_source(kind.start.__module__))
    return digest.hexdigest()[:LETTERS]


def fingerprint_code(perturbation: str, world: Place | None = None) -> str:
    """Return the fingerprints of the env and of a perturbation as one."""
    return f"{fingerprint_world(world)}-{fingerprint_perturbation(perturbation)}"


def fingerprint_roads(world: LaneKeepingConfig) -> str | None:
    """Return a few letters that change when the road files of a world do; None where its roads are random."""
    if world.track == "random":
        return None
    files = (world.track,) if isinstance(world.track, str) else world.track
    return _roads(tuple((file, Path(file).stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=8)
def _roads(files: tuple[tuple[str, int], ...]) -> str:
    """Fingerprint road files, each with the time of its last change."""
    digest = hashlib.sha256()
    for file, _ in files:
        digest.update(Path(file).read_bytes() + b"\0")
    return digest.hexdigest()[:LETTERS]


@cache
def _source(module: str) -> bytes:
    """Read the file of a module."""
    loaded = sys.modules.get(module)
    path = None if loaded is None or not hasattr(loaded, "__file__") else inspect.getsourcefile(loaded)
    return b"" if path is None else Path(path).read_bytes()
