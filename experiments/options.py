"""Options of a core on the command line: `--core-options units=32 solver=rk4`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from policies.cores import import_core, make_config


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
