"""`wormwheel data`: each verb from the command line, and what training does with what it reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.cache import held_in_memory
from agents.recordings.doctor import Report
from agents.recordings.episodes import EpisodeMeta
from agents.recordings.writer import EpisodeWriter
from experiments.data.check import measured
from experiments.training_sets import SplitOptions, split
from tests.agents.recordings.makers import make_log, make_native, make_tub, picture, save
from tests.experiments.verbs import wormwheel


@pytest.fixture(scope="module")
def tub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "tub"
    make_tub(place, count=80, deleted=(3,))
    return place


def test_info_tells_format_counts_and_reasons(tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "data", "info", tub, "--json", tmp_path / "i.json")
    assert ran.code == 0, ran.err
    for part in ("donkeycar (version 2)", "deleted by its owner", "16×12", "50 ms", "20 frames/s"):
        assert part in ran.out, part
    figures = json.loads((tmp_path / "i.json").read_text())["figures"]
    assert (figures["frames"], figures["episodes"], figures["skipped"]) == (79, 1, {"deleted by its owner": 1})
    assert figures["clock"]["frames_missing"] == 1
    assert sum(figures["steering"]["histogram"]) == 79


def test_check_ends_with_1_when_something_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_log(tmp_path / "log", count=60)
    fine = wormwheel(capsys, "data", "check", tmp_path / "log")
    assert fine.code == 0, fine.out
    rows = [row.rsplit(",", 4) for row in (tmp_path / "log" / "driving_log.csv").read_text().splitlines()]
    (tmp_path / "log" / "driving_log.csv").write_text("\n".join(f"{row[0]},0.25,0,0,1" for row in rows))
    ran = wormwheel(capsys, "data", "check", tmp_path / "log", "--json", tmp_path / "c.json")
    assert ran.code == 1
    assert "labels are all equal" in " ".join(ran.out.split())
    findings = json.loads((tmp_path / "c.json").read_text())["figures"]["findings"]
    assert [finding["about"] for finding in findings if finding["fault"]] == ["labels"]


def test_a_crop_is_promised_where_training_takes_it(tub: Path, recording: Path):
    view = {"horizon": 0.3, "horizon_by": "where lines meet", "bonnet": None, "crop_top": 7, "crop_bottom": 0}
    report = Report((), {"view": view})
    (of_a_car,), (drawn,) = (measured(report, load_episodes(path)) for path in (tub, recording))
    assert of_a_car.endswith("--crop-top 7 is what training takes unless another crop is given")
    assert drawn.endswith("--crop-top 7 is what suits it, and not taken unless it is given")


def test_convert_to_every_format_and_fix(tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("pyarrow")
    pytest.importorskip("h5py")
    before = load_episodes(tub)
    for to in ("native", "lerobot", "minari", "donkeycar"):
        ran = wormwheel(capsys, "data", "convert", tub, "--to", to, "--out", tmp_path / to, "--from-s", "1.0")
        assert ran.code == 0, ran.err
        after = load_episodes(tmp_path / to)
        assert after.frame_count == 60
        np.testing.assert_array_equal(after[0].frames(), before[0].frames(19))
    again = wormwheel(capsys, "data", "convert", tub, "--out", tmp_path / "native")
    assert again.code == 2 and "is not empty" in again.complaint
    fixed = wormwheel(capsys, "data", "fix", tub, "--out", tmp_path / "fixed", "--nominal-rate", "10")
    assert f"to look at it again: wormwheel data check {tmp_path / 'fixed'}\n" in fixed.err
    assert fixed.code == 0, fixed.err
    assert load_episodes(tmp_path / "fixed").nominal_period_s == pytest.approx(0.1)


def test_view_is_a_film_of_the_part_that_was_asked_for(tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ("--out", tmp_path / "v.mp4", "--step", tmp_path / "s.png", "--from-s", "1", "--seconds", "1")
    ran = wormwheel(capsys, "data", "view", tub, *arguments)
    assert ran.code == 0, ran.err
    with av.open(str(tmp_path / "v.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 20
    # Record 20 steers 0, record 25 steers 0.5 to the right: the bar grows to the right of the middle.
    row = frames[0].shape[0] - 96 + 18 + 5
    left, right = (frames[5][row, :320].mean(), frames[5][row, 320:].mean())
    assert right > left + 20
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "nowhere"), "nowhere is not there"),
        (("check", "TUB", "--gap-s", "nan"), "gap_s"),
        (("check", "TUB", "--hold-out", "1.5"), "hold_out"),
        (("view", "TUB", "--out", "film.avi"), "ends in .mp4"),
        (("view", "TUB", "--seconds", "0"), "seconds"),
        (("convert", "TUB", "--out", "x", "--nominal-rate", "-5"), "nominal_rate"),
        (("convert", "TUB", "--out", "x", "--max-gap-s", "nan"), "max_gap_s"),
        (("info", "TUB", "--episodes", "7"), "there is no episode 7"),
        (("frobnicate", "TUB"), "no verb 'data frobnicate'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    ran = wormwheel(capsys, "data", *(tub if part == "TUB" else part for part in arguments))
    assert ran.code == 2
    assert message in ran.complaint
    assert list(tmp_path.iterdir()) == []


def test_side_cameras_are_trained_on_and_never_tested_on(tmp_path: Path):
    make_log(tmp_path / "log", count=100)
    for level, path in enumerate(sorted((tmp_path / "log" / "IMG").iterdir())):
        save(path, picture(level=level % 250)[:: 1 if level < 250 else -1])
    sets = split(load_episodes(tmp_path / "log", side_cameras=True), SplitOptions(gap_s=0.2))
    cameras = [{e.meta.extra["camera"] for e in part} for part in (sets.training, sets.validation, sets.held_out)]
    assert cameras == [{"centre", "left", "right"}, {"centre"}, {"centre"}]
    alone = split(load_episodes(tmp_path / "log"), SplitOptions(gap_s=0.2))
    assert sets.held_out.frame_count == alone.held_out.frame_count == 20
    np.testing.assert_array_equal(sets.held_out[0].steering, alone.held_out[0].steering)


def test_held_out_frames_that_are_trained_on_are_refused(tmp_path: Path):
    make_tub(tmp_path / "tub", count=100)
    images = tmp_path / "tub" / "images"
    for index in range(100):
        save(images / f"{index}_cam_image_array_.jpg", picture(level=2 * index))
    split(load_episodes(tmp_path / "tub"), SplitOptions(gap_s=0.2))
    for index in range(5):  # record 90 + i steers as record i does, so these become the same records
        content = (images / f"{90 + index}_cam_image_array_.jpg").read_bytes()
        (images / f"{index}_cam_image_array_.jpg").write_bytes(content)
    with pytest.raises(ValueError, match="5 of 20 held-out frames are copies of frames that are trained on.*90_cam"):
        split(load_episodes(tmp_path / "tub"), SplitOptions(gap_s=0.2))


def test_validation_frames_that_are_trained_on_are_refused(tmp_path: Path):
    make_tub(tmp_path / "tub", count=100)
    images = tmp_path / "tub" / "images"
    for index in range(100):
        save(images / f"{index}_cam_image_array_.jpg", picture(level=2 * index))
    options = SplitOptions(gap_s=0.2, hold_out=0.2, validation=0.2)
    assert split(load_episodes(tmp_path / "tub"), options).validation.frame_count == 15
    for index in range(62, 67):  # of the validation set; each steers as the record 60 before it
        content = (images / f"{index}_cam_image_array_.jpg").read_bytes()
        (images / f"{index - 60}_cam_image_array_.jpg").write_bytes(content)
    with pytest.raises(ValueError, match="validation frames are copies of frames that are trained on.*best epoch"):
        split(load_episodes(tmp_path / "tub"), options)


@pytest.mark.parametrize("held", [False, True], ids=["files", "memory"])
def test_a_copy_of_a_set_is_refused_though_its_frames_are_no_files(tmp_path: Path, held: bool):
    def drawn(place: Path, seeds: range) -> Path:
        writer = EpisodeWriter(place)
        for seed in seeds:
            rng = np.random.default_rng(seed)
            with writer.episode(EpisodeMeta(source="expert", seed=seed)) as recording:
                for step in range(30):
                    frame = rng.integers(0, 256, (4, 6, 3), np.uint8) if step > 3 else np.zeros((4, 6, 3), np.uint8)
                    recording.append(frame, steering=step / 30, time_s=0.05 * step)
        return place

    one, other = drawn(tmp_path / "one", range(4)), drawn(tmp_path / "other", range(4, 8))
    options = SplitOptions(split="episode", validation=0.3)
    read = (lambda *paths: held_in_memory(load_episodes(paths))) if held else (lambda *paths: load_episodes(paths))
    assert split(read(one, other), options).held_out is not None, "all begin with the same black frames"
    shutil.copytree(one, tmp_path / "copy")
    with pytest.raises(ValueError, match="frames are copies of frames that are"):
        split(read(one, tmp_path / "copy"), options)


def test_a_set_of_this_project_is_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_native(tmp_path / "set")
    ran = wormwheel(capsys, "data", "info", tmp_path / "set")
    assert ran.code == 0 and "native" in ran.out and "episodes" in ran.out


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--nominal-rate", "1e12", "nominal_rate must be at most 10000"),
        ("--nominal-rate", "1e-9", "nominal_rate must be at least 0.0002"),
        ("--nominal-period-s", "1e-9", "nominal_period_s must be at least 0.0001"),
        ("--nominal-period-s", "1e9", "nominal_period_s must be at most 3600"),
    ],
)
def test_clocks_that_no_camera_has_are_refused(option, value, words, capsys, tub):
    for verb in ("info", "check"):
        ran = wormwheel(capsys, "data", verb, tub, option, value)
        assert ran.code == 2 and words in ran.complaint


def test_what_was_found_is_written_where_no_picture_can_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    make_tub(tmp_path / "tub", count=10)
    for verb, option in (("check", "--picture"), ("view", "--step")):
        words = ("data", verb, "tub", "--json", "f.json", option)
        ran = wormwheel(capsys, *words, "step.jpg")
        assert ran.code == 2 and "a name that ends in .png" in ran.complaint
        assert [path.name for path in tmp_path.iterdir()] == ["tub"], "refused before anything was looked at"
        ran = wormwheel(capsys, *words, "step.png")
        assert ran.code == 2 and "too short to be compared with its pictures" in ran.complaint
        assert json.loads((tmp_path / "f.json").read_text())["verb"] == f"data {verb}"
        for path in (tmp_path / "f.json", tmp_path / "tub.mp4"):
            path.unlink(missing_ok=True)
