"""Another road: lanes, bends, markings, surface; traffic on the other side; another renderer.

The road, the look and the start are drawn as in the clean episode and changed afterwards, so each episode keeps the
centre line and the start that its seed gives it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.lane_keeping.scenario import Scenario
from envs.perturbations.perturbation import Effect, Frame, Moment, declare_perturbation
from envs.road.track import Track
from envs.scene.look import Line, Look, Surface, to_color


@declare_perturbation(
    "road",
    unit="share f of the lane's width",
    doses=(0.93, 0.86, 0.78, 0.7, 0.6),
    frames=False,
    random=False,
    changes_scenario=True,
)
def lane_width(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """w' = f w: narrower lanes on the same centre line; the car leaves the road sooner, too.

    Source: ours.
    """
    share = dose
    return _OtherScenario(lambda scenario: scenario.with_track(lambda road: _scaled(road, 1.0, share)))


@declare_perturbation(
    "road",
    unit="factor f on the curvature",
    doses=(1.08, 1.15, 1.22, 1.3, 1.4),
    frames=False,
    random=False,
    changes_scenario=True,
)
def curvature(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """κ' = f κ: the whole road built smaller by f, lanes too, for the same car at the same speed.

    Source: ours.
    """
    size = 1.0 / dose
    return _OtherScenario(lambda scenario: scenario.with_track(lambda road: _scaled(road, size, size)))


@declare_perturbation(
    "road", unit="wear d", doses=(0.25, 0.45, 0.65, 0.85, 1.0), frames=False, random=False, changes_scenario=True
)
def worn_markings(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """1 − w' = (1 − w)(1 − d): the share w of the paint that is worn away; what is left fades, too (`envs.scene.look`).

    Source: ours.
    """
    wear = dose
    return _painted(lambda look: replace(look, wear=1.0 - (1.0 - look.wear) * (1.0 - wear)))


@declare_perturbation(
    "road",
    unit="share q of the lines",
    doses=(0.2, 0.4, 0.6, 0.8, 1.0),
    frames=False,
    random=False,
    changes_scenario=True,
)
def missing_markings(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """A share q of every line is missing, in stretches: dashes shrink, solid lines are interrupted every 2 m.

    Dashes and gaps become l' = (1 − q) l and g' = g + q l. Source: ours.
    """
    share = dose
    return _painted(
        lambda look: replace(
            look,
            left=_without(look.left, share),
            right=_without(look.right, share),
            centre=_without(look.centre, share),
        )
    )


@declare_perturbation(
    "road", unit="lines n, 1/m", doses=(0.06, 0.12, 0.22, 0.38, 0.6), frames=False, random=False, changes_scenario=True
)
def misleading_markings(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Lines of an earlier marking that lead across the lanes, n on each metre of road, each 3 to 8 m long.

    Their number on a road of length L is Poisson(n L): mean = n L. Source: ours.
    """
    density = dose
    return _painted(lambda look: replace(look, old_lines_per_m=look.old_lines_per_m + density))


