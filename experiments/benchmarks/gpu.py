"""The cores on an NVIDIA GPU: that they agree with the CPU, and how fast they and the drivers learn there.

    python -m experiments.benchmarks.gpu --json gpu.json --plot gpu.png
    python -m experiments.benchmarks.gpu --parts agreement step
    python -m experiments.benchmarks.gpu --quick --device cpu    # shows that it runs, where there is no GPU

Parts, in this order, each with its table; the JSON file is written after each one: `card` (what it is), `agreement`
with float64 on the CPU, `step` (training steps with starts inside the sequences, beside cuDNN and a GRU in Triton),
`long` (sequences to 16,384 steps, with memory), `frame` (one frame), `imitation`, `ppo`. All in full float32: no TF32.
A part that fails is a line and does not lose the others. No speed is shown of a core that did not agree; where
`agreement` is not among the parts, that is said. The exit code is 1 if anything failed or did not agree.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from agents.runs.device import check_device
from experiments.benchmarks.gpu_agreement import Setup, measure_agreement
from experiments.benchmarks.gpu_learning import measure_imitation, measure_ppo
from experiments.benchmarks.gpu_speed import measure_frame, measure_long, measure_steps, note, plot_long
from experiments.cli import run_script
from experiments.console import check_json, say, table, write_results
from experiments.machine import machine

Part = Literal["card", "agreement", "step", "long", "frame", "imitation", "ppo"]
SPEEDS = ("step", "long", "frame")
"""Parts that show the speed of cores."""


@dataclass(frozen=True)
class GPUBenchmark:
    """What to measure."""

    parts: tuple[Part, ...] = ("card", "agreement", "step", "long", "frame", "imitation", "ppo")
    """Parts to run, in their own order."""
    turns: int = 7
    """Turns that each contestant takes."""
    device: str = "cuda"
    """cuda, cuda:1 and so on; cpu together with --quick."""
    quick: bool = False
    """Few turns, tiny sizes: shows that it runs."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the figures as JSON."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to draw time and memory of long sequences, as PNG or SVG."""

    def __post_init__(self) -> None:
        """Check ranges, and that the CPU is not taken for a GPU."""
        if not self.parts or self.turns < 1:
            raise ValueError("parts must name one or more, and turns be at least 1.")
        if self.device == "cpu" and not self.quick:
            raise ValueError("device cpu shows that the parts run, and measures no GPU: give --quick with it.")
        if self.plot is not None and "long" not in self.parts:
            raise ValueError("plot draws the part long: name it among the parts, or leave the plot out.")


def main(config: GPUBenchmark) -> dict[str, Any]:
    """Run the parts and print; returns what goes into the JSON file.

    Raises:
        ValueError: if there is no such GPU.
        SystemExit: with code 1 if a part failed or a core did not agree.
    """
    if config.device != "cpu" and not torch.cuda.is_available():
        raise ValueError(
            f"this measures an NVIDIA GPU, and torch {torch.__version__} finds none here: run it where there is one. "
            "--quick --device cpu shows that it runs."
        )
    device = check_device(config.device)
    check_json(config.json)
    if config.plot is not None:
        from experiments.reports.plots import check_plot

        check_plot(config.plot)
    setup = Setup(device, 2 if config.quick else config.turns, config.quick)
    measures: dict[str, Callable[[Setup], Any]] = {
        "card": measure_card,
        "agreement": measure_agreement,
        "step": measure_steps,
        "long": measure_long,
        "frame": measure_frame,
        "imitation": measure_imitation,
        "ppo": measure_ppo,
    }
    chosen = [name for name in measures if name in config.parts]
    if "agreement" not in chosen and any(name in SPEEDS for name in chosen):
        say("no agreement was checked in this run: speeds are of cores that may be wrong. Add the part agreement.")
    figures: dict[str, Any] = {"problems": setup.problems, "not_run": [], "seconds": {}}
    with full_float32():
        for name in chosen:
            started_s = time.perf_counter()
            try:
                figures[name] = measures[name](setup)
            except ImportError as error:
                figures["not_run"].append(f"{name}: {error}")
                say(f"{name} was not run: {error}")
            except Exception as error:  # noqa: BLE001 - the other parts are still worth their time
                note(setup, name, error)
            figures["seconds"][name] = round(time.perf_counter() - started_s, 1)
            write_results(config.json, "benchmark gpu", config, figures)
    if config.plot is not None and figures.get("long"):
        plot_long(figures["long"], config.plot)
        say(f"plot: {config.plot}")
    table("", ["part", "seconds"], [[name, f"{taken:.1f}"] for name, taken in figures["seconds"].items()])
    for line in (*figures["not_run"], *setup.problems):
        print(line)
    if setup.problems or figures["not_run"]:
        sys.exit(1)
    return figures


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute products of float32 matrices without rounding to TF32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def measure_card(setup: Setup) -> dict[str, Any]:
    """Say what the card is and what runs on it."""
    import importlib.metadata

    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "none"
    on_card = setup.device.type == "cuda"
    found = {
        "card": torch.cuda.get_device_name(setup.device) if on_card else "none: on the CPU, to see that it runs",
        "capability": ".".join(map(str, torch.cuda.get_device_capability(setup.device))) if on_card else "–",
        "torch": torch.__version__,
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(torch.backends.cudnn.version()),
        "triton": triton,
        "TF32 of matmul, of cuDNN": f"{torch.backends.cuda.matmul.allow_tf32}, {torch.backends.cudnn.allow_tf32}",
        "host": f"{machine()['processor']}, {machine()['cores']} cores",
    }
    table("", ["", ""], [[name, value] for name, value in found.items()], left=2)
    return found


if __name__ == "__main__":
    run_script(GPUBenchmark, main, description=__doc__)
