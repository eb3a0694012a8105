"""Roads: geometry, queries, files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from envs.random_roads import RandomRoadConfig, random_track
from envs.track import Track, TrackCursor, TrackError, curvature_bounds, load_track


def circle(radius: float, lane_width_m: float = 0.5) -> Track:
    angle = np.linspace(0.0, 2.0 * np.pi, 400, endpoint=False)
    return Track(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), lane_width_m, "circle")


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["# x_m,y_m,w_tr_right_m,w_tr_left_m", *rows]), encoding="utf-8")
    return path


def oval_rows(count: int = 100) -> list[str]:
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return [f"{200 * math.cos(a):.6f},{120 * math.sin(a):.6f},5.0,6.0" for a in angle]


def test_circle_has_its_length_curvature_and_sides() -> None:
    track = circle(3.0)
    assert track.length_m == pytest.approx(2.0 * math.pi * 3.0, rel=1e-3)
    np.testing.assert_allclose(track.curvatures, 1.0 / 3.0, rtol=0.03)  # 400 corners
    inside = track.project([2.5, 0.0])  # counter-clockwise, so the middle is on the left
    assert inside.lateral == pytest.approx(0.5, abs=1e-3)
    assert inside.heading == pytest.approx(math.pi / 2.0, abs=0.01)
    assert track.project([3.2, 0.0]).lateral == pytest.approx(-0.2, abs=1e-3)
    assert track.curvature(0.0, lateral=-0.5) == pytest.approx(1.0 / 3.5, rel=0.03)
    assert track.reversed().project([2.5, 0.0]).lateral == pytest.approx(-0.5, abs=1e-3)


def test_point_and_project_are_inverse() -> None:
    track = random_track(np.random.default_rng(5))
    rng = np.random.default_rng(0)
    s = rng.uniform(0.0, track.length_m, 300)
    lateral = rng.uniform(-track.lane_width_m, track.lane_width_m, 300)
    found = track.project(track.point(s, lateral))
    around = (found.s - s + 0.5 * track.length_m) % track.length_m - 0.5 * track.length_m
    np.testing.assert_allclose(found.lateral, lateral, atol=0.01)
    assert np.abs(around).max() < 0.08


def test_positions_wrap_at_the_end_of_a_lap() -> None:
    track = random_track(np.random.default_rng(6))
    for s in (-0.3, 0.0, 1.7):
        np.testing.assert_allclose(track.point(s), track.point(s + track.length_m), atol=1e-9)
        np.testing.assert_allclose(track.point(s), track.point(s - 3.0 * track.length_m), atol=1e-9)


def test_nearest_point_agrees_with_a_dense_search() -> None:
    track = random_track(np.random.default_rng(7))
    positions = np.random.default_rng(1).uniform(track.points.min(0) - 1.0, track.points.max(0) + 1.0, (200, 2))
    part = np.linspace(0.0, 1.0, 50, endpoint=False)[:, None, None]
    dense = ((1.0 - part) * track.points + part * np.roll(track.points, -1, axis=0)).reshape(-1, 2)
    least = np.sqrt(((positions[:, None] - dense[None]) ** 2).sum(-1).min(1))
    np.testing.assert_allclose(np.abs(track.project(positions).lateral), least, atol=1e-3)


def test_cursor_follows_a_car_over_laps_as_the_whole_search_does() -> None:
    track = random_track(np.random.default_rng(8))
    cursor = TrackCursor(track)
    s = np.arange(0.0, 2.3 * track.length_m, 0.08)
    lateral = track.lane_width_m * 0.95 * np.sin(s)
    positions = track.point(s, lateral)
    cursor.start(*positions[0])
    expected = track.project(positions)
    for i, (x, y) in enumerate(positions):
        at, across, heading, curvature = cursor.locate(x, y)
        assert across == pytest.approx(expected.lateral[i], abs=1e-9)
        assert at == pytest.approx(expected.s[i], abs=1e-9)
        assert math.cos(heading - expected.heading[i]) == pytest.approx(1.0, abs=1e-9)
        assert curvature == pytest.approx(expected.curvature[i], abs=1e-9)


def test_random_roads_never_touch_themselves_and_keep_to_the_bounds() -> None:
    config = RandomRoadConfig()
    left_turns = right_turns = 0.0
    for seed in range(200):
        track = random_track(np.random.default_rng(seed), config)
        width = track.lane_width_m
        lane = track.curvature(np.arange(0.0, track.length_m, 0.05), track.right_lane_offset())
        assert 0.8 * config.length_m[0] <= track.length_m <= 1.1 * config.length_m[1]
        assert np.abs(lane).max() <= 1.02 / config.min_lane_radius_m
        left_turns += float((track.curvatures > 0.1).mean())
        right_turns += float((track.curvatures < -0.1).mean())
        # Independent of `clearance_m`: points just outside the road edges belong to nobody else's pavement.
        for side in (-1.0, 1.0):
            edge = track.edge(side * (width + 0.5 * config.verge_m - 0.03))[::4]
            distance = np.sqrt(((edge[:, None] - track.points[None, ::2]) ** 2).sum(-1).min(1))
            assert distance.min() > width, f"seed {seed}"
    assert 0.5 < left_turns / right_turns < 2.0


def test_the_same_generator_state_draws_the_same_road() -> None:
    a, b = random_track(np.random.default_rng(11)), random_track(np.random.default_rng(11))
    assert np.array_equal(a.points, b.points) and a.lane_width_m == b.lane_width_m
    assert not np.array_equal(a.points[:50], random_track(np.random.default_rng(12)).points[:50])


def test_random_road_without_room_says_so() -> None:
    with pytest.raises(TrackError, match="Widen length_m"):
        random_track(np.random.default_rng(0), RandomRoadConfig(length_m=(2.0, 3.0)))


def test_csv_is_scaled_and_driven_in_file_order(tmp_path: Path) -> None:
    track = load_track(write(tmp_path / "oval.csv", oval_rows()), scale=0.1)
    assert track.lane_width_m == pytest.approx(0.55)
    assert np.ptp(track.points, axis=0) == pytest.approx([40.0, 24.0], abs=0.1)
    assert track.project([0.0, 0.0]).lateral > 0.0  # counter-clockwise: the middle is on the left
    assert load_track(tmp_path / "oval.csv", scale=0.1, reverse=True).project([0.0, 0.0]).lateral < 0.0
    assert load_track(tmp_path / "oval.csv", scale=0.1, lane_width_m=0.7).lane_width_m == 0.7


def test_csv_bends_too_sharp_for_the_car_are_rounded(tmp_path: Path) -> None:
    square = [f"{x},{y},5,5" for x, y in _square(100.0, 5.0)]
    path = write(tmp_path / "square.csv", square)
    for reverse in (False, True):
        track = load_track(path, scale=0.1, min_lane_radius_m=0.8, reverse=reverse)
        lane = track.curvature(np.arange(0.0, track.length_m, 0.02), track.right_lane_offset())
        assert np.abs(lane).max() <= 1.05 / 0.8
        assert np.abs(track.project(np.array(_square(10.0, 0.5))).lateral).max() < 0.7


def test_a_real_hairpin_stays_where_it_is(tmp_path: Path) -> None:
    """A bend that can be driven is not moved by the smoothing."""
    track = load_track(write(tmp_path / "oval.csv", oval_rows()), scale=0.1)
    rows = np.array([[float(v) for v in row.split(",")[:2]] for row in oval_rows()]) * 0.1
    assert np.abs(track.project(rows).lateral).max() < 0.01


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (oval_rows()[:5], "at least 8 points, got 5"),
        ([*oval_rows()[:3], "1.0,2.0,3.0", *oval_rows()[4:]], "line 5: expected four finite numbers"),
        ([*oval_rows()[:3], "1.0,abc,5,5", *oval_rows()[4:]], "line 5: expected four numbers .* got '1.0,abc,5,5'"),
        ([*oval_rows()[:3], "nan,2.0,5,5", *oval_rows()[4:]], "line 5: expected four finite"),
        ([*oval_rows()[:3], "1.0,2.0,0,5", *oval_rows()[4:]], "line 5: the widths must be positive"),
        ([*oval_rows()[:3], oval_rows()[2], *oval_rows()[4:]], "line 5: the same position"),
    ],
)
def test_malformed_csv_names_file_and_line(tmp_path: Path, rows: list[str], message: str) -> None:
    path = write(tmp_path / "bad.csv", rows)
    with pytest.raises(TrackError, match=message) as error:
        load_track(path)
    assert str(path) in str(error.value)


def test_missing_binary_and_odd_files_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.csv"):
        load_track(tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81" * 40)
    with pytest.raises(TrackError, match="not a text file"):
        load_track(tmp_path / "binary.csv")
    with pytest.raises(TrackError, match="scale must be positive"):
        load_track(write(tmp_path / "oval.csv", oval_rows()), scale=0.0)
    with pytest.raises(TrackError, match="at least 8 finite points"):
        Track([[0.0, 0.0]], 0.5)


def test_curvature_bounds_keep_both_edges_from_folding() -> None:
    left, right = curvature_bounds(0.8, 0.9)
    assert 1.0 / right - 0.4 == pytest.approx(0.9)
    assert 1.0 / left > 0.8
    assert 1.0 / curvature_bounds(0.8, 0.1)[1] > 0.8


def _square(side: float, step: float) -> list[tuple[float, float]]:
    way = np.arange(0.0, side, step)
    zero, full = np.zeros_like(way), np.full_like(way, side)
    x, y = np.concatenate([way, full, side - way, zero]), np.concatenate([zero, way, full, side - way])
    return list(zip(x.tolist(), y.tolist(), strict=True))


def test_the_example_in_the_docs_is_a_road_that_needs_no_rounding():
    road = load_track(Path(__file__).parents[2] / "docs" / "circuit.csv")
    assert road.length_m == pytest.approx(90.2, abs=0.1) and road.lane_width_m == pytest.approx(0.4)
    assert 1.0 / np.abs(road.curvatures).max() > 1.2
