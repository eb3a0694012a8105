"""A whole driver to start from: before it learns it drives as it would be shown the recording, and then nearly so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.driving.open_loop import predict
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from experiments import learning_start, train_imitation
from experiments.data import cross_validate
from experiments.evaluate.default_view import RoadView, crops_for, gain_for
from experiments.learning_start import EPOCHS, RATE, start_from
from experiments.train_imitation import RECORDED
from experiments.training_sets import FrameOptions, fitter
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy, PolicyConfig
from tests.experiments.verbs import wormwheel, write_tub

ROAD = RoadView(horizon=0.35, hfov_deg=80.0, lane_heights=3.0, is_lane_seen=True, lock_heights=0.3)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tub with frames of another size than the driver knows."""
    return write_tub(tmp_path_factory.mktemp("foreign") / "tub", 60, height=48, width=64)


def test_it_begins_as_the_driver_would_be_shown_the_recording(
    trained: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(learning_start, "road_view", lambda episodes: ROAD)
    driver = load_policy(trained / "policy")
    start = start_from(trained, load_episodes(foreign), FrameOptions(height=24, width=48), "gru")
    crops = crops_for(driver.config, (48, 64), ROAD)
    assert any(crops.values())
    assert {name: getattr(start.preprocessing, name) for name in crops} == crops
    gain = gain_for(driver.config, ROAD)
    assert gain is not None and gain != 1
    frames = fitter(start.preprocessing)(np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8))
    with torch.no_grad():
        mine, theirs = (
            policy.motors(torch.from_numpy(frames)[None], preprocessed=True)[0][..., 0]
            for policy in (start.policy, driver)
        )
    torch.testing.assert_close(mine, gain * theirs)


def test_a_crop_that_is_given_is_taken_and_frames_that_fit_are_left_alone(trained: Path, foreign: Path, tub: Path):
    options = FrameOptions(height=24, width=48, crop_top=20)
    assert start_from(trained, load_episodes(foreign), options, "gru").preprocessing.crop_top == 20
    options = FrameOptions(height=24, width=48, crop_bottom=4, crop_left=6)
    for recording, rows in ((foreign, 48), (tub, 24)):
        shown = start_from(trained, load_episodes(recording), options, "gru").preprocessing
        assert (shown.source_height, shown.crop_bottom, shown.crop_left, shown.crop_right) == (rows, 4, 6, 0)
    known = start_from(trained, load_episodes(tub), FrameOptions(height=24, width=48), "gru")
    assert known.preprocessing.is_identity


def test_training_bends_the_driver_and_does_not_replace_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, foreign: Path
):
    train = ("train", "imitation", "--data", foreign, "--init-from", trained, "--hold-out", 0, "--gap-s", 0.1)
    ran = wormwheel(capsys, *train, "--epochs", 1, "--stride", 16, "--out", tmp_path / "run", "--no-baseline")
    assert ran.code == 0, ran.err
    before, after = load_policy(trained / "policy"), load_policy(tmp_path / "run" / "policy")
    assert after.config.core == "gru" and after.config.core_options == {"hidden_size": 8}
    fresh = DrivingPolicy.create(after.config, seed=0)

    def apart(one: DrivingPolicy, other: DrivingPolicy) -> float:
        pairs = zip(one.head.parameters(), other.head.parameters(), strict=True)
        return float(sum((a - b).detach().square().sum() for a, b in pairs)) ** 0.5

    assert 0 < apart(before, after) < 0.2 * apart(fresh, after)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["options"]["learning"]
    assert saved["head_learning_rate"] == pytest.approx(RATE * RECORDED.head_learning_rate)
    notes = json.loads((tmp_path / "run" / "policy" / "config.json").read_text())
    assert str(trained) in json.dumps(notes)
    given = load_episodes(foreign)
    assert np.isfinite(np.concatenate(predict(after, given))).all()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--core", "lstm"), "is a driver with core gru, which is trained as it is, got --core lstm"),
        (("--core-options", "hidden_size=4"), "leave out --core-options"),
        (("--height", 32), "sees 48×24 pixels, got --width 48 --height 32"),
        (("--init-head-from", "{trained}"), "give one of them"),
    ],
)
def test_what_would_make_another_driver_of_it_is_refused(
    more: tuple[object, ...],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trained: Path,
    foreign: Path,
):
    more = tuple(str(word).format(trained=trained) for word in more)
    out = tmp_path / "run"
    ran = wormwheel(capsys, "train", "imitation", "--data", foreign, "--init-from", trained, "--out", out, *more)
    assert ran.code == 2 and words in ran.complaint
    assert not out.exists()


def test_cross_validation_starts_every_block_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
):
    given = []

    def stopped(learning: object, config: object, *_: object, **extras: object) -> object:
        given.append((learning, config, extras))
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validate, "train_imitation", stopped)
    options = ("--blocks", 2, "--out", tmp_path / "cv", "--gap-s", 0.1, "--init-from", trained)
    wormwheel(capsys, "data", "cross-validate", foreign, *options)
    ((learning, config, extras),) = given
    assert learning.epochs == EPOCHS and config.core == "gru"  # type: ignore[attr-defined]
    assert isinstance(extras["initial"], DrivingPolicy) and extras["head_only"] is False
    options = (*options, "--out", tmp_path / "other")
    refused = wormwheel(capsys, "data", "cross-validate", foreign, *options, "--cores", "ltc", "lstm")
    assert refused.code == 2 and "got --cores ltc lstm: leave it out" in refused.complaint


@pytest.mark.parametrize("verb", ["train imitation", "data cross-validate"])
def test_time_counts_in_the_drivers_own_period_as_when_it_drives(
    verb: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trained: Path,
    foreign: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    given = []

    def stopped(learning: object, config: PolicyConfig, training: EpisodeSet, *_: object, **__: object) -> object:
        given.append((config.nominal_period_s, training[0].elapsed()[1:]))
        raise KeyboardInterrupt

    monkeypatch.setattr(train_imitation if verb.startswith("train") else cross_validate, "train_imitation", stopped)
    data = ("--data", foreign) if verb.startswith("train") else (foreign,)
    options = ("--nominal-rate", 10, "--init-from", trained, "--gap-s", 0.1, "--out", tmp_path / "run")
    wormwheel(capsys, *verb.split(), *data, *options)
    ((period_s, elapsed),) = given
    assert period_s == load_policy(trained / "policy").config.nominal_period_s == 0.05
    np.testing.assert_allclose(elapsed, 2.0, rtol=1e-5)
