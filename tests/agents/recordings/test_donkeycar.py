"""Donkeycar tubs: the manifest, the clock, sessions, and every kind of dirt."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.reading.store import GzipMarks
from tests.agents.recordings.makers import make_tub, one_line, picture, save, write_catalog


def test_a_tub_steers_the_other_way_round_and_names_its_manifest_too(tmp_path):
    make_tub(tmp_path / "tub")
    episodes = load_episodes(tmp_path / "tub" / "manifest.json")
    np.testing.assert_allclose(episodes[0].steering, [0, -0.1, -0.2, -0.3, -0.4, -0.5], atol=1e-6)
    assert episodes[0].meta.nominal_period_s == 0.05  # to the last bit
    np.testing.assert_allclose(episodes[0].time_s, 0.05 * np.arange(6), rtol=0, atol=1e-12)
    assert episodes[0].extras["throttle"].tolist() == [0.5] * 6


def test_the_manifest_decides_what_counts(tmp_path):
    records = make_tub(tmp_path, deleted=(1, 4))
    write_catalog(tmp_path, records, "catalog_7.catalog")  # A left-over that the manifest does not name.
    episodes = load_episodes(tmp_path)
    np.testing.assert_allclose(-episodes[0].steering, [0, 0.2, 0.3, 0.5], atol=1e-6)
    assert episodes.skipped == {"deleted by its owner": 2, "in a catalog that the manifest passes over": 6}


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


def test_a_tub_without_manifest_is_explained(tmp_path):
    make_tub(tmp_path / "two")
    (tmp_path / "two" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="catalogs but no manifest.json") as error:
        load_episodes(tmp_path / "two")
    one_line(error)


def make_version_1(directory: Path, count: int = 6) -> None:
    """Write a tub of version 1: one JSON file a record, beside its picture."""
    directory.mkdir()
    for index in range(1, count + 1):
        save(directory / f"{index}_cam-image_array_.jpg", picture(level=10 * index))
        record = {
            "cam/image_array": f"{index}_cam-image_array_.jpg",
            "user/angle": index / 10,
            "user/throttle": 0.3,
            "user/mode": "user",
            "milliseconds": 50 * index,
        }
        (directory / f"record_{index}.json").write_text(json.dumps(record))


def test_a_tub_of_version_1_is_read_by_number_and_its_deleted_records_are_dropped(tmp_path):
    make_version_1(tmp_path / "tub", count=10)
    (tmp_path / "tub" / "exclude.json").write_text("[2]")
    (tmp_path / "tub" / "record_3.json").write_text("[" * 5000)
    episodes = load_episodes(tmp_path / "tub")
    assert episodes.skipped == {"deleted by its owner": 1, "record file damaged": 1}
    expected = [0.1, *np.arange(4, 11) / 10]
    np.testing.assert_allclose(-episodes[0].steering[:8], expected, atol=1e-6)
    np.testing.assert_allclose(episodes[0].elapsed()[:4], [1, 3, 1, 1], rtol=1e-5)


def pack(folder: Path, archive: Path) -> Path:
    """Pack a folder with its name inside, pictures in an order of their own."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), reverse=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in files:
                zipped.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix != ".tar" else "w") as tar:
            for path in files:
                tar.add(path, path.relative_to(folder.parent))
    return archive


@pytest.mark.parametrize("end", [".tar.gz", ".tgz", ".tar", ".zip"])
def test_a_packed_tub_is_read_without_unpacking(tmp_path, end):
    make_tub(tmp_path / "tub", count=30)
    plain = load_episodes(tmp_path / "tub")
    packed = load_episodes(pack(tmp_path / "tub", tmp_path / f"packed{end}"))
    assert packed.skipped == {}
    np.testing.assert_array_equal(packed[0].frames(), plain[0].frames())
    np.testing.assert_array_equal(packed[0].frames(3, 5), plain[0].frames(3, 5))
    np.testing.assert_array_equal(packed[0].steering, plain[0].steering)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["tub"]


def test_a_packed_tub_of_version_1_is_read(tmp_path):
    make_version_1(tmp_path / "tub")
    assert load_episodes(pack(tmp_path / "tub", tmp_path / "t.zip")).frame_count == 6


