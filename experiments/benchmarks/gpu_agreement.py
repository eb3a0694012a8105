"""Before any speed of a GPU: every core there gives what the same core gives in float64 on the CPU.

Both have the same weights and see the same sequences, with uneven times between frames and with starts inside. The
core on the card runs what `kernel="auto"` chooses, in single precision over 63 steps; its twin runs the readable
reference in double precision. Outputs and last state may differ by `OUTPUTS` and gradients (of inputs, first state and
every parameter) by `GRADIENTS` of the largest value of their tensor; a gradient below a thousandth of the largest of
all is held to that thousandth. A kernel of ours must also repeat bit for bit.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from experiments.console import table
from policies.cores import CORES, make_core
from policies.kernels.cell.sequence import CELL
from policies.kernels.choose import Kernels, choose_kernel
from policies.kernels.gpu import HAS_TRITON, interpreted
from policies.kernels.ltc.dispatch import LTC_KERNELS
from policies.kernels.scan.sequence import SCAN

INPUTS = 32
"""F, features a step."""
OUTPUTS = 2e-4
"""Largest error of outputs and last state, relative to the largest value of that tensor."""
GRADIENTS = 2e-3
"""The same of a gradient."""
FLOOR = 1e-3
"""Of the largest value of all gradients (or of outputs and state): the least scale of a tensor."""
PEER = "Triton GRU 128"
"""The peer that is held to its loop here as well."""

Named = dict[str, Tensor]


@dataclass
class Setup:
    """What all parts of the benchmark share.

    Attributes:
        device: the card; the CPU where it is only to be seen that the parts run.
        turns: that each contestant takes.
        quick: whether sizes are tiny.
        missed: names of `CASES`, or `PEER`, that did not agree: their speed is not shown.
        problems: what failed or was missed, a line each.
    """

    device: torch.device
    turns: int
    quick: bool
    missed: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """A core to compare.

    Attributes:
        name: for the table.
        core: key of `CORES`.
        options: of its config.
        truth: options that differ for its twin.
        on_time: whether it takes frames that are on time only.
    """

    name: str
    core: str
    options: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, Any] = field(default_factory=dict)
    on_time: bool = False


CASES = (
    Case("LTC 19", "ltc"),
    Case("LTC 64, full", "ltc", {"units": 64, "wiring": "fully_connected"}),
    Case("LTC 302, random", "ltc", {"units": 302, "wiring": "random", "sparsity": 0.95}),
    Case("CfC 19, wired", "cfc"),
    Case("CfC 64, backbone 128", "cfc", {"wiring": None, "units": 64}),
    Case("CT-RNN 32", "ctrnn"),
    Case("LRC 19", "lrc"),
    Case("neural ODE 32", "neural_ode"),
    Case("Liquid-S4, scan", "liquid_s4", {"form": "scan"}),
    Case("Liquid-S4, convolution", "liquid_s4", {"form": "convolution"}, {"form": "scan"}, on_time=True),
    Case("LrcSSM, step by step", "lrc_ssm", {"method": "sequential"}),
    Case("LrcSSM, Newton", "lrc_ssm", {"method": "parallel"}, {"method": "sequential"}),
    Case("LSTM 64", "lstm"),
    Case("GRU 64", "gru"),
)


def kernels_of(core: str, options: Mapping[str, Any]) -> Kernels | None:
    """Return the kernels that a core's sequence may run in; None where it is torch's own."""
    if core not in CORES or "kernel" not in {one.name for one in fields(CORES[core].config)}:
        return None
    if core == "ltc":
        return LTC_KERNELS
    if core == "liquid_s4":
        return SCAN if options.get("form") != "convolution" else None
    return SCAN if options.get("method") == "parallel" else CELL


def kernel_name(core: str, options: Mapping[str, Any], device: torch.device) -> str:
    """Return what runs a core in float32 there: "reference", "cpu" or "cuda" of ours, else "torch"."""
    kernels = kernels_of(core, options)
    if kernels is None:
        return "torch"
    wanted = "auto" if options.get("method") == "parallel" else options.get("kernel", "auto")
    return choose_kernel(kernels, wanted, device.type, torch.float32)


def measure_agreement(setup: Setup) -> dict[str, Any]:
    """Compare all cores and the peer; prints the table, and says in `setup` what was missed."""
    sizes = (3, 6) if setup.quick else (33, 63)
    found: dict[str, Any] = {}
    for case in CASES:
        found[case.name] = attempt(setup, case.name, partial(compare_core, case, sizes, setup))
    if HAS_TRITON and (setup.device.type == "cuda" or interpreted()):
        found[PEER] = attempt(setup, PEER, lambda: compare_peer(sizes, setup))
    rows = []
    for name, one in found.items():
        if "error" in one:
            rows.append([name, "–", "–", "–", "failed"])
            continue
        errors = [f"{one[key]:.1e}" for key in ("outputs", "gradients")]
        rows.append([name, one["kernel"], *errors, "same" if one["same_bits"] else "differ"])
    title = f"agreement with float64 on the CPU, B {sizes[0]}, T {sizes[1]}: at most {OUTPUTS:.0e} and {GRADIENTS:.0e}"
    table(title, ["core", "kernel", "outputs", "gradients", "second run"], rows, left=2)
    return found


def attempt(setup: Setup, name: str, compare: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Compare one; what it misses, or why it could not run, is kept in `setup`."""
    try:
        one = compare()
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver throws must not end the others
        line = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        setup.problems.append(f"agreement, {name}: {line}")
        setup.missed.add(name)
        return {"error": line}
    finally:
        gc.collect()
    for key, bar in (("outputs", OUTPUTS), ("gradients", GRADIENTS)):
        if not one[key] <= bar:
            where = f" ({one['worst']})" if key == "gradients" else ""
            setup.problems.append(f"agreement, {name}: {key} are off by {one[key]:.1e}{where}, allowed are {bar:.0e}")
            setup.missed.add(name)
    if one["kernel"] in ("cpu", "cuda") and not one["same_bits"]:
        setup.problems.append(f"agreement, {name}: two runs of the kernel differ")
    if not one.get("named_is_auto", True):
        setup.problems.append(f"agreement, {name}: kernel='cuda' gives other numbers than 'auto', which chose it")
    return one


