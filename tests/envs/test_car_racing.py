"""wormwheel/CarRacing-v0: the same contract over Gymnasium's CarRacing."""

from __future__ import annotations

import math
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.car_racing import draw_what_shows
from envs.perturbations import PerturbedEnv

pytest.importorskip("Box2D")


def follow(env: Any) -> np.ndarray:
    inside = env.unwrapped
    hull = inside._inner.car.hull
    x, y = hull.position
    ahead = inside.track.point(float(inside.track.project((x, y)).s) + 12.0) - (x, y)
    angle = math.atan2(ahead[1], ahead[0]) - (hull.angle + 0.5 * math.pi)
    angle = (angle + math.pi) % (2.0 * math.pi) - math.pi
    return np.clip(np.array([2.0 * angle], np.float32), -1.0, 1.0)


def test_checker_passes_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(envs.CAR_RACING_STEERING).unwrapped, skip_render_check=True)


def test_a_driver_that_steers_positive_to_the_left_stays_on_the_road() -> None:
    env = gymnasium.make(envs.CAR_RACING_STEERING, episode_s=4.0)
    observation, info = env.reset(seed=3)
    assert env.observation_space.contains(observation)
    truncated = False
    while not truncated:
        observation, reward, terminated, truncated, info = env.step(follow(env))
        assert not terminated
    assert info["progress_m"] > 40.0 and info["speed_mps"] == pytest.approx(25.0, rel=0.25)
    assert abs(info["heading_error_rad"]) < 0.7
    assert info["time_s"] == pytest.approx(4.0)
    env.close()


def test_full_lock_leaves_the_road_on_its_side() -> None:
    for steering in (1.0, -1.0):
        env = gymnasium.make(envs.CAR_RACING_STEERING)
        env.reset(seed=4)
        for _ in range(900):
            _, reward, terminated, truncated, info = env.step(np.array([steering], np.float32))
            if terminated:
                break
        assert terminated and info["crashed"] and reward < -5.0
        assert math.copysign(1.0, info["lateral_offset_m"]) == steering
        env.close()


def test_the_same_seed_gives_the_same_bytes() -> None:
    frames = []
    for _ in range(2):
        env = gymnasium.make(envs.CAR_RACING_STEERING, height=48)
        env.reset(seed=5)
        for _ in range(10):
            observation, *_ = env.step(np.array([0.3], np.float32))
        frames.append(observation["camera"])
        env.close()
    assert frames[0].shape == (48, 96, 3) and np.array_equal(*frames)


def test_config_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="speed_mps\n.*greater than 0"):
        gymnasium.make(envs.CAR_RACING_STEERING, speed_mps=0.0)
    with pytest.raises(ValueError, match="no attribute colour"):
        gymnasium.make(envs.CAR_RACING_STEERING, colour=1)


def test_perturbations_count_its_own_period() -> None:
    env = PerturbedEnv(gymnasium.make(envs.CAR_RACING_STEERING), "action_delay:2")
    env.reset(seed=1)
    assert env.camera.period_s == pytest.approx(0.02)
    steered = [env.step(np.array([0.5], np.float32))[-1]["steering"] for _ in range(7)]
    assert steered == pytest.approx([0.0] * 5 + [0.5] * 2)  # 0.1 s late


def test_leaving_out_what_does_not_show_changes_no_pixel() -> None:
    whole, quick = (gymnasium.make("CarRacing-v3", disable_env_checker=True) for _ in range(2))
    draw_what_shows(quick.unwrapped)
    painted: Any = quick.unwrapped
    drawn, draw = 0, painted._draw_colored_polygon

    def count(*arguments: Any, **options: Any) -> None:
        nonlocal drawn
        drawn += 1
        draw(*arguments, **options)

    painted._draw_colored_polygon = count
    draws = np.random.default_rng(0)
    for seed, steps in ((3, 15), (4, 70)):  # Another road, while the same env goes on.
        shown = [env.reset(seed=seed)[0] for env in (whole, quick)]
        for step in range(steps):
            assert np.array_equal(*shown)
            if step == 60:  # Within the first second it looks from high above and sees all of the road.
                drawn = 0
            action = np.array([draws.uniform(-1, 1), draws.uniform(0.5, 1), 0.0])
            shown = [env.step(action)[0] for env in (whole, quick)]
    assert drawn / 10 < 150  # of some 700 polygons
