"""LrcSSM: the equation in loops, parallel against step by step, and what happens where Newton's method fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.cores.lrc_ssm import LrcSSM, LrcSSMConfig

INPUTS = 3


def build(method: str = "auto", scale: float = 1.0, **options) -> LrcSSM:
    core = LrcSSM(INPUTS, 2, LrcSSMConfig(**{"model_size": 6, "units": 5, "method": method, **options}))
    with torch.no_grad():
        for parameter in core.parameters():
            parameter *= scale
    return core


def case(batch: int, steps: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, steps, INPUTS, generator=generator)
    elapsed = 10 ** (2 * torch.rand(batch, steps, generator=generator) - 1)
    return inputs, elapsed, torch.rand(batch, steps, generator=generator) < 0.05


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("method", ["parallel", "sequential"])
def test_it_is_the_equation(method):
    core = build(method, layers=1).double()
    inputs, elapsed, starts = case(1, 30)
    outputs, last = core(inputs.double(), None, elapsed.double(), starts)
    (block,) = core.blocks
    h = core.embed(inputs[0].double())
    u = block.norm(h)
    v, outside = torch.sigmoid(block.synapse(u)).detach().numpy(), block.elastance(u).detach().numpy()
    p = {name: value.detach().numpy() for name, value in block.named_parameters()}
    x, states = np.zeros(5), []
    for t in range(30):
        if starts[0, t]:
            x = np.zeros(5)
        s = sigmoid(p["own_slope"] * x + p["own_offset"])
        f = sigmoid(p["own_conductance"] * s + p["conductance"] * v[t] + p["gleak"])
        z = p["own_potential"] * s + p["potential"] * v[t] + p["gleak"]
        e = sigmoid(p["own_elastance"] * x + outside[t])
        step = np.minimum(e * float(elapsed[0, t]), 1 / f)
        x = x + step * (np.tanh(z) * p["resting"] - f * x)
        states.append(x)
    wanted = core.readout(core.norm(block.leave(h, torch.from_numpy(np.stack(states)))))
    torch.testing.assert_close(outputs[0], wanted, atol=1e-9, rtol=0)
    torch.testing.assert_close(last[0].detach().numpy(), x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("on_time", [True, False])
def test_parallel_is_sequential(on_time):
    inputs, elapsed, starts = case(3, 2000)
    elapsed = torch.ones_like(elapsed) if on_time else elapsed
    with torch.no_grad():
        core, plain = build("parallel", scale=1.5), build("sequential", scale=1.5)
        state = core(inputs[:, :20])[1]
        found, wanted = (one(inputs, state, elapsed, starts) for one in (core, plain))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert [one.converged for one in core.solutions] == [True, True]
    assert all(1 < one.iterations < 30 for one in core.solutions)
    assert plain.solutions == ()


def test_gradients_of_the_solution_are_those_of_the_loop_in_double_precision():
    inputs, elapsed, starts = case(3, 40)
    found: dict[str, list[torch.Tensor]] = {}
    for name, options, dtype in (
        ("truth", {"method": "sequential", "kernel": "reference"}, torch.float64),
        ("parallel", {"method": "parallel"}, torch.float32),
        ("sequential", {"method": "sequential"}, torch.float32),
    ):
        core = build(**options).to(dtype)
        x, times = inputs.to(dtype).requires_grad_(), elapsed.to(dtype).requires_grad_()
        state = torch.linspace(-1, 1, 3 * core.state_size, dtype=dtype).view(3, -1).requires_grad_()
        outputs, last = core(x, state, times, starts)
        loss = outputs.square().mean() + last.square().mean()
        found[name] = [g.double() for g in torch.autograd.grad(loss, [x, times, state, *core.parameters()])]
    for method in ("parallel", "sequential"):
        for got, wanted in zip(found[method], found["truth"], strict=True):
            assert (got - wanted).abs().max() <= 2e-5 * max(float(wanted.abs().max()), 1e-2), method


def test_the_slope_of_a_step_is_its_derivative():
    block = build().double().blocks[0]
    drive, times = torch.randn(2, 9, 10).double(), torch.tensor([[0.5] * 9, [40.0] * 9]).double()
    x = torch.randn(2, 9, 5).double().requires_grad_()
    after, slope = block._step_and_slope(drive, x, times)
    (wanted,) = torch.autograd.grad(after.sum(), x)
    torch.testing.assert_close(slope, wanted, atol=1e-12, rtol=0)


def test_where_it_does_not_converge_it_runs_step_by_step_and_says_so():
    inputs, elapsed, starts = case(2, 50)
    core, plain = build("parallel", most_iterations=2), build("sequential")
    with pytest.warns(RuntimeWarning, match="did not converge in 2 iterations.*step by step"):
        found = core(inputs, None, elapsed, starts)
    for a, b in zip(found, plain(inputs, None, elapsed, starts), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert core.solutions[0].iterations == 2 and not core.solutions[0].converged


def test_a_sample_is_solved_the_same_whatever_is_beside_it():
    inputs, elapsed, starts = case(3, 60)
    core = build("parallel", scale=2.0)
    both, _ = core(inputs, None, elapsed, starts)
    alone, _ = core(inputs[1:2], None, elapsed[1:2], starts[1:2])
    torch.testing.assert_close(both[1:2], alone, atol=1e-6, rtol=1e-5)


def test_a_penalty_on_the_gradient_is_refused_where_the_solution_has_none():
    inputs, elapsed, _ = case(2, 6)
    x = inputs.requires_grad_()
    (slope,) = torch.autograd.grad(build("parallel")(x, None, elapsed)[0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="kernel='reference'"):
        slope.square().sum().backward()
    with pytest.raises(ValueError, match="step by step"):
        LrcSSMConfig(method="parallel", kernel="reference")
