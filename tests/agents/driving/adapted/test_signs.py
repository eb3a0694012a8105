"""By what a driver tells the world that it is in."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.driving.adapted.signs import (
    Averages,
    MotionSign,
    PictureSign,
    Watch,
    edges,
    far_part,
    follow,
    sign_from_json,
    turn_between,
)

HEIGHT, WIDTH = 24, 48
HILLS = np.random.default_rng(0).integers(0, 255, (HEIGHT, 400, 3)).astype(np.uint8)
MOTION = MotionSign(old=4.0, shifted=2.0, lag=1.0)


def looking(place_px: float) -> NDArray[np.uint8]:
    """A picture of far hills, soft enough to be looked at between two pixels, from `place_px` on."""
    columns = 150 + np.arange(WIDTH) - place_px
    first = np.floor(columns).astype(int)
    part = (columns - first)[None, :, None]
    soft = np.mean([np.roll(HILLS.astype(float), by, axis=1) for by in range(-3, 4)], axis=0)
    return (soft[:, first] * (1 - part) + soft[:, first + 1] * part).astype(np.uint8)


def drive(pixels_at_full_lock: float, steered: NDArray[np.float32], lag: float = 1.0) -> list[NDArray[np.uint8]]:
    """Pictures of a car that turns so far at full lock: one more than there is steering."""
    place, wheels, pictures = 0.0, 0.0, [looking(0.0)]
    for told in steered:
        wheels, held = follow(wheels, float(told), 1.0, lag)
        place += pixels_at_full_lock * held
        pictures.append(looking(place))
    return pictures


def averages(
    sign: MotionSign | PictureSign, pictures: list[NDArray[np.uint8]], steered: NDArray[np.float32]
) -> list[float]:
    found, watch = [], Averages(sign, 0.05)
    for step, picture in enumerate(pictures):
        told = steered[max(step - 1, 0)][None]
        found.append(float(watch(picture[None], np.ones(1, np.float32), np.array([step == 0]), told)[0]))
    return found


@pytest.mark.parametrize("moved", [-3.0, -0.5, 0.0, 1.25, 4.0])
def test_a_turn_is_found_between_pixels(moved: float):
    assert turn_between(far_part(looking(0.0)), far_part(looking(moved))) == pytest.approx(moved, abs=0.15)


def test_a_turn_that_is_too_far_or_in_nothing_is_not_guessed():
    assert np.isnan(turn_between(far_part(looking(0.0)), far_part(looking(60.0))))
    grey = far_part(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    assert np.isnan(turn_between(grey, grey))


@pytest.mark.parametrize(("pixels", "expected"), [(4.0, 0.0), (2.0, 1.0), (3.0, 0.5)])
def test_a_car_is_told_by_what_it_makes_of_its_steering(pixels: float, expected: float):
    steered = 0.8 * np.sin(np.arange(40) / 4).astype(np.float32)
    found = averages(MOTION, drive(pixels, steered), steered)
    assert found[0] == 0.0, "before anything is seen it is the old one"
    assert found[-1] == pytest.approx(expected, abs=0.1)


def test_where_nobody_steers_a_car_is_the_old_one():
    steered = np.zeros(30, np.float32)
    assert np.abs(averages(MOTION, drive(2.0, steered), steered)).max() < 0.05


def test_every_drive_is_told_by_itself_and_begins_anew():
    steered = 0.8 * np.sin(np.arange(30) / 4).astype(np.float32)
    pair = [drive(4.0, steered), drive(2.0, steered)]
    watch = Averages(MOTION, 0.05)
    for step in range(31):
        told = np.repeat(steered[max(step - 1, 0)], 2)
        both = watch(np.stack([one[step] for one in pair]), np.ones(2, np.float32), np.full(2, step == 0), told)
    np.testing.assert_allclose(both, [averages(MOTION, one, steered)[-1] for one in pair])
    starts = np.array([False, True])
    after = watch(np.stack([one[30] for one in pair]), np.ones(2, np.float32), starts, np.zeros(2, np.float32))
    assert after[1] == 0.0 and after[0] == pytest.approx(both[0], abs=0.1)


def test_a_picture_is_told_by_its_edges_over_the_last_second():
    upright = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    upright[:, ::12] = 200
    flat = np.ascontiguousarray(np.full_like(upright, 80))
    weights = edges(upright[None])[0]
    sign = PictureSign(weights / float(weights @ weights), 0.0)
    np.testing.assert_allclose(sign.values(np.stack([upright, flat])), [1.0, 0.0], atol=1e-9)
    found = averages(sign, [flat, *[upright] * 40], np.zeros(41, np.float32))
    assert found[0] == pytest.approx(0.0) and found[1] > 0.4 and found[-1] > 0.9, "the first frame is forgotten"
    assert np.all(np.diff(found) > 0)


def test_a_world_is_entered_and_left_at_two_levels():
    sign = PictureSign(np.zeros(2 * 16 * 23 + 15 * 24), 0.0)
    watch = Watch(Averages(sign, 0.05), enter=0.7, leave=0.4)
    picture, one = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8), np.ones(2, np.float32)
    given = iter([(0.6, 0.8), (0.6, 0.6), (0.9, 0.3), (0.5, 0.6), (0.6, 0.6)])
    watch.averages = lambda *_: np.array(next(given))  # type: ignore[assignment]
    wanted = [(False, True), (False, True), (True, False), (True, False)]
    for number, expected in enumerate(wanted):
        found = watch(picture, one, np.full(2, number == 0), np.zeros(2, np.float32))
        assert tuple(found) == expected, number
    assert not watch(picture, one, np.ones(2, bool), np.zeros(2, np.float32)).any(), "a drive begins in the old world"


def test_signs_are_kept_as_plain_values():
    picture = PictureSign(np.random.default_rng(0).normal(size=2 * 16 * 23 + 15 * 24), 0.25)
    again = sign_from_json(picture.to_json())
    assert isinstance(again, PictureSign) and again.bias == 0.25
    np.testing.assert_allclose(again.weights, picture.weights, rtol=1e-5)
    assert sign_from_json(MOTION.to_json()) == MOTION
    for wrong in ({"kind": "smell"}, {**picture.to_json(), "weights": [1.0]}, {**MOTION.to_json(), "shifted": 4.0}):
        with pytest.raises(ValueError, match="a sign"):
            sign_from_json(wrong)
