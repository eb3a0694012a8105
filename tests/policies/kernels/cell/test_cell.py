"""The CPU kernel of recorded steps against the same steps in torch: outputs, last state and every gradient."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from policies.kernels.cell.cpu import run_program
from policies.kernels.cell.program import Code, record
from policies.kernels.cell.sequence import CELL, reference_sequence, run_sequence
from policies.kernels.cell.step import TorchOps
from policies.kernels.choose import choose_kernel
from policies.kernels.gpu import HAS_TRITON
from policies.kernels.simd import exp, sigmoid, tanh
from tests.policies.kernels.sizes import SIZES

TOLERANCE = 1e-4
"""Of single precision, relative to the largest number of each tensor; sums over thousands of steps differ in order."""


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference over the largest number; infinite where a number is not finite."""
    if not torch.isfinite(found).all():
        return float("inf")
    return float((found - expected).detach().abs().max()) / max(float(expected.detach().abs().max()), 1e-3)


def every_op(ops, weights, drive, state, elapsed):
    """Use every operation at least once, on values of several and of one number."""
    units = weights["bias"].shape[0]
    target = ops.tanh(ops.linear(weights["square"], state, drive))
    pressed = ops.linear(weights["wide"], ops.concat([target, state]))
    decay = ops.exp(-(ops.abs(target) * elapsed))
    head, tail = ops.split(ops.activation("gelu", pressed), [1, units - 1])
    turned = ops.concat([tail, head]) * decay + weights["bias"]
    synapses = ops.gather(state, [0, 1, units - 1, 1])
    arrived = ops.scatter(ops.sigmoid(synapses), weights["synapse"], [units - 1, 0, 0, 1], units)
    soft = ops.activation("silu", turned) - ops.activation("leaky_relu", arrived) + ops.activation("relu", pressed)
    mixed = (
        0.3 * state + (elapsed - head) * 0.1 * (target * weights["bias"]) + (1.0 - ops.activation("lecun_tanh", soft))
    )
    slow = mixed / (ops.abs(turned) + 1.0) + target / (elapsed + 1.0) + head / ops.at_least(elapsed + 2.0, 2.4)
    return slow - 0.5 + (head + elapsed) * 0.1 * target / 2.0


def make_case(units: int, batch_size: int, steps: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(units + batch_size + steps)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()

    weights = {
        "square": draw(units, units, scale=0.5 / units**0.5),
        "wide": draw(units, 2 * units, scale=0.5 / units**0.5),
        "bias": draw(units),
        "synapse": draw(4),
    }
    elapsed = (0.5 + torch.rand(batch_size, steps, generator=generator)).to(dtype).requires_grad_()
    starts = torch.rand(batch_size, steps, generator=generator) < 0.1
    return weights, draw(batch_size, steps, units), draw(batch_size, units), elapsed, starts


def results(kernel, weights, drive, state, elapsed, starts):
    """Return outputs, last state and the gradients of a fixed random mixture of both."""
    program = record(every_op, weights, drive.shape[2], state.shape[1])
    states = run_sequence(every_op, program, weights, drive, state, elapsed, starts, kernel)
    mixture = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states).sin()
    arguments = {"drive": drive, "state": state, "elapsed": elapsed, **weights}
    gradients = torch.autograd.grad((states * mixture).sum() + states[:, -1].square().sum(), list(arguments.values()))
    return {"states": states, "last": states[:, -1], **dict(zip(arguments, gradients, strict=True))}