def compare_core(case: Case, sizes: tuple[int, int], setup: Setup) -> dict[str, Any]:
    """Compare a core on the device with its twin."""
    truth_options = {**case.options, **case.truth}
    kernels = kernels_of(case.core, case.options)
    if "kernel" in {one.name for one in fields(CORES[case.core].config)}:
        truth_options["kernel"] = "reference"
    core = make_core(case.core, INPUTS, 2, case.options).to(setup.device)
    truth = make_core(case.core, INPUTS, 2, truth_options).double()
    draws = draw(sizes, core.state_size, case.on_time)
    chosen = kernel_name(case.core, case.options, setup.device)
    found = compare(lambda *x: core(*x), core, lambda *x: truth(*x), truth, draws, setup.device)
    if chosen == "cuda" and kernels is not None and case.options.get("method") != "parallel":
        named = make_core(case.core, INPUTS, 2, {**case.options, "kernel": "cuda"}).to(setup.device)
        pair = [
            run(lambda *x, one=one: one(*x), one, moved(draws, setup.device, torch.float32)) for one in (core, named)
        ]
        found["named_is_auto"] = all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0])
    return {"kernel": chosen, **found}


def compare_peer(sizes: tuple[int, int], setup: Setup) -> dict[str, Any]:
    """Compare the Triton GRU with its loop."""
    from experiments.benchmarks.gru_triton import ResettingGRU

    units = 16 if setup.quick else 128
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = ResettingGRU(INPUTS, units)
    truth = ResettingGRU(INPUTS, units).double()
    truth.load_state_dict(layer.state_dict())
    layer.to(setup.device)
    draws = draw(sizes, units, on_time=True)
    ours, theirs = (
        (lambda x, s, _, starts: layer(x, s, starts)),
        (lambda x, s, _, starts: truth.reference(x, s, starts)),
    )
    return {"kernel": "cuda", **compare(ours, layer, theirs, truth, draws, setup.device)}


