"""The fused LTC kernels against the reference: outputs, last state and every gradient, at awkward sizes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.kernels import choose, threads
from policies.kernels.ltc import dispatch, reference
from policies.kernels.ltc.cpu import op as cpu
from policies.kernels.ltc.cpu import op as cpu_run
from policies.kernels.ltc.reference import Circuit
from policies.wiring.wiring import Wiring
from tests.policies.kernels.sizes import SIZES

# Largest error, relative to the largest value of the tensor or 0.05, against the reference in float64. The float32
# reference itself is off by up to 1e-6 on these problems.
TOLERANCE = {"motors": 2e-6, "voltages": 2e-6, "inputs": 3e-6, "state": 3e-6, "elapsed": 5e-6}
TOLERANCE_PARAMETERS = 5e-6

SEQUENCES = ("inputs", "input_w", "input_b", "state", "elapsed")


@pytest.fixture(autouse=True)
def nan_in_fresh_memory(monkeypatch):
    """Fill what torch and the kernels allocate with NaN: what is not written shows."""
    scratch = threads.scratch_addresses

    def filled(floats: int, parts: int) -> list[int]:
        addresses = scratch(floats, parts)
        threads._local.scratch.fill(np.nan)
        return addresses

    monkeypatch.setattr("policies.kernels.ltc.cpu.op.scratch_addresses", filled)
    monkeypatch.setattr("policies.kernels.ltc.cpu.inference.scratch_addresses", filled)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def problem(wiring: Wiring, batch: int, steps: int, seed: int = 0) -> tuple[dict[str, Tensor], Circuit, Tensor]:
    """Draw sequences, a circuit and starts (one step in ten)."""
    rng = torch.Generator().manual_seed(seed)
    neurons, sensory, recurrent = wiring.units, wiring.sensory_array, wiring.recurrent_array

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng) * (high - low) + low

    def synapses(array: np.ndarray) -> tuple[Tensor, ...]:
        count = len(array)
        values = uniform(0.01, 1, count), uniform(-0.5, 0.8, count), uniform(-8, 8, count), uniform(-1.2, 1.2, count)
        return values

    neuron = uniform(0.01, 1, neurons), uniform(-0.2, 0.2, neurons), uniform(0.4, 0.6, neurons)
    lists = (*torch.tensor(sensory[:, :2]).T.contiguous(), *torch.tensor(recurrent[:, :2]).T.contiguous())
    circuit = Circuit(*neuron, *synapses(sensory), *synapses(recurrent), *lists)
    sequences = {
        "inputs": torch.randn(batch, steps, wiring.inputs, generator=rng),
        "input_w": uniform(0.5, 1.5, wiring.inputs),
        "input_b": uniform(-0.5, 0.5, wiring.inputs),
        "state": uniform(-0.5, 0.5, batch, neurons),
        "elapsed": uniform(0.3, 2, batch, steps),
    }
    return sequences, circuit, torch.rand(batch, steps, generator=rng) < 0.1


def results(kernel, sequences, circuit, starts, substeps, motors, dtype=torch.float32) -> dict[str, Tensor]:
    """Return voltages and the gradients of a random weighting of them."""
    leaves = {name: x.detach().to(dtype).requires_grad_() for name, x in sequences.items()}
    values = [x.detach().to(dtype).requires_grad_() for x in circuit[:11]]
    given = Circuit(*values, *circuit[11:])
    where = leaves["state"], leaves["elapsed"], starts, given, substeps
    if kernel == "reference":
        mapped = leaves["inputs"] * leaves["input_w"] + leaves["input_b"]
        voltages = reference.ltc_sequence(mapped, *where)
        motor_voltages = voltages[..., :motors]
    else:
        motor_voltages, voltages = kernel(
            leaves["inputs"], *where, input_w=leaves["input_w"], input_b=leaves["input_b"], motors=motors
        )
    rng = torch.Generator().manual_seed(1)
    weights = (torch.randn(v.shape, generator=rng, dtype=torch.float64).to(dtype) for v in (motor_voltages, voltages))
    sum((v * w).sum() for v, w in zip((motor_voltages, voltages), weights, strict=True)).backward()
    found = {"motors": motor_voltages.detach(), "voltages": voltages.detach()}
    gradients = {**leaves, **dict(zip(Circuit._fields, values, strict=False))}
    return {**found, **{f"grad {name}": leaf.grad for name, leaf in gradients.items()}}


def assert_close(found: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    for name, value in truth.items():
        if not value.numel():
            continue
        scale = value.abs().max().clamp_min(0.05)
        error = float((found[name].double() - value).abs().max() / scale)
        tolerance = TOLERANCE.get(name.removeprefix("grad "), TOLERANCE_PARAMETERS)
        assert error < tolerance, f"{name}: {error:.1e}"


def wiring_of(neurons: int) -> Wiring:
    if neurons == 3:
        return Wiring.fully_connected(3, 2, 2)
    if neurons == 19:
        return Wiring.auto_ncp(19, 2, 21)
    return Wiring.random(neurons, 1, 5, sparsity=0.995)


@pytest.mark.parametrize(("neurons", "batch", "steps"), SIZES)
def test_cpu_kernel_is_the_reference(neurons: int, batch: int, steps: int) -> None:
    wiring, substeps = wiring_of(neurons), 2 if neurons == 302 else 6
    given = problem(wiring, batch, steps)
    truth = results("reference", *given, substeps, wiring.outputs, torch.float64)
    assert_close(results(cpu.ltc_sequence, *given, substeps, wiring.outputs), truth)


def test_reference_gradients_in_double_precision() -> None:
    sequences, circuit, starts = problem(Wiring.fully_connected(3, 1, 2), 2, 3)
    leaves = [sequences[name].double().requires_grad_() for name in ("inputs", "state", "elapsed")]
    values = [x.double().requires_grad_() for x in circuit[:11]]

    def run(inputs, state, elapsed, *parameters):
        return reference.ltc_sequence(inputs, state, elapsed, starts, Circuit(*parameters, *circuit[11:]), 2)

    assert torch.autograd.gradcheck(run, (*leaves, *values))


def test_synapses_in_any_order() -> None:
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 3, 4)
    want = results(cpu.ltc_sequence, sequences, circuit, starts, 6, 2)
    sensory, recurrent = (torch.randperm(x.shape[0]) for x in (circuit.sensory_w, circuit.w))
    shuffled = Circuit(
        *circuit[:3],
        *(x[sensory] for x in circuit[3:7]),
        *(x[recurrent] for x in circuit[7:11]),
        *(x[sensory] for x in circuit[11:13]),
        *(x[recurrent] for x in circuit[13:15]),
    )
    got = results(cpu.ltc_sequence, sequences, shuffled, starts, 6, 2)
    for name, value in want.items():
        order = sensory if "sensory" in name else recurrent if name.split()[-1] in Circuit._fields[7:11] else None
        torch.testing.assert_close(got[name], value if order is None else value[order], atol=1e-6, rtol=1e-5)


def test_no_synapses_at_all() -> None:
    wiring = Wiring(2, (("motor", 1), ("inter", 2)), (), ())
    given = problem(wiring, 3, 4)
    assert_close(results(cpu.ltc_sequence, *given, 6, 1), results("reference", *given, 6, 1, torch.float64))


def test_strided_tensors() -> None:
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 3, 4)
    want, _ = cpu.ltc_sequence(sequences["inputs"], sequences["state"], torch.ones(3, 4), starts, circuit, motors=2)
    inputs = sequences["inputs"].transpose(0, 1).contiguous().transpose(0, 1)
    state = torch.stack((sequences["state"], sequences["state"]), dim=2)[..., 0]
    got, _ = cpu.ltc_sequence(inputs, state, torch.ones(()).expand(3, 4), starts, circuit, motors=2)
    assert torch.equal(got, want)


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e6])
def test_steep_synapses_and_huge_inputs(factor: float) -> None:
    """Exponents far beyond float32: clamped among the recurrent synapses only where they have to be."""
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 5, 6)
    sequences["inputs"] *= factor
    circuit = circuit._replace(sigma=circuit.sigma * factor)
    truth = results("reference", sequences, circuit, starts, 6, 2, torch.float64)
    found = results(cpu.ltc_sequence, sequences, circuit, starts, 6, 2)
    assert all(bool(value.isfinite().all()) for value in found.values())
    # A voltage's rounding, times the steepness, is what an exponent is off by.
    torch.testing.assert_close(found["voltages"].double(), truth["voltages"], atol=2e-6 * min(factor, 1e4), rtol=0)


def test_a_state_out_of_bounds() -> None:
    """A start state far outside of the reversal potentials takes the clamped way."""
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 20, 3)
    sequences["state"][3] *= 1e3
    truth = results("reference", sequences, circuit, starts, 6, 2, torch.float64)
    assert_close(results(cpu.ltc_sequence, sequences, circuit, starts, 6, 2), truth)


def test_nan_is_seen_and_stays_in_its_sample() -> None:
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 20, 6)
    starts[:] = False
    sequences["inputs"][4, 2] = torch.nan
    motors, voltages = cpu.ltc_sequence(
        sequences["inputs"], sequences["state"], torch.ones(20, 6), starts, circuit, motors=2
    )
    assert voltages[4, 2:].isnan().any() and motors[4, 5].isnan().all()
    assert voltages[4, :2].isfinite().all()
    assert voltages[torch.arange(20) != 4].isfinite().all()


def test_threads_agree_and_repeat() -> None:
    given = problem(Wiring.auto_ncp(19, 2, 21), 100, 40)
    before = torch.get_num_threads()
    found = {}
    try:
        for count in (1, 3, 3):
            torch.set_num_threads(count)
            found.setdefault(count, []).append(results(cpu.ltc_sequence, *given, 6, 2))
    finally:
        torch.set_num_threads(before)
    for name, value in found[3][0].items():
        assert torch.equal(found[3][1][name], value), name
        scale = float(value.abs().max())
        torch.testing.assert_close(found[1][0][name], value, atol=2e-6 * scale, rtol=0)


def test_several_threads_call_at_once() -> None:
    given = problem(Wiring.auto_ncp(19, 2, 21), 64, 30)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        want = results(cpu.ltc_sequence, *given, 6, 2)
        with ThreadPoolExecutor(4) as pool:
            for got in pool.map(lambda _: results(cpu.ltc_sequence, *given, 6, 2), range(12)):
                assert all(torch.equal(got[name], want[name]) for name in want)
    finally:
        torch.set_num_threads(before)


def _in_child(given, want: np.ndarray, queue) -> None:
    # Nothing here may be so large that torch would use OpenMP, which does not survive a fork.
    torch.set_num_threads(2)
    sequences, circuit, starts = given
    _, voltages = cpu.ltc_sequence(sequences["inputs"], sequences["state"], sequences["elapsed"], starts, circuit)
    queue.put(bool((voltages.numpy() == want).all()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_works_in_a_forked_process(monkeypatch) -> None:
    """Data loaders fork; the parent's worker threads do not exist in the child."""
    monkeypatch.setattr(cpu_run, "LEAST_WORK", 1)
    given = problem(Wiring.auto_ncp(19, 2, 21), 40, 5)
    sequences, circuit, starts = given
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    try:
        _, want = cpu.ltc_sequence(sequences["inputs"], sequences["state"], sequences["elapsed"], starts, circuit)
        child = context.Process(target=_in_child, args=(given, want.numpy(), queue), daemon=True)
        child.start()
        assert queue.get(timeout=60)
        child.join(timeout=60)
        assert child.exitcode == 0
    finally:
        child.kill()
        torch.set_num_threads(before)


