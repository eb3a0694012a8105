"""Envs that others made as envs to drive in: by names alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from envs.driving.env import DrivingEnv
from envs.driving.known import driving_env
from envs.driving.make import make_env
from envs.driving.names import DrivingNames
from envs.perturbations import PerturbedEnv
from envs.protocol import CameraCar


class Corridor(gymnasium.Env[Any, Any]):
    """A car in a corridor 4 m wide; it counts everything in a way of its own.

    The picture is grey, channels first, in [0, 1], with a bright column where the middle is; the action is (gas, wheel)
    with the wheel in [-30, 30], positive to the right; the place is counted to the right.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    dtype: Any = np.float32

    def __init__(self) -> None:
        self.render_mode = "rgb_array"
        self.observation_space = spaces.Dict({"views": spaces.Dict({"front": spaces.Box(0.0, 1.0, (1, 20, 41))})})
        limits = np.array([1.0, 30.0])
        self.action_space = spaces.Box(-limits.astype(self.dtype), limits.astype(self.dtype), dtype=self.dtype)
        self.right, self.heading, self.speed = 0.0, 0.0, 0.0
        self.actions: list[np.ndarray] = []

    def picture(self) -> np.ndarray:
        frame = np.full((1, 20, 41), 0.2, np.float32)
        frame[0, :, int(np.clip(round(20 - 5 * self.right), 0, 40))] = 1.0
        return frame

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.right, self.heading, self.speed = float(self.np_random.uniform(-0.5, 0.5)), 0.0, 5.0
        return {"views": {"front": self.picture()}}, {"pose": [self.right, 0.0]}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(np.asarray(action))
        self.speed += float(action[0])
        self.heading += 0.02 * float(action[1])
        self.right += 0.1 * self.speed * math.sin(self.heading)
        return {"views": {"front": self.picture()}}, 1.0, abs(self.right) > 3.0, False, {"pose": [self.right, 0.0]}

    def render(self) -> Any:
        return np.repeat((255 * self.picture()[0, :, :, None]).astype(np.uint8), 3, axis=2)


class WholeCorridor(Corridor):
    """The same with a wheel that has notches."""

    dtype = np.int32


NAMES = DrivingNames(
    camera="observation.views.front",
    steering=1,
    positive="right",
    gas=0,
    brake=0,
    gas_per_mps=0.5,
    brake_per_mps=0.5,
    speed="env.speed",
    speed_mps=6.0,
    lateral_offset="info.pose.0",
    offset_positive="right",
    heading_error="env.heading",
    lane_width="constant.4",
    episode_s=20.0,
)


def drive(env: gymnasium.Env[Any, Any], steps: int, gain: float = 0.3, seed: int = 3) -> list[dict[str, Any]]:
    """Steer to the middle by the picture alone; what the info said."""
    observation, info = env.reset(seed=seed)
    found = [info]
    for _ in range(steps):
        bright = observation["camera"].astype(float).mean((0, 2)).argmax()
        heading = info["heading_error_rad"]
        action = np.array([np.clip(gain * (20 - bright) / 5 - heading, -1, 1)], np.float32)
        observation, _, terminated, truncated, info = env.step(action)
        found.append({**info, "elapsed": float(observation["elapsed"][0])})
        if terminated or truncated:
            break
    return found


def test_it_is_an_env_like_lane_keeping() -> None:
    env = DrivingEnv(Corridor(), NAMES)
    check_env(env, skip_render_check=True)
    assert isinstance(env, CameraCar) and env.period_s == pytest.approx(0.1)
    space: Any = env.observation_space
    assert space["camera"].shape == (20, 41, 3) and space["camera"].dtype == np.uint8
    observation, info = env.reset(seed=0)
    assert set(np.unique(observation["camera"])) == {51, 255}
    assert {"lateral_offset_m", "progress_m", "time_s", "crashed", "lane_width_m", "speed_mps", "steering"} <= set(info)


def test_positive_steering_goes_left_and_the_offset_is_positive_there() -> None:
    for side in (1.0, -1.0):
        env = DrivingEnv(Corridor(), NAMES)
        env.reset(seed=1)
        info, terminated = {}, False
        while not terminated:
            _, _, terminated, truncated, info = env.step(np.array([0.3 * side], np.float32))
            assert not truncated
        assert info["crashed"] and side * info["lateral_offset_m"] > 2.0  # half of the lane's 4 m
        assert side * info["heading_error_rad"] > 0.0


def test_a_driver_that_sees_the_picture_stays_in_the_middle_at_the_wanted_speed() -> None:
    found = drive(DrivingEnv(Corridor(), NAMES), 100)
    assert len(found) == 101 and abs(found[-1]["lateral_offset_m"]) < 0.3
    assert found[-1]["speed_mps"] == pytest.approx(6.0, abs=0.1)
    assert found[-1]["time_s"] == pytest.approx(10.0) and found[-1]["progress_m"] == pytest.approx(60.0, rel=0.05)


def test_gain_range_and_numbers_of_the_action_are_the_envs_own() -> None:
    corridor = Corridor()
    env = DrivingEnv(corridor, NAMES, steering_gain=0.5)
    env.reset(seed=0)
    for steering in (1.0, -0.2, 0.0):
        env.step(np.array([steering], np.float32))
        assert corridor.actions[-1][1] == pytest.approx(-15.0 * steering)
    whole = WholeCorridor()
    env = DrivingEnv(whole, NAMES)
    env.reset(seed=0)
    env.step(np.array([0.31], np.float32))
    assert whole.actions[-1].dtype == np.int32 and whole.actions[-1][1] == -9  # of 9.3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    env = DrivingEnv(Corridor(), NAMES)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="must be a finite number"):
        env.step(np.array([value], np.float32))
    broken = DrivingEnv(Corridor(), NAMES, speed="constant.5", lateral_offset="env.gone")
    with pytest.raises(ValueError, match="env is a Corridor and has no 'gone'"):
        broken.reset(seed=0)


