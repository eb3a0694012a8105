"""The memory task runs; what it shows takes minutes and is not a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.tasks.memory_cartpole import Options, main


@pytest.mark.thorough
def test_smoke(tmp_path: Path) -> None:
    main(Options(cores=("gru", "feedforward"), steps=1024, evaluate_every=1024, episodes=2, json=tmp_path / "r.json"))
    curves = json.loads((tmp_path / "r.json").read_text())["figures"]["curves"]
    for core in ("gru", "feedforward"):
        ((last, reward),) = curves[core][0]
        assert last == 1024 and 1 <= reward <= 500


def test_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Options(seeds=0)
