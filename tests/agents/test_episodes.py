"""Episodes, their splits, and the batches cut from them."""

from __future__ import annotations

import dataclasses
import threading
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.episodes import ELAPSED_RANGE, Episode, EpisodeMeta, EpisodeSet
from agents.prefetch import read_ahead
from agents.splits import split_by_episode, split_by_time_block
from agents.windows import Batch, Streams, Windows

PERIOD_S = 0.05


class CountedFrames:
    """Frames of 1×2 pixels that hold episode number and step, made on demand."""

    def __init__(self, number: int) -> None:
        self.number = number

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        steps = np.arange(start, stop)
        frames = np.zeros((len(steps), 1, 2, 3), np.uint8)
        frames[:, 0, 0, 0] = self.number
        frames[:, 0, 0, 1] = steps % 256
        frames[:, 0, 0, 2] = steps // 256
        return frames, np.ones(len(steps), bool)


def make_set(lengths: Sequence[int], source: str = "one") -> EpisodeSet:
    """Episodes whose steering tells the step too."""
    episodes, start_s = [], 0.0
    for number, length in enumerate(lengths):
        meta = EpisodeMeta(source, PERIOD_S, 1, 2, start_s=start_s)
        steps = np.arange(length)
        episodes.append(Episode((steps / 1e4).astype(np.float32), steps * PERIOD_S, meta, CountedFrames(number)))
        start_s += length * PERIOD_S
    return EpisodeSet(tuple(episodes))


def seen(batch: Batch) -> list[tuple[int, int]]:
    """The (episode, step) pairs that count, read from the pixels."""
    pixels = batch.frames[batch.valid][:, 0, 0].astype(int)
    return [(number, low + 256 * high) for number, low, high in pixels]


# --- episodes ---------------------------------------------------------------------------------------------------------


def test_elapsed_counts_nominal_periods_and_is_one_at_the_first_frame():
    time_s = np.array([7.0, 7.05, 7.15, 7.151, 27.0])
    episode = Episode(np.zeros(5, np.float32), time_s, EpisodeMeta("x", PERIOD_S))
    np.testing.assert_allclose(episode.elapsed(), [1, 1, 2, ELAPSED_RANGE[0], ELAPSED_RANGE[1]], rtol=1e-6)
    np.testing.assert_allclose(episode.elapsed(2, 3), [2], rtol=1e-6)
    np.testing.assert_allclose(episode.with_nominal_period(0.1).elapsed(1, 3), [0.5, 1], rtol=1e-6)
    assert episode.elapsed().dtype == np.float32


def test_a_slice_is_a_view_that_shows_the_same_frames_and_knows_its_place_in_time():
    whole = make_set([30])[0]
    part = whole.slice(10, 20).slice(2, 5)
    np.testing.assert_array_equal(part.frames(), whole.frames(12, 15))
    assert np.shares_memory(part.steering, whole.steering)
    assert part.meta.start_s == pytest.approx(12 * PERIOD_S)
    assert part.elapsed()[0] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steering": np.array([0, np.nan], np.float32)}, "steering must be finite"),
        ({"steering": np.array([0, 1.5], np.float32)}, r"within \[-1, 1\]"),
        ({"time_s": np.array([1.0, 1.0])}, "rise strictly"),
        ({"time_s": np.array([1.0, np.inf])}, "finite"),
        ({"time_s": np.array([1.0])}, "one entry for each of the 2 steps, got 1"),
        ({"extras": {"speed_mps": np.zeros(3)}}, "speed_mps must have one entry"),
        ({"steering": np.zeros(0, np.float32)}, "at least one frame"),
    ],
)
def test_an_episode_refuses_what_would_poison_training(change, message):
    good = {"steering": np.zeros(2, np.float32), "time_s": np.array([0.0, 1.0]), "meta": EpisodeMeta("tub")}
    with pytest.raises(ValueError, match=message):
        Episode(**{**good, **change})


def test_meta_survives_json_and_keys_of_a_later_version():
    meta = EpisodeMeta("tub", 0.1, 48, 96, "bullet", "warp", 7, 1.5, {"wear": 0.2})
    assert EpisodeMeta.from_json({**meta.to_json(), "not yet known": 1}) == meta


