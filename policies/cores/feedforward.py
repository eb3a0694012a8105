"""Feed-forward core: a small MLP on the features of the current frame, without memory.

    y = W_n a(… a(W_1 [x, log elapsed] + b_1) …) + b_n

The baseline that shows what memory is worth. Its state has size 0.

    core = FeedForward(32, 1, FeedForwardConfig(hidden_size=64))
"""

from __future__ import annotations

from itertools import pairwise

from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from policies.cores.activations import Activation, check_activation
from policies.cores.core import (
    Core,
    CoreCost,
    append_log_elapsed,
    enter,
    full_precision,
    measure_cost,
    seeded,
    zero_last_column,
)
from policies.limits import Layers, Units, check_parameters


@dataclass(frozen=True, config={"extra": "forbid"})
class FeedForwardConfig:
    """A multi-layer perceptron."""

    hidden_size: Units = 64
    """Units of each hidden layer."""

    hidden_layers: Layers = 1
    """Hidden layers; 0 makes the core one linear map."""

    activation: str = "relu"
    """Between layers; a name in `policies.cores.activations.ACTIVATIONS`."""

    elapsed_input: bool = True
    """Feed log(elapsed) as one more feature; its weights start at zero."""

    def __post_init__(self) -> None:
        """Check the name of the activation."""
        check_activation(self.activation)


class FeedForward(Core):
    """Features in, motors out, nothing remembered.

    Attributes:
        config: its shape.
        layers: the MLP.
    """

    def __init__(self, input_size: int, output_size: int, config: FeedForwardConfig | None = None, seed: int = 0):
        """Build the MLP with weights drawn from `seed`.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its shape; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.
        """
        super().__init__()
        config = config or FeedForwardConfig()
        self.input_size, self.output_size, self.state_size = input_size, output_size, 0
        self.config = config
        sizes = [input_size + config.elapsed_input] + [config.hidden_size] * config.hidden_layers + [output_size]
        check_parameters("this network", sum(a * b for a, b in pairwise(sizes)))
        with seeded(seed):
            layers: list[nn.Module] = []
            for size_in, size_out in pairwise(sizes):
                layers += [nn.Linear(size_in, size_out), Activation(config.activation)]
            self.layers = nn.Sequential(*layers[:-1])
        if config.elapsed_input:
            zero_last_column(self.layers[0].weight)  # type: ignore[arg-type]

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map every step by itself; see `Core.forward`. The state is `[B, 0]`."""
        with full_precision(inputs):
            inputs, state, elapsed, _ = enter(self, inputs, state, elapsed, starts)
            if self.config.elapsed_input:
                inputs = append_log_elapsed(inputs, elapsed)
            return self.layers(inputs), state

    def output_map(self) -> tuple[nn.Parameter, ...]:
        """Return the last layer's; see `Core.output_map`."""
        return tuple(self.layers[-1].parameters())

    def cost_per_step(self) -> CoreCost:
        """Count synapses and multiply-adds."""
        weights = sum(layer.weight.numel() for layer in self.layers if isinstance(layer, nn.Linear))
        return measure_cost(self, weights, weights)
