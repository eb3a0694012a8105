"""What all readers share: real recordings, several paths, bad paths, bad pictures."""

from __future__ import annotations

import errno
import struct
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agents import recordings
from agents.recordings import READERS, load_episodes
from agents.recordings.cache import cache_frames
from agents.recordings.reading.pictures import BadPicture, picture_size
from agents.recordings.splits import split_by_time_block
from tests.agents.recordings.makers import MAKERS, make_log, make_native, make_tub, one_line, picture, real, save


def test_the_real_tub():
    episodes = load_episodes(real("donkeycar_tub"))
    assert [len(episode) for episode in episodes] == [1000]
    assert episodes.frame_size == (120, 160)
    assert episodes.nominal_period_s == 0.05
    assert "3 ms apart" in episodes.warnings[0] and "50 ms" in episodes.warnings[0]
    np.testing.assert_array_equal(episodes[0].elapsed(), 1.0)
    assert episodes[0].steering[0] == pytest.approx(-0.2986, abs=1e-4)
    assert load_episodes(real("donkeycar_tub"), nominal_period_s=0.1)[0].duration_s == pytest.approx(100.0)
    train, held = split_by_time_block(episodes, 0.2, 2.0)
    assert (train.frame_count, held.frame_count) == (760, 200)


def test_the_real_log():
    log = real("udacity_lake")
    episodes = load_episodes(log)
    assert [len(episode) for episode in episodes] == [2400]
    assert episodes.frame_size == (160, 320)
    assert episodes.nominal_period_s == pytest.approx(0.071, abs=1e-6)
    assert episodes.duration_s == pytest.approx(171.78, abs=0.01)
    assert episodes.warnings == []
    assert 10 < episodes[0].extras["speed_mps"].mean() < 14
    assert load_episodes(log / "driving_log.csv", side_cameras=True).frame_count == 3000


def test_the_real_pictures_are_those_that_opencv_reads():
    for name, glob in (("donkeycar_tub", "images/7_*.jpg"), ("udacity_lake", "IMG/center_*_382.jpg")):
        path = next(real(name).glob(glob))
        expected = cv2.imread(str(path))[..., ::-1]
        assert picture_size(path) == expected.shape[:2]
        episode = load_episodes(real(name))[0]
        index = episode.source.paths.index(path)
        np.testing.assert_array_equal(episode.frames(index, index + 1)[0], expected)


@pytest.mark.parametrize("name", MAKERS)
def test_a_clean_recording_of_each_format_has_no_warnings_and_rgb_frames(tmp_path, name):
    MAKERS[name](tmp_path / "set")
    episodes = load_episodes(tmp_path / "set")
    assert episodes.warnings == []
    assert episodes.skipped == {}
    frames = episodes[0].frames(0, 2)
    assert frames.dtype == np.uint8
    assert frames.shape == (2, *episodes.frame_size, 3)
    if name != "native":
        assert frames[0, 1, 5, 0] > 200 > frames[0, 1, 5, 2], "red above"
        assert frames[0, -2, 5, 2] > 200 > frames[0, -2, 5, 0], "blue below"


def test_several_paths_are_joined_and_counted_in_one_period(tmp_path, caplog):
    make_tub(tmp_path / "tub")
    make_log(tmp_path / "log", count=20)
    both = load_episodes([tmp_path / "tub", str(tmp_path / "log")])
    assert [len(episode) for episode in both] == [6, 20]
    assert both.nominal_period_s == pytest.approx(0.07)
    assert "differ in frame rate" in both.warnings[0]
    assert "differ in frame rate" in caplog.text
    np.testing.assert_allclose(both[0].elapsed(1), 0.05 / 0.07, rtol=1e-5)


def test_a_given_period_counts_true_time_in_it(tmp_path):
    make_tub(tmp_path / "tub")
    np.testing.assert_allclose(load_episodes(tmp_path / "tub", 0.025)[0].elapsed(1), 2.0, rtol=1e-5)


def test_an_absent_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not there") as error:
        load_episodes(tmp_path / "nowhere")
    one_line(error)


def test_an_unknown_format_lists_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="no recording of a known format") as error:
            load_episodes(path)
        text = one_line(error)
        assert all(reader.EXPECTS in text for reader in READERS)


def test_recordings_just_below_a_path_are_pointed_out(tmp_path):
    make_tub(tmp_path / "monday")
    make_native(tmp_path / "sim")
    with pytest.raises(ValueError, match="give these: .*monday .*sim") as error:
        load_episodes(tmp_path)
    one_line(error)


def test_a_recording_that_is_named_twice_is_refused(tmp_path, monkeypatch):
    """Its copies would stand on both sides of a split, and count twice in an interval."""
    make_native(tmp_path / "set")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    for again in ("set", "link"):
        with pytest.raises(ValueError, match="set is named twice"):
            load_episodes([tmp_path / "set", again])


def test_no_path_is_an_error():
    with pytest.raises(ValueError, match="at least one path"):
        load_episodes([])


