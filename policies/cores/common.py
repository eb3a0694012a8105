"""What the cores share: entering `forward` in one precision, seeded initial weights, the cost report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from policies.cores.core import Core, prepare
from policies.cores.core import CoreCost as CoreCost


def measure_cost(core: Core, synapses: int, multiply_adds: int) -> CoreCost:
    """Complete a core's own counts with those that every module has."""
    parameters = sum(p.numel() for p in core.parameters() if p.requires_grad)
    return CoreCost(core.state_size, parameters, synapses, multiply_adds)


def enter(
    core: Core, inputs: Tensor, state: Tensor | None, elapsed: Tensor | None, starts: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Check a core's arguments and bring them to the dtype of its parameters.

    Mixed precision hands a core bf16 features; a recurrence of many small steps loses too much there, so it is
    computed in the precision of the weights. Call this inside `full_precision`.

    Returns:
        inputs `[B, T, F]`, state `[B, S]`, elapsed `[B, T]`, starts `[B, T]`, as `core.prepare` fills them.

    Raises:
        ValueError: as `core.prepare`.
    """
    dtype = next(core.parameters()).dtype
    state = None if state is None else state.to(dtype)
    inputs = inputs.to(dtype)
    state, elapsed, starts = prepare(core, inputs, state, elapsed, starts)
    return inputs, state, elapsed, starts


def full_precision(inputs: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on the device of `inputs`; entering a real one costs some microseconds."""
    kind = inputs.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw CPU random numbers from `seed` inside; the global generators are as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def append_log_elapsed(inputs: Tensor, elapsed: Tensor) -> Tensor:
    """Append log(elapsed), 0 when on time, as one more feature: `[B, T, F]` → `[B, T, F + 1]`."""
    return torch.cat((inputs, elapsed.log().unsqueeze(-1)), dim=-1)


def zero_last_column(weight: Tensor) -> None:
    """Start the weights of the elapsed feature at zero.

    A core that was trained at a fixed frame rate never moves them, and then ignores late frames, where random
    weights would have added noise to it.
    """
    with torch.no_grad():
        weight[:, -1] = 0


def readout(units: int, output_size: int) -> nn.Linear:
    """Return the linear map from units to motors; call it inside `seeded`."""
    return nn.Linear(units, output_size)
