"""Fits a correction for a shifted world: how the camera sits, a gain on the steering, and by what it is told.

**Correction.** From interventions: a view of the camera, or a gain, with which the policy steers most like the person
did, by least squares over the steering as the car takes it. Unlike a bias, a view is the same thing on both sides of
the lane, so it may be learnt where the driver strayed to one side only. Both are fitted to one half of the drives and
scored on the other, and the other way round. A view comes first where it leaves less than a gain does. Its errors are
taken with the gain that goes best with it, which is not kept: where a driver does not see right, the best gain is
small, whatever the car is like. Two views are kept: one with no more numbers than are needed, which is how the camera
sits, and the one with the least error, which makes up besides for what redrawn frames lack.

**Sign.** A camera that sits otherwise is told by the picture: the old driving, as it is and redrawn as the shifted
camera would have seen it, so that looks, roads and ways of driving are the same and only the camera differs. A car that
answers otherwise is told by its motion: how far the picture turns for what was steered, in the old driving and in the
new. From which value on the world counts as shifted is taken from old driving that the sign was not fitted to.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.adapted.driver import Correction
from agents.driving.adapted.signs import (
    Averages,
    Floats,
    MotionSign,
    PictureSign,
    Sign,
    edges,
    edges_within,
    far_part,
    follow,
    turn_between,
)
from agents.driving.adapted.view import Redrawing, ViewShift, camera_of
from agents.imitation.stretch import Stretch
from policies.policy import DrivingPolicy

_log = logging.getLogger(__name__)

GAINS = np.geomspace(0.4, 2.5, 147)
"""Gains that are tried."""
LEAST_GAIN = 0.03
"""A gain nearer to 1 changes nothing that matters."""
MUCH_BETTER = 0.7
"""Share of the error that a further number of a view may leave."""
AGREEMENT = 1.35
"""Factor within which a gain makes up for what the car answers less."""
BETTER = 0.85
"""Share of the error that a correction may leave, on drives that it was not fitted to, to be tried."""
HEIGHT_STEP = 1.35
"""Factor between two heights that are tried first."""
VIEWS = {
    "pitch_deg": (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0),
    "yaw_deg": (-18.0, -12.0, -6.0, 0.0, 6.0, 12.0, 18.0),
    "height": tuple(HEIGHT_STEP**step for step in (-2, -1, 0, 1, 2)),
}
"""What is tried first for each number of a view."""
COARSE = ((-8.0, -4.0, 0.0, 4.0, 8.0), (-12.0, -6.0, 0.0, 6.0, 12.0), (1 / HEIGHT_STEP, 1.0, HEIGHT_STEP))
"""Pitches, yaws and heights that are tried together."""
STEPS = (0.5, 0.25)
"""By which parts of the distance between two of them the best one is moved then."""
FOLDS = 5
"""Parts of the old episodes; each is scored by a sign fitted to the others."""
RIDGE = 30.0
"""Weight decay of the sign of a picture, per picture."""
FALSE = 0.02
"""Share of the old episodes that may be taken for the shifted world at some time."""
LAGS = (0.5, 1.0, 2.0, 4.0)
"""Time constants of the steering that are tried, nominal periods."""
LEAVE = 0.6
"""Share of that average below which a world is left again."""
EVERY = 6
"""Every so many frames of the old driving are looked at."""
NEARLY = ViewShift(0.4, 0.4)
"""A camera that sits as before."""
ENOUGH = 600
"""Frames of interventions that a view is fitted to; of more, some interventions are left out."""
MOST_DEG, MOST_HEIGHT = 25.0, 3.0
"""Farthest that a view is moved."""
LEAST_TURNS, LEAST_AGREEMENT = 100, 0.6
"""Turns that must be seen, and their correlation with the steering, for a car to be told by them."""
STEERING = 0
"""Which motor output steers; a throttle beside it stays as it is."""
MOST_ENTER = 0.7
"""Average of a sign at which a world is entered at the latest."""
LEAST_ENTER, LEAST_FOUND = 0.5, 0.5
"""Least average of a sign at which a world is entered, and share of the shifted frames that must be found by it."""


def find_corrections(
    policy: DrivingPolicy, met: Sequence[Stretch], driven: Sequence[Stretch], old: Sequence[Stretch]
) -> list[Correction]:
    """Fit corrections, the most promising one first; none where nothing helps or the worlds cannot be told apart.

    Args:
        policy: who drives; stays as it is.
        met: interventions, in at least two drives.
        driven: whole drives in the shifted world.
        old: whole drives in the old one.
    """
    found = []
    for view, gain, seen in fit_kinds(policy, met):
        told = _picture_sign(policy, seen, driven, old) if not seen.is_none else _motion_sign(policy, driven, old)
        if told is not None and _agree(gain, told[0]):
            found.append(Correction(view, gain, *told))
    return found


def _agree(gain: float, sign: Sign) -> bool:
    """Whether a car that turns so much less asks for such a gain; a driver that does not see right may, too."""
    return not isinstance(sign, MotionSign) or abs(math.log(gain * sign.shifted / sign.old)) < math.log(AGREEMENT)


# What is steered wrongly.


def fit_kinds(policy: DrivingPolicy, met: Sequence[Stretch]) -> list[tuple[ViewShift, float, ViewShift]]:
    """Return each kind of correction that helps on drives it was not fitted to, the best first.

    Returns:
        The view by which frames are redrawn, the gain, and how the camera sits as far as that is sure.
    """
    met = met[:: max(1, sum(len(stretch.frames) for stretch in met) // ENOUGH)]
    drives = np.array([stretch.drive for stretch in met for _ in range(int(stretch.counts.sum()))])
    if len(np.unique(drives)) < 2:
        return []
    answers, home, everything = _Answers(policy, met), ViewShift(), np.ones(len(drives), bool)
    one = np.isin(drives, np.unique(drives)[::2])
    left = dict.fromkeys(("nothing", "gain", "view"), 0.0)  # squared errors on the half that was not fitted to
    views = camera_of(policy.config.car) is not None
    for half in (one, ~one):
        left["nothing"] += answers.error(home, 1.0, ~half) * (~half).mean()
        left["gain"] += answers.error(home, answers.best_gain(home, half), ~half) * (~half).mean()
        view = _best_view(partial(answers.error_but_gain, only=half)) if views else home
        left["view"] += answers.error(view, answers.best_gain(view, half), ~half) * (~half).mean()
    _log.info("squared error of the steering in interventions: %s", left)
    found: list[tuple[ViewShift, float, ViewShift]] = []
    if views and left["view"] < BETTER * min(left["gain"], left["nothing"]):
        error = partial(answers.error_but_gain, only=everything)
        seen = _best_view(error)
        found.append((_freely(error, seen), 1.0, seen))
    if left["gain"] < BETTER * left["nothing"]:
        found.append((home, answers.best_gain(home, everything), home))
    return [one for one in found if not (one[2].is_none and abs(one[1] - 1.0) <= LEAST_GAIN)]


class _Answers:
    """What the policy steers in the interventions, by view; each view is driven once."""

    def __init__(self, policy: DrivingPolicy, met: Sequence[Stretch]):
        self.policy, self.met = policy, met
        self.label = np.concatenate([stretch.steering[stretch.counts] for stretch in met]).astype(np.float64)
        self._known: dict[ViewShift, Floats] = {}

    def of(self, view: ViewShift) -> Floats:
        """Return the unclamped steering `[N]` of all frames that count."""
        if view not in self._known:
            redraw = None if view.is_none else Redrawing(self.policy.config, view)
            self._known[view] = np.concatenate([self._steered(stretch, redraw) for stretch in self.met])
        return self._known[view]

    def _steered(self, stretch: Stretch, redraw: Redrawing | None) -> Floats:
        frames = stretch.frames if redraw is None else redraw(stretch.frames)
        with torch.inference_mode():
            motors, _ = self.policy.motors(
                torch.from_numpy(frames)[None], elapsed=torch.from_numpy(stretch.elapsed)[None], preprocessed=True
            )
        return motors[0, :, STEERING].double().numpy()[stretch.counts]

    def error(self, view: ViewShift, gain: float, only: NDArray[np.bool_] | None = None) -> float:
        """Return the mean squared error of the steering as the car takes it, over some of the frames."""
        squared = np.square(np.clip(gain * self.of(view), -1, 1) - self.label)
        return float(squared.mean() if only is None else squared[only].mean())

    def error_but_gain(self, view: ViewShift, only: NDArray[np.bool_]) -> float:
        """Return the error with the best gain: a driver that is astray steers too much or too little besides."""
        return self.error(view, self.best_gain(view, only), only)

    def best_gain(self, view: ViewShift, only: NDArray[np.bool_]) -> float:
        """Return the gain with the least error."""
        steered, label = self.of(view)[only], self.label[only]
        return float(GAINS[int(np.argmin([np.square(np.clip(g * steered, -1, 1) - label).mean() for g in GAINS]))])


def _best_view(error: Callable[[ViewShift], float]) -> ViewShift:
    """Find a view, one number at a time: the one that leaves the least of the error, as long as it leaves much less."""
    best, free = ViewShift(), set(VIEWS)
    while free:
        tried = {}
        for name in sorted(free):
            start = min((replace(best, **{name: value}) for value in VIEWS[name]), key=error)
            tried[name] = _polished(error, start, set(VIEWS) - free | {name})
        name = min(tried, key=lambda name: error(tried[name]))
        if not error(tried[name]) < (BETTER if best.is_none else MUCH_BETTER) * error(best):
            break
        best, free = tried[name], free - {name}
    return best


def _freely(error: Callable[[ViewShift], float], seen: ViewShift) -> ViewShift:
    """Find the view with the least error of all, whether all of its numbers are needed or not."""
    coarse = min((ViewShift(*one) for one in itertools.product(*COARSE)), key=error)
    return min((_polished(error, start, set(VIEWS)) for start in (seen, coarse)), key=error)


def _polished(error: Callable[[ViewShift], float], best: ViewShift, names: set[str]) -> ViewShift:
    """Move some numbers of a view by smaller and smaller steps as long as that is better."""
    for share in STEPS:
        moved = True
        while moved:
            moved = False
            for name in sorted(names):
                for sign in (1.0, -1.0):
                    tried = replace(best, **{name: _moved(name, getattr(best, name), sign * share)})
                    if error(tried) < error(best):
                        best, moved = tried, True
    return best


def _moved(name: str, value: float, step: float) -> float:
    """Move a number of a view by a part of the distance between two that are tried first, within bounds."""
    if name == "height":
        return float(np.clip(value * HEIGHT_STEP**step, 1 / MOST_HEIGHT, MOST_HEIGHT))
    return float(np.clip(value + step * (VIEWS[name][1] - VIEWS[name][0]), -MOST_DEG, MOST_DEG))


# By what the world is told.


def _picture_sign(
    policy: DrivingPolicy, view: ViewShift, driven: Sequence[Stretch], old: Sequence[Stretch]
) -> tuple[Sign, float, float] | None:
    """Fit the sign of a camera; with the averages at which the world is entered and left."""
    shifted, nearly = Redrawing(policy.config, view, back=True), Redrawing(policy.config, NEARLY)
    # What is not there in frames that are drawn anew must not tell, nor that they are drawn anew.
    known = edges_within(shifted.seen)
    looks = []
    for stretch in old:
        few = stretch.frames[::EVERY]
        looks.append((edges(np.concatenate([few, nearly(few)])), edges(shifted(few))))
    highest = []
    for fold in range(FOLDS):
        sign = _discriminant([one for number, one in enumerate(looks) if number % FOLDS != fold], known)
        highest += [_averages(sign, one, policy).max() for number, one in enumerate(old) if number % FOLDS == fold]
    enter = float(np.quantile(highest, 1.0 - FALSE))
    return _with_levels(_discriminant(looks, known), enter, driven, policy)


def _discriminant(looks: Sequence[tuple[Floats, Floats]], known: NDArray[np.bool_]) -> PictureSign:
    """Return the ridge regression to 0 and 1 on edges of the old world and of the shifted one, both equally heavy."""
    old, new = np.concatenate([one[0] for one in looks]) * known, np.concatenate([one[1] for one in looks]) * known
    features = np.concatenate([old, new])
    wanted = np.concatenate([np.zeros(len(old)), np.ones(len(new))])
    heavy = np.concatenate([np.full(len(old), 0.5 / len(old)), np.full(len(new), 0.5 / len(new))])
    middle = heavy @ features
    centred = features - middle
    weighted = heavy[:, None] * centred
    if len(wanted) < features.shape[1]:  # the same solution, from the smaller system
        inside = np.linalg.solve(weighted @ centred.T + RIDGE * np.eye(len(wanted)), heavy * (wanted - 0.5))
        weights = centred.T @ inside
    else:
        system = centred.T @ weighted + RIDGE * np.eye(features.shape[1])
        weights = np.linalg.solve(system, weighted.T @ (wanted - 0.5))
    # Shrinkage draws both means to the middle; they are put back to 0 and 1.
    low, high = float((old @ weights).mean()), float((new @ weights).mean())
    return PictureSign(weights / (high - low), -low / (high - low))


def _motion_sign(
    policy: DrivingPolicy, driven: Sequence[Stretch], old: Sequence[Stretch]
) -> tuple[Sign, float, float] | None:
    """Fit the sign of a car; with the averages at which the world is entered and left."""
    turns = [_turns(stretch) for stretch in (*old, *driven)]
    best: tuple[float, MotionSign] | None = None
    for lag in LAGS:
        held = [_held(stretch, lag) for stretch in (*old, *driven)]
        agreed, answers = [], []
        for part in (slice(0, len(old)), slice(len(old), None)):
            turn, hold = np.concatenate(turns[part]), np.concatenate(held[part])
            seen = np.isfinite(turn)
            if seen.sum() < LEAST_TURNS or hold[seen].std() < 1e-3:
                return None
            agreed.append(float(np.corrcoef(turn[seen], hold[seen])[0, 1]))
            answers.append(float((turn[seen] * hold[seen]).sum() / np.square(hold[seen]).sum()))
        if best is None or min(agreed) > best[0]:
            best = min(agreed), MotionSign(answers[0], answers[1], lag)
    assert best is not None
    agreement, sign = best
    if not agreement >= LEAST_AGREEMENT or abs(sign.old - sign.shifted) < LEAST_GAIN * abs(sign.old):
        return None
    highest = [_averages(sign, stretch, policy).max() for stretch in old]
    return _with_levels(sign, float(np.quantile(highest, 1.0 - FALSE)), driven, policy)


def _turns(stretch: Stretch) -> Floats:
    """Return how far the picture turns up to each frame but the first, pixels `[T - 1]`."""
    far = [far_part(frame) for frame in stretch.frames]
    return np.array([turn_between(a, b) for a, b in itertools.pairwise(far)])


def _held(stretch: Stretch, lag: float) -> Floats:
    """Return the steering that the wheels held up to each frame but the first, times the time, `[T - 1]`."""
    held, wheels = np.zeros(max(len(stretch.told) - 1, 0)), 0.0
    for step in range(len(held)):
        wheels, held[step] = follow(wheels, float(stretch.told[step]), float(stretch.elapsed[step + 1]), lag)
    return held


def _averages(sign: Sign, stretch: Stretch, policy: DrivingPolicy) -> Floats:
    """Return the average of a sign after each frame of a drive, `[T]`."""
    averages, found = Averages(sign, policy.config.nominal_period_s), np.zeros(len(stretch.frames))
    for step in range(len(found)):
        told = stretch.told[max(step - 1, 0)][None]
        here = slice(step, step + 1)
        found[step] = averages(stretch.frames[here], stretch.elapsed[here], np.array([step == 0]), told)[0]
    return found


def _with_levels(
    sign: Sign, enter: float, driven: Sequence[Stretch], policy: DrivingPolicy
) -> tuple[Sign, float, float] | None:
    """Return the sign with where to enter and leave; None where too little of the shifted driving is found by it.

    Args:
        sign: the sign.
        enter: the average from which on the world is to be taken for the shifted one.
        driven: drives in the shifted world.
        policy: who drives.
    """
    # What is nearer to the shifted world than to the old one is better off with the correction, wherever it is.
    enter = float(np.clip(enter, LEAST_ENTER, MOST_ENTER))
    found = np.concatenate([_averages(sign, stretch, policy) >= enter for stretch in driven])
    _log.info("%s: entered at %.2f, %.0f %% of the shifted frames", type(sign).__name__, enter, 100 * found.mean())
    return (sign, enter, LEAVE * enter) if found.mean() >= LEAST_FOUND else None
