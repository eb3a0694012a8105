"""The readers, on real recordings and on every kind of dirt."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agents.episodes import EpisodeMeta
from agents.files import WriteError
from agents.materialise import materialise
from agents.recordings import READERS, load_episodes
from agents.recordings.images import BadPicture, picture_size
from agents.recordings.writer import EpisodeWriter
from agents.splits import split_by_time_block
from agents.windows import Windows

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def real(name: str) -> Path:
    """A real recording, or a skip where it is not kept."""
    if not (SHARED / name).exists():
        pytest.skip(f"the real recording {SHARED / name} is not on this machine")
    return SHARED / name


def picture(height: int = 12, width: int = 16, level: int = 100) -> np.ndarray:
    """An RGB picture that is red at the top and blue at the bottom."""
    frame = np.full((height, width, 3), level, np.uint8)
    frame[: height // 2, :, 0] = 250
    frame[height // 2 :, :, 2] = 250
    return frame


def save(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), frame[..., ::-1])


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) > 20
    return text


# --- making tubs and logs ---------------------------------------------------------------------------------------------


def make_tub(directory: Path, count: int = 6, **manifest: Any) -> list[dict[str, Any]]:
    """Write a clean tub of `count` records, 50 ms apart, angles 0.0, 0.1, 0.2, …; return the records."""
    directory.mkdir(parents=True, exist_ok=True)
    records = []
    for index in range(count):
        name = f"{index}_cam_image_array_.jpg"
        save(directory / "images" / name, picture(level=10 * (index % 10)))
        records.append(
            {
                "_index": index,
                "_session_id": "a",
                "_timestamp_ms": 1_600_000_000_000 + 50 * index,
                "cam/image_array": name,
                "user/angle": index % 10 / 10,
                "user/mode": "user",
                "user/throttle": 0.5,
            }
        )
    write_catalog(directory, records)
    write_manifest(directory, **manifest)
    return records


def write_catalog(directory: Path, records: list[dict[str, Any]], name: str = "catalog_0.catalog") -> None:
    (directory / name).write_text("".join(json.dumps(record) + "\n" for record in records))


def write_manifest(
    directory: Path, paths: tuple[str, ...] = ("catalog_0.catalog",), deleted: tuple[int, ...] = ()
) -> None:
    lines: list[Any] = [["cam/image_array", "user/angle"], ["image_array", "float"], {}, {"created_at": 1.0}]
    lines.append({"paths": list(paths), "current_index": 6, "max_len": 1000, "deleted_indexes": list(deleted)})
    (directory / "manifest.json").write_text("\n".join(map(json.dumps, lines)))


def make_log(
    directory: Path,
    count: int = 6,
    *,
    prefix: str = "C:\\Users\\Jo\\IMG\\",
    step_ms: int = 70,
    sides: bool = True,
    header: bool = False,
    end: str = "\n",
    start: str = "",
) -> None:
    """Write a clean log: steering 0.0, 0.1, …, 10 mph."""
    (directory / "IMG").mkdir(parents=True)
    rows = ["center,left,right,steering,throttle,brake,speed"] if header else []
    for index in range(count):
        second, millisecond = divmod(index * step_ms, 1000)
        stamp = f"2018_07_16_17_11_{second:02d}_{millisecond:03d}"
        fields = []
        for camera, level in (("center", 0), ("left", 60), ("right", 120)):
            if camera == "center" or sides:
                save(directory / "IMG" / f"{camera}_{stamp}.jpg", picture(level=level + index % 10))
            fields.append(f"{prefix}{camera}_{stamp}.jpg")
        rows.append(", ".join(fields) + f",{index % 10 / 10},0.5,0,10")
    (directory / "driving_log.csv").write_text(start + end.join(rows) + end, encoding="utf-8", newline="")


def make_native(directory: Path, lengths: tuple[int, ...] = (5, 3), height: int = 4) -> None:
    writer = EpisodeWriter(directory)
    for number, length in enumerate(lengths):
        with writer.episode(EpisodeMeta(source="expert", seed=number, extra={"road": number})) as recording:
            for step in range(length):
                frame = np.full((height, 6, 3), 50 * number + step, np.uint8)
                recording.append(frame, steering=step / 10, time_s=0.05 * step, speed_mps=2.0)


MAKERS: dict[str, Callable[[Path], Any]] = {"native": make_native, "donkeycar": make_tub, "udacity": make_log}


# --- real recordings --------------------------------------------------------------------------------------------------


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


# --- what is common to all --------------------------------------------------------------------------------------------


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


def test_no_path_is_an_error():
    with pytest.raises(ValueError, match="at least one path"):
        load_episodes([])


@pytest.mark.parametrize("option", [{"nominal_period_s": 0.0}, {"max_gap_s": -1.0}, {"side_camera_correction": 2.0}])
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
    one_size = materialise(mixed, tmp_path / "cache", lambda frames: frames[:, :4, :6])
    assert one_size.frame_size == (4, 6)


DIRT: dict[str, Callable[[Path], Any]] = {
    "picture file of zero bytes": lambda path: path.write_bytes(b""),
    "picture file missing": lambda path: path.unlink(),
    "picture file truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "file neither JPEG nor PNG": lambda path: path.write_bytes(b"<html>not found</html>"),
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
    cached = materialise(episodes, tmp_path / "cache")
    assert cached.skipped == {"picture that cannot be decoded": 1}
    np.testing.assert_array_equal(cached[0].frames(), clean[:5])


def test_a_recording_that_no_decoder_reads_is_an_error(tmp_path):
    make_tub(tmp_path / "tub")
    for path in (tmp_path / "tub" / "images").iterdir():
        undecodable(path)
    episodes = load_episodes(tmp_path / "tub")
    with pytest.raises(ValueError, match="cannot be decoded"):
        materialise(episodes, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# --- Donkeycar --------------------------------------------------------------------------------------------------------


def test_a_tub_steers_the_other_way_round_and_names_its_manifest_too(tmp_path):
    make_tub(tmp_path / "tub")
    episodes = load_episodes(tmp_path / "tub" / "manifest.json")
    np.testing.assert_allclose(episodes[0].steering, [0, -0.1, -0.2, -0.3, -0.4, -0.5], atol=1e-6)
    assert episodes[0].meta.nominal_period_s == pytest.approx(0.05)
    assert episodes[0].extras["throttle"].tolist() == [0.5] * 6


def test_the_manifest_decides_what_counts(tmp_path):
    records = make_tub(tmp_path, deleted=(1, 4))
    write_catalog(tmp_path, records, "catalog_7.catalog")  # A left-over that the manifest does not name.
    episodes = load_episodes(tmp_path)
    np.testing.assert_allclose(-episodes[0].steering, [0, 0.2, 0.3, 0.5], atol=1e-6)
    assert episodes.skipped == {"deleted by its owner": 2}


def test_catalogs_are_read_in_the_manifests_order_and_a_missing_one_is_counted(tmp_path):
    records = make_tub(tmp_path, paths=("catalog_0.catalog", "catalog_1.catalog", "catalog_2.catalog"))
    write_catalog(tmp_path, records[:4])
    write_catalog(tmp_path, records[4:], "catalog_1.catalog")
    episodes = load_episodes(tmp_path)
    assert [len(episode) for episode in episodes] == [6]
    assert episodes.skipped == {"catalog missing": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user/angle": float("nan")}, "steering not a number"),
        ({"user/angle": float("inf")}, "steering not a number"),
        ({"user/angle": None}, "steering not a number"),
        ({"user/angle": "left"}, "steering not a number"),
        ({"user/angle": 10**400}, "steering not a number"),
        ({"user/angle": -7.0}, "steering outside [-1, 1]"),
        ({"user/mode": "local"}, "driven by the pilot, not a person"),
        ({"cam/image_array": None}, "no picture named"),
        ({"cam/image_array": "../../secret.jpg"}, "picture file missing"),
        ({"_index": "x"}, "garbled line"),
        ({"_index": -3}, "garbled line"),
        ({"_index": 10**30}, "garbled line"),
        ({"_index": None}, "garbled line"),
    ],
)
def test_one_bad_record_of_a_tub_is_counted_and_skipped(tmp_path, change, reason):
    records = make_tub(tmp_path)
    records[3].update(change)
    write_catalog(tmp_path, records)
    episodes = load_episodes(tmp_path)
    assert episodes.skipped == {reason: 1}
    np.testing.assert_allclose(-episodes[0].steering, [0, 0.1, 0.2, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(episodes[0].elapsed(), [1, 1, 1, 2, 1], rtol=1e-4)


def test_a_slight_overshoot_is_clipped(tmp_path):
    records = make_tub(tmp_path)
    records[0]["user/angle"] = 1.0 + 1e-6
    write_catalog(tmp_path, records)
    assert load_episodes(tmp_path)[0].steering[0] == -1.0


@pytest.mark.parametrize("dirt", [b'{"_index": 3, "us', b"\xff\xfe\x00\x80garbage", b"[1, 2]", b"null", b"[" * 100_000])
def test_garbled_lines_are_counted(tmp_path, dirt):
    make_tub(tmp_path)
    path = tmp_path / "catalog_0.catalog"
    lines = path.read_bytes().splitlines()
    lines.insert(2, dirt)
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n\0\0\0\n\n")
    episodes = load_episodes(tmp_path)
    assert episodes.frame_count == 6
    assert episodes.skipped == {"garbled line": 1}


def test_sessions_long_pauses_and_steps_back_begin_new_episodes(tmp_path):
    records = make_tub(tmp_path, count=12)
    for record in records[3:]:
        record["_session_id"] = "b"
    for record in records[6:]:
        record["_timestamp_ms"] += 5000
    for record in records[9:]:
        record["_timestamp_ms"] -= 7000
    write_catalog(tmp_path, records)
    episodes = load_episodes(tmp_path)
    assert [len(episode) for episode in episodes] == [3, 3, 3, 3]
    assert [episode.elapsed()[0] for episode in episodes] == [1, 1, 1, 1]
    np.testing.assert_allclose([e.meta.start_s for e in episodes], [0, 0.15, 0.3, 0.45], rtol=1e-4)


@pytest.mark.parametrize("spoil", ["fast", "frozen", "absent", "text"])
def test_an_unusable_clock_gives_way_to_the_nominal_period(tmp_path, spoil):
    records = make_tub(tmp_path, count=40)
    for record in records:
        if spoil == "absent":
            del record["_timestamp_ms"]
        else:
            record["_timestamp_ms"] = {"fast": 3 * record["_index"], "frozen": 5, "text": "noon"}[spoil]
    write_catalog(tmp_path, [*records[:10], *records[12:15], *records[38:]])
    episodes = load_episodes(tmp_path)
    assert [len(episode) for episode in episodes] == [13, 2], "a gap of 23 records is longer than a second"
    np.testing.assert_allclose(episodes[0].elapsed(), [*[1] * 10, 3, 1, 1])
    assert "time stamps cannot be used" in episodes.warnings[0]
    assert load_episodes(tmp_path, 0.1).nominal_period_s == 0.1


def test_a_single_missing_time_stamp_is_filled_in(tmp_path):
    records = make_tub(tmp_path, count=20)
    records[7]["_timestamp_ms"] = None
    write_catalog(tmp_path, records)
    episodes = load_episodes(tmp_path)
    assert episodes.warnings == []
    np.testing.assert_allclose(episodes[0].elapsed(), 1.0, rtol=1e-4)


def test_a_tub_without_manifest_or_of_version_1_is_explained(tmp_path):
    make_tub(tmp_path / "two")
    (tmp_path / "two" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="catalogs but no manifest.json") as error:
        load_episodes(tmp_path / "two")
    one_line(error)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "record_1.json").write_text("{}")
    with pytest.raises(ValueError, match="version 1; convert it"):
        load_episodes(tmp_path / "one")


@pytest.mark.parametrize(
    "content", ["", "not json\n\n", '{"paths": "catalog_0.catalog"}', '{"paths": [3]}', "[]\n[]\n{}\n{}\n{"]
)
def test_a_damaged_manifest_is_named(tmp_path, content):
    make_tub(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json .*damaged") as error:
        load_episodes(tmp_path)
    one_line(error)


def test_an_empty_tub_is_an_error(tmp_path):
    make_tub(tmp_path)
    write_catalog(tmp_path, [])
    with pytest.raises(ValueError, match="no usable record: it is empty"):
        load_episodes(tmp_path)


# --- Udacity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["C:\\Users\\Jo\\IMG\\", " /home/jo/data/IMG/", "IMG/", ""])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(("end", "start"), [("\n", ""), ("\r\n", "\ufeff")])
def test_logs_of_every_machine_are_read(tmp_path, prefix, header, end, start):
    make_log(tmp_path / "log", prefix=prefix, header=header, end=end, start=start)
    episodes = load_episodes(tmp_path / "log")
    assert episodes.warnings == []
    np.testing.assert_allclose(-episodes[0].steering, [0, 0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(episodes[0].elapsed(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(episodes[0].extras["speed_mps"], 4.4704, rtol=1e-5)


def rewrite(log: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = log / "driving_log.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row.replace(",0.3,", ",nan,"), "steering not a number"),
        (lambda row: row.replace(",0.3,", ",,"), "steering not a number"),
        (lambda row: row.replace(",0.3,", ",25,"), "steering outside [-1, 1]"),
        (lambda row: row[:-12], "row with columns missing or damaged"),
        (lambda row: "\x00\x00garbage", "row with columns missing or damaged"),
        (lambda row: "," + row.split(",", 1)[1], "row with columns missing or damaged"),
    ],
)
def test_one_bad_row_of_a_log_is_counted_and_skipped(tmp_path, change, reason):
    make_log(tmp_path / "log")
    rewrite(tmp_path / "log", lambda rows: [*rows[:3], change(rows[3]), *rows[4:]])
    episodes = load_episodes(tmp_path / "log")
    assert episodes.skipped == {reason: 1}
    np.testing.assert_allclose(-episodes[0].steering, [0, 0.1, 0.2, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(episodes[0].elapsed(), [1, 1, 1, 2, 1], rtol=1e-4)


def test_rows_keep_their_order_and_a_step_back_or_a_jump_begins_an_episode(tmp_path):
    make_log(tmp_path / "log", count=40)
    rewrite(tmp_path / "log", lambda rows: [*rows[20:25], *rows[:5], *rows[30:]])
    episodes = load_episodes(tmp_path / "log")
    assert [len(episode) for episode in episodes] == [5, 5, 10]
    assert load_episodes(tmp_path / "log", max_gap_s=5.0).frame_count == 20
    assert [len(episode) for episode in load_episodes(tmp_path / "log", max_gap_s=5.0)] == [5, 15]


def test_side_cameras_lead_back_to_the_middle_and_share_the_time_line(tmp_path):
    make_log(tmp_path / "log", count=10)
    for path in sorted((tmp_path / "log" / "IMG").glob("left_*"))[:4]:
        path.unlink()
    episodes = load_episodes(tmp_path / "log", side_cameras=True, side_camera_correction=0.25)
    cameras = {episode.meta.extra["camera"]: episode for episode in episodes}
    assert {camera: len(episode) for camera, episode in cameras.items()} == {"centre": 10, "left": 6, "right": 10}
    np.testing.assert_allclose(
        cameras["left"].steering, np.clip(cameras["centre"].steering[4:] - 0.25, -1, 1), atol=1e-6
    )
    np.testing.assert_allclose(cameras["right"].steering, np.clip(cameras["centre"].steering + 0.25, -1, 1), atol=1e-6)
    assert cameras["left"].meta.start_s == pytest.approx(4 * 0.07, rel=1e-4)
    assert cameras["left"].frames(0, 1).mean() > cameras["centre"].frames(0, 1).mean()
    assert episodes.skipped == {}
    assert "4 of 10 rows have no usable picture of the left camera" in episodes.warnings[0]
    assert [len(episode) for episode in load_episodes(tmp_path / "log")] == [10]


def test_a_log_with_four_columns_is_read(tmp_path):
    make_log(tmp_path / "log")
    rewrite(tmp_path / "log", lambda rows: [row.rsplit(",", 3)[0] for row in rows])
    episodes = load_episodes(tmp_path / "log")
    assert episodes.frame_count == 6
    assert episodes[0].extras == {}


def test_names_without_time_are_laid_out_at_the_usual_rate(tmp_path):
    make_log(tmp_path / "log")
    for index, path in enumerate(sorted((tmp_path / "log" / "IMG").glob("center_*"))):
        path.rename(path.with_name(f"frame{index}.jpg"))
    rewrite(tmp_path / "log", lambda rows: [f"frame{i}.jpg,,,{i / 10},0,0,1" for i in range(len(rows))])
    episodes = load_episodes(tmp_path / "log")
    assert episodes.nominal_period_s == pytest.approx(1 / 15)
    assert "time stamps cannot be used (missing)" in episodes.warnings[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no usable record: it is empty"),
        ("center,left,right,steering,throttle,brake,speed\n", "it is empty"),
        ("x_m,y_m,w_tr_right_m,w_tr_left_m\n1,2,3,4\n", "should name a picture in its first column"),
        ("center_1.jpg,a.jpg,b.jpg,0,5,0,5,0,0,3,1\n", "got 11; numbers must be written with a decimal point"),
        ("center_1.jpg,a.jpg\n", "should have the 7 columns"),
        ('center_1.jpg,"' + "a" * 200_000 + "\n", "not a readable CSV file"),
    ],
)
def test_other_tables_are_not_taken_for_logs(tmp_path, content, message):
    make_log(tmp_path / "log")
    (tmp_path / "log" / "driving_log.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_episodes(tmp_path / "log" / "driving_log.csv")
    one_line(error)


def test_a_log_without_its_pictures_says_where_they_belong(tmp_path):
    make_log(tmp_path / "log")
    shutil.rmtree(tmp_path / "log" / "IMG")
    with pytest.raises(ValueError, match="IMG should hold the pictures"):
        load_episodes(tmp_path / "log")


# --- the project's own format -----------------------------------------------------------------------------------------


def test_a_data_set_comes_back_as_written(tmp_path):
    make_native(tmp_path / "set")
    episodes = load_episodes(tmp_path / "set")
    assert [len(episode) for episode in episodes] == [5, 3]
    assert episodes.frame_size == (4, 6)
    np.testing.assert_array_equal(episodes[1].frames(1, 3)[:, 0, 0, 0], [51, 52])
    np.testing.assert_allclose(episodes[0].steering, [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert episodes[1].extras["speed_mps"].tolist() == [2.0] * 3
    meta = episodes[1].meta
    assert (meta.seed, meta.extra["road"], meta.extra["recorded_from"]) == (1, 1, "expert")
    assert meta.start_s == pytest.approx(0.25)
    np.testing.assert_array_equal(
        np.load(tmp_path / "set/episode_000001/frames.npy", mmap_mode="r").shape, [3, 4, 6, 3]
    )


def test_appending_continues_the_numbers_and_several_may_be_in_flight(tmp_path):
    make_native(tmp_path / "set", (2,))
    writer = EpisodeWriter(tmp_path / "set")
    first, second = writer.episode(EpisodeMeta("a")), writer.episode(EpisodeMeta("b"))
    for step in range(3):
        first.append(np.zeros((4, 6, 3), np.uint8), 0.0, float(step))
        second.append(np.ones((4, 6, 3), np.uint8), 0.0, float(step))
    assert second.finish().name == "episode_000001"
    assert first.finish().name == "episode_000002"
    assert [episode.meta.extra["recorded_from"] for episode in load_episodes(tmp_path / "set")] == ["expert", "b", "a"]


def test_an_interrupted_episode_leaves_nothing_and_harms_nothing(tmp_path):
    make_native(tmp_path / "set")
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x")) as recording:
        recording.append(np.zeros((4, 6, 3), np.uint8), 0.0, 0.0)
        raise KeyboardInterrupt
    killed = EpisodeWriter(tmp_path / "set").episode(
        EpisodeMeta("x")
    )  # What a kill leaves: neither finished nor aborted.
    killed.append(np.zeros((4, 6, 3), np.uint8), 0.0, 0.0)
    assert load_episodes(tmp_path / "set").frame_count == 8
    killed.abort()
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["dataset.json", "episode_000000", "episode_000001"]


def test_a_full_disk_loses_only_the_episode_in_flight(tmp_path):
    make_native(tmp_path / "set")
    recording = EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x"))
    recording._file.close()
    recording._file = open("/dev/full", "wb")  # noqa: SIM115 - every write to it fails as on a full disk
    with pytest.raises(WriteError, match="disk is full") as error:
        for step in range(3000):
            recording.append(np.zeros((32, 32, 3), np.uint8), 0.0, float(step))
    one_line(error)
    assert load_episodes(tmp_path / "set").frame_count == 8
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["dataset.json", "episode_000000", "episode_000001"]


def test_recording_refuses_what_does_not_fit(tmp_path):
    frame = np.zeros((4, 6, 3), np.uint8)
    recording = EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x"))
    recording.append(frame, 0.0, 1.0, speed_mps=1.0)
    for arguments, extras, message in [
        ((frame.astype(np.float32), 0.0, 2.0), {"speed_mps": 1.0}, "uint8"),
        ((frame[:2], 0.0, 2.0), {"speed_mps": 1.0}, "one size"),
        ((frame, 1.5, 2.0), {"speed_mps": 1.0}, "within"),
        ((frame, float("nan"), 2.0), {"speed_mps": 1.0}, "within"),
        ((frame, 0.0, 1.0), {"speed_mps": 1.0}, "rise"),
        ((frame, 0.0, float("inf")), {"speed_mps": 1.0}, "finite"),
        ((frame, 0.0, 2.0), {}, "the fields"),
        ((frame, 0.0, 2.0), {"frames": 1.0}, "cannot be called 'frames'"),
    ]:
        with pytest.raises(ValueError, match=message):
            recording.append(*arguments, **extras)
    assert len(recording) == 1
    recording.finish()
    assert load_episodes(tmp_path / "set").frame_count == 1


def test_an_episode_without_steps_leaves_nothing(tmp_path):
    with EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x")):
        pass
    with pytest.raises(ValueError, match="no usable record: it is empty"):
        load_episodes(tmp_path / "set")


def test_recording_does_not_write_into_a_foreign_directory(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="neither empty nor a data set"):
        EpisodeWriter(tmp_path)
    make_tub(tmp_path / "tub")
    before = load_episodes(tmp_path / "tub")
    with pytest.raises(ValueError, match="would be replaced"):
        materialise(before, tmp_path / "tub")
    assert load_episodes(tmp_path / "tub").frame_count == 6


def spoil_array(name: str, change: Callable[[np.ndarray], None]) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        values = np.load(directory / name)
        change(values)
        np.save(directory / name, values)

    return spoil


def set_at(index: int, value: float) -> Callable[[np.ndarray], None]:
    return lambda values: values.__setitem__(index, value)


@pytest.mark.parametrize(
    ("spoil", "reason", "left"),
    [
        (spoil_array("steering.npy", set_at(1, np.nan)), "steering or time not a number", [0, 2, 3, 4]),
        (spoil_array("steering.npy", set_at(1, 3.0)), "steering outside [-1, 1]", [0, 2, 3, 4]),
        (spoil_array("time_s.npy", set_at(2, np.nan)), "steering or time not a number", [0, 1, 3, 4]),
        (spoil_array("time_s.npy", set_at(2, 0.0)), "time stamp not after the one before", [0, 1, 3, 4]),
    ],
)
def test_a_bad_step_of_a_data_set_is_counted_and_skipped(tmp_path, spoil, reason, left):
    make_native(tmp_path / "set")
    spoil(tmp_path / "set" / "episode_000000")
    episodes = load_episodes(tmp_path / "set")
    assert episodes.skipped == {reason: 1}
    np.testing.assert_array_equal(episodes[0].frames()[:, 0, 0, 0], left)
    np.testing.assert_array_equal(episodes[0].frames(1, 3)[:, 0, 0, 0], left[1:3])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "frames.npy").write_bytes((path / "frames.npy").read_bytes()[:-5]),
        lambda path: (path / "frames.npy").write_bytes(b""),
        lambda path: (path / "frames.npy").unlink(),
        lambda path: np.save(path / "frames.npy", np.zeros((5, 4, 6), np.float32)),
        lambda path: np.save(path / "steering.npy", np.zeros(7, np.float32)),
        lambda path: np.save(path / "steering.npy", np.array([{}], object), allow_pickle=True),
        lambda path: (path / "meta.json").write_text("{"),
        lambda path: (path / "meta.json").write_text('{"nominal_period_s": -1}'),
        lambda path: (path / "time_s.npy").unlink(),
    ],
)
def test_a_damaged_episode_of_a_data_set_is_counted_and_skipped(tmp_path, spoil):
    make_native(tmp_path / "set")
    spoil(tmp_path / "set" / "episode_000000")
    episodes = load_episodes(tmp_path / "set")
    assert [len(episode) for episode in episodes] == [3]
    assert episodes.skipped == {"episode with damaged files": 1}
    assert "episode_000000 left out" in episodes.warnings[1]
    assert not any("\n" in line for line in episodes.warnings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": "other", "version": 1}', "should name the format"),
        ('{"format": "wormwheel-episodes", "version": 99}', "version 99.*use a newer program"),
    ],
)
def test_a_damaged_foreign_or_newer_header_is_a_clear_error_and_nothing_is_added(tmp_path, content, message):
    make_native(tmp_path / "set")
    (tmp_path / "set" / "dataset.json").write_text(content)
    for call in (load_episodes, EpisodeWriter):
        with pytest.raises(ValueError, match=message) as error:
            call(tmp_path / "set")
        one_line(error)


def test_episodes_of_two_sizes_in_a_data_set_are_refused(tmp_path):
    make_native(tmp_path / "set")
    make_native(tmp_path / "set", height=8)
    with pytest.raises(ValueError, match="6×4 in .*episode_000000 and 6×8 in .*episode_000002"):
        load_episodes(tmp_path / "set")


# --- decoding once ----------------------------------------------------------------------------------------------------


def test_the_cache_shows_what_the_pictures_show(tmp_path):
    make_tub(tmp_path / "tub", count=9)
    episodes = load_episodes(tmp_path / "tub")
    progress: list[tuple[int, int]] = []
    cached = materialise(
        episodes, tmp_path / "cache", lambda frames: frames[:, 2:, ::2], lambda *done: progress.append(done)
    )
    assert cached.frame_size == (10, 8)
    np.testing.assert_array_equal(cached[0].frames(), episodes[0].frames()[:, 2:, ::2])
    np.testing.assert_array_equal(cached[0].elapsed(), episodes[0].elapsed())
    assert progress[-1] == (9, 9)
    again = materialise(episodes[:1], tmp_path / "cache")
    assert again.frame_size == (12, 16)
    assert load_episodes(tmp_path / "cache").frame_count == 9
    shutil.rmtree(tmp_path / "tub")
    assert sum(batch.valid.sum() for batch in Windows(again, 4, batch_size=2)) == 9


def test_slices_and_gaps_survive_the_cache(tmp_path):
    make_tub(tmp_path / "tub", count=20)
    held = split_by_time_block(load_episodes(tmp_path / "tub"), 0.5, 0.1)[1]
    cached = materialise(held, tmp_path / "cache")
    np.testing.assert_array_equal(cached[0].frames(), held[0].frames())
    assert cached[0].meta.start_s == pytest.approx(held[0].meta.start_s)
    assert dataclasses.replace(cached[0].meta, source="") == dataclasses.replace(held[0].meta, source="")


def test_a_failing_transform_leaves_the_old_cache(tmp_path):
    make_tub(tmp_path / "tub")
    episodes = load_episodes(tmp_path / "tub")
    materialise(episodes, tmp_path / "cache")

    def fail(frames: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such crop")

    with pytest.raises(RuntimeError):
        materialise(episodes, tmp_path / "cache", fail)
    assert load_episodes(tmp_path / "cache").frame_count == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "tub"]
