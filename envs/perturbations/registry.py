"""All perturbations by name, and how they are written: `fog:3`, `rain:2+latency:1`.

make_perturbation("fog:3")
make_perturbation("mypackage.haze:haze:3")  # one's own; see `envs.perturbations.own`
parse("rain+latency:1")  # rain at severity 3, then latency at severity 1
"""

from __future__ import annotations

import difflib

from envs.perturbations.composition import Composition
from envs.perturbations.families import (
    actuation,
    adversarial,
    blur,
    digital,
    dynamics,
    glass,
    lamps,
    light,
    noise,
    occlusion,
    pose,
    road,
    timing,
    weather,
)
from envs.perturbations.own import find_entry_point, load_own
from envs.perturbations.perturbation import SEVERITIES, Perturbation, PerturbationKind

CLEAN = "clean"
"""The name of no perturbation at all."""
_MODULES = (
    noise,
    blur,
    weather,
    glass,
    light,
    lamps,
    digital,
    occlusion,
    pose,
    timing,
    dynamics,
    actuation,
    road,
    adversarial,
)

PERTURBATIONS: dict[str, PerturbationKind] = {}
"""Every kind of perturbation by its name, family by family."""
FAMILIES: dict[str, tuple[str, ...]] = {}
"""The names in each family."""


def register(kind: PerturbationKind) -> PerturbationKind:
    """Add a kind of perturbation, and its hidden twin where it has one, to those that can be named.

    Raises:
        ValueError: if the name is taken by another, or cannot be written in `name:severity+name:severity`.
    """
    for made in (kind, kind.hidden_twin()) if kind.has_hidden_twin else (kind,):
        if not made.name or set(made.name) & set(":+, ") or made.name == CLEAN:
            raise ValueError(f"a perturbation cannot be called {made.name!r}. Use letters, digits and _.")
        if PERTURBATIONS.setdefault(made.name, made) != made:
            raise ValueError(f"there is a perturbation {made.name} already. Give yours another name.")
        FAMILIES[made.family] = tuple(dict.fromkeys((*FAMILIES.get(made.family, ()), made.name)))
    return kind


for _module in _MODULES:
    for _found in vars(_module).values():
        if isinstance(_found, PerturbationKind):
            register(_found)


def make_perturbation(text: str) -> Perturbation:
    """Make one perturbation from its name, or from name and severity: `fog` (severity 3) or `fog:5`.

    Raises:
        ValueError: if the name or the severity does not exist; it lists what does.
    """
    name, severity = split_severity(text.strip())
    kind = PERTURBATIONS.get(name) or _own(name)
    if kind is None:
        raise ValueError(f"there is no perturbation {name!r}. {_known(name)}")
    if not severity and not text.strip().endswith(":"):
        return kind()
    if severity not in map(str, SEVERITIES):
        raise ValueError(f"{name} has the severities 1 to 5, got {text!r}. Write for example {name}:3.")
    return kind(int(severity))


def split_severity(text: str) -> tuple[str, str]:
    """Split a name from its severity, "" where none is named; names of one's own hold a colon themselves."""
    first, _, rest = text.partition(":")
    if first.strip() in PERTURBATIONS or ":" not in rest and rest.strip().lstrip("-").isdigit():
        return first.strip(), rest.strip()
    name, _, severity = text.rpartition(":")
    return (name, severity.strip()) if ":" in name else (text, "")


def _own(name: str) -> PerturbationKind | None:
    """Load a perturbation of one's own, and remember it; None where nobody has one of that name."""
    spec = name if ":" in name else find_entry_point(name)
    if spec is None:
        return None
    if spec not in PERTURBATIONS:
        made = load_own(spec)
        PERTURBATIONS[spec] = made
        FAMILIES[made.family] = (*FAMILIES.get(made.family, ()), spec)
    return PERTURBATIONS[spec]


def parse(text: str) -> Composition:
    """Read perturbations joined by `+`, each with or without a severity; "" and "clean" are none.

    Raises:
        ValueError: if a name or a severity does not exist, or a name is given twice.
    """
    if text.strip() in ("", CLEAN):
        return Composition()
    return Composition(tuple(make_perturbation(part) for part in text.split("+")))


def as_composition(value: str | Perturbation | Composition) -> Composition:
    """Take a perturbation in any of its forms."""
    if isinstance(value, str):
        return parse(value)
    return value if isinstance(value, Composition) else Composition((value,))


def _known(name: str) -> str:
    """The close matches first, then everything by family."""
    close = difflib.get_close_matches(name, PERTURBATIONS, n=3, cutoff=0.6)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    families = "; ".join(f"{family}: {', '.join(names)}" for family, names in FAMILIES.items())
    return f"{guess}There are {families}. Write name or name:severity (1 to 5), joined by +."
