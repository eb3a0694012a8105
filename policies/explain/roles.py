"""What is each neuron for? Its correlation with what the car does, what its silence does, the state's main directions.

    roles = correlations(states, {"curvature": curvature, "offset": offset, "speed": speed})   # [N, 3]
    with silenced(policy, 4):       # neuron 4 says nothing any more
        …
    share, axes = principal_components(states)
    step, size = largest_step(states)

A correlation says what a neuron goes with, not what it causes; silencing says what is lost without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from policies.cores import LTC
from policies.policy import DrivingPolicy


def correlations(states: Tensor, quantities: Mapping[str, Tensor]) -> Tensor:
    """Correlate each unit with each quantity over a drive (Pearson).

    Args:
        states: `[T, S]`.
        quantities: by name, `[T]` each.

    Returns:
        `[S, Q]` in [−1, 1]; 0 where a unit or a quantity never moves.

    Raises:
        ValueError: if a quantity has another length than the drive.
    """
    columns = []
    for name, values in quantities.items():
        if values.shape != states.shape[:1]:
            raise ValueError(f"{name} must have one number for each of {len(states)} frames, got {list(values.shape)}.")
        columns.append(values.to(states.dtype))
    x, y = _standard(states), _standard(torch.stack(columns, dim=1))
    return (x.T @ y / len(states)).clamp(-1, 1)


def _standard(values: Tensor) -> Tensor:
    """Zero mean and unit variance in each column; zeros where nothing moves."""
    away = values - values.mean(0)
    spread = away.square().mean(0).sqrt()
    still = spread <= 1e-6 * (1 + values.abs().amax(0))
    return torch.where(still, 0.0, away / torch.where(still, 1.0, spread))


def principal_components(states: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of the variance along each main direction `[R]`, falling, and the directions `[R, S]`."""
    away = states - states.mean(0)
    _, singular, directions = torch.linalg.svd(away, full_matrices=False)
    power = singular.square()
    return power / power.sum().clamp_min(1e-12), directions


def largest_step(states: Tensor) -> tuple[int, float]:
    """Return the frame at which the state moved farthest, and how far (Euclidean).

    Raises:
        ValueError: if there are fewer than two frames.
    """
    if len(states) < 2:
        raise ValueError("a step needs at least two frames.")
    sizes = (states[1:] - states[:-1]).norm(dim=1)
    frame = int(sizes.argmax())
    return frame + 1, float(sizes[frame])


@contextmanager
def silenced(policy: DrivingPolicy, neuron: int) -> Iterator[None]:
    """Cut every synapse that leads out of a neuron of an LTC, for a while.

    Raises:
        ValueError: if the core is no LTC or has no such neuron.
    """
    core = policy.core
    if not isinstance(core, LTC):
        raise ValueError("neurons of an LTC can be silenced; other cores have no synapses of their own to cut.")
    if not 0 <= neuron < core.state_size:
        raise ValueError(f"the circuit has the neurons 0 to {core.state_size - 1}, got {neuron}.")
    with cut(policy, (core.source == neuron).nonzero().flatten().tolist()):
        yield


@contextmanager
def cut(policy: DrivingPolicy, synapses: list[int]) -> Iterator[None]:
    """Cut recurrent synapses of an LTC for a while: they conduct nothing.

    Args:
        policy: the driver.
        synapses: numbers in the wiring's `recurrent`.
    """
    core = policy.core
    assert isinstance(core, LTC)
    before = core.raw_w.detach().clone()
    try:
        with torch.no_grad():
            core.raw_w[synapses] = -40.0  # softplus of it is 4e-18
        yield
    finally:
        with torch.no_grad():
            core.raw_w.copy_(before)
