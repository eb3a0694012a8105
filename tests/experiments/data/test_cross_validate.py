"""Blocked cross-validation: every frame is steered once by a driver that never saw it; figures say what they say."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.driving.statistics import Estimate
from agents.imitation.views import ViewSynthesis
from agents.recordings.doctor.motion import Motion, cut_motion
from agents.recordings.episodes import EpisodeSet
from experiments.data import cross_validate
from experiments.data.cross_validate import by_turning, summarise
from policies.checkpoint import save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.recordings.doctor.cars import turning_car
from tests.agents.recordings.makers import make_log, make_tub, picture, save
from tests.experiments.verbs import wormwheel

RNG = np.random.default_rng(0)
TARGETS = [np.convolve(RNG.normal(size=620), np.ones(20) / 4, "valid")[:600].clip(-1, 1) for _ in range(3)]


def test_strict_figures_see_a_weak_gain_and_those_that_forgive_it_do_not():
    noise = [0.02 * RNG.normal(size=600) for _ in TARGETS]
    weak = [0.3 * t + 0.1 + n for t, n in zip(TARGETS, noise, strict=True)]
    figures = summarise([weak], TARGETS)
    assert figures["correlation"].value > 0.97
    assert figures["r2"].value < 0.6
    assert figures["r2_fitted"].value > 0.95
    assert figures["r2"].low < figures["r2"].value < figures["r2"].high


def test_the_gain_is_fitted_on_other_blocks_than_the_one_that_is_scored():
    """A driver whose gain is right on two blocks and turned round on the third gains nothing there by the fit."""
    turned = [TARGETS[0], TARGETS[1], -TARGETS[2]]
    alone = summarise([turned], TARGETS)["r2_fitted"].value
    whole_y, whole_p = np.concatenate(TARGETS), np.concatenate(turned)
    gain = np.cov(whole_p, whole_y, bias=True)[0, 1] / whole_p.var()
    in_sample = 1 - ((gain * (whole_p - whole_p.mean()) + whole_y.mean() - whole_y) ** 2).mean() / whole_y.var()
    assert alone < in_sample - 0.1


def test_seeds_are_averaged_and_drawn_together():
    good = [t.copy() for t in TARGETS]
    flat = [np.zeros_like(t) for t in TARGETS]
    both = summarise([good, flat], TARGETS)["r2"].value
    assert both == pytest.approx(
        (summarise([good], TARGETS)["r2"].value + summarise([flat], TARGETS)["r2"].value) / 2, abs=1e-9
    )


def test_it_goes_on_where_it_was_stopped_and_takes_more_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "cv"
    options: tuple[object, ...] = ("--blocks", 2, "--out", out, "--cores", "feedforward", "--epochs", 1, "--stride", 16)
    options += ("--height", 16, "--width", 32, "--gap-s", 0.2)
    calls = []
    train = cross_validate.train_imitation

    def counted(*arguments: object, **extras: object) -> object:
        calls.append(1)
        assert extras["device"] == "cpu"
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **extras)  # type: ignore[arg-type]

    monkeypatch.setattr(cross_validate, "train_imitation", counted)
    monkeypatch.setattr(cross_validate, "bootstrap", partial(cross_validate.bootstrap, resamples=20))
    assert wormwheel(capsys, "data", "cross-validate", tub, *options).code == 130
    ran = wormwheel(capsys, "data", "cross-validate", tub, *options, "--seeds", 0, 1, "--resume")
    assert ran.code == 0, ran.err
    assert len(calls) == 1 + 1 + 3, "the first block stands, the other one and both of the new seed were trained"
    figures = json.loads((out / "results.json").read_text())["figures"]
    assert figures["frames"] == 120 and set(figures["drivers"]["feedforward"]["seeds"]) == {"0", "1"}
    assert sum(len(np.load(path)) for path in (out / "blocks").glob("*-seed-1-*.npy")) == 120
    refused = wormwheel(capsys, "data", "cross-validate", tub, *options, "--device", "cuda:99", "--resume")
    assert refused.code == 2 and "no such GPU" in refused.complaint
    refused = wormwheel(capsys, "data", "cross-validate", tub, *options, "--epochs", 2, "--resume")
    assert refused.code == 2 and "epochs" in refused.complaint


def test_views_and_a_head_from_elsewhere_reach_the_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path, monkeypatch: pytest.MonkeyPatch
):
    head = tmp_path / "head"
    fit = Preprocessing(48, 96, height=16, width=32)
    save_policy(DrivingPolicy.create(PolicyConfig(core="feedforward", preprocessing=fit), seed=5), head)
    given: list[dict[str, object]] = []

    def stopped(*_: object, **extras: object) -> object:
        given.append(extras)
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validate, "train_imitation", stopped)
    options: tuple[object, ...] = ("--blocks", 2, "--out", tmp_path / "cv", "--height", 16, "--width", 32)
    options += ("--gap-s", 0.2)
    rig = ("--rig.horizon", 0.3, "--rig.camera-height-m", 0.2, "--rig.hfov-deg", 100, "--rig.speed-mps", 1)
    rig += ("--rig.full-lock-curvature-per-m", 0.9)  # all is given: nothing is searched for in the frames
    more = ("--init-head-from", head, "--views.share", 0.5, *rig)
    wormwheel(capsys, "data", "cross-validate", tub, *options, *more)
    (extras,) = given
    assert extras["head_only"] and isinstance(extras["initial"], DrivingPolicy)
    assert isinstance(extras["synthesis"], ViewSynthesis) and extras["synthesis"].config.share == 0.5
    ran = wormwheel(capsys, "data", "cross-validate", tub, "--freeze-head", "--out", tmp_path / "other")
    assert ran.code == 2 and "--init-head-from" in ran.complaint


def test_no_lag_is_chosen_by_what_is_scored(monkeypatch: pytest.MonkeyPatch):
    """Labels that have nothing to do with the turning: the best of all lags would correlate all the same."""

    def value(statistic: Any, count: int, seed: int) -> Estimate:
        return Estimate(statistic(np.arange(count)))

    monkeypatch.setattr(cross_validate, "bootstrap", value)
    found = []
    for seed in range(12):
        turning, steering = np.random.default_rng(seed).normal(size=(2, 400))
        motion = Motion((turning,), (steering,), (0.05 * np.arange(400),), 0.05)
        monkeypatch.setattr(cross_validate, "measure_motion", lambda *_, motion=motion: motion)
        figures = by_turning(EpisodeSet(()), 5)
        found.append(0.0 if figures is None else figures["correlation"].value)
    assert np.mean(found) < 0.03


def test_blocks_of_motion_are_whole_and_apart():
    lengths, period_s = (7, 5, 8), 0.1
    parts = tuple(np.split(np.arange(20.0), np.cumsum(lengths)[:-1]))
    motion = Motion(parts, parts, parts, period_s)
    for number, (rest, block) in enumerate(cut_motion(motion, 4)):
        inside = np.concatenate(block.turning)
        np.testing.assert_array_equal(inside, np.arange(5.0 * number, 5.0 * number + 5))
        assert sorted([*inside, *np.concatenate(rest.steering)]) == list(range(20))
        assert all((np.diff(one) == 1).all() for one in rest.time_s), "no stretch runs on over the block"


def test_what_the_car_did_says_how_much_of_the_steering_there_is_to_learn():
    """Labels that follow the turning are told by it at their lag; keys that are pressed at random beside it are not."""
    followed = turning_car(lag=4, count=400)
    figures = by_turning(followed, 5)
    assert figures is not None and figures["r2_fitted"].value > 0.9 and figures["correlation"].value > 0.95
    (episode,) = followed
    pressed = np.where(RNG.random(400) < 0.5, 0.0, np.sign(RNG.normal(size=400)))
    keys = dataclasses.replace(episode, steering=np.clip(episode.steering + pressed, -1, 1).astype(np.float32))
    figures = by_turning(EpisodeSet((keys,)), 5)
    assert figures is not None and figures["r2_fitted"].value < 0.5
    assert by_turning(turning_car(lag=4, count=200), 5) is None, "40 frames a block are too few"
    still = dataclasses.replace(episode, steering=-episode.steering)
    assert by_turning(EpisodeSet((still,)), 5) is None, "labels that the pictures turn against say nothing"


def test_blocks_that_are_copies_of_others_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """As `train imitation` refuses them: else every frame is tested on by a driver that did see it."""
    make_tub(tmp_path / "tub", count=80)  # every tenth record is the same one again
    out = tmp_path / "cv"
    ran = wormwheel(capsys, "data", "cross-validate", tmp_path / "tub", "--gap-s", 0.2, "--out", out)
    assert ran.code == 2 and "16 of 16 held-out frames are copies of frames that are trained on" in ran.complaint
    assert not out.exists()
    ran = wormwheel(capsys, "train", "imitation", "--data", tmp_path / "tub", "--gap-s", 0.2, "--out", out)
    assert ran.code == 2 and "16 of 16 held-out frames are copies" in ran.complaint
    assert not out.exists()


def test_figures_say_how_much_was_tested_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "log"
    make_log(log, count=60)
    for number, place in enumerate(sorted((log / "IMG").iterdir())):
        save(place, picture(level=number))

    def steered(*arguments: Any) -> np.ndarray:
        return np.linspace(0, 1, arguments[6]).astype(np.float32)  # as many as the block has frames

    monkeypatch.setattr(cross_validate, "_steer", steered)
    monkeypatch.setattr(cross_validate, "bootstrap", partial(cross_validate.bootstrap, resamples=20))
    more = ("--crop-top", 2, "--gap-s", 0.2, "--json", tmp_path / "f.json", "--out", tmp_path / "cv")
    ran = wormwheel(capsys, "data", "cross-validate", log, "--side-cameras", *more)
    assert ran.code == 0, ran.err
    figures = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figures["frames"] == 60 and figures["driving_s"] == pytest.approx(60 * 0.07, abs=0.01)
    assert " 60 frames" in ran.out and "180 frames" not in ran.out


def test_each_seed_trains_its_own_driver_for_each_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tub: Path, monkeypatch: pytest.MonkeyPatch
):
    trained = []

    def moments(part: EpisodeSet) -> set[float]:
        return {round(e.meta.start_s + t, 3) for e in part for t in e.time_s - e.time_s[0]}

    def train(learning: Any, config: Any, training: EpisodeSet, validation: EpisodeSet, *_: Any, **__: Any) -> Any:
        trained.append((config.core, learning.seed, moments(training), moments(validation)))
        return SimpleNamespace(policy=None, progress=SimpleNamespace(best_epoch=1))

    def predict(policy: None, held: EpisodeSet, preprocessed: bool) -> list[np.ndarray]:
        *_, learnt, chosen_by = trained[-1]
        assert not learnt & moments(held) and not chosen_by & moments(held) and not learnt & chosen_by
        return [episode.steering for episode in held]

    monkeypatch.setattr(cross_validate, "train_imitation", train)
    monkeypatch.setattr(cross_validate, "predict", predict)
    monkeypatch.setattr(cross_validate, "bootstrap", partial(cross_validate.bootstrap, resamples=20))
    options = ("--blocks", 3, "--out", tmp_path / "cv", "--cores", "ltc", "gru", "--seeds", 4, 9, "--gap-s", 0.2)
    ran = wormwheel(capsys, "data", "cross-validate", tub, *options, "--height", 16, "--width", 32)
    assert ran.code == 0, ran.err
    wanted = [(core, seed) for seed in (4, 9) for core in ("ltc", "gru") for _ in range(3)]
    assert [one[:2] for one in trained] == wanted
