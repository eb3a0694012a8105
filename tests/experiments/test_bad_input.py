"""What a person gets wrong, or a disk: one clear line, exit code 2, and nothing lost that was there."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.runs.files import write_text
from experiments.cli import VERBS
from experiments.help.declared import read_options
from tests.experiments.verbs import DRIVER, ROAD, Ran, tree, wormwheel, write_tub
from tests.reliability.zygote import Ended, Place, run_child


def train(capsys: pytest.CaptureFixture[str], data: Path, out: Path, *more: object) -> Ran:
    return wormwheel(
        capsys, "train", "imitation", "--data", data, "--out", out, *DRIVER, "--epochs", 1, "--no-baseline", *more
    )


def test_a_path_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path):
    gone = tmp_path / "gone"
    for arguments in (
        ("train", "imitation", "--data", gone, "--out", tmp_path / "run"),
        ("evaluate", "--policy", trained, "--data", gone),
        ("evaluate", "--policy", gone),
        ("evaluate", "--expert", "--track", gone / "road.csv", *ROAD),
        ("record", "--out", tmp_path / "data", "--track", gone / "road.csv", *ROAD),
        ("info", "policy", gone),
        ("info", "data", gone),
    ):
        ran = wormwheel(capsys, *arguments)
        assert ran.code == 2, arguments
        assert str(gone) in ran.complaint, arguments
    assert not gone.exists()


def test_an_empty_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "folder").mkdir()
    ran = train(capsys, tmp_path / "folder", tmp_path / "run")
    assert ran.code == 2 and "no recording of a known format" in ran.complaint
    empty = write_tub(tmp_path / "tub", frames=0)
    ran = train(capsys, empty, tmp_path / "run")
    assert ran.code == 2 and "no usable record" in ran.complaint
    assert not (tmp_path / "run").exists()


def test_a_zero_byte_image_is_counted_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tub = write_tub(tmp_path / "tub", picture_7=b"")
    results = tmp_path / "r.json"
    ran = train(capsys, tub, tmp_path / "run", "--json", results)
    assert ran.code == 0, ran.err
    assert "note: skipped 1 records: 1 × picture file of zero bytes" in ran.err
    assert "119 frames" in ran.err
    assert json.loads(results.read_text())["figures"]["skipped"] == {"picture file of zero bytes": 1}


def test_images_of_two_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_tub(tmp_path / "other", frames=1, height=30, width=60)
    large = (tmp_path / "other" / "images" / "0_cam_image_array_.jpg").read_bytes()
    tub = write_tub(tmp_path / "tub", frames=20, picture_3=large)
    ran = train(capsys, tub, tmp_path / "run")
    assert ran.code == 2 and "48×24" in ran.complaint and "60×30" in ran.complaint
    assert "3_cam_image_array_.jpg" in ran.complaint


def test_recordings_of_two_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    other = write_tub(tmp_path / "other", frames=30, height=30, width=60)
    ran = train(capsys, tub, tmp_path / "run", "--data", tub, other)
    assert ran.code == 2 and "one size" in ran.complaint


def test_nan_steering_is_counted_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tub = write_tub(tmp_path / "tub", record_5={"user/angle": float("nan")}, record_6={"user/angle": None})
    ran = train(capsys, tub, tmp_path / "run")
    assert ran.code == 0, ran.err
    assert "skipped 2 records: 2 × steering not a number" in ran.err


def test_nothing_but_nan_steering(tmp_path: Path, capsys: pytest.CaptureFixture[str], recording: Path):
    changes = {f"record_{n}": {"user/angle": float("nan")} for n in range(5)}
    ran = train(capsys, write_tub(tmp_path / "tub", frames=5, **changes), tmp_path / "run")
    assert ran.code == 2 and "no usable record" in ran.complaint and "steering not a number" in ran.complaint


def test_nan_in_our_own_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = tmp_path / "data"
    assert wormwheel(capsys, "record", "--out", data, "--frames", 120, "--episode-s", 6, *ROAD).code == 0
    path = data / "episode_000000" / "steering.npy"
    steering = np.load(path)
    steering[11] = np.nan
    np.save(path, steering)
    ran = train(capsys, data, tmp_path / "run")
    assert ran.code == 0 and "skipped 1 records" in ran.err


def test_a_policy_for_another_image_size(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path):
    tub = write_tub(tmp_path / "tub", frames=10, height=60, width=80)
    ran = wormwheel(capsys, "render", "--policy", trained, "--data", tub, "--out", tmp_path / "film.mp4")
    assert ran.code == 2
    assert "48×24" in ran.complaint and "80×60" in ran.complaint and "--crop-top 20" in ran.complaint


def test_roads_in_another_image_size(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path):
    for verb in (("evaluate",), ("render", "--out", tmp_path / "a.mp4")):
        ran = wormwheel(capsys, *verb, "--policy", trained, "--height", 48, "--width", 100)
        assert ran.code == 2 and "takes frames of 48×24 pixels" in ran.complaint and "100×48" in ran.complaint


def test_a_damaged_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path):
    broken = tmp_path / "policy"
    broken.mkdir()
    (broken / "config.json").write_bytes((trained / "policy" / "config.json").read_bytes())
    (broken / "model.safetensors").write_bytes((trained / "policy" / "model.safetensors").read_bytes()[:-10])
    ran = wormwheel(capsys, "evaluate", "--policy", broken, *ROAD, "--episodes", 1, "--episode-s", 1)
    assert ran.code == 2 and "corrupt" in ran.complaint


def test_a_malformed_road(capsys: pytest.CaptureFixture[str], circle: Path):
    circle.write_text(circle.read_text().replace("20.0000,0.0000,4,4", "20.0000,wide,4,4"))
    ran = wormwheel(capsys, "evaluate", "--expert", "--track", circle, *ROAD)
    assert ran.code == 2 and f"{circle}, line 2" in ran.complaint


def test_too_little_driving_to_hold_any_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = train(capsys, write_tub(tmp_path / "tub", frames=12), tmp_path / "run", "--gap-s", 2)
    assert ran.code == 2 and "too short to hold out" in ran.complaint


@pytest.fixture
def forbidden(tmp_path: Path) -> Path:
    """A directory that nothing can be written to, whoever asks."""
    if os.geteuid() == 0:
        return Path("/sys/kernel")  # no permission for root either
    path = tmp_path / "forbidden"
    path.mkdir(mode=0o500)
    return path


def test_no_permission_to_write(capsys: pytest.CaptureFixture[str], forbidden: Path, tub: Path):
    for ran in (
        wormwheel(capsys, "record", "--out", forbidden / "data", "--frames", 2, *ROAD),
        train(capsys, tub, forbidden / "run"),
        wormwheel(capsys, "record", "--frames", 2, *ROAD, "--out", "unused", "--json", forbidden / "new" / "r.json"),
    ):
        assert ran.code == 2
        assert str(forbidden) in ran.complaint and "cannot write" in ran.complaint
    assert not Path("unused").exists()


def test_a_file_where_a_directory_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    (tmp_path / "file").write_text("mine")
    ran = train(capsys, tub, tmp_path / "file" / "run")
    assert ran.code == 2 and "not a directory" in ran.complaint
    ran = wormwheel(capsys, "record", "--out", tmp_path / "file", "--frames", 2, *ROAD)
    assert ran.code == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_recording_to_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("mine")
    ran = wormwheel(capsys, "record", "--out", tmp_path / "photos", "--frames", 2, *ROAD)
    assert ran.code == 2 and "holds me.jpg, which is of no run of `record`" in ran.complaint
    assert tree(tmp_path / "photos") == {"me.jpg": b"mine"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a Linux device")
def test_a_full_disk_under_the_results(capsys: pytest.CaptureFixture[str], recording: Path):
    ran = wormwheel(capsys, "info", "data", recording, "--json", "/dev/full")
    assert ran.code == 2 and "the disk is full" in ran.complaint


def limited(limit_bytes: int, place: Path, *arguments: object) -> Ended:
    """Run the command in a process whose files cannot grow beyond a size: a disk that fills up in the middle."""

    def set_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return run_child([str(argument) for argument in arguments], Place(place), prepare=set_limit)


def test_a_disk_that_fills_up_while_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The episode in flight is lost; the complete ones before it stay, and recording goes on when there is room."""
    out = tmp_path / "data"
    same = ("record", "--out", out, "--frames", 60, "--episode-s", 1, *ROAD)
    assert wormwheel(capsys, *same).code == 0
    before = tree(out)
    for file in (out / "episode_000002").iterdir():
        file.unlink()
    (out / "episode_000002").rmdir()
    ran = limited(40_000, tmp_path / "fork", *same, "--resume")
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    assert ran.err.splitlines()[-1].startswith(f"wormwheel: cannot write {out}")
    assert len(load_episodes(out)) == 2
    assert wormwheel(capsys, *same, "--resume").code == 0
    episodes = {name: content for name, content in tree(out).items() if name.startswith("episode")}
    assert episodes == {name: content for name, content in before.items() if name.startswith("episode")}


