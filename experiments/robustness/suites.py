"""Which perturbations a robustness test goes through: suites by name, or from a file.

A file is a JSON object:

    {"perturbations": ["fog", "rain+latency:1", "gaussian:5"], "severities": [1, 3, 5], "roads": 4, "episode_s": 20}

A perturbation that names no severity is taken at each of `severities`; one that does is taken at that one. Several that
are joined by `+` act together. `roads` and `episode_s` may be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from agents.runs.reading import one_line, read_json
from envs.perturbations import FAMILIES, PERTURBATIONS, SEVERITIES, parse
from envs.perturbations.registry import split_severity
from experiments.error_words import describe

FILE_KEYS = ("perturbations", "severities", "roads", "episode_s")
"""What a file may hold."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Suite:
    """What is driven."""

    perturbations: Annotated[tuple[str, ...], Field(min_length=1)]
    """In the registry's syntax; without a severity where every one is meant."""
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = SEVERITIES
    """Severities of those that name none."""
    roads: Annotated[int, Field(gt=0, le=100_000)] = 4
    """Random roads for each perturbation and severity."""
    episode_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """Length of a drive, s."""

    def __post_init__(self) -> None:
        """Check that every perturbation exists, and that there is a severity."""
        if not self.severities:
            raise ValueError("a suite needs at least one severity, got none.")
        self.conditions()

    def conditions(self) -> tuple[str, ...]:
        """Every perturbation at each of its severities, in order, none twice.

        Raises:
            ValueError: if one does not exist; what does is listed.
        """
        found: dict[str, None] = {}
        for text in self.perturbations:
            if not parse(text).parts:
                raise ValueError(f"clean drives are always part of a test; leave {text!r} out of the perturbations.")
            parts = [part.strip() for part in text.split("+")]
            if all(split_severity(part)[1] for part in parts):
                found[str(parse(text))] = None
                continue
            for severity in self.severities:
                whole = "+".join(part if split_severity(part)[1] else f"{part}:{severity}" for part in parts)
                found[str(parse(whole))] = None
        return tuple(found)


def named_suites() -> dict[str, Suite]:
    """Return the suites that have a name."""
    return {
        "standard": Suite(tuple(PERTURBATIONS)),
        "quick": Suite(tuple(_EXAMPLES.get(family, names[0]) for family, names in FAMILIES.items()), (2, 4), 2, 10.0),
        "noise": Suite(PUBLISHED_NOISE),
    }


PUBLISHED_NOISE = ("variance:2", "variance:4", "variance:5")
"""Gaussian noise of variance 0.1, 0.2 and 0.3, beside clean drives: the published test."""
_EXAMPLES = {"weather": "fog", "light": "night", "timing": "jittered_period", "noise": "gaussian"}
"""What stands for a family in the quick suite; the first one of the others."""


def choose_suite(
    name: str,
    perturbations: Sequence[str] = (),
    severities: Sequence[int] = (),
    roads: int | None = None,
    episode_s: float | None = None,
) -> Suite:
    """Find a suite and change what is given.

    Args:
        name: of a suite, or a JSON file.
        perturbations: instead of the suite's.
        severities: instead of the suite's.
        roads: instead of the suite's.
        episode_s: instead of the suite's.

    Raises:
        ValueError: if there is no such suite, or a file does not describe one.
    """
    suites = named_suites()
    suite = suites[name] if name in suites else _read(Path(name))
    named = perturbations and all(split_severity(part)[1] for text in perturbations for part in text.split("+"))
    if severities and named:
        raise ValueError(
            "--severities are for perturbations that name none, and all of --perturbations do: leave it out."
        )
    changes: dict[str, Any] = {"roads": roads, "episode_s": episode_s}
    changes |= {"perturbations": tuple(perturbations) or None, "severities": tuple(severities) or None}
    return replace(suite, **{key: value for key, value in changes.items() if value is not None})


def _read(path: Path) -> Suite:
    """Read a suite from a file."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        known = ", ".join(named_suites())
        raise ValueError(
            f"there is no suite and no file {str(path)!r}. Suites: {known}; or give a JSON file."
        ) from None
    except ValueError as error:
        raise ValueError(f"{error} A suite looks like {_EXAMPLE}") from None
    if not isinstance(content, dict) or "perturbations" not in content or set(content) - set(FILE_KEYS):
        raise ValueError(f"{path} must be an object with {', '.join(FILE_KEYS)}, such as {_EXAMPLE}")
    for key in ("perturbations", "severities"):
        if not isinstance(content.get(key, []), list):
            raise ValueError(f"{key} in {path} must be a list, such as {_EXAMPLE}")
    for text in content["perturbations"]:
        for part in str(text).split("+"):
            name, _, rest = part.strip().partition(":")
            if ":" in rest or rest and name not in PERTURBATIONS and not rest.strip().isdigit():
                raise ValueError(
                    f"{path} names {part.strip()[:80]!r}, whose module would be imported: nothing that is loaded runs "
                    "code. Name it on the command line by --perturbations, or register it by an entry point."
                )
    try:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
        }
        return Suite(**values)
    except ValidationError as error:
        raise ValueError(f"{path} does not describe a suite: {describe(error)} It looks like {_EXAMPLE}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a suite ({one_line(error)}): it looks like {_EXAMPLE}") from None


_EXAMPLE = '{"perturbations": ["fog", "rain+latency:1"], "severities": [1, 3, 5], "roads": 4, "episode_s": 20}'
