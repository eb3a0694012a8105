"""Activation functions by name, for the cores that let one choose.

`lecun_tanh` is 1.7159·tanh(0.666 x), LeCun et al., "Efficient BackProp" (1998), as the published CfC uses it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "lecun_tanh": lambda x: 1.7159 * torch.tanh(0.666 * x),
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
}


class Activation(nn.Module):
    """One of `ACTIVATIONS` as a module.

    Attributes:
        name: which.
    """

    def __init__(self, name: str):
        """Look the name up."""
        super().__init__()
        check_activation(name)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Apply it elementwise."""
        return ACTIVATIONS[self.name](x)


def check_activation(name: str) -> None:
    """Raise ValueError unless `name` is in `ACTIVATIONS`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}.")
