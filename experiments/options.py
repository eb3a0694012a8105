"""Options beyond what their dataclass says: those of a core (`--core-options units=32 solver=rk4`), and whether a run
that is resumed, by `--resume` or by the same command, is given the options of its first start.
"""  # noqa: D205

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from agents.runs.directory import MARKER, RunDirectory, check_directory, claim, to_json
from agents.runs.reading import one_line, read_object
from agents.runs.renamed import options_as_they_are_now
from policies.cores import import_core, make_config


def check_resume(directory: Path, options: Any, free: Sequence[str]) -> None:
    """Check that a run is resumed with the options that it was started with.

    An option that the run's version did not have yet counts as given at its present default. A run that was killed
    before it wrote its options has none to compare.

    Args:
        directory: of the run; its `config.json` holds the options of the first start.
        options: dataclass of the resolved options.
        free: names of options that may change, since they do not shape what comes out; NAME.FIELD for nested ones.

    Raises:
        ValueError: if another option differs, or there is no run; names the first difference.
    """
    if not (directory / MARKER).exists():
        return
    try:
        saved = read_object(directory / MARKER)["options"]
        before = _filled(options_as_they_are_now(saved), _defaults(options))
        now = json.loads(json.dumps(to_json(options)))
        shaped = {name: before[name] for name in now if name not in free}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{directory} holds no run to resume: its config.json is missing or damaged ({one_line(error)})."
        ) from error
    for name, old in shaped.items():
        for place, was, is_now in _differences(name, old, now[name]):
            if place in free:
                continue
            raise ValueError(
                f"{directory} was started with {place} = {one_line(was)}, not {one_line(is_now)}; resume with the "
                "options of the first run."
            )


@contextmanager
def claim_alike(path: Path, verb: str, options: Any, free: Sequence[str]) -> Iterator[RunDirectory]:
    """Open a run that the same command resumes, as `agents.runs.directory.claim`, with the options of its first start.

    What is there is kept and not made again, so it must be what these options would make.

    Args:
        path: the directory.
        verb: what runs.
        options: dataclass of resolved options.
        free: as for `check_resume`.

    Yields:
        The directory.

    Raises:
        ValueError: if something else is in it, another process writes there, or another option differs.
        OSError: if nothing can be written there.
    """
    check_directory(path, verb, results=())
    if path.exists():
        check_resume(path, options, free)
    with claim(path, verb, options) as directory:
        yield directory


def _defaults(options: Any) -> dict[str, Any]:
    """Return the defaults of the options that have one, as JSON values."""
    found = {}
    for item in fields(options):
        if item.default is not MISSING:
            found[item.name] = item.default
        elif item.default_factory is not MISSING:
            found[item.name] = item.default_factory()
    defaults: dict[str, Any] = json.loads(json.dumps(to_json(found)))
    return defaults


def _filled(old: Any, default: Any) -> Any:
    """Add the fields that JSON values of an earlier version lack."""
    if not (isinstance(old, dict) and isinstance(default, dict)):
        return old
    return {**default, **{name: _filled(value, default.get(name)) for name, value in old.items()}}


def _differences(place: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the places where two JSON values differ, with what stands there."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for name in old:
            yield from _differences(f"{place}.{name}", old[name], new[name])
    elif old != new:
        yield place, old, new


def refuse_unused(given: Any, names: Sequence[str], why: str, plain: Any = None) -> None:
    """Check that nobody sets options that change nothing beside others.

    Args:
        given: dataclass of options.
        names: those of its fields that do nothing.
        why: one sentence that names the other option.
        plain: what they are where nobody sets them; the defaults of the dataclass when None.

    Raises:
        ValueError: if one of them is set.
    """
    usual = {item.name: item.default for item in fields(given)} if plain is None else vars(plain)
    set_here = [f"--{name.replace('_', '-')}" for name in names if getattr(given, name) != usual[name]]
    if set_here:
        do, them = ("does", "it") if len(set_here) == 1 else ("do", "them")
        raise ValueError(f"{', '.join(set_here)} {do} nothing here, for {why}: leave {them} out.")


def parse_core_options(core: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Turn NAME=VALUE pairs into the fields of a core's config.

    Args:
        core: name of the core; `module:Class` is imported, since whoever types it could as well run it.
        pairs: NAME=VALUE; a value is JSON (32, 0.5, true, [1, 2]) or else text. Hyphens in names stand for underscores.

    Returns:
        The fields that were named; the core's own checks have passed.

    Raises:
        ValueError: if there is no such core or field, or a value does not suit it.
    """
    if ":" in core:
        import_core(core)
    defaults = make_config(core)
    kinds = {item.name: type(getattr(defaults, item.name)) for item in fields(defaults)}
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"--core-options takes NAME=VALUE pairs such as units=19, got {pair!r}.")
        try:
            value: Any = json.loads(text)
        except ValueError:
            value = text
        if isinstance(value, list):
            value = tuple(value)
        kind = kinds.get(name)
        if kind is float and type(value) is int:
            value = float(value)
        if (
            kind in (int, float, bool, str)
            and type(value) is not kind
            and not (kind is str and isinstance(value, dict))
        ):
            raise ValueError(f"--core-options {name} must be of type {kind.__name__}, got {text!r}.")
        options[name] = value
    make_config(core, options)
    return options
