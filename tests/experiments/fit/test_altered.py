"""The altered worlds are what their names say, on the same roads with the same starts."""

from __future__ import annotations

import math

import pytest

from agents.driving.car import car_of_env
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from experiments.fit.altered import alterations
from policies.car import CarInfo

HOME = LaneKeepingConfig(vehicle="bicycle", variety=0.15)


def car(world: LaneKeepingConfig) -> CarInfo:
    env = LaneKeepingEnv(world)
    try:
        _, info = env.reset(seed=3)
        return car_of_env(env, float(info["lane_width_m"]))
    finally:
        env.close()


@pytest.fixture(scope="module")
def home() -> CarInfo:
    return car(HOME)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("0.6 m, 110°, horizon 0.5", {"camera_height_m": 0.6, "camera_hfov_deg": 110.0, "camera_horizon": 0.5}),
        ("full lock 1 rad", {"full_lock_curvature_per_m": math.tan(1.0) / 0.325}),
        ("lanes 0.6 times as wide", {}),
    ],
)
def test_a_world_is_altered_as_its_name_says_and_in_nothing_else(name: str, values: dict[str, float], home: CarInfo):
    found = car(alterations(HOME)[name])
    if name.startswith("lanes"):
        assert home.lane_width_m is not None
        values = {"lane_width_m": 0.6 * home.lane_width_m}
    for key, value in values.items():
        assert getattr(found, key) == pytest.approx(value, rel=0.02), key
    kept = {"full_lock_curvature_per_m", "lane_width_m", "speed_mps", "camera_height_m", "camera_hfov_deg"} - {*values}
    for key in kept:
        assert getattr(found, key) == pytest.approx(getattr(home, key), rel=1e-6), key
