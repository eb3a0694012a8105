"""The code of a world that a policy names is run for those who trust it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.verbs import wormwheel


@pytest.mark.parametrize("others", [0, 1])
def test_a_policy_does_not_have_its_world_imported(
    others: int, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "world.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'was_run')!r}).touch()\n")
    (tmp_path / "net.py").write_text("def make():\n    return lambda frame: 0.0\n")
    monkeypatch.setattr("experiments.policy_paths.world_of", lambda path: f"{tmp_path}/world.py:make")
    drivers = (trained, f"{tmp_path}/net.py:make")[: 1 + others]
    ran = wormwheel(capsys, "evaluate", "--policy", *drivers, "--episodes", 1, "--episode-s", 0.5)
    assert ran.code == 2 and "give --trust" in ran.complaint, ran.err
    assert not (tmp_path / "was_run").exists()
    ran = wormwheel(capsys, "evaluate", "--policy", *drivers, "--episodes", 1, "--episode-s", 0.5, "--trust")
    assert ran.code == 2 and "has no function 'make'" in ran.complaint, ran.err
    assert (tmp_path / "was_run").exists()
