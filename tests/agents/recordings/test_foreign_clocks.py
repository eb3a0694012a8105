"""Clocks of other programs: columns that are called a time, stamps among other numbers in names, coarse stamps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.options import ReadOptions
from agents.recordings.reading.assemble import cut_rows, make_episode
from agents.recordings.reading.clock import read_clock
from agents.recordings.reading.numbered import stamps_in_names
from tests.agents.recordings.test_foreign_tables import COUNT, EPOCH_S, NAMES, STEERING, at, check, pictures, table

__all__ = ["pictures"]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("image_timestamp", lambda i: f"{(10 * EPOCH_S + i) * 10**8}"),
        ("elapsed_time", lambda i: f"{0.1 * i:.2f}"),
        ("elapsed_ms", lambda i: f"{100 * i}"),
        ("frameTimestampNs", lambda i: f"{i * 10**8}"),
        ("sim_time", lambda i: f"{3.1 + 0.1 * i:.2f}"),
        ("time", lambda i: f"0 days 00:00:{0.1 * i:09.6f}"),
    ],
)
def test_a_column_that_is_called_a_time_and_rises_is_the_clock(pictures, name, cell):
    row = lambda i, s: f"{NAMES[i]},{s},{cell(i)}"  # noqa: E731
    check(load_episodes(table(pictures, f"image,steering,{name}", row)), period_s=0.1)


@pytest.mark.parametrize(
    ("name", "cell"),
    [("lap_time", lambda i: 0.1 * i), ("frame_time", lambda i: 0.1 * (i % 7)), ("time_diff", lambda i: 0.001 * i)],
)
def test_durations_and_what_falls_are_no_clock(pictures, name, cell):
    row = lambda i, s: f"{NAMES[i]},{s},{cell(i):.3f}"  # noqa: E731
    episodes = load_episodes(table(pictures, f"image,steering,{name}", row))
    assert any("(missing)" in line for line in episodes.warnings)
    check(episodes)


def test_of_several_times_that_of_the_picture_is_the_clock(pictures):
    row = lambda i, s: f"{NAMES[i]},{s},{EPOCH_S + 0.1 * i + 0.03 * (i % 2):.3f},{EPOCH_S + 0.1 * i:.3f}"  # noqa: E731
    check(load_episodes(table(pictures, "image,steering,cmd_timestamp,image_timestamp", row)), period_s=0.1)


STAMPED: dict[str, Callable[[int], str]] = {
    "a number before": lambda i: f"frame_{i:06d}_{(10 * EPOCH_S + i) * 100}",
    "a serial number before": lambda i: f"15395510-{(10 * EPOCH_S + i) * 10**5}",
    "seconds and nanoseconds without zeros": lambda i: f"{EPOCH_S + i // 10}_{100_000_000 * (i % 10)}",
    "seconds and milliseconds": lambda i: f"{EPOCH_S + i // 10}-{100 * (i % 10):03d}_rgb",
    "a date with dashes throughout": lambda i: at(i, "cam0_%Y-%m-%d-%H-%M-%S-%f"),
    "milliseconds without zeros": lambda i: at(i, "cam0_%Y-%m-%d_%H-%M-%S-") + str(100 * (i + 5) % 1000),
}


@pytest.mark.parametrize("kind", STAMPED)
def test_time_stamps_among_other_numbers_in_names(kind):
    notices: list[str] = []
    names = [STAMPED[kind](i) for i in range(COUNT)]
    stamps = stamps_in_names([Path(f"IMG/{name}.jpg") for name in names], notices).since_first_s
    if kind == "milliseconds without zeros":  # the clock of the test begins on a tenth that is not 0
        stamps = np.sort(stamps)
    np.testing.assert_allclose(stamps, 0.1 * np.arange(COUNT), atol=1e-5)
    assert "time stamps are those in the pictures' names" in notices


@pytest.mark.parametrize(
    "name",
    [
        lambda i: f"{EPOCH_S}_{i:06d}",
        lambda i: f"20231114_221320_{i:06d}",
        lambda i: f"20231114_{235900 + i:06d}",
        lambda i: f"{10**7 * i}",
    ],
)
def test_a_drive_and_a_counter_in_names_are_no_clock(name):
    stamps = stamps_in_names([Path(f"{name(i)}.jpg") for i in range(90)], []).since_first_s
    assert np.isnan(stamps).all()


@pytest.mark.parametrize(("rate", "grid_s"), [(10, 1.0), (4, 1.0), (20, 0.1)])
def test_rows_that_share_coarse_stamps_are_spread_evenly(rate, grid_s):
    true_s = 0.37 + np.arange(6 * rate) / rate
    true_s[4 * rate :] += 30  # a pause
    stamps_s = np.floor(true_s / grid_s + 1e-9) * grid_s
    clock = read_clock(stamps_s, np.arange(len(stamps_s)), np.zeros(len(stamps_s), bool), 0.05, ReadOptions())
    assert clock.notice is not None and "spread evenly" in clock.notice
    assert clock.period_s == pytest.approx(1 / rate, rel=0.01)
    np.testing.assert_allclose(np.diff(clock.time_s)[: 4 * rate - 1], 1 / rate, rtol=0.01)
    assert np.abs(clock.time_s - true_s).max() < 0.6 * grid_s
    assert clock.segment[4 * rate - 1] == 0 and clock.segment[-1] == 1


def test_coarse_stamps_of_a_table(pictures):
    row = lambda i, s: f"{NAMES[i]},{s},{at(i, '%H:%M:%S')}"  # noqa: E731
    check(load_episodes(table(pictures, "image,steering,time", row)), period_s=0.1)
    assert len(STEERING) == COUNT


@pytest.mark.parametrize("steps_s", [[0.05, 0.0], [0.0, 0.0, 0.07, 0.2]])
def test_stamps_that_stand_still_now_and_then_are_no_coarse_clock(steps_s):
    stamps_s = np.cumsum([0.0, *(steps_s * 20)])
    stamps_s[1::7] += 0.013
    stamps_s = np.maximum.accumulate(stamps_s)
    clock = read_clock(stamps_s, np.arange(len(stamps_s)), np.zeros(len(stamps_s), bool), 0.05, ReadOptions())
    assert clock.notice is None or "spread" not in clock.notice


def test_a_pause_is_no_part_of_the_line_and_every_drive_begins_at_zero():
    stamps_s = np.concatenate([100 + 0.05 * np.arange(6), 160 + 0.05 * np.arange(5)])
    clock = read_clock(stamps_s, np.arange(11), np.zeros(11, bool), 0.1, ReadOptions())
    np.testing.assert_allclose(clock.line_s, 0.05 * np.arange(11))
    rows = cut_rows(np.arange(11), clock)
    assert [part.tolist() for part in rows] == [[*range(6)], [*range(6, 11)]]
    second = make_episode(np.arange(11) / 10, {}, clock, rows[1], (2, 2), None, {"source": "log"})
    np.testing.assert_allclose(second.time_s, 0.05 * np.arange(5), atol=1e-9)
    np.testing.assert_allclose(second.steering, np.arange(6, 11) / 10, rtol=1e-6)
    assert (second.meta.start_s, second.meta.nominal_period_s) == (pytest.approx(0.3), pytest.approx(0.05))
