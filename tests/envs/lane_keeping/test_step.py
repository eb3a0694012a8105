"""What a step of LaneKeeping comes to, by hand: reward, time, curvature, where an episode starts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from envs.lane_keeping.env import LaneKeepingEnv
from envs.vehicle.vehicle import VehicleParams


def make(**fields: Any) -> LaneKeepingEnv:
    return LaneKeepingEnv(**{"vehicle": "bicycle", "variety": 0.0, "height": 8, "width": 16, **fields})


def steer_along(env: LaneKeepingEnv, step: int) -> float:
    """Somewhat along the road, never twice the same."""
    info = env.status()
    return -1.5 * info["lateral_offset_m"] - info["heading_error_rad"] + 0.2 * math.sin(0.9 * step)


@pytest.mark.parametrize(("period_s", "throttle"), [(0.05, 0.0), (0.1, 0.5)])
def test_the_reward_is_that_of_its_formula_to_the_crash(period_s: float, throttle: float) -> None:
    env = make(period_s=period_s, throttle=True, speed_mps=(1.2, 1.2), episode_s=60.0)
    env.reset(seed=4)
    before, last, crashed, step = 0.0, 0.0, False, 0
    while not crashed and step < 1200:
        steering = steer_along(env, step) if step < 30 else 1.0
        _, reward, crashed, _, info = env.step(np.array([steering, throttle], np.float32))
        way, steering = info["progress_m"] - before, info["steering"]
        share = info["lateral_offset_m"] / (0.5 * info["lane_width_m"])
        earned = way / (1.2 * period_s) / (1 + share**2) - 0.1 * (steering - last) ** 2
        assert reward == pytest.approx(earned - (10.0 if crashed else 0.0), abs=1e-9)
        before, last, step = info["progress_m"], steering, step + 1
    assert crashed and step > 31


def test_a_crash_between_two_frames_ends_the_episode_there_and_the_clock_says_so() -> None:
    env = make()
    env.reset(seed=1)
    crashed = False
    for _ in range(200):
        before = env.status()["time_s"]
        env.next_periods = 9.0
        observation, _, crashed, _, info = env.step(np.array([0.3], np.float32))
        elapsed = float(observation["elapsed"][0])
        assert info["time_s"] - before == pytest.approx(0.05 * elapsed, abs=1e-6)
        if crashed:
            break
    assert crashed and elapsed < 9.0 and abs(info["lateral_offset_m"] / info["lane_width_m"] - 0.5) < 1.2


@pytest.mark.parametrize("keep", ["left", "right"])
def test_curvature_is_that_of_the_lane_under_the_car(keep: str) -> None:
    env = make(keep=keep)
    env.reset(seed=2)
    seen = []
    for step in range(60):
        *_, info = env.step(np.array([steer_along(env, step)], np.float32))
        expected = float(env.track.curvature(env.road_position_m, env.target_offset_m))
        assert info["curvature_per_m"] == pytest.approx(expected, abs=1e-6)
        seen.append(info["curvature_per_m"] - float(env.track.curvature(env.road_position_m)))
    assert np.abs(seen).max() > 0.005, "the lane is tighter or wider than the road"


def test_motion_is_that_of_the_car_as_it_is() -> None:
    env = make(throttle=True, vehicle_params=VehicleParams(wheelbase_m=0.5), speed_mps=(1.0, 1.0))
    env.reset(seed=0)
    for _ in range(10):
        env.step(np.array([0.4, 0.8], np.float32))
    state = env.vehicle_state
    assert state.speed > 1.2 and env.motion().speed_mps == state.speed
    assert env.motion().yaw_rate_radps == pytest.approx(state.speed * math.tan(state.steer) / 0.5)


def test_starts_lie_on_both_sides_of_the_lane_and_within_what_is_asked_for() -> None:
    env = make(start_offset=0.3, start_heading_rad=0.2, speed_mps=(1.0, 2.0), resets_per_road=200)
    env.reset(seed=0)
    drawn = []
    for _ in range(150):
        _, info = env.reset()
        offset = info["lateral_offset_m"] / info["lane_width_m"]
        drawn.append((offset / 0.3, info["heading_error_rad"] / 0.2, 2 * (info["speed_mps"] - 1.5)))
    for values in np.array(drawn).T:
        assert -1.03 < values.min() < -0.9 and 0.9 < values.max() < 1.03 and abs(values.mean()) < 0.15


def test_films_run_at_the_pace_of_the_camera() -> None:
    assert make(period_s=0.1).metadata["render_fps"] == 10
    assert make(period_s=5.0).metadata["render_fps"] == 1  # the slowest that films have
