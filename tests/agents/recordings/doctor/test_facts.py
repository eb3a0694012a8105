"""What the doctor measures, by hand: labels, clock, view, leaks, and what the car's turning says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from agents.recordings.doctor.labels import check_labels, steering_facts
from agents.recordings.doctor.leaks import NEAR, RUN, find_leak, repeated_labels, shared_files
from agents.recordings.doctor.motion import Motion, _clock_ratio, _offset, _thirds, check_motion, lags
from agents.recordings.doctor.order import LEAST_RUN, check_repeats
from agents.recordings.doctor.timing import check_clock, clock_facts
from agents.recordings.doctor.view import _horizon, view_facts
from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet


class Pictures:
    """Frames in memory."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return self.frames[start:stop], np.ones(stop - start, bool)


def log(steering: Sequence[float], time_s: Sequence[float] = (), camera: str = "", **extras: np.ndarray) -> EpisodeSet:
    times = np.asarray(time_s if len(time_s) else 0.05 * np.arange(len(steering)), np.float64)
    meta = EpisodeMeta("made", 0.05, extra={"camera": camera} if camera else {})
    return EpisodeSet((Episode(np.asarray(steering, np.float32), times, meta, None, extras=extras),))


def film(frames: np.ndarray, source: str = "made", digests: Sequence[int] | None = None) -> EpisodeSet:
    count, height, width, _ = frames.shape
    meta = EpisodeMeta(source, 0.05, height, width)
    marks = None if digests is None else np.asarray(digests, np.uint64)
    steering = np.linspace(-1, 1, count, dtype=np.float32)
    times = np.asarray(0.05 * np.arange(count), np.float64)
    return EpisodeSet((Episode(steering, times, meta, Pictures(frames), digests=marks),))


def test_labels_are_counted_by_side_and_those_of_side_cameras_are_left_out():
    centre, aside = log([0.5, 0.5, 0.3, -0.4, 0.0, 0.0, 0.01, -0.01]), log([0.9] * 8, camera="left")
    both = replace(centre, episodes=(*centre, *aside))
    assert not aside[0].is_centre
    for episodes in (centre, both):
        facts = steering_facts(episodes)
        shares = {name: facts[name] for name in ("left", "straight", "right", "zero")}
        assert shares == {"left": 3 / 8, "straight": 4 / 8, "right": 1 / 8, "zero": 2 / 8}
        assert facts["mean"] == pytest.approx(0.9 / 8) and sum(facts["histogram"]) == 8
        assert facts["histogram"][0] == 0 and facts["edges"][0] == -1


@pytest.mark.parametrize(("bends", "missing"), [(0.5, "right"), (-0.5, "left")])
def test_the_side_that_is_not_shown_is_named(bends: float, missing: str):
    straight = 0.02 * np.sin(np.arange(80))
    (finding,) = check_labels(log([*straight, *[bends] * 20]))
    assert finding.about == "bends" and finding.what.startswith(f"bends to the {missing} are hardly shown (0.0%")


def test_lost_frames_are_counted_gap_by_gap():
    steps = [0.05] * 20 + [0.2, 0.05, 0.05, 0.15, 0.05]
    facts = clock_facts(log([0.0] * 26, [0.0, *np.cumsum(steps)]))
    assert facts["frames_missing"] == 3 + 2 and facts["rate_hz"] == pytest.approx(20)
    assert facts["longest_s"] == pytest.approx(0.2)


def test_a_car_that_makes_more_way_than_it_says_has_a_slow_clock():
    said = np.full(40, 10.0)
    (finding,) = check_clock(log([0.0] * 40, speed_mps=said, pose_speed_mps=2 * said))
    assert "2.00 times as fast as it says" in finding.what and finding.figures == {"speed_ratio": pytest.approx(2.0)}
    assert not check_clock(log([0.0] * 40, speed_mps=said, pose_speed_mps=1.1 * said))


def test_the_bonnet_is_what_stands_still_at_the_bottom_and_not_what_stands_still_elsewhere():
    frames = np.random.default_rng(0).integers(0, 256, (12, 40, 48, 3)).astype(np.uint8)
    frames[:, 34:] = frames[0, 34:]
    frames[:, 4:8] = frames[0, 4:8]  # a pillar, say
    assert view_facts(film(frames))["bonnet"] == pytest.approx(6 / 40)


def test_the_horizon_is_the_row_where_the_flow_turns_whatever_rows_say_nothing():
    flow = np.where(np.arange(40) < 22, -0.5, 0.5)
    flows = np.tile(flow, (12, 1))
    assert _horizon(flows) == pytest.approx(22 / 40)
    flows[:, :10] = np.nan  # an even sky
    assert _horizon(flows) == pytest.approx(22 / 40)
    assert _horizon(-flows) is None


