"""The gated cores on a GPU: cuDNN has a backward pass only of calls that ran as in training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from policies.cores import gated, make_core
from policies.cores.gated import keeps_for_backward


def test_a_call_on_a_gpu_keeps_what_backward_needs_while_there_are_gradients():
    card: Any = SimpleNamespace(is_cuda=True)
    assert keeps_for_backward(card) and not keeps_for_backward(torch.zeros(1))
    with torch.no_grad():
        assert not keeps_for_backward(card)


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "packed"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_both_layers_pass_it_on(name: str, cut: bool, monkeypatch: pytest.MonkeyPatch):
    core, inputs = make_core(name, 3, 1, {"hidden_size": 4}), torch.randn(2, 5, 3)
    starts = torch.zeros(2, 5, dtype=torch.bool)
    starts[0, 2] = cut
    usual, flags = getattr(torch, name), []

    def listened(*given: Any) -> Any:
        flags.append(given[7 if cut else 6])
        return usual(*given)

    monkeypatch.setattr(torch, name, listened)
    wanted = core(inputs, starts=starts)[0]
    monkeypatch.setattr(gated, "keeps_for_backward", lambda inputs: True)
    found = core(inputs, starts=starts)[0]
    assert flags == [False, True]
    torch.testing.assert_close(found, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gradients_come_back_on_a_gpu_in_either_mode(name: str, training: bool):
    core = make_core(name, 3, 1, {"hidden_size": 4}).to("cuda").train(training)
    starts = torch.zeros(2, 5, dtype=torch.bool, device="cuda")
    starts[0, 2] = True
    core(torch.randn(2, 5, 3, device="cuda"), starts=starts)[0].sum().backward()
    assert all(one.grad is not None and bool(one.grad.isfinite().all()) for one in core.parameters())
