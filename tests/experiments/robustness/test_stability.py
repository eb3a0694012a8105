"""Steadiness inside a driver: similarity of saliency maps, and steps of the hidden state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.driving.driver import PolicyDriver
from agents.driving.trials import Run, Trial, drive_together
from envs.camera.info import CameraInfo
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import PerturbedEnv, RecordedEpisode
from envs.road.random_road import RandomRoadConfig
from experiments.robustness.stability import SAMPLES, StateWatch, clean_footage, saliency_ssim, ssim
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

FIT = Preprocessing(source_height=24, source_width=48, height=24, width=48)
WORLD = LaneKeepingConfig(vehicle="bicycle", variety=0.0, episode_s=1.5, roads=RandomRoadConfig(length_m=(25.0, 35.0)))
TRIAL = Trial(Path("unused"), WORLD, (Run(5), Run(6)))


@pytest.fixture(scope="module")
def policy() -> DrivingPolicy:
    config = PolicyConfig(core="gru", core_options={"hidden_size": 8}, preprocessing=FIT)
    policy = DrivingPolicy.create(config, seed=1).eval()
    with torch.no_grad():  # almost straight on: it stays on the road for a while
        policy.core.get_parameter("readout.weight").mul_(0.02)
        policy.core.get_parameter("readout.bias").zero_()
    return policy


def test_ssim_is_the_published_formula():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 21, 25))
    # At one pixel, far from the borders, in the notation of the paper.
    axis = np.arange(-5, 6)
    window = np.exp(-(axis**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    x, y = a[5:16, 7:18], b[5:16, 7:18]
    mx, my = (window * x).sum(), (window * y).sum()
    sx, sy, sxy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum(), (window * (x - mx) * (y - my)).sum()
    here = (2 * mx * my + 1e-4) * (2 * sxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (sx + sy + 9e-4))
    inside = []
    for row in range(21):
        for column in range(25):
            pad_a, pad_b = np.pad(a, 5, mode="reflect"), np.pad(b, 5, mode="reflect")
            x, y = pad_a[row : row + 11, column : column + 11], pad_b[row : row + 11, column : column + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            sx, sy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            sxy = (window * (x - mx) * (y - my)).sum()
            inside.append((2 * mx * my + 1e-4) * (2 * sxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (sx + sy + 9e-4)))
    assert inside[10 * 25 + 12] == pytest.approx(here)
    assert ssim(a[None], b[None])[0] == pytest.approx(np.mean(inside), abs=1e-9)


def test_ssim_of_a_map_with_itself_is_one_and_falls_with_noise():
    rng = np.random.default_rng(1)
    maps = np.tile(np.linspace(0, 1, 40), (3, 24, 1))
    assert ssim(maps, maps) == pytest.approx(1.0)
    found = [ssim(maps, maps + size * rng.normal(size=maps.shape)).mean() for size in (0.01, 0.05, 0.2)]
    assert 1 > found[0] > found[1] > found[2] > -1
    with pytest.raises(ValueError, match="one shape"):
        ssim(maps, maps[:, :, :20])


def test_largest_step_of_the_state(policy: DrivingPolicy):
    watch: StateWatch | None = None
    states: list[torch.Tensor] = []

    def watched(driver: PolicyDriver) -> StateWatch:
        nonlocal watch
        watch = StateWatch(driver, settling_steps=4)
        return watch

    def observe(*_: object) -> None:
        assert watch is not None and watch.driver.state is not None
        states.append(watch.driver.state.clone())

    plain = drive_together(TRIAL, lambda _: None, policy)
    drives = drive_together(TRIAL, lambda _: None, policy, watched, observe)
    assert [drive.distance_m for drive in drives] == [drive.distance_m for drive in plain]  # watching changes nothing
    assert watch is not None and not any(drive.crashed for drive in drives)
    trace = torch.stack(states[::2]).double()  # [T, B, S]: the observer is called once for each slot
    steps = (trace[1:] - trace[:-1]).square().mean(2).sqrt().numpy()  # the n-th is that of step n + 1
    assert watch.largest == pytest.approx(steps[4:].max(0))
    assert (steps[:4].max(0) > watch.largest).all()  # what the settling leaves out matters


def test_a_driver_without_state_has_no_steps():
    policy = DrivingPolicy.create(PolicyConfig(core="feedforward", preprocessing=FIT))
    watches: list[StateWatch] = []

    def watched(driver: PolicyDriver) -> StateWatch:
        watches.append(StateWatch(driver, 2))
        return watches[0]

    drive_together(TRIAL, lambda _: None, policy, watched)
    assert np.isnan(watches[0].largest).all() and len(watches[0].largest) == 2


def test_saliency_under_perturbations(policy: DrivingPolicy):
    footage = clean_footage(policy, TRIAL)
    assert [road.seed for road in footage] == [5, 6]
    assert footage[0].frames.shape == (30, 24, 48, 3)
    assert footage[0].saliency.shape == (SAMPLES, 24, 48)
    assert (saliency_ssim(policy, footage, "", 0) == 1).all()
    found = [saliency_ssim(policy, footage, f"gaussian:{severity}", 0).mean() for severity in (1, 3, 5)]
    assert 1 > found[0] > found[1] > found[2]
    again = saliency_ssim(policy, footage, "gaussian:3", 0)
    assert (again == saliency_ssim(policy, footage, "gaussian:3", 0)).all()
    assert (again != saliency_ssim(policy, footage, "gaussian:3", 1)).all()


def test_late_pictures_are_compared_with_the_ones_that_should_have_come(policy: DrivingPolicy):
    footage = clean_footage(policy, TRIAL)
    for late in ("latency:5", "lower_rate:5", "frozen_frames:5"):
        found = saliency_ssim(policy, footage, late, 0)
        assert np.isfinite(found).all() and (found <= 1).all() and found.min() < 1


def test_saliency_is_looked_at_under_the_draws_of_the_drive(policy: DrivingPolicy, monkeypatch: pytest.MonkeyPatch):
    seeds: list[int] = []

    class Spied(RecordedEpisode):
        def __init__(self, perturbation: Any, seed: int, camera: CameraInfo):
            seeds.append(seed)
            super().__init__(perturbation, seed, camera)

    monkeypatch.setattr("experiments.robustness.stability.RecordedEpisode", Spied)
    footage = clean_footage(policy, replace(TRIAL, world=replace(WORLD, episode_s=0.3)))
    saliency_ssim(policy, footage, "fog:3", effect_seed=2)
    env = PerturbedEnv(LaneKeepingEnv(replace(WORLD, height=24, width=48)), "fog:3", seed=2)
    drawn = []
    for run in TRIAL.runs:
        env.reset(seed=run.seed)
        drawn.append(env.perturbation_seed)
    assert seeds == drawn
