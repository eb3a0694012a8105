"""`wormwheel record` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.recordings import load_episodes
from tests.experiments.verbs import ROAD, tree, wormwheel


def test_records_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, figures = tmp_path / "data", tmp_path / "results" / "record.json"
    options = ("--frames", 50, "--episode-s", 1.5, *ROAD, "--width", 64, "--json", figures)
    ran = wormwheel(capsys, "record", "--out", out, *options)
    assert ran.code == 0, ran.err
    assert "50 of 50 frames" in ran.err and "recorded to" in ran.out
    assert f"to train on it: wormwheel train imitation --data {out}\n" in ran.err
    episodes = load_episodes(out)
    assert [len(episode) for episode in episodes] == [30, 20]
    assert episodes.frame_size == (24, 64)
    written = json.loads(figures.read_text())
    assert written["verb"] == "record"
    assert written["figures"]["frames"] == 50 and written["figures"]["frames_per_s"] > 0
    assert written["options"]["world"]["vehicle"] == "bicycle" and written["options"]["recorder"]["frames"] == 50
    assert set(written["versions"]) >= {"python", "torch", "numpy"}
    config = json.loads((out / "config.json").read_text())
    assert config["options"]["world"]["width"] == 64


def test_vehicle_auto_is_written_down_as_what_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "record", "--out", tmp_path / "a", "--frames", 2, *ROAD, "--vehicle", "auto")
    assert ran.code == 0, ran.err
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["options"]["world"]["vehicle"] in ("bullet", "bicycle")
    assert load_episodes(tmp_path / "a")[0].meta.vehicle == config["options"]["world"]["vehicle"]


def test_an_earlier_recording_is_not_touched_unless_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "data"
    same = ("record", "--out", out, "--frames", 20, "--episode-s", 0.5, *ROAD)
    assert wormwheel(capsys, *same).code == 0
    before = tree(out)
    again = wormwheel(capsys, *same, "--seed", 1)
    assert again.code == 2 and "already holds results" in again.complaint
    other = wormwheel(capsys, *same, "--seed", 1, "--resume")
    assert other.code == 2 and "recorder.seed = 0, not 1" in other.complaint
    assert tree(out) == before

    for file in (out / "episode_000001").iterdir():
        file.unlink()
    (out / "episode_000001").rmdir()
    resumed = wormwheel(capsys, *same, "--resume")
    assert resumed.code == 0, resumed.err
    episodes = {name: content for name, content in tree(out).items() if name.startswith("episode")}
    assert episodes == {name: content for name, content in before.items() if name.startswith("episode")}


def test_without_out_a_free_name_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    for name in ("record", "record-2"):
        assert wormwheel(capsys, "record", "--frames", 2, *ROAD).code == 0
        assert len(load_episodes(tmp_path / "runs" / name)) == 1


def test_records_on_roads_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], circle: Path):
    ran = wormwheel(capsys, "record", "--out", tmp_path / "a", "--frames", 5, *ROAD, "--track", circle.parent)
    assert ran.code == 0, ran.err
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["options"]["world"]["track"] == [str(circle)]


@pytest.mark.parametrize("verb", [("record",), ("train", "dagger"), ("evaluate", "--expert", "--episodes", 1)])
def test_a_road_kept_over_resets_is_refused_where_every_episode_has_its_seed(
    verb: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = ("--json",) if verb[0] == "evaluate" else ("--out",)
    ran = wormwheel(capsys, *verb, "--resets-per-road", 5, *out, tmp_path / "new")
    assert ran.code == 2 and "--resets-per-road: every episode here has a seed" in ran.complaint
    assert not (tmp_path / "new").exists()


def test_a_recording_is_not_resumed_on_other_roads_of_the_same_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], circle: Path
):
    same = ("record", "--out", tmp_path / "a", "--frames", 4, "--episode-s", 0.1, *ROAD, "--track", circle)
    assert wormwheel(capsys, *same).code == 0
    assert wormwheel(capsys, *same, "--resume").code == 0
    circle.write_text(circle.read_text().replace(",4,4", ",5,5"))
    ran = wormwheel(capsys, *same, "--resume")
    assert ran.code == 2 and "the same recordings or road files" in ran.complaint
