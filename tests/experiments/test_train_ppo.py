"""`wormwheel train ppo`, from end to end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.checkpoint import read_learner
from agents.ppo.envs import DrawnPerturbations, NoisyCamera, make_world
from agents.ppo.presets import PRESETS
from agents.recordings import load_episodes
from envs.lane_keeping.env import LaneKeepingConfig
from experiments import train_ppo
from experiments.train_ppo import TrainPPOOptions, defaults_for
from experiments.train_ppo_callback import EvalCheckpointCallback
from policies.checkpoint import load_policy, save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from tests.experiments.verbs import wormwheel

SMALL = ("--envs", "2", "--n-steps", "16", "--chunk", "8", "--batch-size", "16", "--n-epochs", "1", "--no-film")
WORLD = (
    *("--vehicle", "bicycle", "--variety", "0", "--roads.length-m", "25", "35", "--height", "24", "--width", "48"),
    *("--evaluate-every", "64", "--evaluate-episodes", "2", "--evaluate-s", "2"),
)


def test_lane_keeping_from_start_to_evaluation_and_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_ppo, "FILM_S", 0.1)
    out = tmp_path / "run"
    options = ("train", "ppo", "--core", "ltc", *SMALL, *WORLD, "--out", out)
    ran = wormwheel(capsys, *options, "--steps", 96, "--film")
    assert ran.code == 0, ran.err
    assert (out / "best.mp4").stat().st_size > 1000
    learnt = load_policy(out / "policy").config
    assert learnt.core == "ltc"
    assert learnt.car is not None and learnt.car.camera_horizon == pytest.approx(0.3, abs=0.01)
    assert learnt.car.full_lock_curvature_per_m == pytest.approx(1.681, abs=0.001)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in lines] == [64, 96]
    written = json.loads((out / "results.json").read_text())["figures"]
    assert written["steps"] == 96
    comes_next = f"to drive it on other seeds: wormwheel evaluate --policy {out}\n"
    assert (comes_next in ran.err) is not written["dead"]
    assert list((out / "tensorboard").rglob("events.out.tfevents.*"))
    # The vehicle is the preset's, so it is LaneKeeping's own there; the rest is what was asked for.
    judged_in = json.loads((out / "results.json").read_text())["figures"]["judged_in"]
    assert (judged_in["vehicle"], judged_in["variety"], judged_in["episode_s"]) == ("auto", 0.0, 2.0)

    judged = wormwheel(
        capsys, "evaluate", "--policy", out, "--episodes", 1, "--episode-s", 1, *WORLD[:7], "--workers", 1
    )
    assert judged.code == 0, judged.err

    refused = wormwheel(capsys, *options, "--steps", 160)
    assert refused.code == 2 and "--resume" in refused.complaint
    other = wormwheel(capsys, *options, "--steps", 160, "--resume", "--gamma", "0.5")
    longer = wormwheel(capsys, *options, "--steps", 160, "--resume", "--evaluate-s", "3")
    assert longer.code == 2 and "evaluate_s = 2.0, not 3.0" in longer.complaint
    gamma = PRESETS["LaneKeeping"].learning.gamma
    assert other.code == 2 and f"learning.gamma = {gamma:g}, not 0.5" in other.complaint
    # As if the run had been started by a version that lacked some options.
    config = json.loads((out / "config.json").read_text())
    for inside, name in (("learning", "imitator_kl_coef_end"), ("world", "pixels_per_m")):
        del config["options"][inside][name]
    del config["options"]["world"]["roads"]["verge_m"]
    (out / "config.json").write_text(json.dumps(config))
    new = wormwheel(capsys, *options, "--steps", 160, "--resume", "--pixels-per-m", "32")
    assert new.code == 2 and "world.pixels_per_m = 64.0, not 32.0" in new.complaint
    # As if a kill had come between an evaluation and its checkpoint.
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"steps": 128}) + "\n")
    further = wormwheel(capsys, *options, "--steps", 160, "--resume")
    assert further.code == 0, further.err
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in lines] == [64, 96, 128, 160]


def test_from_an_imitator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    begin = wormwheel(capsys, "train", "ppo", "--core", "cfc", *SMALL, *WORLD, "--steps", 32, "--out", first)
    assert begin.code == 0, begin.err
    # Core, frames and period are those of the driver; a run directory does as well as the policy in it.
    roads = (*WORLD[:7], *WORLD[11:])
    options = ("--init-from", first, "--imitator-kl-coef", "0.1", "--noise-variance", "0.05", "--critic-warmup", "1")
    ran = wormwheel(capsys, "train", "ppo", *SMALL, *roads, "--steps", 64, "--out", second, *options)
    assert ran.code == 0, ran.err
    assert load_policy(second / "policy").config.core == "cfc"
    other = wormwheel(capsys, "train", "ppo", *SMALL, *roads, *options, "--core", "ltc", "--out", tmp_path / "a")
    assert other.code == 2 and "driver with core cfc" in other.complaint
    size = wormwheel(capsys, "train", "ppo", *SMALL, *roads, *options, "--height", "48", "--out", tmp_path / "a")
    assert size.code == 2 and "24×48 pixels" in size.complaint


def test_along_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    out, data = tmp_path / "run", recording
    options = ("train", "ppo", "--env", "Recorded", "--data", data, "--core", "gru", *SMALL, "--evaluate-episodes", 1)
    options += ("--envs", 1, "--episode-s", 1)
    ran = wormwheel(capsys, *options, "--steps", 32, "--out", out)
    assert ran.code == 0, ran.err
    assert load_policy(out / "policy").config.nominal_period_s == load_episodes(data).nominal_period_s
    for words, more in (
        ("--height: these are options of LaneKeeping, Recorded has none of them", ("--height", 24)),
        ("--period-s, --variety: these are options of LaneKeeping", ("--period-s", 0.2, "--variety", 0)),
    ):
        refused = wormwheel(capsys, *options, *more, "--out", tmp_path / "other")
        assert refused.code == 2 and words in refused.complaint and not (tmp_path / "other").exists()
    rig = wormwheel(capsys, "train", "ppo", "--rig.hfov-deg", 90, "--out", tmp_path / "other")
    assert rig.code == 2 and "are for recordings, not for LaneKeeping" in rig.complaint
    # A driver that is used to another pace than the recording's acts at its own.
    slow = PolicyConfig("gru", preprocessing=load_policy(out / "policy").config.preprocessing, nominal_period_s=0.2)
    along = train_ppo._world(TrainPPOOptions(env="Recorded", data=(data,)), DrivingPolicy.create(slow))
    assert along.period_s == 0.2
    # As if another recording lay there by now: the envs could not be put back where they were.
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "fingerprint": "of another recording"}))
    resumed = wormwheel(capsys, *options, "--steps", 64, "--out", out, "--resume")
    assert (
        resumed.code == 2
        and "was started with other data: their fingerprint was of another recording" in resumed.complaint
    )


def test_the_period_of_a_driver_is_that_of_the_env_in_which_it_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slow.py").write_text(
        "from envs.driving.env import DrivingEnv\n"
        "from envs.lane_keeping.env import LaneKeepingEnv\n\n\n"
        "def make():\n"
        "    env = LaneKeepingEnv(vehicle='bicycle', height=24, width=48, period_s=0.25)\n"
        "    return DrivingEnv(env, camera='observation.camera', crashed='info.crashed', period_s=0.25)\n"
    )
    options = ("train", "ppo", "--env", f"{tmp_path / 'slow.py'}:make", "--trust", "--core", "gru", *SMALL)
    options += ("--envs", 1, "--steps", 16, "--evaluate-episodes", 1)
    ran = wormwheel(capsys, *options, "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    assert load_policy(tmp_path / "run").config.nominal_period_s == 0.25
    usual = PolicyConfig("gru", preprocessing=load_policy(tmp_path / "run").config.preprocessing)
    save_policy(DrivingPolicy.create(usual), tmp_path / "usual")
    refused = wormwheel(capsys, *options[:4], "--trust", "--init-from", tmp_path / "usual", "--out", tmp_path / "other")
    assert refused.code == 2 and "used to a frame every 0.05 s" in refused.complaint
    assert "this world shows one every 0.25 s" in refused.complaint and not (tmp_path / "other").exists()


def test_what_goes_wrong_does_so_in_training_and_in_the_evaluations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: list[Any] = []

    def stopped(options: object, parts: object, driver: object, make_env: object, judge: object, *others: object):
        makers.extend((make_env, judge))
        raise KeyboardInterrupt

    monkeypatch.setattr(train_ppo, "_train", stopped)
    wrong = ("--noise-variance", 0.07, "--perturbations", "clean", "fog", "--largest-severity", 2)
    ran = wormwheel(capsys, "train", "ppo", "--core", "gru", *SMALL, *WORLD, *wrong, "--out", tmp_path / "run")
    assert ran.code == 130 and len(makers) == 2
    for make in makers:
        noisy = make()
        assert isinstance(noisy, NoisyCamera) and noisy._largest == 0.07
        assert isinstance(noisy.env, DrawnPerturbations)
        assert (noisy.env._entries, noisy.env._largest) == (("clean", "fog"), 2)
        noisy.close()


def test_a_learner_is_not_resumed_on_other_roads_of_the_same_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], circle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(options: object, parts: object, driver: object, make_env: object, judge: object, run: Any, _: object):
        run.begin()
        raise ValueError("stopped here")

    monkeypatch.setattr(train_ppo, "_train", stopped)
    roads = ("--track", circle.parent)  # a directory of roads
    same = ("train", "ppo", *SMALL, *WORLD[:2], *WORLD[7:], *roads, "--out", tmp_path / "run")
    for again in ((), ("--resume",)):
        assert "stopped here" in wormwheel(capsys, *same, *again).complaint
    circle.write_text(circle.read_text().replace(",4,4", ",5,5"))
    ran = wormwheel(capsys, *same, "--resume")
    assert ran.code == 2 and "the same recordings or road files" in ran.complaint


def test_cartpole_without_velocities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, results = tmp_path / "run", tmp_path / "results.json"
    options = ("--env", "CartPole-memory", "--core", "gru", "--steps", 64, "--evaluate-episodes", 2, "--workers", 2)
    ran = wormwheel(capsys, "train", "ppo", *options, *SMALL, "--out", out)
    assert ran.code == 0, ran.err
    assert (out / "last" / "learner.safetensors").exists()
    judged = wormwheel(capsys, "evaluate", "--policy", out, "--episodes", 12, "--seed", 5, "--json", results)
    assert judged.code == 0, judged.err
    (found,) = json.loads(results.read_text())["figures"]["worlds"]
    assert found["world"] == "CartPole-memory" and [one["seed"] for one in found["episodes"]] == list(range(5, 17))
    assert found["reward"]["value"] == pytest.approx(sum(one["steps"] for one in found["episodes"]) / 12)
    for words, verb in (
        ("has observation space", ("evaluate", "--policy", out, "--env", "Pendulum-v1")),
        ("options of LaneKeeping", ("evaluate", "--policy", out, "--height", 24)),
        ("shows no frames", ("render", "--policy", out)),
    ):
        refused = wormwheel(capsys, *verb)
        assert refused.code == 2 and words in refused.complaint, refused.err


def test_a_run_that_was_stopped_early_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ("train", "ppo", "--env", "CartPole-v1", "--core", "gru", *SMALL, "--out", out)
    assert wormwheel(capsys, *options, "--steps", 32, "--evaluate-episodes", 1).code == 0
    shutil.rmtree(out / "policy"), shutil.rmtree(out / "last")
    refused = wormwheel(capsys, "evaluate", "--policy", out)
    assert refused.code == 2 and "has not kept a policy yet" in refused.complaint
    again = wormwheel(capsys, *options, "--steps", 32, "--evaluate-episodes", 1, "--resume")
    assert again.code == 0 and "starts from the beginning" in again.err
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 1


def test_what_a_preset_says_of_the_networks_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"critic": "own", "log_std_init": -1.5, "use_sde": True}
    monkeypatch.setitem(PRESETS, "Pendulum-v1", replace(PRESETS["Pendulum-v1"], networks=said))
    options = defaults_for(TrainPPOOptions(env="Pendulum-v1"))
    assert {name: getattr(options, name) for name in said} == said


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = wormwheel(capsys, "train", "ppo", "--env", "Nowhere-v0", "--out", tmp_path / "run")
    assert missing.code == 2 and "there is no world" in missing.complaint
    assert not (tmp_path / "run").exists()
    uneven = wormwheel(capsys, "train", "ppo", "--n-steps", 100, "--chunk", 32)
    assert uneven.code == 2
    elsewhere = wormwheel(capsys, "train", "ppo", "--env", "CartPole-v1", "--height", 24, "--out", tmp_path / "run")
    assert elsewhere.code == 2 and "--height: these are options of LaneKeeping" in elsewhere.complaint
    assert not (tmp_path / "run").exists()
    for words, more in (
        ("this env's observation space is Discrete(16)", ("--env", "FrozenLake-v1")),
        ("use_sde is for continuous actions", ("--env", "CartPole-v1", "--use-sde")),
        ("--imitator-kl-coef holds a policy near the driver", ("--env", "CartPole-v1", "--imitator-kl-coef", "1")),
        ("workers must be at least 0", ("--workers", "-1")),
        ("replay_failed_prob must be less than 1", ("--replay-failed-prob", "1")),
        ("log_std_init must be a finite number", ("--log-std-init", "nan")),
        ("units", ("--core-options", "units=-3")),
        ("a road, of its own", ("--resets-per-road", "3")),
    ):
        refused = wormwheel(capsys, "train", "ppo", *more, "--out", tmp_path / "run")
        assert refused.code == 2 and words in refused.complaint
        assert not (tmp_path / "run").exists()
    nothing = wormwheel(capsys, "train", "ppo", "--resume")
    assert nothing.code == 2 and "--out" in nothing.complaint


def test_a_learner_that_names_no_world_is_asked_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = LiquidPPO("gru", "CartPole-v1", n_steps=16, batch_size=16)
    model.learn(16)
    model.save(tmp_path / "saved")
    asked = wormwheel(capsys, "evaluate", "--policy", tmp_path / "saved", "--episodes", 2)
    assert asked.code == 2 and "does not say in which world it learnt: name it, by --env" in asked.complaint
    told = wormwheel(capsys, "evaluate", "--policy", tmp_path / "saved", "--episodes", 2, "--env", "CartPole-v1")
    assert told.code == 0, told.err


@pytest.mark.thorough
def test_a_killed_run_ends_as_one_that_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "train",
        "ppo",
        "--core",
        "ltc",
        *SMALL,
        *WORLD,
        "--steps",
        192,
        "--use-sde",
        "--replay-failed-prob",
        "0.9",
    )
    assert wormwheel(capsys, *options, "--out", tmp_path / "whole").code == 0
    kept = EvalCheckpointCallback.finish

    def killed(keeper: EvalCheckpointCallback, model: LiquidPPO) -> None:
        kept(keeper, model)
        if model.num_timesteps == 64:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EvalCheckpointCallback, "finish", killed)
        assert wormwheel(capsys, *options, "--out", tmp_path / "killed").code == 130
    assert wormwheel(capsys, *options, "--out", tmp_path / "killed", "--resume").code == 0
    for name in ("metrics.jsonl", "last/model.safetensors", "policy/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    mine, wanted = (read_learner(tmp_path / name / "last").tensors for name in ("killed", "whole"))
    assert mine.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(mine[name], tensor), name


@pytest.mark.thorough
def test_a_film_in_another_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("Box2D")
    out, film = tmp_path / "run", tmp_path / "film.mp4"
    options = ("--env", "CarRacing", "--core", "ltc", *SMALL, "--envs", 1, "--steps", 16, "--evaluate-episodes", 1)
    assert wormwheel(capsys, "train", "ppo", *options, "--out", out).code == 0
    filmed = wormwheel(capsys, "render", "--policy", out, "--out", film, "--seconds", 0.1)
    assert filmed.code == 0, filmed.err
    assert "5 steps, reward" in filmed.out and film.stat().st_size > 1000
    # Frames of another size than this world's.
    model = LiquidPPO("gru", make_world("LaneKeeping", LaneKeepingConfig(vehicle="bicycle", height=24, width=48)))
    model.save(tmp_path / "small")
    again = wormwheel(capsys, "train", "ppo", *options[:2], "--init-from", tmp_path / "small", "--out", tmp_path / "a")
    assert again.code == 2 and "sees 24×48 pixels, this world shows 48×96" in again.complaint
    assert not (tmp_path / "a").exists()
    for words, more in (("options of LaneKeeping", ("--height", 24)), ("--preview are for", ("--preview", "a.gif"))):
        refused = wormwheel(capsys, "render", "--policy", out, "--out", film, *more)
        assert refused.code == 2 and words in refused.complaint
