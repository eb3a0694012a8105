"""`wormwheel export` and `wormwheel bench latency`, from a trained policy to a car that drives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from agents.driving.driver import PolicyDriver
from agents.driving.rollout import rollout
from envs import LANE_KEEPING
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.export.verb import int8_frames
from policies.checkpoint import load_policy
from policies.export.car_driver import Driver
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.experiments.verbs import hear_elapsed, wormwheel

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def car(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of the small driver."""
    from experiments.export.verb import ExportOptions, run

    out = tmp_path_factory.mktemp("export") / "car"
    run(ExportOptions(policy=trained, out=out, numpy=True, check_frames=60, json=out.parent / "export.json"))
    return out


class CarDriver:
    """The exported folder at the wheel of one car."""

    def __init__(self, folder: Path):
        self.driver = Driver(folder)

    def act(
        self, frames: np.ndarray, elapsed: np.ndarray, starts: np.ndarray, envs: Sequence[gymnasium.Env[Any, Any]]
    ) -> np.ndarray:
        return self.driver.step(frames[0], float(elapsed[0]), bool(starts[0]))[None]


@pytest.mark.thorough
def test_the_folder_crashes_where_the_policy_does(car: Path, trained: Path):
    world = LaneKeepingConfig(vehicle="bicycle", height=24, width=48, variety=0.0, episode_s=6.0)

    def make(slot: int) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(LANE_KEEPING, config=world, disable_env_checker=True)

    seeds = range(1000, 1020)
    here = rollout(CarDriver(car), make, seeds, side_by_side=1)
    there = rollout(PolicyDriver(load_policy(trained / "policy")), make, seeds, side_by_side=1)
    assert [drive.crashed for drive in here] == [drive.crashed for drive in there]
    assert any(drive.crashed for drive in here)  # a driver that was hardly trained: something can differ
    for one, other in zip(here, there, strict=True):
        assert one.distance_m == pytest.approx(other.distance_m, abs=0.02)


def test_what_was_compared_is_written(car: Path):
    figures = json.loads((car.parent / "export.json").read_text())["figures"]["parity"]
    assert set(figures) == {"onnxruntime", "numpy"} and all(one["motors"] <= 1e-5 for one in figures.values())


def test_an_export_that_steers_otherwise_is_an_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from experiments.export import verb
    from policies.export.parity import Parity

    monkeypatch.setattr(verb, "write_car", lambda *_, **__: None)
    monkeypatch.setattr(verb, "measure_parity", lambda *_, **__: {"numpy": Parity(5, 2e-5, 1e-6, 0.0)})
    ran = wormwheel(capsys, "export", "--policy", trained, "--out", tmp_path / "car")
    assert ran.code == 2 and "2.0e-05 away" in ran.complaint
    ran = wormwheel(capsys, "export", "--policy", trained, "--data", tmp_path)
    assert ran.code == 2 and "--int8" in ran.complaint
    ran = wormwheel(capsys, "export", "--policy", trained, "--check-frames", "0")
    assert ran.code == 2 and "check_frames must be greater than 0" in ran.complaint


def test_latency_is_measured_and_replayed(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "latency.json"
    ran = wormwheel(
        capsys, "bench", "latency", "--policy", trained, "--engines", "torch", "--frames", 100, "--json", file
    )
    assert ran.code == 0, ran.err
    samples = json.loads(file.read_text())["figures"]["engines"]["torch"]["samples_ms"]
    assert len(samples) == 100 and min(samples) > 0
    options = ("--episodes", 2, "--episode-s", 2, "--vehicle", "bicycle", "--workers", 1, "--json", tmp_path / "e.json")
    ran = wormwheel(capsys, "evaluate", "--policy", trained, "--latency", f"{file}:torch", *options)
    assert ran.code == 0, ran.err
    assert ran.err.count("crashes per km") == 2 and "time not reported" in ran.err
    rows = json.loads((tmp_path / "e.json").read_text())["figures"]["driving"]
    assert [row["latency"] is None for row in rows] == [True, False, False]
    ran = wormwheel(capsys, "evaluate", "--policy", trained, "--latency", f"{file}:numpy", *options)
    assert ran.code == 2 and "torch" in ran.complaint


def test_int8_ranges_come_from_a_drive_of_any_driver_in_its_own_time(monkeypatch: pytest.MonkeyPatch):
    heard = hear_elapsed(monkeypatch)
    fit = Preprocessing(24, 48, height=24, width=48)
    config = PolicyConfig(core="gru", preprocessing=fit, motors=2, nominal_period_s=0.1)
    frames = int8_frames(DrivingPolicy.create(config), ())
    assert len(frames) >= 4 and frames.shape[1:] == (24, 48, 3) and set(heard) == {0.5}
