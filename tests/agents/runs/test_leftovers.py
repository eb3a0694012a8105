"""What a killed process leaves half-made beside a file goes when the file is written again, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agents.runs.files import make_directory, replacing, write_text

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path):
    target = tmp_path / "film.mp4"
    dead, foreign = tmp_path / ".film.partial-0123abcd.mp4", tmp_path / ".film.mp4.part"
    for path in (dead, foreign):
        path.write_text("half")
    with replacing(target) as mine:
        mine.write_text("mine")
        with replacing(target) as other:
            assert mine.exists() and not dead.exists()
            other.write_text("other")
        assert target.read_text() == "other"
    assert target.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [foreign.name, "film.mp4"]


def test_a_child_that_is_killed_leaves_nothing_for_long(tmp_path: Path):
    target = tmp_path / "results.json"
    child = os.fork()
    if child == 0:
        with replacing(target) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    write_text(target, "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"] and target.read_text() == "whole"


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="a file without a name, O_TMPFILE, is Linux's")
def test_a_directory_is_probed_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agents.runs.files._beside", lambda path: pytest.fail("a probe with a name"))
    assert make_directory(tmp_path / "new").is_dir()
