"""Decoding once into a data set of raw frames."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from agents.imitation.batches import Windows
from agents.recordings import load_episodes
from agents.recordings.cache import HeldFrames, cache_frames, held_in_memory
from agents.recordings.splits import split_by_time_block
from tests.agents.recordings.makers import make_tub


def test_the_cache_shows_what_the_pictures_show(tmp_path):
    make_tub(tmp_path / "tub", count=9)
    episodes = load_episodes(tmp_path / "tub")
    progress: list[tuple[int, int]] = []
    cached = cache_frames(
        episodes, tmp_path / "cache", lambda frames: frames[:, 2:, ::2], lambda *done: progress.append(done)
    )
    assert cached.frame_size == (10, 8)
    np.testing.assert_array_equal(cached[0].frames(), episodes[0].frames()[:, 2:, ::2])
    np.testing.assert_array_equal(cached[0].elapsed(), episodes[0].elapsed())
    assert progress[-1] == (9, 9)
    again = cache_frames(episodes[:1], tmp_path / "cache")
    assert again.frame_size == (12, 16)
    assert load_episodes(tmp_path / "cache").frame_count == 9
    shutil.rmtree(tmp_path / "tub")
    assert sum(batch.valid.sum() for batch in Windows(again, 4, batch_size=2)) == 9


def test_slices_and_gaps_survive_the_cache(tmp_path):
    make_tub(tmp_path / "tub", count=20)
    held = split_by_time_block(load_episodes(tmp_path / "tub"), 0.5, 0.1)[1]
    cached = cache_frames(held, tmp_path / "cache")
    np.testing.assert_array_equal(cached[0].frames(), held[0].frames())
    assert cached[0].meta.start_s == pytest.approx(held[0].meta.start_s)
    assert dataclasses.replace(cached[0].meta, source="") == dataclasses.replace(held[0].meta, source="")


def test_a_failing_transform_leaves_the_old_cache(tmp_path):
    make_tub(tmp_path / "tub")
    episodes = load_episodes(tmp_path / "tub")
    cache_frames(episodes, tmp_path / "cache")

    def fail(frames: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such crop")

    with pytest.raises(RuntimeError):
        cache_frames(episodes, tmp_path / "cache", fail)
    assert load_episodes(tmp_path / "cache").frame_count == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "tub"]


def test_many_chunks_come_in_order_and_bad_pictures_stay_out(tmp_path, monkeypatch):
    make_tub(tmp_path / "tub", count=40)
    monkeypatch.setattr("agents.recordings.cache.CHUNK_BYTES", 3 * 12 * 16 * 3)  # three frames
    episodes = load_episodes(tmp_path / "tub")
    bad = tmp_path / "tub" / "images" / "7_cam_image_array_.jpg"
    bad.write_bytes(bad.read_bytes()[:60] + b"\xff\xd9")
    cached = cache_frames(episodes, tmp_path / "cache")
    kept = [step for step in range(40) if step != 7]
    assert cached.frame_count == 39 and cached.skipped == {"picture that cannot be decoded": 1}
    np.testing.assert_array_equal(np.concatenate([e.steering for e in cached]), episodes[0].steering[kept])
    np.testing.assert_array_equal(cached[0].frames(20, 39), episodes[0].frames(21, 40))


def test_small_sets_are_held_and_large_ones_are_not(tmp_path):
    make_tub(tmp_path / "tub", count=10)
    cached = cache_frames(load_episodes(tmp_path / "tub"), tmp_path / "cache")
    held = held_in_memory(cached)
    assert isinstance(held[0].source, HeldFrames)
    np.testing.assert_array_equal(held[0].slice(3, 9).frames(1, 4), cached[0].frames(4, 7))
    assert held_in_memory(cached, most_bytes=10 * 12 * 16 * 3 - 1) is cached