def test_a_disk_that_fills_up_while_training(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    """The policy of the epochs before is whole, and the run can go on."""
    out = tmp_path / "run"
    same = ("train", "imitation", "--data", tub, "--out", out, *DRIVER, "--no-baseline")
    assert wormwheel(capsys, *same).code == 0
    before = tree(out / "policy")
    metrics = (out / "metrics.jsonl").read_text()
    ran = limited(30_000, tmp_path / "fork", *same, "--epochs", 3, "--out", tmp_path / "new")
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    assert ran.err.splitlines()[-1].startswith("wormwheel: cannot write")
    assert tree(out / "policy") == before and (out / "metrics.jsonl").read_text() == metrics


def test_earlier_results_survive_a_failing_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    results = tmp_path / "r.json"
    results.write_text("earlier")
    ran = train(capsys, write_tub(tmp_path / "short", frames=12), tmp_path / "run", "--gap-s", 2, "--json", results)
    assert ran.code == 2
    assert results.read_text() == "earlier"
    ran = wormwheel(capsys, "info", "--json", tmp_path)
    assert ran.code == 2 and "directory" in ran.complaint


@pytest.mark.parametrize(
    ("verb", "option", "value"),
    [
        ("train dagger", "rounds", 2_147_483_648),
        ("train dagger", "frames", 10**12),
        ("record", "workers", 100_000),
        ("train ppo", "steps", 10**12),
        ("adapt", "steps", 10**9),
        ("adapt", "suite-roads", 10**9),
    ],
)
def test_counts_that_nobody_waits_for_are_refused(
    verb: str, option: str, value: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = {"adapt": ("--policy", tmp_path, "--replay", tmp_path, "--friction", 0.5)}.get(verb, ())
    declared = read_options(VERBS[verb].module, VERBS[verb].options)
    name = next(known for known in declared.names() if known.rpartition(".")[2].lstrip("-") == option)
    ran = wormwheel(capsys, *verb.split(), *names, name, value, "--out", tmp_path / "new")
    assert ran.code == 2 and "at most" in ran.complaint and not (tmp_path / "new").exists()


def test_a_text_may_name_a_file_that_is_no_utf8(tmp_path: Path):
    write_text(tmp_path / "page.html", "written to run-\udcff")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "written to run-\\udcff"


def test_a_cluster_that_is_not_there_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path):
    pytest.importorskip("ray", reason="Ray is not installed")
    out = tmp_path / "new"
    ran = wormwheel(
        capsys, "robustness", "--policy", trained, "--out", out, "--perturbations", "fog:1", "--ray", "a b", *ROAD[:2]
    )
    assert ran.code == 2 and "there is no Ray cluster at 'a b'" in ran.complaint and not out.exists()
