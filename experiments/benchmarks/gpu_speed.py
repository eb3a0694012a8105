"""Speed on a GPU: training steps with starts inside the sequences, long sequences, one frame.

A training step is forward and backward, to inputs and parameters, on `[B, T, 32]` float32; no optimizer. Contestants
take turns, each some calls between two waits for the card; a figure is the median over the turns, a ratio that of the
ratios within a turn. The host's time to start the work is in them, as it is in a training.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.cores import spread
from experiments.benchmarks.gpu_agreement import INPUTS, PEER, Setup, kernel_name
from experiments.benchmarks.long import CONTESTANTS as LONG
from experiments.benchmarks.long import build
from experiments.console import say, table
from policies.cores import make_core
from policies.kernels.gpu import HAS_TRITON

SHAPES = ((32, 64), (256, 64), (2048, 64))
"""B and T of the training steps."""
STARTS = 0.1
"""Share of the steps at which a sequence starts."""
WARM_UP = 3
"""Calls that do not count."""
TURN_S = 0.03
"""What a turn takes at least, unless one call takes longer, seconds."""
LENGTHS = (256, 1024, 4096, 16384)
"""T of the long sequences."""
LONG_BATCHES = (1, 8)
"""B of the long sequences."""
LONGEST_S = 2.0
"""A contestant that took longer for a training step is not measured at greater lengths, seconds."""
MOST_GIB = 24.0
"""The Transformer is left out where its attention would take more, GiB."""
CUDNN_LSTM = "LSTM, torch"
VOUCHED = {"LTC": "LTC 64, full", "LSTM": "LSTM 64"}
"""What vouches for the long contestants in `gpu_agreement` where the names differ."""

RESET_LSTM, PLAIN_LSTM = "LSTM core {}, packed at starts", "torch LSTM {}, no starts"
RATIOS = (
    ("LTC 19", PLAIN_LSTM.format(64)),
    ("LTC 19", PLAIN_LSTM.format(128)),
    ("LTC 19", RESET_LSTM.format(64)),
    ("LTC 19", RESET_LSTM.format(128)),
    ("CfC 19, wired", PEER),
    ("CfC 64, backbone 128", PEER),
    ("LTC 19", "LTC 19, reference"),
    ("CfC 19, wired", "CfC 19, reference"),
    (PEER, "torch GRU 128, no starts"),
)
"""Whose time is divided by whose."""


@dataclass(frozen=True)
class Contestant:
    """Who takes part.

    Attributes:
        case: what vouches for it in `gpu_agreement`; "" for torch's own layers and for the reference.
        kernel: what runs it.
        module: its parameters.
        outputs: from inputs `[B, T, 32]` and starts `[B, T]`.
    """

    case: str
    kernel: str
    module: nn.Module
    outputs: Callable[[Tensor, Tensor], Tensor]


class Read(nn.Module):
    """A recurrent layer of torch's kind and a linear read-out, as the cores have one."""

    def __init__(self, layer: nn.Module, units: int, takes_starts: bool):
        super().__init__()
        self.layer, self.readout, self.takes_starts = layer, nn.Linear(units, 1), takes_starts

    def forward(self, inputs: Tensor, starts: Tensor) -> Tensor:
        """Return outputs `[B, T, 1]`; the starts are ignored where the layer does not take them."""
        hidden = self.layer(inputs, starts=starts)[0] if self.takes_starts else self.layer(inputs)[0]
        return self.readout(hidden)


def measure_steps(setup: Setup) -> list[dict[str, Any]]:
    """Time training steps of all sizes; prints a table of each."""
    found = []
    made = {name: one for name, one in contestants(setup.device).items() if one.case not in setup.missed}
    for batch, steps in ((2, 8), (3, 8)) if setup.quick else SHAPES:
        rng = torch.Generator().manual_seed(batch)
        inputs = torch.randn(batch, steps, INPUTS, generator=rng).to(setup.device).requires_grad_()
        starts = (torch.rand(batch, steps, generator=rng) < STARTS).to(setup.device)
        calls = {name: training_step(one, inputs, starts) for name, one in made.items()}
        turns = take_turns(calls, setup, f"step, B {batch}")
        ratios = {}
        for ours, theirs in RATIOS:
            if ours in turns and theirs in turns:
                pairs = zip(turns[ours], turns[theirs], strict=True)
                ratios[f"{ours} / {theirs}"] = spread([mine / other for mine, other in pairs])
        times = {name: spread([1e3 * s for s in seconds]) for name, seconds in turns.items()}
        title = f"forward and backward, B {batch}, T {steps}, starts in {STARTS:.0%} of the steps, ms"
        rows = [[name, made[name].kernel, *cells(one, "{:.3f}")] for name, one in times.items()]
        table(title, ["contestant", "kernel", "median", "range"], rows, left=2)
        table("ratios of times", ["", "median", "range"], [[name, *cells(r, "{:.3f}")] for name, r in ratios.items()])
        kernels = {name: made[name].kernel for name in times}
        found.append({"batch": batch, "steps": steps, "ms": times, "kernels": kernels, "ratios": ratios})
    return found


