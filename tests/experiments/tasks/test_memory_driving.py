"""Driving with a memory: only the frames that memory decides count, and what the expert sees is enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

import envs
from agents.driving.expert import Expert
from agents.driving.rollout import Step, rollout
from experiments.tasks import memory_driving
from experiments.tasks.memory_driving import Options

SIGN = Options(task="sign", delay_s=(1.0, 1.0), episode_s=7.0, roads=4)


class Blind:
    """The expert, but for the lane that the sign said: it keeps right.

    Attributes:
        left: whether the arrow pointed to the left, by the seed of the road.
    """

    def __init__(self) -> None:
        self.left: dict[int, bool] = {}

    def act(self, frames: NDArray[np.uint8], elapsed: object, starts: object, envs: list) -> NDArray[np.float32]:
        actions = []
        for env in envs:
            world = env.unwrapped
            self.left[id(world)], world._sign.left = world._sign.left, False
            actions.append([Expert().steer(env)])
            world._sign.left = self.left[id(world)]
        return np.array(actions, np.float32)


def test_the_score_is_small_for_the_expert_and_half_for_whoever_never_looks():
    assert memory_driving._score(Expert(), SIGN) < 0.15
    blind = Blind()
    lost = memory_driving._score(blind, SIGN)
    assert len(blind.left) == SIGN.roads and 0 < sum(blind.left.values()) < SIGN.roads
    assert lost == pytest.approx(np.mean(list(blind.left.values())), abs=0.15)  # the wrong lane counts a whole lane


def test_blackouts_count_in_the_dark_and_a_second_after():
    tally_scores = memory_driving._score(Expert(), replace(SIGN, task="blackout", episode_s=15.0, dark_s=(1.0, 1.0)))
    assert 0 < tally_scores < 0.2


def test_unknown_cores_are_named():
    with pytest.raises(ValueError, match="perceptron"):
        Options(cores=("ltc", "perceptron"))


def test_what_was_driven_with_these_options_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained: list[int] = []

    def learn(core: str, seed: int, options: Options, sets: object, directory: Path) -> int:
        directory.mkdir(parents=True, exist_ok=True)
        trained.append(seed)
        return seed

    monkeypatch.setattr(memory_driving, "learn", learn)
    monkeypatch.setattr(memory_driving, "drive", lambda policy, options: 0.25 + policy)
    for options, seed in ((SIGN, 0), (replace(SIGN, seeds=9), 0), (replace(SIGN, epochs=3), 0), (SIGN, 1)):
        score, _ = memory_driving.learn_and_drive("ltc", seed, options, (), tmp_path / f"seed-{seed}")
        assert score == 0.25 + seed
    assert trained == [0, 0, 1], "other epochs and another seed are trained, the same options are read"


def test_a_drive_that_ends_before_the_lane_changes_counts_for_the_lane_that_the_arrow_said():
    """Straight on from the start, off the road in the first bend: the second sign has not come yet."""

    class Straight:
        def act(self, frames: object, elapsed: object, starts: object, envs: list) -> NDArray[np.float32]:
            return np.zeros((len(envs), 1), np.float32)

    options = replace(SIGN, delay_s=(6.0, 6.0), episode_s=9.0, roads=8)
    arrows: dict[int, bool] = {}
    tally = memory_driving.Tally(options.period_s)

    def note(step: Step) -> None:
        tally.note(step)
        arrows[step.order] = step.env.unwrapped._sign.left
        ended[step.order] = step.info["time_s"]

    ended: dict[int, float] = {}
    rollout(
        Straight(),
        lambda slot: gymnasium.make(envs.LANE_KEEPING, config=options.world, disable_env_checker=True),
        range(options.roads),
        observer=note,
    )
    assert any(left and ended[order] < 7.5 for order, left in arrows.items())
    assert tally.left == arrows


def test_another_recording_is_not_learnt_from_under_other_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_driving, "learn_and_drive", lambda *given: (0.5, 1.0))
    options = replace(SIGN, cores=("feedforward",), seeds=1, frames=140, roads=1, out=tmp_path)
    memory_driving.run(options)
    before = {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()}
    for other, place in (
        (replace(options, period_s=0.2), "period_s = 0.1, not 0.2"),
        (replace(options, delay_s=(2.0, 2.0)), r"delay_s = \[1.0, 1.0\], not \[2.0, 2.0\]"),
        (replace(options, frames=280), "frames = 140, not 280"),
    ):
        with pytest.raises(ValueError, match=place):
            memory_driving.run(other)
    assert {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()} == before
    memory_driving.run(replace(options, cores=("feedforward", "lstm"), seeds=2))


def test_either_lane_counts_half_however_many_drives_it_has():
    errors: dict[int, list[float]] = {0: [0.0, 0.0], 1: [0.0], 2: [], 3: [0.0], 4: [0.5, 1.0]}
    tally = memory_driving.Tally(0.1, errors, left={0: False, 1: False, 3: False, 4: True})
    assert tally.score() == 0.375


def test_a_drive_counts_in_the_dark_and_a_second_after_and_not_before_the_first_dark():
    tally = memory_driving.Tally(0.25)
    dark = [False] * 6 + [True] * 2 + [False] * 8
    for number, hidden in enumerate(dark):
        info = {"dark": hidden, "lateral_offset_m": -0.4 - 0.01 * number, "lane_width_m": 4.0}
        tally.note(SimpleNamespace(info=info, order=7, terminated=False))
    assert tally.errors == {7: pytest.approx([0.1 + 0.0025 * number for number in range(6, 12)])}
    far = {"dark": True, "lateral_offset_m": 9.0, "lane_width_m": 4.0, "time_s": 3.0}
    world = SimpleNamespace(unwrapped=SimpleNamespace(config=SimpleNamespace(episode_s=4.0)))
    tally.note(SimpleNamespace(info=far, order=9, terminated=True, env=world))
    assert tally.errors[9] == [1.0] * 5, "off the road counts a lane, and so does the time that was left"
