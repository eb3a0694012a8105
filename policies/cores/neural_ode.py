"""Neural ODE (Chen et al. 2018) driven by the features: the state flows along a learned field.

    dx/dt = f(x, I; theta),   y = W_out x + b_out,   f = W_n a(… a(W_1 [x, I] + b_1) …) + b_n

I is held over a frame; each frame is integrated over its elapsed time Δt, at most `longest_gap`. Solvers: `euler` and
`rk4` with K equal steps, and `adaptive` (Dormand-Prince through torchdiffeq, the extra `ode`), which solves every frame
on its own.

    core = NeuralODE(32, 1, NeuralODEConfig(units=32, layers=2, width=64, activation="leaky_relu"))
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from policies.cores.activations import check_activation
from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost, readout, seeded
from policies.kernels.cell.program import record
from policies.kernels.cell.sequence import CELL, run_sequence
from policies.kernels.cell.step import TorchOps
from policies.kernels.choose import check_kernel
from policies.limits import Positive, Substeps, Units, check_parameters


@dataclass(frozen=True, config={"extra": "forbid"})
class NeuralODEConfig:
    """Size of the state and of the field, and how it is integrated."""

    units: Units = 32
    """N, numbers of the state x."""

    layers: Annotated[int, Field(ge=2, le=256)] = 2
    """n, linear layers of f, at least 2: n − 1 hidden ones and the last."""

    width: Units = 64
    """k, units of each hidden layer."""

    activation: str = "tanh"
    """After every layer but the last; a name in `policies.cores.activations.ACTIVATIONS`."""

    solver: Literal["euler", "rk4", "adaptive"] = "rk4"
    """"euler", "rk4" or "adaptive"."""

    substeps: Substeps = 2
    """K, solver steps a frame; the adaptive solver chooses its own."""

    longest_gap: Positive = 10.0
    """Longest span that one frame is integrated over, nominal frame periods. A longer gap counts as this long: nothing
    in a learned field brings the state back, so it would drift off with the time."""

    rtol: Positive = 1e-5
    """Relative tolerance of the adaptive solver."""

    atol: Positive = 1e-6
    """Absolute tolerance of the adaptive solver."""

    kernel: str = "auto"
    """What runs the fixed-step solvers: "auto", "reference", "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        """Check the names of activation and kernel."""
        check_activation(self.activation)
        check_kernel(CELL, self.kernel)


class NeuralODE(Core):
    """A state that flows along the vector field of a small network.

    The state is x, `[B, N]`.

    Attributes:
        config: its numbers.
        field: the n linear layers of f; the first hears [I, x].
        readout: N → M motors.
    """

    def __init__(self, input_size: int, output_size: int, config: NeuralODEConfig | None = None, seed: int = 0):
        """Draw the weights from `seed`.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its numbers; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.

        Raises:
            ModuleNotFoundError: if the solver is adaptive and torchdiffeq is not installed.
        """
        super().__init__()
        config = config or NeuralODEConfig()
        if config.solver == "adaptive" and importlib.util.find_spec("torchdiffeq") is None:
            raise ModuleNotFoundError("solver='adaptive' needs torchdiffeq: pip install -e '.[ode]' in a checkout.")
        self.input_size, self.output_size, self.state_size = input_size, output_size, config.units
        self.config = config
        sizes = [input_size + config.units, *[config.width] * (config.layers - 1), config.units]
        check_parameters("this field", sum(a * b for a, b in pairwise(sizes)))
        with seeded(seed):
            self.field = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
            self.readout = readout(config.units, output_size)
        self._program = record(self._step, self._weights(), config.width, config.units)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Integrate frame after frame; see `Core.forward`."""
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            elapsed = elapsed.clamp(max=self.config.longest_gap)
            first = self._linear(0)
            drive = nn.functional.linear(inputs, first.weight[:, : self.input_size], first.bias)
            if self.config.solver == "adaptive":
                states = self._solve(drive, state, elapsed, starts)
            else:
                states = run_sequence(
                    self._step, self._program, self._weights(), drive, state, elapsed, starts, self.config.kernel
                )
            return self.readout(states), states[:, -1]

    def cost_per_step(self) -> CoreCost:
        """Count synapses and multiply-adds; those of the adaptive solver as if it took K Euler steps."""
        synapses = sum(self._linear(k).weight.numel() for k in range(self.config.layers))
        outside = self.input_size * self.config.width + self.readout.weight.numel()
        return measure_cost(self, synapses, outside + self._program.multiply_adds)

    def _linear(self, k: int) -> nn.Linear:
        layer = self.field[k]
        assert isinstance(layer, nn.Linear)
        return layer

    def _weights(self) -> dict[str, Tensor]:
        weights = {"weight_0": self._linear(0).weight[:, self.input_size :]}
        for k in range(1, self.config.layers):
            weights |= {f"weight_{k}": self._linear(k).weight, f"bias_{k}": self._linear(k).bias}
        return weights

    def _field(self, ops: Any, weights: Mapping[str, Any], drive: Any, x: Any) -> Any:
        """Return dx/dt."""
        x = ops.linear(weights["weight_0"], x, drive)
        for k in range(1, self.config.layers):
            x = ops.linear(weights[f"weight_{k}"], ops.activation(self.config.activation, x)) + weights[f"bias_{k}"]
        return x

    def _step(self, ops: Any, weights: Mapping[str, Any], drive: Any, state: Any, elapsed: Any) -> Any:
        """Integrate over one frame; see `policies.kernels.cell.step`."""
        h = elapsed * (1 / self.config.substeps)
        for _ in range(self.config.substeps):
            k1 = self._field(ops, weights, drive, state)
            if self.config.solver != "rk4":
                state = state + k1 * h
                continue
            k2 = self._field(ops, weights, drive, state + k1 * (h * 0.5))
            k3 = self._field(ops, weights, drive, state + k2 * (h * 0.5))
            k4 = self._field(ops, weights, drive, state + k3 * h)
            state = state + (k1 + (k2 + k3) * 2.0 + k4) * (h * (1 / 6))
        return state

    def _solve(self, drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor) -> Tensor:
        """Integrate every frame to the tolerances, time scaled so that each sample's frame lasts from 0 to 1."""
        from torchdiffeq import odeint

        ops, weights, states = TorchOps(), self._weights(), []
        span = torch.tensor([0.0, 1.0], dtype=state.dtype, device=state.device)
        for t in range(drive.shape[1]):
            state = torch.where(starts[:, t, None], 0, state)
            held, length = drive[:, t], elapsed[:, t, None]

            def flow(_: Tensor, x: Tensor, held: Tensor = held, length: Tensor = length) -> Tensor:
                return self._field(ops, weights, held, x) * length

            if len(state):  # with no sample the solver finds no step that is short enough
                state = odeint(flow, state, span, rtol=self.config.rtol, atol=self.config.atol, method="dopri5")[-1]
            states.append(state)
        return torch.stack(states, dim=1)
