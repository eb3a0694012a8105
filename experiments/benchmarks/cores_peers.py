"""Who is measured in the benchmark of cores, and that ours give what the reference package gives.

Ours take over the weights of the reference's, so outputs and input gradients have to agree before any speed counts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from policies.cores.from_ncps import cfc_from_ncps, ltc_from_ncps

INPUTS = 32
LSTM_UNITS = 64
MOTORS = {19: 1, 64: 4, 302: 10}
"""Motor neurons of the circuit of each size."""
SPARSITY = {19: 0.5, 64: 0.5, 302: 0.95}
"""Share of the possible synapses left out; 19 and 64 neurons are NCPs, 302 a random circuit, 5 % dense like the
worm's."""
AGREEMENT = 2e-5
"""Largest difference of outputs from the reference package, relative to the largest output."""


def peers(units: int) -> dict[str, nn.Module]:
    """Make ours and the reference package's, with the same weights, and the LSTM.

    Raises:
        ValueError: if the reference package is not installed.
    """
    try:
        import ncps.torch as reference
        import ncps.wirings as wirings
    except ModuleNotFoundError as error:
        raise ValueError("the peer is not installed: pip install -e '.[bench]'.") from error
    motors, sparsity = MOTORS[units], SPARSITY[units]
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    if units == 302:
        wiring: Any = wirings.Random(units, motors, sparsity_level=sparsity)
    else:
        wiring = wirings.AutoNCP(units, motors, sparsity_level=sparsity)
    made: dict[str, nn.Module] = {"LTC, ncps": reference.LTC(INPUTS, wiring, batch_first=True)}
    made["LTC"] = ltc_from_ncps(made["LTC, ncps"])
    if units != 302:  # the reference's wired CfC needs the layers of an NCP
        ncp = wirings.AutoNCP(units, motors, sparsity_level=sparsity)
        made["wired CfC, ncps"] = reference.CfC(INPUTS, ncp, batch_first=True)
        made["wired CfC"] = cfc_from_ncps(made["wired CfC, ncps"])
    made["LSTM, torch"] = nn.LSTM(INPUTS, LSTM_UNITS, batch_first=True)
    torch.random.set_rng_state(state)
    return made


def check_agreement(units: int) -> None:
    """Compare outputs and input gradients with the reference package's.

    Raises:
        RuntimeError: if they differ.
    """
    models = peers(units)
    inputs = torch.randn(5, 9, INPUTS, generator=torch.Generator().manual_seed(1))
    for name in ("LTC", "wired CfC"):
        if name not in models:
            continue
        results = []
        for model in (models[name], models[f"{name}, ncps"]):
            here = inputs.clone().requires_grad_()
            outputs = model(here)[0]
            outputs.square().sum().backward()
            assert here.grad is not None
            results.append((outputs.detach(), here.grad))
        for what, ours, theirs in zip(("outputs", "input gradients"), *results, strict=True):
            error = float((ours - theirs).abs().max() / theirs.abs().max())
            if not error < (AGREEMENT if what == "outputs" else 50 * AGREEMENT):
                raise RuntimeError(f"{name} of {units} neurons: {what} differ from the reference by {error:.1e}.")