def contestants(device: torch.device) -> dict[str, Contestant]:
    """Make the contestants of the training steps."""
    made: dict[str, Contestant] = {}

    def core(name: str, kind: str, **options: Any) -> None:
        module = make_core(kind, INPUTS, 1, options).to(device)
        run = lambda inputs, starts: module(inputs, starts=starts)[0]  # noqa: E731
        case = "LSTM 64" if kind == "lstm" else "" if options.get("kernel") == "reference" else name
        made[name] = Contestant(case, kernel_name(kind, options, device), module, run)

    def layer(name: str, case: str, made_by: nn.Module, units: int, kernel: str) -> None:
        module = Read(made_by, units, takes_starts=case == PEER).to(device)
        made[name] = Contestant(case, kernel, module, module)

    core("LTC 19", "ltc")
    core("LTC 64, full", "ltc", units=64, wiring="fully_connected")
    core("CfC 19, wired", "cfc")
    core("CfC 64, backbone 128", "cfc", wiring=None, units=64)
    core("CT-RNN 32", "ctrnn")
    core("LRC 19", "lrc")
    for units in (64, 128):
        core(RESET_LSTM.format(units), "lstm", hidden_size=units)
        layer(PLAIN_LSTM.format(units), "", nn.LSTM(INPUTS, units, batch_first=True), units, "torch")
    layer("torch GRU 128, no starts", "", nn.GRU(INPUTS, 128, batch_first=True), 128, "torch")
    if HAS_TRITON and device.type == "cuda":
        from experiments.benchmarks.gru_triton import ResettingGRU

        layer(PEER, PEER, ResettingGRU(INPUTS, 128), 128, "cuda")
    core("LTC 19, reference", "ltc", kernel="reference")
    core("CfC 19, reference", "cfc", kernel="reference")
    return made


def training_step(one: Contestant, inputs: Tensor, starts: Tensor) -> Callable[[], Any]:
    """Return a function that goes forward and back."""
    leaves = [inputs, *one.module.parameters()]
    return lambda: torch.autograd.grad(one.outputs(inputs, starts).square().mean(), leaves, allow_unused=True)


