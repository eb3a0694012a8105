"""Envs of others that PPO learns in: what they must not do is one line, and none is judged for ever."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.ppo import evaluate
from agents.ppo.envs import make_world
from agents.ppo.evaluate import MiddleAction
from envs.foreign_code import ForeignCodeError

CODE = """
import math, sys
import gymnasium
import numpy as np
from gymnasium import spaces

class Sim(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, gives=None):
        self.gives = gives or (lambda: (np.zeros(2, np.float32), 0.5, False, False, {}))

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return self.gives()

def lost(): return {}["car"]
def plain(): return Sim()
def raises(): return Sim(lost)
def leaves(): return Sim(lambda: sys.exit(0))
def nothing(): return Sim(lambda: None)
def four(): return Sim(lambda: (np.zeros(2, np.float32), 0.0, False, {}))
def reward(value): return Sim(lambda: (np.zeros(2, np.float32), value, False, False, {}))
def nan(): return reward(math.nan)
def none(): return reward(None)
def two(): return reward(np.ones(2))
def one(): return reward(np.array([0.25]))
"""


@pytest.fixture
def sim(tmp_path: Path) -> Any:
    (tmp_path / "sim.py").write_text(CODE)

    def step(name: str) -> float:
        env = make_world(f"{tmp_path}/sim.py:{name}", trust=True)
        env.reset(seed=0)
        return float(env.step(np.zeros(1, np.float32))[1])

    step.place = tmp_path / "sim.py"  # type: ignore[attr-defined]
    return step


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", r"step\(\) of .*sim.py:raises failed: KeyError: 'car' \(sim.py, line 20\)"),
        ("leaves", r"ended the program: sys.exit\(0\)"),
        ("nothing", "must return observation, reward, terminated"),
        ("four", "must return observation, reward, terminated"),
        ("nan", "reward of .*sim.py:nan must be a finite number, got nan"),
        ("none", "must be a finite number, got None"),
        ("two", "must be a finite number, got array"),
    ],
)
def test_what_an_env_must_not_do_is_one_line(sim: Any, name: str, words: str) -> None:
    with pytest.raises(ForeignCodeError, match=words):
        sim(name)


def test_rewards_that_are_numbers_are_taken(sim: Any) -> None:
    assert sim("plain") == 0.5 and sim("one") == 0.25 and not math.isnan(sim("plain"))


def test_an_env_that_never_ends_is_not_judged_for_ever(sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "MOST_STEPS", 50)

    def make() -> Any:
        return make_world(f"{sim.place}:plain", trust=True)

    with pytest.raises(ValueError, match="has not ended after 50 steps: give the env a time limit"):
        evaluate.evaluate(MiddleAction(make().action_space), make, [0, 1])
