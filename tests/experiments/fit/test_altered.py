"""The altered worlds are what their names say, on the same roads with the same starts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agents.driving.car import car_of_env
from agents.driving.fit import CameraFit
from agents.driving.statistics import Estimate
from agents.driving.trials import Trial
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from experiments.fit import altered
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


def test_worlds_that_stand_are_not_driven_again_unless_options_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drives: list[int] = []

    def crashes(trials: Sequence[Trial], options: altered.Altered) -> list[list[bool]]:
        drives.append(len(trials))
        return [[number % 2 == 0] * options.roads for number in range(len(trials))]

    sure = Estimate(0.8, 0.7, 0.9)
    crops = {"crop_top": 1, "crop_bottom": -2, "crop_left": 0, "crop_right": 0, "crop_horizon": 9}
    monkeypatch.setattr(altered, "_crashes", crashes)
    monkeypatch.setattr(altered, "_fit", lambda *_: CameraFit(crops, sure, sure, 0.5, 0.0, 400, "geometry"))
    monkeypatch.setattr(altered, "find_policy", lambda path: path)
    options = altered.Altered(Path("mine"), roads=3, world=HOME, out=tmp_path, only=("full lock 1 rad",))
    altered.run(options)
    assert drives == [1, 3], "home, then expert, resized and fitted"
    altered.run(replace(options, only=("full lock 1 rad", "horizon at 0.05")))
    assert drives == [1, 3, 3]
    figures = json.loads((tmp_path / "altered.json").read_text(encoding="utf-8"))["figures"]
    assert set(figures["altered"]) == {"full lock 1 rad", "horizon at 0.05"}
    assert figures["altered"]["horizon at 0.05"]["crashes"]["resized"] == [False] * 3
    altered.run(replace(options, roads=4))
    assert drives == [1, 3, 3, 1, 3]
