"""Suites: what the names stand for, files, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.perturbations import FAMILIES, PERTURBATIONS, parse
from experiments.robustness.suites import PUBLISHED_NOISE, Suite, choose_suite


def test_standard_is_everything_and_quick_is_one_of_each_family():
    standard = choose_suite("standard")
    assert len(standard.conditions()) == 5 * len(PERTURBATIONS)
    assert (standard.roads, standard.episode_s) == (4, 20.0)
    quick = choose_suite("quick")
    kinds = [parse(text).parts[0] for text in quick.conditions()]
    assert [kind.family for kind in kinds[::2]] == list(FAMILIES) and len(kinds) == 2 * len(FAMILIES)


def test_the_published_noise_has_its_variances():
    assert choose_suite("noise").conditions() == PUBLISHED_NOISE
    assert [parse(text).parts[0].dose for text in PUBLISHED_NOISE] == [0.1, 0.2, 0.3]


def test_severities_go_where_none_is_named():
    suite = Suite(("fog", "rain:2", "night+latency:1", "fog:3"), (1, 3))
    assert suite.conditions() == ("fog:1", "fog:3", "rain:2", "night:1+latency:1", "night:3+latency:1")


def test_a_file_and_what_the_command_line_says_instead(tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"perturbations": ["fog"], "severities": [5], "roads": 2, "episode_s": 7.5}))
    assert choose_suite(str(path)) == Suite(("fog",), (5,), 2, 7.5)
    changed = choose_suite(str(path), ("rain",), (1,), 9, 3.0)
    assert changed == Suite(("rain",), (1,), 9, 3.0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "should hold JSON and is damaged"),
        ("[1]", "must be an object with perturbations, severities, roads, episode_s"),
        ('{"severities": [1]}', "must be an object with"),
        ('{"perturbations": ["fog"], "speed": 3}', "must be an object with"),
        ('{"perturbations": []}', "perturbations must have 1 or more values, got 0"),
        ('{"perturbations": ["fogg"]}', "Did you mean fog"),
        ('{"perturbations": ["clean"]}', "clean drives are always part"),
        (
            '{"perturbations": ["fog"], "severities": [6]}',
            "mine.json does not describe a suite: severities.0 must be at most 5, got 6",
        ),
        ('{"perturbations": ["fog"], "roads": 0}', "roads must be greater than 0, got 0"),
        ('{"perturbations": ["fog"], "roads": 2.5}', "roads must be a valid integer.*got 2.5"),
        ('{"perturbations": ["fog"], "episode_s": -1}', "episode_s must be greater than 0, got -1"),
        ('{"perturbations": ["fog"], "roads": "many"}', "roads must be a valid integer.*got 'many'"),
        ('{"perturbations": [3]}', "perturbations.0 must be a valid string, got 3"),
        ('{"perturbations": "fog"}', "list"),
        ('{"perturbations": ["fog"], "severities": 3}', "does not describe a suite|list"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: str, says: str):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=says):
        choose_suite(str(path))


def test_an_unknown_suite_lists_what_there_is():
    with pytest.raises(ValueError, match="no suite and no file 'hard'. Suites: standard, quick, noise"):
        choose_suite("hard")


@pytest.mark.parametrize("text", ["payload_of_suite:Rain", "payload_of_suite:Rain:3", "fog:2+payload_of_suite:Rain"])
def test_a_suite_file_imports_no_module(text: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "payload_of_suite.py").write_text("raise SystemExit('code ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"perturbations": [text]}))
    with pytest.raises(ValueError, match="nothing that is loaded runs code"):
        choose_suite(str(path))
