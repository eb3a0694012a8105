"""CfC against the reference package: outputs, states and gradients in every mode and shape."""

from __future__ import annotations

import ncps.torch
import ncps.wirings
import pytest
import torch

from policies.cores import make_core
from policies.cores.cfc import CfC, CfCConfig
from policies.cores.cfc_layer import HEADS
from policies.cores.from_ncps import cfc_from_ncps
from policies.wiring.wiring import Wiring

INPUTS = 5

SHAPES = {
    "ncp": lambda seed: (ncps.wirings.AutoNCP(19, 3, seed=seed), {}),
    "sparse-ncp": lambda seed: (ncps.wirings.NCP(9, 5, 2, 3, 2, 4, 3, seed=seed), {}),
    "fully-connected-wiring": lambda seed: (ncps.wirings.FullyConnected(7, 2), {}),
    "projected-ncp": lambda seed: (ncps.wirings.AutoNCP(11, 2, seed=seed), {"proj_size": 4}),
    "full": lambda seed: (11, {}),
    "deep-silu": lambda seed: (11, {"backbone_layers": 3, "backbone_units": 17, "activation": "silu"}),
    "gelu": lambda seed: (6, {"backbone_units": 9, "activation": "gelu"}),
    "no-backbone-projected": lambda seed: (11, {"backbone_layers": 0, "proj_size": 3}),
}


def peer_of(shape: str, mode: str, mixed: bool, seed: int = 0) -> ncps.torch.CfC:
    torch.manual_seed(seed)
    units, options = SHAPES[shape](seed)
    return ncps.torch.CfC(INPUTS, units, mode=mode, mixed_memory=mixed, **options)


