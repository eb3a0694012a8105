"""The benchmark of imitation measures what it says, and refuses to measure loaders that show different pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import imitation
from experiments.benchmarks.imitation import ImitationBenchmark, check_alike, main, write_fitted, write_jpegs


def test_it_measures_each_contestant(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(imitation, "jpeg_batches", lambda jpegs, config, workers: iter([40] * 10**6))
    config = ImitationBenchmark(
        *(60, 1, 0.05, "feedforward", 2, 8), bfloat16="off", memory=False, json=tmp_path / "figures.json"
    )
    figures = main(config)
    rates = figures["frames_per_s"]
    assert {"bare policy", "imitation", "windows of fitted frames"} <= set(rates)
    assert all(rate["median"] > 0 for rate in rates.values())
    share = rates["imitation"]["median"] / rates["bare policy"]["median"]
    assert figures["imitation_of_bare"]["median"] == pytest.approx(share)
    assert json.loads((tmp_path / "figures.json").read_text())["figures"] == figures
    assert "imitation / bare policy" in capsys.readouterr().out


def test_loaders_that_show_different_pictures_are_refused(tmp_path: Path):
    jpegs = write_jpegs(tmp_path / "jpeg", 8)
    fitted = write_fitted(tmp_path / "fitted", jpegs)
    check_alike(fitted, jpegs)
    jpegs[0].write_bytes(jpegs[5].read_bytes())
    with pytest.raises(RuntimeError, match="different pictures"):
        check_alike(fitted, jpegs)
    assert np.abs(fitted[0].steering).max() > 0
