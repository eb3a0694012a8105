"""Time that does not run as in training: lost, repeated and late frames, and other frame rates.

Each comes twice. The plain one reports the truth: `elapsed` is the time between the moments at which the picture at
hand and the previous one were taken, so a picture that comes twice counts as (almost) no time and the next fresh one
as all of it, within the .01 to 10 periods that an observation can hold. The twin whose name ends in `_hidden` reports
every frame as on time, 1, which is what a driver without a clock believes anyway. Both draw the same times, so that
the two compare drive by drive.

Published counterparts: delayed, dropped, stuck and repeated observations in Dulac-Arnold et al., *Challenges of
real-world reinforcement learning* (Machine Learning 2021, arXiv:1904.12901); irregular sampling in Hasani et al.,
*Liquid time-constant networks* (AAAI 2021).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

import numpy as np

from envs.camera.info import CameraInfo
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation
from envs.perturbations.spells import Spells


@declare_perturbation(
    "timing",
    unit="probability p that a frame is lost",
    doses=(0.1, 0.25, 0.4, 0.55, 0.7),
    changes_time=True,
    has_hidden_twin=True,
)
def dropped_frames(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Each frame is lost with probability p; the last action is held until one arrives, after k ~ Geometric(1 − p).

    Source: dropped observations of Dulac-Arnold et al. (Machine Learning 2021).
    """
    return _Dropped(generator, dose)


@declare_perturbation(
    "timing",
    unit="share q of the time in which the picture is old",
    doses=(0.1, 0.2, 0.35, 0.5, 0.65),
    has_hidden_twin=True,
)
def frozen_frames(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera freezes now and then for `FREEZE_S` on average and keeps showing its last picture.

    Freezes begin at random so that the picture is old for a share q of the time; their lengths are exponential.

    With freezes of mean F = `FREEZE_S`, the pauses between them have the mean F (1 − q) / q. Source: stuck observations
    of Dulac-Arnold et al. (Machine Learning 2021).
    """
    return _Frozen(generator, dose)


@declare_perturbation(
    "timing",
    unit="largest deviation j of the period, as a share of it",
    doses=(0.2, 0.4, 0.6, 0.8, 0.95),
    changes_time=True,
    has_hidden_twin=True,
)
def jittered_period(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Every action is held for 1 + j u periods, u ~ U(−1, 1).

    Source: the irregular sampling of Hasani et al., *Liquid time-constant networks* (AAAI 2021), here of the loop
    itself.
    """
    return _Jittered(generator, dose)


@declare_perturbation("timing", unit="mean delay L, s", doses=(0.05, 0.1, 0.15, 0.2, 0.3), has_hidden_twin=True)
def latency(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Pictures arrive late, each by L (1 + u / 2), u ~ U(−1, 1); the driver gets the newest that has arrived.

    Delays are rounded to whole periods. A picture that is overtaken by a newer one is never shown.

    Source: delayed observations of Dulac-Arnold et al. (Machine Learning 2021).
    """
    return _Late(generator, dose, 0.5 * camera.period_s)


@declare_perturbation(
    "timing",
    unit="periods n between two frames",
    doses=(1.5, 2.0, 3.0, 4.0, 6.0),
    changes_time=True,
    random=False,
    has_hidden_twin=True,
)
def lower_rate(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The camera gives one frame where it gave n before; actions are held for n periods.

    Actions are held for Δt' = n Δt. Source: repeated actions of Dulac-Arnold et al. (Machine Learning 2021).
    """
    return _Slower(dose)


FREEZE_S = 0.3
"""Mean length of a freeze, s."""


class _Dropped(Effect):
    def __init__(self, generator: np.random.Generator, lost: float):
        self._generator, self._lost = generator, lost

    def periods(self) -> float:
        return float(min(self._generator.geometric(1.0 - self._lost), 10))


class _Jittered(Effect):
    def __init__(self, generator: np.random.Generator, share: float):
        self._generator, self._share = generator, share

    def periods(self) -> float:
        return 1.0 + self._share * float(self._generator.uniform(-1.0, 1.0))


class _Slower(Effect):
    def __init__(self, periods: float):
        self._periods = periods

    def periods(self) -> float:
        return self._periods


class _Stale(Effect, ABC):
    """Shows pictures that were taken earlier, and reports the time between the moments at which they were taken."""

    def __init__(self) -> None:
        self._shown_at: float | None = None
        self._now = 0.0
        self._between = 0.0

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        first = self._shown_at is None
        self._now += 0.0 if first else moment.elapsed
        shown, taken = self.choose(frame, moment.time_s, self._now - moment.age)
        self.age = self._now - moment.age - taken
        self._between = moment.elapsed if self._shown_at is None else taken - self._shown_at
        self._shown_at = taken
        return shown

    def reported_elapsed(self, elapsed: float) -> float:
        return self._between

    @abstractmethod
    def choose(self, frame: Frame, time_s: float, periods: float) -> tuple[Frame, float]:
        """Return the picture to show, and when it was taken, in periods since the first one; `frame` at `periods`."""


class _Frozen(_Stale):
    def __init__(self, generator: np.random.Generator, share: float):
        super().__init__()
        self._spells = Spells(generator, share, FREEZE_S)
        self._last: tuple[Frame, float] | None = None

    def choose(self, frame: Frame, time_s: float, periods: float) -> tuple[Frame, float]:
        if not self._spells.on(time_s) or self._last is None:
            self._last = (frame, periods)
        return self._last


class _Late(_Stale):
    def __init__(self, generator: np.random.Generator, delay_s: float, early_s: float):
        super().__init__()
        self._generator, self._delay_s, self._early_s = generator, delay_s, early_s
        self._under_way: deque[tuple[float, float, Frame]] = deque()  # arrival s, taken at, picture
        self._shown: tuple[Frame, float] | None = None

    def choose(self, frame: Frame, time_s: float, periods: float) -> tuple[Frame, float]:
        delay_s = self._delay_s * (1.0 + 0.5 * float(self._generator.uniform(-1.0, 1.0)))
        self._under_way.append((time_s + delay_s, periods, frame))
        if self._shown is None:
            self._shown = (frame, periods)  # there is nothing older than the first picture
        arrived = [entry for entry in self._under_way if entry[0] <= time_s + self._early_s]
        if arrived:
            newest = max(arrived, key=lambda entry: entry[1])
            if newest[1] >= self._shown[1]:
                self._shown = (newest[2], newest[1])
            self._under_way = deque(entry for entry in self._under_way if entry[1] > self._shown[1])
        return self._shown
