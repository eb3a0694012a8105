"""Learning on the job: what is learnt from, and which updates are taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.driving.expert import Expert
from agents.driving.metrics import Drive, Estimate
from agents.imitation.adapt import (
    Adaptation,
    AdaptConfig,
    Stretch,
    _lane_error,
    _window_loss,
    is_not_worse,
    learn_batch,
    learn_gain,
    learn_online,
)
from agents.imitation.dagger import Interventions
from agents.imitation.shift import Shift, ShiftedEnv, ShiftedExpert, shifted_env
from envs.lane_keeping.config import LaneKeepingConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.toys import HEIGHT, WIDTH, episodes

WORLD = LaneKeepingConfig(vehicle="bicycle", episode_s=1.0, variety=0.0, height=HEIGHT, width=WIDTH)
FIT = Preprocessing(HEIGHT, WIDTH, height=HEIGHT, width=WIDTH)


def policy(core: str = "gru", **options: Any) -> DrivingPolicy:
    return DrivingPolicy.create(PolicyConfig(core=core, core_options=options, preprocessing=FIT)).eval()


def stretches(sign: float = 1.0, seed: int = 0) -> list[Stretch]:
    made = []
    for episode in episodes(3, 40, seed):
        counts = np.arange(40) >= 5
        made.append(Stretch(episode.frames(), sign * episode.steering, episode.elapsed(), counts))
    return made


def error(driver: DrivingPolicy, stretch: Stretch) -> float:
    with torch.no_grad():
        steered, _ = driver(torch.from_numpy(stretch.frames)[None])
    return float((steered[0, :, 0] - torch.from_numpy(stretch.steering)).square().mean())


def test_windows_of_what_was_met_are_learnt():
    driver, met = policy(), stretches()
    before = sum(error(driver, stretch) for stretch in met)
    learn_batch(
        driver, met, stretches(seed=1), AdaptConfig(steps=25, windows=4, replay_weight=0.3), np.random.default_rng(0)
    )
    assert sum(error(driver, stretch) for stretch in met) < 0.8 * before


def test_frame_by_frame_it_learns_in_their_order():
    driver = policy("ltc", units=5, kernel="reference")
    wanted = np.full(15, 0.6, np.float32)
    met = [Stretch(one.frames[:15], wanted, one.elapsed[:15], one.counts[:15]) for one in stretches()]
    before = sum(error(driver, stretch) for stretch in met)
    head = {name: value.clone() for name, value in driver.head.state_dict().items()}
    learn_online(
        driver,
        met,
        stretches(seed=1),
        AdaptConfig(rule="online", online_rate=3e-2, replay_weight=0.0),
        np.random.default_rng(0),
    )
    assert sum(error(driver, stretch) for stretch in met) < 0.7 * before
    assert all(torch.equal(value, head[name]) for name, value in driver.head.state_dict().items())


def test_frame_by_frame_the_time_between_frames_counts():
    learnt = []
    for gap in (1.0, 3.0):
        driver = policy("ltc", units=5, kernel="reference")
        met = [replace(stretch, elapsed=gap * stretch.elapsed) for stretch in stretches()[:1]]
        learn_online(driver, met, [], AdaptConfig(rule="online", replay_weight=0.0), np.random.default_rng(0))
        learnt.append(torch.cat([value.flatten() for value in driver.core.parameters()]).detach())
    assert not torch.allclose(*learnt)


def test_frames_that_only_warm_up_are_not_learnt():
    met = [replace(stretch, counts=np.zeros(40, bool)) for stretch in stretches()[:1]]
    driver = policy("ltc", units=5, kernel="reference")
    before = {name: value.clone() for name, value in driver.state_dict().items()}
    learn_online(driver, met, stretches(), AdaptConfig(replay_weight=0.0), np.random.default_rng(0))
    assert all(torch.equal(value, before[name]) for name, value in driver.state_dict().items())


def test_an_update_is_taken_only_where_the_interval_lies_within_the_margin():
    assert is_not_worse(Estimate(-0.1, -0.2, 0.01), 0.02)
    assert not is_not_worse(Estimate(-0.1, -0.2, 0.03), 0.02), "it may be worse"
    assert not is_not_worse(Estimate(-0.1), 0.02), "too few roads to say"


@pytest.mark.parametrize("core", ["ltc", "gru", "feedforward"])
def test_the_gain_is_that_with_which_the_driver_steers_as_the_person_did(core: str):
    driver = policy(core)
    met = []
    for episode in episodes(3, 40, 0):
        with torch.no_grad():
            own, _ = driver(torch.from_numpy(episode.frames())[None])
        wanted = np.clip(1.5 * own[0, :, 0].numpy(), -1, 1)
        counts = np.arange(40) >= 5
        wanted[~counts] = -wanted[~counts]  # what only warms up is not fitted
        met.append(Stretch(episode.frames(), wanted, episode.elapsed(), counts))
    before = sum(float(np.square(one.steering[5:] / 1.5).mean()) for one in met)
    old = [replace(one, steering=one.steering / 1.5) for one in met]
    assert 1.05 < learn_gain(policy(core), met, old, 0.5) < 1.45
    assert learn_gain(driver, met, old, 0.0) == pytest.approx(1.5, rel=0.02)
    after = 0.0
    for one in met:
        with torch.no_grad():
            own, _ = driver(torch.from_numpy(one.frames)[None])
        after += float(np.square(own[0, 5:, 0].numpy() - one.steering[5:]).mean())
    assert after < 1e-3 * before


def test_the_gain_is_for_the_steering_alone():
    driver = DrivingPolicy.create(PolicyConfig(core="gru", preprocessing=FIT, motors=2)).eval()
    met, frames = stretches(), torch.from_numpy(stretches()[0].frames)[None]
    with torch.no_grad():
        before, _ = driver.motors(frames, preprocessed=True)
        gain = learn_gain(driver, met, met, 0.0)
        after, _ = driver.motors(frames, preprocessed=True)
    assert abs(gain - 1.0) > 0.05
    torch.testing.assert_close(after, before * torch.tensor([gain, 1.0]))


def test_a_core_whose_outputs_cannot_be_scaled_keeps_its_gain():
    driver = policy("cfc")
    before = {name: value.clone() for name, value in driver.state_dict().items()}
    assert learn_gain(driver, stretches(), stretches(), 0.5) == 1.0
    assert all(torch.equal(value, before[name]) for name, value in driver.state_dict().items())


def test_the_gain_is_tried_first_and_the_weights_where_it_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    adaptation = Adaptation(policy(), WORLD, Shift(steering_gain=0.5), episodes(2, 40), AdaptConfig(steps=1))
    adaptation.met = stretches()
    kinds = [step.split()[0] for step, *_ in adaptation._candidates()]
    assert kinds == ["gain", "batch"]
    plain = Adaptation(policy(), WORLD, Shift(steering_gain=0.5), episodes(2, 40), AdaptConfig(steps=1, gain=False))
    plain.met = stretches()
    assert [step for step, *_ in plain._candidates()] == ["batch"]


def test_a_driver_meets_interventions_and_a_worse_update_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = AdaptConfig(updates=1, episodes=2, suite_roads=3, measure_roads=1, bound=0.2, back=0.05, gain=False)
    adaptation = Adaptation(policy(), WORLD, Shift(steering_gain=0.5), episodes(2, 40), config)

    def full_lock(inputs: torch.Tensor, state: Any = None, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        batch_size, steps, _ = inputs.shape
        return torch.ones(batch_size, steps, 1), torch.zeros(batch_size, 1)

    def ruin(candidate: DrivingPolicy, *rest: Any) -> None:
        candidate.core.forward = full_lock  # type: ignore[assignment]

    monkeypatch.setattr("agents.imitation.adapt.learn_batch", ruin)
    before = adaptation.policy
    (update,) = adaptation.run(tmp_path / "data")
    assert update.interventions.count >= 1 and update.frames > 0
    assert not update.accepted and adaptation.policy is before
    assert update.shifted.value > 0


def test_a_shifted_car_and_camera():
    plain, shifted = shifted_env(WORLD, Shift()), shifted_env(WORLD, Shift(steering_gain=0.5, camera_pitch_deg=6.0))
    assert isinstance(shifted, ShiftedEnv)
    first, _ = plain.reset(seed=1)
    second, _ = shifted.reset(seed=1)
    assert not np.array_equal(first["camera"], second["camera"])
    for _ in range(3):
        plain.step(np.array([0.4], np.float32))
        shifted.step(np.array([0.8], np.float32))
    assert plain.unwrapped.vehicle_state == shifted.unwrapped.vehicle_state  # type: ignore[attr-defined]
    expert, knowing = Expert(), ShiftedExpert(Shift(steering_gain=0.5))
    assert knowing.steer(plain) == pytest.approx(np.clip(2 * expert.steer(plain), -1, 1))
    icy = shifted_env(WORLD, Shift(friction=0.2))
    assert icy.unwrapped.config.vehicle_params.friction == 0.2  # type: ignore[attr-defined]


@pytest.mark.parametrize(("shifted", "old", "taken"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_an_update_has_to_be_no_worse_in_both_worlds(shifted: int, old: int, taken: bool, tmp_path: Path):
    adaptation = Adaptation(policy(), WORLD, Shift(steering_gain=0.5), episodes(1, 40), AdaptConfig(updates=1))
    found = Estimate(-0.1, -0.2, 0.0), Estimate(0.1, 0.05, 0.2)
    candidate = policy()
    adaptation._drive = lambda *_: Interventions()  # type: ignore[method-assign]
    adaptation._candidates = lambda: iter([("gain 1.50", candidate, ())])  # type: ignore[method-assign]
    adaptation._compare = lambda *_: (found[shifted], found[old])  # type: ignore[method-assign]
    (update,) = adaptation.run(tmp_path)
    assert update.accepted == taken == (adaptation.policy is candidate)


def test_time_after_a_crash_counts_as_a_lane_off():
    offset = np.full(40, -0.05)
    drive = Drive(1, "road", 2.0, 2.0, True, 0.5, offset, np.zeros(40), 0.05)
    assert _lane_error(drive, 10.0) == pytest.approx((0.1 * 2.0 + 1.0 * 8.0) / 10.0)
    assert _lane_error(replace(drive, crashed=False), 10.0) == pytest.approx(0.1), "its road ended there"


def test_frames_at_the_head_of_a_replayed_window_warm_up_alone():
    driver, config = policy(), AdaptConfig(window=20, warm_up=8, windows=2)
    (one,) = (replace(stretch, counts=np.ones(40, bool)) for stretch in stretches()[:1])
    one = Stretch(one.frames[:20], one.steering[:20], one.elapsed[:20], one.counts[:20])
    odd = replace(one, steering=np.where(np.arange(20) < 8, 9.0, one.steering).astype(np.float32))
    with torch.no_grad():
        steered, _ = driver(torch.from_numpy(one.frames)[None])
        expected = float(np.square(steered[0, 8:, 0].numpy() - one.steering[8:]).mean())
        for stretch in (one, odd):
            assert float(_window_loss(driver, [stretch], config, np.random.default_rng(0))) == pytest.approx(expected)


def test_an_intervention_counts_from_its_first_frame_after_its_own_warm_up():
    driver, config = policy(), AdaptConfig(window=20, warm_up=8, windows=2)
    one = stretches()[0]
    one = Stretch(one.frames[:20], one.steering[:20], one.elapsed[:20], np.arange(20) >= 5)
    with torch.no_grad():
        steered, _ = driver(torch.from_numpy(one.frames)[None])
        expected = float(np.square(steered[0, 5:, 0].numpy() - one.steering[5:]).mean())
        assert float(_window_loss(driver, [one], config, np.random.default_rng(0))) == pytest.approx(expected)


def test_time_in_what_is_replayed_counts_in_the_drivers_own_period():
    slow = [replace(one, time_s=2.0 * one.time_s).with_nominal_period(0.1) for one in episodes(2, 40)]
    old = replace(episodes(2, 40), episodes=tuple(slow))
    adaptation = Adaptation(policy(), WORLD, Shift(steering_gain=0.5), old, AdaptConfig())
    for stretch in adaptation.replayed:
        np.testing.assert_allclose(stretch.elapsed[1:], 2.0, rtol=1e-5)


def test_driving_of_another_size_cannot_be_replayed():
    with pytest.raises(ValueError, match="replay what it learnt from"):
        Adaptation(
            DrivingPolicy.create(PolicyConfig()), WORLD, Shift(steering_gain=0.5), episodes(1, 40), AdaptConfig()
        )
