"""One closed-form continuous-time layer: four heads on what it hears, blended by a gate that time opens.

    default:  h = tanh(ff1) (1 − g) + tanh(ff2) g,   g = sigmoid(t_a Δt + t_b)
    no_gate:  h = tanh(ff1) + tanh(ff2) g
    pure:     h = A − A exp(−Δt (|w_tau| + |ff1|)) ff1

Hasani et al., "Closed-form continuous-time neural networks", Nature Machine Intelligence 2022.

Drawn as published, all gates open within a few nominal periods and are saturated beyond: nothing tells the core, nor
its gradient, 7 periods from 9. `spread_gates` begins with gates that open one after the other over a span of time, the
idea of Tallec & Ollivier's initialisation of LSTM gates ("Can recurrent neural networks warp time?", ICLR 2018).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

HEADS = {"default": ("ff1", "ff2", "time_a", "time_b"), "no_gate": ("ff1", "ff2", "time_a", "time_b"), "pure": ("ff1",)}
"""Linear heads of each mode, in the order in which a layer stacks them."""

STEEPNESS = 6.0
"""Slope of a spread gate, 1 / nominal period: it opens within about one period."""


class CfCLayer(nn.Module):
    """The weights of one layer of n units that hears m numbers.

    Attributes:
        mode: a key of `HEADS`.
        units: n.
        weight: `[heads · n, m]`.
        bias: `[heads · n]`.
        mask: `[heads · n, m]` of 0 and 1, or None: only ff1 and ff2 are sparse, as published.
        w_tau: `[n]`, pure mode only.
        limit: `[n]`, the A of the pure mode only.
    """

    mask: Tensor | None

    def __init__(self, mode: str, hears: int, units: int, mask: Tensor | None = None):
        """Draw every head's matrix Xavier-uniformly; call this inside `seeded`.

        Args:
            mode: a key of `HEADS`.
            hears: m.
            units: n.
            mask: `[n, m]` of 0 and 1, where ff1 and ff2 have a synapse; everywhere when None.
        """
        super().__init__()
        self.mode, self.units = mode, units
        heads = HEADS[mode]
        self.weight = nn.Parameter(torch.empty(len(heads) * units, hears))
        for head in self.weight.data.split(units):
            nn.init.xavier_uniform_(head)
        self.bias = nn.Parameter(torch.empty(len(heads) * units).uniform_(-1, 1) / math.sqrt(hears))
        if mode == "pure":
            bound = math.sqrt(6 / (1 + units))  # Xavier's for a [1, n] matrix
            self.w_tau = nn.Parameter(torch.empty(units).uniform_(-bound, bound))
            self.limit = nn.Parameter(torch.empty(units).uniform_(-bound, bound))
        if mask is not None:
            mask = torch.cat([mask if head.startswith("ff") else torch.ones_like(mask) for head in heads])
        self.register_buffer("mask", mask, persistent=False)

    @torch.no_grad()
    def spread_gates(self, span: float) -> None:
        """Set the gates' biases to g = sigmoid(`STEEPNESS` (Δt − t_k)), t_k drawn evenly from 0 to `span`.

        Call this inside `seeded`; for the modes with a gate.
        """
        time_a, time_b = self.bias[-2 * self.units :].split(self.units)
        time_a.fill_(STEEPNESS)
        time_b.uniform_(-STEEPNESS * span, 0.0)

    @property
    def effective_weight(self) -> Tensor:
        """`[heads · n, m]` weights, 0 where there is no synapse."""
        return self.weight if self.mask is None else self.weight * self.mask

    def own_weights(self, suffix: str = "") -> dict[str, Tensor]:
        """Return what `blend` needs beside the heads, the suffix added to each name."""
        return {f"w_tau{suffix}": self.w_tau.abs(), f"limit{suffix}": self.limit} if self.mode == "pure" else {}

    def blend(self, ops: Any, own: Any, heads: Any, elapsed: Any) -> Any:
        """Make the new h from the heads.

        Args:
            ops: as in `policies.kernels.cell.step`.
            own: the weights of `own_weights`, as the ops take them.
            heads: `[heads · n]` outputs of the linear heads.
            elapsed: `[1]` Δt.
        """
        if self.mode == "pure":
            decay = ops.exp(-((ops.abs(heads) + own["w_tau"]) * elapsed))
            return (1.0 - decay * heads) * own["limit"]
        answers, time_a, time_b = ops.split(heads, [2 * self.units, self.units, self.units])
        first, second = ops.split(ops.tanh(answers), [self.units] * 2)
        gate = ops.sigmoid(time_a * elapsed + time_b)
        return first + gate * (second if self.mode == "no_gate" else second - first)
