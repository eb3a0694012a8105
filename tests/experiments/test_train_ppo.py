"""`wormwheel train ppo`, from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.checkpoint import load_policy
from tests.experiments.verbs import wormwheel

SMALL = ("--envs", "2", "--n-steps", "16", "--chunk", "8", "--batch-size", "16", "--n-epochs", "1", "--no-film")
WORLD = (
    *("--vehicle", "bicycle", "--variety", "0", "--roads.length-m", "25", "35", "--height", "24", "--width", "48"),
    *("--evaluate-every", "64", "--evaluate-episodes", "2", "--evaluate-s", "2"),
)


def test_lane_keeping_from_start_to_evaluation_and_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ("train", "ppo", "--core", "ltc", *SMALL, *WORLD, "--out", out)
    ran = wormwheel(capsys, *options, "--steps", 96)
    assert ran.code == 0, ran.err
    assert load_policy(out / "policy").config.core == "ltc"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in lines] == [64, 96]
    assert json.loads((out / "results.json").read_text())["figures"]["steps"] == 96
    assert list((out / "tensorboard").rglob("events.out.tfevents.*"))

    judged = wormwheel(
        capsys, "evaluate", "--policy", out, "--episodes", 1, "--episode-s", 1, *WORLD[:7], "--workers", 1
    )
    assert judged.code == 0, judged.err

    refused = wormwheel(capsys, *options, "--steps", 160)
    assert refused.code == 2 and "--resume" in refused.complaint
    other = wormwheel(capsys, *options, "--steps", 160, "--resume", "--gamma", "0.5")
    assert other.code == 2 and "other values of learning" in other.complaint
    further = wormwheel(capsys, *options, "--steps", 160, "--resume")
    assert further.code == 0, further.err
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in lines] == [64, 96, 128, 160]


def test_from_an_imitator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    begin = wormwheel(capsys, "train", "ppo", "--core", "cfc", *SMALL, *WORLD, "--steps", 32, "--out", first)
    assert begin.code == 0, begin.err
    options = ("--init-from", first / "policy", "--leash", "0.1", "--noise-variance", "0.05", "--critic-warmup", "1")
    ran = wormwheel(capsys, "train", "ppo", *SMALL, *WORLD, "--steps", 64, "--out", second, *options)
    assert ran.code == 0, ran.err
    assert load_policy(second / "policy").config.core == "cfc"


def test_cartpole_without_velocities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--env", "CartPole-memory", "--core", "gru", "--steps", 64, "--evaluate-episodes", 2)
    ran = wormwheel(capsys, "train", "ppo", *options, *SMALL, "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    assert (tmp_path / "run" / "last" / "learner.safetensors").exists()


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = wormwheel(capsys, "train", "ppo", "--env", "Nowhere-v0", "--out", tmp_path / "run")
    assert missing.code == 2 and "there is no world" in missing.complaint
    assert not (tmp_path / "run").exists()
    uneven = wormwheel(capsys, "train", "ppo", "--n-steps", 100, "--chunk", 32)
    assert uneven.code == 2
    nothing = wormwheel(capsys, "train", "ppo", "--resume")
    assert nothing.code == 2 and "--out" in nothing.complaint
