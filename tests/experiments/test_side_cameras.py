"""Udacity's side cameras have labels that are made up: every verb that scores, fits or shows leaves them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.view_estimate import frames_of
from experiments.robustness import recorded_jobs
from tests.agents.recordings.makers import make_log
from tests.experiments.verbs import wormwheel

SIDES = "--recording.side-cameras"
FRAMES = 60


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log") / "udacity"
    make_log(directory, count=FRAMES)
    return directory


def test_evaluate_scores_the_centre_camera_alone(log, trained, tmp_path, capsys):
    figures = []
    for more in ((), (SIDES,)):
        file = tmp_path / f"{len(more)}.json"
        crop = ("--crop-top", 2)
        ran = wormwheel(capsys, "evaluate", "--policy", trained, "--data", log, *crop, *more, "--json", file)
        assert ran.code == 0, ran.err
        assert ("120 frames of side cameras are left out" in ran.out + ran.err) == bool(more)
        figures.append(json.loads(file.read_text())["figures"])
    assert figures[0]["recordings"]["rows"] == figures[1]["recordings"]["rows"]


def test_horizon_and_lane_are_looked_for_in_what_the_centre_camera_saw(log):
    np.testing.assert_array_equal(
        frames_of(load_episodes(log, side_cameras=True), 20), frames_of(load_episodes(log), 20)
    )


def test_robustness_on_recordings_takes_the_centre_camera_alone(log):
    data = recorded_jobs.RecordedData((log,), recording=recorded_jobs.ReadOptions(side_cameras=True))
    assert data.load().frame_count == FRAMES


def test_views_are_not_made_of_side_cameras(log, tmp_path, capsys):
    arguments = ("--data", log, "--side-cameras", "--views.share", 0.5, "--out", tmp_path / "run")
    ran = wormwheel(capsys, "train", "imitation", *arguments)
    assert ran.code == 2 and "leave out --side-cameras" in ran.err
    assert not (tmp_path / "run").exists()


def test_driving_is_counted_once_however_many_cameras_saw_it(log, tmp_path, capsys):
    found = []
    for more in ((), ("--side-cameras",)):
        ran = wormwheel(capsys, "data", "info", log, *more, "--json", tmp_path / "i.json")
        assert ran.code == 0, ran.err
        found.append(json.loads((tmp_path / "i.json").read_text())["figures"])
    plain, sides = found
    assert (plain["frames"], sides["frames"]) == (FRAMES, 3 * FRAMES)
    assert sides["of driving"] == plain["of driving"] and sides["clock"] == plain["clock"]


def test_a_tub_cannot_mark_side_cameras_and_that_is_said(log, tmp_path, capsys):
    for format_ in ("donkeycar", "native"):
        ran = wormwheel(capsys, "data", "convert", log, "--side-cameras", "--to", format_, "--out", tmp_path / format_)
        assert ran.code == 0, ran.err
        assert ("will pass for a person's" in ran.out + ran.err) == (format_ == "donkeycar")
    assert load_episodes(tmp_path / "native").centre.frame_count == FRAMES
    ran = wormwheel(capsys, "data", "fix", log, "--side-cameras", "--to", "donkeycar", "--out", tmp_path / "fixed")
    assert ran.code == 0 and "will pass for a person's" in ran.out + ran.err, ran.err
