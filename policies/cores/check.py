"""A core of somebody else is held to the contract before anything is trained with it, on a few random numbers.

    check_core("mypackage.mycore:Leaky", core)

A core that answers in another shape, forgets its state between two calls or goes on where an episode starts would train
all the same, and every figure of it would be wrong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from policies.cores.core import Core

TOLERANCE = 1e-3
"""Largest difference between one call of T steps and T calls of one step, per unit of what comes out."""


def check_core(name: str, core: Core) -> None:
    """Run a core on two sequences of three steps, at once and step by step.

    Args:
        name: of the core, for errors.
        core: as it was made; its mode is put back.

    Raises:
        ValueError: if it breaks the contract of `policies.cores.core.Core`; says how.
    """
    for word in ("input_size", "output_size", "state_size"):
        size = getattr(core, word, None)
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"the core {name} must have a whole number {word}, it has {size!r:.40}.")
    training = core.training
    core.eval()
    try:
        with torch.no_grad():
            _check_calls(name, core)
    finally:
        core.train(training)


def _check_calls(name: str, core: Core) -> None:
    inputs = torch.randn(2, 3, core.input_size, generator=torch.Generator().manual_seed(0))
    elapsed, none = torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    outputs, state = _call(name, core, inputs, None, elapsed, none)
    stepped, before = [], None
    for step in range(3):
        at = slice(step, step + 1)
        answer, before = _call(name, core, inputs[:, at], before, elapsed[:, at], none[:, at])
        stepped.append(answer)
    if not _alike(torch.cat(stepped, 1), outputs) or (before is not None and not _alike(before, state)):
        raise ValueError(
            f"the core {name} gives something else in one call of three steps than in three calls of one: its state "
            "must hold all that it remembers."
        )
    starts = torch.tensor([[False, False, True], [False, False, False]])
    fresh, _ = _call(name, core, inputs[:, 2:], None, elapsed[:, 2:], none[:, 2:])
    begun, _ = _call(name, core, inputs, None, elapsed, starts)
    if not _alike(begun[0, 2], fresh[0, 0]) or not _alike(begun[1], outputs[1]):
        raise ValueError(f"the core {name} must put the fresh state in place where `starts` is true, and only there.")


def _call(
    name: str, core: Core, inputs: Tensor, state: Tensor | None, elapsed: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Call a core and check what it gives."""
    given: Any = core(inputs, state, elapsed, starts)
    batch, steps = inputs.shape[:2]
    wanted = [(batch, steps, core.output_size), (batch, core.state_size)]
    if not (isinstance(given, tuple) and len(given) == 2 and all(isinstance(one, Tensor) for one in given)):
        raise ValueError(f"the core {name} must return outputs and state, two tensors, got {type(given).__name__}.")
    if [tuple(one.shape) for one in given] != wanted:
        raise ValueError(
            f"the core {name} must turn inputs {tuple(inputs.shape)} into outputs {wanted[0]} and a state {wanted[1]}, "
            f"got {tuple(given[0].shape)} and {tuple(given[1].shape)}."
        )
    if not all(bool(torch.isfinite(one).all()) for one in given):
        raise ValueError(f"the core {name} gives NaN or infinity for inputs around 0.")
    return given


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE))
