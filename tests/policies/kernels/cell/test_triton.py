"""The Triton kernels of recorded steps against the same steps in torch; see `kernels/ltc/test_triton.py`."""

from __future__ import annotations

import pytest
import torch

from policies.kernels.cell.program import record
from policies.kernels.cell.sequence import run_sequence
from policies.kernels.cell.triton import op
from policies.kernels.gpu import HAS_TRITON, interpreted
from tests.policies.kernels.cell.test_cell import every_op, make_case, relative_error, results
from tests.policies.kernels.hopper import compile_for_hopper
from tests.policies.kernels.sizes import SIZES

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton: pip install -e '.[cuda]'")
needs_kernels = pytest.mark.skipif(
    not (HAS_TRITON and (GPU or interpreted())), reason="runs in test_interpreted.py, or on a GPU"
)
long = () if GPU else pytest.mark.thorough  # the interpreter takes some milliseconds an instruction and step

TOLERANCES = {torch.float32: 2e-5, torch.float64: 1e-12}
"""Relative to the largest number of each tensor."""
CASES = [(3, 2, 2), *(pytest.param(*case, marks=long) for case in [(19, 2, 3), (70, 1, 2)])]
"""Units, B, T: on one warp; 70 units have matrices for which four are used, and rows in more than one block."""


def on_the_kernels(weights, drive, state, elapsed, starts):
    """Return what `test_cell.results` does, by the Triton kernels."""
    arguments = {"drive": drive, "state": state, "elapsed": elapsed, **weights}
    moved = {name: value.detach().to(DEVICE).requires_grad_() for name, value in arguments.items()}
    drive, state, elapsed, *flat = moved.values()
    program = record(every_op, weights, drive.shape[2], state.shape[1])
    flat = torch.cat([weight.reshape(-1) for weight in flat])
    states = op.run_program(program, flat, drive, state, elapsed, starts.to(DEVICE))
    mixture = torch.linspace(-1, 1, states.numel(), dtype=states.dtype, device=DEVICE).view_as(states).sin()
    gradients = torch.autograd.grad((states * mixture).sum() + states[:, -1].square().sum(), list(moved.values()))
    found = {"states": states, "last": states[:, -1], **dict(zip(moved, gradients, strict=True))}
    return {name: value.cpu() for name, value in found.items()}


