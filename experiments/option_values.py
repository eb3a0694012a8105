"""Values that no option can mean, whatever its type allows.

next(impossible(options), None)  # "rate must be a number, got nan."
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEAST = 1e-30
"""What is smaller and not 0 is meant by nobody, and one divided by it may be infinite."""


def impossible(value: Any, name: str = "", without: str | None = None) -> Iterator[str]:
    """Yield what is wrong with values that no option can mean, at any depth: NaN, next to 0, and more than 64 bits.

    Args:
        value: of an option, or all of them.
        name: of the option.
        without: "" where an option was given nothing: a path made of that is the current directory, which nobody named.
    """
    if without is not None and isinstance(value, Path) and value == Path(without):
        yield f"{name} must name a file or directory, got nothing (for the present directory say .)."
    elif isinstance(value, float) and math.isnan(value):
        yield f"{name} must be a number, got nan."
    elif isinstance(value, float) and 0 < abs(value) < LEAST:
        yield f"{name} must be 0 or a number of a size that means something, got {value}."
    elif isinstance(value, int) and abs(value) >> 63:
        yield f"{name} must fit into 64 bits, got {value!s:.40}."
    elif without is not None and isinstance(value, str) and not value:
        yield f"{name} must name something, got nothing."
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            given = getattr(value, item.name)
            if given != item.default or not isinstance(given, (str, tuple)):  # what nobody gave may well be empty
                yield from impossible(given, f"{name}.{item.name}" if name else item.name, without)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from impossible(one, name, without)
