"""Actions on their way into an env: numbers, or refused.

steering, = checked_action(np.array([0.2], np.float32), 1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

NAMES = ("steering", "throttle")


def checked_action(action: Any, size: int) -> tuple[float, ...]:
    """Read an action, each value clipped to [−1, 1].

    Args:
        action: `[size]`.
        size: how many numbers the env takes.

    Raises:
        ValueError: if it has another size, or a number in it is NaN or infinite.
    """
    if size == 1 and isinstance(action, np.ndarray) and action.shape == (1,) and math.isfinite(only := action.item()):
        return (min(max(float(only), -1.0), 1.0),)  # every step of most drives
    values: Sequence[float] = action.tolist() if isinstance(action, np.ndarray) else action
    try:
        numbers = tuple(min(max(float(value), -1.0), 1.0) if math.isfinite(value) else math.nan for value in values)
    except TypeError:
        numbers = ()
    if len(numbers) != size:
        raise ValueError(f"an action here has shape ({size},), got {np.shape(action)}.")
    for number, value in enumerate(numbers):
        if value != value:
            name = NAMES[number] if number < len(NAMES) else f"number {number + 1}"
            raise ValueError(f"the {name} of an action must be a finite number, got {float(values[number])}.")
    return numbers
