"""Perturbations of one's own, without an edit of this package: by `module:name`, or by an entry point.

    wormwheel robustness --policy runs/ltc --perturbations mypackage.haze:haze:3

    [project.entry-points."wormwheel.perturbations"]    # pyproject.toml of a package: then `haze:3` is enough
    haze = "mypackage.haze:haze"

What is named is declared by `@declare_perturbation`, as those in `envs/perturbations/families` are. Its name in tables
is the whole `module:name`, so that another process, which has not imported it, finds it by its name alone. Modules are
looked for where Python looks, and in the current directory.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from importlib.metadata import entry_points

from envs.foreign_code import foreign_code
from envs.perturbations.perturbation import PerturbationKind

GROUP = "wormwheel.perturbations"
"""Group of entry points."""


def find_entry_point(name: str) -> str | None:
    """Return the `module:name` that an installed package has registered under a name; None where there is none."""
    found = [point.value for point in entry_points(group=GROUP) if point.name == name]
    return found[0] if found else None


def load_own(spec: str) -> PerturbationKind:
    """Import a perturbation; its name becomes the whole of `spec`.

    Args:
        spec: `module:name`.

    Raises:
        ValueError: if there is no such module, or nothing of that name in it, or it is no perturbation.
    """
    module, _, name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        with foreign_code(f"importing {module}"):
            found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(f"there is no perturbation {spec!r}: Python finds no module {module!r}.") from None
    if found is None:
        raise ValueError(f"there is no perturbation {spec!r}: {module} has no {name!r}.")
    if not isinstance(found, PerturbationKind):
        raise ValueError(f"{spec} is no perturbation: declare it by @declare_perturbation(…).")
    return dataclasses.replace(found, name=spec)
