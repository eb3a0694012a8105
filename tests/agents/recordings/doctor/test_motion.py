"""What turning tells of labels, on turning that is given: no picture is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from agents.recordings.doctor.finding import Finding
from agents.recordings.doctor.motion import (
    MOST_OFFSET,
    TURN_PER_METRE,
    Motion,
    check_motion,
    fits_its_clock,
    following_s,
    motion_facts,
)
from agents.recordings.doctor.timing import with_slow_cars

COUNT = 600


def car(
    steering: np.ndarray,
    lag: int,
    *,
    gain: float = 0.02,
    period_s: float = 0.05,
    vehicle: str = "",
    metres: float = 0.0,
) -> Motion:
    """A car that turns `gain` at full lock, so many frames after its wheel."""
    noise = np.random.default_rng(0).normal(0, 0.1 * abs(gain) * steering.std(), len(steering))
    turning = gain * np.roll(steering, lag) + noise
    time_s = period_s * np.arange(len(steering))
    way = (np.full(len(steering), metres),) if metres else ()
    return Motion((turning,), (steering,), (time_s,), period_s, vehicle, True, way)


def wandering(seconds: float, period_s: float = 0.05) -> np.ndarray:
    """Steering without a rhythm of its own, smooth over so many seconds."""
    width = max(3, round(seconds / period_s))
    drawn = np.convolve(np.random.default_rng(1).normal(size=COUNT + width), np.hanning(width), "same")[:COUNT]
    return 0.4 * drawn / np.abs(drawn).max()


def about(motion: Motion) -> set[str]:
    return {finding.about for finding in check_motion(motion)}


@pytest.mark.parametrize("swerve_s", [0.8, 1.0, 1.4])
@pytest.mark.parametrize("gain", [0.02, -0.02])
def test_a_flipped_sign_of_a_driver_who_swerves(swerve_s, gain):
    """Half a swerve before, the turning resembles the steering with the other sign."""
    rhythm = np.sin(2 * np.pi * 0.05 * np.arange(COUNT) / swerve_s) * (0.3 + wandering(5))
    assert about(car(rhythm, 3, gain=gain)) == (set() if gain > 0 else {"sign"})


@pytest.mark.parametrize(("slower", "found"), [(1.0, set()), (2.0, {"clock"}), (0.5, {"clock"}), (9.0, set())])
def test_another_car_in_a_log_of_the_simulators_kind_has_no_clock_that_lies(slower, found):
    metres = 0.5
    turned = slower * TURN_PER_METRE["udacity"] * metres
    assert about(car(wandering(3), 1, gain=turned, vehicle="udacity", metres=metres)) == found


@pytest.mark.parametrize(
    ("period_s", "lag", "fits"), [(0.1, 1, True), (0.1, 4, False), (0.2, 1, True), (0.05, 4, True)]
)
def test_a_slow_camera_is_the_cars_own_where_it_follows_in_time(period_s, lag, fits):
    assert fits_its_clock(car(wandering(3, period_s), lag, period_s=period_s, vehicle="donkeycar")) == fits


def test_lags_of_a_slow_camera_are_uncertain_by_half_a_period():
    usual, slow = (following_s(car(wandering(3), 1, period_s=p, vehicle="donkeycar"))[0] for p in (0.05, 0.2))
    assert usual == pytest.approx(0.06) and slow == pytest.approx(-0.015)
    assert about(car(wandering(3, 0.2), -3, period_s=0.2, vehicle="donkeycar")) == {"lag"}


def test_only_a_rate_below_the_usual_one_becomes_a_note():
    slow = Finding("clock", True, "slow", "mend it", {"median_s": 0.1, "usual_hz": 20.0})
    fast = Finding("clock", True, "fast", "mend it", {"median_s": 0.02, "usual_hz": 20.0})
    bursts = Finding("clock", True, "bursts", "mend it", {"bursts": 0.3})
    noted, *others = with_slow_cars([slow, fast, bursts])
    assert (noted.about, noted.fault, noted.what) == ("rate", False, "slow")
    assert others == [fast, bursts]


@pytest.mark.parametrize("count", [240, 2400])
def test_an_offset_counts_where_the_drive_is_long_enough_to_tell_it(count):
    """Pushes that the label does not show turn the car as well, for a while."""
    rng = np.random.default_rng(4)
    steering, pushes = (np.convolve(rng.normal(size=count + 40), np.hanning(40) / 10, "same")[:count] for _ in range(2))
    motion = car(0.5 * steering + 0.4 * pushes, 2)
    shown = Motion(motion.turning, (0.5 * steering + 0.14,), motion.time_s, 0.05)
    assert abs(motion_facts(shown)["offset"]) > MOST_OFFSET
    assert ("offset" in about(shown)) == (count > 240)