def test_a_gzip_stream_seeks_anywhere_by_its_marks(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, 600_000, dtype=np.uint8).tobytes()
    path = tmp_path / "stream.gz"
    # Two members, as `cat a.gz b.gz` makes them.
    path.write_bytes(gzip.compress(content[:200_000]) + gzip.compress(content[200_000:]))
    stream = io.BufferedReader(GzipMarks(path, spacing=10_000), 4096)
    for at in [0, 599_990, 5, 350_000, 199_999, 200_000, 120_000, 121_000]:
        stream.seek(at)
        assert stream.read(50) == content[at : at + 50], at


def test_an_archive_that_ends_early_keeps_what_stands_before(tmp_path):
    make_tub(tmp_path / "tub", count=30)
    archive = pack(tmp_path / "tub", tmp_path / "t.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-3000])
    try:
        episodes = load_episodes(archive)
        assert any("archive is damaged" in line for line in episodes.warnings)
    except ValueError as error:
        assert "t.tar.gz" in str(error)


def test_an_archive_of_zeros_that_would_flood_is_refused(tmp_path):
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as bomb:
        for _ in range(200):
            bomb.write(bytes(1 << 20))
    with pytest.raises(ValueError, match="bomb.tar.gz") as error:
        load_episodes(tmp_path / "bomb.tar.gz")
    one_line(error)


@pytest.mark.parametrize("key", ["user/steering", "steering", "angle"])
def test_steering_by_another_name_is_found(tmp_path, key):
    records = make_tub(tmp_path)
    write_catalog(tmp_path, [{key if name == "user/angle" else name: v for name, v in r.items()} for r in records])
    np.testing.assert_allclose(-load_episodes(tmp_path)[0].steering, [0, 0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("missing", "option"), [("user/angle", "steering-column"), ("cam/image_array", "frame-column")]
)
def test_a_missing_field_is_named_with_those_present_and_can_be_named(tmp_path, missing, option):
    records = make_tub(tmp_path)
    write_catalog(tmp_path, [{"other" if name == missing else name: v for name, v in r.items()} for r in records])
    with pytest.raises(ValueError, match=f"looked for as .*{missing}.*present: .*'other'.*--{option}") as error:
        load_episodes(tmp_path)
    one_line(error)
    assert load_episodes(tmp_path, **{option.replace("-", "_"): "other"}).frame_count == 6


def test_degrees_in_a_tub_are_refused_until_full_lock_is_given(tmp_path):
    records = make_tub(tmp_path, count=30)
    for record in records:
        record["user/angle"] *= 25
    write_catalog(tmp_path, records)
    with pytest.raises(ValueError, match="27 of 30 labels lie outside.*--degrees") as error:
        load_episodes(tmp_path)
    one_line(error)
    np.testing.assert_allclose(-load_episodes(tmp_path, degrees=25)[0].steering[:5], np.arange(5) / 10, atol=1e-6)


def test_all_catalogs_are_read_when_asked_for(tmp_path):
    records = make_tub(tmp_path)
    write_catalog(tmp_path, records[:4])
    write_catalog(tmp_path, records[4:], "catalog_1.catalog")
    assert load_episodes(tmp_path).skipped == {"in a catalog that the manifest passes over": 2}
    assert load_episodes(tmp_path, all_catalogs=True).frame_count == 6


@pytest.mark.parametrize("name", ["a\0b.jpg", "\ud800.jpg", "x" * 5000 + ".jpg", ".", ".."])
def test_a_name_that_no_file_can_have_costs_one_record(tmp_path, name):
    records = make_tub(tmp_path)
    records[3]["cam/image_array"] = name
    write_catalog(tmp_path, records)
    episodes = load_episodes(tmp_path)
    assert episodes.frame_count == 5
    assert sum(episodes.skipped.values()) == 1


def test_a_shuffled_catalog_is_put_in_order_and_repeats_go(tmp_path):
    records = make_tub(tmp_path, count=40)
    mixed = [records[i] for i in np.random.default_rng(0).permutation(40)]
    write_catalog(tmp_path, [*mixed, *mixed[:7]])
    episodes = load_episodes(tmp_path)
    assert episodes.skipped == {"repeat of an earlier record": 7}
    assert [len(episode) for episode in episodes] == [40]
    np.testing.assert_allclose(-episodes[0].steering, np.arange(40) % 10 / 10, atol=1e-6)


def test_two_drives_under_a_clock_that_was_set_back_are_not_mixed(tmp_path):
    records = make_tub(tmp_path, count=60)
    for record in records[30:]:
        record["_timestamp_ms"] -= 30 * 50 + 20
    write_catalog(tmp_path, records)
    assert [len(episode) for episode in load_episodes(tmp_path)] == [30, 30]


def test_a_stated_rate_overrules_a_clock_that_lies(tmp_path):
    records = make_tub(tmp_path)
    for record in records:
        record["_timestamp_ms"] = 1_600_000_000_000 + 20 * record["_index"]
    write_catalog(tmp_path, records)
    episodes = load_episodes(tmp_path, nominal_rate=10.0)
    np.testing.assert_allclose(episodes[0].time_s, np.arange(6) / 10)
    assert episodes.nominal_period_s == pytest.approx(0.1)


def test_fields_of_time_and_speed_are_taken_where_they_are_named(tmp_path):
    records = make_tub(tmp_path)
    for record in records:
        record["sensor/clock_us"] = 70_000 * record["_index"]
        record["gps/speed_kmh"] = 3.6 * record["_index"]
    write_catalog(tmp_path, records)
    episodes = load_episodes(tmp_path, time_column="sensor/clock_us", speed_column="gps/speed_kmh")
    np.testing.assert_allclose(episodes[0].time_s, 0.07 * np.arange(6))
    np.testing.assert_allclose(episodes[0].extras["speed_mps"], np.arange(6), rtol=1e-6)
    for option in ({"time_column": "clock"}, {"speed_column": "clock"}):
        with pytest.raises(
            ValueError, match="no record has the field 'clock'; fields present: .*'user/angle'"
        ) as error:
            load_episodes(tmp_path, **option)
        one_line(error)


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


CLOCKS: dict[str, Callable[[int], object]] = {
    "seconds": lambda i: 1.6e9 + 0.1 * i,
    "microseconds": lambda i: 1_600_000_000_000_000 + 100_000 * i,
    "nanoseconds": lambda i: 1_600_000_000_000_000_000 + 100_000_000 * i,
    "text": lambda i: f"2020-09-13T12:26:40.{i}00Z",
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_stamps_in_other_units_than_their_name_says(tmp_path, clock):
    records = make_tub(tmp_path / "tub")
    for i, record in enumerate(records):
        record["_timestamp_ms"] = CLOCKS[clock](i)
    write_catalog(tmp_path / "tub", records)
    episodes = load_episodes(tmp_path / "tub")
    assert episodes.warnings == []
    np.testing.assert_allclose(episodes[0].time_s, 0.1 * np.arange(6), atol=1e-6)


def test_running_numbers_of_which_another_program_made_floats_and_texts(tmp_path):
    records = make_tub(tmp_path / "tub")
    for record, kind in zip(records, (float, str, int, float, str, int), strict=True):
        record["_index"] = kind(record["_index"])
    write_catalog(tmp_path / "tub", records)
    content = (tmp_path / "tub" / "manifest.json").read_text()
    (tmp_path / "tub" / "manifest.json").write_text(
        content.replace('"deleted_indexes": []', '"deleted_indexes": [1.0, "2", 3]')
    )
    episodes = load_episodes(tmp_path / "tub")
    assert episodes.skipped == {"deleted by its owner": 3}
    np.testing.assert_allclose(-np.concatenate([e.steering for e in episodes]), [0, 0.4, 0.5], atol=1e-6)


def test_notes_that_macos_packs_are_no_second_tub(tmp_path):
    make_tub(tmp_path / "tub")
    with zipfile.ZipFile(tmp_path / "tub.zip", "w") as archive:
        for file in sorted((tmp_path / "tub").rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(tmp_path))
        archive.writestr("__MACOSX/tub/manifest.json", b"notes")
    assert load_episodes(tmp_path / "tub.zip").frame_count == 6