@declare_perturbation(
    "road", unit="seams n, 1/m", doses=(0.3, 0.6, 1.2, 2.0, 3.2), frames=False, random=False, changes_scenario=True
)
def tar_seams(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Seams of black tar along the road, n on each metre, each 1 to 6 m long and as wide as a line.

    Their number on a road of length L is Poisson(n L): mean = n L. Source: ours.
    """
    density = dose
    return _painted(lambda look: replace(look, seams_per_m=look.seams_per_m + density))


@declare_perturbation(
    "road", unit="length d, s", doses=(0.5, 1.0, 1.5, 2.0, 3.0), frames=False, random=False, changes_scenario=True
)
def blackout_before_bends(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x' = 0 for d seconds around the beginning of a bend: half of them before it begins, half of them in it.

    What the road did before the darkness is all there is to steer by (`envs.lane_keeping.memory`). Source: ours.
    """
    length_s = dose
    return _OtherScenario(lambda scenario: scenario.with_config(blackout_s=(length_s, length_s)))


@declare_perturbation(
    "road",
    unit="share d of the way to full contrast",
    doses=(0.1, 0.22, 0.37, 0.57, 0.85),
    frames=False,
    changes_scenario=True,
)
def surface(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """Another material: the pavement's two colours become c t (1 ± k), 1 − k = (1 − k₀)(1 − d), spots get coarser.

    c is the mean of the two colours and k₀ their contrast, the mean of (bright − c) / c; the logarithm of the tint t is
    normal with deviation .3 d in each channel; spots metres wide get stronger by .5 d, smaller ones by .4 d.

    Source: ours.
    """
    depth = dose
    tint = np.exp(0.3 * depth * generator.standard_normal(3))

    def pave(look: Look) -> Look:
        old, dark, bright = look.road, np.asarray(look.road.dark), np.asarray(look.road.bright)
        middle = 0.5 * (dark + bright)
        before = float((bright - middle).sum() / max(middle.sum(), 1.0))
        contrast = 1.0 - (1.0 - before) * (1.0 - depth)
        road = Surface(
            to_color(middle * tint * (1.0 - contrast)),
            to_color(middle * tint * (1.0 + contrast)),
            coarse=old.coarse + 0.5 * depth,
            medium=old.medium + 0.4 * depth,
            fine=old.fine + 0.4 * depth,
        )
        return replace(look, road=road)

    return _painted(pave)


@declare_perturbation("road", unit="share of the episodes", doses=(0.2, 0.4, 0.6, 0.8, 1.0))
def mirrored(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """x'[r, c] = x[r, W − 1 − c] and a' = −a: traffic keeps to the left, for a share of the episodes.

    The labels of recordings change their sign in those episodes, too (`steering_sign`).

    Source: ours.
    """
    return _Mirror() if generator.random() < dose else Effect()


@declare_perturbation(
    "road",
    unit="resolution of the road, pixels/m",
    doses=(64.0, 48.0, 32.0, 24.0, 16.0),
    frames=False,
    random=False,
    changes_scenario=True,
)
def other_renderer(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
    """PyBullet's TinyRenderer, which does not average its texture, and a texture that gets coarser.

    It knows pinhole lenses only, so the camera becomes one.

    The texture has r = dose pixels on each metre. Source: Coumans and Bai, PyBullet.
    """
    resolution = dose
    return _OtherScenario(lambda scenario: scenario.with_config(renderer="tiny", pixels_per_m=resolution))


_STRETCH_M = 2.0


class _OtherScenario(Effect):
    def __init__(self, change: Callable[[Scenario], Scenario]):
        self._change = change

    def scenario(self, scenario: Scenario) -> Scenario:
        return self._change(scenario)


class _Mirror(Effect):
    mirrors = True

    def frame(self, frame: Frame, moment: Moment) -> Frame:
        return np.asarray(cv2.flip(frame, 1), np.uint8)

    def action(self, action: NDArray[np.float32], held: float) -> NDArray[np.float32]:
        changed = np.array(action, np.float32)
        changed[0] = -changed[0]
        return changed


def _painted(edit: Callable[[Look], Look]) -> Effect:
    return _OtherScenario(lambda scenario: scenario.with_look(edit))


def _scaled(road: Track, size: float, width: float) -> Track:
    """The same road with its centre line and its lanes scaled."""
    return Track(size * road.points, width * road.lane_width_m, road.name)


def _without(line: Line, share: float) -> Line:
    """The same line with a share of it missing."""
    if share >= 1.0:
        return replace(line, width_m=0.0)
    dash, gap = (line.dash_m, line.gap_m) if line.dash_m > 0.0 else (_STRETCH_M, 0.0)
    return replace(line, dash_m=(1.0 - share) * dash, gap_m=gap + share * dash)
