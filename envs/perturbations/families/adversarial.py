"""Attacks: changes too small to see that are made for the driver at hand, and push it to one side.

They follow the gradient of the driver's steering with the state that its circuit has now. The side is drawn for the
episode and kept: pushes that take turns would cancel on the road. Strengths are grey levels, the largest change of any
value (the maximum norm).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.perturbations.images import to_grey_levels
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation

_STEPS = 3
"""Steps of `Pgd` in each frame."""
_AHEAD = 5
"""Frames whose steering `Pgd` looks at."""


@declare_perturbation(
    "adversarial", unit="strength ε, grey levels", doses=(1.0, 2.0, 3.0, 5.0, 8.0), frames=False, attacks=True
)
def fgsm(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = x + ε sign(± ∂a/∂x) with the steering a of this frame: one step, each frame on its own.

    Goodfellow, Shlens and Szegedy, *Explaining and harnessing adversarial examples* (ICLR 2015).
    """
    return _Fgsm(dose, _side(generator))


@declare_perturbation(
    "adversarial", unit="strength ε, grey levels", doses=(1.0, 2.0, 3.0, 5.0, 8.0), frames=False, attacks=True
)
def pgd(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """δ ← clip(δ ± (ε/2) sign(∂J/∂x at x + δ), −ε, ε), three times a frame, going on from the last frame's δ.

    Projected gradient descent (Madry et al., *Towards deep learning models resistant to adversarial attacks*, ICLR
    2018) through time. J = (a₁ + … + a₅) / 5 is the mean steering of the next five frames, taken as if they all were
    x + δ: its gradient runs back through the recurrent state, so it also pushes what the circuit will remember. And it
    goes on through the episode: what it has found for one frame is where it starts for the next.
    """
    return _Pgd(dose, _side(generator))


def _side(generator: np.random.Generator) -> float:
    return float(generator.choice([-1.0, 1.0]))


def _gradient(moment: Moment) -> Callable[[NDArray[np.float32], int], NDArray[np.float32]]:
    if moment.gradient is None:
        raise ValueError("there is no gradient to follow: attacks need a policy at the wheel.")
    return moment.gradient


class _Fgsm(Effect):
    def __init__(self, strength: float, side: float):
        self._push = np.float32(side * strength)

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        exact = frame.astype(np.float32)
        change = self._push * np.sign(_gradient(moment)(exact, 1))
        return to_grey_levels(exact + change)


class _Pgd(Effect):
    def __init__(self, strength: float, side: float):
        self._strength, self._side = np.float32(strength), np.float32(side)
        self._change: NDArray[np.float32] | None = None

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        exact = frame.astype(np.float32)
        change = np.zeros_like(exact) if self._change is None else self._change
        gradient = _gradient(moment)
        step = np.float32(0.5) * self._strength * self._side
        for _ in range(_STEPS):
            pushed = change + step * np.sign(gradient(np.clip(exact + change, 0.0, 255.0), _AHEAD))
            change = np.clip(pushed, -self._strength, self._strength).astype(np.float32)
        self._change = change
        return to_grey_levels(exact + change)
