"""Corrections for a shifted world: what is found from interventions, and by what the world is told."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.driving.adapted.driver import AdaptedDriver, Correction
from agents.driving.adapted.signs import MotionSign, PictureSign, follow
from agents.driving.adapted.view import ViewShift, camera_of
from agents.driving.driver import PolicyDriver
from agents.imitation import correct
from agents.imitation.correct import find_corrections, fit_kinds
from agents.imitation.stretch import Stretch
from envs.camera.lens import CameraParams
from envs.camera.plane import Pose, Reprojector, View
from policies.car import CarInfo
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

HEIGHT, WIDTH, STEPS = 24, 48, 24
CAR = CarInfo(camera_height_m=0.2, camera_pitch_deg=12.0, camera_hfov_deg=90.0)
FIT = Preprocessing(HEIGHT, WIDTH, height=HEIGHT, width=WIDTH)
WIDE = View(CameraParams(height_m=0.2, pitch_deg=12.0, hfov_deg=150.0), 120, 320)
POINTS, ON_FLOOR = WIDE.points()


@pytest.fixture(scope="module")
def policy() -> DrivingPolicy:
    made = DrivingPolicy.create(PolicyConfig(core="feedforward", preprocessing=FIT, car=CAR), seed=1).eval()
    with torch.no_grad():  # so that a fresh driver steers about as much as one that has learnt
        for parameter in made.core.output_map():
            parameter.mul_(6.0)
    return made


def room(number: int) -> NDArray[np.uint8]:
    """A dark floor with lines along it, a bright wall with windows; every one looks otherwise."""
    rng = np.random.default_rng([number, 1])
    beside = np.arctan2(POINTS[..., 1], POINTS[..., 0])
    floor = np.where(np.abs(np.abs(POINTS[..., 1] - 0.1) - 0.3) < 0.04, 220, rng.integers(60, 110))
    windows = rng.integers(120, 250, 60)[np.clip(((beside + 1.5) * 20).astype(int), 0, 59)]
    return np.repeat(np.where(ON_FLOOR, floor, windows)[..., None], 3, axis=2).astype(np.uint8)


@functools.cache
def drive(number: int, view: ViewShift, gain: float = 1.0) -> Stretch:
    """A car on a patterned floor that weaves, seen from a camera; it turns by `gain` of what it is told."""
    rng = np.random.default_rng(number)
    steered = (0.7 * np.sin(np.arange(STEPS) / 3 + rng.uniform(0, 6))).astype(np.float32)
    own = camera_of(CAR)
    assert own is not None
    camera = CameraParams(
        height_m=own.height_m * view.height,
        pitch_deg=own.pitch_deg + view.pitch_deg,
        yaw_deg=own.yaw_deg + view.yaw_deg,
        hfov_deg=own.hfov_deg,
    )
    reprojector, seen = Reprojector(WIDE, View(camera, HEIGHT, WIDTH)), room(number)
    yaw, wheels, frames = rng.uniform(-0.1, 0.1), 0.0, []
    for told in steered:
        frames.append(reprojector.warp(seen, Pose(left_m=rng.uniform(-0.1, 0.1), yaw_rad=yaw)))
        wheels, held = follow(wheels, float(told), 1.0, 1.0)
        yaw += 0.15 * gain * held
    counts = np.arange(STEPS) >= 4
    still = np.zeros(STEPS, np.float32)
    return Stretch(np.stack(frames), still, np.ones(STEPS, np.float32), counts, steered, number)


def answered(policy: DrivingPolicy, stretch: Stretch, seen: Stretch, gain: float = 1.0) -> Stretch:
    """What a person met who steers as the policy would before the old camera, times a gain."""
    with torch.no_grad():
        steering, _ = policy.motors(torch.from_numpy(seen.frames)[None], preprocessed=True)
    label = np.clip(gain * steering[0, :, 0].numpy(), -1, 1).astype(np.float32)
    return Stretch(stretch.frames, label, stretch.elapsed, stretch.counts, stretch.steered, stretch.drive)


@pytest.fixture
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correct, "VIEWS", {"pitch_deg": (-8.0, -4.0, 0.0, 4.0, 8.0), "yaw_deg": (-6.0, 0.0, 6.0)})
    monkeypatch.setattr(correct, "COARSE", ((0.0,), (0.0,), (1.0,)))
    monkeypatch.setattr(correct, "STEPS", (0.5,))


@pytest.mark.usefixtures("few_views")
@pytest.mark.parametrize("pitch_deg", [-6.0, 6.0])
def test_a_camera_that_sits_otherwise_is_found(pitch_deg: float, policy: DrivingPolicy):
    there, home = ViewShift(pitch_deg), ViewShift()
    met = [answered(policy, drive(number, there), drive(number, home)) for number in range(2)]
    free, gain, view = fit_kinds(policy, met)[0]
    assert not free.is_none
    assert gain == pytest.approx(1.0, abs=0.2), "a view explains it"
    assert view.pitch_deg == pytest.approx(pitch_deg, abs=2.0) and abs(view.yaw_deg) <= 3.0


@pytest.mark.usefixtures("few_views")
def test_a_gain_is_found_and_no_view_beside_it(policy: DrivingPolicy):
    drives = [drive(number, ViewShift()) for number in range(2)]
    view, gain, seen = fit_kinds(policy, [answered(policy, one, one, 1.6) for one in drives])[0]
    assert view.is_none and seen.is_none and gain == pytest.approx(1.6, rel=0.05)


@pytest.mark.usefixtures("few_views")
def test_nothing_is_corrected_where_the_driver_was_right_or_one_drive_is_all(policy: DrivingPolicy):
    drives = [drive(number, ViewShift()) for number in range(2)]
    assert fit_kinds(policy, [answered(policy, one, one) for one in drives]) == []
    assert fit_kinds(policy, [answered(policy, drives[0], drives[0], 1.6)]) == []


def test_a_policy_that_does_not_know_its_camera_gets_a_gain_alone():
    bare = DrivingPolicy.create(PolicyConfig(core="feedforward", preprocessing=FIT), seed=1).eval()
    drives = [drive(number, ViewShift()) for number in range(2)]
    assert [view for view, *_ in fit_kinds(bare, [answered(bare, one, one, 2.0) for one in drives])] == [ViewShift()]


def steer_through(driver: AdaptedDriver, stretch: Stretch) -> NDArray[np.intp]:
    worlds = []
    for step, frame in enumerate(stretch.frames):
        driver.act(frame[None], np.ones(1, np.float32), np.array([step == 0]), ())
        worlds.append(driver.world[0])
        driver.steered = stretch.told[step][None]
    return np.array(worlds)


@pytest.mark.parametrize(
    ("kind", "view", "gain"),
    [(PictureSign, ViewShift(-6.0), 1.0), (MotionSign, ViewShift(), 0.5)],
)
def test_worlds_are_told_apart_on_drives_that_nothing_was_fitted_to(
    kind: Any, view: ViewShift, gain: float, policy: DrivingPolicy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(correct, "fit_kinds", lambda *_: [(view, 1.0 if gain == 1.0 else 1 / gain, view)])
    old = [drive(number, ViewShift()) for number in range(10)]
    driven = [drive(number, view, gain) for number in range(20, 26)]
    (found,) = find_corrections(policy, [], driven, old)
    assert isinstance(found, Correction) and isinstance(found.sign, kind)
    assert found.view == view and found.leave < found.enter
    driver = AdaptedDriver(PolicyDriver(policy), [found])
    for number in range(30, 33):
        assert not steer_through(driver, drive(number, ViewShift())).any(), "the old world is left alone"
        assert steer_through(driver, drive(number, view, gain))[STEPS // 2 :].all()


def test_worlds_that_look_and_answer_alike_are_not_told_apart(policy: DrivingPolicy, monkeypatch: pytest.MonkeyPatch):
    old, driven = ([drive(number, ViewShift()) for number in range(begin, begin + 10)] for begin in (0, 20))
    for view in (ViewShift(-6.0), ViewShift()):
        monkeypatch.setattr(correct, "fit_kinds", lambda *_, view=view: [(view, 1.5, view)])
        assert find_corrections(policy, [], driven, old) == []


@pytest.mark.parametrize("wanted", [ViewShift(), ViewShift(-5.0), ViewShift(0.0, 14.0), ViewShift(-6.0, 0.0, 1.5)])
def test_a_view_has_no_more_numbers_than_it_needs(wanted: ViewShift):
    def error(view: ViewShift) -> float:
        parts = (
            view.pitch_deg - wanted.pitch_deg,
            view.yaw_deg - wanted.yaw_deg,
            20 * np.log(view.height / wanted.height),
        )
        return 4.0 + float(np.square(parts).sum()) + 0.01 * view.yaw_deg

    found = correct._best_view(error)
    assert (found.pitch_deg != 0.0, found.yaw_deg != 0.0, found.height != 1.0) == (
        wanted.pitch_deg != 0.0,
        wanted.yaw_deg != 0.0,
        wanted.height != 1.0,
    )
    assert error(found) < 5.0


def test_a_gain_has_to_be_what_the_car_asks_for(policy: DrivingPolicy, monkeypatch: pytest.MonkeyPatch):
    old = [drive(number, ViewShift()) for number in range(10)]
    driven = [drive(number, ViewShift(), 0.5) for number in range(20, 26)]
    for gain, count in ((2.0, 1), (1.2, 0), (0.5, 0)):
        monkeypatch.setattr(correct, "fit_kinds", lambda *_, gain=gain: [(ViewShift(), gain, ViewShift())])
        assert len(find_corrections(policy, [], driven, old)) == count
