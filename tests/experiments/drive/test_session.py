"""A drive without a page: the wheel, what is kept, hand-overs, perturbations, and that what is kept trains."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.driving.driver import PolicyDriver
from agents.driving.expert import Expert
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeMeta
from envs.lane_keeping.env import LaneKeepingConfig
from envs.road.random_road import RandomRoadConfig
from experiments.drive.inside import FRAMES, Accounts, account_json
from experiments.drive.keeping import HUMAN, LEAST_FRAMES, POLICY, UNSURE_S, Keeper
from experiments.drive.session import REST_S, DriveSession, Seen
from experiments.drive.stepper import Stepper
from experiments.drive.wheel import RETURN_PER_S, TURN_PER_S, Wheel
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.experiments.conftest import quietly

ROADS = RandomRoadConfig(length_m=(25.0, 30.0))
WORLD = LaneKeepingConfig(
    vehicle="bicycle", variety=0.0, height=24, width=48, speed_mps=(1.5, 1.5), start_offset=0.0, roads=ROADS
)
HEAD = HeadConfig(channels=(4, 6, 4), kernels=(5, 3, 3), strides=(2, 2, 2))
FRAME = np.zeros((4, 8, 3), np.uint8)


def policy(core: str = "ltc") -> DrivingPolicy:
    config = PolicyConfig(core=core, head=HEAD, preprocessing=Preprocessing(24, 48, height=24, width=48))
    return DrivingPolicy.create(config, seed=3).eval()


def session(out: Path, core: str = "") -> DriveSession:
    driver = PolicyDriver(policy(core)) if core else None
    return DriveSession(WORLD, out, 4, driver, "tiny" if core else "")


def follow(one: DriveSession, steps: int, before: Callable[[int], None] | None = None) -> list[Seen]:
    """Let the expert hold the person's wheel for a while."""
    expert, seen = Expert(), []
    for step in range(steps):
        if before is not None:
            before(step)
        if one.who == HUMAN:
            one.wheel.turn(float(np.clip(expert.steer(one._env), -1, 1)))
        seen.append(one.step())
    return seen


def test_a_held_key_turns_the_wheel_and_a_released_one_lets_it_return():
    wheel = Wheel()
    assert wheel.step(0.1) == 0.0
    wheel.hold(1)
    assert wheel.step(0.1) == pytest.approx(0.1 * TURN_PER_S)
    assert [wheel.step(0.2) for _ in range(5)][-1] == 1.0
    wheel.hold(0)
    assert wheel.step(0.1) == pytest.approx(1 - 0.1 * RETURN_PER_S)
    wheel.hold(-1)
    assert wheel.step(0.1) == pytest.approx(1 - 0.2 * RETURN_PER_S)  # as fast as back to the middle
    wheel.turn(-0.3)
    assert wheel.step(0.1) == -0.3  # a mouse holds it where it is
    for wrong in (1.01, float("nan")):
        with pytest.raises(ValueError, match="within"):
            wheel.turn(wrong)


def add(keeper: Keeper, count: int) -> None:
    for number in range(count):
        keeper.add(FRAME, 0.01 * number, 0.05 * number, speed_mps=1.0)


def test_what_is_kept_of_a_crash_ends_before_it(tmp_path: Path):
    keeper, meta = Keeper(tmp_path), EpisodeMeta(source="a person", nominal_period_s=0.05)
    unsure = round(UNSURE_S / 0.05)
    keeper.begin(HUMAN, "start", meta)
    add(keeper, unsure + 15)
    assert keeper.pending == unsure + 15
    path = keeper.cut(crashed=True)
    assert path is not None and np.load(path / "steering.npy") == pytest.approx(0.01 * np.arange(15), abs=1e-6)
    keeper.begin(HUMAN, "take-over", meta)
    add(keeper, unsure + 15)
    keeper.cut()
    keeper.begin(POLICY, "hand-over", meta)
    add(keeper, 30)
    keeper.cut(crashed=True)  # of the policy everything is kept
    keeper.begin(HUMAN, "take-over", meta)
    add(keeper, LEAST_FRAMES - 1)
    assert keeper.cut() is None
    assert keeper.frames == {HUMAN: unsure + 30, POLICY: 30} and keeper.stretches == {HUMAN: 2, POLICY: 1}
    assert keeper.interventions == 1 and not list(tmp_path.rglob("*partial*"))
    kept = load_episodes([tmp_path / HUMAN])
    assert [episode.meta.extra["began_by"] for episode in kept] == ["start", "take-over"]
    assert [episode.meta.extra["crashed"] for episode in kept] == [True, False]


def test_keys_steer_the_car_and_the_speed_is_held(tmp_path: Path):
    left, right = session(tmp_path), session(tmp_path)
    left.wheel.hold(1)
    right.wheel.hold(-1)
    for _ in range(6):
        seen = left.step(), right.step()
    assert seen[0].pose[2] > seen[1].pose[2] + 0.1
    assert seen[0].info["lateral_offset_m"] > seen[1].info["lateral_offset_m"]
    left.restart()
    left.set_speed(0.75)
    for _ in range(20):
        slow = left.step()
    assert slow.info["speed_mps"] == pytest.approx(0.75, abs=0.02)
    left.set_speed(99.0)
    assert left.wanted_mps == left.fastest_mps == 3.0
    with pytest.raises(ValueError, match="at least 0"):
        left.set_speed(-1.0)


