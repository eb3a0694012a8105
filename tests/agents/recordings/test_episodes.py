"""Episodes and their splits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.recordings.episodes import ELAPSED_RANGE, Episode, EpisodeMeta, EpisodeSet
from agents.recordings.splits import centre_of, cut_into_blocks, split_by_episode, split_by_source, split_by_time_block
from tests.agents.counted import PERIOD_S, make_set


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


def test_full_lock_is_within_the_range():
    full = Episode(np.array([-1, 1], np.float32), np.array([0.0, 1.0]), EpisodeMeta("tub"))
    assert len(full) == 2


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


def test_between_two_moments_of_the_time_line_of_a_source():
    whole = make_set([10, 10, 10])  # 0.5 s each
    part = whole.between(0.4, 1.1)
    assert [(len(episode), round(episode.meta.start_s, 6)) for episode in part] == [(2, 0.4), (10, 0.5), (2, 1.0)]
    assert part[0].frames()[0, 0, 0, 1] == 8 and part[2].frames()[-1, 0, 0, 1] == 1
    to_the_end = whole.between(1.2, None)
    assert [len(episode) for episode in to_the_end] == [6]
    assert len(whole.between(1.5, None)) == len(whole.between(-1.0, 0.0)) == 0


def test_no_more_than_two_sizes_are_named():
    sizes = [dataclasses.replace(make_set([3])[0], meta=EpisodeMeta(f"set {n}", PERIOD_S, n, n)) for n in (1, 2, 3)]
    with pytest.raises(ValueError, match="got 1×1 in set 1 and 2×2 in set 2; read"):
        _ = EpisodeSet(tuple(sizes)).frame_size


def test_cut_makes_pieces_that_join_to_the_whole():
    pieces = make_set([10, 3]).cut(4)
    assert [len(piece) for piece in pieces] == [4, 4, 2, 3]
    np.testing.assert_array_equal(pieces[1].frames()[:, 0, 0, 1], [4, 5, 6, 7])


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


@settings(deadline=None)
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


def test_the_gap_is_two_seconds_if_nothing_is_said():
    (train,), (held,) = split_by_time_block(make_set([200]))
    assert held.meta.start_s - train.duration_s == pytest.approx(2.0, abs=1.01 * PERIOD_S)


def test_whole_sources_are_held_out():
    several = EpisodeSet(tuple(episode for name in "abcde" for episode in make_set([5, 6], name)))
    train, held = split_by_source(several, 0.4, seed=2)
    sources = [{episode.meta.source for episode in side} for side in (train, held)]
    assert list(map(len, sources)) == [3, 2] and not sources[0] & sources[1]
    assert train.frame_count + held.frame_count == several.frame_count


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
        (lambda: split_by_episode(make_set([5, 5]), 0.0), "between 0 and 1"),
        (lambda: split_by_time_block(make_set([100]), 0.0), "between 0 and 1"),
        (lambda: split_by_time_block(make_set([5]), gap_s=1.0), "too short to hold out 20% with a gap of 1 s"),
        (lambda: split_by_time_block(make_set([5]), gap_s=-1.0), "at least 0 seconds"),
        (lambda: split_by_time_block(make_set([5]), float("nan")), "between 0 and 1"),
        (lambda: cut_into_blocks(EpisodeSet((*make_set([10]), *make_set([6], "two"))), 5), "0.8 s of driving is too"),
    ],
)
def test_impossible_splits_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_blocks_hold_each_frame_once_and_keep_their_distance():
    both = make_set([50, 50, 100])
    pairs = cut_into_blocks(both, 4, gap_s=3 * PERIOD_S)
    moments = []
    for rest, held in pairs:
        there = [e.meta.start_s + e.time_s for e in held]
        moments += [(e.meta.source, float(t)) for e, line in zip(held, there, strict=True) for t in line]
        for episode in rest:
            line = episode.meta.start_s + episode.time_s
            same = [t for e, t in zip(held, there, strict=True) if e.meta.source == episode.meta.source]
            nearest = min(np.abs(line[:, None] - t[None]).min() for t in same)
            assert nearest >= 3 * PERIOD_S - 1e-9
    assert len(moments) == len(set(moments)) == both.frame_count
    with pytest.raises(ValueError, match="too short for 4 blocks"):
        cut_into_blocks(make_set([20]), 4, gap_s=10.0)


def test_blocks_do_not_depend_on_when_a_clock_began_and_leave_two_seconds_out():
    plain = make_set([300, 500])
    late = EpisodeSet(tuple(dataclasses.replace(e, time_s=e.time_s + 1e6) for e in plain))

    def parts(pairs):
        return [(e.meta.start_s, len(e)) for pair in pairs for side in pair for e in side]

    np.testing.assert_allclose(parts(cut_into_blocks(late, 4)), parts(cut_into_blocks(plain, 4)))
    rest, held = cut_into_blocks(plain, 4)[0]
    assert min(e.meta.start_s for e in rest) - held[-1].meta.start_s - len(held[-1]) * PERIOD_S == pytest.approx(2.0)


def with_sides(episodes: EpisodeSet) -> EpisodeSet:
    """Add what two side cameras saw of each episode, with labels that are made up."""
    sides = [
        dataclasses.replace(episode, meta=dataclasses.replace(episode.meta, extra={"camera": camera}))
        for episode in episodes
        for camera in ("left", "right")
    ]
    return EpisodeSet((*episodes, *sides))


@pytest.mark.parametrize(
    "split",
    [
        lambda episodes: [split_by_time_block(episodes, 0.3, 0.0)],
        lambda episodes: [split_by_episode(episodes, 0.4, seed=1)],
        lambda episodes: [split_by_source(episodes, 0.5)],
        lambda episodes: cut_into_blocks(episodes, 3, 0.0),
    ],
    ids=["time block", "episodes", "sources", "cross-validation"],
)
def test_side_cameras_are_trained_on_and_never_tested_on(split):
    centre = EpisodeSet((*make_set([40, 30, 50]), *make_set([60], "two")))
    plain, both = split(centre), split(with_sides(centre))
    for (train, held), (rest, out) in zip(plain, both, strict=True):
        assert [(e.meta.source, e.meta.start_s, len(e)) for e in out] == [
            (e.meta.source, e.meta.start_s, len(e)) for e in held
        ]
        assert all(e.is_centre for e in out)
        assert rest.frame_count == 3 * train.frame_count
        held_s = {(e.meta.source, round(e.meta.start_s + t, 6)) for e in out for t in e.time_s - e.time_s[0]}
        trained_s = {(e.meta.source, round(e.meta.start_s + t, 6)) for e in rest for t in e.time_s - e.time_s[0]}
        assert not held_s & trained_s  # what a side camera saw at a held-out moment is not trained on either


def test_what_may_be_tested_on_says_what_was_left_out():
    both = with_sides(make_set([40]))
    assert centre_of(both).frame_count == 40
    assert centre_of(both).warnings == ["80 frames of side cameras are left out: their labels are made up"]
    assert centre_of(make_set([40])).warnings == []
    with pytest.raises(ValueError, match="no frame of the centre camera"):
        centre_of(both[1:])
