"""comma2k19: logs interpolated to the camera's clock, with and without video."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from agents.imitation.batches import Windows
from agents.recordings import load_episodes
from agents.recordings.cache import cache_frames
from agents.recordings.reading.video import VideoFile
from agents.recordings.splits import split_by_source
from tests.agents.recordings.makers import one_line, real
from tests.agents.recordings.test_table import make_film, number_of

ROUTE = "b0c9|2018-08-02--08-34-47"


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, values)


def make_segment(directory: Path, frames: int = 40, video: int = 0) -> None:
    """Steering rises by 9 degrees a second, speed is 20 m/s; `video` frames of rising brightness."""
    fast_s = 100 + np.arange(0, frames * 0.05 + 0.1, 0.0112)
    save(directory / "processed_log/CAN/steering_angle/t", fast_s)
    save(directory / "processed_log/CAN/steering_angle/value", 9 * (fast_s - 100))
    save(directory / "processed_log/CAN/speed/t", fast_s)
    save(directory / "processed_log/CAN/speed/value", np.full((len(fast_s), 1), 20.0))
    save(directory / "global_pose/frame_times", 100 + 0.05 * np.arange(frames))
    if video:
        with av.open(str(directory / "video.hevc"), "w", format="hevc") as container:
            stream = container.add_stream("libx265", rate=20, options={"x265-params": "log-level=none"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(video):
                picture = np.full((48, 64, 3), 5 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def test_the_real_segment():
    episodes = load_episodes(real("comma2k19_segment"))
    assert [len(episode) for episode in episodes] == [1200]
    assert episodes.nominal_period_s == pytest.approx(0.05, abs=1e-5)
    assert episodes[0].steering.min() * 450 == pytest.approx(-4.6, abs=0.1)
    assert 16 < episodes[0].extras["speed_mps"].mean() < 17
    assert "no video.hevc" in episodes.warnings[0]
    with pytest.raises(ValueError, match="no pictures, only logs") as error:
        Windows(episodes, 8)
    one_line(error)


def test_logs_are_interpolated_to_the_frames_wherever_the_path_points(tmp_path):
    make_segment(tmp_path / "Chunk_1" / ROUTE / "3")
    for path in (tmp_path, tmp_path / "Chunk_1", tmp_path / "Chunk_1" / ROUTE, tmp_path / "Chunk_1" / ROUTE / "3"):
        episode = load_episodes(path, full_lock_deg=90.0)[0]
        np.testing.assert_allclose(episode.steering, 0.1 * 0.05 * np.arange(40), atol=1e-6)
        np.testing.assert_allclose(episode.extras["speed_mps"], 20.0)


def test_segments_are_in_order_of_their_number_and_routes_are_kept_apart(tmp_path):
    for place in ("a/10", "a/9", "b/0"):
        make_segment(tmp_path / place)
    episodes = load_episodes(tmp_path)
    assert [episode.meta.extra["segment"] for episode in episodes] == ["9", "10", "0"]
    np.testing.assert_allclose([episode.meta.start_s for episode in episodes], [0, 2, 0], rtol=1e-6)
    train, held = split_by_source(episodes, 0.5)
    assert {e.meta.source for e in train}.isdisjoint(e.meta.source for e in held)
    assert train.frame_count + held.frame_count == 120
    with pytest.raises(ValueError, match="at least 2 sources"):
        split_by_source(held)


def test_frames_without_a_label_and_damaged_segments_are_counted(tmp_path):
    make_segment(tmp_path / "a/0")
    make_segment(tmp_path / "a/1")
    make_segment(tmp_path / "a/2")
    log = tmp_path / "a/0/processed_log/CAN/steering_angle"
    fast_s, value = np.load(log / "t"), np.load(log / "value")
    silent = (fast_s > 100.5) & (fast_s < 101.5)
    value[3] = np.nan
    save(log / "t", fast_s[~silent])
    save(log / "value", value[~silent])
    (tmp_path / "a/1/global_pose/frame_times").write_bytes(b"\x93NUMPY\x01\x00")
    episodes = load_episodes(tmp_path, max_gap_s=0.5)
    assert [len(episode) for episode in episodes] == [14, 13, 40]
    assert episodes.skipped == {"frame without a steering sample near it": 13, "segment with damaged files": 1}
    np.testing.assert_allclose(episodes[0].steering, 9 / 450 * 0.05 * np.arange(14), atol=1e-6)


def test_a_video_is_read_frame_by_frame(tmp_path):
    make_segment(tmp_path / "a/0", video=40)
    make_segment(tmp_path / "a/1")
    episodes = load_episodes(tmp_path)
    assert episodes.skipped == {"segment without video": 1}
    assert episodes.frame_size == (48, 64)
    for start, stop in ((0, 3), (10, 12), (5, 7), (39, 40), (0, 40)):
        level = episodes[0].frames(start, stop).mean((1, 2, 3))
        np.testing.assert_allclose(level, 5 * np.arange(start, stop), atol=3)
    cached = cache_frames(episodes, tmp_path / "cache", lambda frames: frames[:, ::2, ::2])
    np.testing.assert_array_equal(cached[0].frames(7, 9), episodes[0].frames(7, 9)[:, ::2, ::2])


def test_a_video_shorter_than_its_log_is_used_as_far_as_it_goes(tmp_path, caplog):
    make_segment(tmp_path / "0", video=30)
    episodes = load_episodes(tmp_path / "0")
    frames, good = episodes[0].checked_frames(25, 35)
    assert good.tolist() == [True] * 5 + [False] * 5
    np.testing.assert_array_equal(frames[5:], frames[[4] * 5])
    assert "ends at frame 30" in caplog.text
    assert [len(episode) for episode in cache_frames(episodes, tmp_path / "cache")] == [30]
    (tmp_path / "0" / "video.hevc").write_bytes(b"not a video")
    with pytest.raises(ValueError, match="no frame of it can be decoded") as error:
        VideoFile(tmp_path / "0" / "video.hevc")
    one_line(error)


def test_frames_that_a_film_does_not_have_are_counted(tmp_path):
    make_segment(tmp_path, frames=40)
    make_film(tmp_path / "video.mp4", 25)
    episodes = load_episodes(tmp_path)
    assert episodes.frame_count == 25 and episodes.skipped == {"frame that the film does not have": 15}
    np.testing.assert_array_equal(number_of(episodes[0].frames()), np.arange(25))
