"""The GRU peer's Triton kernels against its loop, and the loop against torch's GRU.

Where there is no GPU the kernels run in Triton's interpreter: `tests/policies/kernels/test_interpreted.py` runs this
file again in a process of its own.
"""

from __future__ import annotations

import pytest
import torch

from policies.kernels.gpu import interpreted

pytest.importorskip("triton")

from experiments.benchmarks import gru_triton  # noqa: E402 - it imports Triton
from experiments.benchmarks.gru_triton import ResettingGRU  # noqa: E402
from tests.policies.kernels.hopper import compile_for_hopper  # noqa: E402

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
TOLERANCE = 1e-4 if GPU else 5e-6
"""Largest difference from the loop in float64, relative to the largest value of that tensor."""

needs_kernels = pytest.mark.skipif(not (GPU or interpreted()), reason="runs in test_interpreted.py, or on a GPU")


def make_layer(units: int, batch: int, steps: int):
    """Return a layer on the device, and inputs, state and starts on the CPU; some sequences start at the first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(units + batch + steps)
        layer = ResettingGRU(5, units)
        inputs, state = torch.randn(batch, steps, 5), torch.randn(batch, units)
        return layer.to(DEVICE), (inputs, state, torch.rand(batch, steps) < 0.3)


def results(run, layer, inputs, state, starts):
    """Return states, the last one, and the gradients of inputs, state and parameters."""
    leaves = [inputs.detach().clone().requires_grad_(), state.detach().clone().requires_grad_()]
    hidden, last = run(*leaves, starts)
    weights = torch.linspace(-3, 3, hidden.numel(), dtype=torch.float64).sin().view(hidden.shape).to(hidden)
    loss = (hidden * weights).sum() + last.sum()
    return hidden.detach(), last.detach(), *torch.autograd.grad(loss, [*leaves, *layer.parameters()])


def run_kernels(layer, arguments):
    return results(layer, layer, *(x.to(DEVICE) for x in arguments))


@needs_kernels
@pytest.mark.parametrize("sizes", [(16, 1, 1), (16, 3, 5), (32, 2, 4)], ids=str)
def test_triton_kernels_are_the_loop(sizes, monkeypatch):
    layer, arguments = make_layer(*sizes)
    if sizes[1] == 3:
        monkeypatch.setattr(gru_triton, "PROGRAMS", 1)  # several sequences in a program, one of them not there
    found = run_kernels(layer, arguments)
    truth = layer.cpu().double()
    inputs, state, starts = arguments
    wanted = results(truth.reference, truth, inputs.double(), state.double(), starts)
    names = ("hidden", "last", "inputs", "state", *dict(truth.named_parameters()))
    for name, ours, theirs in zip(names, found, wanted, strict=True):
        error = float((ours.cpu().double() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))
        assert error <= TOLERANCE, name


@needs_kernels
def test_triton_runs_repeat_bit_for_bit():
    layer, arguments = make_layer(16, 2, 2)
    for first, second in zip(run_kernels(layer, arguments), run_kernels(layer, arguments), strict=True):
        assert torch.equal(first, second)


@needs_kernels
def test_triton_peer_is_compared_by_the_benchmark():
    from experiments.benchmarks.gpu_agreement import GRADIENTS, OUTPUTS, Setup, compare_peer
    from experiments.benchmarks.gpu_speed import Contestant, Read, training_step

    found = compare_peer((2, 3), Setup(torch.device(DEVICE), 2, quick=True))
    assert found["same_bits"] and found["outputs"] < OUTPUTS and found["gradients"] < GRADIENTS
    layer, (inputs, _, starts) = make_layer(16, 2, 3)
    module = Read(layer, 16, takes_starts=True).to(DEVICE)
    step = training_step(Contestant("", "cuda", module, module), inputs.to(DEVICE).requires_grad_(), starts.to(DEVICE))
    assert all(one is not None for one in step())


def test_the_loop_is_torchs_gru_between_starts():
    layer, (inputs, state, _) = make_layer(16, 3, 6)
    layer = layer.cpu()
    peer = torch.nn.GRU(5, 16, batch_first=True)
    names = {"weight_ih_l0": "weight_ih", "weight_hh_l0": "weight_hh", "bias_ih_l0": "bias_ih", "bias_hh_l0": "bias_hh"}
    peer.load_state_dict({theirs: layer.state_dict()[ours] for theirs, ours in names.items()})
    starts = torch.zeros(3, 6, dtype=torch.bool)
    starts[:, 2] = True
    hidden, last = layer.reference(inputs, state, starts)
    first, _ = peer(inputs[:, :2], state[None])
    second, after = peer(inputs[:, 2:])
    torch.testing.assert_close(hidden, torch.cat((first, second), dim=1))
    torch.testing.assert_close(last, after[0])


def test_units_that_the_kernels_cannot_run_are_refused():
    with pytest.raises(ValueError, match="power of two"):
        ResettingGRU(4, 48)


@pytest.mark.thorough
@pytest.mark.skipif(interpreted(), reason="the interpreter replaces what the compiler wants")
@pytest.mark.parametrize("rows", [1, 2, 16])
@pytest.mark.parametrize("kernel", ["gru_forward", "gru_backward"])
def test_triton_kernels_compile_for_a_gpu(kernel, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"UNITS": 128, "ROWS": rows, "BLOCK": gru_triton.BLOCK, **gru_triton.options(rows)}
    kinds = {"starts": "*u8", "batch": "i32", "steps": "i32"}
    compiled = compile_for_hopper(getattr(gru_triton, kernel), constants, kinds, "fp32")
    assert ".target sm_90" in compiled.asm["ptx"] and len(compiled.asm["cubin"]) > 1000
    assert compiled.metadata.shared <= 227 * 1024
