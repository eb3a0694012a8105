"""Every verb that reads recordings says how: what a reader advises can be given there."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.recordings.episodes import EpisodeSet
from agents.recordings.options import ReadOptions
from experiments.train_dagger import WORLD, TrainDaggerOptions
from experiments.training_sets import FrameOptions
from tests.experiments.verbs import wormwheel


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("fit.verb", "fit --policy {policy} --data d --recording.degrees 25"),
        ("adapt", "adapt --policy {policy} --replay d --steering-gain 0.5 --recording.degrees 25"),
        ("explain.verb", "explain --policy {policy} --data d --recording.degrees 25 --out o"),
        ("export.verb", "export --policy {policy} --int8 --data d --recording.degrees 25 --out o"),
        ("evaluate.recordings", "evaluate --policy {policy} --data d --recording.degrees 25"),
        ("film.verb", "render --policy {policy} --data d --recording.degrees 25 --out o.mp4"),
        ("robustness.recorded_jobs", "robustness --policy {policy} --data d --recording.degrees 25 --out o"),
        ("train_imitation", "train imitation --data d --degrees 25 --out o"),
        ("data.reading", "data info d --degrees 25"),
        ("data.reading", "data check d --degrees 25"),
        ("data.reading", "data view d --degrees 25"),
        ("data.reading", "data cross-validate d --degrees 25 --out o"),
        ("data.convert", "data convert d --degrees 25 --out o"),
        ("data.fix", "data fix d --degrees 25 --out o"),
    ],
)
def test_recordings_are_read_as_the_options_say(
    module: str,
    words: str,
    tmp_path: Path,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    asked: list[ReadOptions] = []

    def load(*_: Any, options: ReadOptions, **__: Any) -> Any:
        asked.append(options)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    monkeypatch.setattr(import_module(f"experiments.{module}"), "load_episodes", load)
    ran = wormwheel(capsys, *words.format(policy=trained).split())
    assert asked and asked[0].degrees == 25, ran.err


@pytest.mark.parametrize("verb", ["train dagger", "train ppo"])
def test_a_world_of_recordings_is_read_as_the_options_say(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    asked: list[ReadOptions] = []

    def make(data: object, rig: object, reading: ReadOptions, *_: object, **__: object) -> object:
        asked.append(reading)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(f"experiments.{verb.replace(' ', '_')}"), "recorded_world", make)
    ran = wormwheel(capsys, *verb.split(), "--env", "Recorded", "--data", tmp_path, "--reading.degrees", 25)
    assert asked and asked[0].degrees == 25, ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train dagger --fit.crop-top 10 --rig.lens 1", "--rig…, --reading… and --fit… are for recordings"),
        (
            "train dagger --reading.from-s 3",
            "are for recordings",
        ),
        (
            "train dagger --env Recorded --data d --height 24",
            "--height: these are options of LaneKeeping, Recorded has",
        ),
        ("train ppo --reading.from-s 3", "are for recordings"),
        ("train ppo --env Recorded --data d --height 24", "--height: these are options of LaneKeeping, Recorded has"),
        ("explain --policy {policy} --recording.from-s 3", "--recording.… say how recordings are read: give --data"),
        ("export --policy {policy} --recording.from-s 3", "--recording.… say how recordings are read: give --data"),
    ],
)
def test_what_nothing_would_heed_is_refused(
    words: str,
    says: str,
    tmp_path: Path,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    ran = wormwheel(capsys, *words.format(policy=trained).split())
    assert ran.code == 2 and says in ran.complaint
    assert not list(tmp_path.iterdir())


def test_what_may_be_set_along_a_recording_passes():
    TrainDaggerOptions(env="Recorded", data=(Path("d"),), world=replace(WORLD, episode_s=3.0), fit=FrameOptions(24, 48))


def test_elapsed_time_counts_in_the_drivers_own_period_in_a_test(
    tub: Path, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    seen: list[EpisodeSet] = []

    def look(driver: object, episodes: EpisodeSet, *_: object, **__: object) -> object:
        seen.append(episodes)
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.evaluate.recordings.evaluate_open_loop", look)
    words = ("evaluate", "--policy", trained, "--data", tub, "--recording.nominal-rate", 10)
    for last in (1.0, 0.25):
        wormwheel(capsys, *words, "--last", last)
    whole, part = seen
    np.testing.assert_allclose(whole[0].elapsed()[1:], 2.0, rtol=1e-5)
    np.testing.assert_array_equal(part[0].steering, whole[0].steering[90:])
