"""`wormwheel train dagger` and `wormwheel adapt`, as small as they get."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agents.driving.car import car_of_episodes
from agents.driving.record import RecorderConfig, record
from agents.imitation.dagger import DaggerConfig
from agents.recordings import load_episodes
from envs.lane_keeping.config import LaneKeepingConfig
from experiments import train_dagger
from experiments.cli import main
from policies.checkpoint import load_policy
from policies.policy import PolicyConfig
from tests.experiments.verbs import wormwheel, write_tub

SMALL = ["--height", "16", "--width", "32", "--vehicle", "bicycle", "--episode-s", "1", "--variety", "0"]


def test_dagger_grows_a_data_set_and_resumes(tmp_path: Path):
    out = tmp_path / "run"
    words = ["train", "dagger", "--out", str(out), "--core", "gru", "--core-options", "hidden_size=4", *SMALL]
    words += ["--rounds", "1", "--frames", "60", "--learning.epochs", "1", "--learning.window", "8"]
    assert main(words) == 0
    results = json.loads((out / "results.json").read_text())["figures"]
    assert [one["frames"] for one in results["rounds"]][1] > results["rounds"][0]["frames"]
    assert results["rounds"][0]["interventions"]["per_km"] is None, "the expert drove alone"
    assert results["rounds"][1]["interventions"]["driven_m"] > 0
    episodes = load_episodes(out / "data")
    assert {episode.meta.extra["round"] for episode in episodes} == {0, 1}
    car = load_policy(out / "policy").config.car
    assert car == load_policy(out / "round-1" / "policy").config.car == car_of_episodes(episodes)
    assert car is not None and car.camera_height_m and car.full_lock_curvature_per_m, "as other trainings say it"
    assert car.lookahead_s == 0.3, "the expert's own"
    before = (out / "data" / "episode_000000" / "frames.npy").stat().st_mtime_ns
    (out / "round-1" / "round.json").unlink()
    assert main([*words, "--resume"]) == 0
    assert (out / "data" / "episode_000000" / "frames.npy").stat().st_mtime_ns == before
    again = json.loads((out / "results.json").read_text())["figures"]
    assert again["rounds"][1]["frames"] == results["rounds"][1]["frames"]

    # The driver that came of it keeps learning where the car makes less of the steering.
    record(
        tmp_path / "old",
        LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, episode_s=1.0, variety=0.0, height=16, width=32),
        RecorderConfig(frames=40),
    )
    adapted = tmp_path / "adapted"
    words = ["adapt", "--policy", str(out), "--replay", str(tmp_path / "old"), "--steering-gain", "0.5", *SMALL[4:]]
    words += ["--updates", "1", "--episodes", "2", "--steps", "2", "--suite-roads", "3", "--measure-roads", "2"]
    assert main([*words, "--out", str(adapted)]) == 0
    figures = json.loads((adapted / "results.json").read_text())["figures"]
    assert set(figures["interventions"]) == {"before", "after", "old_world_before", "old_world_after"}
    assert len(figures["updates"]) == 1
    assert (adapted / "policy" / "config.json").is_file()
    assert main(["adapt", "--policy", str(out), "--replay", str(tmp_path / "old"), "--out", str(tmp_path / "x")]) == 2


def test_along_a_recording_dagger_sees_the_road_as_training_does_and_resumes_with_that_recording_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    data, seen = write_tub(tmp_path / "tub", 40), []

    def stopped(directory: object, options: object, world: object, config: PolicyConfig) -> object:
        seen.append(config.preprocessing)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_dagger, "_run_in", stopped)
    monkeypatch.setattr(train_dagger, "crop_by_view", lambda some, fit: (replace(fit, crop_top=9), ", for a reason"))
    rig = ("--rig.horizon", 0.3, "--rig.camera-height-m", 0.2, "--rig.hfov-deg", 100, "--rig.speed-mps", 1)
    rig += ("--rig.full-lock-curvature-per-m", 0.9)  # all is given: nothing is searched for in the frames
    words = ("train", "dagger", "--env", "Recorded", "--data", data, *rig, "--out", tmp_path / "run")
    assert wormwheel(capsys, *words).code == 130
    assert seen[0].crop_top == 9
    record_file = data / "catalog_0.catalog"
    record_file.write_text(record_file.read_text().replace('"user/angle": 0.0', '"user/angle": 0.5', 1))
    ran = wormwheel(capsys, *words, "--resume")
    assert ran.code == 2 and len(seen) == 1 and "was started with other data" in ran.complaint


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--env", "Recorded", "--data", "tub", "--height", "24"], "--height: these are options of LaneKeeping"),
        (["--rig.hfov-deg", "90"], "are for recordings"),
        (["--reading.nominal-rate", "20"], "are for recordings"),
    ],
)
def test_options_of_the_other_world_are_refused(more: list[str], words: str, tmp_path, capsys):
    assert main(["train", "dagger", "--out", str(tmp_path / "run"), *more]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_runs_with_neighbouring_seeds_share_the_draws_of_no_round(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        train_dagger, "collect", lambda out, world, mixed, *_, **__: drawn.append(mixed._draws.random())
    )
    for seed in (3, 4):
        options = train_dagger.TrainDaggerOptions(dagger=DaggerConfig(seed=seed))
        for number in (0, 1):
            train_dagger._collect(tmp_path, options, options.world, None, number)
    assert len(set(drawn)) == 4


def test_dagger_gets_a_quarter_of_the_frames_in_whole_episodes(tmp_path):
    from experiments.dagger_frames import DaggerFramesOptions, run

    with pytest.raises(ValueError, match="no whole episodes of 120: take a multiple of 1920"):
        run(DaggerFramesOptions(out=tmp_path, frames=8000))


def test_what_was_made_with_other_options_is_not_passed_off_as_made_with_these(tmp_path, monkeypatch):
    from experiments import dagger_frames
    from experiments.dagger_frames import DaggerFramesOptions, run

    monkeypatch.setattr(dagger_frames, "_compare", lambda options: {"epochs": options.epochs})
    options = DaggerFramesOptions(out=tmp_path / "run")
    assert run(options) == run(replace(options, seeds=(0,), roads=3)) == {"epochs": options.epochs}
    with pytest.raises(ValueError, match="was started with epochs = 8, not 9"):
        run(replace(options, epochs=9))
