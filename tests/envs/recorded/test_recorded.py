"""wormwheel/Recorded-v0: its geometry against LaneKeeping's, and what envs must keep."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs
from envs.perturbations import PerturbedEnv
from envs.recorded.env import BACK_HEIGHTS, RecordedEnv
from tests.envs.recorded.drives import SEED, drive, follow, footage, world

LANE_SHARE = 0.05
"""Agreement of offsets that is asked for, share of the lane width."""
LINE_PX = 2.0
"""Agreement of painted lines that is asked for, pixels."""


def paint(frame: np.ndarray, level: int, band: np.ndarray) -> np.ndarray:
    """Where a frame shows paint in a band `[H, W]`: `[N, 2]` rows and columns."""
    return np.argwhere((frame.astype(int).min(axis=2) > level) & band)


def on_lines(seen: np.ndarray, true: np.ndarray, band: np.ndarray) -> float:
    """Share of the painted pixels of a frame in a band that have one of the other's within 2 px."""
    ours, theirs = paint(seen, 170, band), paint(true, 120, np.ones_like(band))
    if not len(ours) or not len(theirs):
        return 1.0
    apart = np.hypot(*np.moveaxis(ours[:, None] - theirs[None], 2, 0))
    return float((apart.min(axis=1) <= LINE_PX).mean())


def seen_band(env: RecordedEnv) -> np.ndarray:
    """The road that the nearest recorded frame shows, from a few rows below the horizon on."""
    reprojector = env._sight.reprojector
    band = reprojector.inside(reprojector.map(env._seen_from(env._at))) & reprojector.on_road
    return band & (np.arange(48) > 25)[:, None]


@pytest.mark.parametrize("posed", [True, False], ids=["poses", "dead reckoning"])
def test_the_same_actions_lead_to_the_same_place_and_picture_as_in_lane_keeping(posed: bool):
    kept = drive()
    there, here = world(), RecordedEnv([footage(posed)], episode_s=60.0)
    _, real = there.reset(seed=SEED)
    lateral = kept["offset"][0] if posed else 0.0
    heading = float(kept["heading"][0]) if posed else 0.0
    here.reset(seed=0, options={"frame": 0, "offset_m": lateral, "heading_rad": heading})
    lane_m, apart, offsets, shares, backwards = kept["lane_width_m"], [], [], [], []
    for step in range(70):
        action = np.array([kept["steering"][step] + 0.15 * math.sin(step / 5)], np.float32)
        true, _, _, _, real = there.step(action)
        seen, _, lost, _, info = here.step(action)
        assert not lost
        # Without poses the recorded line itself, not the lane, is what offsets are measured from.
        line = 0.0 if posed else kept["offset"][info["frame"]]
        apart.append(abs(real["lateral_offset_m"] - line - info["lateral_offset_m"]) / lane_m)
        offsets.append(abs(real["lateral_offset_m"] - kept["offset"][info["frame"]]) / lane_m)
        band = seen_band(here)
        shares.append(on_lines(seen["camera"], true["camera"], band))
        backwards.append(on_lines(true["camera"], seen["camera"], band))
    assert max(apart) < LANE_SHARE
    assert max(offsets) > 0.2, "the car must leave the recorded line for this to say anything"
    assert np.mean(shares) > 0.97
    assert np.mean(backwards) > 0.97


def test_without_reprojection_lines_would_be_wrong():
    """The test above sees it when frames are shown as they were recorded."""
    kept = drive()
    there = world()
    there.reset(seed=SEED)
    shares = []
    for step in range(70):
        action = np.array([kept["steering"][step] + 0.15 * math.sin(step / 5)], np.float32)
        true, *_ = there.step(action)
        shares.append(
            on_lines(true["camera"], kept["frame"][step + 1], (np.arange(48) > 25)[:, None] & np.ones(96, bool))
        )
    assert np.mean(shares) < 0.8


def test_gymnasium_and_sb3_checkers_pass_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env: Any = gymnasium.make(envs.RECORDED, footage=[footage()], render_mode="rgb_array").unwrapped
        check_env(env)
        sb3_check_env(env)


