"""LSTM and GRU cores, torch's fused kernels behind the one contract.

LSTM (Hochreiter & Schmidhuber 1997), whose state packs h and c, `[B, 2·N]`:

    i, f, g, o = W [x, log elapsed] + U h + b
    c ← sigmoid(f) c + sigmoid(i) tanh(g);  h ← sigmoid(o) tanh(c);  y = W_out h + b_out

GRU (Cho et al. 2014), whose state is h, `[B, N]`:

    r, z = sigmoid(W_rz [x, log elapsed] + U_rz h + b_rz)
    n = tanh(W_n [x, log elapsed] + b_n + r (U_n h + d_n));  h ← (1 − z) n + z h;  y = W_out h + b_out

Elapsed time enters as one more feature, log(elapsed), unless the config says no.

    core = LSTM(32, 1, LSTMConfig(hidden_size=64))
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from policies.cores.core import (
    Core,
    CoreCost,
    append_log_elapsed,
    enter,
    full_precision,
    measure_cost,
    readout,
    seeded,
    zero_last_column,
)
from policies.cores.segments import split_at_starts, start_columns, transforms_active
from policies.kernels.choose import is_exporting
from policies.limits import Units, check_parameters


@dataclass(frozen=True, config={"extra": "forbid"})
class GatedConfig:
    """A gated layer."""

    hidden_size: Units = 64
    """N, units."""

    elapsed_input: bool = True
    """Feed log(elapsed) as one more feature; its weights start at zero. False ignores elapsed time."""


@dataclass(frozen=True, config={"extra": "forbid"})
class LSTMConfig(GatedConfig):
    """An LSTM of one layer."""


@dataclass(frozen=True, config={"extra": "forbid"})
class GRUConfig(GatedConfig):
    """A GRU of one layer."""


class Gated(Core):
    """One gated layer and a linear read-out.

    Attributes:
        config: its shape.
        weight_ih: `[G·N, F']` for G gates, F' = F + 1 with the elapsed input.
        weight_hh: `[G·N, N]`.
        bias_ih: `[G·N]`.
        bias_hh: `[G·N]`.
        readout: N units → M motors.
    """

    _gates: int
    """G."""
    _parts: int
    """Vectors of N that the state packs."""

    def __init__(self, input_size: int, output_size: int, config: GatedConfig, seed: int = 0):
        """Build the layer with torch's usual initial weights, drawn from `seed`.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its shape.
            seed: of the initial weights; torch's global generators are left alone.
        """
        super().__init__()
        units, rows = config.hidden_size, self._gates * config.hidden_size
        self.input_size, self.output_size, self.state_size = input_size, output_size, self._parts * units
        self.config = config
        check_parameters("this gated layer", rows * (units + input_size + 1))
        bound = 1 / math.sqrt(units)
        with seeded(seed):
            self.weight_ih = nn.Parameter(torch.empty(rows, input_size + config.elapsed_input))
            self.weight_hh = nn.Parameter(torch.empty(rows, units))
            self.bias_ih = nn.Parameter(torch.empty(rows))
            self.bias_hh = nn.Parameter(torch.empty(rows))
            for weight in self.parameters():
                nn.init.uniform_(weight, -bound, bound)
            self.readout = readout(units, output_size)
        if config.elapsed_input:
            zero_last_column(self.weight_ih)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the layer; see `Core.forward`. The module says what the state packs."""
        if torch.compiler.is_compiling() and not is_exporting():
            # torch's compiler has no gradient for the library call that it finds for an LSTM on a CPU, and cannot
            # follow stretches whose lengths depend on the data: the fused call stays one call between its graphs.
            from policies.cores.uncompiled import run_uncompiled

            return run_uncompiled(self, inputs, state, elapsed, starts)
        return self._run(inputs, state, elapsed, starts)

    def _run(
        self, inputs: Tensor, state: Tensor | None, elapsed: Tensor | None, starts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
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
                hidden, state = self._layer(inputs, state)
            return self.readout(hidden), state

    def cost_per_step(self) -> CoreCost:
        """Count synapses and multiply-adds."""
        synapses = self.weight_ih.numel() + self.weight_hh.numel()
        return measure_cost(self, synapses, synapses + 3 * self.config.hidden_size + self.readout.weight.numel())

    @abstractmethod
    def _layer(self, inputs: Tensor, state: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run whole sequences without a reset.

        Args:
            inputs: `[B, T, F']`; or packed, `[ΣB_t, F']`.
            state: `[B, S]` before the first step.
            sizes: of the packed batch at each step, int64 `[T]`; None when it is not packed.

        Returns:
            h after every step, `[B, T, N]` or packed, and the `[B, S]` state after the last one.
        """

    def _weights(self) -> list[Tensor]:
        return [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]

    def _run_segments(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stretches between resets as one packed batch."""
        cut = split_at_starts(starts)
        stretches = state.new_zeros(int(cut.batch_sizes[0]), self.state_size).index_copy(0, cut.first, state)
        hidden, last = self._layer(inputs.flatten(0, 1)[cut.order], stretches, cut.batch_sizes)
        return hidden[cut.place].unflatten(0, starts.shape), last[cut.last]

    def _run_pieces(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run from one step at which any sample starts to the next, one after the other."""
        pieces, columns = [], start_columns(starts)
        for begin, end in zip(columns[:-1], columns[1:], strict=True):
            hidden, state = self._layer(inputs[:, begin:end], torch.where(starts[:, begin, None], 0, state))
            pieces.append(hidden)
        return torch.cat(pieces, dim=1), state


class LSTM(Gated):
    """A layer of long short-term memory.

    The weights have the layout of `torch.nn.LSTM`: gates in the order i, f, g, o.
    """

    _gates, _parts = 4, 2

    def __init__(self, input_size: int, output_size: int, config: LSTMConfig | None = None, seed: int = 0):
        """Build it; see `Gated`."""
        super().__init__(input_size, output_size, config or LSTMConfig(), seed)

    def _layer(self, inputs: Tensor, state: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, c = state.unsqueeze(0).chunk(2, dim=2)  # [1, B, N] each
        start = (h.contiguous(), c.contiguous())
        keeps = keeps_for_backward(inputs)
        # bias, layers, dropout, training, bidirectional; of sequences that are not packed: batch first
        if sizes is None:
            hidden, h, c = torch.lstm(inputs, start, self._weights(), True, 1, 0.0, keeps, False, True)
        else:
            hidden, h, c = torch.lstm(inputs, sizes, start, self._weights(), True, 1, 0.0, keeps, False)
        return hidden, torch.cat((h, c), dim=2).squeeze(0)


class GRU(Gated):
    """A layer of gated recurrent units.

    The weights have the layout of `torch.nn.GRU`: gates in the order r, z, n.
    """

    _gates, _parts = 3, 1

    def __init__(self, input_size: int, output_size: int, config: GRUConfig | None = None, seed: int = 0):
        """Build it; see `Gated`."""
        super().__init__(input_size, output_size, config or GRUConfig(), seed)

    def _layer(self, inputs: Tensor, state: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        start = state.unsqueeze(0).contiguous()  # [1, B, N]
        keeps = keeps_for_backward(inputs)
        # bias, layers, dropout, training, bidirectional; of sequences that are not packed: batch first
        if sizes is None:
            hidden, h = torch.gru(inputs, start, self._weights(), True, 1, 0.0, keeps, False, True)
        else:
            hidden, h = torch.gru(inputs, sizes, start, self._weights(), True, 1, 0.0, keeps, False)
        return hidden, h.squeeze(0)


def keeps_for_backward(inputs: Tensor) -> bool:
    """Say whether a call must run as in training: cuDNN keeps what backward needs only then, whatever the mode.

    On a CPU backward needs no such flag, and there is no dropout that it would switch on.
    """
    return inputs.is_cuda and torch.is_grad_enabled()