@pytest.mark.parametrize(
    "text", ["fog:4", "latency:3", "camera_roll:5", "dropped_frames:4", "action_delay:4", "mirrored:5"]
)
def test_perturbations_act_and_repeat(text: str) -> None:
    def shown(perturbation: str) -> tuple[list[Any], list[bytes]]:
        env = PerturbedEnv(DrivingEnv(Corridor(), NAMES), perturbation)
        found = [env.reset(seed=4)[0]["camera"].tobytes()]
        infos = []
        for step in range(15):
            observation, _, _, _, info = env.step(np.array([0.2 * math.sin(step)], np.float32))
            found.append(observation["camera"].tobytes())
            infos.append((info["time_s"], info["lateral_offset_m"]))
        return infos, found

    assert shown(text) == shown(text) and shown(text) != shown("")


def test_held_actions_are_whole_steps_that_add_up() -> None:
    corridor = Corridor()
    env = PerturbedEnv(DrivingEnv(corridor, NAMES), "lower_rate:1")  # 1.5 periods
    env.reset(seed=0)
    elapsed = [float(env.step(np.zeros(1, np.float32))[0]["elapsed"][0]) for _ in range(10)]
    assert set(elapsed) == {1.0, 2.0} and sum(elapsed) == 15 == len(corridor.actions)
    with pytest.raises(ValueError, match="which needs LaneKeeping"):
        PerturbedEnv(DrivingEnv(Corridor(), NAMES), "friction:3")


def test_pictures_can_be_rendered_cropped_and_resized() -> None:
    env = DrivingEnv(Corridor(), NAMES, camera="render", crop_top=4, crop_bottom=6, height=16, width=64)
    observation, _ = env.reset(seed=0)
    assert observation["camera"].shape == (16, 64, 3)
    assert env.picture(observation["camera"]).shape == (20, 41, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"camera": "observation.rear"}, "observation is a Dict with views"),
        ({"camera": "eyes"}, "a place begins with observation, info, env, render, constant"),
        ({"steering": 2}, "numbers 0 to 2 of a Box action"),
        ({"positive": "up"}, "one of left, right"),
        ({"centre_line": "env.line"}, "centre_line needs position, yaw and lane_width"),
        ({"reward": "lane"}, "needs centre_line"),
        ({"speed": ""}, "cruise controller .* needs to know the speed"),
        ({"crop_top": 30}, "leave nothing of 20 rows"),
        ({"colour": 1}, "no attribute colour"),
        ({"lane_width": "constant.wide"}, "constant is followed by a number"),
    ],
)
def test_names_that_lead_nowhere_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DrivingEnv(Corridor(), NAMES, **fields)


def test_envs_are_made_by_id_module_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from tests.envs.driving.test_driving_env import Corridor as make\nword = 'x'\n")
    assert type(make_env(f"{tmp_path}/mine.py:make").unwrapped).__name__ == "Corridor"
    assert isinstance(driving_env("tests.envs.driving.test_driving_env:Corridor", NAMES), DrivingEnv)
    (tmp_path / "registers.py").write_text(
        "import gymnasium\nfrom tests.envs.driving.test_driving_env import Corridor\n"
        "gymnasium.register('mine/Corridor-v0', Corridor)\n"
    )
    assert type(make_env(f"{tmp_path}/registers.py:mine/Corridor-v0").unwrapped).__name__ == "Corridor"
    monkeypatch.chdir(tmp_path)  # where modules are looked for, too
    (tmp_path / "registers_too.py").write_text((tmp_path / "registers.py").read_text().replace("-v0", "-v1"))
    assert type(make_env("registers_too:mine/Corridor-v1").unwrapped).__name__ == "Corridor"
    for name, message in {
        "Nowhere-v9": "there is no env 'Nowhere-v9'",
        "no_such_module:Env-v0": "there is no module 'no_such_module'",
        "json:Nowhere-v9": "there is no env 'Nowhere-v9'",
        "no_such_module:make": "there is no module 'no_such_module'",
        f"{tmp_path}/gone.py:make": "there is no file",
        f"{tmp_path}/mine.py:word": "has no function 'word'",
        "builtins:dict": "gave a dict, expected a gymnasium.Env",
    }.items():
        with pytest.raises(ValueError, match=message):
            make_env(name)


def test_a_third_partys_racetrack_is_driven_by_names_alone() -> None:
    pytest.importorskip("highway_env", reason="highway-env is not installed")
    env = driving_env("racetrack-v1")
    observation, info = env.reset(seed=1)
    assert observation["camera"].shape == (96, 96, 3) and observation["camera"].std() > 5.0
    progress = []
    for side in (1.0, -1.0):
        env.reset(seed=1)
        terminated = truncated = False
        while not (terminated or truncated):
            _, _, terminated, truncated, info = env.step(np.array([0.5 * side], np.float32))
        assert terminated and info["crashed"] and side * info["lateral_offset_m"] > 2.5
        progress.append(info["progress_m"])
    perturbed = PerturbedEnv(env, "snow:4+latency:2")
    clean = env.reset(seed=1)[0]["camera"]
    assert np.abs(perturbed.reset(seed=1)[0]["camera"].astype(int) - clean).mean() > 2.0
    env.close()
