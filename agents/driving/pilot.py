"""A driver at the wheel of a car or a loop of one's own: a frame and its time in, steering out.

    pilot = Pilot(load_policy("runs/mine"), period_s=0.05)
    while driving:
        steering = pilot(frame, time_s)  # uint8 [H, W, 3], seconds → [−1, 1] of full lock, positive left

It keeps the state, measures the elapsed time, begins afresh after a pause, and converts the steering to another car.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.driving.driver import OpenedDriver, PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.open_driver import open_driver, wrap_driver
from agents.recordings.episodes import ELAPSED_RANGE
from policies.car import CarInfo
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy

PAUSE_S = 2.0
"""Time without a frame after which a drive begins afresh, seconds."""


class Pilot:
    """One car, one driver.

    Attributes:
        steering_gain: what the driver's steering is multiplied with.
    """

    def __init__(
        self,
        policy: Any,
        period_s: float,
        options: DriverOptions | None = None,
        car: CarInfo | None = None,
    ):
        """Put a driver at the wheel.

        Args:
            policy: a `DrivingPolicy`, any object that `agents.driving.open_driver.wrap_driver` takes, or what
                `open_driver` opens.
            period_s: time between two frames of this loop, seconds: what passes where no time is given, and what a
                driver that does not say its own period counts in.
            options: what the driver cannot say; also crop and gain, such as those that `wormwheel fit` saved.
            car: the car at hand. A policy that knows the car it learnt in converts its steering: the same curvature
                per lane width. A gain in the options goes before.

        Raises:
            ValueError: if the period is not positive, or the steering is to be converted and too little is known.
        """
        if not (np.isfinite(period_s) and period_s > 0):
            raise ValueError(f"period_s must be a positive number of seconds, got {period_s}.")
        self.period_s = period_s
        options = (options or DriverOptions()).resolved()
        if isinstance(policy, DriverSpec):
            options = policy.options.resolved()
        self._source: Any = policy
        place = policy.source if isinstance(policy, DriverSpec) else policy
        if isinstance(place, (str, os.PathLike)) and os.path.isdir(place):
            self._source = load_policy(os.fspath(place), trust=options.trust)
        self.steering_gain = options.steering_gain or 1.0
        if car is not None and options.steering_gain is None:
            inside = self._source.policy if isinstance(self._source, PolicyDriver) else self._source
            learnt = inside.config.car if isinstance(inside, DrivingPolicy) else None
            self.steering_gain = (learnt or CarInfo()).steering_gain(car)
        self._options = replace(options, steering_gain=self.steering_gain)
        self._driver: OpenedDriver | None = None
        self._size: tuple[int, int] | None = None
        self._time_s: float | None = None
        self._start = True

    def reset(self) -> None:
        """Begin a drive: forget what was seen."""
        self._start, self._time_s = True, None

    def __call__(self, frame: NDArray[np.uint8], time_s: float | None = None) -> float:
        """Steer.

        Args:
            frame: uint8 `[H, W, 3]` RGB; one size in the whole drive.
            time_s: when it was taken, seconds on any clock; one period after the last one when None.

        Returns:
            Steering in [−1, 1] of full lock, positive left.

        Raises:
            ValueError: if the frame is not RGB or not of the size that the driver takes, or the clock went back.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame must be uint8 [H, W, 3] RGB, got {frame.dtype} {list(frame.shape)}.")
        if self._driver is None or self._size != frame.shape[:2]:
            self._size = (frame.shape[0], frame.shape[1])
            self._driver = self._open(self._size)
            self._start = True
        now_s = time_s if time_s is not None else (self._time_s or 0.0) + self.period_s
        passed_s = self.period_s if self._time_s is None else now_s - self._time_s
        if not passed_s > 0:
            raise ValueError(f"time_s must rise: {now_s} came after {self._time_s}. Call reset() between two drives.")
        if passed_s > PAUSE_S:
            self._start = True
        own_s = self._driver.period_s or self.period_s
        elapsed = 1.0 if self._start else float(np.clip(passed_s / own_s, *ELAPSED_RANGE))
        actions = self._driver.act(frame[None], np.array([elapsed], np.float32), np.array([self._start]), ())
        self._time_s, self._start = now_s, False
        return float(actions[0, 0])

    def _open(self, size: tuple[int, int]) -> OpenedDriver:
        if isinstance(self._source, (str, os.PathLike)):
            return open_driver(self._source, self._options, size)
        if isinstance(self._source, DriverSpec):
            return open_driver(self._source.source, self._options, size)
        return wrap_driver(self._source, self._options, size)
