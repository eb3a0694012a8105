"""No derivative is dropped in silence: a compiled kernel refuses the second one, the reference takes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from policies.cores import make_core

INPUTS = 4
KERNELS = ["ltc", "cfc", "ctrnn", "lrc", "neural_ode", "liquid_s4", "lrc_ssm"]
"""Cores that a kernel runs."""


class Halved(nn.Module):
    """A parametrisation: the core keeps no plain parameter, so it runs on the op, not on the fused training step."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def penalised(core: nn.Module, of: str) -> Tensor:
    """Return a penalty on the gradient with respect to inputs, state, elapsed or a parameter."""
    generator = torch.Generator().manual_seed(0)
    leaves = {
        "inputs": torch.randn(3, 5, INPUTS, generator=generator),
        "state": 0.1 * torch.randn(3, core.state_size, generator=generator),
        "elapsed": 0.5 + torch.rand(3, 5, generator=generator),
    }
    for leaf in leaves.values():
        leaf.requires_grad_()
    outputs, _ = core(*leaves.values())
    subject = leaves[of] if of in leaves else next(core.parameters())
    (slope,) = torch.autograd.grad(outputs.sum(), subject, create_graph=True)
    return slope.square().sum()


@pytest.mark.parametrize("of", ["inputs", "state", "elapsed", "parameter"])
@pytest.mark.parametrize("name", [*KERNELS, "ltc, parametrised"])
def test_a_gradient_penalty_is_refused_by_a_kernel(name: str, of: str) -> None:
    core = make_core(name.split(",")[0], INPUTS, 1, {"kernel": "auto"})
    if "parametrised" in name:
        nn.utils.parametrize.register_parametrization(core, "mu", Halved())
        assert core.choose_route(torch.zeros(1, 1, INPUTS))[0] == "op"
    penalty = penalised(core, of)
    with pytest.raises(NotImplementedError, match="kernel='reference'"):
        penalty.backward()


@pytest.mark.parametrize("name", KERNELS)
def test_the_reference_takes_it(name: str) -> None:
    core = make_core(name, INPUTS, 1, {"kernel": "reference"})
    penalised(core, "inputs").backward()
    assert any(p.grad is not None and (p.grad != 0).any() for p in core.parameters())


@pytest.mark.parametrize("name", ["ltc", "cfc"])
def test_a_graph_that_nobody_differentiates_costs_nothing(name: str) -> None:
    """`create_graph` alone is fine: the gradients are those without it."""
    gradients = []
    for create_graph in (False, True):
        core = make_core(name, INPUTS, 1)
        inputs = torch.linspace(-1, 1, 3 * 5 * INPUTS).reshape(3, 5, INPUTS).requires_grad_()
        outputs, _ = core(inputs)
        gradients.append(torch.autograd.grad(outputs.sum(), [inputs, *core.parameters()], create_graph=create_graph))
    for plain, with_graph in zip(*gradients, strict=True):
        assert torch.equal(plain, with_graph.detach())
