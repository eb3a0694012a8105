"""The memory task runs; what it shows takes minutes and is not a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.tasks import memory_cartpole
from experiments.tasks.memory_cartpole import Options, main


@pytest.mark.thorough
def test_smoke(tmp_path: Path) -> None:
    main(Options(cores=("gru", "feedforward"), steps=1024, evaluate_every=1024, episodes=2, json=tmp_path / "r.json"))
    curves = json.loads((tmp_path / "r.json").read_text())["figures"]["curves"]
    for core in ("gru", "feedforward"):
        ((last, reward),) = curves[core][0]
        assert last == 1024 and 1 <= reward <= 500


def test_a_run_is_solved_at_475_at_its_first_such_judgement(monkeypatch, capsys) -> None:
    curves = {
        ("gru", 0): [(100, 200.0), (200, 475.0), (300, 482.0)],
        ("gru", 1): [(100, 474.0), (200, 300.0)],
        ("lstm", 0): [(100, 10.0), (200, 5.0)],
        ("lstm", 1): [(100, 500.0)],
    }
    monkeypatch.setattr(memory_cartpole, "learn", lambda core, seed, options: curves[core, seed])
    main(Options(cores=("gru", "lstm"), seeds=2, steps=300))
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["gru", "1", "of", "2", "200,", "–", "478"] in rows
    assert ["lstm", "1", "of", "2", "–,", "100", "255"] in rows


def test_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Options(seeds=0)
