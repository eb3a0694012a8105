"""`wormwheel sweep`: what a space may say, and a sweep that is stopped and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import sweep
from experiments.sweep import Range, Space, options_of, read_space
from experiments.train_imitation import RECORDED
from tests.experiments.verbs import wormwheel

pytest.importorskip("optuna")

SPACE = """
verb = "train imitation"
trials = 3
[options]
data = ["{data}"]
core-options = ["hidden_size=8"]
height = 24
width = 48
epochs = 1
gap-s = 0.2
baseline = false
[space]
core = ["gru", "lstm"]
core-learning-rate = {{low = 1e-3, high = 1e-1, log = true}}
batch-size = {{low = 8, high = 16, step = 8}}
"""


def write_space(path: Path, data: Path, **changes: str) -> Path:
    text = SPACE.format(data=data)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_options_are_made_as_the_command_line_makes_them(tmp_path: Path, tub: Path):
    space = read_space(write_space(tmp_path / "space.toml", tub))
    options = options_of(space, {"core": "lstm", "core-learning-rate": 0.02, "batch-size": 8})
    assert (options.core, options.learning.core_learning_rate, options.learning.batch_size) == ("lstm", 0.02, 8)
    assert options.learning.stride == RECORDED.stride, "the defaults that suit the data"
    assert options.baseline is False and options.learning.epochs == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("verb = ", "verb == ", "cannot be read as TOML"),
        ("train imitation", "record", "verb must be one of train imitation, train ppo"),
        ("height = 24", 'out = "here"', "out is set by the sweep itself"),
        ("height = 24", "core = 1", "core stands in"),
        ("low = 1e-3", "low = 1", "low must be less than high"),
        ("low = 8,", "lowest = 8,", "batch-size"),
        ("epochs = 1", "epochs = 0", "epochs"),
        ("core-learning-rate", "core-learning-rat", "core-learning-rat"),
        ('["gru", "lstm"]', '["gru", "lstn"]', "lstn"),
    ],
)
def test_what_a_space_cannot_say_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path, old: str, new: str, words: str
):
    path = write_space(tmp_path / "space.toml", tub, **{old: new})
    refused = wormwheel(capsys, "sweep", path, "--out", tmp_path / "out")
    assert refused.code == 2 and words in refused.complaint, refused.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["space.toml"]


def test_a_logarithmic_range_is_above_zero():
    for wrong in ({"low": 0.0, "high": 1.0, "log": True}, {"low": 1.0, "high": 1.0}):
        with pytest.raises(ValueError, match="low"):
            Range(**wrong)


def test_a_trial_is_judged_by_its_best_epoch_and_by_its_highest_reward(tmp_path: Path):
    held_out = {"mean": {"rmse": {"value": 0.9}}, "gru": {"rmse": {"value": 0.25, "low": 0.2, "high": 0.3}}}
    (tmp_path / "results.json").write_text(json.dumps({"figures": {"held_out": held_out}}))
    lines = [json.dumps({"validation_rmse": value}) for value in (0.4, 0.2, 0.3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    imitation, ppo = (Space(verb, {"core": ["gru", "lstm"]}) for verb in ("train imitation", "train ppo"))
    value, figure = sweep._outcome(tmp_path, imitation)
    assert value == 0.2 and figure is not None and (figure.value, figure.low, figure.high) == (0.25, 0.2, 0.3)
    best = {"reward": 30.0, "reward_low": 20.0, "reward_high": 35.0}
    (tmp_path / "results.json").write_text(json.dumps({"figures": {"best": best}}))
    value, figure = sweep._outcome(tmp_path, ppo)
    assert value == -30.0 and figure is not None and (figure.value, figure.low, figure.high) == (30.0, 20.0, 35.0)


def test_a_sweep_that_is_stopped_resumes_and_ends_in_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recording: Path, monkeypatch: pytest.MonkeyPatch
):
    recording = Path(shutil.copytree(recording, tmp_path / "data"))
    path, out = write_space(tmp_path / "space.toml", recording), tmp_path / "out"
    trained: list[Any] = []
    tell = sweep._outcome

    def stop(place: Path, space: Any) -> Any:
        trained.append(place.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return tell(place, space)

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "_outcome", stop)
        assert wormwheel(capsys, "sweep", path, "--out", out).code == 130
    again = wormwheel(capsys, "sweep", path, "--out", out)
    assert again.code == 2 and "already holds results" in again.complaint
    resumed = wormwheel(capsys, "sweep", path, "--out", out, "--resume")
    assert resumed.code == 0, resumed.err
    rows = json.loads((out / "results.json").read_text())["figures"]["trials"]
    assert [row["directory"] for row in rows if row["directory"] == "trial-1"] == ["trial-1"], "resumed where it was"
    assert len(rows) == 3 and "3 trials of train imitation" in resumed.out
    values = [row["value"] for row in rows if not row["pruned"]]
    assert values == sorted(values) and all(row["options"]["core"] in ("gru", "lstm") for row in rows)
    assert len({row["options"]["core-learning-rate"] for row in rows}) == 3, "each trial draws its own"
    for row in rows:
        lines = [json.loads(line) for line in (out / row["directory"] / "metrics.jsonl").read_text().splitlines()]
        assert row["pruned"] or row["value"] == min(line["validation_rmse"] for line in lines)
    write_space(path, recording, **{"epochs = 1": "epochs = 2"})
    other = wormwheel(capsys, "sweep", path, "--out", out, "--resume")
    assert other.code == 2 and "started with other data" in other.complaint
    write_space(path, recording)
    steering = recording / "episode_000000" / "steering.npy"
    np.save(steering, 0.5 * np.load(steering))  # trials of two recordings are not to be compared
    other = wormwheel(capsys, "sweep", path, "--out", out, "--resume", "--trials", 4)
    assert other.code == 2 and "started with other data" in other.complaint
