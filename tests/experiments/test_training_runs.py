"""What both training verbs share: directories that are theirs alone, dead drivers named, several seeds, devices."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from agents.driving.open_loop import evaluate_open_loop
from agents.ppo.envs import make_world
from agents.ppo.evaluate import MiddleAction
from agents.recordings import load_episodes
from agents.runs.device import check_device
from experiments.robustness.drivers import find_policy_runs
from experiments.train_ppo import TrainPPOOptions
from experiments.training_runs import dead_driver, dead_learner
from experiments.training_sets import SplitOptions, are_simulated, split
from policies.checkpoint import load_policy
from tests.experiments.verbs import DRIVER, tree, wormwheel, write_tub

QUICK = (*DRIVER, "--epochs", 1, "--no-baseline")


def test_a_recording_is_never_in_the_way_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], recording: Path):
    shutil.copytree(recording, tmp_path / "p" / "frames")
    before = tree(tmp_path)
    for data, out in (
        (tmp_path / "p" / "frames", tmp_path / "p"),
        (tmp_path / "p" / "frames", tmp_path / "p" / "frames"),
    ):
        refused = wormwheel(capsys, "train", "imitation", "--data", data, "--out", out, *QUICK)
        assert refused.code == 2 and "not written over" in refused.complaint
        assert tree(tmp_path) == before


def test_results_without_their_mark_are_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, tub: Path
):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    before = tree(tmp_path)
    for verb in (("train", "imitation", "--data", tub, *QUICK), ("train", "ppo"), ("demo", "--quick"), ("record",)):
        refused = wormwheel(capsys, *verb, "--out", tmp_path / "run")
        assert refused.code == 2 and "not written over" in refused.complaint, verb
    assert tree(tmp_path) == before


def test_a_refused_command_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    train = ("train", "imitation", "--data", tub, *QUICK)
    for verb in (
        (*train, "--hold-out", 1.5),
        (*train, "--hold-out", 0.99),
        (*train, "--gap-s", "nan"),
        (*train, "--gap-s", -5),
        (*train, "--device", "cuda:99"),
        (*train, "--wandb", "mine"),
        (*train, "--data", tmp_path / "nowhere"),
        ("train", "ppo", "--workers", 99),
        ("train", "ppo", "--device", "tpu"),
        ("train", "ppo", "--env", "payload:Env-v0"),
    ):
        refused = wormwheel(capsys, *verb, "--out", tmp_path / "deep" / "run")
        assert refused.code == 2 and refused.complaint, verb
        assert list(tmp_path.iterdir()) == [], verb


@pytest.mark.parametrize(
    "other", [("--dropout", 0.1), ("--nominal-period-s", 0.1), ("--window", 12), ("--core", "lstm")]
)
def test_what_a_resumed_run_cannot_honour_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, recording: Path, other: tuple[str, Any]
):
    before = tree(trained)
    same = ("train", "imitation", "--data", recording, "--out", trained, *DRIVER, "--no-baseline", "--resume")
    refused = wormwheel(capsys, *same, *other)
    assert refused.code == 2 and "resume with the options of the first run" in refused.complaint
    assert tree(trained) == before


def test_a_recording_that_has_changed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tub, out = write_tub(tmp_path / "tub"), tmp_path / "run"
    train = ("train", "imitation", "--data", tub, "--out", out, *QUICK)
    assert wormwheel(capsys, *train).code == 0
    shutil.rmtree(tub)
    write_tub(tub, record_7={"user/angle": 0.5})
    before = tree(out)
    refused = wormwheel(capsys, *train, "--resume")
    assert refused.code == 2 and "was started with other data" in refused.complaint
    assert tree(out) == before


def test_held_out_figures_are_of_the_held_out_frames(trained: Path, recording: Path):
    """The fixture was trained on `recording`, with a gap of 0.2 s."""
    figures = json.loads((trained / "results.json").read_text())["figures"]["held_out"]["gru"]
    sets = split(load_episodes(recording), SplitOptions(gap_s=0.2))
    assert sets.held_out is not None
    policy = load_policy(trained / "policy")
    for one, same in ((sets.held_out, True), (sets.validation, False), (sets.training, False)):
        rmse = evaluate_open_loop(policy, one, sets.steering_mean, preprocessed=True)["rmse"].value
        assert (rmse == pytest.approx(figures["rmse"]["value"], rel=1e-4)) is same


def test_simulated_recordings_are_told_by_their_headers(recording: Path, tub: Path, tmp_path: Path):
    assert are_simulated([recording]) and not are_simulated([recording, tub]) and not are_simulated([tmp_path])


def test_dead_drivers_are_named():
    constants = {"always straight": 0.30, "always the mean steering": 0.32}
    assert dead_driver("ltc", 0.25, constants) == ""
    for rmse in (0.30, 0.298, 0.5):
        assert "ltc has learnt nothing that shows" in dead_driver("ltc", rmse, constants)
        assert "that of always straight 0.300" in dead_driver("ltc", rmse, constants)
    assert dead_learner("ltc", 10.0, 9.0) == "" and "learnt nothing" in dead_learner("ltc", 9.0, 9.0)
    middle = MiddleAction(TrainPPOOptions and make_world("Pendulum-v1").action_space)
    np.testing.assert_array_equal(middle.predict(np.zeros((4, 3)))[0], np.zeros((4, 1)))


def test_a_dead_driver_ends_with_a_warning_and_the_code_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recording: Path
):
    """One epoch of a few steps is too little to learn from."""
    train = ("train", "imitation", "--data", recording, *QUICK)
    ran = wormwheel(capsys, *train, "--out", tmp_path / "a")
    assert ran.code == 0 and "warning: gru has learnt nothing that shows" in ran.err
    assert wormwheel(capsys, *train, "--out", tmp_path / "b", "--dead-exit-code", 4).code == 4
    assert json.loads((tmp_path / "b" / "results.json").read_text())["figures"]["dead"] is True


def test_several_seeds_are_one_driver(tmp_path: Path, capsys: pytest.CaptureFixture[str], recording: Path):
    out, data = tmp_path / "gru", tmp_path / "data"
    shutil.copytree(recording, data)
    train = ("train", "imitation", "--data", data, "--out", out, *QUICK, "--seeds", 3, 5)
    assert wormwheel(capsys, *train, "--json", tmp_path / "f.json").code == 0
    runs = json.loads((tmp_path / "f.json").read_text())["figures"]["runs"]
    each = {seed: json.loads((out / f"seed-{seed}" / "results.json").read_text())["figures"] for seed in ("3", "5")}
    assert runs == each and each["3"] != each["5"]
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "seed-3", "seed-5"]
    runs = find_policy_runs([str(out)])
    assert [(run.driver, run.run, run.training_seed) for run in runs] == [("gru", 0, 3), ("gru", 1, 5)]
    again = wormwheel(capsys, *train)
    assert again.code == 2 and "already holds results" in again.complaint
    before = (out / "seed-3" / "results.json").read_bytes()
    more = wormwheel(capsys, *train, 7, "--resume")
    assert more.code == 0 and "seed 3: done already" in more.err
    assert (out / "seed-7" / "policy").is_dir() and (out / "seed-3" / "results.json").read_bytes() == before
    steering = data / "episode_000000" / "steering.npy"
    np.save(steering, 0.5 * np.load(steering))
    other = wormwheel(capsys, *train, 9, "--resume")
    assert other.code == 2 and "was started with other data" in other.complaint and not (out / "seed-9").exists()
    twice = wormwheel(capsys, *train[:-2], 3, 3, "--out", tmp_path / "twice")
    assert twice.code == 2 and "seeds must differ" in twice.complaint and not (tmp_path / "twice").exists()


def test_devices_that_are_not_there_are_refused():
    assert check_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "tpu", "meta"):
        with pytest.raises(ValueError, match="device"):
            check_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="--device cuda: torch .* has no such GPU"):
            check_device("cuda")


def test_an_env_of_a_module_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "payload.py").write_text("raise SystemExit('code has run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="imports the Python module 'payload'.*--trust"):
        make_world("payload:Env-v0")
    with pytest.raises(ValueError, match="importing payload failed: .*code has run"):
        make_world("payload:Env-v0", trust=True)


def test_figures_go_to_weights_and_biases_if_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[Any] = []
    run = SimpleNamespace(finish=lambda: told.append("finished"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **words: told.append(words) or run))
    ran = wormwheel(capsys, "train", "imitation", "--data", tub, *QUICK, "--out", tmp_path / "run", "--wandb", "roads")
    assert ran.code == 0, ran.err
    words, last = told
    assert (words["project"], words["name"], words["sync_tensorboard"], last) == ("roads", "run", True, "finished")
    assert words["config"]["learning"]["epochs"] == 1
