"""Roads: geometry, queries, random roads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from envs.road.bends import curvature_bounds
from envs.road.curves import clearance
from envs.road.random_road import RandomRoadConfig, random_track
from envs.road.track import Track, TrackCursor, TrackError


def circle(radius: float, lane_width_m: float = 0.5) -> Track:
    angle = np.linspace(0.0, 2.0 * np.pi, 400, endpoint=False)
    return Track(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), lane_width_m, "circle")


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


def test_an_edge_to_the_left_is_where_a_car_is_left_of_the_middle() -> None:
    track = random_track(np.random.default_rng(3))
    for lateral in (0.2, -0.3):
        np.testing.assert_allclose(track.project(track.edge(lateral)).lateral, lateral, atol=2e-3)


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
            assert cKDTree(track.points[::2]).query(edge)[0].min() > width, f"seed {seed}"
    assert 0.5 < left_turns / right_turns < 2.0


@pytest.mark.parametrize(
    ("verge_m", "seeds"), [(0.4, (0, 1)), (1.0, (0, 1)), (2.0, (2, 3)), (4.0, (3, 5, 8))], ids="{}".format
)
def test_stretches_that_pass_each_other_keep_the_verge_between_their_edges(
    verge_m: float, seeds: tuple[int, ...]
) -> None:
    """The first roads that seeds draw come nearer than 2 and 4 m; verges from 1 m on are wider than a narrow bend."""
    config = RandomRoadConfig(verge_m=verge_m, lane_width_m=(0.45, 0.5), length_m=(60.0, 120.0))
    for seed in seeds:
        track = random_track(np.random.default_rng(seed), config)
        gap_m = 2.0 * track.lane_width_m + verge_m
        # Whatever lies nearer than that is the same stretch: within half a circle across which it would be as far.
        near = cKDTree(track.points).query_pairs(gap_m - 0.03, output_type="ndarray")
        apart_m = np.abs(near[:, 0] - near[:, 1]) * track.spacing_m
        apart_m = np.minimum(apart_m, track.length_m - apart_m)
        assert apart_m.max() < 0.5 * math.pi * gap_m + 0.2, f"seed {seed}"


def test_the_same_generator_state_draws_the_same_road() -> None:
    a, b = random_track(np.random.default_rng(11)), random_track(np.random.default_rng(11))
    assert np.array_equal(a.points, b.points) and a.lane_width_m == b.lane_width_m
    assert not np.array_equal(a.points[:50], random_track(np.random.default_rng(12)).points[:50])


def test_random_road_without_room_says_so() -> None:
    with pytest.raises(TrackError, match="Widen length_m"):
        random_track(np.random.default_rng(0), RandomRoadConfig(length_m=(2.0, 3.0)))


def test_curvature_bounds_keep_both_edges_from_folding() -> None:
    left, right = curvature_bounds(0.8, 0.9)
    assert 1.0 / right - 0.4 == pytest.approx(0.9)
    assert 1.0 / left > 0.8
    assert 1.0 / curvature_bounds(0.8, 0.1)[1] > 0.8


def test_a_point_is_no_road() -> None:
    with pytest.raises(TrackError, match="at least 8 finite points"):
        Track([[0.0, 0.0]], 0.5)


@pytest.mark.parametrize("position", [(math.nan, 0.0), (0.0, math.inf), (1e200, 0.0)])
def test_a_position_that_is_not_finite_is_refused_instead_of_searched_for_ever(position: tuple[float, float]) -> None:
    cursor = TrackCursor(circle(3.0))
    cursor.start(3.0, 0.0)
    with pytest.raises(ValueError, match="a position must be finite and within"):
        cursor.locate(*position)
    assert cursor.locate(3.0, 0.1)[1] == pytest.approx(0.0, abs=0.01)


def test_clearance_in_blocks_is_that_of_all_pairs() -> None:
    track = random_track(np.random.default_rng(3), RandomRoadConfig(length_m=(150.0, 200.0)))
    points, count = track.points, len(track.points)
    assert count > 2 * 512
    square = ((points[:, None] - points[None]) ** 2).sum(-1)
    apart = np.abs(np.arange(count)[:, None] - np.arange(count))
    far = np.minimum(apart, count - apart) * track.spacing_m > 3.5 * track.lane_width_m
    assert clearance(points, track.spacing_m, 3.5 * track.lane_width_m) == math.sqrt(square[far].min())
    assert clearance(points[:20], track.spacing_m, 100.0) == math.inf
