"""A released policy with corrections at the wheel."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.driving.adapted.driver import AdaptedDriver, Correction
from agents.driving.adapted.file import read_adapted, write_adapted
from agents.driving.adapted.signs import MotionSign, PictureSign, edges
from agents.driving.adapted.view import Redrawing, ViewShift
from agents.driving.driver import PolicyDriver
from agents.driving.open_driver import open_driver
from agents.driving.pilot import Pilot
from policies.car import CarInfo
from policies.checkpoint import load_policy, save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

HEIGHT, WIDTH, ROWS = 16, 32, 3
CAR = CarInfo(camera_height_m=0.2, camera_pitch_deg=12.0, camera_hfov_deg=90.0)
VIEW = ViewShift(-6.0, 4.0)
ONES = np.ones(ROWS, np.float32)


def policy(**options: Any) -> DrivingPolicy:
    fit = Preprocessing(HEIGHT, WIDTH, height=HEIGHT, width=WIDTH)
    return DrivingPolicy.create(PolicyConfig(core="gru", preprocessing=fit, car=CAR, **options), seed=3).eval()


def frames(steps: int) -> NDArray[np.uint8]:
    """Frames `[steps, ROWS, H, W, 3]`; from the 5th on, those of the last row have an edge on the left."""
    made = np.random.default_rng(1).integers(90, 110, (steps, ROWS, HEIGHT, WIDTH, 3)).astype(np.uint8)
    made[4:, -1, :, :6] = 255
    return made


def edge_sign() -> PictureSign:
    shown = frames(5)
    looks = edges(np.stack([shown[0, 0], shown[4, -1]]))
    weights = looks[1] - looks[0]
    scale = float(weights @ weights)
    return PictureSign(weights / scale, -float(looks[0] @ weights) / scale)


def correction(view: ViewShift = VIEW, gain: float = 1.4, enter: float = 0.3) -> Correction:
    return Correction(view, gain, edge_sign(), enter, 0.5 * enter)


def drive(driver: Any, shown: NDArray[np.uint8], starts: dict[int, list[bool]]) -> NDArray[np.float32]:
    """Steering `[T, ROWS, M]`; `starts` says where drives begin, all of them at first."""
    found = []
    for step, pictures in enumerate(shown):
        begins = np.ones(ROWS, bool) if step == 0 else np.array(starts.get(step, [False] * ROWS))
        found.append(driver.act(pictures, ONES, begins, ()))
    return np.stack(found)


def test_where_the_world_is_the_old_one_it_steers_as_the_released_policy():
    shown, starts = frames(12), {7: [False, True, False]}
    wanted = drive(PolicyDriver(policy(), steering_gain=1.3), shown, starts)
    driver = AdaptedDriver(PolicyDriver(policy(), steering_gain=1.3), [correction(enter=99.0)])
    np.testing.assert_allclose(drive(driver, shown, starts), wanted, atol=1e-6)
    assert not driver.world.any()


@pytest.mark.parametrize("motors", [1, 2])
def test_in_the_other_world_frames_are_redrawn_and_steering_multiplied_there_alone(motors: int):
    shown = frames(12)
    driver = AdaptedDriver(PolicyDriver(policy(motors=motors)), [correction()])
    found = drive(driver, shown, {})
    assert driver.world.tolist() == [0, 0, 1]
    plain = drive(PolicyDriver(policy(motors=motors)), shown, {})
    redraw = Redrawing(policy().config, VIEW)
    redrawn = np.stack([redraw(one) for one in shown])
    # The state that goes with the redrawn frames has been there from the beginning of the drive.
    corrected = drive(PolicyDriver(policy(motors=motors)), redrawn, {})
    corrected[..., 0] *= 1.4
    np.testing.assert_allclose(found[:, :2], plain[:, :2], atol=1e-6)
    np.testing.assert_allclose(found[:4, 2], plain[:4, 2], atol=1e-6)
    np.testing.assert_allclose(found[8:, 2], corrected[8:, 2], atol=1e-6)
    assert np.abs(found[8:, 2] - plain[8:, 2]).max() > 1e-3


def test_the_steering_stays_within_full_lock():
    driver = AdaptedDriver(PolicyDriver(policy()), [correction(gain=500.0)])
    assert np.abs(drive(driver, frames(10), {})).max() == 1.0


def test_of_several_worlds_the_surest_counts():
    weaker = replace(correction(ViewShift(), 2.0), sign=replace(edge_sign(), weights=0.8 * edge_sign().weights))
    driver = AdaptedDriver(PolicyDriver(policy()), [weaker, correction(), weaker])
    drive(driver, frames(12), {})
    assert driver.world.tolist() == [0, 0, 2]


def test_what_the_car_was_told_by_others_counts():
    told = []
    driver = AdaptedDriver(PolicyDriver(policy()), [Correction(ViewShift(), 1.5, MotionSign(4.0, 2.0, 1.0), 0.6, 0.3)])
    (watch,) = driver._watches
    watch.averages = lambda *seen: told.append(seen[3].copy()) or np.zeros(ROWS)  # type: ignore[assignment, func-returns-value]
    shown = frames(3)
    first = driver.act(shown[0], ONES, np.ones(ROWS, bool), ())
    driver.steered[1] = 0.75
    driver.act(shown[1], ONES, np.zeros(ROWS, bool), ())
    np.testing.assert_allclose(told[1], [first[0, 0], 0.75, first[2, 0]])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_policy(policy(), tmp_path / "policy")
    return write_adapted(tmp_path, [correction()])


def test_an_adapted_driver_is_opened_from_its_file(saved: Path):
    driver = open_driver(str(saved))
    assert isinstance(driver, AdaptedDriver) and driver.frame_size == (HEIGHT, WIDTH) and driver.motors == 1
    shown = frames(10)
    np.testing.assert_allclose(
        drive(driver, shown, {}), drive(AdaptedDriver(PolicyDriver(policy()), [correction()]), shown, {}), atol=1e-5
    )
    pilot = Pilot(str(saved), period_s=0.05)
    assert pilot(shown[0, 0]) == pytest.approx(float(driver.act(shown[0], ONES, np.ones(ROWS, bool), ())[0, 0]))


def test_the_run_of_an_adapted_driver_says_what_to_give(saved: Path):
    for source in (str(saved.parent), saved.parent):
        with pytest.raises(ValueError, match=r"adapted\.json where it is to drive, or .*policy for the policy without"):
            load_policy(source)
    assert isinstance(open_driver(str(saved.parent / "policy")), PolicyDriver)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "is no driver"),
        ({"format_version": 9}, "format version 9"),
        ({"weights_sha256": "0"}, "another policy"),
        ({"corrections": []}, "has no correction"),
        ({"corrections": [{"view": {}}]}, "corrupt"),
        ({"corrections": [{**correction().to_json(), "enter": 0.1, "leave": 0.2}]}, "left below"),
        ({"corrections": [{**correction().to_json(), "view": {"pitch_deg": 400}}]}, "corrupt"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(change: dict[str, Any], words: str, saved: Path):
    saved.write_text(json.dumps({**json.loads(saved.read_text()), **change}))
    with pytest.raises(ValueError, match=words) as refused:
        read_adapted(saved)
    assert "\n" not in str(refused.value)