def test_sets_tell_their_size_and_rate_or_name_what_differs():
    one, two = make_set([4, 6]), make_set([3], "two")
    assert (one.frame_count, one.frame_size, one.nominal_period_s) == (10, (1, 2), PERIOD_S)
    assert one.duration_s == pytest.approx(10 * PERIOD_S)
    large = dataclasses.replace(two[0], meta=dataclasses.replace(two[0].meta, height=5, nominal_period_s=0.1))
    mixed = EpisodeSet((*one, large))
    with pytest.raises(ValueError, match="2×1 in one and 2×5 in two"):
        _ = mixed.frame_size
    with pytest.raises(ValueError, match=r"\[0.05, 0.1\]"):
        _ = mixed.nominal_period_s
    assert mixed.with_nominal_period(0.2).nominal_period_s == 0.2


def test_cut_makes_pieces_that_join_to_the_whole():
    pieces = make_set([10, 3]).cut(4)
    assert [len(piece) for piece in pieces] == [4, 4, 2, 3]
    np.testing.assert_array_equal(pieces[1].frames()[:, 0, 0, 1], [4, 5, 6, 7])


# --- splits -----------------------------------------------------------------------------------------------------------


def test_a_time_block_is_the_last_part_with_a_gap_before_it():
    train, held = split_by_time_block(make_set([40, 60]), fraction=0.2, gap_s=10 * PERIOD_S)
    assert [len(episode) for episode in train] == [40, 30]
    assert [len(episode) for episode in held] == [20]
    assert held[0].frames(0, 1)[0, 0, 0, 1] == 40


def test_a_time_block_may_cover_whole_episodes_and_is_taken_from_every_source():
    both = EpisodeSet((*make_set([80, 10, 10]), *make_set([10], "two")))
    train, held = split_by_time_block(both, fraction=0.2, gap_s=0.0)
    assert [(episode.meta.source, len(episode)) for episode in train] == [("one", 80), ("two", 8)]
    assert [(episode.meta.source, len(episode)) for episode in held] == [("one", 10), ("one", 10), ("two", 2)]


def test_two_cameras_of_one_drive_fall_on_the_same_side():
    centre = make_set([100])[0]
    left = centre.slice(30, 95)
    train, held = split_by_time_block(EpisodeSet((centre, left)), fraction=0.2, gap_s=0.0)
    assert [len(episode) for episode in train] == [80, 50]
    assert [len(episode) for episode in held] == [20, 15]


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    fraction=st.floats(0.05, 0.9),
    gap_steps=st.integers(0, 20),
)
def test_no_held_out_step_is_nearer_than_the_gap(lengths, fraction, gap_steps):
    gap_s = gap_steps * PERIOD_S
    try:
        train, held = split_by_time_block(make_set(lengths), fraction, gap_s)
    except ValueError as error:
        assert "too short" in str(error)
        return
    last_s = max(e.meta.start_s + e.time_s[-1] - e.time_s[0] for e in train)
    first_s = min(e.meta.start_s for e in held)
    assert first_s - last_s > gap_s - 1e-9
    assert held.frame_count <= fraction * sum(lengths) + 1


def test_whole_episodes_are_held_out_by_seed():
    episodes = make_set([5, 6, 7, 8, 9])
    train, held = split_by_episode(episodes, 0.4, seed=1)
    assert sorted([*map(len, train), *map(len, held)]) == [5, 6, 7, 8, 9]
    assert len(held) == 2
    again = split_by_episode(episodes, 0.4, seed=1)[1]
    assert [len(e) for e in again] == [len(e) for e in held]
    assert len({tuple(map(len, split_by_episode(episodes, 0.4, seed)[1])) for seed in range(20)}) > 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_by_episode(make_set([5])), "at least 2 episodes"),
        (lambda: split_by_episode(make_set([5, 5]), 1.0), "between 0 and 1"),
        (lambda: split_by_time_block(make_set([5]), gap_s=1.0), "too short to hold out 20% with a gap of 1 s"),
        (lambda: split_by_time_block(make_set([5]), gap_s=-1.0), "at least 0 seconds"),
        (lambda: split_by_time_block(make_set([5]), float("nan")), "between 0 and 1"),
    ],
)
def test_impossible_splits_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- windows ----------------------------------------------------------------------------------------------------------


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


# --- streams ----------------------------------------------------------------------------------------------------------


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


# --- reading ahead ----------------------------------------------------------------------------------------------------


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
