"""The benchmark of cores prints no speed before the numbers agree with the reference package's."""

from __future__ import annotations

import pytest
import torch

from experiments.benchmarks import cores, cores_peers

pytest.importorskip("ncps")


def test_numbers_that_differ_are_found(monkeypatch: pytest.MonkeyPatch):
    cores_peers.check_agreement(19)
    usual = cores_peers.peers

    def altered(units: int) -> dict[str, torch.nn.Module]:
        models = usual(units)
        with torch.no_grad():
            next(models["wired CfC"].parameters()).add_(0.01)
        return models

    monkeypatch.setattr(cores_peers, "peers", altered)
    with pytest.raises(RuntimeError, match="wired CfC of 19 neurons: outputs differ"):
        cores_peers.check_agreement(19)


def test_no_speed_is_measured_while_they_differ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def differ(units: int) -> None:
        raise RuntimeError("they differ")

    monkeypatch.setattr(cores, "check_agreement", differ)
    with pytest.raises(RuntimeError, match="they differ"):
        cores.main(cores.CoresBenchmark(quick=True))
    assert "µs" not in capsys.readouterr().out
