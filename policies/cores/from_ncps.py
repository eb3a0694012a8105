"""Take over circuits of the reference package, `ncps` for torch, with their weights.

    core = ltc_from_ncps(ncps.torch.LTC(32, wiring))
    core = cfc_from_ncps(ncps.torch.CfC(32, wiring))

An `ncps` LTC keeps dense `[source, target]` matrices with masks; here each synapse has its own numbers. In its softplus
mode the raw values are taken as they are. In its clipping mode the values themselves are the conductances, so they
pass an inverse softplus. A CfC is taken fully connected or wired, in any mode, with or without mixed memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from policies.cores.cfc import CfC, CfCConfig, layer_spans
from policies.cores.cfc_layer import HEADS, CfCLayer
from policies.cores.ltc import LTC, LTCConfig, inverse_softplus
from policies.kernels.ltc.reference import EPSILON
from policies.wiring.wiring import Wiring

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


def ltc_from_ncps(module: nn.Module, kernel: str = "auto") -> LTC:
    """Return a core with the outputs of `module` on the same inputs, to rounding.

    Args:
        module: an `ncps.torch.LTC` or `LTCCell`.
        kernel: what runs the core; a value of `LTCConfig.kernel`.

    Raises:
        ValueError: if it is neither, or has something that an `LTC` has not, such as mixed memory.
    """
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


_ACTIVATIONS = {nn.SiLU: "silu", nn.ReLU: "relu", nn.Tanh: "tanh", nn.GELU: "gelu"}


def cfc_from_ncps(module: Any, kernel: str = "auto") -> CfC:
    """Return a core with the outputs of `module` on the same inputs, elapsed times as its timespans.

    The state holds the neurons in the order of their ids, motor neurons first; the peer's wired state runs from the
    inter to the motor neurons.

    Args:
        module: an `ncps.torch.CfC`.
        kernel: what runs the core; a value of `CfCConfig.kernel`.

    Raises:
        ValueError: if it is none, or was built with backbone dropout, which has no counterpart here.
    """
    cell = getattr(module, "rnn_cell", None)
    if cell is None or not hasattr(module, "use_mixed"):
        raise ValueError(f"cfc_from_ncps needs an ncps.torch.CfC, got {type(module).__name__}.")
    wiring = _wiring(cell._wiring) if hasattr(cell, "_wiring") else None
    cells = [cell] if wiring is None else list(cell._layers)
    config = _config(module, cells[0], wiring, kernel)
    width = wiring.outputs if wiring is not None else int(module.state_size)
    outputs = width if module.proj_size is None else int(module.proj_size)
    core = CfC(int(module.input_size), outputs, config)
    core.to(next(module.parameters()))
    with torch.no_grad():
        if module.proj_size is not None:
            core.readout.load_state_dict(module.fc.state_dict())
        for mine, theirs in zip(core.layers, cells, strict=True):
            _copy_layer(mine, theirs)  # type: ignore[arg-type]
        if wiring is None and config.backbone_layers:
            linears = [layer for layer in cell.backbone if isinstance(layer, nn.Linear)]
            for linear, other in zip(core.backbone, linears, strict=True):
                linear.load_state_dict(other.state_dict())
        if config.mixed_memory:
            _copy_memory(core, module.lstm, wiring)
    return core


def _config(module: Any, cell: Any, wiring: Wiring | None, kernel: str) -> CfCConfig:
    mixed, reads_out = bool(module.use_mixed), module.proj_size is not None
    if wiring is not None:
        return CfCConfig(
            wiring.to_json(), wiring.units, mode=cell.mode, mixed_memory=mixed, readout=reads_out, kernel=kernel
        )
    layers = list(cell.backbone or [])
    if any(isinstance(layer, nn.Dropout) for layer in layers):
        raise ValueError("cfc_from_ncps takes no backbone dropout. Build the peer with backbone_dropout=0.")
    return CfCConfig(
        wiring=None,
        units=int(module.state_size),
        mode=cell.mode,
        mixed_memory=mixed,
        backbone_units=layers[0].out_features if layers else 1,
        backbone_layers=int(cell.backbone_layers),
        backbone_activation=_ACTIVATIONS.get(type(layers[1]), "lecun_tanh") if layers else "lecun_tanh",
        readout=reads_out,
        kernel=kernel,
    )


def _wiring(peer: Any) -> Wiring:
    """Rebuild the peer's wiring; one without layers gives all its neurons as outputs, as the peer does."""
    sizes = [len(peer.get_neurons_of_layer(k)) for k in range(peer.num_layers)]
    layers: tuple[tuple[str, int], ...]
    if len(sizes) == 3:
        layers = (("motor", sizes[2]), ("command", sizes[1]), ("inter", sizes[0]))
    else:
        layers = (("motor", peer.units),)
    return Wiring.from_adjacency(peer.sensory_adjacency_matrix, peer.adjacency_matrix, layers[0][1], layers)


def _copy_layer(mine: CfCLayer, theirs: Any) -> None:
    heads = [getattr(theirs, name) for name in HEADS[mine.mode]]
    mine.weight.copy_(torch.cat([head.weight for head in heads]))
    mine.bias.copy_(torch.cat([head.bias for head in heads]))
    if mine.mode == "pure":
        mine.w_tau.copy_(theirs.w_tau[0])
        mine.limit.copy_(theirs.A[0])


def _copy_memory(core: CfC, lstm: Any, wiring: Wiring | None) -> None:
    """Copy the LSTM; its units go from the peer's order, first layer first, to the order of the neuron ids."""
    ids = [i for span in layer_spans(wiring) for i in span] if wiring is not None else list(range(core.units))
    place = torch.tensor(ids).argsort()  # the peer's place of each neuron id

    def reorder(gates: Tensor) -> Tensor:
        return gates.unflatten(0, (4, core.units))[:, place].flatten(0, 1)

    core.memory_in.weight.copy_(reorder(lstm.input_map.weight))
    core.memory_in.bias.copy_(reorder(lstm.input_map.bias))
    core.memory_recurrent.weight.copy_(reorder(lstm.recurrent_map.weight)[:, place])
