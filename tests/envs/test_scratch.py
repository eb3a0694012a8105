"""Folders among the temporary files: those of killed processes go, those in use stay."""

from __future__ import annotations

import os
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