def synchronize(device: torch.device) -> None:
    """Wait for the card."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(calls: Mapping[str, Callable[[], Any]], setup: Setup, part: str) -> dict[str, list[float]]:
    """Let callables take turns; returns seconds a call for each turn. One that fails is left out and noted."""
    counts: dict[str, int] = {}
    for name, call in calls.items():
        try:
            for _ in range(WARM_UP):
                call()
            synchronize(setup.device)
            started_s = time.perf_counter()
            call()
            synchronize(setup.device)
        except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver throws must not end the others
            note(setup, f"{part}, {name}", error)
            continue
        counts[name] = max(1, min(1000, int(TURN_S / max(time.perf_counter() - started_s, 1e-6))))
    taken: dict[str, list[float]] = {name: [] for name in counts}
    for _ in range(setup.turns):
        for name, count in counts.items():
            synchronize(setup.device)
            started_s = time.perf_counter()
            for _ in range(count):
                calls[name]()
            synchronize(setup.device)
            taken[name].append((time.perf_counter() - started_s) / count)
    return taken


def note(setup: Setup, where: str, error: Exception) -> None:
    """Keep a failure for the end, in one line, and say it at once."""
    first = (str(error).strip().splitlines() or [""])[0]
    setup.problems.append(f"{where}: {type(error).__name__}: {first}")
    say(setup.problems[-1])


def cells(values: Mapping[str, float], form: str) -> tuple[str, str]:
    """Write a median and its range."""
    return form.format(values["median"]), f"{form.format(values['low'])} to {form.format(values['high'])}"


def measure_long(setup: Setup) -> list[dict[str, Any]]:
    """Time training steps of long sequences, and the most memory that they take on the card."""
    lengths = (16, 64) if setup.quick else LENGTHS
    found: list[dict[str, Any]] = []
    for batch in LONG_BATCHES:
        for name in (*LONG, CUDNN_LSTM):
            last_s = 0.0
            for steps in lengths:
                attention_gib = 2 * 4 * 4 * 3 * batch * steps**2 / 2**30  # layers, heads, bytes; scores, gradients
                if last_s > LONGEST_S or (name.startswith("Transformer") and attention_gib > MOST_GIB):
                    break
                if VOUCHED.get(name, name) in setup.missed:
                    break
                try:
                    last_s, mib = long_step(name, batch, steps, last_s, setup)
                except torch.OutOfMemoryError:
                    say(f"long, {name}, B {batch}, T {steps}: the card's memory is too small; left out.")
                    break
                except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver throws must not end the others
                    note(setup, f"long, {name}, B {batch}, T {steps}", error)
                    break
                found.append({"contestant": name, "batch": batch, "steps": steps, "ms": 1e3 * last_s, "mib": mib})
        places = {(one["contestant"], one["steps"]): one for one in found if one["batch"] == batch}
        rows = []
        for name in (*LONG, CUDNN_LSTM):
            some = [places.get((name, steps)) for steps in lengths]
            rows.append([name, *("–" if one is None else f"{one['ms']:,.4g}; {one['mib']:,.0f}" for one in some)])
        title = f"forward and backward, B {batch}: ms; MiB on the card"
        table(title, ["contestant", *(f"T {steps:,}" for steps in lengths)], rows)
    return found


def long_step(name: str, batch: int, steps: int, last_s: float, setup: Setup) -> tuple[float, float]:
    """Return the median seconds of a training step and the MiB that it takes at most."""
    device = setup.device
    if name == CUDNN_LSTM:
        model: nn.Module = nn.LSTM(INPUTS, 32, batch_first=True)
    else:
        model = build(name, steps)
    model.to(device)
    inputs = torch.randn(batch, steps, INPUTS, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    leaves = [inputs, *model.parameters()]

    def step(length: int = steps) -> float:
        synchronize(device)
        started_s = time.perf_counter()
        loss = model(inputs[:, :length])[0].square().mean()
        torch.autograd.grad(loss, leaves, allow_unused=True)
        synchronize(device)
        return time.perf_counter() - started_s

    step(steps if last_s < LONGEST_S / 10 else 64)  # compiles what there is to compile
    gc.collect()
    before = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    times_s: list[float] = []
    while len(times_s) < min(setup.turns, 5) and sum(times_s) < LONGEST_S / 2:
        times_s.append(step())
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return statistics.median(times_s), (peak - before) / 2**20


def measure_frame(setup: Setup) -> dict[str, Any]:
    """Time one step of an LTC at batch 1 without gradients, on the card and by the CPU's kernel, microseconds."""
    calls: dict[str, Callable[[], Any]] = {}
    kernels = {}
    for device in dict.fromkeys((setup.device, torch.device("cpu"))):
        core = make_core("ltc", INPUTS, 1).to(device).eval()
        frame = torch.randn(1, 1, INPUTS, generator=torch.Generator().manual_seed(0)).to(device)
        state = torch.zeros(1, core.state_size, device=device)

        def call(core: nn.Module = core, frame: Tensor = frame, state: Tensor = state) -> float:
            return float(core(frame, state)[0])  # the driver waits for the number

        calls[str(device)], kernels[str(device)] = call, kernel_name("ltc", {}, device)
    with torch.inference_mode():
        turns = take_turns(calls, setup, "frame")
    times = {name: spread([1e6 * s for s in seconds]) for name, seconds in turns.items()}
    rows = [[name, kernels[name], *cells(one, "{:.1f}")] for name, one in times.items()]
    table("LTC 19, one frame, µs until the number is there", ["device", "kernel", "median", "range"], rows, left=2)
    return {"us": times, "kernels": kernels}


def plot_long(found: list[dict[str, Any]], path: Path) -> None:
    """Draw time and memory against length, both logarithmic; dashed are the larger batches."""
    from matplotlib.figure import Figure

    from experiments.reports.plots import save

    picture = Figure(figsize=(10, 4), layout="constrained")
    names = list(dict.fromkeys(one["contestant"] for one in found))
    for axis, key, title in zip(picture.subplots(1, 2), ("ms", "mib"), ("time, ms", "memory, MiB"), strict=True):
        for number, name in enumerate(names):
            for batch, line in zip(LONG_BATCHES, ("-", "--"), strict=True):
                mine = [one for one in found if one["contestant"] == name and one["batch"] == batch]
                label = name if line == "-" else None
                values = [max(one[key], 1e-3) for one in mine]
                axis.loglog([one["steps"] for one in mine], values, line, color=f"C{number}", marker=".", label=label)
        axis.set(xlabel="steps of the sequence", title=f"a training step: {title}")
        axis.grid(alpha=0.3)
    picture.axes[0].legend(fontsize=7)
    save(picture, path)
