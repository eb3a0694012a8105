"""Jobs on recordings: the same perturbations in front of a driver that cannot answer."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.driving.driver import PolicyDriver
from agents.driving.record import RecorderConfig, record
from agents.recordings.options import ReadOptions
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.robustness.jobs import PolicyRun, fingerprint
from experiments.robustness.recorded_jobs import BLOCK, RecordedData, RecordedJob
from policies.checkpoint import load_policy, save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

SEEN = Preprocessing(source_height=24, source_width=48, height=24, width=48)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> RecordedJob:
    """A clean job on two recorded episodes of 70 frames."""
    place = tmp_path_factory.mktemp("recorded")
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.2, episode_s=3.5, height=24, width=48)
    record(place / "data", world, RecorderConfig(frames=140))
    config = PolicyConfig(core="gru", core_options={"hidden_size": 8}, preprocessing=SEEN)
    save_policy(DrivingPolicy.create(config, seed=1), place / "policy")
    policy_run = PolicyRun("mine", 0, "gru", 0, place / "policy", fingerprint(place / "policy"))
    return RecordedJob(policy_run, "", RecordedData((place / "data",)), SEEN, (0, 1))


def test_clean_blocks_hold_the_errors_of_the_whole_recording(job: RecordedJob):
    steps: list[int] = []
    rows = job.run(steps.append)
    assert sum(steps) == job.weight == 140
    assert [(row["episode"], row["block"], row["frames"]) for row in rows] == [
        (episode, block, count) for episode in (0, 1) for block, count in enumerate((BLOCK, 70 - BLOCK))
    ]
    assert job.policy_run.policy is not None
    policy = load_policy(job.policy_run.policy)
    for number, episode in enumerate(job.data.load()):
        with torch.inference_mode():
            steering, _ = policy(torch.from_numpy(episode.frames(0, 70)[None]))
        error = steering[0, :, 0].numpy() - episode.steering
        mine = [row for row in rows if row["episode"] == number]
        assert sum(row["squared_error"] for row in mine) == pytest.approx(float(np.square(error).sum()), rel=1e-4)
        assert sum(row["absolute_error"] for row in mine) == pytest.approx(float(np.abs(error).sum()), rel=1e-4)


def test_the_same_cell_is_the_same_and_another_draw_is_another(job: RecordedJob):
    noisy = replace(job, perturbation="gaussian:5")
    rows = noisy.run(lambda steps: None)
    assert rows == noisy.run(lambda steps: None)
    first, second = ([row["squared_error"] for row in rows if row["effect_seed"] == seed] for seed in (0, 1))
    assert len(first) == len(second) == 4 and first != second
    clean = [row["squared_error"] for row in job.run(lambda steps: None)]
    assert first != clean


def test_lost_frames_are_not_asked_for(job: RecordedJob):
    rows = replace(job, perturbation="dropped_frames:5", effect_seeds=(0,)).run(lambda steps: None)
    assert 20 < sum(row["frames"] for row in rows) < 90
    assert {row["family"] for row in rows} == {"timing"}


def test_the_last_part_alone(job: RecordedJob):
    last = replace(job, data=replace(job.data, last=0.5))
    assert sum(row["frames"] for row in last.run(lambda steps: None)) == pytest.approx(70, abs=2)
    assert last.key == "mine-0/recorded-clean"


def test_another_recording_in_its_place_is_another_job(job: RecordedJob, tmp_path: Path):
    assert job.code == replace(job, data=replace(job.data, paths=(*job.data.paths,))).code
    copy = tmp_path / "data"
    shutil.copytree(job.data.paths[0], copy)
    there = replace(job, data=RecordedData((copy,)))
    assert there.code == job.code, "the same frames elsewhere"
    steering = next(copy.rglob("steering.npy"))
    np.save(steering, -np.load(steering))
    assert there.code != job.code, "what changed is read again in the same process"


def test_recordings_are_read_as_the_options_say(job: RecordedJob):
    second = replace(job, data=replace(job.data, recording=ReadOptions(episodes=(1,))))
    assert second.weight == 70 and len(second.run(lambda steps: None)) == 2


def test_another_crop_or_gain_is_another_job(job: RecordedJob):
    doubled = replace(job, steering_gain=2.0)
    assert doubled.code != job.code != replace(job, preprocessing=replace(SEEN, crop_top=4)).code
    rows, plain = doubled.run(lambda steps: None), job.run(lambda steps: None)
    assert [row["squared_error"] for row in rows] != [row["squared_error"] for row in plain]


def test_behind_a_mirror_the_targets_spread_as_they_did(job: RecordedJob):
    clean = job.run(lambda steps: None)
    mirrored = replace(job, perturbation="mirrored:5", effect_seeds=(0,)).run(lambda steps: None)
    wanted = [row["squared_target"] for row in clean]
    assert [row["squared_target"] for row in mirrored] == pytest.approx(wanted, rel=1e-6)
    assert max(wanted) > 0 and [row["squared_error"] for row in mirrored] != [row["squared_error"] for row in clean]


def test_a_policy_counts_the_time_of_a_recording_in_its_own_period(
    job: RecordedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard: list[float] = []
    steer = PolicyDriver.steer_sequences

    def hear(self: PolicyDriver, frames: Any, elapsed: Any, state: Any) -> Any:
        heard.extend(elapsed[elapsed != 1.0].tolist())
        return steer(self, frames, elapsed, state)

    monkeypatch.setattr(PolicyDriver, "steer_sequences", hear)
    config = PolicyConfig(core="gru", core_options={"hidden_size": 8}, preprocessing=SEEN, nominal_period_s=0.1)
    place = save_policy(DrivingPolicy.create(config, seed=1), tmp_path / "slow")
    slow = PolicyRun("slow", 0, "gru", 0, place, fingerprint(place))
    replace(job, policy_run=slow).run(lambda steps: None)
    assert len(heard) >= 138 and np.allclose(heard, 0.5, atol=1e-3)
