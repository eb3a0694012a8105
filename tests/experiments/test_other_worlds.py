"""Envs that others made in the verbs: evaluate, robustness, render and PPO, with perturbations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.driving.other_world import OtherWorld
from experiments.evaluate import verb
from tests.experiments.verbs import wormwheel

WORLD = '''
import gymnasium
import numpy as np
from gymnasium import spaces

SIZE = 30, 60


class Bar(gymnasium.Env):
    """A bright bar that drifts; steering moves it. It tells nothing but its picture."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = spaces.Box(0, 255, (*SIZE, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.drift, self.steps = self.np_random.uniform(-0.3, 0.3), self.np_random.choice([-0.06, 0.06]), 0
        return self.render(), {"y": -self.place}

    def step(self, action):
        self.place += self.drift - 0.2 * float(action[0])
        self.steps += 1
        lost = abs(self.place) > 1
        return self.render(), 1.0 - abs(self.place), lost, False, {"y": -self.place}

    def render(self):
        frame = np.full((*SIZE, 3), 60, np.uint8)
        middle = round((0.5 + 0.4 * self.place) * SIZE[1])
        frame[:, max(middle - 3, 0) : middle + 3] = 220
        return frame


def make():
    return Bar()


def driving():
    from envs.driving.env import DrivingEnv

    return DrivingEnv(Bar(), lateral_offset="info.y", lane_width="constant.2", height=24, width=48, episode_s=1.5)


def good():
    def steer(frame):
        light = frame[..., 0].astype(float).mean(0) - 60
        place = (light * np.linspace(-1, 1, len(light))).sum() / max(light.sum(), 1)
        return float(np.clip(6 * place, -1, 1))

    return steer


def still():
    return lambda frame: 0.0