def test_hand_over_and_take_back_are_recorded(tmp_path: Path):
    one = session(tmp_path, "gru")

    def change(step: int) -> None:
        if step == 20:
            one.hand_to(POLICY)
        if step == 32:
            one.hand_to(HUMAN)

    one.record(True)
    seen = follow(one, 60, change)
    assert [frame.who for frame in seen] == [HUMAN] * 20 + [POLICY] * 12 + [HUMAN] * 28
    for before, after in zip(seen[20:31], seen[21:32], strict=True):
        assert after.steering == pytest.approx(before.suggestion, abs=1e-6)  # what it would steer is what it steers
    one.close()
    human, other = load_episodes([tmp_path / HUMAN]), load_episodes([tmp_path / POLICY])
    assert [len(episode) for episode in human] == [20, 28] and [len(episode) for episode in other] == [12]
    assert human[1].meta.extra["began_by"] == "take-over" and other[0].meta.extra["began_by"] == "hand-over"
    assert one.take_overs == one.keeper.interventions == 1
    assert human[1].steering == pytest.approx([frame.steering for frame in seen[32:]], abs=1e-6)
    assert np.array_equal(human[0].frames(1, 2)[0], seen[0].frame)  # the frame that was seen before the action
    assert other[0].extras["policy_steering"] == pytest.approx(other[0].steering, abs=1e-6)
    assert human[0].meta.extra["car"]["lane_width_m"] == human[0].meta.extra["lane_width_m"]
    with pytest.raises(ValueError, match="--policy"):
        session(tmp_path / "b").hand_to(POLICY)


def test_sliders_perturb_at_once_and_cut_the_recording(tmp_path: Path):
    one, clean = session(tmp_path), session(tmp_path / "clean")
    one.record(True)
    follow(one, 15)
    follow(clean, 15)
    one.perturb({"light": ("darkness", 5), "road": ("lane_width", 2)})
    dark, bright = follow(one, 15)[-1], follow(clean, 15)[-1]
    assert dark.frame.mean() < 0.3 * bright.frame.mean() and dark.view.mean() < 0.3 * bright.view.mean()
    assert dark.view.shape == (320, 640, 3) and dark.info["lane_width_m"] == bright.info["lane_width_m"]
    one.restart(one.seed)
    assert one.step().info["lane_width_m"] != bright.info["lane_width_m"]  # a change of the road waits for the next
    one.perturb({"dynamics": ("speed", 3)})
    one.restart()
    faster = one._lane.target_speed_mps / 1.5
    assert faster > 1.05 and follow(one, 12)[-1].info["speed_mps"] == pytest.approx(1.5 * faster, rel=0.05)
    one.perturb({})
    one.record(False)
    one.close()
    found = [episode.meta.extra["perturbation"] for episode in load_episodes([tmp_path / HUMAN])]
    assert found == ["", "darkness:5", "speed:3"]
    for wrong in ({"light": ("fog", 3)}, {"light": ("darkness", 6)}, {"adversarial": ("fgsm", 1)}):
        with pytest.raises(ValueError, match="there is no|from 0 to 5"):
            one.perturb(wrong)


def test_standing_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = session(tmp_path)
    one.record(True)
    follow(one, 12)
    one.set_speed(0.0)
    follow(one, 60)
    standing = one.keeper.frames[HUMAN]
    assert 12 <= standing < 60 and not one.keeper.is_open
    one.set_speed(1.5)
    follow(one, 5)
    assert one.keeper.is_open

    def full(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one.keeper, "add", full)
    follow(one, 1)
    assert not one.recording and "No space left" in one.notice and one.keeper.frames[HUMAN] == standing


def test_a_drive_off_the_road_ends_and_the_next_one_begins(tmp_path: Path):
    one = session(tmp_path)
    one.wheel.turn(1.0)
    ended = [one.step() for _ in range(100) if not one._ended][-1]
    assert ended.ended == "off the road" and one.crashes == 1 and one.drive == 1
    for _ in range(round(REST_S / one.period_s)):
        seen = one.step()
    assert one.drive == 2 and seen.ended == "" and seen.steering == 0.0 and one.seed == 5


def test_what_was_driven_trains(tmp_path: Path):
    one = session(tmp_path / "drive")
    one.record(True)
    for _ in range(2):
        follow(one, 100)
        one.restart()
    one.close()
    options = ("--core", "gru", "--core-options", "hidden_size=8", "--epochs", 1, "--batch-size", 8, "--gap-s", 0.2)
    size = ("--height", 24, "--width", 48, "--no-baseline")
    quietly("train", "imitation", "--data", tmp_path / "drive" / HUMAN, "--out", tmp_path / "run", *options, *size)
    written = json.loads((tmp_path / "run" / "policy" / "config.json").read_text())
    assert written["policy"]["car"]["lane_width_m"] > 0.1


