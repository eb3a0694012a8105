"""Perturbations of one's own: found by module and name, or by an entry point, in every process."""

from __future__ import annotations

import importlib
import math
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from agents.ppo.envs import DrawnPerturbations
from envs.camera.info import CameraInfo
from envs.foreign_code import ForeignCodeError
from envs.lane_keeping.env import LaneKeepingEnv
from envs.perturbations import FAMILIES, PERTURBATIONS, own, parse
from envs.perturbations.composition import Running
from envs.perturbations.perturbation import Effect, Moment, PerturbationKind
from experiments.explain.counterfactual import at_dose
from experiments.robustness.suites import Suite

HAZE = """
import numpy as np

from envs.perturbations.perturbation import Effect, declare_perturbation


class Darker(Effect):
    def __init__(self, dose):
        self.dose = dose

    def frame(self, frame, moment):
        return (self.dose * frame).astype(np.uint8)


@declare_perturbation("mine", unit="share of the light", doses=(0.9, 0.8, 0.7, 0.6, 0.5), random=False)
def haze(generator, camera, dose):
    'Another darkness.'
    return Darker(dose)


nothing = 3
"""


@pytest.fixture
def haze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of a perturbation in the current directory, which nobody has imported."""
    (tmp_path / "own_haze.py").write_text(HAZE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_haze", raising=False)
    importlib.invalidate_caches()
    before = dict(PERTURBATIONS), dict(FAMILIES)
    yield "own_haze:haze"
    for now, old in zip((PERTURBATIONS, FAMILIES), before, strict=True):
        now.clear()
        now.update(old)
    sys.modules.pop("own_haze", None)


def test_it_is_found_by_module_and_name_and_named_so(haze: str):
    (part,) = parse(f"{haze}:2").parts
    assert (part.severity, part.dose, part.family) == (2, 0.8, "mine")
    assert str(part) == "own_haze:haze:2" and str(parse(str(part))) == str(part)
    assert str(parse(f"{haze}+fog:1")) == "own_haze:haze:3+fog:1"
    assert FAMILIES["mine"] == (haze,)


def test_an_entry_point_gives_it_a_short_name(haze: str, monkeypatch: pytest.MonkeyPatch):
    points = [EntryPoint("haze", haze, own.GROUP)]
    monkeypatch.setattr(own, "entry_points", lambda group: points if group == own.GROUP else [])
    assert str(parse("haze:4")) == "own_haze:haze:4"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("own_haze:Nothing:3", "own_haze has no 'Nothing'"),
        ("own_haze:nothing:3", "own_haze:nothing is no perturbation"),
        ("own_missing:haze:3", "Python finds no module 'own_missing'"),
        ("own_haze:haze:6", "has the severities 1 to 5"),
        ("fog:6", "fog has the severities 1 to 5"),
        ("fogg:3", "Did you mean fog"),
        ("fogg:6", "Did you mean fog"),
    ],
)
def test_what_is_not_there_is_said(text: str, says: str, haze: str):
    with pytest.raises(ValueError, match=says):
        parse(text)


class _Given(Effect):
    """Gives what it was made of, everywhere."""

    def __init__(self, **gives):
        self.gives = gives

    def periods(self):
        return self.gives.get("periods", 1.0)

    def reported_elapsed(self, elapsed):
        return self.gives.get("elapsed", elapsed)

    def frame(self, frame, moment):
        return self.gives.get("frame", frame)

    def scenario(self, scenario):
        return self.gives.get("scenario", scenario)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "2", None])
def test_times_that_an_effect_gives_must_be_positive_numbers(value):
    with pytest.raises(ValueError, match="a perturbation holds the next action for .* positive"):
        Running([_Given(periods=value)]).periods()
    frame = np.zeros((8, 8, 3), np.uint8)
    if value != 0:  # one that saw this picture before reports so, and the shortest time is told
        with pytest.raises(ValueError, match="a perturbation reports that a frame comes after .* positive"):
            Running([_Given(elapsed=value)]).see(frame, Moment(0.0))


@pytest.mark.parametrize("value", [None, [[0]], "frame", np.zeros((4, 8, 3), np.uint8), np.zeros((8, 8, 3))])
def test_a_frame_that_an_effect_gives_must_be_one(value):
    with pytest.raises(ValueError, match="a perturbation made a frame"):
        Running([_Given(frame=value)]).see(np.zeros((8, 8, 3), np.uint8), Moment(0.0))


def test_a_scenario_that_an_effect_gives_must_be_one():
    with pytest.raises(ValueError, match="made the scenario None, expected a Scenario"):
        Running([_Given(scenario=None)]).scenario(object())


def test_a_start_that_fails_or_gives_no_effect_is_one_line():
    def start(function):
        kind = PerturbationKind("own", "mine", "u", (1.0, 2.0, 3.0, 4.0, 5.0), function)
        return kind(3).begin(0, CameraInfo(8, 8, 0.05))

    for function, words in (
        (lambda generator, camera, dose: {}["dirt"], "starting the perturbation mine:?.* failed: KeyError: 'dirt'"),
        (lambda generator: None, r"as start\(generator, camera, dose\), failed: TypeError"),
        (lambda generator, camera, dose: lambda frame: frame, "started with a function; .* must return an Effect"),
    ):
        with pytest.raises(ForeignCodeError, match=words):
            start(function)


def test_one_that_names_no_severity_is_taken_at_each_as_those_of_ours_are(haze: str):
    suite = Suite((haze, f"{haze}:2", f"fog+{haze}"), (1, 5))
    assert suite.conditions() == (f"{haze}:1", f"{haze}:5", f"{haze}:2", f"fog:1+{haze}:1", f"fog:5+{haze}:5")
    env = DrawnPerturbations(LaneKeepingEnv(vehicle="bicycle", height=8, width=16), (haze,), 5)
    drawn = {env.reset(seed=seed)[1]["perturbation"] for seed in range(12)}
    assert len(drawn) >= 3 and all(text.startswith(f"{haze}:") for text in drawn)
    assert at_dose(haze, 0.35).dose == 0.35
