"""`wormwheel train imitation` from end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from agents.driving.open_loop import evaluate_open_loop
from agents.imitation.train import ImitationConfig
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeMeta, EpisodeSet
from agents.recordings.writer import EpisodeWriter
from agents.runs.renamed import options_as_they_are_now
from experiments import train_imitation as train
from experiments.cli import with_words
from experiments.options import parse_core_options
from experiments.training_sets import FrameOptions, SplitOptions, choose_preprocessing, fit_frames, split
from policies.checkpoint import load_policy, read_config
from policies.cores import CORES
from tests.agents.toys import episode, episodes
from tests.experiments.verbs import DRIVER, tree, wormwheel


def test_leaves_a_policy_figures_and_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    out = tmp_path / "run"
    figures = tmp_path / "figures.json"
    options = (*DRIVER, "--height", 16, "--json", figures, "--baseline")
    ran = wormwheel(capsys, "train", "imitation", "--data", tub, "--out", out, *options)
    assert ran.code == 0, ran.err
    for words in ("gru", "feedforward (no memory)", "predict the mean", "R²", "held-out frames"):
        assert words in ran.out
    assert "training gru: 2 epochs of" in ran.err and "on this computer" in ran.err
    assert "120 frames in 1 episodes" in ran.err and f"policy: {out / 'policy'}" in ran.err
    policy = load_policy(out / "policy")
    assert policy.config.core == "gru" and policy.config.core_options == {"hidden_size": 8}
    fit = policy.config.preprocessing
    assert (fit.source_height, fit.source_width, fit.crop_top, fit.height, fit.width) == (24, 48, 8, 16, 48)
    assert policy.config.nominal_period_s == pytest.approx(0.05)
    assert read_config(out / "policy")["notes"]["data"] == [str(tub)]

    written = json.loads(figures.read_text())["figures"]
    comes_next = f"to see it steer: wormwheel render --policy {out} --data {tub}\n"
    assert (comes_next in ran.err) is not written["dead"]
    assert set(written["held_out"]) == {"gru", "feedforward", "mean", "straight"}
    assert written["held_out"]["mean"]["r2"]["value"] <= 0
    assert written["frames"]["held_out"] == pytest.approx(24, abs=1)
    assert json.loads((out / "results.json").read_text())["figures"] == written
    sets = split(fit_frames(load_episodes([tub]), fit, tmp_path / "frames"), SplitOptions(gap_s=0.2))
    assert sets.held_out is not None
    for name, place in (("gru", out), ("feedforward", out / "baseline")):
        found, judge = written["held_out"][name], load_policy(place / "policy")
        expected = evaluate_open_loop(judge, sets.held_out, sets.steering_mean, preprocessed=True)
        for figure in ("rmse", "r2", "rmse_of_mean"):
            assert found[figure]["value"] == pytest.approx(expected[figure].value, rel=1e-4), (name, figure)
    labels = np.concatenate([one.steering for one in sets.held_out])
    for name, constant in (("mean", sets.steering_mean), ("straight", 0.0)):
        rmse = np.sqrt(np.mean((labels - constant) ** 2))
        assert written["held_out"][name]["rmse"]["value"] == pytest.approx(rmse, rel=1e-4)
    assert abs(sets.steering_mean) > 1e-3, "the mean is not straight ahead"
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert list((out / "tensorboard").iterdir())
    config = json.loads((out / "config.json").read_text())
    assert config["options"]["learning"]["epochs"] == 2 and config["versions"]["torch"]
    assert not (out / "frames").exists()


@pytest.mark.thorough
def test_learns_the_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    """What is held out is predicted better than by the mean: the chain from pictures to figures is right way round."""
    options = (*DRIVER, "--epochs", 25, "--batch-size", 4, "--head-learning-rate", 4e-3, "--no-baseline")
    ran = wormwheel(capsys, "train", "imitation", "--data", tub, "--out", tmp_path / "run", *options)
    assert ran.code == 0, ran.err
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]["held_out"]
    assert figures["gru"]["r2"]["value"] > 0.5
    assert figures["gru"]["rmse"]["value"] < 0.7 * figures["mean"]["rmse"]["value"]


def test_defaults_follow_the_data_and_the_command_line_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path, recording: Path
):
    assert train.defaults_for(train.TrainOptions((tub,))).learning == train.RECORDED
    assert train.defaults_for(train.TrainOptions((recording,))).learning == train.SIMULATED
    ran = wormwheel(
        capsys, "train", "imitation", "--data", tub, "--out", tmp_path / "run", *DRIVER, "--no-baseline", "--window", 12
    )
    assert ran.code == 0, ran.err
    learning = json.loads((tmp_path / "run" / "config.json").read_text())["options"]["learning"]
    assert (learning["window"], learning["epochs"], learning["batch_size"]) == (12, 2, 8)
    assert learning["stride"] == train.RECORDED.stride
    assert learning["augmentation"]["flip"] == train.RECORDED.augmentation.flip


def test_several_recordings_train_one_driver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, recording: Path
):
    other = shutil.copytree(recording, tmp_path / "other")
    ran = wormwheel(
        capsys, "train", "imitation", "--data", recording, other, "--out", tmp_path / "b", *DRIVER, "--no-baseline"
    )
    assert ran.code == 0, ran.err
    one = json.loads((trained / "results.json").read_text())["figures"]["frames"]
    two = json.loads((tmp_path / "b" / "results.json").read_text())["figures"]["frames"]
    assert sum(two.values()) > 1.5 * sum(one.values())


def test_resume_goes_on_from_the_last_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path):
    """Stopped after an epoch and resumed, a run ends where one that was never stopped ends."""

    def options(out: Path) -> tuple[object, ...]:
        return ("train", "imitation", "--data", tub, "--out", out, *DRIVER, "--no-baseline", "--epochs", 3)

    assert wormwheel(capsys, *options(tmp_path / "whole")).code == 0

    class Stop(Exception):
        pass

    save = train.train_imitation.__globals__["save_training_state"]
    count = 0

    def stop_after_two(*arguments: object) -> None:
        nonlocal count
        save(*arguments)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.imitation.train.save_training_state", stop_after_two)
        stopped = wormwheel(capsys, *options(tmp_path / "stopped"))
    assert stopped.code == 130 and "Ctrl-C" in stopped.complaint
    resumed = wormwheel(capsys, *options(tmp_path / "stopped"), "--resume")
    assert resumed.code == 0, resumed.err
    weights = [(tmp_path / name / "policy" / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_run_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, tub: Path):
    before = tree(trained)
    again = wormwheel(capsys, "train", "imitation", "--data", tub, "--out", trained, *DRIVER)
    assert again.code == 2 and "already holds results" in again.complaint
    other = wormwheel(capsys, "train", "imitation", "--data", tub, "--out", trained, *DRIVER, "--resume")
    assert other.code == 2 and "resume with the options of the first run" in other.complaint
    nothing = wormwheel(capsys, "train", "imitation", "--data", tub, "--out", tmp_path / "no", *DRIVER, "--resume")
    assert nothing.code == 2 and "holds no run to resume" in nothing.complaint
    assert tree(trained) == before


@pytest.mark.parametrize(
    ("size", "options", "crops"),
    [
        ((48, 96), FrameOptions(), (0, 0)),
        ((120, 160), FrameOptions(), (40, 0)),
        ((160, 320), FrameOptions(), (0, 0)),
        ((160, 320), FrameOptions(crop_top=60, crop_bottom=25), (60, 25)),
        ((120, 160), FrameOptions(crop_bottom=10), (30, 10)),
        ((78, 200), FrameOptions(height=78, width=200), (0, 0)),
        ((100, 300), FrameOptions(), (0, 0)),
    ],
)
def test_the_top_is_cropped_to_the_drivers_shape(size: tuple[int, int], options: FrameOptions, crops: tuple[int, int]):
    fit = choose_preprocessing(size, options)
    assert (fit.crop_top, fit.crop_bottom) == crops
    assert (fit.source_height, fit.source_width, fit.height, fit.width) == (*size, options.height, options.width)


def test_splits_do_not_overlap():
    def frames(one: EpisodeSet) -> set[tuple[str, float]]:
        return {(e.meta.source, round(e.meta.start_s + t - e.time_s[0], 3)) for e in one for t in e.time_s}

    long = EpisodeSet((episode(400),))
    sets = split(long, SplitOptions(gap_s=1.0))
    assert sets.held_out is not None
    parts = [frames(sets.training), frames(sets.validation), frames(sets.held_out)]
    assert not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]
    last = [max(second for _, second in part) for part in parts[:2]]
    first = [min(second for _, second in part) for part in parts[1:]]
    assert all(after - before >= 1.0 for before, after in zip(last, first, strict=True))
    assert len(parts[2]) == pytest.approx(80, abs=1)

    everything = split(long, SplitOptions(hold_out=0.0))
    assert everything.held_out is None
    by_episode = split(episodes(10), SplitOptions(split="episode"))
    assert by_episode.held_out is not None
    assert [len(by_episode.training), len(by_episode.validation), len(by_episode.held_out)] == [7, 1, 2]


def test_core_options_are_typed_and_checked():
    assert parse_core_options("ltc", ["units=21", "solver=rk4", "w-init=[0.1, 1.0]"]) == {
        "units": 21,
        "solver": "rk4",
        "w_init": (0.1, 1.0),
    }
    assert parse_core_options("ltc", ["sparsity=0"]) == {"sparsity": 0.0}
    for core, pair, words in (
        ("ltc", "units", "NAME=VALUE"),
        ("ltc", "units=many", "type int"),
        ("ltc", "untis=19", "no option 'untis'"),
        ("ltc", "solver=magic", "solver"),
        ("lct", "units=19", "core must be one of"),
    ):
        with pytest.raises(ValueError, match=words):
            parse_core_options(core, [pair])
    for core in CORES:
        assert parse_core_options(core, []) == {}


def test_the_policy_knows_the_car_of_its_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    writer = EpisodeWriter(tmp_path / "data")
    for number, curvature in enumerate((1.0, 2.0, 1.5)):
        meta = EpisodeMeta(
            source="test",
            nominal_period_s=0.05,
            extra={"car": {"full_lock_curvature_per_m": curvature, "lane_width_m": 0.5}},
        )
        with writer.episode(meta) as recording:
            for step in range(80):
                frame = np.full((16, 32, 3), (step + 7 * number) % 256, np.uint8)
                recording.append(frame, float(np.sin(0.3 * step + number)), 0.05 * step)
    out = tmp_path / "run"
    options = (*DRIVER, "--height", 16, "--width", 32, "--no-baseline", "--hold-out", 0)
    ran = wormwheel(capsys, "train", "imitation", "--data", tmp_path / "data", "--out", out, *options)
    assert ran.code == 0, ran.err
    car = load_policy(out).config.car
    assert car is not None and car.lane_width_m == 0.5
    assert car.full_lock_curvature_per_m == pytest.approx(1.5)


def test_no_second_driver_is_trained_unasked_and_a_long_training_is_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(train, "estimate_s", lambda *arguments: 2.5 * 3600)
    ran = wormwheel(capsys, "train", "imitation", "--data", tub, "--out", tmp_path / "run", *DRIVER, "--bfloat16")
    assert ran.code == 0, ran.err
    assert not (tmp_path / "run" / "baseline").exists() and "feedforward" not in ran.out
    before = ran.err.split("epoch 1 of 2")[0]
    assert "about 2 h 30 min" in before and "that is long: fewer --epochs (now 2)" in before
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["options"]["learning"]["bfloat16"] == "on", "the switch of earlier versions"


def test_bfloat16_is_a_word_and_was_a_switch():
    assert with_words(["--bfloat16", "--core", "ltc"]) == ["--bfloat16", "on", "--core", "ltc"]
    assert with_words(["--learning.no-bfloat16"]) == ["--learning.bfloat16", "off"]
    assert with_words(["--bfloat16", "auto", "--bfloat16"]) == ["--bfloat16", "auto", "--bfloat16", "on"]
    was = options_as_they_are_now({"learning": {"bfloat16": False, "epochs": 3}})
    assert was["learning"] == {"bfloat16": "off", "epochs": 3}, "an older run resumes"
    assert ImitationConfig(bfloat16=True).bfloat16 == "on"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bfloat16"):
        ImitationConfig(bfloat16="maybe")  # type: ignore[arg-type]