@pytest.mark.parametrize(
    "option", [{"nominal_period_s": 0.0}, {"max_gap_s": -1.0}, {"side_camera_correction": 2.0}, {"nominal_rate": -1.0}]
)
def test_impossible_options_are_refused(tmp_path, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        load_episodes(tmp_path, **option)


def test_an_unreadable_file_is_one_clear_line(tmp_path, monkeypatch):
    make_tub(tmp_path / "tub")

    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(OSError, match="cannot read .*manifest.json: Permission denied") as error:
        load_episodes(tmp_path / "tub")
    one_line(error)


@pytest.mark.parametrize("name", ["donkeycar", "udacity"])
def test_two_sizes_in_one_set_name_the_two_files(tmp_path, name):
    MAKERS[name](tmp_path / "set")
    other = sorted((tmp_path / "set").rglob("*.jpg"))[3]
    save(other, picture(height=20))
    with pytest.raises(ValueError, match="16×12 in .*jpg and 16×20 in ") as error:
        load_episodes(tmp_path / "set")
    assert other.name in one_line(error)


def test_two_sizes_in_two_sets_are_refused_unless_asked_for(tmp_path):
    make_tub(tmp_path / "tub")
    make_native(tmp_path / "native")
    with pytest.raises(ValueError, match="16×12 in .*tub and 6×4 in .*native") as error:
        load_episodes([tmp_path / "tub", tmp_path / "native"])
    one_line(error)
    mixed = load_episodes([tmp_path / "tub", tmp_path / "native"], mixed_sizes=True)
    one_size = cache_frames(mixed, tmp_path / "cache", lambda frames: frames[:, :4, :6])
    assert one_size.frame_size == (4, 6)


DIRT: dict[str, Callable[[Path], Any]] = {
    "picture file of zero bytes": lambda path: path.write_bytes(b""),
    "picture file missing": lambda path: path.unlink(),
    "picture file truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "file of no known picture format": lambda path: path.write_bytes(b"<html>not found</html>"),
    "picture header damaged": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00\x04ab\x00\x00\xff\xd9"),
    "picture file unreadable": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", ["donkeycar", "udacity"])
@pytest.mark.parametrize("reason", DIRT)
def test_one_bad_picture_among_good_ones_is_counted_and_skipped(tmp_path, name, reason, caplog):
    MAKERS[name](tmp_path / "set")
    clean = load_episodes(tmp_path / "set")
    DIRT[reason](clean[0].source.paths[2])
    dirty = load_episodes(tmp_path / "set")
    assert dirty.skipped == {reason: 1}
    assert dirty.warnings == [f"skipped 1 records: 1 × {reason}"]
    assert reason in caplog.text
    assert [len(episode) for episode in dirty] == [5]
    np.testing.assert_allclose(dirty[0].elapsed(), [1, 1, 2, 1, 1], rtol=1e-4)
    np.testing.assert_allclose(dirty[0].steering, np.delete(clean[0].steering, 2))
    np.testing.assert_array_equal(dirty[0].frames(2, 3), clean[0].frames(3, 4))


@pytest.mark.parametrize("name", ["donkeycar", "udacity"])
def test_only_bad_pictures_is_an_error_that_says_why(tmp_path, name):
    MAKERS[name](tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(
        ValueError, match="no usable record: skipped 6 records: 6 × picture file of zero bytes"
    ) as error:
        load_episodes(tmp_path / "set")
    one_line(error)


def test_png_pictures_are_read_and_checked(tmp_path):
    save(tmp_path / "a.png", picture(7, 9))
    assert picture_size(tmp_path / "a.png") == (7, 9)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(BadPicture, match="truncated"):
        picture_size(tmp_path / "b.png")


def test_the_orientation_that_a_camera_notes_does_not_turn_the_frames(tmp_path):
    make_tub(tmp_path / "tub")
    plain = load_episodes(tmp_path / "tub")[0].frames()
    turned = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # TIFF header, orientation 6
    note = b"Exif\0\0" + turned
    for path in (tmp_path / "tub" / "images").iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note + content[2:])
    assert cv2.imread(str(path)).shape == (16, 12, 3), "the note is understood"
    np.testing.assert_array_equal(load_episodes(tmp_path / "tub")[0].frames(), plain)


def undecodable(path: Path) -> None:
    """Keep header and end of a JPEG and spoil the tables, so that only a decoder notices."""
    content = path.read_bytes()
    at = content.index(b"\xff\xc4")
    length = struct.unpack(">H", content[at + 2 : at + 4])[0]
    path.write_bytes(content[: at + 4] + b"\xff" * (length - 2) + content[at + 2 + length :])


def test_a_picture_that_only_the_decoder_refuses_is_stood_in_for_and_left_out_of_the_cache(tmp_path, caplog):
    make_tub(tmp_path / "tub")
    clean = load_episodes(tmp_path / "tub")[0].frames()
    undecodable(tmp_path / "tub" / "images" / "5_cam_image_array_.jpg")
    episodes = load_episodes(tmp_path / "tub")
    assert len(episodes[0]) == 6
    frames, good = episodes[0].checked_frames()
    assert good.tolist() == [True] * 5 + [False]
    np.testing.assert_array_equal(frames[5], clean[4])
    np.testing.assert_array_equal(episodes[0].frames(5, 6)[0], clean[4])
    assert caplog.text.count("cannot be decoded") == 1
    cached = cache_frames(episodes, tmp_path / "cache")
    assert cached.skipped == {"picture that cannot be decoded": 1}
    np.testing.assert_array_equal(cached[0].frames(), clean[:5])


def test_a_recording_that_no_decoder_reads_is_an_error(tmp_path):
    make_tub(tmp_path / "tub")
    for path in (tmp_path / "tub" / "images").iterdir():
        undecodable(path)
    episodes = load_episodes(tmp_path / "tub")
    with pytest.raises(ValueError, match="cannot be decoded"):
        cache_frames(episodes, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_format_of_others_that_does_not_import_is_told_and_left_out(monkeypatch, caplog):
    class Entry:
        value = "theirs:reader"

        def __init__(self, name, load):
            self.name, self.load = name, load

    good = types.SimpleNamespace(EXPECTS="", recognises=lambda path: False, read=None)
    loads = {"broken": lambda: 1 / 0, "empty": types.SimpleNamespace, "good": lambda: good}
    entries = [Entry(name, load) for name, load in loads.items()]
    monkeypatch.setattr(recordings, "entry_points", lambda group: entries)
    assert recordings._of_others() == [good]
    assert "broken (theirs:reader) is left out: ZeroDivisionError" in caplog.text
    assert "empty (theirs:reader) is left out: it has no EXPECTS, recognises, read" in caplog.text


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("native", {"degrees": 25.0, "max_gap_s": 0.5}, "--max-gap-s and --degrees"),
        ("donkeycar", {"side_cameras": True, "positive": "left"}, "--side-cameras"),
        ("udacity", {"all_catalogs": True, "side_cameras": True}, "--all-catalogs"),
        ("udacity", {"side_camera_correction": 0.3}, "--side-camera-correction"),
        ("udacity", {"from_s": 0.1, "nominal_rate": 20.0, "steering_column": "4"}, None),
    ],
)
def test_options_that_mean_nothing_in_a_format_are_said(tmp_path, name, options, named):
    MAKERS[name](tmp_path / "data")
    said = [line for line in load_episodes(tmp_path / "data", **options).warnings if "of no meaning" in line]
    assert [line.removeprefix(f"{tmp_path / 'data'}: ") for line in said] == (
        [] if named is None else [f"{named}: of no meaning for this recording, and not used"]
    )


@pytest.mark.parametrize("name", MAKERS)
def test_rate_and_side_are_taken_in_every_format(tmp_path, name):
    """`data check` advises both, whatever the format."""
    MAKERS[name](tmp_path / "data")
    plain, told = load_episodes(tmp_path / "data", positive="left"), None
    for rate in (8.0, 0.25):  # a frame in four seconds is not a gap where that is what is said
        told = load_episodes(tmp_path / "data", positive="right", nominal_rate=rate)
        assert [len(one) for one in told] == [len(one) for one in plain]
        assert told.nominal_period_s == 1 / rate
        for one in told:
            np.testing.assert_allclose(np.diff(one.time_s), 1 / rate)
            np.testing.assert_array_equal(one.elapsed(), 1.0)
        assert told.duration_s == pytest.approx(told.frame_count / rate)
    for one, other in zip(plain, told, strict=True):
        np.testing.assert_array_equal(one.steering, -other.steering)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{i:04d}.jpg", "a column steering"),
        ("xy_112_050_a8d6fb0a-f6f3-11ea-8a1e-00044be{i:05d}.jpg", "which is no steering"),
        ("90_120_a8d6fb0a-f6f3-11ea-8a1e-00044be{i:05d}.jpg", "which is no steering"),
    ],
)
@pytest.mark.parametrize("folder", ["", "apex"])
def test_pictures_without_a_table_are_told_what_is_missing(tmp_path, name, said, folder):
    for i in range(3):
        save(tmp_path / folder / name.format(i=i), picture())
    with pytest.raises(
        ValueError, match=f"3 pictures, such as .* no table of labels: write one as CSV.*{said}"
    ) as error:
        load_episodes(tmp_path)
    one_line(error)


def test_a_cars_folder_is_read_by_its_data(tmp_path):
    (tmp_path / "mycar").mkdir()
    make_tub(tmp_path / "mycar" / "data")
    assert load_episodes(tmp_path / "mycar").frame_count == 6


def test_catalogs_without_a_manifest_are_read_when_it_is_said(tmp_path):
    make_tub(tmp_path / "tub")
    (tmp_path / "tub" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="read all of them by --all-catalogs") as error:
        load_episodes(tmp_path / "tub")
    one_line(error)
    assert load_episodes(tmp_path / "tub", all_catalogs=True).frame_count == 6
