"""Long gaps between frames: every core stays bounded, or says that it does not follow them."""

from __future__ import annotations

import pytest
import torch

from policies.cores import make_core
from tests.policies.cores.variants import INPUTS, VARIANTS, build

REFUSES = {"ltc-euler", "ltc-rk4", "ltc-adaptive"}
"""Explicit solvers, which raise beyond 64 periods."""


def run(variant: str, elapsed: float | torch.Tensor, steps: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = 2 * torch.randn(2, steps, INPUTS, generator=generator)
    times = elapsed if isinstance(elapsed, torch.Tensor) else torch.full((2, steps), elapsed)
    with torch.no_grad():
        return build(variant)(inputs, None, times)


@pytest.mark.parametrize("elapsed", [3.0, 15.0, 1e3, 1e9])
@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith("neural-ode")])
def test_outputs_stay_bounded_at_any_steady_rate(variant: str, elapsed: float) -> None:
    steps = 10 if variant in REFUSES else 100
    if variant in REFUSES and elapsed > 64:
        with pytest.raises(ValueError, match="gaps of at most 64 .* solver='fused'"):
            run(variant, elapsed, steps)
        return
    outputs, _ = run(variant, elapsed, steps)
    assert outputs.abs().max() < 5


@pytest.mark.parametrize("elapsed", [20.0, 1e9])
@pytest.mark.parametrize("solver", ["euler", "rk4", "adaptive"])
def test_a_neural_ode_counts_a_gap_as_its_longest(solver: str, elapsed: float) -> None:
    core = make_core("neural_ode", INPUTS, 1, {"solver": solver, "longest_gap": 4.0})
    inputs = torch.randn(2, 10, INPUTS, generator=torch.Generator().manual_seed(0))
    times = torch.ones(2, 10)
    times[0, 5] = elapsed
    capped = times.clamp(max=4.0)
    with torch.no_grad():
        found, expected = core(inputs, None, times)[0], core(inputs, None, capped)[0]
    assert torch.equal(found, expected) and found.abs().max() < 20


@pytest.mark.parametrize("variant", ["ctrnn", "lrc", "lrc-symmetric", "reservoir", "ltc-rk4"])
def test_one_gap_of_twenty_periods_is_no_blow(variant: str) -> None:
    """Issue of one late frame: the outputs stay in the range that they have without it."""
    times = torch.ones(2, 40)
    times[:, 20] = 20.0
    punctual, late = run(variant, 1.0, 40)[0], run(variant, times, 40)[0]
    assert late.abs().max() <= 1.5 * punctual.abs().max() + 0.1


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["ctrnn", "lrc"])
def test_a_gap_ends_at_rest(name: str, kernel: str) -> None:
    """Held inputs for ever: once more for ever changes little, and the gradients are finite."""
    core = make_core(name, INPUTS, 1, {"kernel": kernel})
    inputs = torch.randn(3, 1, INPUTS, generator=torch.Generator().manual_seed(0)).expand(3, 60, INPUTS)
    times = torch.full((3, 60), 1e8, requires_grad=True)
    outputs, _ = core(inputs, None, times)
    assert (outputs[:, -1] - outputs[:, -2]).abs().max() < 1e-2
    outputs.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in core.parameters() if p.grad is not None)
    assert torch.isfinite(times.grad).all()


def test_explicit_substeps_belong_to_the_sample() -> None:
    """A late sample takes more substeps; the one beside it takes its own."""
    core = build("ltc-rk4")
    inputs = torch.randn(2, 3, INPUTS, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([[1.0, 1.0, 1.0], [1.0, 30.0, 1.0]])
    both = core(inputs, None, times)[0]
    torch.testing.assert_close(both[:1], core(inputs[:1])[0])
    torch.testing.assert_close(both[1:], core(inputs[1:], None, times[1:])[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_batch_gives_empty_results(variant: str) -> None:
    core = build(variant)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            outputs, state = core(
                torch.zeros(0, 4, INPUTS), None, torch.ones(0, 4), torch.zeros(0, 4, dtype=torch.bool)
            )
        assert outputs.shape == (0, 4, core.output_size) and state.shape == (0, core.state_size)
        if grad:
            outputs.sum().backward()
