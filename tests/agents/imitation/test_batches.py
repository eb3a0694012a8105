"""Batches cut from episodes: windows, streams, and reading ahead."""

from __future__ import annotations

import dataclasses
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.imitation.batches import Batch, Streams, Windows, read_ahead
from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from tests.agents.counted import PERIOD_S, CountedFrames, make_set


def seen(batch: Batch) -> list[tuple[int, int]]:
    """The (episode, step) pairs that count, read from the pixels."""
    pixels = batch.frames[batch.valid][:, 0, 0].astype(int)
    return [(number, low + 256 * high) for number, low, high in pixels]


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    length=st.integers(1, 12),
    burn_in=st.integers(0, 11),
    batch_size=st.integers(1, 7),
)
def test_every_step_counts_once_an_epoch_whatever_the_sizes(lengths, length, burn_in, batch_size):
    burn_in = min(burn_in, length - 1)
    episodes = make_set(lengths)
    windows = Windows(episodes, length, burn_in, batch_size=batch_size, prefetch=0)
    batches = list(windows)
    assert len(batches) == len(windows)
    counted = [pair for batch in batches for pair in seen(batch)]
    assert sorted(counted) == [(number, step) for number, steps in enumerate(lengths) for step in range(steps)]
    for batch in batches:
        fresh = batch.starts[:, 0]
        assert not batch.valid[~fresh, :burn_in].any()
        assert not batch.starts[:, 1:].any()
        np.testing.assert_array_equal(batch.frames[..., 0, 0, 1][fresh, 0], 0)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    length=st.integers(1, 12),
    stride=st.integers(1, 15),
    burn_in=st.integers(0, 5),
)
def test_windows_stay_inside_their_episode_at_any_stride(lengths, length, stride, burn_in):
    episodes = make_set(lengths)
    for batch in Windows(episodes, length, min(burn_in, length - 1), stride, batch_size=3, prefetch=0):
        for row in range(len(batch.frames)):
            number = int(batch.frames[row, 0, 0, 0, 0])
            steps = min(length, lengths[number])
            first = int(batch.frames[row, 0, 0, 0, 1])
            np.testing.assert_array_equal(batch.frames[row, :steps], episodes[number].frames(first, first + steps))
            np.testing.assert_array_equal(batch.steering[row, :steps], episodes[number].steering[first : first + steps])
            np.testing.assert_array_equal(batch.elapsed[row, :steps], episodes[number].elapsed(first, first + steps))
            assert not batch.valid[row, steps:].any()
            assert batch.valid[row].any()


def test_the_order_changes_with_epoch_and_seed_and_repeats():
    def order(seed: int, epochs: int) -> list[tuple[int, int]]:
        windows = Windows(make_set([50]), 5, batch_size=2, seed=seed, prefetch=0)
        for _ in range(epochs):
            pairs = [pair for batch in windows for pair in seen(batch)]
        return pairs

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != sorted(order(0, 1))


def test_the_pass_after_the_first_is_the_next_epoch():
    windows, there = (Windows(make_set([50]), 5, batch_size=2, prefetch=0) for _ in range(2))
    _, second = ([seen(batch) for batch in windows] for _ in range(2))
    there.load_state_dict({"seed": 0, "epoch": 1, "position": 0})
    assert second == [seen(batch) for batch in there]


def test_windows_warm_up_for_as_long_as_they_are_asked_to_and_without_asking_not_at_all():
    (batch,) = Windows(make_set([15]), 5, prefetch=0)
    assert len(batch.valid) == 3 and batch.valid.all()
    (batch,) = Windows(make_set([15]), 5, burn_in=2, stride=1, prefetch=0)  # other windows begin with every step
    within = ~batch.starts[:, 0]
    assert within.sum() == 10 and (batch.valid[within] == [False, False, True, True, True]).all()


@pytest.mark.parametrize("make", [lambda e: Windows(e, 5, 2, batch_size=2, seed=3), lambda e: Streams(e, 5, 2, seed=3)])
def test_a_pass_goes_on_where_it_stopped(make):
    episodes = make_set([21, 13, 8])
    whole = make(episodes)
    expected = [seen(batch) for _ in range(2) for batch in whole]
    stopped, got = make(episodes), []
    for batch in stopped:
        got.append(seen(batch))
        if len(got) == 3:
            break
    resumed = make(episodes)
    resumed.load_state_dict(stopped.state_dict())
    got += [seen(batch) for batch in resumed]
    got += [seen(batch) for batch in resumed]
    assert got == expected
    with pytest.raises(ValueError, match="position must lie within"):
        resumed.load_state_dict({"seed": 3, "epoch": 0, "position": 1000})


