"""Reservoir core, or liquid state machine (Maass et al. 2002, Jaeger 2001): any core, frozen and random.

    r_t = core(x_t, …) with random weights that never learn,   y_t = W r_t + b

Only W and b are trained: by gradient descent like any core, or at once by ridge regression on recorded features:

    frozen = make_core("ctrnn", input_size=32, output_size=64, config={"units": 128}, seed=0)
    reservoir = Reservoir(frozen, output_size=1)  # or by name: make_core("reservoir", 32, 1)
    features, _ = reservoir.features(inputs)
    error = reservoir.fit_readout(features, targets, ridge=1e-3)
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from policies.cores.core import Core, CoreCost, full_precision, measure_cost, readout, seeded
from policies.limits import Units


@dataclass(frozen=True, config={"extra": "forbid"})
class ReservoirConfig:
    """What is frozen, and how much of it the read-out sees."""

    core: str = "ctrnn"
    """Name of the frozen core; any but "reservoir"."""

    core_options: dict[str, Any] = field(default_factory=dict)
    """Fields of that core's config that differ from its defaults."""

    features: Units = 32
    """D, outputs of the frozen core: random mixtures of its units, or motor neurons where it has no read-out."""

    def __post_init__(self) -> None:
        """A reservoir in a reservoir would have no end."""
        if self.core == "reservoir":
            raise ValueError("a reservoir cannot hold a reservoir: name another core.")


class Reservoir(Core):
    """A frozen random core and a trained linear read-out.

    Attributes:
        config: what the frozen core was made from, or None.
        frozen: the core; its parameters take no gradient, but gradients pass through to inputs and state.
        readout: D features → M motors, the only part that learns.
    """

    def __init__(self, frozen: Core, output_size: int, config: ReservoirConfig | None = None, seed: int = 0):
        """Freeze a core and draw the first read-out from `seed`.

        Args:
            frozen: the core; its D outputs are the features.
            output_size: M, motor outputs a step.
            config: what the frozen core was made from, kept for whoever asks.
            seed: of the read-out's initial weights; torch's global generators are left alone.
        """
        super().__init__()
        self.config = config
        self.frozen = frozen.requires_grad_(False)
        self.input_size, self.state_size, self.output_size = frozen.input_size, frozen.state_size, output_size
        with seeded(seed):
            self.readout = readout(frozen.output_size, output_size)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the frozen core and read it out; see `Core.forward`. The state is the frozen core's."""
        features, state = self.features(inputs, state, elapsed, starts)
        with full_precision(inputs):
            return self.readout(features), state

    def features(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the read-out sees, `[B, T, D]`, and the `[B, S]` state; arguments as `forward`."""
        return self.frozen(inputs, state, elapsed, starts)

    @torch.no_grad()
    def fit_readout(self, features: Tensor, targets: Tensor, ridge: float = 1e-3) -> float:
        """Set the read-out to the ridge regression of targets on features, in closed form.

        It minimises the mean squared error plus `ridge` times the squared weights; the bias is not punished.

        Args:
            features: `[…, D]` as `features` returns them.
            targets: `[…, M]`, as many.
            ridge: ≥ 0; 0 is least squares.

        Returns:
            Mean squared error over the given samples.

        Raises:
            ValueError: if a shape is wrong or `ridge` is negative.
        """
        if features.shape[:-1] != targets.shape[:-1] or features.shape[-1] != self.frozen.output_size:
            raise ValueError(
                f"features must be [..., {self.frozen.output_size}] and targets [..., {self.output_size}] with equal "
                f"leading sizes, got {tuple(features.shape)} and {tuple(targets.shape)}."
            )
        if targets.shape[-1] != self.output_size:
            raise ValueError(f"targets must have {self.output_size} columns, got {targets.shape[-1]}.")
        if ridge < 0:
            raise ValueError(f"ridge must not be negative, got {ridge}.")
        x, y = features.flatten(0, -2).double(), targets.flatten(0, -2).double()
        x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
        x_centred, y_centred = x - x_mean, y - y_mean
        gram = x_centred.T @ x_centred / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        # The pseudo-inverse also serves features that are linearly dependent.
        weight = torch.linalg.pinv(gram, hermitian=True) @ (x_centred.T @ y_centred / len(x))  # [D, M]
        self.readout.weight.copy_(weight.T)
        self.readout.bias.copy_(y_mean - x_mean @ weight)
        return float((x_centred @ weight - y_centred).square().mean())

    def cost_per_step(self) -> CoreCost:
        """Count synapses and multiply-adds of the frozen core and the read-out."""
        cost = self.frozen.cost_per_step()
        return measure_cost(self, cost.synapses, cost.multiply_adds + self.readout.weight.numel())
