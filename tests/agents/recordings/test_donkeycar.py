"""Donkeycar tubs: the manifest, the clock, sessions, and every kind of dirt."""

from __future__ import annotations

import numpy as np
import pytest

from agents.recordings import load_episodes
from tests.agents.recordings.makers import make_tub, one_line, write_catalog


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
