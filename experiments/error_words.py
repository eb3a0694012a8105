"""What went wrong, in one line: errors of ours, of pydantic, of the system and of packages that are missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from experiments.help.advice import adapt_advice, install_advice

if TYPE_CHECKING:
    import pydantic


def describe(error: Exception) -> str:
    """Say in one line what went wrong."""
    if is_validation(error):
        return one_line(" ".join(_describe_field(found) for found in error.errors()))
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
        return one_line(f"{place}{error.strerror}. Check the path, its rights and the space on the disk.")
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.split(".")[0]
        return one_line(f"this needs the package {top}, which is not installed: {install_advice(top)}")
    return adapt_advice(one_line(str(error) or type(error).__name__))


def is_validation(error: BaseException | None) -> TypeGuard[pydantic.ValidationError]:
    """Whether an error is pydantic's; who has not imported pydantic has none of its errors."""
    imported = sys.modules.get("pydantic")
    return imported is not None and isinstance(error, imported.ValidationError)


def _describe_field(found: Mapping[str, Any]) -> str:
    """Say what one field of a config should be, from an entry of pydantic's `ValidationError.errors()`."""
    if found["type"] in ("value_error", "assertion_error"):  # raised by a config's own `__post_init__`
        return str(found["ctx"]["error"])
    name = ".".join(str(part) for part in found["loc"])
    bounds = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}
    bounds |= {"greater_than": ("greater than", "gt"), "less_than": ("less than", "lt")}
    if found["type"] in bounds:
        words, key = bounds[found["type"]]
        wanted = f"must be {words} {found['ctx'][key]:g}"
    elif found["type"] == "too_short":
        return f"{name} must have {found['ctx']['min_length']} or more values, got {found['ctx']['actual_length']}."
    else:
        message = str(found["msg"])
        wanted = (
            message.replace("Input should", "must") if message.startswith("Input should") else f"is wrong: {message}"
        )
    return f"{name} {wanted}, got {found['input']!r:.80}."


def one_line(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())