@pytest.mark.parametrize("openmp", [True, False])
def test_a_team_does_every_part_once_and_tells_of_errors(openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", None)
    elif threads._openmp is None:
        pytest.skip("torch came without OpenMP")
    # More parts than OpenMP may grant threads: all are done all the same.
    done: list[int] = []
    threads.side_by_side(done.append, 50)
    assert sorted(done) == list(range(50))
    if os.cpu_count() != 1:
        both = threading.Barrier(2)
        threads.side_by_side(lambda _: both.wait(timeout=30) and None, 2)

    def fail(part: int) -> None:
        done.append(part)
        if part == 1:
            raise KeyError("part 1")

    with pytest.raises(KeyError, match="part 1"):
        threads.side_by_side(fail, 3)
    assert sorted(done[50:]) == [0, 1, 2]


def test_scratch_of_parts_does_not_overlap() -> None:
    first, second, third = threads.scratch_addresses(100, 3)
    assert first % 64 == second % 64 == third % 64 == 0
    assert second - first >= 400 <= third - second
    assert threads.scratch_addresses(100, 3) == [first, second, third]


def test_op_is_well_formed() -> None:
    sequences, circuit, starts = problem(Wiring.auto_ncp(8, 1, 3), 3, 4)
    leaves = {name: x.requires_grad_() for name, x in sequences.items()}
    values = [x.requires_grad_() for x in circuit[:11]]
    arguments = (
        *(leaves["inputs"], leaves["input_w"], None, leaves["state"], leaves["elapsed"], starts),
        *(*values, *circuit[11:], 3, 1),
    )
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.wormwheel.ltc_sequence_cpu.default, arguments, test_utils=checks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"state": torch.zeros(3, 11)},
            r"state must be torch.float32 with shape \(3, 12\), got torch.float32 \(3, 11\)",
        ),
        ({"elapsed": torch.ones(4, 3)}, r"elapsed must be torch.float32 with shape \(3, 4\)"),
        ({"starts": torch.zeros(3, 4)}, "starts must be torch.bool"),
        ({"vleak": torch.zeros(12).double()}, "a parameter of the circuit must be torch.float32 with shape"),
        ({"mu": torch.zeros(2)}, r"got torch.float32 \(2,\)"),
        ({"source": torch.tensor([12])}, "needs a source and a target"),
        ({"sensory_source": torch.tensor([5])}, "needs a source and a target"),
    ],
)
def test_wrong_tensors_are_refused(change: dict[str, Tensor], message: str) -> None:
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 3, 4)
    given = {"state": sequences["state"], "elapsed": sequences["elapsed"], "starts": starts, **change}
    circuit = circuit._replace(**{name: x for name, x in change.items() if name in Circuit._fields})
    with pytest.raises(ValueError, match=message):
        cpu.ltc_sequence(sequences["inputs"], given["state"], given["elapsed"], given["starts"], circuit)