def draw(sizes: tuple[int, int], state_size: int, on_time: bool) -> dict[str, Tensor | None]:
    """Draw float64 inputs and state, times between frames (None: on time), and starts in a tenth of the steps."""
    rng = torch.Generator().manual_seed(7)
    return {
        "inputs": torch.randn(*sizes, INPUTS, generator=rng, dtype=torch.float64),
        "state": 0.3 * torch.randn(sizes[0], state_size, generator=rng, dtype=torch.float64),
        "elapsed": None if on_time else 0.3 + 1.7 * torch.rand(*sizes, generator=rng, dtype=torch.float64),
        "starts": torch.rand(*sizes, generator=rng) < 0.1,
    }


def moved(draws: Mapping[str, Tensor | None], device: torch.device, dtype: torch.dtype) -> list[Tensor | None]:
    """Bring the draws to a device and a dtype."""
    found: list[Tensor | None] = []
    for name, one in draws.items():
        found.append(None if one is None else one.to(device) if name == "starts" else one.to(device, dtype))
    return found


def run(call: Callable[..., tuple[Tensor, Tensor]], module: nn.Module, arguments: list[Tensor | None]) -> Named:
    """Return outputs, last state and the gradients of a loss in which every number weighs differently; by name."""
    inputs, state = (one.detach().clone().requires_grad_() for one in arguments[:2] if one is not None)
    outputs, last = call(inputs, state, *arguments[2:])
    loss = sum((one * weights_like(one)).sum() for one in (outputs, last))
    leaves = {"inputs": inputs, "first state": state, **dict(module.named_parameters())}
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found = {"outputs": outputs.detach(), "last state": last.detach()}
    for (name, leaf), one in zip(leaves.items(), gradients, strict=True):
        found[f"∂ {name}"] = torch.zeros_like(leaf) if one is None else one
    return found


def weights_like(tensor: Tensor) -> Tensor:
    """Return weights in [−1, 1] that differ from number to number, computed in float64."""
    return torch.linspace(-3, 3, tensor.numel(), dtype=torch.float64).sin().view(tensor.shape).to(tensor)


def compare(
    ours: Callable[..., tuple[Tensor, Tensor]],
    module: nn.Module,
    theirs: Callable[..., tuple[Tensor, Tensor]],
    truth: nn.Module,
    draws: Mapping[str, Tensor | None],
    device: torch.device,
) -> dict[str, Any]:
    """Return the largest errors of outputs and of gradients, the worst one, and whether a second run is the same."""
    arguments = moved(draws, device, torch.float32)
    found, again = run(ours, module, arguments), run(ours, module, arguments)
    wanted = run(theirs, truth, moved(draws, torch.device("cpu"), torch.float64))
    errors: dict[str, dict[str, float]] = {}
    for kind in ("outputs", "gradients"):
        names = [name for name in wanted if name.startswith("∂") == (kind == "gradients")]
        least = FLOOR * max(float(wanted[name].abs().max()) for name in names if wanted[name].numel())
        errors[kind] = {name: relative_error(found[name], wanted[name], least) for name in names}
    worst = max(errors["gradients"], key=errors["gradients"].__getitem__)
    return {
        **{kind: max(some.values()) for kind, some in errors.items()},
        "worst": worst.removeprefix("∂ "),
        "same_bits": all(torch.equal(found[name], again[name]) for name in found),
    }


def relative_error(found: Tensor, wanted: Tensor, least: float) -> float:
    """Return the largest difference relative to the largest value, which counts as `least` at least; inf for NaN."""
    if not wanted.numel():
        return 0.0
    apart = found.detach().cpu().double() - wanted
    error = float(apart.abs().max()) / max(float(wanted.abs().max()), least, 1e-12)
    return error if error == error else float("inf")
