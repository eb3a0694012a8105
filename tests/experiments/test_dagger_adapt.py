"""`wormwheel train dagger` and `wormwheel adapt`, as small as they get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.driving.record import RecorderConfig, record
from agents.recordings import load_episodes
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.cli import main

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


def test_dagger_gets_a_quarter_of_the_frames_in_whole_episodes(tmp_path):
    from experiments.dagger_frames import DaggerFramesOptions, run

    with pytest.raises(ValueError, match="no whole episodes of 120: take a multiple of 1920"):
        run(DaggerFramesOptions(out=tmp_path, frames=8000))
