"""Labels in a table beside pictures or a video: columns, units, clocks, offsets."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from agents.recordings import load_episodes
from tests.agents.recordings.makers import one_line, picture, save

COUNT = 40
STEERING = np.round(np.sin(np.arange(COUNT) / 5) * 0.8, 4)


def make_film(path: Path, count: int = COUNT, fps: int = 20) -> None:
    """Write a film whose frames tell their number by their brightness, 5 levels a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.options = {"crf": "1", "g": "10"}
        for index in range(count):
            frame = np.full((16, 32, 3), 5 * index + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def number_of(frames: np.ndarray) -> np.ndarray:
    return np.round((frames.mean((1, 2, 3)) - 20) / 5).astype(int)


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_video_and_a_table_with_offset_and_degrees(tmp_path):
    make_film(tmp_path / "drive.mp4")
    # The table's clock is 0.4 s ahead, and at 50 Hz.
    times = np.arange(0, 2.4, 0.02)
    rows = [f"{t + 0.4:.3f},{25 * np.interp(t, np.arange(COUNT) / 20, STEERING):.5f},7" for t in times]
    table = write(tmp_path / "log.csv", "t,angle,other", rows)
    episodes = load_episodes(tmp_path / "drive.mp4", table=table, steering_column="angle", degrees=25, offset_s=0.4)
    assert [len(e) for e in episodes] == [COUNT]
    np.testing.assert_allclose(episodes[0].steering, STEERING, atol=4e-3)
    np.testing.assert_array_equal(number_of(episodes[0].frames()), np.arange(COUNT))
    np.testing.assert_allclose(episodes[0].elapsed(), 1, rtol=1e-3)
    assert "taken to go left" in episodes.warnings[0]
    turned = load_episodes(tmp_path / "drive.mp4", table=table, degrees=25, offset_s=0.4, positive="right")
    np.testing.assert_array_equal(turned[0].steering, -episodes[0].steering)
    assert turned.warnings == []


def test_an_offset_between_clocks_is_refused_where_there_is_one_clock(tmp_path):
    for index in range(6):
        save(tmp_path / "img" / f"{index}.png", picture(level=index))
    write(tmp_path / "log.csv", "image,steering,time", [f"img/{i}.png,{i / 10},{i / 20}" for i in range(6)])
    with pytest.raises(ValueError, match="--offset-s is between a table's clock and a video's") as error:
        load_episodes(tmp_path / "log.csv", offset_s=0.1)
    one_line(error)


def test_a_rate_lays_a_video_out_whatever_elapsed_time_is_counted_in(tmp_path):
    make_film(tmp_path / "drive.mp4")
    write(tmp_path / "drive.csv", "frame,steering", [f"{i},{STEERING[i]}" for i in range(COUNT)])
    episode = load_episodes(tmp_path / "drive.mp4", positive="left", nominal_rate=10.0, nominal_period_s=0.05)[0]
    np.testing.assert_allclose(np.diff(episode.time_s), 0.1)
    np.testing.assert_allclose(episode.elapsed()[1:], 2.0)


def test_frames_without_a_row_near_them_have_no_label(tmp_path):
    make_film(tmp_path / "drive.mp4")
    write(tmp_path / "drive.csv", "time,steering", [f"{i / 20},{STEERING[i]}" for i in range(20)])
    episodes = load_episodes(tmp_path / "drive.mp4", positive="left")
    assert episodes.frame_count == 30, "20 frames, and those within half a second of the last row"
    assert episodes.skipped == {"frame without a row near it": 10}


def test_rows_that_count_frames(tmp_path):
    make_film(tmp_path / "drive.mp4")
    chosen = [3, 9, 8, 25, 25, 99]
    write(tmp_path / "a.csv", "frame,steering", [f"{i},{i / 100}" for i in chosen])
    episodes = load_episodes(tmp_path / "a.csv", positive="left", max_gap_s=10)
    np.testing.assert_array_equal(number_of(episodes[0].frames()), [3, 8, 9, 25])
    np.testing.assert_allclose(episodes[0].steering, [0.03, 0.08, 0.09, 0.25], rtol=1e-5)
    assert episodes.skipped == {"row of a frame that the video does not have": 1, "repeat of an earlier record": 1}
    write(tmp_path / "a.csv", "steering", [f"{s}" for s in STEERING])
    row_by_row = load_episodes(tmp_path / "a.csv", positive="left")
    np.testing.assert_allclose(row_by_row[0].steering, STEERING, rtol=1e-5)
    write(tmp_path / "a.csv", "steering", [f"{s}" for s in STEERING[:30]])
    with pytest.raises(ValueError, match="40 frames and the table 30 rows.*--time-column") as error:
        load_episodes(tmp_path / "a.csv")
    one_line(error)


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1e3), ("us", 1e6), ("ns", 1e9), ("s", 1.0)])
@pytest.mark.parametrize("named", [True, False])
def test_pictures_and_time_in_every_unit(tmp_path, unit, factor, named):
    rows = []
    for index in range(COUNT):
        save(tmp_path / "frames" / f"{index:03d}.png", picture(level=index))
        rows.append(f"frames/{index:03d}.png,{STEERING[index]},{1_700_000_000 * factor + 0.05 * index * factor:.3f}")
    write(tmp_path / "labels.csv", f"image,steering,timestamp{'_' + unit if named else ''}", rows[::-1])
    for place in (tmp_path, tmp_path / "labels.csv"):
        episodes = load_episodes(place, positive="right")
        np.testing.assert_allclose(-episodes[0].steering, STEERING, atol=1e-6)
        np.testing.assert_allclose(episodes[0].elapsed(), 1, rtol=1e-2)
        np.testing.assert_array_equal(episodes[0].frames()[:, -1, 0, 0], np.arange(COUNT))


