"""A person's steering wheel: keys turn it for as long as they are held, a mouse or a gamepad sets it.

wheel = Wheel()
wheel.hold(1)  # the left key goes down
wheel.step(0.05)  # steering after 50 ms, in [−1, 1], positive left
"""

from __future__ import annotations

import math

TURN_PER_S = 1.8
"""Full locks per second that a held key turns the wheel by."""
RETURN_PER_S = 3.0
"""The same back to the middle, when no key is held or the other one is."""


class Wheel:
    """Where the wheel stands.

    Attributes:
        steering: in [−1, 1], positive left.
    """

    def __init__(self) -> None:
        self.steering = 0.0
        self._held: float | None = None

    def hold(self, direction: float) -> None:
        """Hold a key: 1 for left, −1 for right, 0 for none.

        Raises:
            ValueError: if the direction is not within [−1, 1].
        """
        self._held = _checked(direction)

    def turn(self, steering: float) -> None:
        """Put the wheel somewhere at once.

        Raises:
            ValueError: if it is not within [−1, 1].
        """
        self.steering = _checked(steering)
        self._held = None

    def release(self) -> None:
        """Put the wheel straight and let go, as when a drive begins."""
        self.steering, self._held = 0.0, None

    def step(self, dt_s: float) -> float:
        """Turn for a while, and return the steering."""
        if self._held is not None:
            away = self._held - self.steering
            towards_middle = self.steering * away < 0
            most = (RETURN_PER_S if towards_middle else TURN_PER_S) * dt_s
            self.steering += min(max(away, -most), most)
        return self.steering


def _checked(value: float) -> float:
    if not (math.isfinite(value) and abs(value) <= 1.0):
        raise ValueError(f"steering must lie within [-1, 1], got {value}.")
    return float(value)
