"""GRU core (Cho et al. 2014), torch's fused kernel behind the one contract.

    r, z = sigmoid(W_rz [x, log elapsed] + U_rz h + b_rz)
    n = tanh(W_n [x, log elapsed] + b_n + r (U_n h + d_n));  h ← (1 − z) n + z h;  y = W_out h + b_out

Elapsed time enters as one more feature, log(elapsed), unless the config says no.

    core = GRU(32, 1, GRUConfig(hidden_size=64))
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.cores.common import (
    CoreCost,
    append_log_elapsed,
    enter,
    full_precision,
    measure_cost,
    readout,
    seeded,
    zero_last_column,
)
from policies.cores.core import Core
from policies.cores.segments import split_at_starts, start_columns, transforms_active


@dataclass(frozen=True)
class GRUConfig:
    """A GRU of one layer."""

    hidden_size: int = 64
    """N, units."""

    elapsed_input: bool = True
    """Feed log(elapsed) as one more feature; its weights start at zero. False ignores elapsed time."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, got {self.hidden_size}.")


class GRU(Core):
    """One GRU layer and a linear read-out.

    The weights have the layout of `torch.nn.GRU` (gates in the order r, z, n).

    Attributes:
        config: its shape.
        weight_ih: `[3N, F']`, F' = F + 1 with the elapsed input.
        weight_hh: `[3N, N]`.
        bias_ih: `[3N]`.
        bias_hh: `[3N]`.
        readout: N units → M motors.
    """

    def __init__(self, input_size: int, output_size: int, config: GRUConfig = GRUConfig(), seed: int = 0):
        """Build the layer with torch's usual initial weights, drawn from `seed`.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its shape.
            seed: of the initial weights; torch's global generators are left alone.
        """
        super().__init__()
        units = config.hidden_size
        self.input_size, self.output_size, self.state_size = input_size, output_size, units
        self.config = config
        bound = 1 / math.sqrt(units)
        with seeded(seed):
            self.weight_ih = nn.Parameter(torch.empty(3 * units, input_size + config.elapsed_input))
            self.weight_hh = nn.Parameter(torch.empty(3 * units, units))
            self.bias_ih = nn.Parameter(torch.empty(3 * units))
            self.bias_hh = nn.Parameter(torch.empty(3 * units))
            for weight in self.parameters():
                nn.init.uniform_(weight, -bound, bound)
            self.readout = readout(units, output_size)
        if config.elapsed_input:
            zero_last_column(self.weight_ih)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the layer; see `Core.forward`. The state is h, `[B, N]`."""
        resets = starts is not None
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            if self.config.elapsed_input:
                inputs = append_log_elapsed(inputs, elapsed)
            if resets:
                state = torch.where(starts[:, :1], 0, state)
            if resets and starts.shape[1] > 1 and bool(starts[:, 1:].any()):
                run = self._run_pieces if transforms_active() else self._run_segments
                hidden, state = run(inputs, state, starts)
            else:
                hidden, state = self._run(inputs, state)
            return self.readout(hidden), state

    def cost_per_step(self) -> CoreCost:
        """Count synapses and multiply-adds."""
        synapses = self.weight_ih.numel() + self.weight_hh.numel()
        return measure_cost(self, synapses, synapses + 3 * self.config.hidden_size + self.readout.weight.numel())

    def _weights(self) -> list[Tensor]:
        return [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]

    def _run(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run whole sequences without a reset: `[B, T, F']`, `[B, N]` → `[B, T, N]`, `[B, N]`."""
        # bias, layers, dropout, training, bidirectional, batch first
        hidden, h = torch.gru(inputs, state.unsqueeze(0), self._weights(), True, 1, 0.0, False, False, True)
        return hidden, h.squeeze(0)

    def _run_segments(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stretches between resets as one packed batch."""
        cut = split_at_starts(starts)
        stretches = state.new_zeros(int(cut.batch_sizes[0]), self.state_size).index_copy(0, cut.first, state)
        packed = inputs.flatten(0, 1)[cut.order]
        start = stretches.unsqueeze(0)  # [1, G, N]
        hidden, h = torch.gru(packed, cut.batch_sizes, start, self._weights(), True, 1, 0.0, False, False)
        return hidden[cut.place].unflatten(0, starts.shape), h[0, cut.last]

    def _run_pieces(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run from one step at which any sample starts to the next, one after the other."""
        pieces, columns = [], start_columns(starts)
        for begin, end in zip(columns[:-1], columns[1:], strict=True):
            hidden, state = self._run(inputs[:, begin:end], torch.where(starts[:, begin, None], 0, state))
            pieces.append(hidden)
        return torch.cat(pieces, dim=1), state
