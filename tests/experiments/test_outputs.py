"""Outputs of a command are checked before it begins, for every verb alike."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments import dagger_frames
from experiments.liquid_claim import interactions
from experiments.liquid_claim.__main__ import main
from experiments.outputs import check_outputs
from experiments.ppo_curves import experiment as ppo_curves
from experiments.ppo_curves.runs import PPOCurves
from experiments.tasks import memory_driving
from tests.experiments.verbs import wormwheel


@dataclass
class Options:
    """What a verb may have."""

    out: Path | None = None
    json: Path | None = None
    picture: Path | None = None
    rerun: Path | None = None
    publish: Path | None = None


def test_a_name_that_no_file_can_have_is_refused():
    for name in ("a\0b.json", "\ud800.json", "x/" * 3000 + "y"):
        with pytest.raises(ValueError, match="--json should be a name"):
            check_outputs(Options(json=Path(name)))


def test_two_outputs_in_one_place_are_refused(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "same")
    for one, other in (("same", "same"), ("same", "link"), ("same", "same/inside.png")):
        with pytest.raises(ValueError, match="give each a place of its own"):
            check_outputs(Options(json=tmp_path / one, picture=tmp_path / other))
    with pytest.raises(ValueError, match="give each a place of its own"):
        check_outputs(Options(out=tmp_path / "run", json=tmp_path / "run"))
    check_outputs(Options(out=tmp_path / "run", json=tmp_path / "run" / "figures.json", picture=tmp_path / "same"))
    check_outputs(Options(json=Path(os.devnull), picture=Path(os.devnull)))


def test_a_pipe_is_refused_and_standard_output_is_not(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe"):
        check_outputs(Options(json=tmp_path / "pipe"))
    check_outputs(Options(json=Path("/dev/stdout")))
    if Path("/dev/shm").is_dir():
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            os.mkfifo(f"{memory}/pipe")
            with pytest.raises(ValueError, match="is a pipe"):
                check_outputs(Options(json=Path(memory) / "pipe"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match="leads to itself"):
        check_outputs(Options(json=tmp_path / "loop"))


def test_a_name_that_cannot_be_written_down_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for options in (Options(out=Path("\udc80")), Options(json=tmp_path / "a\udcffb" / "c.json")):
        with pytest.raises(ValueError, match="is no UTF-8.*Give another name"):
            check_outputs(options)
    ran = wormwheel(capsys, "train", "ppo", "--steps", 64, "--out", f"{tmp_path}/\udc80")
    assert ran.code == 2 and "no UTF-8" in ran.complaint and not list(tmp_path.iterdir())
    check_outputs(Options(out=tmp_path / "Straße"))


def test_verbs_check_what_they_will_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "info", "cores", "--json", f"{tmp_path}/a\0b")
    assert ran.code == 2 and "--json should be a name" in ran.complaint


def test_a_road_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "text.csv").write_text("no road\n")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("text.csv", "pipe.csv", "gone.csv"):
        ran = wormwheel(capsys, "record", "--track", tmp_path / name, "--out", tmp_path / "new", "--frames", "5")
        assert ran.code == 2 and name in ran.complaint
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name", ["config.json", "results.json", "policy", "policy/config.json", "data/new.json", ".lock"]
)
def test_an_output_in_the_directory_of_a_run_takes_no_place_of_the_runs_own(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="lies where --out keeps its own files"):
        check_outputs(Options(out=tmp_path / "run", json=tmp_path / "run" / name))
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(ValueError, match="lies where --out keeps its own files"):
        check_outputs(Options(out=tmp_path / "run", json=tmp_path / "link" / name))


def test_results_are_written_over_by_the_verb_that_measured_them_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "a.json"
    for _ in range(2):
        assert wormwheel(capsys, "info", "cores", "gru", "--json", file).code == 0
    before = file.read_bytes()
    ran = wormwheel(capsys, "data", "info", tmp_path, "--json", file)
    assert ran.code == 2 and "what `wormwheel info` has measured" in ran.complaint and file.read_bytes() == before


def test_the_config_of_a_run_is_no_result_and_stays(trained: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("config.json", "policy/config.json", "results.json", "metrics.jsonl"):
        before = (trained / name).read_bytes()
        ran = wormwheel(capsys, "info", "cores", "gru", "--json", trained / name)
        assert ran.code == 2 and "not written over" in ran.complaint, name
        assert (trained / name).read_bytes() == before


@pytest.mark.parametrize("name", ["picture", "rerun"])
def test_a_file_of_others_is_written_over_by_no_option(name: str, tmp_path: Path):
    (tmp_path / "mine").write_bytes(b"holiday")
    with pytest.raises(ValueError, match="mine was not made by Wormwheel"):
        check_outputs(Options(**{name: tmp_path / "mine"}))


def test_results_are_published_to_a_place_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    check_outputs(Options(publish=tmp_path / "new"))
    check_outputs(Options(publish=tmp_path))
    (tmp_path / "summary.json").write_text('{"versions": {"wormwheel": "0.1.0"}}')
    (tmp_path / "README.md").write_text("written here before")
    check_outputs(Options(publish=tmp_path))
    (tmp_path / "summary.json").write_text('{"somebody": "else"}')
    for place, message in ((tmp_path, "holds README.md and no results of ours"), (tmp_path / "README.md", "is a file")):
        with pytest.raises(ValueError, match=message):
            check_outputs(Options(publish=place))
    assert main(["--quick", "--publish", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "holds README.md" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_an_experiment_works_in_a_directory_of_its_own(tmp_path: Path):
    place = tmp_path / "sign"
    place.mkdir()
    (place / "thesis.tex").write_text("mine")
    for work in (
        lambda: memory_driving.run(memory_driving.Options(task="sign", out=tmp_path)),
        lambda: dagger_frames.run(dagger_frames.DaggerFramesOptions(out=place)),
        lambda: interactions.run(interactions.Interactions(policy=("a=b",), out=place)),
        lambda: ppo_curves.run(PPOCurves(out=place)),
    ):
        with pytest.raises(ValueError, match=r"holds thesis\.tex, which is of no run of"):
            work()
        assert [entry.name for entry in place.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_that_is_always_full_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "record", "--out", tmp_path / "new", "--frames", 20, "--json", "/dev/full")
    assert ran.code == 2 and "the disk is full" in ran.complaint and not (tmp_path / "new").exists()
