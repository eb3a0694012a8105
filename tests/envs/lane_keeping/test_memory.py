"""A sign that says which lane to take later, and a camera that goes dark before bends."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs
from agents.driving.expert import Expert
from envs.lane_keeping.memory import BEND_PER_M, CHANGE_S, SIGN_FROM_S, SIGN_S, Blackouts, LaneSign

SMALL = {"vehicle": "bicycle", "height": 24, "width": 48, "variety": 0.0, "pixels_per_m": 32.0}


def drive(seed: int, steps: int, **options):
    """Let the expert drive; returns frames `[T + 1, H, W, 3]` and the infos."""
    env = gymnasium.make(envs.LANE_KEEPING, **SMALL, **options)
    expert = Expert()
    observation, info = env.reset(seed=seed)
    frames, infos = [observation["camera"]], [info]
    for _ in range(steps):
        observation, _, ended, _, info = env.step(np.array([expert.steer(env)], np.float32))
        frames.append(observation["camera"])
        infos.append(info)
        assert not ended
    env.close()
    return np.stack(frames), infos


def test_an_episode_without_them_is_the_same_as_ever():
    """Road, start and speed are drawn before the sign is; frames differ only while it shows."""
    plain, _ = drive(3, 60)
    signed, infos = drive(3, 60, lane_sign_delay_s=(10.0, 10.0))
    times = np.array([info["time_s"] for info in infos])
    differs = np.array([(a != b).any() for a, b in zip(plain, signed, strict=True)])
    inside = (times > SIGN_FROM_S + 0.01) & (times < SIGN_FROM_S + SIGN_S - 0.01)
    outside = (times < SIGN_FROM_S - 0.01) | (times > SIGN_FROM_S + SIGN_S + 0.01)
    assert differs[inside].all() and not differs[outside].any()
    assert "lane_to_keep" not in drive(3, 1)[1][0] and "dark" not in drive(3, 1)[1][0]


def test_the_second_sign_is_the_same_for_both_lanes_and_the_first_is_not():
    blank = np.full((48, 96, 3), 90, np.uint8)
    signs = {}
    for seed in range(20):
        sign = LaneSign(np.random.default_rng(seed), (2.0, 5.0))
        assert SIGN_FROM_S + SIGN_S + 2.0 <= sign.now_s <= SIGN_FROM_S + SIGN_S + 5.0
        signs[sign.left] = sign
    arrows = [signs[left].show(blank, SIGN_FROM_S) for left in (False, True)]
    nows = [signs[left].show(blank, signs[left].now_s) for left in (False, True)]
    mirrored = arrows[0][:, ::-1]
    apart, near = ((x != arrows[1]).any(axis=2).sum() for x in (arrows[0], mirrored))
    assert apart > 50 and near < 0.5 * apart  # but for the rounding of edges
    assert np.array_equal(*nows) and (nows[0] != blank).any() and (nows[0] != arrows[0]).any()
    assert signs[True].show(blank, SIGN_FROM_S + SIGN_S + 1.0) is blank and (blank == 90).all()


def test_the_arrow_hangs_on_the_side_to_which_it_points():
    blank = np.full((24, 48, 3), 90, np.uint8)
    for seed in range(8):
        sign = LaneSign(np.random.default_rng(seed), (2.0, 5.0))
        columns = np.flatnonzero((sign.show(blank, SIGN_FROM_S) != blank).any(axis=(0, 2)))
        assert (columns.max() < 24) if sign.left else (columns.min() >= 24)


def test_the_expert_takes_the_lane_of_the_arrow_when_told_to():
    lanes = set()
    for seed in range(8):
        _, infos = drive(seed, 160, lane_sign_delay_s=(2.0, 2.0))
        lane, now_s = infos[-1]["lane_to_keep"], SIGN_FROM_S + SIGN_S + 2.0
        lanes.add(lane)
        before = [info for info in infos if info["time_s"] < now_s]
        after = [info for info in infos if info["time_s"] > now_s + CHANGE_S + 1.0]
        assert all(info["lane_to_keep"] == -1 for info in before)
        offsets = np.array([info["lateral_offset_m"] for info in after])
        assert np.abs(offsets).mean() < 0.25 * infos[0]["lane_width_m"]
        if len(lanes) == 2:
            return
    pytest.fail("eight arrows all pointed the same way")


def test_the_lane_is_due_once_it_has_been_changed():
    for seed in range(6):
        sign = LaneSign(np.random.default_rng(seed), (1.0, 2.0))
        side, times = 1.0 if sign.left else -1.0, np.arange(0.0, 8.0, 0.05)
        due = [time for time in times if sign.due(time)]
        assert due[0] == pytest.approx(sign.now_s + CHANGE_S, abs=0.05) and sign.due(times[-1])
        assert {sign.lane(time) for time in due} == {side}
        under_way = [time for time in times if sign.now_s < time < due[0] - 0.1]
        assert not any(sign.due(time) for time in under_way)
        assert not sign.left or all(-1.0 < sign.lane(time) < 1.0 for time in under_way)


@pytest.mark.parametrize(("length_s", "speed_mps"), [(0.6, 2.0), (3.0, 0.8)])
def test_a_bend_begins_in_the_middle_of_the_darkness(length_s: float, speed_mps: float):
    """A straight of 12 m, then a bend; the car at a steady speed."""
    period_s, bend_m = 0.02, 12.0
    blackouts, dark = Blackouts(0, (length_s, length_s)), []
    for step in range(round(2 * bend_m / speed_mps / period_s)):
        at_m = step * period_s * speed_mps
        ahead_m = at_m + blackouts.ahead_m(speed_mps)
        blackouts.step(step * period_s, BEND_PER_M * (at_m >= bend_m), BEND_PER_M * (ahead_m >= bend_m))
        dark += [step * period_s] if blackouts.dark else []
    assert dark[-1] - dark[0] == pytest.approx(length_s, abs=2 * period_s)
    assert 0.5 * (dark[0] + dark[-1]) == pytest.approx(bend_m / speed_mps, abs=2 * period_s)


def test_it_is_dark_where_a_bend_begins_and_nowhere_else():
    frames, infos = drive(5, 400, blackout_s=(1.0, 1.0))
    dark = np.array([info["dark"] for info in infos])
    assert np.array_equal(dark, (frames == 0).all(axis=(1, 2, 3)))
    begins = np.flatnonzero(dark[1:] & ~dark[:-1]) + 1
    assert len(begins) >= 2
    for begin in begins:
        stretch = slice(begin, begin + 20)
        assert dark[stretch].all() and (begin + 20 >= len(dark) or not dark[begin + 20])
        bends = np.abs([info["curvature_per_m"] for info in infos[stretch]])
        assert bends[0] < 1.5 * BEND_PER_M and bends.max() >= 0.7 * BEND_PER_M


@pytest.mark.parametrize("options", [{"blackout_s": (3.0, 0.5)}, {"lane_sign_delay_s": (-1.0, 2.0)}])
def test_ranges_are_checked(options):
    with pytest.raises(ValueError, match="blackout_s|lane_sign_delay_s"):
        gymnasium.make(envs.LANE_KEEPING, **options)


def test_the_same_seed_is_the_same_episode_again():
    env = gymnasium.make(envs.LANE_KEEPING, **SMALL, blackout_s=(0.5, 3.0), lane_sign_delay_s=(1.0, 4.0))
    expert, drives = Expert(), []
    for _ in range(2):
        env.reset(seed=11)
        infos = [env.step(np.array([expert.steer(env)], np.float32))[4] for _ in range(150)]
        drives.append([(info["dark"], info["lane_to_keep"], info["lateral_offset_m"]) for info in infos])
    assert drives[0] == drives[1]