def test_pictures_are_near_by_the_difference_of_their_thumbnails_and_copies_count_once():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 200, (6, 24, 32, 1)).repeat(3, axis=3).astype(np.uint8)
    for part, near in ((0.45, True), (0.65, False)):  # two grey levels in so many pixels
        apart = 2 * (rng.random((3, 24, 32, 1)) < part)
        assert near == (2 * part**0.5 < NEAR)
        shown = (frames[:3] + apart).astype(np.uint8)
        assert find_leak(film(frames), film(shown, "other")).near == (3 if near else 0), part
    leak = find_leak(film(frames, digests=range(6)), film(frames[:3], "other", digests=range(3)))
    assert (leak.copies, leak.near) == (3, 0)


def test_the_same_picture_with_another_label_is_another_record():
    frames = np.zeros((6, 8, 8, 3), np.uint8)
    first = film(frames, digests=range(6))
    turned = replace(first, episodes=(replace(first[0], steering=-first[0].steering),))
    assert shared_files(first, first)[0] == 6 and shared_files(first, turned)[0] == 0
    assert shared_files(first, turned, same_label=False)[0] == 6


def test_a_stretch_of_labels_that_comes_again_counts_with_all_its_labels():
    labels = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    held = np.concatenate([np.linspace(-1, 1, 30, dtype=np.float32), labels[20 : 20 + RUN + 5]])
    assert repeated_labels(log(labels.tolist()), log(held.tolist())) == RUN + 5


def test_a_car_that_stands_is_no_driving_that_comes_twice():
    frames = np.zeros((120, 8, 8, 3), np.uint8)
    standing = [7] * 120
    driving = [*range(60), *range(100, 100 + 60 - LEAST_RUN), *range(LEAST_RUN)]
    assert not check_repeats(film(frames, digests=standing))
    (finding,) = check_repeats(film(frames, digests=driving))
    assert finding.figures == {"frames": LEAST_RUN}


def motion(turning: np.ndarray, steering: np.ndarray, parts: int = 3, **more: object) -> Motion:
    """Stretches of what was measured, 0.05 s apart."""
    times = 0.05 * np.arange(len(turning))
    cut = [tuple(np.array_split(values, parts)) for values in (turning, steering, times)]
    return Motion(cut[0], cut[1], cut[2], 0.05, **more)  # type: ignore[arg-type]


def test_the_offset_is_the_steering_of_a_car_that_does_not_turn_without_its_wildest_frames():
    rng = np.random.default_rng(0)
    steering = rng.uniform(-0.5, 0.5, 600)
    turning = 0.1 * (steering - 0.2)
    turning[::75] = 2.0  # what phase correlation takes for a turn now and then
    offset, error = _offset(motion(turning, steering), 0)
    assert offset == pytest.approx(0.2, abs=0.01) and 0 <= error < 0.01


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_the_clock_is_as_wrong_as_the_car_turns_too_much(ratio: float):
    steering = np.convolve(np.random.default_rng(0).normal(size=640), np.hanning(41) / 10, "same")[:600]
    metres = np.full(600, 0.5)
    measured = motion(ratio * 0.080 * steering * metres, steering, vehicle="udacity")
    assert _clock_ratio(replace(measured, metres=tuple(np.array_split(metres, 3)))) == pytest.approx(ratio)


def test_a_third_that_is_nearly_straight_peaks_on_the_side_of_all():
    rng = np.random.default_rng(3)
    steering = np.convolve(rng.normal(size=700), np.hanning(15) / 5, "same")[:630]
    turning = np.roll(steering, 3)
    turning[210:420] = 0.6 * turning[210:420] - 1.2 * np.roll(steering, -9)[210:420]  # a larger dip of the other sign
    measured = motion(turning, steering)
    tried, correlation = lags(measured)
    assert tried[int(np.argmax(correlation))] == 3
    assert _thirds(measured, 1.0) == pytest.approx([3, 3, 3], abs=0.7)


@pytest.mark.parametrize(("lag", "shift"), [(-4, 5), (9, -8)])
def test_labels_are_moved_to_where_such_a_car_follows_its_wheel(lag: int, shift: int):
    steering = np.convolve(np.random.default_rng(0).normal(size=700), np.hanning(15) / 5, "same")[:630]
    (finding,) = check_motion(motion(np.roll(steering, lag), steering))
    assert finding.about == "lag" and finding.figures["shift_frames"] == shift, "other cars follow after one frame"
    assert finding.what.startswith(f"labels are {'behind' if lag < 0 else 'ahead of'} the pictures")


def test_a_lag_that_one_third_alone_shows_is_no_fault():
    steering = np.convolve(np.random.default_rng(0).normal(size=700), np.hanning(15) / 5, "same")[:630]
    turning = np.roll(steering, 1)
    turning[:210] = 20 * np.roll(steering, -2)[:210]
    measured = motion(turning, steering)
    tried, correlation = lags(measured)
    assert tried[int(np.argmax(correlation))] == -2 and not check_motion(measured)
