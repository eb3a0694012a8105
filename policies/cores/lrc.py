"""Liquid-resistance liquid-capacitance core (LRC), Farsang et al. 2024, over a wiring's synapses.

With s = sigmoid(sigma (u − mu)) at every synapse, u the feature or the neuron before it:

    f_j = gleak_j + Σ w s,   g_j = gleak_j + Σ h s          conductance, and its part times potential
    dv_j/dt = −v_j sigmoid(f_j) + vleak_j tanh(g_j)
    v ← v + eps dv/dt,   eps = sigmoid(e) Δt (asymmetric) or (sigmoid(e + k) − sigmoid(e − k)) Δt (symmetric),
    e = W [x, v] + b

A step that would go past the resting potential vleak tanh(g) / sigmoid(f), eps sigmoid(f) > 1 after a long gap, ends
there: explicit steps of that size would swing ever further. The elastance eps, which depends on inputs and state,
smooths the oscillations that LTCs can fall into. The state is v, `[B, N]` in the order of the wiring's neuron ids; the
outputs are the motor neurons' v, scaled and shifted.

    core = LRC(32, 1, LRCConfig(units=19))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost, seeded
from policies.kernels.cell.program import record
from policies.kernels.cell.sequence import CELL, run_sequence
from policies.kernels.choose import check_kernel
from policies.limits import Seed, Substeps, Units, check_parameters
from policies.wiring.named import check_wiring, choose_wiring
from policies.wiring.wiring import Wiring


@dataclass(frozen=True, config={"extra": "forbid"})
class LRCConfig:
    """Wiring, form of the elastance, solver steps."""

    wiring: str | dict[str, Any] = "ncp"
    """"ncp" (AutoNCP), "fully_connected", "random", "published_driver", or a wiring's `to_json()`. An `LRC` that is
    given a wiring ignores this and the next three."""

    units: Units = 19
    """N, neurons in all, motor neurons included."""

    sparsity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the possible synapses that an "ncp" or "random" wiring leaves out."""

    wiring_seed: Seed = 22222
    """Seed of the wiring's draws; apart from the weights' seed, so that drivers compare on one circuit."""

    elastance: Literal["asymmetric", "symmetric"] = "asymmetric"
    """"asymmetric" or "symmetric"."""

    substeps: Substeps = 1
    """K, steps a frame, each of length Δt / K."""

    kernel: str = "auto"
    """What runs the sequence: "auto", "reference", "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        """Check the names of wiring and kernel."""
        check_wiring(self.wiring)
        check_kernel(CELL, self.kernel)


class LRC(Core):
    """A sparse circuit with liquid resistance and capacitance.

    Parameters of synapses are in the order of the wiring's: `sensory_…` from features, the others among neurons.

    Attributes:
        config: its choices.
        wiring: which neuron hears which.
        gleak: `[N]`.
        vleak: `[N]`.
        sigma: `[synapses]` steepness, and `sensory_sigma`.
        mu: `[synapses]` value at which a synapse is half open, and `sensory_mu`.
        w: `[synapses]` share in f, and `sensory_w`.
        h: `[synapses]` share in g, initially of the wiring's polarity, and `sensory_h`.
        elastance: W and b: [x, v] → e.
        width: `[N]` k of the symmetric form only; its softplus is used.
        output_w: `[M]`.
        output_b: `[M]`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        config: LRCConfig | None = None,
        seed: int = 0,
        wiring: Wiring | None = None,
    ):
        """Draw the parameters in the ranges of the LTC.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its choices; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.
            wiring: instead of the one that the config names.

        Raises:
            ValueError: if the wiring has other numbers of inputs or outputs.
        """
        super().__init__()
        config = config or LRCConfig()
        self.wiring = choose_wiring(
            config.wiring if wiring is None else wiring.to_json(),
            config.units,
            config.sparsity,
            config.wiring_seed,
            input_size,
            output_size,
        )
        units = self.wiring.units
        check_parameters("this elastance", units * (input_size + units))
        self.input_size, self.output_size, self.state_size = input_size, output_size, units
        self.config = config
        with seeded(seed):
            self.gleak = _uniform(units, 0.001, 1.0)
            self.vleak = _uniform(units, -0.2, 0.2)
            for prefix, synapses in (("sensory_", self.wiring.sensory_array), ("", self.wiring.recurrent_array)):
                count, polarity = len(synapses), torch.tensor(synapses[:, 2], dtype=torch.float32)
                setattr(self, f"{prefix}sigma", _uniform(count, 3.0, 8.0))
                setattr(self, f"{prefix}mu", _uniform(count, 0.3, 0.8))
                setattr(self, f"{prefix}w", _uniform(count, 0.001, 1.0))
                setattr(self, f"{prefix}h", nn.Parameter(_uniform(count, 0.001, 1.0).data * polarity))
            self.elastance = nn.Linear(input_size + units, units)
            nn.init.xavier_uniform_(self.elastance.weight)
            nn.init.zeros_(self.elastance.bias)
        if config.elastance == "symmetric":
            self.width = nn.Parameter(torch.ones(units))
        self.output_w = nn.Parameter(torch.ones(output_size))
        self.output_b = nn.Parameter(torch.zeros(output_size))
        self._program = record(self._step, self._weights(), units + input_size, units)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the circuit; see `Core.forward`."""
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            weight = self.elastance.weight[:, : self.input_size]
            elastance = nn.functional.linear(inputs, weight, self.elastance.bias)
            drive = torch.cat((elastance, inputs), dim=2)  # [B, T, N + F]
            states = run_sequence(
                self._step, self._program, self._weights(), drive, state, elapsed, starts, self.config.kernel
            )
            return states[..., : self.output_size] * self.output_w + self.output_b, states[:, -1]

    def output_map(self) -> tuple[nn.Parameter, ...]:
        """Return weights and biases of the motor neurons; see `Core.output_map`."""
        return self.output_w, self.output_b

    def cost_per_step(self) -> CoreCost:
        """Count synapses of the wiring and multiply-adds, those of the dense elastance included."""
        outside = self.input_size * self.state_size + self.output_size
        return measure_cost(self, self.wiring.synapse_count, outside + self._program.multiply_adds)

    def _weights(self) -> dict[str, Tensor]:
        weights = {name: getattr(self, name) for name in ("gleak", "vleak")}
        weights["elastance"] = self.elastance.weight[:, self.input_size :]
        if self.config.elastance == "symmetric":
            weights["k"] = nn.functional.softplus(self.width)
            weights["minus_k"] = -weights["k"]
        for prefix in ("sensory_", "") if len(self.wiring.recurrent) else ("sensory_",):
            sigma, mu = getattr(self, f"{prefix}sigma"), getattr(self, f"{prefix}mu")
            weights |= {f"{prefix}{name}": getattr(self, f"{prefix}{name}") for name in ("sigma", "w", "h")}
            weights[f"{prefix}offset"] = -sigma * mu
        return weights

    def _synapses(self, ops: Any, weights: Mapping[str, Any], prefix: str, before: Any) -> tuple[Any, Any]:
        """Return `[N]` Σ w s and Σ h s over the synapses from features or neurons."""
        synapses = self.wiring.sensory_array if prefix else self.wiring.recurrent_array
        heard = ops.gather(before, synapses[:, 0].tolist())
        opening = ops.sigmoid(heard * weights[f"{prefix}sigma"] + weights[f"{prefix}offset"])
        targets = synapses[:, 1].tolist()
        return (
            ops.scatter(opening, weights[f"{prefix}w"], targets, self.state_size),
            ops.scatter(opening, weights[f"{prefix}h"], targets, self.state_size),
        )

    def _step(self, ops: Any, weights: Mapping[str, Any], drive: Any, state: Any, elapsed: Any) -> Any:
        """One frame; see `policies.kernels.cell.step`."""
        e_outside, features = ops.split(drive, [self.state_size, self.input_size])
        f_outside, g_outside = self._synapses(ops, weights, "sensory_", features)
        f_outside, g_outside = f_outside + weights["gleak"], g_outside + weights["gleak"]
        for _ in range(self.config.substeps):
            f, g = f_outside, g_outside
            if len(self.wiring.recurrent):
                f_inside, g_inside = self._synapses(ops, weights, "", state)
                f, g = f + f_inside, g + g_inside
            conductance = ops.sigmoid(f)
            slope = ops.tanh(g) * weights["vleak"] - state * conductance
            e = ops.linear(weights["elastance"], state, e_outside)
            if self.config.elastance == "symmetric":
                elastance = ops.sigmoid(e + weights["k"]) - ops.sigmoid(e + weights["minus_k"])
            else:
                elastance = ops.sigmoid(e)
            step = elastance * (elapsed * (1 / self.config.substeps))
            state = state + slope * (step / ops.at_least(step * conductance, 1.0))
        return state


def _uniform(size: int, low: float, high: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(size).uniform_(low, high))
