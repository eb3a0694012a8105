"""Take over an LTC of the reference package, `ncps` for torch.

The package keeps dense `[source, target]` matrices with masks; here each synapse has its own numbers. In its softplus
mode the raw values are taken as they are. In its clipping mode the values themselves are the conductances, so they
pass an inverse softplus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from policies.cores.ltc_config import LTCConfig
from policies.kernels.reference import EPSILON
from policies.wiring import Wiring

if TYPE_CHECKING:
    from policies.cores.ltc import LTC

_POSITIVE = ("gleak", "cm", "w", "sensory_w")


def wiring_from_ncps(wiring: Any) -> Wiring:
    """Take over a built `ncps.wirings.Wiring`, with its layers.

    Raises:
        ValueError: if it is not built, that is, does not know its number of inputs.
    """
    if not wiring.is_built():
        raise ValueError("the ncps wiring does not know its number of inputs; call its build(inputs) first.")
    layers: list[tuple[str, int]] = []
    for neuron in range(wiring.units):
        kind = wiring.get_type_of_neuron(neuron)
        if layers and layers[-1][0] == kind:
            layers[-1] = kind, layers[-1][1] + 1
        else:
            layers.append((kind, 1))
    return Wiring.from_adjacency(
        wiring.sensory_adjacency_matrix, wiring.adjacency_matrix, wiring.output_dim, tuple(layers)
    )


def convert(module: nn.Module, kernel: str = "auto") -> LTC:
    """Return an `LTC` with the outputs of `module`, an `ncps.torch.LTC` or `LTCCell`; see `LTC.from_ncps`."""
    from policies.cores.ltc import LTC, inverse_softplus

    if getattr(module, "use_mixed", False):
        raise ValueError("this ncps LTC has a mixed memory (an LSTM beside it), which LTC has not.")
    cell: Any = getattr(module, "rnn_cell", module)
    if not hasattr(cell, "sensory_sparsity_mask"):
        raise ValueError(f"expected an ncps.torch.LTC or LTCCell, got {type(module).__name__}.")
    if cell._epsilon != EPSILON:
        raise ValueError(f"the ncps cell has epsilon = {cell._epsilon}; LTC has the published {EPSILON}.")
    wiring = wiring_from_ncps(cell._wiring)
    config = LTCConfig(
        wiring=wiring.to_json(),
        units=wiring.units,
        substeps=cell._ode_unfolds,
        input_mapping=cell._input_mapping or "none",
        output_mapping=cell._output_mapping or "none",
        kernel=kernel,
    )
    core = LTC(wiring, config).to(cell.w)
    recurrent = torch.tensor(wiring.recurrent_array[:, :2]).T
    sensory = torch.tensor(wiring.sensory_array[:, :2]).T
    with torch.no_grad():
        for name, ours in core.named_parameters():
            peer = name.removeprefix("raw_")
            values: Tensor = getattr(cell, peer).detach()
            if values.ndim == 2:
                source, target = (sensory if peer.startswith("sensory_") else recurrent).to(values.device)
                values = values[source, target]
            if peer in _POSITIVE and not cell._implicit_param_constraints:
                if bool((values < 0).any()):
                    raise ValueError(
                        f"{peer} of the ncps cell has negative values; call apply_weight_constraints() first."
                    )
                values = inverse_softplus(values)
            ours.copy_(values)
    return core
