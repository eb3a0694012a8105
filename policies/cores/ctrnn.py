"""Continuous-time RNN (Funahashi & Nakamura 1993): leaky units with a learned time constant each.

    tau · dh/dt = −h + tanh(W x + U h + b),   y = W_out h + b_out

integrated with K explicit Euler steps of length Δt / K a frame, Δt the elapsed time:

    h ← h + r (−h + tanh(W x + U h + b)),   r = Δt / (K tau), at most 1

At r = 1 a unit arrives at its target, where the explicit step would go past it and, from 2 on, ever further: so the
state stays within [−1, 1] after however long a gap.

    core = CTRNN(32, 1, CTRNNConfig(units=32))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost, readout, seeded
from policies.kernels.cell.program import record
from policies.kernels.cell.sequence import CELL, run_sequence
from policies.kernels.choose import check_kernel
from policies.limits import Positive, Substeps, Units, check_parameters


@dataclass(frozen=True, config={"extra": "forbid"})
class CTRNNConfig:
    """Size, solver steps and the initial time constant."""

    units: Units = 32
    """N, units."""

    substeps: Substeps = 6
    """K, Euler steps a frame; accurate while Δt / K is well below the smallest time constant."""

    tau_init: Positive = 1.0
    """Initial time constant of every unit, in nominal frame periods. It is learned, and stays positive."""

    spectral_radius: Positive = 1.0
    """Largest absolute eigenvalue of the initial U: below 1 the memory fades, above 1 the units may ring on."""

    kernel: str = "auto"
    """What runs the sequence: "auto", "reference", "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        """Check the name of the kernel."""
        check_kernel(CELL, self.kernel)


class CTRNN(Core):
    """Leaky units with a learned time constant each.

    The state is h, `[B, N]`.

    Attributes:
        config: its numbers.
        inputs_to_units: W and b.
        recurrent: U, `[N, N]`.
        raw_tau: `[N]`; the time constant is its softplus.
        readout: N units → M motors.
    """

    def __init__(self, input_size: int, output_size: int, config: CTRNNConfig | None = None, seed: int = 0):
        """Draw W and U from the Gaussian with variance 1/F and 1/N, U scaled to the spectral radius.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its numbers; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.
        """
        super().__init__()
        config = config or CTRNNConfig()
        units = config.units
        check_parameters("this CT-RNN", units * (units + input_size))
        self.input_size, self.output_size, self.state_size = input_size, output_size, units
        self.config = config
        with seeded(seed):
            self.inputs_to_units = nn.Linear(input_size, units)
            nn.init.normal_(self.inputs_to_units.weight, std=input_size**-0.5)
            nn.init.zeros_(self.inputs_to_units.bias)
            recurrent = torch.randn(units, units) / units**0.5
            self.recurrent = nn.Parameter(recurrent * (config.spectral_radius / largest_eigenvalue(recurrent)))
            self.raw_tau = nn.Parameter(torch.full((units,), inverse_softplus(config.tau_init)))
            self.readout = readout(units, output_size)
        self._program = record(self._step, self._weights(), units, units)

    @property
    def tau(self) -> Tensor:
        """`[N]` time constants in nominal frame periods, > 0."""
        return functional.softplus(self.raw_tau)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the units; see `Core.forward`."""
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            drive = self.inputs_to_units(inputs)
            states = run_sequence(
                self._step, self._program, self._weights(), drive, state, elapsed, starts, self.config.kernel
            )
            return self.readout(states), states[:, -1]

    def cost_per_step(self) -> CoreCost:
        """Count synapses and multiply-adds."""
        outside = self.inputs_to_units.weight.numel()
        synapses = outside + self.recurrent.numel()
        return measure_cost(self, synapses, outside + self._program.multiply_adds + self.readout.weight.numel())

    def _weights(self) -> dict[str, Tensor]:
        return {"recurrent": self.recurrent, "rate": 1 / (self.config.substeps * self.tau)}

    def _step(self, ops: Any, weights: Mapping[str, Any], drive: Any, state: Any, elapsed: Any) -> Any:
        rate = ops.gather(elapsed, [0] * self.state_size) * weights["rate"]
        rate = rate / (ops.activation("relu", rate - 1.0) + 1.0)  # min(rate, 1)
        for _ in range(self.config.substeps):
            target = ops.tanh(ops.linear(weights["recurrent"], state, drive))
            state = state + (target - state) * rate
        return state


def inverse_softplus(value: float) -> float:
    """Return x with log(1 + e^x) = value > 0."""
    return value + math.log(-math.expm1(-value))


def largest_eigenvalue(matrix: Tensor) -> float:
    """Return the largest absolute eigenvalue of a square matrix."""
    return float(torch.linalg.eigvals(matrix.double()).abs().max())