def run_peer(peer, inputs, elapsed):
    """Run the peer sample by sample: it takes a batch of one elapsed time for one of as many units."""
    runs = [peer(inputs[b : b + 1], timespans=elapsed[b : b + 1, :, None]) for b in range(len(inputs))]
    states = [torch.cat(state, dim=1) if isinstance(state, tuple) else state for _, state in runs]
    return torch.cat([outputs for outputs, _ in runs]), torch.cat(states)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("mode", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_the_peers(shape, mode, mixed):
    peer = peer_of(shape, mode, mixed)
    core = cfc_from_ncps(peer)
    inputs = torch.randn(3, 6, INPUTS)
    elapsed = 0.5 + torch.rand(3, 6)
    mine, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    outputs, state = core(mine, None, elapsed)
    expected, expected_state = run_peer(peer, theirs, elapsed)
    torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=0)
    # The peer's wired state runs from inter to motor neurons, ours in the order of their ids.
    assert torch.equal(state.sort().values.round(decimals=5), expected_state.sort().values.round(decimals=5)) or (
        (state.sort().values - expected_state.sort().values).abs().max() < 2e-6
    )
    weights = torch.randn(outputs.shape)
    (outputs * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4)
    cells = getattr(peer.rnn_cell, "_layers", [peer.rnn_cell])
    for layer, cell in zip(core.layers, cells, strict=True):
        weight_grad = torch.cat([getattr(cell, name).weight.grad for name in HEADS[mode]])
        bias_grad = torch.cat([getattr(cell, name).bias.grad for name in HEADS[mode]])
        torch.testing.assert_close(layer.weight.grad, weight_grad, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(layer.bias.grad, bias_grad, atol=2e-5, rtol=1e-4)
        if mode == "pure":
            torch.testing.assert_close(layer.w_tau.grad, cell.w_tau.grad[0], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(layer.limit.grad, cell.A.grad[0], atol=2e-5, rtol=1e-4)
    if mixed:
        total = core.memory_recurrent.weight.grad.square().sum()
        torch.testing.assert_close(total, peer.lstm.recurrent_map.weight.grad.square().sum(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_random_wirings(seed):
    peer = peer_of("ncp", "default", mixed=bool(seed % 2), seed=seed)
    core = cfc_from_ncps(peer)
    inputs = torch.randn(33, 20, INPUTS)
    torch.testing.assert_close(core(inputs)[0], peer(inputs)[0], atol=1e-6, rtol=0)


def test_a_loaded_core_can_be_saved_and_built_again():
    core = cfc_from_ncps(peer_of("projected-ncp", "default", mixed=True))
    again = make_core("cfc", INPUTS, 4, core.config)
    again.load_state_dict(core.state_dict())
    inputs = torch.randn(2, 5, INPUTS)
    assert torch.equal(again(inputs)[0], core(inputs)[0])


def test_what_cannot_be_loaded_is_told():
    with pytest.raises(ValueError, match=r"needs an ncps\.torch\.CfC, got Linear"):
        cfc_from_ncps(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="dropout"):
        cfc_from_ncps(ncps.torch.CfC(3, 4, backbone_layers=2, backbone_dropout=0.1))


def test_absent_synapses_stay_absent_and_take_no_gradient():
    wiring = Wiring.auto_ncp(19, 1, INPUTS)
    core = CfC(INPUTS, 1, wiring=wiring)
    core(torch.randn(3, 7, INPUTS))[0].sum().backward()
    sensory, _ = wiring.adjacency()
    inter = core.layers[0]
    units = len(wiring.layer("inter"))
    absent = torch.from_numpy(sensory[:, list(wiring.layer("inter"))] == 0).T  # [n, F]
    assert absent.any()
    for head in range(2):  # ff1 and ff2 are sparse, the two of time are not
        rows = slice(head * units, (head + 1) * units)
        assert (inter.weight.grad[rows, :INPUTS][absent] == 0).all()
        assert (inter.weight.grad[rows, :INPUTS][~absent] != 0).all()
    assert (inter.weight.grad[2 * units :, :INPUTS] != 0).all()
    assert "layers.0.mask" not in core.state_dict()


def test_the_motor_neurons_are_the_first_of_the_state():
    core = CfC(INPUTS, 3, CfCConfig(units=14))
    outputs, state = core(torch.randn(2, 6, INPUTS))
    assert torch.equal(outputs[:, -1], state[:, :3])


def test_spread_gates_tell_long_times_apart():
    options = {"wiring": None, "units": 64, "readout": True}
    elapsed = torch.arange(1.0, 16.0)[:, None]  # 15 sequences of one step
    steps = {}
    for span in (None, 16.0):
        core = CfC(INPUTS, 1, CfCConfig(gate_span=span, **options))
        _, state = core(torch.ones(15, 1, INPUTS), None, elapsed)
        steps[span] = (state[1:] - state[:-1]).norm(dim=1)
    assert steps[None][-1] < 0.15 * steps[None][0]
    assert steps[16.0].min() > 4 * steps[None][-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "open"}, "mode\n.*'default', 'no_gate' or 'pure'.*'open'"),
        ({"wiring": "spaghetti"}, "wiring must be one of"),
        ({"kernel": "gpu"}, "kernel must be one of"),
        ({"backbone_activation": "step"}, "activation must be one of"),
        ({"gate_span": 0.0}, "gate_span\n.*greater than 0"),
        ({"gate_span": 8.0, "mode": "pure"}, "for a mode with a gate"),
        ({"units": 0}, "units\n.*greater than or equal to 1"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        CfCConfig(**options)


def test_a_wiring_that_does_not_fit_is_told():
    with pytest.raises(ValueError, match="the wiring has 4 inputs, needed are 5"):
        CfC(INPUTS, 1, wiring=Wiring.auto_ncp(19, 1, 4))
    with pytest.raises(ValueError, match="the 2 units are the outputs, needed are 1"):
        CfC(INPUTS, 1, wiring=Wiring.auto_ncp(19, 2, INPUTS))


@pytest.mark.parametrize("backbone", [{"backbone_layers": 0}, {"backbone_layers": 1, "backbone_units": 2000}], ids=str)
def test_size_is_checked_before_memory_is_taken(backbone: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"this CfC would have .* make it smaller"):
        make_core("cfc", 8, 1, {"wiring": None, "units": 3000, **backbone})
