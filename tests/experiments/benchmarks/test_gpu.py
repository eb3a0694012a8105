"""The benchmark of GPUs on the CPU: its parts run, what does not agree or fails is kept, said, and not timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.benchmarks import gpu, gpu_agreement, gpu_speed
from experiments.benchmarks.gpu import GPUBenchmark, main
from experiments.benchmarks.gpu_agreement import Case, Setup, compare_core, measure_agreement

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare two cores and time three contestants."""
    few = (Case("LTC 19", "ltc"), Case("LSTM 64", "lstm"))
    monkeypatch.setattr(gpu_agreement, "CASES", few)
    monkeypatch.setattr(gpu_agreement, "HAS_TRITON", False)
    all_of_them = gpu_speed.contestants
    names = ("LTC 19", "torch LSTM 64, no starts", "LSTM core 64, packed at starts")
    monkeypatch.setattr(gpu_speed, "contestants", lambda d: {n: c for n, c in all_of_them(d).items() if n in names})


def quick(path: Path | None = None) -> GPUBenchmark:
    return GPUBenchmark(("card", "agreement", "step"), device="cpu", quick=True, json=path)


def test_parts_run_and_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    figures = main(quick(tmp_path / "gpu.json"))
    assert figures["agreement"]["LTC 19"]["outputs"] < 1e-5 and figures["agreement"]["LTC 19"]["same_bits"]
    first = figures["step"][0]
    assert set(first["ms"]) == {"LTC 19", "torch LSTM 64, no starts", "LSTM core 64, packed at starts"}
    assert "LTC 19 / torch LSTM 64, no starts" in first["ratios"]
    written = json.loads((tmp_path / "gpu.json").read_text())["figures"]
    assert written["step"][0]["ms"] == first["ms"] and written["problems"] == []
    assert "forward and backward" in capsys.readouterr().out


def test_a_core_that_differs_is_found_and_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    usual = gpu_agreement.make_core

    def altered(kind, *rest):
        core = usual(kind, *rest)
        if kind == "ltc" and rest[2].get("kernel") != "reference":
            with torch.no_grad():
                next(core.parameters()).add_(0.01)
        return core

    monkeypatch.setattr(gpu_agreement, "make_core", altered)
    with pytest.raises(SystemExit) as left:
        main(quick())
    assert left.value.code == 1
    printed = capsys.readouterr().out
    assert "agreement, LTC 19: outputs are off by" in printed
    assert "LTC 19" not in printed[printed.index("forward and backward") : printed.index("seconds")]


def test_gradients_are_compared_as_well(monkeypatch: pytest.MonkeyPatch):
    usual = gpu_agreement.run

    def altered(call, module, arguments):
        found = usual(call, module, arguments)
        if arguments[0].dtype == torch.float32:
            found["∂ inputs"] = found["∂ inputs"] * 1.01
        return found

    monkeypatch.setattr(gpu_agreement, "run", altered)
    setup = Setup(CPU, 2, True)
    measure_agreement(setup)
    assert setup.missed == {"LTC 19", "LSTM 64"} and all("(inputs)" in line for line in setup.problems)


def test_nan_is_no_agreement():
    assert gpu_agreement.relative_error(torch.tensor([float("nan")]), torch.ones(1).double(), 0.0) == float("inf")


def test_frames_on_time_are_drawn_for_what_takes_no_others():
    case = Case("Liquid-S4, convolution", "liquid_s4", {"form": "convolution"}, {"form": "scan"}, on_time=True)
    assert compare_core(case, (2, 5), Setup(CPU, 2, True))["gradients"] < 1e-3
    with pytest.raises(ValueError, match="on time"):
        compare_core(replace(case, on_time=False), (2, 5), Setup(CPU, 2, True))


def test_a_part_that_fails_does_not_lose_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def broken(setup):
        raise RuntimeError("no such instruction\nand more")

    def absent(setup):
        raise ModuleNotFoundError("No module named 'walnut'")

    monkeypatch.setattr(gpu, "measure_agreement", absent)
    monkeypatch.setattr(gpu, "measure_card", broken)
    with pytest.raises(SystemExit) as left:
        main(quick(tmp_path / "gpu.json"))
    assert left.value.code == 1
    figures = json.loads((tmp_path / "gpu.json").read_text())["figures"]
    assert figures["problems"] == ["card: RuntimeError: no such instruction"]
    assert figures["not_run"] == ["agreement: No module named 'walnut'"] and len(figures["step"]) == 2
    assert "walnut" in capsys.readouterr().out


def test_a_contestant_that_fails_does_not_lose_the_others():
    def broken() -> None:
        raise RuntimeError("out of memory")

    setup = Setup(CPU, 2, True)
    turns = gpu_speed.take_turns({"one": lambda: None, "other": broken}, setup, "step")
    assert list(turns) == ["one"] and len(turns["one"]) == 2
    assert setup.problems == ["step, other: RuntimeError: out of memory"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_in_a_line():
    with pytest.raises(ValueError, match="none here: run it where there is one"):
        main(GPUBenchmark())


def test_the_cpu_is_not_measured():
    with pytest.raises(ValueError, match="give --quick"):
        GPUBenchmark(device="cpu")