'''


@pytest.fixture
def world(tmp_path: Path) -> Path:
    path = tmp_path / "world.py"
    path.write_text(WORLD, encoding="utf-8")
    return path


def test_evaluate_says_what_the_env_tells_and_what_it_does_not(world: Path, tmp_path: Path, capsys):
    file = tmp_path / "figures.json"
    words = ["evaluate", "--policy", f"{world}:good", f"{world}:still", "--env", f"{world}:make", "--episode-s", "1.5"]
    words += ["--episodes", "3", "--workers", "1", "--perturbations", "gaussian:2"]
    ran = wormwheel(capsys, *words, "--json", file)
    assert ran.code == 0, ran.err
    rows = {(row["driver"], row["perturbation"]): row for row in json.loads(file.read_text())["figures"]["driving"]}
    assert len(rows) == 4
    crashes = {key: row["figures"]["crashes"]["value"] for key, row in rows.items()}
    assert crashes["world.py:good", ""] == crashes["world.py:good", "gaussian:2"] == 0
    assert crashes["world.py:still", ""] == 3
    assert rows["world.py:good", ""]["figures"]["mean_offset_lane"]["value"] is None
    assert "offset" not in ran.out.split("note:")[0] and "per km" not in ran.out.split("note:")[0]
    assert "does not tell where in its lane the car is" in ran.out + ran.err
    with_offset = wormwheel(
        capsys,
        *words[:-2],
        "--perturbations",
        "latency:2",
        "--env-names.lateral-offset",
        "info.y",
        "--env-names.lane-width",
        "constant.2",
    )
    assert with_offset.code == 0 and "mean offset, % of lane" in with_offset.out, with_offset.err


@pytest.mark.parametrize(("given", "length_s"), [((), 1.5), (("--episode-s", "60"), 60.0), (("--episode-s", "2"), 2.0)])
def test_a_drive_is_as_long_as_the_env_has_it_unless_a_length_is_given(
    given: tuple[str, ...], length_s: float, world: Path, capsys, monkeypatch
):
    """60 s, LaneKeeping's own, is a length like any other."""

    def seen(drivers: object, options: object, world: OtherWorld) -> object:
        raise ValueError(f"drives of {world.episode_s:g} s")

    monkeypatch.setattr(verb, "evaluate_driving", seen)
    ran = wormwheel(capsys, "evaluate", "--policy", f"{world}:good", "--env", f"{world}:driving", *given)
    assert f"drives of {length_s:g} s" in ran.complaint


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--env", "{}:make", "--variety", "0.1"), "options of LaneKeeping"),
        (("--env", "{}:make", "--expert"), "--expert and --latency are for LaneKeeping"),
        (("--env", "{}:make", "--perturbations", "friction:2"), "changes the road or the car"),
        (("--env", "{}:nothing"), "has no function 'nothing'"),
        (("--env", "NoSuchEnv-v0"), "there is no env 'NoSuchEnv-v0'"),
        (("--env-names.camera", "render"), "give --env"),
    ],
)
def test_what_cannot_be_done_elsewhere_is_one_line(words: tuple[str, ...], says: str, world: Path, capsys):
    given = [word.format(world) for word in words]
    ran = wormwheel(capsys, "evaluate", "--policy", f"{world}:good", "--episodes", "1", "--workers", "1", *given)
    assert ran.code == 2 and says in ran.complaint


@pytest.mark.thorough
def test_robustness_leaves_roads_out_and_drives_again_when_the_env_changes(world: Path, tmp_path: Path, capsys):
    pd = pytest.importorskip("pandas")
    out = tmp_path / "out"
    drivers = tmp_path / "drivers.py"
    drivers.write_text(WORLD, encoding="utf-8")
    words = ["robustness", "--policy", f"good={drivers}:good", f"still={drivers}:still", "--env", f"{world}:make"]
    words += ["--perturbations", "fog:2", "friction:2", "action_noise:2", "--roads", "2", "--episode-s", "2"]
    words += ["--films", "1", "--workers", "1", "--out", out]
    ran = wormwheel(capsys, *words)
    assert ran.code == 0, ran.err
    assert "friction:2 left out" in ran.out + ran.err
    table = pd.read_parquet(out / "results.parquet")
    assert len(table) == 2 * 2 * 3 and table.mean_offset_lane.isna().all()
    assert table[table.driver == "still"].lane_error.mean() > table[table.driver == "good"].lane_error.mean() == 0
    (film,) = (out / "films").glob("*.mp4")
    assert film.name.startswith("still") and f"--env {world}:make" in (out / "report.html").read_text()
    again = wormwheel(capsys, *words)
    assert "6 of 6 jobs are done already" in again.out + again.err
    world.write_text(WORLD.replace("0.06", "0.07"), encoding="utf-8")
    changed = wormwheel(capsys, *words)
    assert changed.code == 0 and "are done again" in changed.out + changed.err


def test_render_films_a_perturbed_drive_elsewhere(world: Path, tmp_path: Path, capsys):
    film = tmp_path / "drive.mp4"
    words = ("--env", f"{world}:driving", "--perturbation", "fog:3", "--seconds", "0.5", "--out", film)
    ran = wormwheel(capsys, "render", "--policy", f"{world}:good", *words)
    assert ran.code == 0, ran.err
    assert film.stat().st_size > 1000 and "% of the lane width off its middle" in ran.out


def test_ppo_learns_in_a_driving_env_and_its_policy_is_evaluated_there(world: Path, tmp_path: Path, capsys):
    pytest.importorskip("stable_baselines3")
    out, env = tmp_path / "run", f"{world}:driving"
    small = ("--envs", "2", "--n-steps", "16", "--chunk", "8", "--batch-size", "16", "--n-epochs", "1", "--no-film")
    words = ("train", "ppo", "--env", env, "--core", "gru", *small, "--steps", "32", "--evaluate-every", "32")
    refused = wormwheel(capsys, *words, "--evaluate-episodes", "1", "--out", out)
    assert refused.code == 2 and "--trust" in refused.complaint
    ran = wormwheel(capsys, *words, "--evaluate-episodes", "1", "--perturbations", "gaussian", "--out", out, "--trust")
    assert ran.code == 0, ran.err
    untrusted = wormwheel(capsys, "evaluate", "--policy", out, "--episodes", "1")
    assert untrusted.code == 2 and "--trust" in untrusted.complaint
    rewards = wormwheel(capsys, "evaluate", "--policy", out, "--episodes", "2", "--trust", "--perturbations", "fog:3")
    assert rewards.code == 0 and "reward" in rewards.out, rewards.err
    figures = tmp_path / "figures.json"
    words = ("--env", env, "--episodes", "1", "--workers", "1", "--json", figures)
    drives = wormwheel(capsys, "evaluate", "--policy", out, f"{world}:good", *words)
    assert drives.code == 0, drives.err
    assert len(json.loads(figures.read_text())["figures"]["driving"]) == 2
