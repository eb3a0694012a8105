"""Real-time recurrent learning against backpropagation through time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from agents.imitation.rtrl import RealTimeRecurrentLearning
from policies.cores import make_core

STEPS = 7
CIRCUIT = {"units": 9, "kernel": "reference"}


@pytest.mark.parametrize("name, options", [("ltc", CIRCUIT), ("lrc", CIRCUIT), ("gru", {"hidden_size": 5})])
def test_the_sum_of_its_gradients_is_that_of_backpropagation_through_time(name: str, options: dict[str, Any]):
    core = make_core(name, 4, 2, options, seed=3)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(STEPS, 4, generator=generator)
    wanted = torch.randn(STEPS, 2, generator=generator)
    elapsed = 0.5 + torch.rand(STEPS, generator=generator)

    outputs, state = core(features[None], elapsed=elapsed[None])
    (outputs[0] - wanted).square().sum().backward()
    expected = {key: weight.grad for key, weight in core.named_parameters() if weight.requires_grad}

    learner = RealTimeRecurrentLearning(core)
    total = {key: torch.zeros_like(weight) for key, weight in core.named_parameters() if weight.requires_grad}
    last = {key: torch.zeros_like(weight) for key, weight in core.named_parameters() if weight.requires_grad}
    for step in range(STEPS):
        seen = learner.step(features[step], float(elapsed[step]))
        torch.testing.assert_close(seen, outputs[0, step].detach(), atol=1e-5, rtol=1e-5)
        last = learner.gradient(2 * (seen - wanted[step]))
        for key, gradient in last.items():
            total[key] += gradient
    torch.testing.assert_close(learner.state, state[0].detach(), atol=1e-5, rtol=1e-5)
    for key, true in expected.items():
        gradient = torch.as_tensor(true)
        assert torch.allclose(total[key], gradient, atol=2e-5, rtol=2e-3), key
    # The influence of earlier steps counts: one step alone, from the same state, has another gradient.
    truncated = RealTimeRecurrentLearning(core, learner.state)
    assert not torch.allclose(truncated.influence, learner.influence)


def test_cores_without_a_state_and_large_ones_are_refused():
    with pytest.raises(ValueError, match="no state"):
        RealTimeRecurrentLearning(make_core("feedforward", 4, 1))
    with pytest.raises(ValueError, match="use batches"):
        RealTimeRecurrentLearning(make_core("lstm", 64, 1, {"hidden_size": 512}))
