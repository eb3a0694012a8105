"""Envs that are odd in some way: each is driven as it should be, or is one line that says what it gave."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.driving.env import DrivingEnv
from envs.driving.make import make_env
from envs.driving.names import DrivingNames
from envs.foreign_code import ForeignCodeError

PICTURE = spaces.Box(0, 255, (12, 16, 3), np.uint8)


class Odd(gymnasium.Env[Any, Any]):
    """A picture without a car; keeps the last action that it was given."""

    def __init__(self, action: Any = None, seen: Any = PICTURE, **gives: Any):
        self.action_space = spaces.Box(-1, 1, (1,), np.float32) if action is None else action
        self.observation_space: Any = seen
        self.gives, self.last = gives, np.zeros(1)
        self.metadata = gives.get("metadata", {})

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.gives["reset"]() if "reset" in self.gives else (self.observation_space.sample(), self._info())

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.last = action
        usual = (self.observation_space.sample(), self.gives.get("reward", 0.0), False, False, self._info())
        return self.gives["step"]() if "step" in self.gives else usual

    def close(self) -> None:
        self.gives.get("close", lambda: None)()

    def _info(self) -> Any:
        return self.gives.get("info", {})


LEFT = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("action", "names", "lock"),
    [
        (spaces.Box(-1, 1, (1,), np.float64), {}, [1.0]),
        (spaces.Box(-1, 1, (3,), np.float32), {"steering": 2}, [0.0, 0.0, 1.0]),
        (spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)), {}, [1.0, 0.5, 0.5]),
        (spaces.Box(-25, 25, (1,), np.float32), {"positive": "right"}, [-25.0]),
        (spaces.Box(0, 10, (1,), np.float32), {}, [10.0]),
        (spaces.Box(-10, 10, (1,), np.int32), {}, [10]),
        (spaces.Box(0, 255, (1,), np.uint8), {"positive": "right"}, [0]),
        (spaces.Box(-1, 1, (), np.float32), {}, 1.0),
        (spaces.Box(-1, 1, (1, 2), np.float32), {"steering": 1}, [[0.0, 1.0]]),
    ],
)
def test_every_box_gets_an_action_that_it_holds(action: spaces.Box, names: dict[str, Any], lock: Any):
    odd = Odd(action)
    env = DrivingEnv(odd, DrivingNames(**names))
    env.reset(seed=0)
    env.step(LEFT)
    assert odd.last.dtype == action.dtype and odd.last.shape == action.shape
    np.testing.assert_array_equal(odd.last, lock)


@pytest.mark.parametrize(
    "action",
    [
        spaces.Discrete(3),
        spaces.MultiDiscrete([3, 3]),
        spaces.Dict(steer=spaces.Box(-1, 1, (1,), np.float32)),
        spaces.Tuple((spaces.Box(-1, 1, (1,), np.float32),)),
        spaces.Box(-np.inf, np.inf, (1,), np.float32),
        spaces.Box(0, 0, (1,), np.float32),
    ],
)
def test_actions_without_a_range_of_steering_are_refused(action: Any):
    with pytest.raises(ValueError, match="of a Box action, this env has|finite and not empty"):
        DrivingEnv(Odd(action))


def test_pictures_inside_other_observations_are_named_by_their_place():
    for seen, first in ((spaces.Dict(rgb=PICTURE), "rgb"), (spaces.Tuple((PICTURE, PICTURE)), "0")):
        with pytest.raises(ValueError, match=rf"such as --env-names.camera observation.{first}"):
            DrivingEnv(Odd(seen=seen))
        env = DrivingEnv(Odd(seen=seen), camera=f"observation.{first}")
        assert env.reset(seed=0)[0]["camera"].shape == (12, 16, 3)


def _raise() -> Any:
    raise ConnectionError("no simulator at port 9091")


def _leave() -> Any:
    raise SystemExit(0)


CIRCLE = [[9.0 * math.cos(angle), 9.0 * math.sin(angle)] for angle in np.arange(20) / 20 * math.tau]
FRAME = np.zeros((12, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        ({"step": _raise}, r"step\(\) of the env failed: ConnectionError: no simulator"),
        ({"step": _leave}, r"it ended the program: sys.exit\(0\)"),
        ({"step": lambda: None}, "must return observation, reward, terminated.*got a NoneType"),
        ({"step": lambda: (FRAME, 0.0, False, {})}, "since 0.26; got a tuple of 4"),
        ({"step": lambda: (FRAME[:5], 0.0, False, False, {})}, r"expected frames uint8 \(12, 16, 3\), got uint8 \(5"),
        ({"reset": _raise}, r"reset\(.*\) of the env failed"),
        ({"reset": lambda: FRAME}, r"since 0.26; got uint8 \[12, 16, 3\]"),
        ({"reward": math.nan}, "reward of the env must be a finite number, got a float nan"),
        ({"reward": None}, "reward of the env must be a finite number, got a NoneType"),
        ({"reward": np.ones(2)}, r"reward of the env must be a finite number, got float64 \[2\]"),
    ],
)
def test_what_an_env_must_not_do_is_one_line(gives: dict[str, Any], words: str):
    env = DrivingEnv(Odd(**gives))
    with pytest.raises(ValueError, match=words) as caught:
        env.reset(seed=0)
        env.step(LEFT)
    assert "\n" not in str(caught.value)


def test_rewards_of_one_number_in_an_array_and_strange_metadata_are_taken():
    for gives in ({"reward": np.array([0.5])}, {"reward": np.float32(0.5)}):
        env = DrivingEnv(Odd(**gives))
        env.reset(seed=0)
        assert env.step(LEFT)[1] == 0.5
    for metadata in (None, {"render_fps": 0}, {"render_fps": "many"}, {"render_fps": math.nan}):
        assert DrivingEnv(Odd(metadata=metadata)).period_s == 0.05
    assert DrivingEnv(Odd(metadata={"render_fps": "10"})).period_s == 0.1


def test_what_was_driven_counts_even_if_the_env_cannot_be_closed(caplog: pytest.LogCaptureFixture):
    DrivingEnv(Odd(close=_raise)).close()
    assert "close() of the env failed: ConnectionError" in caplog.text


@pytest.mark.parametrize(
    ("place", "info", "words"),
    [
        ("lateral_offset", np.array([0.1, 0.2]), r"expected a number, got an array \[2\]: name one of it"),
        ("lateral_offset", "far", "expected a number, got a str"),
        ("speed", np.zeros((12, 16, 3)), "a number or a vector of up to 3"),
        ("lane_width", 0.0, "greater than 0 m, got 0"),
        ("lane_width", -3.0, "greater than 0 m, got -3"),
        ("crashed", PICTURE, "expected True, False or a number, got a Box"),
        ("crashed", math.nan, "expected True, False or a number, got a float nan"),
    ],
)
def test_what_lies_at_a_place_must_be_what_it_is_for(place: str, info: Any, words: str):
    env = DrivingEnv(Odd(info={"x": info}), DrivingNames(**{place: "info.x"}))
    with pytest.raises(ValueError, match=f"info.x: .*{words}"):
        env.reset(seed=0)
        env.step(LEFT)


def test_an_offset_in_an_array_of_one_keeps_its_sign_and_a_flag_may_be_a_number():
    env = DrivingEnv(
        Odd(info={"x": np.array([-0.3]), "hit": np.array([1])}), lateral_offset="info.x", crashed="info.hit"
    )
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(LEFT)
    assert info["lateral_offset_m"] == -0.3 and terminated and info["crashed"]


@pytest.mark.parametrize(
    ("line", "position", "words"),
    [
        ([[0.0, 0.0], [1.0, math.nan], [1.0, 1.0]], (0.0, 0.0), "rows of finite numbers"),
        (None, (0.0, 0.0), "rows of finite numbers, x and y .*got a NoneType"),
        ([[0.0], [1.0], [2.0]], (0.0, 0.0), "rows of finite numbers"),
        (CIRCLE, (math.nan, 0.0), "expected finite x and y"),
        (CIRCLE, 3.0, "expected finite x and y"),
    ],
)
def test_a_centre_line_and_a_position_must_be_numbers(line: Any, position: Any, words: str):
    where: dict[str, Any] = {
        "centre_line": "info.line",
        "position": "info.at",
        "yaw": "constant.0",
        "lane_width": "constant.1",
    }
    env = DrivingEnv(Odd(info={"line": line, "at": position}), DrivingNames(**where))
    with pytest.raises(ValueError, match=words):
        env.reset(seed=0)


def test_the_camera_must_be_named():
    with pytest.raises(ValueError, match="camera must say where the picture is"):
        DrivingNames(camera="")


CODE = """
import sys
from tests.envs.driving.test_odd_envs import Odd
one = Odd()
def raises(): raise OSError("no licence")
def leaves(): sys.exit(0)
def needs(size): return Odd()
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", r"sim.py:raises failed: OSError: no licence \(sim.py, line 5\)"),
        ("leaves", r"ended the program: sys.exit\(0\)"),
        ("needs", "sim.py:needs failed: TypeError.*without arguments"),
        ("one", "has no function 'one', it is a Odd.*every drive needs one of its own"),
        ("gone", "has no function 'gone'. It has: Odd"),
    ],
)
def test_functions_that_make_no_env_are_one_line(tmp_path: Path, name: str, words: str):
    (tmp_path / "sim.py").write_text(CODE)
    with pytest.raises(ForeignCodeError if name != "gone" else ValueError, match=words):
        make_env(f"{tmp_path}/sim.py:{name}")