@pytest.fixture
def scratch_of_nan():
    """Fill every tensor that torch leaves uninitialised with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@needs_kernels
@pytest.mark.parametrize(("units", "batch_size", "steps"), [*CASES, *(SIZES if GPU else [])])
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=long)], ids=str)
def test_triton_equals_the_torch_step(units, batch_size, steps, dtype, scratch_of_nan, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch's own condition
    case = make_case(units, batch_size, steps, dtype)
    exact = {name: x.detach().double().requires_grad_() for name, x in case[0].items()}
    truth = results("reference", exact, *(x.detach().double().requires_grad_() for x in case[1:4]), case[4])
    plain = results("reference", *case)
    for name, value in on_the_kernels(*case).items():
        # Rounding can push a number across the kink of |x| or a ReLU, in torch as here: allow what torch's own takes.
        allowed = max(TOLERANCES[dtype], 3 * relative_error(plain[name], truth[name]))
        assert relative_error(value, truth[name]) < allowed, name


@needs_kernels
def test_triton_cuts_what_is_too_large_for_memory(monkeypatch):
    def step(ops, weights, drive, state, elapsed):
        return ops.tanh(ops.linear(weights["w"], state, drive)) * elapsed

    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(2, 2, generator=generator).to(DEVICE).requires_grad_()}
    drive = torch.randn(3, 2, 2, generator=generator).to(DEVICE).requires_grad_()
    state, elapsed = torch.zeros(3, 2, device=DEVICE), torch.ones(3, 2, device=DEVICE)
    starts = torch.zeros(3, 2, dtype=torch.bool, device=DEVICE)
    program = record(step, weights, 2, 2)

    def gradients():
        states = op.run_program(program, weights["w"].reshape(-1), drive, state, elapsed, starts)
        return torch.autograd.grad(states.square().sum(), (drive, weights["w"]))

    whole = gradients()
    seen = []
    once = op._step_gradients
    monkeypatch.setattr(op, "_step_gradients", lambda *given: (seen.append(len(given[-1])), once(*given))[1])
    monkeypatch.setattr(op, "FILE_NUMBERS", 2 * 2 * program.rows)
    for parts, together in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(parts, together, rtol=1e-6, atol=1e-6)
    assert seen == [2, 1]


@needs_kernels
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.thorough
def test_triton_op_compiles():
    weights, drive, state, elapsed, starts = make_case(3, 2, 2, torch.float32)
    program = record(every_op, weights, 3, 3)

    def run(drive, state, elapsed, starts, flat):
        return op.run_program(program, flat, drive, state, elapsed, starts).square().sum()

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    flat = torch.cat([weight.reshape(-1) for weight in weights.values()])
    arguments = [x.detach().to(DEVICE) for x in (drive, state, elapsed, starts, flat)]
    for place in (0, 1, 4):
        arguments[place].requires_grad_()
    sources = [arguments[place] for place in (0, 1, 4)]
    expected = torch.autograd.grad(run(*arguments), sources)
    for found, want in zip(torch.autograd.grad(compiled(*arguments), sources), expected, strict=True):
        torch.testing.assert_close(found, want, atol=1e-6, rtol=1e-5)


@needs_kernels
def test_triton_refuses_second_derivatives_by_name():
    def step(ops, weights, drive, state, elapsed):
        return ops.tanh(state + drive)

    program = record(step, {}, 2, 2)
    drive = torch.zeros(1, 1, 2, device=DEVICE, requires_grad=True)
    ones, starts = torch.ones(1, 1, device=DEVICE), torch.zeros(1, 1, dtype=torch.bool, device=DEVICE)
    states = op.run_program(program, drive.new_zeros(0), drive, drive.new_zeros(1, 2), ones, starts)
    (gradient,) = torch.autograd.grad(states.sum(), drive, create_graph=True)
    with pytest.raises(NotImplementedError, match="kernel='reference'"):
        gradient.sum().backward()


@needs_triton
@pytest.mark.skipif(interpreted(), reason="the interpreter takes any device")
def test_triton_refuses_tensors_on_the_cpu():
    weights, drive, state, elapsed, starts = make_case(3, 1, 1, torch.float32)
    program = record(every_op, weights, 3, 3)
    with pytest.raises(ValueError, match="runs float32 or float64 tensors on the cuda device, got"):
        run_sequence(every_op, program, weights, drive, state, elapsed, starts, "cuda")
    with pytest.raises(ValueError, match="needs tensors on an NVIDIA GPU"):
        op.run_program(program, torch.zeros(0), drive, state, elapsed, starts)


@needs_triton
@pytest.mark.thorough
@pytest.mark.skipif(interpreted(), reason="the interpreter replaces what the compiler wants")
@pytest.mark.parametrize("number", ["fp32", "fp64"])
@pytest.mark.parametrize("warps", [1, 4])
def test_triton_kernels_compile_for_a_gpu(warps, number, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from policies.kernels.cell.triton import kernels

    kinds = {"code": "*i32", "tables": "*i32", "starts": "*u8"}
    kinds |= dict.fromkeys(("instructions", "rows", "steps", "drive_rows", "size", "at_state"), "i32")
    launch = {**op.BLOCKS[warps], "num_warps": warps, **op.FUSE_MULTIPLY_ADD}
    for function in (kernels.forward_kernel, kernels.replay_kernel, kernels.backward_kernel):
        compiled = compile_for_hopper(function, launch, kinds, number)
        assert ".target sm_90" in compiled.asm["ptx"]
        assert len(compiled.asm["cubin"]) > 1000
