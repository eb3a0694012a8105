"""Learning curves of PPO: trained once, gone on with, drawn from what was kept."""

from __future__ import annotations

import calendar
import contextlib
import io
import json
import os
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from agents.runs.directory import to_json
from agents.runs.files import write_json
from experiments import cli
from experiments.ppo_curves import runs as ppo_runs
from experiments.ppo_curves.experiment import draw, run
from experiments.ppo_curves.runs import PPOCurves, quickened, read_curve, seconds_of

SMALL = (
    *("--envs", "2", "--n-steps", "16", "--chunk", "8", "--batch-size", "16", "--n-epochs", "1"),
    *("--evaluate-s", "2", "--vehicle", "bicycle", "--height", "24", "--width", "48"),
)


class Here:
    """A process that is none: the command runs in this one, as soon as it is started, with little to learn."""

    def __init__(self, command, stdout, **_more):
        assert command[:3] == [sys.executable, "-m", "experiments.cli"]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            self.returncode = cli.main([*command[3:], *SMALL])
        stdout.write(said.getvalue().encode())

    def poll(self):
        return self.returncode


@pytest.fixture
def here(monkeypatch):
    """Start no processes, which import torch first."""
    monkeypatch.setattr(ppo_runs.subprocess, "Popen", Here)
    monkeypatch.setattr(ppo_runs, "POLL_S", 0.0)


@pytest.mark.usefixtures("here")
def test_a_finished_run_is_not_done_again(tmp_path, monkeypatch, capsys):
    options = PPOCurves(
        cores=("feedforward",),
        seeds=1,
        steps=32,
        widen=("feedforward",),
        widen_steps=32,
        evaluate_every=32,
        episodes=1,
        roads=1,
        workers=1,
        out=tmp_path,
    )
    monkeypatch.setenv("COLUMNS", "160")
    run(options)
    said = capsys.readouterr().out
    assert "feedforward, seed 0 " in said
    assert "feedforward, seed 0, wider" in said
    for run_of in options.runs:
        assert len(read_curve(options.directory(run_of))) == options.points(run_of) == 1
    wider = json.loads((tmp_path / "feedforward-0-wider" / "config.json").read_text())["options"]
    assert wider["init_from"] == str(tmp_path / "feedforward-0" / "last")
    assert (wider["world"]["variety"], wider["seed"]) == (0.8, 10)
    before = json.loads((tmp_path / "results.json").read_text())["figures"]
    assert before["seconds"]["feedforward-0"] > 0

    def refuse(*_args, **_more):
        raise AssertionError("started again")

    monkeypatch.setattr(ppo_runs.subprocess, "Popen", refuse)
    (tmp_path / "curves.png").unlink()
    run(replace(options, publish=tmp_path / "published"))
    assert str(tmp_path) not in (tmp_path / "published" / "summary.json").read_text()
    after = json.loads((tmp_path / "results.json").read_text())["figures"]
    assert after == before
    assert (tmp_path / "curves.png").stat().st_size > 5000
    with pytest.raises(AssertionError, match="started again"):
        run(replace(options, seeds=2))
    with pytest.raises(AssertionError, match="started again"):  # What is finished is not as far as that.
        run(replace(options, steps=64))


@pytest.mark.usefixtures("here")
def test_a_run_that_fails_says_why(tmp_path):
    (tmp_path / "feedforward-0").mkdir()
    (tmp_path / "feedforward-0" / "config.json").write_text("{}")
    options = PPOCurves(cores=("feedforward",), seeds=1, steps=2048, widen=(), out=tmp_path)
    write_json(tmp_path / "config.json", {"verb": "ppo_curves", "options": to_json(options)})
    with pytest.raises(OSError, match="feedforward-0 ended with code 2: .*holds no run to resume"):
        run(options)


def test_the_band_is_students_interval():
    curves = {
        "ltc": [
            [{"steps": 10, "reward": reward, "crashes": crashes, "episodes": 4}]
            for reward, crashes in ((1.0, 0), (2.0, 0), (3.0, 4))
        ]
    }
    figure = draw(curves)
    reward, crashed = (axes.collections[0].get_paths()[0].vertices[:, 1] for axes in figure.axes)
    assert np.isclose(reward.min(), 2 - 4.303 / np.sqrt(3), atol=1e-3)
    assert crashed.min() == 0.0  # A share cannot be less.


def _line(steps, reward):
    return json.dumps({"steps": steps, "reward": reward, "crashes": 0, "episodes": 4}) + "\n"


def test_the_mean_ends_where_the_first_of_the_seeds_does(tmp_path):
    for seed, points in ((0, 3), (1, 2)):
        (tmp_path / f"ltc-{seed}").mkdir()
        lines = "".join(_line(10 * point, point + seed) for point in range(1, points + 1))
        (tmp_path / f"ltc-{seed}" / "metrics.jsonl").write_text(lines + '{"steps": 40')  # being written
    figure = draw({"ltc": [read_curve(tmp_path / f"ltc-{seed}") for seed in (0, 1)]})
    first, second, mean = (line.get_ydata().tolist() for line in figure.axes[0].lines)
    assert (first, second[:2], mean[:2]) == ([1, 2, 3], [2, 3], [1.5, 2.5])
    assert np.isnan([second[2], mean[2]]).all()


def test_points_are_where_their_steps_are(tmp_path):
    (lost, whole) = ([json.loads(_line(steps, 1.0)) for steps in kept] for kept in ((10, 30), (10, 20, 30)))
    first, _, mean = (line.get_ydata() for line in draw({"ltc": [lost, whole]}).axes[0].lines)
    assert first[2] == 1.0 and np.isnan(first[1]) and np.isnan(mean[1])
    with pytest.raises(ValueError, match="judged after different steps, one after 15 "):
        draw({"ltc": [whole, [json.loads(_line(15, 1.0))]]})


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system's time zone cannot be changed for a test")
def test_a_run_takes_as_long_in_summer(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        (tmp_path / "config.json").write_text(json.dumps({"command": "", "started": "2026-07-01T12:00:00+00:00"}))
        (tmp_path / "results.json").touch()
        begun_s = calendar.timegm((2026, 7, 1, 12, 0, 0))
        os.utime(tmp_path / "results.json", (begun_s + 600, begun_s + 600))
        assert seconds_of(tmp_path) == 600.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_quick_keeps_what_was_asked_for(tmp_path):
    quick = quickened(PPOCurves(cores=("gru",), widen=("gru",), out=tmp_path, roads=1))
    assert (quick.cores, quick.out, quick.roads) == (("gru",), tmp_path, 1)
    assert (quick.seeds, quick.steps) == (1, 4096)


def test_without_training_nothing_starts_and_what_is_missing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ppo_runs.subprocess, "Popen", None)
    options = PPOCurves(cores=("ltc",), seeds=1, train=False, out=tmp_path)
    with pytest.raises(ValueError, match="ltc-0 holds no evaluated run yet: .*without --no-train"):
        run(options)


def test_bad_options_are_told():
    with pytest.raises(ValueError, match="seeds\\n +Input should be greater than 0"):
        PPOCurves(seeds=0)
    with pytest.raises(ValueError, match="core"):
        PPOCurves(cores=("lcd",), widen=())
    with pytest.raises(ValueError, match="widen names ltc, which cores does not"):
        PPOCurves(cores=("lstm",))
