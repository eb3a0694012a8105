"""wormwheel/LaneKeeping-v0 as its users see it."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import inspect
import math
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs
from envs.camera.info import CameraInfo
from envs.camera.lens import CameraRanges
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.lane_keeping.scenario import Scenario
from envs.road.random_road import RandomRoadConfig, random_track
from envs.scene.ground import draw_ground, road_region
from envs.scene.look import Line, Look
from envs.scene.scene import Scene
from tests.envs.needs import needs_bullet

BICYCLE = {"vehicle": "bicycle"}
SEEDS = (0, 1, 2)
"""Of repeated episodes; one of the looks has sensor noise."""


def follow(env: Any) -> np.ndarray:
    """Steering towards the point 0.7 m ahead on the lane."""
    inside = env.unwrapped
    track, state = inside.track, inside.vehicle_state
    ahead = track.point(float(track.project((state.x, state.y)).s) + 0.7, track.right_lane_offset()) - (
        state.x,
        state.y,
    )
    angle = math.atan2(ahead[1], ahead[0]) - state.yaw
    steer = math.atan(2.0 * 0.325 * math.sin(angle) / math.hypot(*ahead))
    return np.array([steer / inside.vehicle_params.steering_limit_rad], np.float32)


def digest(seed: int, steps: int, **fields: Any) -> str:
    env = gymnasium.make(envs.LANE_KEEPING, **fields)
    seen = hashlib.sha256()
    observation, info = env.reset(seed=seed)
    for k in range(steps):
        seen.update(
            observation["camera"].tobytes() + observation["elapsed"].tobytes() + repr(sorted(info.items())).encode()
        )
        observation, _, terminated, truncated, info = env.step(np.array([0.3 * math.sin(0.3 * k)], np.float32))
        if terminated or truncated:
            observation, info = env.reset()
    env.close()
    return seen.hexdigest()


@pytest.mark.parametrize(
    "fields", [BICYCLE, {"vehicle": "bicycle", "throttle": True, "elapsed_jitter": 0.3, "height": 66, "width": 200}]
)
def test_gymnasium_and_sb3_checkers_pass_without_a_warning(fields: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(envs.LANE_KEEPING, render_mode="rgb_array", **fields).unwrapped
        check_env(env, skip_render_check=fields is not BICYCLE)
        sb3_check_env(env)


@needs_bullet
def test_checkers_pass_with_bullet_and_tinyrenderer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fields in ({"vehicle": "bullet"}, {"vehicle": "bullet", "renderer": "tiny"}):
            env = LaneKeepingEnv(**fields)
            check_env(env, skip_render_check=True)
            env.close()


def test_the_same_seed_gives_the_same_bytes_here_and_in_another_process() -> None:
    vehicles = ["bicycle", *(["bullet"] if importlib.util.find_spec("pybullet") else [])]
    here = {vehicle: digest(3, 30, vehicle=vehicle) for vehicle in vehicles}
    for vehicle in vehicles:
        assert here[vehicle] == digest(3, 30, vehicle=vehicle)
        assert here[vehicle] != digest(4, 30, vehicle=vehicle)
    program = (
        "import hashlib, math, gymnasium, envs\nimport numpy as np\nfrom typing import Any\n"
        f"{inspect.getsource(digest)}\nprint('digests', *(digest(3, 30, vehicle=vehicle) for vehicle in {vehicles!r}))"
    )
    root = Path(__file__).parents[3]
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root).stdout
    assert out.split("digests ")[1].split() == list(here.values())


def test_a_seeded_reset_forgets_what_came_before() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, **BICYCLE)
    first, _ = env.reset(seed=9)
    for _ in range(3):
        env.step(np.array([1.0], np.float32))
        env.reset()
    again, _ = env.reset(seed=9)
    assert np.array_equal(first["camera"], again["camera"])
    other, _ = env.reset()
    assert not np.array_equal(first["camera"], other["camera"])


def test_config_and_overrides() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, config=LaneKeepingConfig(height=40, vehicle="bicycle"), width=80)
    observation, info = env.reset(seed=0)
    assert observation["camera"].shape == (40, 80, 3) and observation["camera"].dtype == np.uint8
    assert env.observation_space.contains(observation)
    assert set(info) >= {
        "lateral_offset_m",
        "heading_error_rad",
        "progress_m",
        "speed_mps",
        "crashed",
        "time_s",
        "lane_width_m",
        "curvature_per_m",
        "steering",
    }
    with pytest.raises(ValueError, match="no attribute widht"):
        LaneKeepingEnv(widht=80)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vehicle": "truck"}, "vehicle\n.*one of bullet, bicycle, auto"),
        ({"renderer": "eyes"}, "renderer\n.*one of warp, tiny"),
        ({"height": 1}, "height\n.*greater than or equal to 8"),
        ({"height": 10**8}, "height\n.*less than or equal to 4096"),
        ({"height": 4096, "width": 4096}, "at most 4,000,000 pixels, got height 4096 × width 4096"),
        ({"period_s": 1e-9}, "period_s\n.*greater than or equal to 0.001"),
        ({"period_s": math.nan}, "period_s"),
        ({"episode_s": math.inf}, "episode_s\n.*finite"),
        ({"variety": 2.0}, "variety\n.*less than or equal to 1"),
        ({"pixels_per_m": 1e9}, "pixels_per_m\n.*less than or equal to 256"),
        ({"speed_mps": (2.0, 1.0)}, "speed_mps\n.*range \\(low, high\\)"),
        ({"speed_mps": (1.0, math.nan)}, "speed_mps.1"),
        ({"episode_s": 0.01}, "episode_s must be at least period_s"),
        ({"track": ()}, "at least one CSV file"),
        ({"lane_sign_delay_s": (1.0, 2.0), "keep": "left"}, 'begins in the right-hand one.*got .* keep "left"'),
        ({"lane_sign_delay_s": (1.0, 2.0), "markings": "one_lane"}, "needs two lanes.*got markings one_lane"),
        ({"lane_sign_delay_s": (1.0, 2.0), "markings": ("two_lanes", "line")}, "needs two lanes"),
        ({"widht": 80}, "widht\n.*[Uu]nexpected"),
        ({"roads": {"corners": (4, 1_000_000_000)}}, "roads.corners.1\n.*less than or equal to 100"),
        ({"roads": {"length_m": (1.0, 1e9)}}, "roads.length_m.1\n.*less than or equal to 2000"),
        ({"camera": {"hfov_deg": (0.0, 0.0)}}, "camera.hfov_deg.0\n.*greater than or equal to 10"),
        ({"camera": {"hfov_deg": (90.0, 360.0)}}, "camera.hfov_deg.1\n.*less than or equal to 320"),
        ({"camera": {"hfov_deg": (90.0, 300.0)}}, "hfov_deg must be at most 252 for these lenses, got 300"),
    ],
)
def test_config_out_of_range_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LaneKeepingConfig(**fields)


def test_unknown_road_file_is_refused_when_the_env_is_made() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        LaneKeepingEnv(track="nowhere.csv", **BICYCLE)


def test_bullet_asked_for_without_pybullet_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(ValueError, match="PyBullet is not installed"):
        LaneKeepingEnv(vehicle="bullet")
    with pytest.raises(ValueError, match="PyBullet is not installed"):
        LaneKeepingEnv(vehicle="bicycle", renderer="tiny")


def test_leaving_the_road_terminates_with_a_crash() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, **BICYCLE)
    env.reset(seed=1)
    for _ in range(300):
        _, reward, terminated, truncated, info = env.step(np.array([-1.0], np.float32))
        if terminated:
            break
    assert terminated and not truncated and info["crashed"] and reward < -5.0
    centre = info["lateral_offset_m"] - 0.5 * info["lane_width_m"]
    assert abs(centre) > info["lane_width_m"]


def test_going_on_is_worth_something_in_the_wrong_lane_too() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, **BICYCLE)
    env.reset(seed=1)
    rewards, offsets = [], []
    for _ in range(300):
        _, reward, terminated, _, info = env.step(np.array([0.6], np.float32))
        if terminated or info["heading_error_rad"] > 1.4:
            break
        rewards.append(reward)
        offsets.append(info["lateral_offset_m"] / info["lane_width_m"])
    assert max(offsets) > 0.75
    assert min(rewards[1:]) > 0.0  # A learner must not wish for the end.
    assert rewards[int(np.argmax(offsets))] < 0.4 < max(rewards)


def test_time_out_truncates() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, episode_s=0.5, **BICYCLE)
    env.reset(seed=1)
    for k in range(10):
        _, _, terminated, truncated, info = env.step(follow(env))
        assert not terminated and truncated == (k == 9)
    assert info["time_s"] == pytest.approx(0.5)


@pytest.mark.parametrize("vehicle", ["bicycle", pytest.param("bullet", marks=needs_bullet)])
def test_a_driver_that_sees_the_road_keeps_its_lane_over_laps(vehicle: str) -> None:
    env = gymnasium.make(envs.LANE_KEEPING, vehicle=vehicle, height=16, width=32, variety=0.0, speed_mps=(1.8, 1.8))
    for seed in (0, 1) if vehicle == "bicycle" else (1,):
        _, info = env.reset(seed=seed)
        rewards, offsets = [], []
        for _ in range(900):
            _, reward, terminated, truncated, info = env.step(follow(env))
            assert not (terminated or truncated)
            rewards.append(reward)
            offsets.append(abs(info["lateral_offset_m"]) / info["lane_width_m"])
        assert np.mean(offsets[40:]) < 0.08
        assert info["progress_m"] == pytest.approx(
            45.0 * 1.8, rel=0.12
        )  # the right lane is longer or shorter than the centre line
        assert info["progress_m"] > 1.1 * env.unwrapped.track.length_m  # over the end of the lap
        assert 0.8 < np.mean(rewards) < 1.1
    env.close()


def test_offset_and_heading_are_positive_to_the_left() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, start_offset=0.0, start_heading_rad=0.0, **BICYCLE)
    _, info = env.reset(seed=2)
    assert abs(info["lateral_offset_m"]) < 0.01 and abs(info["heading_error_rad"]) < 0.02
    for _ in range(8):
        _, _, _, _, info = env.step(np.array([1.0], np.float32))
    assert info["lateral_offset_m"] > 0.02 and info["heading_error_rad"] > 0.1 and info["steering"] == 1.0


def test_elapsed_tells_the_time_that_passed() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, elapsed_jitter=0.5, **BICYCLE)
    env.reset(seed=2)
    time_s, drawn = 0.0, []
    for _ in range(40):
        observation, _, _, _, info = env.step(follow(env))
        drawn.append(float(observation["elapsed"][0]))
        assert info["time_s"] - time_s == pytest.approx(drawn[-1] * 0.05, abs=1e-6)
        time_s = info["time_s"]
    assert 0.5 <= min(drawn) < 0.8 and 1.2 < max(drawn) <= 1.5


def test_throttle_changes_the_speed() -> None:
    speeds = []
    for throttle in (-1.0, 0.0, 1.0):
        env = gymnasium.make(envs.LANE_KEEPING, throttle=True, speed_mps=(1.2, 1.2), **BICYCLE)
        env.reset(seed=0)
        for _ in range(20):
            _, _, _, _, info = env.step(np.append(follow(env), np.float32(throttle)))
        speeds.append(info["speed_mps"])
    assert speeds[0] < 0.1 and speeds[1] == pytest.approx(1.2, abs=0.01) and speeds[2] > 2.0


@pytest.mark.parametrize("vehicle", ["bicycle", pytest.param("bullet", marks=needs_bullet)])
def test_nan_and_infinity_are_not_actions(vehicle: str) -> None:
    env = LaneKeepingEnv(vehicle=vehicle, throttle=True)
    env.reset(seed=0)
    for value in (math.nan, math.inf, -math.inf):
        for number, name in enumerate(("steering", "throttle")):
            action = np.zeros(2, np.float32)
            action[number] = value
            with pytest.raises(ValueError, match=f"the {name} of an action must be a finite number, got {value}"):
                env.step(action)
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(1,\)"):
        env.step(np.zeros(1, np.float32))
    env.step(np.zeros(2, np.float32))  # what was refused leaves the env as it was
    env.close()


def test_observations_are_copies() -> None:
    env = LaneKeepingEnv(**BICYCLE)
    first, _ = env.reset(seed=0)
    kept = first["camera"].copy()
    second, *_ = env.step(np.zeros(1, np.float32))
    second["camera"][:] = 0
    assert np.array_equal(first["camera"], kept)
    third, *_ = env.step(np.zeros(1, np.float32))
    assert third["camera"].any()


def test_roads_from_files(tmp_path: Path) -> None:
    files = []
    for name, radius in (("a", 60.0), ("b", 300.0)):
        angle = np.linspace(0.0, 2.0 * np.pi, 80, endpoint=False)
        rows = [f"{2 * radius * math.cos(t)},{radius * math.sin(t)},5,5" for t in angle]
        (tmp_path / f"{name}.csv").write_text("# x_m,y_m,w_tr_right_m,w_tr_left_m\n" + "\n".join(rows))
        files.append(str(tmp_path / f"{name}.csv"))
    env = gymnasium.make(envs.LANE_KEEPING, track=tuple(files), **BICYCLE)
    names = set()
    for seed in range(6):
        _, info = env.reset(seed=seed)
        names.add(env.unwrapped.track.name)
        assert info["lane_width_m"] == pytest.approx(0.5)
        for _ in range(20):
            observation, _, terminated, _, _ = env.step(follow(env))
            assert not terminated and observation["camera"].std() > 2.0
    assert names == {"a", "b"}


def test_render_gives_a_large_picture_that_changes() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, render_mode="rgb_array", **BICYCLE)
    env.reset(seed=0)
    pictures = []
    for _ in range(2):
        pictures.append(env.render())
        env.step(follow(env))
    assert pictures[0].shape == (720, 1280, 3) and pictures[0].dtype == np.uint8
    assert not np.array_equal(pictures[0], pictures[1])
    assert env.metadata["render_fps"] == 20
    assert LaneKeepingEnv(**BICYCLE).render() is None


def test_roads_can_be_kept_over_resets() -> None:
    env = gymnasium.make(envs.LANE_KEEPING, resets_per_road=3, **BICYCLE)
    env.reset(seed=5)
    roads = [env.unwrapped.track]
    for _ in range(5):
        env.reset()
        roads.append(env.unwrapped.track)
    assert roads[0] is roads[1] is roads[2] is not roads[3]
    assert roads[3] is roads[4] is roads[5]


@pytest.mark.parametrize("fields", [{}, {"roads": RandomRoadConfig(length_m=(150.0, 200.0))}, {"renderer": "tiny"}])
def test_a_repeated_episode_is_the_same_and_quickly_there(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "renderer" in fields:
        pytest.importorskip("pybullet")
    drawn: list[Any] = []

    def draw(*arguments: Any) -> Scene:
        drawn.append(arguments)
        return Scene(*arguments)

    monkeypatch.setattr("envs.lane_keeping.env.Scene", draw)

    def drive(env: LaneKeepingEnv, seed: int) -> list[bytes]:
        frames = [env.reset(seed=seed)[0]["camera"].tobytes()]
        steps = (env.step(np.array([0.5 * math.sin(k)], np.float32)) for k in range(6))
        return frames + [step[0]["camera"].tobytes() + repr(sorted(step[4].items())).encode() for step in steps]

    fields = {"vehicle": "bicycle", "variety": 1.0, "height": 24, "width": 48, **fields}
    env, noisy = LaneKeepingEnv(**fields), 0
    for seed in SEEDS:
        first = drive(env, seed)
        noisy += env.scene.look.noise > 0.5
        before = len(drawn)
        assert drive(env, seed) == first
        assert len(drawn) == before
        assert drive(LaneKeepingEnv(**fields), seed) == first
    assert noisy, "no look with sensor noise was met"
    env.reset(seed=SEEDS[-1], options={"scenario": Scenario(replace(env.config, variety=0.0))})
    assert len(drawn) == len(SEEDS) * 2 + 1


@pytest.mark.parametrize("vehicle", ["bicycle", pytest.param("bullet", marks=needs_bullet)])
def test_an_env_resets_after_close(vehicle: str) -> None:
    env = LaneKeepingEnv(vehicle=vehicle)
    first, _ = env.reset(seed=3)
    env.close()
    again, _ = env.reset(seed=3)
    assert np.array_equal(first["camera"], again["camera"])
    env.step(np.zeros(1, np.float32))
    env.close()
    env.close()


def test_a_copy_of_the_bicycle_env_drives_on_by_itself() -> None:
    env = LaneKeepingEnv(**BICYCLE)
    env.reset(seed=3)
    other = copy.deepcopy(env)
    for k in range(5):
        action = np.array([0.3 * math.sin(k)], np.float32)
        (here, *_, info), (there, *_, notes) = env.step(action), other.step(action)
        assert np.array_equal(here["camera"], there["camera"]) and info == notes
    other.step(np.ones(1, np.float32))
    assert env.vehicle_state != other.vehicle_state


@needs_bullet
def test_an_env_with_bullet_says_that_it_cannot_be_copied() -> None:
    for fields in ({"vehicle": "bullet"}, {"vehicle": "bicycle", "renderer": "tiny"}):
        env = LaneKeepingEnv(**fields)
        env.reset(seed=0)
        with pytest.raises(TypeError, match="cannot be copied"):
            copy.deepcopy(env)
        env.close()


def test_the_road_ends_at_its_edge() -> None:
    """A crash is leaving the pavement, a lane width to each side of the centre line: not sooner, not later."""
    for steering in (0.5, -0.5):
        env = LaneKeepingEnv(start_heading_rad=0.0, **BICYCLE)
        _, info = env.reset(seed=1)
        inside, terminated = [], False
        while not terminated:
            _, _, terminated, _, info = env.step(np.array([steering], np.float32))
            centre = info["lateral_offset_m"] / info["lane_width_m"] - 0.5
            inside.append(abs(centre))
        assert inside[-1] > 1.0 and max(inside[:-1]) <= 1.0
        assert inside[-1] < 1.2  # it cannot have come so far in one step
        assert info["crashed"]


def test_restless_steering_costs_reward() -> None:
    """Two cars at the same place: the one whose steering jumped earns less, by 0.1 for each square of the jump."""
    rewards = []
    for previous in (0.25, -0.75):
        env = LaneKeepingEnv(**BICYCLE)
        env.reset(seed=2)
        env._steering = previous
        rewards.append(env.step(np.array([0.25], np.float32))[1])
    assert rewards[0] - rewards[1] == pytest.approx(0.1)


def test_each_line_of_the_road_is_drawn_in_its_own_style() -> None:
    """A solid red left line, a dashed green right one and no centre line, looked at from above."""
    red, green, none = (255.0, 0.0, 0.0), (0.0, 255.0, 0.0), Line(width_m=0.0)
    look = Look(left=Line(red, 0.06), right=Line(green, 0.06, dash_m=0.4, gap_m=0.4), centre=none)
    track = random_track(np.random.default_rng(2))
    ground = draw_ground(track, look, road_region(track), 64.0)

    def along(lateral: float, colour: int) -> float:
        """Share of a line on the road that is mostly of a colour."""
        places = track.point(np.arange(0.0, track.length_m, 0.03), lateral)
        columns, rows = np.rint((places - (ground.x0, ground.y0)) * ground.pixels_per_m).astype(int).T
        shown = ground.image[rows, columns].astype(float)
        return float((2.0 * shown[:, colour] > 1.5 * shown.sum(1)).mean())

    edge = track.lane_width_m - look.inset_m - 0.03
    assert along(edge, 0) > 0.98 and along(edge, 1) < 0.01
    assert 0.4 < along(-edge, 1) < 0.6 and along(-edge, 0) < 0.01
    assert along(0.0, 0) + along(0.0, 1) < 0.01


def test_variety_is_how_far_cameras_and_looks_differ_from_one_road_to_the_next() -> None:
    heights, looks = {}, {}
    for variety in (0.0, 0.5, 1.0):
        env = LaneKeepingEnv(vehicle="bicycle", variety=variety, height=16, width=32, pixels_per_m=8.0)
        heights[variety], looks[variety] = [], set()
        for seed in range(14):
            env.reset(seed=seed)
            heights[variety].append(env.scene.params.height_m)
            looks[variety].add(replace(env.scene.look, seed=0))
    low, high = CameraRanges().height_m
    spread = {variety: float(np.ptp(some)) for variety, some in heights.items()}
    assert spread[0.0] == 0.0 and len(looks[0.0]) == 1
    assert 0.25 * (high - low) < spread[0.5] <= 0.5 * (high - low) < spread[1.0] <= high - low
    assert 1 < len(looks[0.5]) <= len(looks[1.0]) == 14


def test_the_camera_is_known_from_the_first_reset_on() -> None:
    env = LaneKeepingEnv(vehicle="bicycle", height=24, width=40, period_s=0.1)
    assert env.camera_info() == CameraInfo(24, 40, 0.1)
    env.reset(seed=0)
    known, camera = env.camera_info(), env.scene.params
    assert (known.height, known.width, known.period_s) == (24, 40, 0.1)
    assert known.height_m == pytest.approx(camera.height_m) and known != CameraInfo(24, 40, 0.1)
