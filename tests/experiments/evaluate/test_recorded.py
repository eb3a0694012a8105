"""`wormwheel evaluate --env Recorded`, and PPO's world of recordings."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agents.driving.metrics import Drive
from agents.driving.record import RecorderConfig, record
from agents.driving.recorded_world import RecordedWorld, RigOptions, recorded_world
from agents.driving.rollout import Step
from agents.driving.trials import Run, Trial, drive_together
from agents.ppo.envs import make_world
from agents.recordings import load_episodes
from agents.recordings.convert import convert
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.cli import main, parse_options
from experiments.evaluate.options import EvaluateOptions
from experiments.evaluate.recorded import world_of
from experiments.evaluate.recordings import RecordingOptions
from experiments.evaluate.verb import defaults_for
from experiments.film.reel import Filmed
from experiments.robustness.drives_data import drives_json
from experiments.robustness.films import film_failures
from experiments.robustness.findings import Condition, Failure
from experiments.robustness.provenance import fingerprint_world
from experiments.robustness.stability import clean_footage
from policies.checkpoint import load_policy, save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

WORLD = LaneKeepingConfig(vehicle="bicycle", episode_s=4.0, variety=0.2, height=24, width=48)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recorded") / "data"
    record(place, WORLD, RecorderConfig(frames=160))
    return place


def test_drivers_beside_straight_and_the_recorded_steering(recording: Path, tmp_path: Path):
    fit = Preprocessing(24, 48, height=24, width=48)
    save_policy(DrivingPolicy.create(PolicyConfig(core="gru", preprocessing=fit)), tmp_path / "mine")
    words = ["evaluate", "--env", "Recorded", "--data", str(recording), "--policy", str(tmp_path / "mine")]
    more = ["--episodes", "3", "--episode-s", "1.5", "--workers", "1", "--expert", "--perturbations", "fog:2"]
    assert main([*words, *more, "--json", str(tmp_path / "out.json")]) == 0
    driving = json.loads((tmp_path / "out.json").read_text())["figures"]["driving"]
    assert [one["driver"] for one in driving] == [
        "always straight",
        "recorded steering",
        "expert",
        "mine",
        "mine",
    ]
    offsets = {one["driver"]: one["figures"]["mean_offset_lane"]["value"] for one in driving}
    assert offsets["expert"] < offsets["always straight"]
    assert all(len(one["drives"]) == 3 for one in driving)
    assert main([*words, "--perturbations", "friction:3"]) == 2, "a recording has no other grip"


def test_what_was_recorded_elsewhere_is_driven_with_a_guessed_rig(recording: Path, tmp_path: Path):
    convert(load_episodes(recording), tmp_path / "tub", "donkeycar")
    world = recorded_world([tmp_path / "tub"], RigOptions(horizon=0.3, speed_mps=1.0), episode_s=2.0)
    env = make_world("Recorded", world)
    observation, info = env.reset(seed=0)
    assert observation["camera"].shape == (24, 48, 3)
    assert info["speed_mps"] == 1.0 and 0.05 < info["limit_m"] < 1.0
    _, reward, *_ = env.step(np.array([0.0], np.float32))
    assert np.isfinite(float(reward))
    with pytest.raises(ValueError, match="name them with --data"):
        make_world("Recorded", None)


def test_options_that_do_not_go_together(recording: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "--env", "Recorded", "--expert"]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["train", "ppo", "--env", "Recorded"]) == 2
    assert main(["train", "dagger", "--env", "Recorded"]) == 2
    assert main(["evaluate", "--data", str(recording), "--expert"]) == 2


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("driver") / "mine"
    fit = Preprocessing(24, 48, height=24, width=48)
    save_policy(DrivingPolicy.create(PolicyConfig(core="gru", preprocessing=fit)), place)
    return place


def test_robustness_drives_along_a_recording_in_closed_loop(
    recording: Path, driver: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["robustness", "--policy", str(driver), "--env", "Recorded", "--roads", "2", "--episode-s", "1.0"]
    more = ["--perturbations", "fog:3", "friction:3", "--workers", "1", "--films", "1", "--out", str(tmp_path / "out")]
    assert main([*words, *more]) == 2
    assert "--data" in capsys.readouterr().err
    assert main([*words, *more, "--data", str(recording)]) == 0
    assert "friction:3 left out" in capsys.readouterr().err
    rows = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert sorted(rows.perturbation.unique()) == ["", "fog:3"] and len(rows) == 4
    assert (rows.planned_s == 1.0).all() and rows.saliency_ssim.notna().all()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["plan"]["world"]["name"] == "Recorded"
    world = recorded_world([recording])
    changed = replace(world, code="another recording")
    assert world.code and fingerprint_world(world) != fingerprint_world(changed) != fingerprint_world()


def test_the_gate_judges_along_a_recording(recording: Path, driver: Path, tmp_path: Path):
    words = ["gate", "--policy", str(driver), "--against", str(driver), "--perturbations", "fog:3", "--workers", "1"]
    more = ["--budget", "4", "--episode-s", "1.0", "--films", "0", "--out", str(tmp_path / "gate")]
    assert main([*words, *more, "--env", "Recorded"]) == 2, "without recordings"
    assert main([*words, *more, "--data", str(recording)]) == 2, "recordings are for Recorded"
    assert main([*words, *more, "--env", "Recorded", "--data", str(recording), "--markings", "line"]) == 2
    assert main([*words, *more, "--env", "Recorded", "--data", str(recording)]) == 0
    rows = pd.read_parquet(tmp_path / "gate" / "drives.parquet")
    assert set(rows.driver) == {"policy", "released"} and set(rows.perturbation) == {"", "fog:3"}
    (one, other) = (rows[rows.driver == name].lane_error.tolist() for name in ("policy", "released"))
    assert one == other, "the same driver drives the same"


def test_the_gate_fits_the_frames_of_a_recording_as_it_is_asked_to(recording: Path, tmp_path: Path):
    fit = Preprocessing(30, 48, height=24, width=48)
    save_policy(DrivingPolicy.create(PolicyConfig(core="gru", preprocessing=fit)), tmp_path / "mine")
    words = ["gate", "--policy", str(tmp_path / "mine"), "--require", "crashes <= 99", "--perturbations", "fog:3"]
    words += ["--env", "Recorded", "--data", str(recording), "--workers", "1", "--budget", "3", "--episode-s", "0.5"]
    words += ["--films", "0", "--out", str(tmp_path / "gate")]
    assert main(words) == 2, "frames of another size"
    steered = []
    for gain in ("1", "0.25"):
        assert main([*words, "--crop-top", "0", "--steering-gain", gain]) == 0
        steered.append(pd.read_parquet(tmp_path / "gate" / "drives.parquet").steering_rate_per_s.sum())
    assert steered[1] < 0.5 * steered[0]


def test_frames_that_do_not_fit_are_told_before_anything_is_written(recording: Path, tmp_path: Path):
    fit = Preprocessing(30, 48, height=24, width=48)
    save_policy(DrivingPolicy.create(PolicyConfig(core="gru", preprocessing=fit)), tmp_path / "mine")
    words = ["robustness", "--policy", str(tmp_path / "mine"), "--perturbations", "fog:3", "--env", "Recorded"]
    words += ["--data", str(recording), "--workers", "1", "--roads", "1", "--episode-s", "0.3", "--films", "0"]
    words += ["--out", str(tmp_path / "out")]
    assert main(words) == 2 and not (tmp_path / "out").exists()
    assert main([*words, "--crop-top", "0"]) == 0, "its own correction"


def test_a_failure_along_a_recording_is_shown_from_where_it_began(
    recording: Path, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lengths: list[float] = []

    def film(take: Any, world: RecordedWorld, seed: int, path: Path) -> Filmed:
        lengths.append(world.episode_s)
        made = Drive(seed, "", 1.0, 1.0, True, 0.5, np.zeros(2), np.zeros(2), 0.05)
        return Filmed(1, np.zeros((2, 2, 3), np.uint8), [], made)

    monkeypatch.setattr("experiments.robustness.films.film_other_world", film)
    world = recorded_world([recording], episode_s=3.0)
    failure = Failure("mine", 0, Condition.of("fog:3"), 7, 1, 0.5)
    (made,) = film_failures([failure], {("mine", 0): driver}, world, tmp_path)
    assert lengths == [3.0], "where it begins is drawn by the length of the drive"
    words = shlex.split(made.command)
    options = parse_options(EvaluateOptions, "wormwheel evaluate", words[2:])
    assert words[1] == "evaluate" and options.perturbations == ("fog:3",) and options.episodes == 1
    assert (options.seed, options.noise_seed) == (7, 1) and world_of(options) == world
    table = pd.DataFrame([], columns=["driver"])
    found = SimpleNamespace(conditions=[])
    page = drives_json(table, found, {("mine", 0): driver}, world, [])  # type: ignore[arg-type]
    assert page["begin"]["mine 0"].startswith("wormwheel evaluate") and not page["filmed"]


def test_a_minute_along_a_recording_is_a_minute(recording: Path):
    given = RecordingOptions(data=(recording,))
    minute = EvaluateOptions(env="Recorded", recordings=given, world=LaneKeepingConfig(episode_s=60.0))
    assert world_of(minute).episode_s == 60.0 and defaults_for(minute).world.episode_s == 20.0


def test_saliency_is_that_of_the_drive_itself(recording: Path, driver: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("experiments.robustness.stability.FOOTAGE_S", 0.5)
    world = recorded_world([recording], episode_s=1.5)
    trial = Trial(driver, world, (Run(1), Run(2), Run(5)))
    begun: dict[int, np.ndarray] = {}

    def note(step: Step) -> None:
        begun.setdefault(step.seed, step.frame.copy())

    drive_together(trial, lambda _: None, observer=note)
    footage = clean_footage(load_policy(driver), trial)
    for one in footage:
        np.testing.assert_array_equal(one.frames[0], begun[one.seed])
        assert len(one.frames) <= 10
