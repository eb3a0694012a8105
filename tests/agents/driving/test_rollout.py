"""The loop that drives: slots, seeds, resets of state, what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.driving.driver import PolicyDriver
from agents.driving.expert import Expert
from agents.driving.rollout import Step, rollout
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.toys import HEIGHT, WIDTH, BarEnv


class BarDriver:
    """Steers by the bar's place when `gain` > 0; remembers what it was shown."""

    def __init__(self, gain: float = 1.0):
        self.gain = gain
        self.starts: list[NDArray[np.bool_]] = []

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        self.starts.append(starts)
        columns = (frames[:, 0, :, 0].astype(float) * np.arange(WIDTH)).sum(1) / frames[:, 0, :, 0].sum(1)
        return (self.gain * (0.5 - columns / (WIDTH - 1)) * 2)[:, None].astype(np.float32)


def make(_: int) -> BarEnv:
    return BarEnv()


def test_a_good_driver_arrives_and_a_bad_one_crashes():
    good = rollout(BarDriver(), make, range(5), side_by_side=2)
    assert [drive.seed for drive in good] == list(range(5))
    assert not any(drive.crashed for drive in good)
    assert all(len(drive.lateral_offset_m) == 40 and drive.duration_s == pytest.approx(2.0) for drive in good)
    bad = rollout(BarDriver(-1.0), make, range(5), side_by_side=2)
    assert all(drive.crashed and drive.duration_s < 2.0 for drive in bad)


def test_results_do_not_depend_on_how_many_run_side_by_side():
    alone = rollout(BarDriver(0.3), make, range(7), side_by_side=1)
    together = rollout(BarDriver(0.3), make, range(7), side_by_side=4)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.lateral_offset_m, other.lateral_offset_m)


def test_starts_are_told_once_per_episode():
    driver = BarDriver()
    rollout(driver, make, range(2), side_by_side=1)
    assert np.concatenate(driver.starts).nonzero()[0].tolist() == [0, 40]


def test_a_policy_in_a_reused_slot_drives_as_if_fresh():
    config = PolicyConfig(
        core="lstm",
        head=HeadConfig(channels=(4,), kernels=(3,), strides=(2,), features_per_channel=2),
        preprocessing=Preprocessing(HEIGHT, WIDTH, height=HEIGHT, width=WIDTH),
    )
    policy = DrivingPolicy.create(config, seed=0)
    with torch.no_grad():
        for parameter in policy.core.parameters():
            parameter.mul_(3)
    queue = rollout(PolicyDriver(policy), make, [3, 4, 5], side_by_side=1)
    for seed, drive in zip([3, 4, 5], queue, strict=True):
        fresh = rollout(PolicyDriver(policy), make, [seed], side_by_side=1)[0]
        np.testing.assert_array_equal(drive.steering, fresh.steering)


def test_noise_belongs_to_the_episode_and_repeats():
    seen: dict[int, list[NDArray[np.uint8]]] = {}

    def noise(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        return rng.integers(0, 256, frames.shape).astype(np.uint8)

    def look(step: Step) -> None:
        seen.setdefault(step.seed, []).append(step.frame.copy())

    class Still(BarDriver):
        def act(self, frames: Any, elapsed: Any, starts: Any, envs: Any) -> NDArray[np.float32]:
            return np.zeros((len(frames), 1), np.float32)

    for side_by_side in (1, 3):
        rollout(Still(), make, [1, 2, 3], side_by_side, perturbation=noise, noise_seed=9, observer=look)
    for frames in seen.values():
        half = len(frames) // 2
        np.testing.assert_array_equal(np.stack(frames[:half]), np.stack(frames[half:]))
    assert not np.array_equal(seen[1][0], seen[2][0])
    other: list[NDArray[np.uint8]] = []
    rollout(Still(), make, [1], perturbation=noise, noise_seed=8, observer=lambda step: other.append(step.frame.copy()))
    assert not np.array_equal(seen[1][0], other[0])


def test_options_reach_the_env_and_no_seeds_are_an_error():
    got: list[Any] = []

    class Asked(BarEnv):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            got.append(options)
            return super().reset(seed=seed, options=options)

    rollout(BarDriver(), lambda _: Asked(), range(3), 1, options=lambda order: {"road": order})
    assert got == [{"road": 0}, {"road": 1}, {"road": 2}]
    got.clear()
    rollout(
        BarDriver(), lambda _: Asked(), [0], options=lambda order: {"road": 7}, perturbation=lambda frames, _: frames
    )
    assert got == [{"road": 7}], "behind a perturbed camera too"
    with pytest.raises(ValueError, match="at least one seed"):
        rollout(BarDriver(), make, [])


@pytest.mark.parametrize(("asked", "steps"), [(0.1234567, 126), (0.1239, 127), (-0.1239, -127)])
def test_steering_reaches_the_car_in_steps_of_a_thousandth_and_a_throttle_as_it_is(asked: float, steps: int):
    class Pedal(BarEnv):
        def __init__(self) -> None:
            super().__init__(steps=3)
            self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    class Fine(BarDriver):
        def act(self, frames: Any, elapsed: Any, starts: Any, envs: Any) -> NDArray[np.float32]:
            return np.tile(np.array([asked, 0.3333], np.float32), (len(frames), 1))

    throttles: list[float] = []
    (drive,) = rollout(Fine(), lambda _: Pedal(), [1], observer=lambda step: throttles.append(float(step.action[1])))
    np.testing.assert_array_equal(drive.steering, np.float32(steps / 1024))
    assert throttles == [np.float32(0.3333)] * 3


@pytest.mark.parametrize("said", [True, False, None])
def test_a_drive_is_what_the_env_says_after_each_step_and_a_crash_its_end_where_it_says_nothing(said: bool | None):
    class Ends(BarEnv):
        """Ends by itself after five steps of 0.2 s."""

        def step(self, action: NDArray[np.float32]) -> Any:
            observation, reward, _, _, info = super().step(action)
            places.append(info["lateral_offset_m"])
            info |= {"time_s": 0.2 * self.count, "crashed": said}
            if said is None:
                del info["crashed"]
            return observation, reward, self.count >= 5, False, info

    places: list[float] = []
    (drive,) = rollout(BarDriver(), lambda _: Ends(), [3])
    assert drive.crashed is (said is not False)
    assert (drive.period_s, drive.duration_s, drive.distance_m) == pytest.approx((0.2, 1.0, 0.5))
    assert drive.lateral_offset_m.tolist() == places


def test_the_expert_leaves_a_throttle_alone():
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.0, episode_s=1.0)
    plain, with_throttle = (
        rollout(Expert(), lambda _, throttle=throttle: LaneKeepingEnv(replace(world, throttle=throttle)), [4])[0]
        for throttle in (False, True)
    )
    np.testing.assert_array_equal(plain.lateral_offset_m, with_throttle.lateral_offset_m)
    assert plain.distance_m == with_throttle.distance_m