def test_parquet_is_read_like_csv(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for index in range(COUNT):
        save(tmp_path / f"{index}.bmp", picture(level=index))
    columns = {"path": [f"{i}.bmp" for i in range(COUNT)], "steering": STEERING, "speed_kmh": np.full(COUNT, 36.0)}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    episodes = load_episodes(tmp_path / "labels.parquet", positive="left", nominal_rate=10.0)
    np.testing.assert_allclose(episodes[0].steering, STEERING, rtol=1e-5)
    np.testing.assert_allclose(episodes[0].extras["speed_mps"], 10.0)
    assert episodes.nominal_period_s == pytest.approx(0.1)


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".png", ".jpg", ".npy"])
@pytest.mark.parametrize("padding", [b"", b"\0" * 5000, b"\xff" * 3000])
def test_pictures_of_every_kind_with_padding(tmp_path, suffix, padding):
    for index in range(3):
        path = tmp_path / f"{index}{suffix}"
        if suffix == ".npy":
            np.save(path, picture(level=index))
        else:
            assert cv2.imwrite(str(path), picture(level=index)[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
        path.write_bytes(path.read_bytes() + padding)
    write(tmp_path / "labels.csv", "image,steering", [f"{i}{suffix},0.1" for i in range(3)])
    episodes = load_episodes(tmp_path, positive="left")
    assert episodes.skipped == {}
    frames = episodes[0].frames()
    assert frames.shape == (3, 12, 16, 3)
    assert np.abs(frames[1].astype(int) - picture(level=1)).mean() < 12
    for index in range(3):
        path = tmp_path / f"{index}{suffix}"
        path.write_bytes(path.read_bytes()[: (len(path.read_bytes()) - len(padding)) // 2])
    with pytest.raises(ValueError, match="3 × picture (file truncated|header damaged)"):
        load_episodes(tmp_path)


@pytest.mark.parametrize("make", ["pipe", "zero", "directory"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make):
    import os

    save(tmp_path / "0.png", picture())
    if make == "pipe":
        os.mkfifo(tmp_path / "1.png")
    elif make == "zero":
        (tmp_path / "1.png").symlink_to("/dev/zero")
    else:
        (tmp_path / "1.png").mkdir()
    write(tmp_path / "labels.csv", "image,steering", ["0.png,0.1", "1.png,0.2"])
    episodes = load_episodes(tmp_path, positive="left")
    assert episodes.frame_count == 1 and sum(episodes.skipped.values()) == 1


def test_a_picture_beyond_reason_is_counted_not_decoded(tmp_path):
    import struct

    save(tmp_path / "0.png", picture())
    for name in ("1.png", "1.jpg", "1.bmp"):
        save(tmp_path / name, picture())
    content = bytearray((tmp_path / "1.png").read_bytes())
    content[16:24] = struct.pack(">II", 65_500, 65_500)
    (tmp_path / "1.png").write_bytes(content)
    jpeg = bytearray((tmp_path / "1.jpg").read_bytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    (tmp_path / "1.jpg").write_bytes(jpeg)
    bmp = bytearray((tmp_path / "1.bmp").read_bytes())
    bmp[18:26] = struct.pack("<ii", 65_500, 65_500)
    (tmp_path / "1.bmp").write_bytes(bmp)
    write(tmp_path / "labels.csv", "image,steering", [f"{n},0.1" for n in ("0.png", "1.png", "1.jpg", "1.bmp")])
    episodes = load_episodes(tmp_path, positive="left")
    assert episodes.frame_count == 1 and sum(episodes.skipped.values()) == 3


def test_part_of_a_drive(tmp_path):
    make_film(tmp_path / "drive.mp4")
    write(tmp_path / "drive.csv", "time,steering", [f"{i / 20},{STEERING[i]}" for i in range(COUNT)])
    part = load_episodes(tmp_path / "drive.mp4", from_s=0.5, to_s=1.0, positive="left")
    np.testing.assert_array_equal(number_of(part[0].frames()), np.arange(10, 20))
    with pytest.raises(ValueError, match="no frame from 9 s to its end; it is 2.0 s long"):
        load_episodes(tmp_path / "drive.mp4", from_s=9.0)
    with pytest.raises(ValueError, match="to_s must be later"):
        load_episodes(tmp_path / "drive.mp4", from_s=2.0, to_s=1.0)
    with pytest.raises(ValueError, match="there is no episode 3"):
        load_episodes(tmp_path / "drive.mp4", episodes=(0, 3))


def test_a_video_without_a_table_says_what_it_needs(tmp_path):
    make_film(tmp_path / "drive.mp4")
    with pytest.raises(ValueError, match="video without labels.*--table") as error:
        load_episodes(tmp_path / "drive.mp4")
    one_line(error)
    write(tmp_path / "none.csv", "a,b", ["1,2"])
    with pytest.raises(ValueError, match="should have a column for steering, it has: 'a', 'b'"):
        load_episodes(tmp_path / "drive.mp4", table=tmp_path / "none.csv")