@pytest.mark.parametrize("core", ["ltc", "gru"])
def test_inside_and_the_account_of_a_moment(core: str, tmp_path: Path):
    one = session(tmp_path, core)
    assert one.inside is not None
    times_s = iter([10.0, 10.4, 10.6, 10.6, 11.1, 12.5, 12.7, 12.7, 20.0, 21.9, 22.1, 22.1])
    with ThreadPoolExecutor(1) as executor:
        accounts = Accounts(executor, partial(account_json, policy(core)), lambda: next(times_s))
        seen = follow(one, FRAMES - 2)
        assert not accounts.offer(one.inside, 0.0)  # too few frames yet
        accounts._rests_until_s = 10.5
        seen = follow(one, 6)
        assert not accounts.offer(one.inside, 1.2)  # it rests
        assert accounts.offer(one.inside, 1.25, 7) and not accounts.offer(one.inside, 1.3)
        executor.shutdown()
        found = accounts.take()
        assert found is not None and accounts.take() is None and (found["time_s"], found["drive"]) == (1.25, 7)
    with ThreadPoolExecutor(1) as accounts._executor:  # it took half a second, and rests for three of them
        assert not accounts.offer(one.inside, 1.3) and accounts.offer(one.inside, 1.35)
        accounts._executor.shutdown()
        assert accounts.take() is not None  # it took seven seconds: that is not what it rests by
    with ThreadPoolExecutor(1) as accounts._executor:
        assert not accounts.offer(one.inside, 1.4) and accounts.offer(one.inside, 1.45)
    assert found["steering"] == pytest.approx(seen[-1].suggestion, abs=2e-4)
    assert np.sum(found["regions"]) == pytest.approx(found["change"], rel=0.02, abs=3e-4)
    one.look()
    looked_s = one._info["time_s"]
    glimpse = one.step().glimpse
    assert glimpse is not None and glimpse.saliency.shape == (24, 48) and glimpse.saliency.max() == 255
    assert glimpse.time_s == looked_s
    if core == "ltc":
        assert len(glimpse.states) == 19 and glimpse.time_constants_s is not None
        assert glimpse.time_constants_s.shape == (19,) and (glimpse.time_constants_s > 0).all()
        assert all("→" in way for way, _ in found["ways"])
    else:
        assert glimpse.recurrent is None and all(way.startswith("feature") for way, _ in found["ways"])


def test_looks_come_after_their_frame_once_and_less_often_when_late(tmp_path: Path):
    one = session(tmp_path, "gru")
    looks = []
    for late in (False,) * 9 + (True,) * 45:
        looks.append(one.step().glimpse is not None)
        one.look(late)
    assert np.flatnonzero(looks).tolist() == [1, 5, 9, 29, 49]


def test_the_clock_steps_only_while_somebody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, seen, some = session(tmp_path), [], threading.Event()

    def publish(frame: Seen) -> None:
        seen.append(frame)
        some.set()
        stepper.paused = len(seen) == 4

    stepper = Stepper(one, publish)
    stepper.start()
    assert not some.wait(0.2)
    done = threading.Event()
    stepper.do(done.set)
    assert done.wait(2)  # commands are taken while it stands
    stepper.shown()
    assert some.wait(2)
    monkeypatch.setattr("experiments.drive.stepper.PATIENCE_S", 100)
    for _ in range(100):
        if stepper.paused:
            break
        done.wait(0.05)
        some.wait(0.05)
        threading.Event().wait(0.02)
    threading.Event().wait(0.15)
    stepper.stop()
    assert len(seen) == 4 and stepper.failure is None
    assert [frame.number for frame in seen] == [1, 2, 3, 4]


def test_time_runs_as_long_as_an_action_is_held(tmp_path: Path):
    one = session(tmp_path)
    one.perturb({"timing": ("lower_rate", 5)})
    one.wheel.hold(1)
    first, second = one.step(), one.step()
    assert one.step_s == pytest.approx(6 * one.period_s) == second.info["time_s"] - first.info["time_s"]
    turned = TURN_PER_S * np.array([1, 7]) * one.period_s
    np.testing.assert_allclose([first.steering, second.steering], turned, rtol=1e-5)
    one.restart()
    assert one.step_s == one.period_s
    one.close()


def test_the_clock_waits_as_long_as_a_step_has_taken():
    class Slow:
        period_s, step_s = 0.002, 0.05

        def step(self) -> int:
            return 0

        def look(self, late: bool) -> None:
            pass

        def close(self) -> None:
            pass

    shown: list[Any] = []
    stepper = Stepper(Slow(), shown.append)  # type: ignore[arg-type]
    stepper.shown()
    stepper.start()
    time.sleep(0.3)
    stepper.stop()
    assert stepper.failure is None and 1 <= len(shown) <= 8
