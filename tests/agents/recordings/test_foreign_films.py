"""Tables beside films: which row belongs to which frame, and films of phones, cuts and other containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from tests.agents.recordings.makers import one_line
from tests.agents.recordings.test_foreign_tables import COUNT, EPOCH_S, STEERING, at, table
from tests.agents.recordings.test_table import make_film, number_of


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder / "drive.mp4", COUNT)
    return folder


def check_film(episodes: EpisodeSet) -> None:
    numbers = number_of(episodes[0].frames())
    np.testing.assert_allclose(episodes[0].steering, STEERING[numbers], atol=1e-3)


def test_a_table_that_is_not_in_order_keeps_the_zero_of_its_clock(film):
    row = lambda i, s: f"{10 + 0.05 * i:.3f},{s}"  # noqa: E731
    episodes = load_episodes(table(film, "time,steering", row, range(COUNT)[::-1]), offset_s=10)
    assert episodes.frame_count == COUNT
    check_film(episodes)


def test_frames_that_are_counted_come_before_a_clock_with_another_zero(film):
    row = lambda i, s: f"{i},{EPOCH_S + 0.05 * i:.3f},{s}"  # noqa: E731
    check_film(load_episodes(table(film, "frame,timestamp,steering", row, range(8, COUNT))))


def test_frames_that_are_counted_from_one(film):
    episodes = load_episodes(table(film, "frame,steering", lambda i, s: f"{i + 1},{s}"))
    assert episodes.frame_count == COUNT and any("counted from 1" in line for line in episodes.warnings)
    check_film(episodes)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("timestamp,steering", lambda i, s: f"{EPOCH_S + 0.08 * i:.3f},{s}"),
        ("time,steering", lambda i, s: f"{0.08 * i:.3f},{s}"),
        ("frame,time,steering", lambda i, s: f"{i},{0.08 * i:.3f},{s}"),
        ("frame,timestamp,steering", lambda i, s: f"{i + 1},{EPOCH_S + 0.08 * i:.3f},{s}"),
    ],
)
def test_a_film_written_at_another_rate_has_the_clock_of_its_rows(film, header, row):
    """Programs fix a film's rate before they know the camera's: its own clock would move every label."""
    episodes = load_episodes(table(film, header, row))
    assert episodes.frame_count == COUNT and any("another rate" in line for line in episodes.warnings)
    check_film(episodes)
    assert episodes[0].meta.nominal_period_s == pytest.approx(0.08, abs=1e-3)
    np.testing.assert_allclose(np.diff(episodes[0].time_s), 0.08, atol=1e-3)


def test_a_log_of_another_rate_than_the_film_is_on_its_clock(film):
    row = lambda i, s: f"{i // 2},{0.05 * i:.3f},{s}"  # noqa: E731
    episodes = load_episodes(table(film, "frame,time,steering", row, range(0, COUNT, 2)))
    np.testing.assert_allclose(episodes[0].steering[::2], STEERING[::2], atol=1e-3)
    assert episodes[0].meta.nominal_period_s == pytest.approx(0.05)


def test_frames_whose_first_has_no_row_are_counted_from_zero_and_it_is_said(film):
    row = lambda i, s: f"{i},{s}"  # noqa: E731
    episodes = load_episodes(table(film, "frame,steering", row, range(1, COUNT)))
    assert any("there is no row of frame 0" in line for line in episodes.warnings)
    check_film(episodes)


def test_moments_of_a_calendar_begin_with_the_film(film):
    check_film(load_episodes(table(film, "time,steering", lambda i, s: f"{at(i, '%H:%M:%S.%f')},{s}"), nominal_rate=10))


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("index,steering", lambda i, s: "\n".join(f"{5 * i + k},{s}" for k in range(5)), "30 frames.*150 rows"),
        ("time,steering", lambda i, s: f"{12_345 + 0.05 * i:.2f},{s}", "do not meet: give --offset-s 12345 "),
    ],
)
def test_tables_that_do_not_belong_to_the_film_as_they_stand_are_refused(film, header, row, message):
    with pytest.raises(ValueError, match=message) as error:
        load_episodes(table(film, header, row))
    one_line(error)


@pytest.mark.parametrize(("degrees", "matrix"), [(180, (-1, 0, 0, -1)), (90, (0, 1, -1, 0)), (270, (0, -1, 1, 0))])
def test_a_film_is_shown_as_its_camera_was_held(tmp_path, degrees, matrix):
    make_film(tmp_path / "drive.mp4", 3)
    content = bytearray((tmp_path / "drive.mp4").read_bytes())
    place = content.index(b"tkhd") + 44  # the matrix of ISO/IEC 14496-12, 16.16 fixed point
    for slot, value in zip((0, 1, 3, 4), matrix, strict=True):
        content[place + 4 * slot : place + 4 * slot + 4] = int(value * 65_536).to_bytes(4, "big", signed=True)
    (tmp_path / "drive.mp4").write_bytes(content)
    frame = load_episodes(table(tmp_path, "frame,steering", lambda i, s: f"{i},{s}", range(3)))[0].frames()[0]
    assert frame.shape == ((16, 32, 3) if degrees == 180 else (32, 16, 3))


def cut_film(source: Path, target: Path, show: int) -> None:
    """Cut a film without decoding, as phones do: what lies between the key frame and the cut stays in it, unshown."""
    with (
        av.open(str(source)) as before,
        av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as after,
    ):
        stream = before.streams.video[0]
        copy = after.add_stream_from_template(stream)
        assert stream.time_base is not None
        period = round(1 / (20 * stream.time_base))
        packets = [packet for packet in before.demux(stream) if packet.pts is not None and packet.dts is not None]
        key = max(packet.pts or 0 for packet in packets if packet.is_keyframe and (packet.pts or 0) < show * period)
        for packet in packets:
            if packet.pts is not None and packet.dts is not None and packet.pts >= key:
                packet.pts, packet.dts, packet.stream = packet.pts - show * period, packet.dts - show * period, copy
                after.mux(packet)


@pytest.mark.parametrize("clock", ["frame", "time"])
def test_a_film_that_was_cut_keeps_its_labels(film, tmp_path, clock):
    cut_film(film / "drive.mp4", tmp_path / "drive.mp4", show=14)
    row = lambda i, s: f"{i if clock == 'frame' else 0.05 * i},{STEERING[(i + 14) % COUNT]}"  # noqa: E731
    episodes = load_episodes(table(tmp_path, f"{clock},steering", row, range(COUNT - 14)))
    assert episodes.frame_count == COUNT - 14
    np.testing.assert_array_equal(number_of(episodes[0].frames()), np.arange(14, COUNT))
    np.testing.assert_allclose(episodes[0].steering, STEERING[14:], atol=1e-3)


def test_frames_that_the_decoder_leaves_out_do_not_move_the_others(film, monkeypatch):
    from agents.recordings.reading import video

    whole = video._decode

    def broken(*given: Any) -> Any:
        yield from (one for number, one in enumerate(whole(*given)) if number not in (3, 4, 11))

    source = video.VideoFile(film / "drive.mp4")
    source.stamps_s()
    monkeypatch.setattr(video, "_decode", broken)
    frames, good = source.read(0, COUNT)
    lost = np.isin(np.arange(COUNT), [3, 4, 11])
    np.testing.assert_array_equal(good, ~lost)
    np.testing.assert_array_equal(number_of(frames)[~lost], np.flatnonzero(~lost))
    np.testing.assert_array_equal(number_of(frames)[lost], [2, 2, 10])
    np.testing.assert_array_equal(number_of(source.read(7, 20)[0])[[0, -1]], [7, 19])


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mov", ".ts"])
def test_films_in_other_containers(tmp_path, suffix):
    make_film(tmp_path / f"drive{suffix}", COUNT)
    episodes = load_episodes(table(tmp_path, "frame,steering", lambda i, s: f"{i},{s}"))
    frames, good = episodes[0].checked_frames()
    assert good.all()
    np.testing.assert_array_equal(number_of(frames), np.arange(COUNT))
    np.testing.assert_array_equal(number_of(episodes[0].frames(20, 23)), [20, 21, 22])


def test_time_stamps_that_avi_makes_up_move_no_frame(tmp_path, monkeypatch):
    from agents.recordings.reading import video

    whole = video._decode

    def swapped(*given: Any) -> Any:
        found = list(whole(*given))
        yield from ((found[{8: 9, 9: 8}.get(number, number)][0], frame) for number, (_, frame) in enumerate(found))

    make_film(tmp_path / "drive.avi", COUNT)
    source = video.VideoFile(tmp_path / "drive.avi")
    source.stamps_s()
    monkeypatch.setattr(video, "_decode", swapped)
    frames, good = source.read(0, COUNT)
    assert good.all()
    np.testing.assert_array_equal(number_of(frames), np.arange(COUNT))


def test_a_film_in_a_folder_beside_its_table(film, tmp_path):
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "front.mp4").write_bytes((film / "drive.mp4").read_bytes())
    path = table(tmp_path, "frame,steering", lambda i, s: f"{i},{s}")
    for given in (tmp_path, path):
        check_film(load_episodes(given))
