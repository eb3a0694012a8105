"""Closed-form continuous-time core (CfC), Hasani et al., Nature Machine Intelligence 2022.

Instead of solving the neurons' equation, each step blends two answers with a gate that elapsed time moves; see
`cfc_layer`. Two shapes:

- fully connected (`wiring=None`): a backbone MLP on [x, h] feeds one layer; a linear read-out makes the motors;
- wired: one layer without a backbone for inter, command and motor neurons in turn, each hearing the one before through
  the wiring's synapses and itself densely. As published, this uses neither the polarities nor the recurrent synapses
  of the wiring. A wiring without those three layers is one layer of all neurons.

Mixed memory puts an LSTM cell in front: (h, c) ← LSTM(x, (h, c)), then h ← CfC(x, h). It keeps c in the state:
`[B, N]`, or `[B, 2N]` as h and c side by side. Wired units are in the order of the wiring's neuron ids, motors first.

    core = CfC(32, 1, CfCConfig(wiring="ncp", units=19))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from policies.cores.activations import check_activation
from policies.cores.cfc_layer import HEADS, CfCLayer
from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost, readout, seeded
from policies.kernels.cell.program import record
from policies.kernels.cell.sequence import CELL, run_sequence
from policies.kernels.choose import check_kernel
from policies.limits import Layers, Positive, Seed, Units, check_parameters
from policies.wiring.named import check_wiring, choose_wiring
from policies.wiring.wiring import Wiring


@dataclass(frozen=True, config={"extra": "forbid"})
class CfCConfig:
    """Shape and mode."""

    wiring: str | dict[str, Any] | None = "ncp"
    """"ncp" (AutoNCP), "fully_connected", "random", "published_driver", a wiring's `to_json()`; None for a fully
    connected CfC with a backbone. A `CfC` that is given a wiring ignores this and the next three."""

    units: Units = 19
    """N, units; motor neurons included when wired."""

    sparsity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the possible synapses that an "ncp" or "random" wiring leaves out."""

    wiring_seed: Seed = 22222
    """Seed of the wiring's draws; apart from the weights' seed, so that drivers compare on one circuit."""

    mode: Literal["default", "no_gate", "pure"] = "default"
    """"default", "no_gate" or "pure"."""

    mixed_memory: bool = False
    """Whether an LSTM cell carries the memory."""

    backbone_units: Units = 128
    """Units of each backbone layer; without a wiring only."""

    backbone_layers: Layers = 1
    """Backbone layers, 0 for none; without a wiring only."""

    backbone_activation: str = "lecun_tanh"
    """A name in `policies.cores.activations.ACTIVATIONS`; without a wiring only."""

    gate_span: Positive | None = None
    """Elapsed time, nominal periods, over which the gates' opening times are spread at the start (see `cfc_layer`): the
    longest time that the core must tell from others. None draws the gates as published."""

    readout: bool | None = None
    """Whether a linear map leads from the units (the motor neurons when wired) to the motors; None: unless wired."""

    kernel: str = "auto"
    """What runs the sequence: "auto", "reference", "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        """Check the names, and that a span has gates to spread."""
        if self.wiring is not None:
            check_wiring(self.wiring)
        if self.gate_span is not None and "time_b" not in HEADS[self.mode]:
            raise ValueError(f"gate_span is for a mode with a gate, mode {self.mode!r} has none. Leave it out.")
        check_activation(self.backbone_activation)
        check_kernel(CELL, self.kernel)


class CfC(Core):
    """A closed-form continuous-time circuit.

    Attributes:
        config: its shape and mode.
        wiring: its wiring, or None.
        backbone: linear layers on [x, h]; empty when wired.
        layers: the liquid layers in the order in which they run; one without a wiring.
        memory_in: x → the LSTM's gates (input, input gate, forget gate, output gate), with mixed memory only.
        memory_recurrent: h → the LSTM's gates.
        readout: units (motor neurons when wired) → motors; the identity without a read-out.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        config: CfCConfig | None = None,
        seed: int = 0,
        wiring: Wiring | None = None,
    ):
        """Build the circuit.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its shape and mode; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.
            wiring: instead of the one that the config names.

        Raises:
            ValueError: if the wiring has other numbers of inputs or outputs, or there is no read-out and the units are
                more or fewer than the motors.
        """
        super().__init__()
        config = config or CfCConfig()
        if wiring is None and isinstance(config.wiring, dict):
            wiring = Wiring.from_json(config.wiring)
        elif wiring is None and config.wiring is not None:
            named = config.wiring, config.units, config.sparsity, config.wiring_seed
            wiring = choose_wiring(*named, input_size, output_size)
        if wiring is not None and wiring.inputs != input_size:
            raise ValueError(f"the wiring has {wiring.inputs} inputs, needed are {input_size}.")
        width = config.units if wiring is None else wiring.outputs
        reads_out = wiring is None if config.readout is None else config.readout
        if not reads_out and width != output_size:
            raise ValueError(f"without a read-out the {width} units are the outputs, needed are {output_size}.")
        self.config, self.wiring = config, wiring
        self.units = config.units if wiring is None else wiring.units
        hidden = config.backbone_units if config.backbone_layers and wiring is None else 0
        hears = hidden or input_size + self.units
        check_parameters(
            "this CfC", hidden * (input_size + self.units + config.backbone_layers * hidden) + 4 * self.units * hears
        )
        self.input_size, self.output_size = input_size, output_size
        self.state_size = self.units * (1 + config.mixed_memory)
        self._width = width
        self.backbone, self.layers = nn.ModuleList(), nn.ModuleList()
        self._spans = [range(self.units)] if wiring is None else layer_spans(wiring)
        with seeded(seed):
            if wiring is None:
                self._build_full()
            else:
                self._build_wired(wiring)
            if config.gate_span is not None:
                for layer in self._liquid():
                    layer.spread_gates(config.gate_span)
            if config.mixed_memory:
                self.memory_in = nn.Linear(input_size, 4 * self.units)
                self.memory_recurrent = nn.Linear(self.units, 4 * self.units, bias=False)
                nn.init.xavier_uniform_(self.memory_in.weight)
                nn.init.uniform_(self.memory_in.bias, -0.1, 0.1)
                nn.init.orthogonal_(self.memory_recurrent.weight)
            self.readout = readout(width, output_size) if reads_out else nn.Identity()
        outside, _, inside = self._weights()
        self._hearing = len(outside) - 4 * self.units * config.mixed_memory
        self._program = record(self._step, inside, len(outside), self.state_size)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the circuit; see `Core.forward`."""
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            outside, bias, inside = self._weights()
            drive = functional.linear(inputs, outside, bias)
            states = run_sequence(self._step, self._program, inside, drive, state, elapsed, starts, self.config.kernel)
            return self.readout(states[..., : self._width]), states[:, -1]

    def cost_per_step(self) -> CoreCost:
        """Count synapses (of ff1, where sparse) and multiply-adds (dense, as computed)."""
        synapses = sum(layer.weight.numel() for layer in self.backbone)  # type: ignore[misc,operator]
        for layer in self._liquid():
            ff1 = torch.ones_like(layer.weight) if layer.mask is None else layer.mask
            synapses += int(ff1[: layer.units].sum())
        outside = self._weights()[0].numel()
        motors = self.readout.weight.numel() if isinstance(self.readout, nn.Linear) else 0
        return measure_cost(self, int(synapses), outside + self._program.multiply_adds + motors)

    def _build_full(self) -> None:
        config = self.config
        hears = self.input_size + self.units
        for _ in range(config.backbone_layers):
            self.backbone.append(nn.Linear(hears, config.backbone_units))
            nn.init.xavier_uniform_(self.backbone[-1].weight)  # type: ignore[arg-type]
            hears = config.backbone_units
        self.layers.append(CfCLayer(config.mode, hears, self.units))

    def _build_wired(self, wiring: Wiring) -> None:
        sensory, recurrent = (torch.from_numpy(matrix).abs().float() for matrix in wiring.adjacency())
        before: range | None = None
        for span in self._spans:
            heard = sensory[:, list(span)] if before is None else recurrent[list(before)][:, list(span)]
            mask = torch.cat((heard.T, torch.ones(len(span), len(span))), dim=1)  # [n, m + n]
            self.layers.append(CfCLayer(self.config.mode, mask.shape[1], len(span), mask))
            before = span

    def _liquid(self) -> list[CfCLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def _weights(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return weight `[P, F]` and bias `[P]` of all that hears the features, and by name what `_step` uses."""
        inside: dict[str, Tensor] = {}
        first, bias = self._add_backbone(inside) if len(self.backbone) else self._add_layers(inside)
        if not self.config.mixed_memory:
            return first, bias, inside
        inside["memory"] = self.memory_recurrent.weight
        return torch.cat((first, self.memory_in.weight)), torch.cat((bias, self.memory_in.bias)), inside

    def _add_backbone(self, inside: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Note the weights of a fully connected core; return the first layer's for the features."""
        linears: list[nn.Linear] = list(self.backbone)  # type: ignore[arg-type]
        outside, inside["backbone_0"] = linears[0].weight.split([self.input_size, self.units], dim=1)
        for k, linear in enumerate(linears[1:], start=1):
            inside |= {f"backbone_{k}": linear.weight, f"backbone_bias_{k}": linear.bias}
        layer = self._liquid()[0]
        inside |= {"heads": layer.effective_weight, "bias_0": layer.bias, **layer.own_weights("_0")}
        return outside, linears[0].bias

    def _add_layers(self, inside: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Note the weights of layers without a backbone; return the first one's for the features."""
        outside = None
        for k, layer in enumerate(self._liquid()):
            weight = layer.effective_weight
            hears, inside[f"itself_{k}"] = weight.split([weight.shape[1] - layer.units, layer.units], dim=1)
            inside |= layer.own_weights(f"_{k}")
            if outside is None:
                outside = hears
            else:
                inside |= {f"hears_{k}": hears, f"bias_{k}": layer.bias}
        assert outside is not None
        return outside, self._liquid()[0].bias

    def _step(self, ops: Any, weights: Mapping[str, Any], drive: Any, state: Any, elapsed: Any) -> Any:
        """One step of the circuit; see `policies.kernels.cell.step`."""
        units, cell = self.units, None
        if self.config.mixed_memory:
            state, cell = ops.split(state, [units, units])
            drive, gates = ops.split(drive, [self._hearing, 4 * units])
            value, admit, keep, show = ops.split(ops.linear(weights["memory"], state, gates), [units] * 4)
            cell = cell * ops.sigmoid(keep + 1.0) + ops.tanh(value) * ops.sigmoid(admit)
            state = ops.tanh(cell) * ops.sigmoid(show)
        run = self._full_step if len(self.backbone) else self._layered_step
        new = run(ops, weights, drive, state, elapsed)
        return new if cell is None else ops.concat([new, cell])

    def _full_step(self, ops: Any, weights: Mapping[str, Any], drive: Any, state: Any, elapsed: Any) -> Any:
        config, layer = self.config, self._liquid()[0]
        hidden = ops.activation(config.backbone_activation, ops.linear(weights["backbone_0"], state, drive))
        for k in range(1, config.backbone_layers):
            hidden = ops.linear(weights[f"backbone_{k}"], hidden) + weights[f"backbone_bias_{k}"]
            hidden = ops.activation(config.backbone_activation, hidden)
        heads = ops.linear(weights["heads"], hidden) + weights["bias_0"]
        return layer.blend(ops, _own(weights, 0), heads, elapsed)

    def _layered_step(self, ops: Any, weights: Mapping[str, Any], drive: Any, state: Any, elapsed: Any) -> Any:
        # Neuron ids run from the last layer to the first.
        olds = ops.split(state, [len(span) for span in reversed(self._spans)])[::-1]
        news: list[Any] = []
        for k, (layer, old) in enumerate(zip(self._liquid(), olds, strict=True)):
            heard = drive if k == 0 else ops.linear(weights[f"hears_{k}"], news[-1]) + weights[f"bias_{k}"]
            heads = ops.linear(weights[f"itself_{k}"], old, heard)
            news.append(layer.blend(ops, _own(weights, k), heads, elapsed))
        return ops.concat(news[::-1]) if len(news) > 1 else news[0]


def layer_spans(wiring: Wiring) -> list[range]:
    """Return the neuron ids of each layer in the order in which they run: inter, command, motor; or all at once."""
    if [name for name, _ in wiring.layers] == ["motor", "command", "inter"]:
        return [wiring.layer(name) for name in ("inter", "command", "motor")]
    return [range(wiring.units)]


def _own(weights: Mapping[str, Any], k: int) -> dict[str, Any]:
    return {name: weights[f"{name}_{k}"] for name in ("w_tau", "limit") if f"{name}_{k}" in weights}
