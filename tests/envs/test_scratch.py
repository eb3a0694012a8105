"""Folders among the temporary files: those of killed processes go, those in use stay."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from envs.scratch import PREFIX, Scratch, clear_dead

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the test kills a forked process, and this system cannot fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


def test_only_what_the_dead_have_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = Scratch()
    (tmp_path / f"{PREFIX}foreign").mkdir()
    child = os.fork()
    if child == 0:
        (Scratch().path / "car.urdf").write_text("half")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    (dead,) = clear_dead(tmp_path)
    assert not dead.exists() and mine.path.is_dir() and (tmp_path / f"{PREFIX}foreign").is_dir()
    mine.remove()
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}foreign"]


@pytest.mark.parametrize("kill_before", ["open", "os.rmdir"])
def test_a_kill_while_a_folder_is_made_or_removed_leaves_what_is_recognised(
    kill_before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = os.fork()
    if child == 0:

        def strike(event: str, arguments: tuple[object, ...]) -> None:
            if event == kill_before and PREFIX in str(arguments[0]):
                os.kill(os.getpid(), 9)

        sys.addaudithook(strike)
        scratch = Scratch()
        (scratch.path / "car.urdf").write_text("whole")
        scratch.remove()
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    (left,) = tmp_path.iterdir()
    assert clear_dead(tmp_path) == [left] and not left.exists()


def test_a_folder_that_another_process_took_for_dead_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made, taken = tempfile.mkdtemp, []

    def take(**options: str) -> str:
        path = made(**options)
        if not taken:
            taken.extend(clear_dead(tmp_path))
        return path

    monkeypatch.setattr("tempfile.mkdtemp", take)
    scratch = Scratch()
    assert len(taken) == 1 and scratch.path.is_dir() and scratch.path not in taken
    assert clear_dead(tmp_path) == [], "it is in use"
    scratch.remove()