def test_memory_does_not_grow_with_the_data():
    class Pictures:
        def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((stop - start, 32, 32, 3), np.uint8), np.ones(stop - start, bool)

    def peak_bytes(steps: int) -> int:
        time_s = np.arange(steps) * PERIOD_S
        episode = Episode(np.zeros(steps, np.float32), time_s, EpisodeMeta("x", PERIOD_S, 32, 32), Pictures())
        windows = Windows(EpisodeSet((episode,)), 8, batch_size=4, prefetch=2)
        tracemalloc.start()
        try:
            for _ in windows:
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    frame_bytes = 32 * 32 * 3
    assert peak_bytes(400) > 4 * 8 * frame_bytes, "the measure sees a batch"
    assert peak_bytes(8000) - peak_bytes(400) < 0.05 * 7600 * frame_bytes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e: Windows(e, 0), "length must be at least 1"),
        (lambda e: Windows(e, 4, 4), r"burn_in must lie in \[0, length\)"),
        (lambda e: Windows(e, 4, stride=0), "stride must be at least 1"),
        (lambda e: Windows(e, 4, batch_size=0), "batch_size must be at least 1"),
        (lambda e: Streams(e, 4, prefetch=-1), "prefetch must be at least 0"),
    ],
)
def test_impossible_windows_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(make_set([5]))


def test_logs_without_pictures_cannot_be_learnt_from():
    logs = EpisodeSet((Episode(np.zeros(2, np.float32), np.array([0.0, 1.0]), EpisodeMeta("route")),))
    with pytest.raises(ValueError, match="route has no pictures"):
        Windows(logs, 4)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=7),
    length=st.integers(1, 9),
    batch_size=st.integers(1, 4),
    shuffle=st.booleans(),
)
def test_each_row_walks_through_whole_episodes_in_order(lengths, length, batch_size, shuffle):
    streams = Streams(make_set(lengths), length, batch_size, shuffle=shuffle, prefetch=0)
    batches = list(streams)
    assert len(batches) == -(-max(sum(lengths[i] for i in q) for q in streams._deal(0)) // length)
    walked = []
    for row in range(batches[0].frames.shape[0]):
        valid = np.concatenate([batch.valid[row] for batch in batches])
        pixels = np.concatenate([batch.frames[row, :, 0, 0] for batch in batches]).astype(int)
        starts = np.concatenate([batch.starts[row] for batch in batches])
        assert not valid[valid.sum() :].any(), "padding comes last"
        pairs = pixels[valid][:, :2]
        np.testing.assert_array_equal(starts[valid], pairs[:, 1] == 0)
        for stretch in np.split(pairs, np.flatnonzero(starts[valid])[1:]):
            number = int(stretch[0, 0])
            np.testing.assert_array_equal(stretch[:, 1], np.arange(lengths[number]))
            walked.append(number)
    assert sorted(walked) == list(range(len(lengths)))


def test_streams_share_the_work_and_keep_the_order_when_asked():
    streams = Streams(make_set([10] * 8), 5, batch_size=4, shuffle=False)
    assert len(streams) == 4
    first = next(iter(streams))
    assert first.frames[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert first.starts[:, 0].all()


def reading_threads() -> int:
    return sum(thread.name == "read-ahead" for thread in threading.enumerate())


def test_an_error_in_the_thread_reaches_the_consumer_and_the_thread_ends():
    class Broken(CountedFrames):
        def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            if start >= 8:
                raise OSError("the stick was pulled out")
            return super().read(start, stop)

    good = make_set([20])[0]
    streams = Streams(EpisodeSet((dataclasses.replace(good, source=Broken(0)),)), 4, shuffle=False)
    got = 0
    with pytest.raises(OSError, match="pulled out"):
        for _ in streams:
            got += 1
    assert got == 2
    assert streams.state_dict()["position"] == 2
    assert reading_threads() == 0


@pytest.mark.parametrize("depth", [0, 1])
def test_reading_ahead_by_nothing_needs_no_thread(depth: int):
    made: list[int] = []
    with read_ahead((made.append(i) or i for i in range(3)), depth) as ready:
        assert reading_threads() == depth
        assert next(ready) == 0 and (depth or made == [0])


def test_leaving_early_leaves_no_thread():
    for _batch in Windows(make_set([200]), 4, batch_size=2):
        assert reading_threads() == 1
        break
    assert reading_threads() == 0


def test_no_more_is_read_than_the_queue_holds():
    made = []
    with read_ahead((made.append(i) or i for i in range(100)), depth=3) as ready:
        assert next(ready) == 0
        time.sleep(0.2)
        assert len(made) <= 1 + 3 + 1  # taken, queued, and one in the hand of the thread
    assert reading_threads() == 0
