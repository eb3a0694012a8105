"""The one contract of every recurrent core.

A core maps a batch of feature sequences to motor outputs and carries one state tensor:

    outputs, state = core(inputs, state, elapsed, starts)

`inputs` `[B, T, F]`, `state` `[B, S]`, `elapsed` `[B, T]`, `starts` `[B, T]` bool, `outputs` `[B, T, M]`.
One call of T steps equals T calls of one step. A core that carries several things (an LSTM's h and c, a
Transformer's window) packs them into the one tensor, so rollouts, PPO, export and checkpoints need no special case.

What the cores share: entering `forward` in one precision, seeded initial weights, the cost report.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.limits import LEAST_ELAPSED, MOST_ELAPSED


@dataclass(frozen=True)
class CoreCost:
    """What a core costs."""

    state_size: int
    """S, numbers carried from step to step."""

    parameters: int
    """Trainable numbers."""

    synapses: int
    """Connections with a weight of their own, from inputs and between units; the read-out is not counted."""

    multiply_adds: int
    """Multiplications of a weight by a value in one step of one sample, all solver substeps included."""


class Core(nn.Module, ABC):
    """A recurrent circuit: features in, motor outputs out, its state an argument.

    Attributes:
        input_size: F, features a step.
        state_size: S, numbers in the packed state; at least 1 is not required (a memoryless core has 0).
        output_size: M, motor outputs a step.
    """

    input_size: int
    state_size: int
    output_size: int

    @abstractmethod
    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the circuit over a batch of sequences.

        Args:
            inputs: `[B, T, F]` features from the perception head.
            state: `[B, S]` state before the first step; `initial_state` when None.
            elapsed: `[B, T]` time since the previous frame in nominal frame periods, > 0; ones when None.
            starts: `[B, T]` bool; True puts the fresh state in place before that step; all False when None.

        Returns:
            `[B, T, M]` motor outputs and the `[B, S]` state after the last step.

        Raises:
            ValueError: if a shape disagrees with `inputs`, or `elapsed` is not positive.
        """

    @abstractmethod
    def cost_per_step(self) -> CoreCost:
        """Count what one step of one sample takes."""

    def initial_state(self, batch_size: int, like: Tensor) -> Tensor:
        """Return the `[B, S]` fresh state, zeros, on the device and in the dtype of `like`."""
        return like.new_zeros(batch_size, self.state_size)

    def output_map(self) -> tuple[nn.Parameter, ...]:
        """Return parameters `[M, …]` to whose row m motor output m is proportional; none where there are no such ones.

        Those of a linear `readout`, unless a core says otherwise: rows times a gain are outputs times that gain.
        """
        last = getattr(self, "readout", None)
        return tuple(last.parameters()) if isinstance(last, nn.Linear) else ()


def prepare(
    core: Core, inputs: Tensor, state: Tensor | None, elapsed: Tensor | None, starts: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Check the arguments of a core's `forward` and fill the defaults.

    Returns:
        state `[B, S]`, elapsed `[B, T]` in the dtype of the state, starts `[B, T]` bool.

    Raises:
        ValueError: if a shape or dtype is wrong, or `elapsed` is not positive and finite (`policies.limits`).
    """
    if inputs.ndim != 3 or inputs.shape[2] != core.input_size or inputs.shape[1] < 1:
        raise ValueError(
            f"inputs must have shape [B, T, F] with F = {core.input_size} and T >= 1, got {tuple(inputs.shape)}."
        )
    batch_size, steps = inputs.shape[:2]
    if state is None:
        state = core.initial_state(batch_size, inputs)
    elif state.shape != (batch_size, core.state_size):
        raise ValueError(
            f"state must have shape [B, S] = {(batch_size, core.state_size)}, got {tuple(state.shape)}. "
            "For a fresh state leave it out."
        )
    if elapsed is None:
        elapsed = state.new_ones(batch_size, steps)
    else:
        if elapsed.shape != (batch_size, steps):
            raise ValueError(
                f"elapsed must have shape [B, T] = {(batch_size, steps)}, got {tuple(elapsed.shape)}. "
                "For a fixed frame rate leave it out."
            )
        if not torch.compiler.is_compiling() and not bool(
            ((elapsed >= LEAST_ELAPSED) & (elapsed <= MOST_ELAPSED)).all()
        ):
            least, most = (float(value) for value in torch.aminmax(elapsed.detach()))
            raise ValueError(
                f"elapsed must be positive and finite, from {LEAST_ELAPSED:g} to {MOST_ELAPSED:g}, got values from "
                f"{least:g} to {most:g}. It is the time since the previous frame in nominal frame periods: 1.0 when on "
                "time."
            )
        elapsed = elapsed.to(state.dtype)
    if starts is None:
        starts = torch.zeros(batch_size, steps, dtype=torch.bool, device=inputs.device)
    elif starts.shape != (batch_size, steps) or starts.dtype != torch.bool:
        raise ValueError(
            f"starts must be bool with shape [B, T] = {(batch_size, steps)}, got {starts.dtype} {tuple(starts.shape)}."
        )
    return state, elapsed, starts


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
