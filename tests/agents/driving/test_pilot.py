"""A pilot drives as the loop does, measures time, and converts steering to another car."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.driving.driver import PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.pilot import PAUSE_S, Pilot
from policies.car import CarInfo
from policies.checkpoint import load_policy, save_policy
from policies.policy import DrivingPolicy
from tests.agents.driving import kinds

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 48, 96, 3)).astype(np.uint8)


def expected(policy: DrivingPolicy, elapsed: list[float]) -> NDArray[np.float32]:
    """What the policy steers on `FRAMES` in one go."""
    times = np.array([elapsed], np.float32)
    return PolicyDriver(policy).steer_sequences(FRAMES[None, : len(elapsed)], times, None)[0][0]


def test_state_and_elapsed_time_are_those_of_the_drive():
    policy = kinds.policy("ltc")
    pilot = Pilot(policy, period_s=0.05)
    times = [7.0, 7.05, 7.15, 7.2, 7.21, 7.26]
    steered = [pilot(frame, time_s) for frame, time_s in zip(FRAMES, times, strict=True)]
    np.testing.assert_allclose(steered, expected(policy, [1.0, 1.0, 2.0, 1.0, 0.2, 1.0]), atol=1e-5)
    assert not np.allclose(steered, expected(policy, [1.0] * 6), atol=1e-5)
    pilot.reset()
    steered = [pilot(frame) for frame in FRAMES]
    np.testing.assert_allclose(steered, expected(policy, [1.0] * 6), atol=1e-5)


def test_the_policy_counts_in_its_own_period_and_begins_afresh_after_a_pause():
    policy = kinds.policy("ltc")
    pilot = Pilot(policy, period_s=0.1)  # the policy's own is 0.05 s
    steered = [pilot(frame) for frame in FRAMES[:3]]
    np.testing.assert_allclose(steered, expected(policy, [1.0, 2.0, 2.0]), atol=1e-5)
    late = pilot(FRAMES[0], 0.3 + PAUSE_S + 0.1)
    assert late == pytest.approx(float(expected(policy, [1.0])[0]), abs=1e-5)
    with pytest.raises(ValueError, match="time_s must rise"):
        pilot(FRAMES[1], 0.3)
    with pytest.raises(ValueError, match="uint8"):
        pilot(FRAMES[0].astype(np.float32))


def test_steering_is_converted_to_the_same_curvature_per_lane_width(tmp_path):
    policy = kinds.policy()
    home = CarInfo(full_lock_curvature_per_m=1.6, lane_width_m=0.5, speed_mps=1.5, camera_height_m=0.2)
    here = CarInfo(full_lock_curvature_per_m=0.2, lane_width_m=3.2)
    policy.config = replace(policy.config, car=home)
    save_policy(policy, tmp_path / "policy")
    loaded = load_policy(tmp_path)
    assert loaded.config.car == home
    card = (tmp_path / "policy" / "README.md").read_text()
    assert "1.6 1/m of curvature at full lock" in card and "lanes of 0.5 m" in card and "camera 0.2 m high" in card
    pilot = Pilot(tmp_path, 0.05, car=here)
    assert pilot.steering_gain == pytest.approx(1.6 * 0.5 / (0.2 * 3.2))
    assert pilot(FRAMES[0]) == pytest.approx(1.25 * float(expected(policy, [1.0])[0]), rel=1e-4)
    assert Pilot(policy, 0.05, DriverOptions(steering_gain=3.0), here).steering_gain == 3.0
    with pytest.raises(ValueError, match="lane_width_m of the car at hand"):
        Pilot(policy, 0.05, car=CarInfo(full_lock_curvature_per_m=1.0))
    with pytest.raises(ValueError, match="policy's car"):
        Pilot(kinds.policy(), 0.05, car=here)


def test_policies_of_earlier_versions_load_without_a_car(tmp_path):
    save_policy(kinds.policy(), tmp_path)
    assert '"car"' not in (tmp_path / "config.json").read_text()
    assert load_policy(tmp_path).config.car is None


def test_a_policy_knows_its_car_however_it_is_given(tmp_path):
    policy = kinds.policy()
    home = CarInfo(full_lock_curvature_per_m=1.6, lane_width_m=0.5)
    policy.config = replace(policy.config, car=home)
    place = save_policy(policy, tmp_path / "policy")
    here = CarInfo(full_lock_curvature_per_m=0.2, lane_width_m=3.2)
    gains = [
        Pilot(given, 0.05, car=here).steering_gain for given in (place, DriverSpec(str(place)), PolicyDriver(policy))
    ]
    assert gains == pytest.approx([1.25] * 3)
