"""Decoding once into a data set of raw frames."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from agents.imitation.batches import Windows
from agents.recordings import load_episodes
from agents.recordings.cache import cache_frames
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
