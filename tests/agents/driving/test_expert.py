"""The geometric expert holds its lane, and comes back when pushed."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import envs
from agents.driving.expert import Disturbance, DisturbanceConfig, Expert, ExpertConfig
from agents.driving.metrics import Drive, closed_loop
from agents.driving.rollout import rollout
from envs.perturbations import PerturbedEnv
from envs.vehicle.vehicle import VehicleParams, VehicleState


def make(_: int, **options: object) -> gymnasium.Env:
    size = {"height": 8, "width": 16}  # the expert does not look
    return gymnasium.make(envs.LANE_KEEPING, vehicle="bicycle", episode_s=12.0, variety=0.0, **size, **options)


@pytest.fixture(scope="module")
def drives() -> list[Drive]:
    """Of the expert, on six roads."""
    return rollout(Expert(), make, range(6))


def test_holds_the_middle_of_its_lane_on_random_roads(drives: list[Drive]):
    figures = closed_loop(drives)
    assert figures["crashes"].value == 0
    assert figures["mean_offset_lane"].value < 0.02


def test_comes_back_to_the_middle_from_the_side_of_the_lane():
    env = make(0, start_offset=0.45, start_heading_rad=0.25)
    expert = Expert()
    for seed in range(6):
        _, info = env.reset(seed=seed)
        for _ in range(60):
            *_, info = env.step(np.array([expert.steer(env)], np.float32))
        assert abs(info["lateral_offset_m"]) < 0.04 * info["lane_width_m"]
    env.close()


def test_looking_too_far_ahead_cuts_bends(drives: list[Drive]):
    far = closed_loop(rollout(Expert(ExpertConfig(lookahead_s=0.6)), make, range(4)))
    near = closed_loop(drives[:4])
    assert near["mean_offset_m"].value < 0.5 * far["mean_offset_m"].value


def test_the_steering_is_that_of_a_circle_through_the_point_ahead_for_any_car():
    asked: list[tuple[float, float]] = []

    def point(s: float, lateral: float) -> tuple[float, float]:
        asked.append((s, lateral))
        return 2.0, 2.1  # 1 m ahead and 0.1 m to the left of a car at (1.9, 1.1) that looks along y

    car = VehicleState(1.9, 1.1, np.pi / 2, 5.0, 0.0)
    world = SimpleNamespace(
        vehicle_state=car,
        vehicle_params=VehicleParams(wheelbase_m=2.0, steering_limit_rad=0.8),
        track=SimpleNamespace(point=point),
        road_position_m=30.0,
        target_offset_m=-0.7,
    )
    slow = replace_world(world, vehicle_state=car._replace(speed=0.1))
    right = Expert(ExpertConfig(lookahead_s=0.5, lookahead_min_m=0.4)).steer(SimpleNamespace(unwrapped=world))
    assert right == pytest.approx(-np.arctan(2 * 2.0 * 0.1 / (1.0 + 0.01)) / 0.8)
    Expert(ExpertConfig(lookahead_s=0.5, lookahead_min_m=0.4)).steer(SimpleNamespace(unwrapped=slow))
    assert asked == [(32.5, -0.7), (30.4, -0.7)]


def replace_world(world: SimpleNamespace, **changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(world), **changes})


@pytest.mark.parametrize("period_s", [0.02, 0.1])
def test_pushes_come_as_often_and_last_as_long_whatever_the_period(period_s: float):
    config = DisturbanceConfig(interval_s=1.0, duration_s=(0.4, 0.6), strength=(0.5, 0.5), jitter=0.0)
    disturbance = Disturbance(config, period_s, np.random.default_rng(1))
    values = np.array([disturbance.step() for _ in range(round(1500 / period_s))])
    begun = (values != 0) & (np.concatenate([[0.0], values[:-1]]) == 0)
    assert begun.sum() == pytest.approx(1500 / 1.5, rel=0.1), "a second of quiet and half a second of push, on average"
    assert (values != 0).mean() == pytest.approx(0.5 / 1.5, rel=0.15)
    assert np.abs(values).max() == pytest.approx(0.5, rel=0.01) and (values > 0).mean() == pytest.approx(1 / 6, rel=0.2)


def test_disturbances_are_smooth_bounded_and_repeat():
    config = DisturbanceConfig()
    pushes = [[Disturbance(config, 0.05, np.random.default_rng(seed)).step() for _ in range(1)] for seed in (0, 0)]
    assert pushes[0] == pushes[1]
    disturbance = Disturbance(config, 0.05, np.random.default_rng(1))
    values = np.array([disturbance.step() for _ in range(4000)])
    assert np.abs(values).max() <= config.strength[1] + 6 * config.jitter
    assert np.abs(np.diff(values)).max() < 0.5
    assert (np.abs(values) > 0.3).mean() > 0.02
    assert abs(values.mean()) < 0.05


def test_senseless_options_are_refused():
    with pytest.raises(ValueError, match="lookahead_s"):
        ExpertConfig(lookahead_s=0)
    with pytest.raises(ValueError, match="strength"):
        DisturbanceConfig(strength=(0.9, 0.1))
    for beyond in (-0.01, 1.01):
        with pytest.raises(ValueError, match="jitter"):
            DisturbanceConfig(jitter=beyond)


def test_a_throttle_keeps_the_drawn_speed():
    env = make(0, throttle=True)
    env.reset(seed=0)
    for _ in range(5):
        ((steering, throttle),) = Expert().act(np.zeros(0), np.zeros(0), np.zeros(0), [env])
        assert throttle == 0.0
        *_, info = env.step(np.array([steering, throttle], np.float32))
    assert info["speed_mps"] == pytest.approx(env.unwrapped.target_speed_mps)
    env.close()


def test_jitter_wanders_with_a_time_constant_of_half_a_second():
    config = DisturbanceConfig(strength=(0.0, 0.0), jitter=0.2)
    disturbance = Disturbance(config, 0.05, np.random.default_rng(3))
    values = np.array([disturbance.step() for _ in range(60_000)])
    assert values.std() == pytest.approx(0.2, rel=0.05)
    lag = 10  # half a second
    assert np.corrcoef(values[:-lag], values[lag:])[0, 1] == pytest.approx(np.exp(-1), abs=0.05)


def test_the_expert_steers_behind_a_mirror_too():
    drives = rollout(Expert(), lambda slot: PerturbedEnv(make(slot), "mirrored:5"), range(2))
    plain = rollout(Expert(), make, range(2))
    for one, other in zip(drives, plain, strict=True):
        np.testing.assert_array_equal(one.lateral_offset_m, other.lateral_offset_m)
        np.testing.assert_array_equal(one.steering, -other.steering)
