"""Roads as people tape them."""

from __future__ import annotations

import numpy as np
import pytest

from agents.driving.expert import Expert
from envs.lane_keeping.env import LaneKeepingEnv
from envs.lane_keeping.layout import LAYOUTS, layout_look
from envs.scene.random_look import draw_look

KINDS = [(layout, keep) for layout in LAYOUTS for keep in ("right", "left") if layout in ("two_lanes", "surface_edge")]
KINDS += [(layout, "right") for layout in ("one_lane", "unmarked", "line", "cones", "boards", "kerbs")]


def make(layout: str, keep: str = "right") -> LaneKeepingEnv:
    return LaneKeepingEnv(vehicle="bicycle", variety=0.0, markings=layout, keep=keep, start_offset=0.3)


@pytest.mark.parametrize("layout, keep", KINDS)
def test_the_expert_keeps_the_line_that_is_asked_for(layout: str, keep: str):
    env, expert = make(layout, keep), Expert()
    _, info = env.reset(seed=4)
    assert abs(info["lateral_offset_m"]) <= 0.3 * info["lane_width_m"] + 1e-6
    for _ in range(80):
        _, _, lost, _, info = env.step(np.array([expert.steer(env)], np.float32))
        assert not lost
    assert abs(info["lateral_offset_m"]) < 0.1 * info["lane_width_m"]
    centre = {"two_lanes": 0.5, "surface_edge": 1.0}.get(layout, 0.0)
    side = -1.0 if keep == "right" else 1.0
    assert env.target_offset_m == pytest.approx(side * centre * info["lane_width_m"], abs=1e-9)


def test_each_layout_looks_otherwise_on_the_same_road():
    frames = {layout: make(layout).reset(seed=4)[0]["camera"] for layout in LAYOUTS}
    for first in LAYOUTS:
        for second in LAYOUTS:
            assert (first == second) == np.array_equal(frames[first], frames[second])
    white = {layout: int((frame.min(axis=2)[20:] > 170).sum()) for layout, frame in frames.items()}
    assert white["surface_edge"] == white["unmarked"] == 0 < white["line"]


def test_who_leaves_the_one_lane_or_the_edge_is_lost():
    for layout in ("one_lane", "unmarked", "surface_edge", "boards"):
        env = make(layout)
        env.reset(seed=4)
        for _ in range(80):
            _, _, lost, _, info = env.step(np.array([1.0], np.float32))
            if lost:
                break
        limit = 1.0 if layout == "surface_edge" else 0.5
        assert lost and abs(info["lateral_offset_m"]) > limit * info["lane_width_m"]


def test_a_start_is_on_the_pavement_however_far_aside_it_may_be_drawn():
    env = LaneKeepingEnv(vehicle="bicycle", variety=0.0, height=8, width=16, start_offset=0.9, start_heading_rad=0.0)
    lateral = []
    for seed in range(25):
        _, info = env.reset(seed=seed, options=None)
        lateral.append((info["lateral_offset_m"] + env.target_offset_m) / info["lane_width_m"])
        assert not env.step(np.zeros(1, np.float32))[4]["crashed"]
    assert min(lateral) == pytest.approx(-0.9, abs=0.02), "some were drawn beside it"


@pytest.mark.parametrize("layout", ["unmarked", "surface_edge"])
def test_two_surfaces_can_be_told_apart_on_any_floor(layout: str):
    for seed in range(40):
        drawn = draw_look(np.random.default_rng(seed), variety=1.0)
        look = layout_look(drawn, layout)
        road, beside = (look.develop(surface.middle).astype(float) for surface in (look.road, look.verge))
        assert np.abs(road - beside).max() > 15.0, f"seed {seed}: {road} beside {beside}"


def test_of_several_markings_each_road_draws_one_and_keeps_to_its_line():
    drawn = {"one_lane": 0, "two_lanes": 0}
    mixed = LaneKeepingEnv(
        vehicle="bicycle",
        height=8,
        width=16,
        pixels_per_m=8.0,
        markings=("two_lanes", "two_lanes", "two_lanes", "one_lane"),
    )
    for seed in range(60):
        _, info = mixed.reset(seed=seed)
        kind = "one_lane" if mixed.target_offset_m == 0.0 else "two_lanes"
        drawn[kind] += 1
        again, same = mixed.reset(seed=seed)
        assert same == info, "the same seed is the same road"
    assert 5 <= drawn["one_lane"] <= 25 and drawn["two_lanes"] >= 35


def test_one_kind_of_markings_draws_the_roads_that_it_always_did():
    frames = [
        LaneKeepingEnv(vehicle="bicycle", height=8, width=16, markings=markings).reset(seed=3)[0]["camera"]
        for markings in ("two_lanes", ("two_lanes",))
    ]
    np.testing.assert_array_equal(frames[0], frames[1])


@pytest.mark.parametrize("markings", ["dotted", (), ("one_lane", "dotted")])
def test_markings_that_nobody_paints_are_refused(markings: object):
    with pytest.raises(ValueError, match="one or more of two_lanes, one_lane, unmarked"):
        LaneKeepingEnv(vehicle="bicycle", markings=markings)