def test_the_seed_fixes_an_episode_and_frames_are_new_arrays():
    env = RecordedEnv([footage()], start_offset=0.5)
    seen = []
    for _ in range(2):
        observation, info = env.reset(seed=3)
        after, *_ = env.step(np.array([0.3], np.float32))
        seen.append((observation["camera"], after["camera"], info))
    np.testing.assert_array_equal(seen[0][1], seen[1][1])
    assert seen[0][2] == seen[1][2]
    assert seen[0][1] is not seen[1][1]
    other, info = env.reset(seed=4)
    assert info["lateral_offset_m"] != seen[0][2]["lateral_offset_m"]


def test_who_repeats_the_recorded_steering_stays_on_the_line():
    env = RecordedEnv([footage(posed=False)], episode_s=60.0)
    _, info = env.reset(seed=0, options={"frame": 0, "offset_m": 0.0, "heading_rad": 0.0})
    steps, over = 0, False
    while not over:
        _, reward, lost, over, info = env.step(np.array([drive()["steering"][steps]], np.float32))
        assert not lost
        assert abs(info["lateral_offset_m"]) < 0.01
        assert reward > 0.4
        steps += 1
    assert steps >= len(drive()["steering"]) - 2, "the episode lasts as long as the recording"


def test_wheels_start_where_the_recorded_ones_were():
    """In the middle of a bend, with a servo that is slow: with straight wheels the replay would leave the line."""
    slow = footage(posed=False)
    slow = replace(slow, car=replace(slow.car, steering_lag_s=0.3))
    frame = int(np.abs(slow.wheels_rad[:-30]).argmax())
    env = RecordedEnv([slow], episode_s=60.0)
    env.reset(seed=0, options={"frame": frame, "offset_m": 0.0, "heading_rad": 0.0})
    assert abs(env.vehicle_state.steer) > 0.1
    assert env.vehicle_state.steer == pytest.approx(slow.wheels_rad[frame])
    for step in range(25):
        *_, info = env.step(np.array([drive()["steering"][frame + step]], np.float32))
        assert abs(info["lateral_offset_m"]) < 0.01


def test_who_steers_away_is_lost_and_pays_for_it():
    env = RecordedEnv([footage()], episode_s=60.0)
    env.reset(seed=0, options={"frame": 0, "offset_m": 0.0, "heading_rad": 0.0})
    for _ in range(60):
        _, reward, lost, _, info = env.step(np.array([1.0], np.float32))
        if lost:
            break
    assert lost and info["crashed"] and reward < -8.0
    nearer = RecordedEnv([footage()], limit_m=0.01)
    nearer.reset(seed=0, options={"frame": 0, "offset_m": 0.05, "heading_rad": 0.0})
    assert nearer.step(np.array([0.0], np.float32))[2], "farther from its line than it may be"


def test_the_reward_is_that_of_the_formula_however_long_the_action_is_held():
    env = RecordedEnv([footage()], episode_s=60.0)
    env.reset(seed=0, options={"frame": 20, "offset_m": 0.1, "heading_rad": 0.0})
    steered = 0.0
    for steering, periods in ((0.2, 1.0), (-0.1, 3.0), (0.3, 0.5)):
        before = env.road_position_m
        mps = float(np.interp(before, env.track.stations_m, env.footage[0].moving_mps))
        env.next_periods = periods
        _, reward, *_, info = env.step(np.array([steering], np.float32))
        share = info["lateral_offset_m"] / (0.5 * info["lane_width_m"])
        wanted = (env.road_position_m - before) / (mps * 0.05) / (1 + share**2) - 0.1 * (steering - steered) ** 2
        assert reward == pytest.approx(wanted, abs=1e-6)
        steered = steering


def test_longer_recordings_are_drawn_more_often():
    long = footage()
    names = ("steering", "time_s", "speed_mps", "poses", "lateral_offset_m", "heading_error_rad")
    short = replace(long, name="short", **{name: getattr(long, name)[:14] for name in names})
    env = RecordedEnv([short, long])
    drawn = [env.reset(seed=seed)[1]["track"] for seed in range(60)]
    assert 0 < drawn.count("short") < 0.3 * len(drawn), "13 of 132 steps"


