"""The wheel between a network and a car: full lock, gain, the clock of another env, the state of each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from agents.driving.driver import PolicyDriver, RescaledTime
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3)).astype(np.uint8)
ONES, STARTS = np.ones(3, np.float32), np.ones(3, bool)


def policy(strength: float = 1.0, motors: int = 2, core: str = "gru", **options: Any) -> DrivingPolicy:
    """A small driver."""
    head = HeadConfig(channels=(4,), kernels=(3,), strides=(2,), features_per_channel=2)
    fit = Preprocessing(8, 12, height=8, width=12)
    made = DrivingPolicy.create(PolicyConfig(core, options, head, fit, motors), seed=1)
    with torch.no_grad():
        for parameter in made.core.parameters():
            parameter.mul_(strength)
    return made.eval()


def motors_of(made: DrivingPolicy) -> np.ndarray:
    with torch.inference_mode():
        return made.motors(torch.from_numpy(FRAMES[:, None]))[0][:, 0].numpy()


@pytest.mark.parametrize("gain", [1.0, 0.5, 3.0])
def test_the_gain_is_for_the_steering_alone_and_nothing_goes_beyond_full_lock(gain: float):
    made = policy(strength=5.0)
    exact = motors_of(made)
    assert (np.abs(exact).max(0) > 1).all() and (np.abs(exact).min(0) < 0.6).all()
    acted = PolicyDriver(made, steering_gain=gain).act(FRAMES, ONES, STARTS, ())
    np.testing.assert_allclose(acted, np.clip(exact * [gain, 1.0], -1, 1), rtol=1e-5)
    steered, _ = PolicyDriver(made, steering_gain=gain).steer_sequences(FRAMES[:, None], ONES[:, None], None)
    np.testing.assert_allclose(steered[:, 0], acted[:, 0], rtol=1e-5)


def test_a_clock_in_another_period_counts_in_it_for_actions_and_for_attacks():
    heard: list[float] = []

    class Clock:
        def act(self, frames: Any, elapsed: Any, starts: Any, envs: Any) -> np.ndarray:
            heard.extend(elapsed.tolist())
            return np.zeros((len(frames), 1), np.float32)

        def steering_gradient(self, slot: int, frame: Any, elapsed: float, start: bool, steps: int = 1) -> np.ndarray:
            heard.append(elapsed)
            return frame

    driver = RescaledTime(Clock(), 2.5)
    driver.act(FRAMES, np.array([1.0, 2.0, 0.4], np.float32), STARTS, ())
    driver.steering_gradient(0, FRAMES[0].astype(np.float32), 3.0, False)
    assert heard == pytest.approx([2.5, 5.0, 1.0, 7.5])


@pytest.mark.parametrize("slot", [0, 2])
def test_an_attack_on_a_row_goes_by_what_that_row_remembers_and_by_its_clock(slot: int):
    made = policy(motors=1, core="cfc", kernel="reference")
    driver = PolicyDriver(made)
    for start in (True, False, False):
        driver.act(FRAMES, ONES, np.full(3, start), ())
    assert driver.state is not None
    state, frame = driver.state[slot : slot + 1].clone(), FRAMES[1].astype(np.float32)
    for steps in (1, 3):
        pixels = torch.from_numpy(frame[None, None]).requires_grad_(True)
        seen = made.features(pixels, preprocessed=True).expand(-1, steps, -1)
        (expected,) = torch.autograd.grad(made.core(seen, state, torch.full((1, steps), 2.0))[0].mean(), pixels)
        found = driver.steering_gradient(slot, frame, 2.0, False, steps)
        np.testing.assert_allclose(found, expected[0, 0].numpy(), rtol=1e-4, atol=1e-9)
