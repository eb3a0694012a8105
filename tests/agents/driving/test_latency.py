"""Measured latency, replayed: how long the old steering stays, and what the driver is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents.driving.latency import FORMAT, Latency, ReplayedLatency, read_latency
from agents.driving.trials import Run, Trial, drive_trials
from envs import LANE_KEEPING
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import PerturbedEnv
from envs.road.random_road import RandomRoadConfig

WORLD = LaneKeepingConfig(
    vehicle="bicycle",
    pixels_per_m=24.0,
    height=8,
    width=16,
    variety=0.0,
    episode_s=3.0,
    roads=RandomRoadConfig(length_m=(25.0, 30.0)),
)
PERIOD_S = WORLD.period_s


def world(latency: Latency | None, around: str = "") -> gymnasium.Env:
    env: gymnasium.Env = gymnasium.make(LANE_KEEPING, config=WORLD, disable_env_checker=True)
    if latency is not None:
        env = ReplayedLatency(env, latency)
    return PerturbedEnv(env, around) if around else env


def steer(env: gymnasium.Env, steering: list[float]) -> tuple[list[float], list[float], float]:
    """Return the elapsed times told, the steering angles of the car, and the time at the end."""
    env.reset(seed=3)
    told, angles = [], []
    for value in steering:
        observation, _, terminated, _, info = env.step(np.array([value], np.float32))
        assert not terminated
        told.append(float(observation["elapsed"][0]))
        angles.append(env.unwrapped.vehicle_state.steer)  # type: ignore[attr-defined]
    return told, angles, float(info["time_s"])


def test_an_answer_at_once_changes_nothing():
    plan = [0.2, -0.1, 0.3, 0.0]
    told, angles, time_s = steer(world(None), plan)
    assert steer(world(Latency((0.0,))), plan) == (told, angles, time_s)


def test_the_old_steering_stays_until_the_answer_is_there():
    heard: list[tuple[float, float]] = []
    env = world(None)
    inner = env.unwrapped

    class Spy(gymnasium.Wrapper):
        def step(self, action: np.ndarray):  # type: ignore[no-untyped-def]
            heard.append((float(action[0]), inner.next_periods))  # type: ignore[attr-defined]
            return self.env.step(action)

    late = ReplayedLatency(Spy(env), Latency((0.4 * PERIOD_S,)))
    told, _, time_s = steer(late, [0.5, -0.5])
    assert heard == [(0.0, pytest.approx(0.4)), (0.5, pytest.approx(0.6))] + [
        (0.5, pytest.approx(0.4)),
        (-0.5, pytest.approx(0.6)),
    ]
    assert told == pytest.approx([1.0, 1.0]) and time_s == pytest.approx(2 * PERIOD_S)


def test_both_parts_of_a_period_are_rewarded_and_an_episode_begins_with_the_wheel_straight():
    gained: list[float] = []
    heard: list[float] = []

    class Spy(gymnasium.Wrapper):
        def step(self, action: np.ndarray):  # type: ignore[no-untyped-def]
            heard.append(float(action[0]))
            result = self.env.step(action)
            gained.append(float(result[1]))
            return result

    late = ReplayedLatency(Spy(world(None)), Latency((0.4 * PERIOD_S,)))
    for _ in range(2):
        late.reset(seed=3)
        for number in (1, 2):
            reward = late.step(np.array([0.5], np.float32))[1]
            assert len(gained) == len(heard) and reward == pytest.approx(sum(gained[-2:])) and min(gained[-2:]) > 0
            assert heard[-2:] == [0.0 if number == 1 else 0.5, 0.5]


@pytest.mark.parametrize("end", [(True, False), (False, True)])
def test_nothing_is_driven_after_the_end(end: tuple[bool, bool]):
    driven: list[float] = []

    class Ends(gymnasium.Wrapper):
        def step(self, action: np.ndarray):  # type: ignore[no-untyped-def]
            driven.append(float(action[0]))
            observation, reward, _, _, info = self.env.step(action)
            return observation, reward, *end, info

    late = ReplayedLatency(Ends(world(None)), Latency((0.4 * PERIOD_S,)))
    late.reset(seed=3)
    assert late.step(np.array([0.5], np.float32))[2:4] == end
    assert driven == [0.0], "the episode ended on the old steering"


def test_a_driver_later_than_its_frame_drives_at_its_own_pace():
    told, angles, time_s = steer(world(Latency((2.5 * PERIOD_S,))), [0.4, 0.4, 0.4])
    assert told == pytest.approx([2.5] * 3) and time_s == pytest.approx(7.5 * PERIOD_S)
    assert angles[0] == 0.0 and angles[1] > 0.0  # the first answer is at work from the second picture on
    hidden, _, same_s = steer(world(Latency((2.5 * PERIOD_S,), reported=False)), [0.4, 0.4, 0.4])
    assert hidden == [1.0] * 3 and same_s == time_s


def test_draws_follow_the_seeds_and_the_samples():
    samples = tuple(PERIOD_S * value for value in (1.5, 2.0, 3.0))
    first = steer(world(Latency(samples, seed=1)), [0.0] * 6)[0]
    assert first == steer(world(Latency(samples, seed=1)), [0.0] * 6)[0]
    assert first != steer(world(Latency(samples, seed=2)), [0.0] * 6)[0]
    assert set(np.round(first, 3)) <= {1.5, 2.0, 3.0} and len(set(first)) > 1


def test_perturbed_time_stays_perturbed():
    told, _, time_s = steer(world(Latency((0.5 * PERIOD_S,)), "lower_rate_hidden:3"), [0.0, 0.0])  # three periods
    assert told == [1.0, 1.0] and time_s == pytest.approx(6 * PERIOD_S)


def test_a_late_expert_leaves_the_road():
    runs = tuple(Run(seed) for seed in (1, 2))
    trials = [Trial(None, WORLD, runs, latency=latency) for latency in (None, Latency((1.0,)))]
    plain, late = drive_trials(trials)
    assert not any(drive.crashed for drive in plain) and any(drive.crashed for drive in late)


def test_files_are_read_and_refused(tmp_path: Path):
    path = tmp_path / "latency.json"
    engines = {"torch": {"samples_ms": [1.0, 3.0]}, "numpy": {"samples_ms": [2.0]}}
    path.write_text(json.dumps({"figures": {"format": FORMAT, "engines": engines}}), encoding="utf-8")
    assert read_latency(path, "torch", 2.0) == pytest.approx((0.002, 0.006))
    with pytest.raises(ValueError, match="torch, numpy: name one"):
        read_latency(path)
    with pytest.raises(ValueError, match="not 'onnxruntime'"):
        read_latency(path, "onnxruntime")
    engines["torch"] = {"samples_ms": ["soon"]}
    path.write_text(json.dumps({"figures": {"format": FORMAT, "engines": engines}}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{path} is damaged .*bench latency"):
        read_latency(path, "torch")
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="bench latency"):
        read_latency(path)
    with pytest.raises(ValueError, match="at least one"):
        Latency(())


def test_periods_that_are_drawn_and_measured_latency_do_not_go_together():
    env = gymnasium.make(LANE_KEEPING, config=replace(WORLD, elapsed_jitter=0.3), disable_env_checker=True)
    with pytest.raises(ValueError, match="leave --elapsed-jitter out"):
        ReplayedLatency(env, Latency((0.01,)))
