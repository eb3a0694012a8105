"""Commands that do not arrive as they were given: noise, a steering that sticks, delays, losses.

After the action delays, stuck actuators and action noise of Dulac-Arnold et al., *Challenges of real-world
reinforcement learning* (Machine Learning 2021).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from envs.camera.info import CameraInfo
from envs.perturbations.perturbation import Action, Effect, declare_perturbation
from envs.perturbations.spells import Spells
from envs.perturbations.steered import steered


@declare_perturbation(
    "actuation", unit="standard deviation σ, share of full lock", doses=(0.05, 0.12, 0.22, 0.36, 0.55), frames=False
)
def action_noise(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """a' = a + σ n, n ~ N(0, 1), drawn for each step.

    Source: Dulac-Arnold et al. (Machine Learning 2021).
    """
    return _Noisy(generator, dose)


@declare_perturbation("actuation", unit="share q of the time", doses=(0.1, 0.2, 0.32, 0.46, 0.62), frames=False)
def stuck_steering(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """The steering sticks where it is for .4 s on average, a share q of the time; both lengths are exponential.

    a'(t) = a(s), s the time at which it stuck; pauses have the mean .4 s · (1 − q) / q. Source: Dulac-Arnold et al.
    (Machine Learning 2021).
    """
    return _Stuck(generator, dose, camera.period_s)


@declare_perturbation("actuation", unit="delay d, s", doses=(0.05, 0.1, 0.15, 0.2, 0.3), frames=False, random=False)
def action_delay(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """a'(t) = a(t − d): commands arrive late; before the first one the car goes straight on.

    Source: Dulac-Arnold et al. (Machine Learning 2021).
    """
    return _Delayed(dose, camera.period_s)


@declare_perturbation("actuation", unit="probability p", doses=(0.2, 0.4, 0.6, 0.75, 0.87), frames=False)
def lost_actions(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Each command is lost with probability p; the one before it holds on.

    a'(t) = a(t) with probability 1 − p, else a'(t − 1). Source: Dulac-Arnold et al. (Machine Learning 2021).
    """
    return _Lossy(generator, dose)


STUCK_S = 0.4
"""Mean time that the steering sticks, s."""


class _Noisy(Effect):
    def __init__(self, generator: np.random.Generator, deviation: float):
        self._generator, self._deviation = generator, deviation

    def action(self, action: Action, held: float) -> Action:
        return steered(action, float(action[0]) + self._deviation * float(self._generator.standard_normal()))


class _Stuck(Effect):
    def __init__(self, generator: np.random.Generator, share: float, period_s: float):
        self._spells, self._period_s = Spells(generator, share, STUCK_S), period_s
        self._time_s, self._last = 0.0, 0.0

    def action(self, action: Action, held: float) -> Action:
        if not self._spells.on(self._time_s):
            self._last = float(action[0])
        self._time_s += held * self._period_s
        return steered(action, self._last)


class _Delayed(Effect):
    def __init__(self, delay_s: float, period_s: float):
        self._delay_s, self._period_s = delay_s, period_s
        self._time_s, self._acting = 0.0, 0.0
        self._under_way: deque[tuple[float, float]] = deque()  # arrival s, steering

    def action(self, action: Action, held: float) -> Action:
        self._under_way.append((self._time_s + self._delay_s, float(action[0])))
        while self._under_way and self._under_way[0][0] <= self._time_s + 0.5 * self._period_s:
            self._acting = self._under_way.popleft()[1]
        self._time_s += held * self._period_s
        return steered(action, self._acting)


class _Lossy(Effect):
    def __init__(self, generator: np.random.Generator, probability: float):
        self._generator, self._probability, self._acting = generator, probability, 0.0

    def action(self, action: Action, held: float) -> Action:
        if self._generator.random() >= self._probability:
            self._acting = float(action[0])
        return steered(action, self._acting)