@pytest.fixture
def scratch_of_nan():
    """Fill every tensor that torch leaves uninitialised with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("units", "batch_size", "steps"), SIZES)
def test_kernel_equals_the_torch_step(units, batch_size, steps, scratch_of_nan):
    exact = make_case(units, batch_size, steps, torch.float64)
    truth = results("reference", *exact)
    if units < 302:
        for name, value in results("cpu", *exact).items():
            assert relative_error(value, truth[name]) < 1e-9, f"{name} in double precision"
    single = make_case(units, batch_size, steps, torch.float32)
    plain = results("reference", *single)
    for name, value in results("cpu", *single).items():
        # Rounding can push a number across the kink of |x| or a ReLU, in torch as here: allow what torch's own takes.
        allowed = max(TOLERANCE, 3 * relative_error(plain[name], truth[name]))
        assert relative_error(value, truth[name]) < allowed, f"{name} in single precision"


def test_the_case_uses_every_instruction():
    weights, *_ = make_case(19, 1, 1, torch.float32)
    program = record(every_op, weights, 19, 19)
    assert {Code(int(code)) for code in program.code[:, 0]} == set(Code)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch_size", [15, 17, 32, 49, 130])
def test_tiles_and_threads_do_not_change_the_result(batch_size, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        case = make_case(5, batch_size, 6, torch.float64)
        expected, found = results("reference", *case), results("cpu", *case)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-9, rtol=1e-9)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
def test_gradients_are_those_of_finite_differences(kernel):
    weights, drive, state, elapsed, _ = make_case(3, 2, 3, torch.float64)
    starts = torch.tensor([[False, False, True], [False, False, False]])
    program = record(every_op, weights, 3, 3)

    def run(drive, state, elapsed, *values):
        named = dict(zip(weights, values, strict=True))
        return run_sequence(every_op, program, named, drive, state, elapsed, starts, kernel)

    assert torch.autograd.gradcheck(run, (drive, state, elapsed, *weights.values()))


def test_memory_layout_does_not_matter():
    weights, drive, state, elapsed, starts = make_case(4, 6, 5, torch.float64)
    turned = drive.detach().permute(1, 2, 0).contiguous().permute(2, 0, 1).requires_grad_()
    assert not turned.is_contiguous()
    expected = results("cpu", weights, drive, state, elapsed, starts)
    found = results("cpu", weights, turned, state, elapsed.detach().T.contiguous().T.requires_grad_(), starts)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_op_compiles():
    case = make_case(5, 3, 4, torch.float32)
    weights, drive, state, elapsed, starts = case
    program = record(every_op, weights, 5, 5)

    def run(drive, state):
        return run_sequence(every_op, program, weights, drive, state, elapsed, starts).square().sum()

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(run(drive, state), (drive, state, *weights.values()))
    found = torch.autograd.grad(compiled(drive, state), (drive, state, *weights.values()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_second_derivatives_are_refused_by_name():
    weights, drive, state, elapsed, starts = make_case(3, 2, 2, torch.float64)
    program = record(every_op, weights, 3, 3)
    states = run_sequence(every_op, program, weights, drive, state, elapsed, starts, "cpu")
    (gradient,) = torch.autograd.grad(states.sum(), drive, create_graph=True)
    with pytest.raises(NotImplementedError, match="kernel='reference'"):
        gradient.sum().backward()


def test_a_kernel_that_is_named_runs_or_says_why_not():
    with pytest.raises(ValueError, match="kernel must be one of auto, reference, cpu, cuda, got 'gpu'"):
        choose_kernel(CELL, "gpu", "cpu", torch.float32)
    with pytest.raises(ValueError, match="runs float32 or float64 tensors on the cpu device, got torch.float16"):
        choose_kernel(CELL, "cpu", "cpu", torch.float16)
    assert choose_kernel(CELL, "auto", "cuda", torch.float32) == ("cuda" if HAS_TRITON else "reference")
    assert choose_kernel(CELL, "auto", "xpu", torch.float32) == "reference"
    assert choose_kernel(CELL, "auto", "cpu", torch.float32) == "cpu"


def test_a_step_that_does_not_fit_is_told():
    weights = {"w": torch.zeros(3, 4)}
    with pytest.raises(ValueError, match=r"weight \(3, 4\) does not fit 5 numbers"):
        record(lambda ops, w, drive, state, elapsed: ops.linear(w["w"], state), weights, 1, 5)
    with pytest.raises(ValueError, match="must return 4 rows of state"):
        record(lambda ops, w, drive, state, elapsed: ops.linear(w["w"], state), weights, 1, 4)
    with pytest.raises(ValueError, match="values of 4 and 3 numbers cannot meet"):
        record(lambda ops, w, drive, state, elapsed: state + drive, weights, 3, 4)


def test_a_step_may_return_a_part_of_its_arguments():
    def swap(ops, weights, drive, state, elapsed):
        first, second = ops.split(state, [2, 2])
        return ops.concat([second, first])

    def keep(ops, weights, drive, state, elapsed):
        return state

    for step in (swap, keep):
        program = record(step, {}, 1, 4)
        arguments = torch.zeros(2, 3, 1), torch.randn(2, 4), torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)
        expected = reference_sequence(step, {}, *arguments)
        found = run_program(program, torch.zeros(0), *arguments)
        assert torch.equal(found, expected)


def test_torch_ops_know_every_activation():
    from policies.cores.activations import ACTIVATIONS

    x = torch.randn(2, 5)
    for name, function in ACTIVATIONS.items():
        torch.testing.assert_close(TorchOps().activation(name, x), function(x))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "leaky_relu", "silu", "gelu", "lecun_tanh"])
def test_broken_inputs_show(activation):
    def step(ops, weights, drive, state, elapsed):
        return ops.activation(activation, drive) + ops.exp(drive) + ops.abs(drive)

    program = record(step, {}, 2, 2)
    drive = torch.zeros(3, 1, 2)
    drive[1, 0, 0] = float("nan")
    arguments = drive, torch.zeros(3, 2), torch.ones(3, 1), torch.zeros(3, 1, dtype=torch.bool)
    found = run_program(program, torch.zeros(0), *arguments)
    assert torch.equal(found.isnan(), drive.isnan())


def test_numbers_of_any_size_end_where_torchs_do():
    def step(ops, weights, drive, state, elapsed):
        return ops.concat([ops.tanh(drive), ops.sigmoid(drive)])

    program = record(step, {}, 1, 2)
    values = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e30, -1e4, -89.0, 89.0, 1e4, 1e30])])
    drive = values[:, None, None]
    zeros, ones = torch.zeros(len(values), 2), torch.ones(len(values), 1)
    arguments = drive, zeros, ones, torch.zeros(len(values), 1, dtype=torch.bool)
    found = run_program(program, torch.zeros(0), *arguments)
    expected = reference_sequence(step, {}, *arguments)
    torch.testing.assert_close(found, expected, atol=3e-7, rtol=0)


def test_functions_of_kernels_are_the_same_in_plain_python() -> None:
    compiled = numba.njit(lambda x: (exp(x), sigmoid(x), tanh(x)))
    for x in (-30.0, -0.7, 0.0, 0.3, 12.0):
        exact = math.exp(x), 1 / (1 + math.exp(-x)), math.tanh(x)
        assert (exp(x), sigmoid(x), tanh(x)) == pytest.approx(exact, rel=1e-12, abs=1e-15)
        assert compiled(x) == pytest.approx(exact, rel=1e-12, abs=1e-15)
        assert compiled(np.float32(x)) == pytest.approx(exact, rel=1e-6, abs=2e-7)
