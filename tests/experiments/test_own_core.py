"""A core from outside the tree: `--core module:Class` trains, is shown, and is loaded when its code is trusted."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.checkpoint import load_policy
from policies.cores import CORES
from tests.experiments.verbs import DRIVER, wormwheel
from tests.packaging.pages import blocks


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The core of CONTRIBUTING.md as a module in the current directory."""
    (block,) = [block for block in blocks(Path("CONTRIBUTING.md")) if block.title == "policies/cores/leaky.py"]
    (tmp_path / "own_leaky.py").write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_leaky", raising=False)
    known = dict(CORES)
    yield "own_leaky:Leaky"
    CORES.clear()
    CORES.update(known)


def test_it_trains_and_is_shown(module: str, tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = [*DRIVER, "--core", module, "--core-options", "units=5", "--epochs", "1", "--no-baseline"]
    ran = wormwheel(capsys, "train", "imitation", "--data", tub, "--out", tmp_path / "run", *options)
    assert ran.code == 0, ran.err
    assert load_policy(tmp_path / "run" / "policy", trust=True).core.state_size == 5
    pytest.importorskip("pandas")
    world = ("--vehicle", "bicycle", "--variety", "0.2", "--episode-s", "0.5", "--workers", "1", "--films", "0")
    words = ("--policy", tmp_path / "run", "--perturbations", "fog:2", *world, "--out", tmp_path / "gate")
    CORES.pop(module, None)
    refused = wormwheel(capsys, "gate", *words, "--require", "crashes <= 99", "--budget", "3")
    assert refused.code == 2 and "trust" in refused.complaint
    gated = wormwheel(capsys, "gate", *words, "--require", "crashes <= 99", "--budget", "3", "--trust")
    assert gated.code == 0, gated.err
    shown = wormwheel(capsys, "info", "cores", module)
    assert shown.code == 0 and re.search(r"units +│ +16", shown.out)


def test_a_module_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "info", "cores", "no_such_module:Leaky")
    assert ran.code == 2 and "no_such_module" in ran.complaint
