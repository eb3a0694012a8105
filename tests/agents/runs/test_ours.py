"""Files that a person has named are written over only where Wormwheel made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.runs.ours import check_ours, is_ours
from experiments.console import check_json, write_results
from experiments.film.video import VideoWriter, write_preview
from tests.experiments.verbs import wormwheel

FRAMES = [np.full((16, 32, 3), value, np.uint8) for value in (0, 90, 200)]


def test_what_is_written_carries_the_mark(tmp_path: Path):
    with VideoWriter(tmp_path / "a.mp4") as film:
        for frame in FRAMES:
            film.append(frame)
    for name in ("a.webp", "a.gif"):
        write_preview(tmp_path / name, FRAMES)
    write_results(tmp_path / "a.json", "record", {}, {})
    for path in tmp_path.iterdir():
        assert is_ours(path), path.name
    (tmp_path / "empty.mp4").touch()
    check_ours(*tmp_path.iterdir(), None, tmp_path / "new.mp4", Path("/dev/null"))


def test_what_somebody_else_made_is_refused(tmp_path: Path):
    for name in ("a.mp4", "a.json"):
        (tmp_path / name).write_text(json.dumps({"mine": 1}))
        with pytest.raises(ValueError, match=rf"{name} was not made by Wormwheel"):
            check_ours(tmp_path / name)
    with pytest.raises(ValueError, match="not made by Wormwheel"):
        check_json(tmp_path / "a.json")


def test_a_check_leaves_no_directory(tmp_path: Path):
    check_json(tmp_path / "new" / "deep" / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_verbs_refuse_before_they_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("mine.png", "mine.json"):
        (tmp_path / name).write_text("mine")
    small = ("--families", "noise", "--severities", 1)
    for words in (
        ("gallery", "--out", tmp_path / "mine.png", *small),
        ("info", "cores", "--json", tmp_path / "mine.json"),
    ):
        ran = wormwheel(capsys, *words)
        assert ran.code == 2 and "not written over" in ran.complaint
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine.png": "mine", "mine.json": "mine"}
