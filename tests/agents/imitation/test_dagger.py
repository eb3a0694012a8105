"""DAgger: who drives, who labels, and what is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.driving.expert import Expert
from agents.driving.recorded_world import recorded_world
from agents.driving.rollout import STEERING_STEP
from agents.imitation.dagger import (
    DaggerConfig,
    MixedDriver,
    collect,
    count_interventions,
    episodes_of_round,
    share_of_round,
)
from agents.recordings import load_episodes
from envs.lane_keeping.config import LaneKeepingConfig

WORLD = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, episode_s=2.0, variety=0.0, height=16, width=32)


class Constant:
    """Steers the same whatever it sees, and remembers where episodes began."""

    def __init__(self, steering: float):
        self.steering = steering
        self.calls = 0

    def act(self, frames: Any, elapsed: Any, starts: Any, envs: Sequence[Any]) -> Any:
        self.calls += 1
        return np.full((len(frames), 1), self.steering, np.float32)


def test_the_expert_labels_every_frame_and_takes_over_where_the_driver_strays(tmp_path: Path):
    driver = Constant(0.5)
    mixed = MixedDriver(driver, Expert(), DaggerConfig(bound=0.4, back=0.1), share=0.0)
    met = collect(tmp_path / "data", WORLD, mixed, range(3), seed=0, round_number=2)
    episodes = load_episodes(tmp_path / "data")
    assert len(episodes) == 3 and episodes.frame_count == 3 * 40
    assert met.count > 0 and met.crashes == 0 and met.driven_m > 0
    assert driver.calls >= 40, "the driver sees every frame, whoever drives"
    for episode in episodes:
        assert episode.meta.extra["round"] == 2 and episode.meta.extra["crashed"] is False
        taken = np.asarray(episode.extras["taken_over"])
        assert np.array_equal(taken, episode.extras["expert_drove"]), "a share of 0 leaves the expert no other part"
        np.testing.assert_allclose(episode.time_s, 0.05 * np.arange(40), atol=1e-6)  # when frames were taken
        assert not (np.abs(episode.steering - 0.5) < 1e-6).all()
        told = np.where(taken, episode.steering, 0.5)
        np.testing.assert_allclose(episode.extras["steered"], told, atol=STEERING_STEP)
        # Past the bound somebody else steers: the offset falls again.
        assert np.abs(episode.extras["lateral_offset_m"]).max() < 0.9 * float(episode.meta.extra["lane_width_m"])
    counted = count_interventions(episodes)
    assert counted.count == met.count and counted.frames == met.frames
    assert counted.driven_m == pytest.approx(met.driven_m, rel=0.1)


def test_without_a_driver_the_expert_drives_with_pushes_and_its_share_falls(tmp_path: Path):
    mixed = MixedDriver(None, Expert(), DaggerConfig(), share=1.0)
    met = collect(tmp_path / "data", WORLD, mixed, [0], seed=0)
    (episode,) = load_episodes(tmp_path / "data")
    assert episode.extras["expert_drove"].all() and not episode.extras["taken_over"].any()
    assert met.count == 0
    config = DaggerConfig(decay=0.5, frames=100)
    assert [share_of_round(config, number) for number in range(3)] == [1.0, 0.5, 0.25]
    assert episodes_of_round(config, WORLD, 1) == [3, 4, 5], "100 frames are 3 episodes of 40"
    assert episodes_of_round(replace(config, frames=5), WORLD, 1) == [2, 3], "one is held out"


def test_a_share_is_driven_by_the_expert(tmp_path: Path):
    mixed = MixedDriver(Constant(0.0), Expert(), DaggerConfig(hold_s=0.2, bound=1.5), share=0.5, seed=(1,))
    collect(tmp_path / "data", WORLD, mixed, range(4), seed=3)
    drove = np.concatenate([episode.extras["expert_drove"] for episode in load_episodes(tmp_path / "data")])
    assert 0.25 < drove.mean() < 0.75


def test_what_is_there_is_kept_and_only_the_rest_is_made(tmp_path: Path):
    def fresh() -> MixedDriver:
        return MixedDriver(Constant(0.1), Expert(), DaggerConfig(), share=0.0)

    collect(tmp_path / "data", WORLD, fresh(), [0], seed=0)
    first = (tmp_path / "data" / "episode_000000" / "steering.npy").stat().st_mtime_ns
    again = fresh()
    collect(tmp_path / "data", WORLD, again, [0, 1], seed=0)
    assert (tmp_path / "data" / "episode_000000" / "steering.npy").stat().st_mtime_ns == first
    assert len(load_episodes(tmp_path / "data")) == 2
    assert 0 < again.interventions.frames <= 40, "one episode of 2 s"


def test_along_a_recording_the_label_leads_back_to_the_recorded_line(tmp_path: Path):
    mixed = MixedDriver(None, Expert(), DaggerConfig(), share=1.0)
    lane = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, episode_s=6.0, variety=0.0, height=24, width=48)
    collect(tmp_path / "recorded", lane, mixed, [0], seed=0)
    world = recorded_world([tmp_path / "recorded"], episode_s=1.5, start_offset=0.5)
    beside = MixedDriver(Constant(0.0), Expert(), DaggerConfig(bound=1.9, back=0.1), share=0.0)
    collect(tmp_path / "data", world, beside, range(4), seed=0)
    for episode in load_episodes(tmp_path / "data"):
        offset = float(episode.extras["lateral_offset_m"][0])
        if abs(offset) > 0.08:
            assert np.sign(episode.steering[0]) == -np.sign(offset)
    assert load_episodes(tmp_path / "data")[0].meta.vehicle == "recorded"


def test_bounds_must_leave_room():
    with pytest.raises(ValueError, match="back must be less"):
        DaggerConfig(bound=0.2, back=0.3)