def test_synapses_outside_the_circuit_are_refused() -> None:
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 3, 4)
    outside = circuit.source.clone()
    outside[0] = 12
    with pytest.raises(ValueError, match="numbers from 0 to 11, got . to 12"):
        cpu.ltc_sequence(
            sequences["inputs"], sequences["state"], torch.ones(3, 4), starts, circuit._replace(source=outside)
        )


# ---------------------------------------------------------------------- dispatch


def test_auto_says_once_what_it_took(monkeypatch, caplog) -> None:
    monkeypatch.setattr(choose, "_CHOSEN", {})
    with caplog.at_level(logging.INFO, logger="policies.kernels.choose"):
        assert choose.choose_kernel(dispatch.LTC_KERNELS, "auto", "cpu", torch.float32) == "cpu"
        assert choose.choose_kernel(dispatch.LTC_KERNELS, "auto", "cpu", torch.float32) == "cpu"
        assert choose.choose_kernel(dispatch.LTC_KERNELS, "auto", "cpu", torch.float64) == "reference"
        assert choose.choose_kernel(dispatch.LTC_KERNELS, "auto", "meta", torch.float32) == "reference"
    assert [record.getMessage().split(": ")[1].split()[0] for record in caplog.records] == [
        "cpu",
        "reference",
        "reference",
    ]


