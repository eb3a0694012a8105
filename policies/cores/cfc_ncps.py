"""Take over the weights of an `ncps.torch.CfC`, fully connected or wired, in any mode, with or without mixed memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from policies.cores.cfc import CfC, CfCConfig, layer_spans
from policies.cores.cfc_layer import HEADS, CfCLayer
from policies.wiring import Wiring

_ACTIVATIONS = {nn.SiLU: "silu", nn.ReLU: "relu", nn.Tanh: "tanh", nn.GELU: "gelu"}


def convert(module: Any, kernel: str = "auto") -> CfC:
    """Return a core with the outputs of `module` on the same inputs, elapsed times as its timespans.

    The state holds the neurons in the order of their ids, motor neurons first; the peer's wired state runs from the
    inter to the motor neurons.

    Args:
        module: an `ncps.torch.CfC`.
        kernel: as in `CfCConfig`.

    Raises:
        ValueError: if it is none, or was built with backbone dropout, which has no counterpart here.
    """
    cell = getattr(module, "rnn_cell", None)
    if cell is None or not hasattr(module, "use_mixed"):
        raise ValueError(f"CfC.from_ncps needs an ncps.torch.CfC, got {type(module).__name__}.")
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
        raise ValueError("CfC.from_ncps takes no backbone dropout. Build the peer with backbone_dropout=0.")
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