def test_what_lies_beside_the_car_is_looked_for_some_camera_heights_back():
    env = RecordedEnv([footage()], episode_s=60.0)
    env.reset(seed=0, options={"frame": 100, "offset_m": 0.0, "heading_rad": 0.0})
    stations_m = env.track.stations_m
    back_m = [float(stations_m[100] - stations_m[read.args[0]]) for read, _ in env._sources()]  # type: ignore[attr-defined]
    wanted = [back * env.camera_params.height_m for back in (0.0, *BACK_HEIGHTS)]
    assert env.camera_params.height_m < 0.5
    np.testing.assert_allclose(back_m, wanted, atol=0.5 * float(np.diff(stations_m).max()))


def test_pure_pursuit_of_the_line_comes_back_to_it():
    env = RecordedEnv([footage()], episode_s=60.0)
    limit = env.reset(seed=0)[1]["limit_m"]
    env.reset(seed=0, options={"frame": 0, "offset_m": 0.6 * limit, "heading_rad": 0.0})
    offsets = []
    for _ in range(100):
        _, _, lost, over, info = env.step(np.array([follow(env)], np.float32))
        assert not lost
        offsets.append(abs(info["lateral_offset_m"]))
        if over:
            break
    assert max(offsets[-20:]) < 0.06


def test_perturbations_act_on_frames_time_and_actions():
    for text in ("fog:3", "latency:2", "dropped_frames:2+camera_yaw:2"):
        env = PerturbedEnv(RecordedEnv([footage()]), text)
        clean, _ = RecordedEnv([footage()]).reset(seed=1)
        observation, _ = env.reset(seed=1)
        after, *_ = env.step(np.array([0.0], np.float32))
        assert observation["camera"].shape == after["camera"].shape == clean["camera"].shape


def test_other_sizes_and_held_actions():
    env = RecordedEnv([footage()], height=24, width=48)
    observation, info = env.reset(seed=1)
    assert observation["camera"].shape == (24, 48, 3)
    env.next_periods = 2.5
    observation, _, _, _, after = env.step(np.array([0.0], np.float32))
    assert observation["elapsed"][0] == 2.5
    assert after["time_s"] == pytest.approx(0.125)
    assert env.next_periods is None


def test_a_late_frame_follows_the_recorded_speed_and_sees_where_the_car_was_lost():
    """Four periods in one step are what four steps are, and the time reported is that until the car was lost."""
    fast = footage(posed=False)
    speeds = np.linspace(1.0, 2.0, len(fast))
    env, start = RecordedEnv([replace(fast, speed_mps=speeds)]), {"frame": 0, "offset_m": 0.0, "heading_rad": 0.0}
    env.reset(seed=0, options=start)
    for _ in range(4):
        *_, slowly = env.step(np.array([0.1], np.float32))
    env.reset(seed=0, options=start)
    env.next_periods = 4.0
    *_, at_once = env.step(np.array([0.1], np.float32))
    for name in ("progress_m", "speed_mps", "lateral_offset_m", "time_s"):
        assert at_once[name] == pytest.approx(slowly[name], abs=1e-9), name
    env.reset(seed=0, options=start)
    env.next_periods = 10.0
    seen, _, lost, _, info = env.step(np.array([1.0], np.float32))
    assert lost and info["time_s"] < 0.49
    assert seen["elapsed"][0] == pytest.approx(info["time_s"] / 0.05, abs=1e-5)


def test_what_does_not_fit_is_refused():
    one = footage()
    with pytest.raises(ValueError, match="at least one recording"):
        RecordedEnv([])
    with pytest.raises(ValueError, match="one size"):
        RecordedEnv([one, replace(one, height=24)])
    with pytest.raises(ValueError, match="no attribute speed"):
        RecordedEnv([one], speed=3)
    with pytest.raises(ValueError, match="sees no road"):
        RecordedEnv([replace(one, camera=replace(one.camera, pitch_deg=-60.0))])
    with pytest.raises(ValueError, match="one entry for each of 120 frames"):
        replace(one, speed_mps=one.speed_mps[:5])
    with pytest.raises(ValueError, match="finite"):
        env = RecordedEnv([one])
        env.reset(seed=0)
        env.step(np.array([math.nan], np.float32))