def test_a_named_kernel_runs_or_raises(monkeypatch) -> None:
    monkeypatch.setattr(choose, "_CHOSEN", {})
    with pytest.raises(ValueError, match="kernel must be one of auto, reference, cpu, cuda, got 'fast'"):
        choose.choose_kernel(dispatch.LTC_KERNELS, "fast", "cpu", torch.float32)
    with pytest.raises(ValueError, match="runs float32 tensors on the cpu device, got torch.float64 on cpu"):
        choose.choose_kernel(dispatch.LTC_KERNELS, "cpu", "cpu", torch.float64)
    with pytest.raises(ValueError, match="on the cuda device, got torch.float32 on cpu"):
        choose.choose_kernel(dispatch.LTC_KERNELS, "cuda", "cpu", torch.float32)
    monkeypatch.setattr(choose, "_INSTALLED", {"cpu": False, "cuda": False})
    with pytest.raises(ModuleNotFoundError, match="kernel 'cpu' needs the package numba"):
        choose.choose_kernel(dispatch.LTC_KERNELS, "cpu", "cpu", torch.float32)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package triton, .* pip install -e '\.\[cuda\]'"):
        choose.choose_kernel(dispatch.LTC_KERNELS, "cuda", "cpu", torch.float32)
    assert choose.choose_kernel(dispatch.LTC_KERNELS, "auto", "cpu", torch.float32) == "reference"


def test_dispatch_gives_the_same_either_way() -> None:
    sequences, circuit, starts = problem(Wiring.auto_ncp(12, 2, 5), 3, 4)
    given = sequences["inputs"], sequences["state"], sequences["elapsed"], starts, circuit, 6
    first, second = (dispatch.ltc_sequence(*given, kernel) for kernel in ("cpu", "reference"))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    maps = sequences["input_w"], sequences["input_b"], 2
    pairs = zip(*(dispatch.ltc_motors(*given, kernel, *maps) for kernel in ("cpu", "reference")), strict=True)
    for first, second in pairs:
        torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
