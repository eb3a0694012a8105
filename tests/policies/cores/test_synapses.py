"""What a synapse does to the neuron that it ends at: which way it pulls, and how much quicker it makes it."""

from __future__ import annotations

import pytest
import torch

from policies.cores import make_core
from policies.cores.lrc import LRC
from policies.cores.ltc import LTC, LTCConfig
from policies.wiring.wiring import Wiring

OPPOSITES = Wiring(
    inputs=1,
    layers=(("motor", 2), ("inter", 2)),
    sensory=((0, 0, 1), (0, 1, -1), (0, 2, 1), (0, 3, -1)),
    recurrent=(),
)
"""One feature that excites neurons 0 and 2 and inhibits 1 and 3."""


def let_only_the_potential_differ(core: LRC) -> None:
    """Make the synapses' share in the conductance small: it too moves the resting potential, whatever the polarity."""
    core.vleak.fill_(0.2)
    core.sensory_w.fill_(0.01)
    if len(core.wiring.recurrent):
        core.w.fill_(0.01)


@pytest.mark.parametrize("name", ["ltc", "lrc"])
def test_a_feature_raises_what_it_excites_and_lowers_what_it_inhibits(name: str) -> None:
    for seed in range(3):
        core = make_core(name, 1, 2, {"wiring": OPPOSITES.to_json()}, seed=seed)
        with torch.no_grad():
            if name == "lrc":
                let_only_the_potential_differ(core)
            long = torch.full((1, 30), 1e6)  # each frame lasts until the neurons rest
            _, silent = core(torch.full((1, 30, 1), -5.0), None, long)
            _, driven = core(torch.full((1, 30, 1), 5.0), None, long)
        change = (driven - silent)[0]
        assert (change[[0, 2]] > 5e-4).all() and (change[[1, 3]] < -5e-4).all(), change


@pytest.mark.parametrize("name", ["ltc", "lrc"])
def test_a_neuron_raises_what_it_excites_and_lowers_what_it_inhibits(name: str) -> None:
    wiring = Wiring(
        inputs=1, layers=(("motor", 2), ("inter", 1)), sensory=((0, 2, 1),), recurrent=((2, 0, 1), (2, 1, -1))
    )
    core = make_core(name, 1, 2, {"wiring": wiring.to_json()}, seed=0)
    with torch.no_grad():
        core.mu.fill_(0.0)
        if name == "lrc":
            let_only_the_potential_differ(core)
        # The explicit step of an LRC reads the neuron before it; the LTC's many small ones follow it as it moves.
        last = torch.full((1, 1), 1e6 if name == "lrc" else 0.1)
        _, low = core(torch.zeros(1, 1, 1), torch.tensor([[0.0, 0.0, -1.0]]), last)
        _, high = core(torch.zeros(1, 1, 1), torch.tensor([[0.0, 0.0, 1.0]]), last)
    change = (high - low)[0]
    assert change[0] > 1e-3 and change[1] < -1e-3, change


@pytest.mark.parametrize("feature", [-4.0, 0.5, 4.0])
def test_a_difference_of_voltages_dies_away_with_the_time_constant(feature: float) -> None:
    """Two copies of one circuit under one input: e^(−Δt / tau) of their difference is left, tau with its synapses."""
    core = LTC(OPPOSITES, LTCConfig(solver="rk4", substeps=40), seed=1)
    inputs = torch.full((2, 1, 1), feature)
    states = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.4, -0.4, 0.3, 0.2]])
    with torch.no_grad():
        tau = core.time_constants(inputs[0, 0], states[0])
        _, after = core(inputs, states, torch.full((2, 1), 0.5))
    left = (after[1] - after[0]) / (states[1] - states[0])
    torch.testing.assert_close(left, torch.exp(-0.5 / tau), rtol=1e-4, atol=0)


def test_an_open_synapse_makes_its_neuron_quicker() -> None:
    core = LTC(OPPOSITES, seed=1)
    with torch.no_grad():
        shut, wide = (core.time_constants(torch.tensor([level]), torch.zeros(4)) for level in (-9.0, 9.0))
    assert (wide < 0.95 * shut).all()


def test_an_explicit_solver_follows_a_gap_of_any_length_to_its_end() -> None:
    slow = LTCConfig(solver="rk4", substeps=4, gleak_init=(0.01, 0.1), w_init=(0.001, 0.05))
    core = LTC(OPPOSITES, slow, seed=1)
    inputs, states = torch.full((2, 1, 1), 0.5), torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.4, -0.4, 0.3, 0.2]])
    with torch.no_grad():
        tau = core.time_constants(inputs[0, 0], states[0])
        _, after = core(inputs, states, torch.full((2, 1), 2.5))
    left = (after[1] - after[0]) / (states[1] - states[0])
    torch.testing.assert_close(left, torch.exp(-2.5 / tau), rtol=1e-4, atol=0)
