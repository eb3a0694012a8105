"""The LTC equations in plain torch: the ground truth that every kernel is held to.

A neuron j with membrane capacitance cm_j, leak gleak_j towards vleak_j, and synapses i → j (Hasani et al., "Liquid
Time-constant Networks", AAAI 2021):

    a_ij  = w_ij · sigmoid(sigma_ij · (v_i − mu_ij))
    cm_j · dv_j/dt = gleak_j · (vleak_j − v_j) + Σ_i a_ij · (erev_ij − v_j)

where i runs over the neurons and over the sensory inputs, whose "voltage" is the input, constant within a step.
The fused solver takes the terms that are linear in v_j implicitly (h = elapsed / substeps, c = cm / h):

    v_j ← (c_j v_j + gleak_j vleak_j + Σ_i a_ij erev_ij) / (c_j + gleak_j + Σ_i a_ij + 1e-8)

all neurons reading the voltages of the previous substep. Runs in any dtype, on any device, differentiable throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LONGEST_EXPLICIT = 64.0
"""Longest elapsed time that the solvers other than "fused" follow, nominal frame periods."""

EPSILON = 1e-8
"""Keeps the fused step's denominator from zero; part of the published scheme."""

SOLVERS = ("fused", "euler", "rk4")
"""Fixed-step solvers of `ltc_sequence`. The adaptive one is `adaptive_sequence`."""


class Circuit(NamedTuple):
    """Everything that is constant over a sequence; the constrained values, so gleak, cm, w and sensory_w are ≥ 0."""

    gleak: Tensor
    """`[N]` leak conductance."""
    vleak: Tensor
    """`[N]` leak reversal potential."""
    cm: Tensor
    """`[N]` membrane capacitance, in nominal frame periods × conductance."""
    sensory_w: Tensor
    """`[S_in]` largest conductance of each sensory synapse."""
    sensory_mu: Tensor
    """`[S_in]` input at which the synapse is half open."""
    sensory_sigma: Tensor
    """`[S_in]` steepness of the synapse."""
    sensory_erev: Tensor
    """`[S_in]` reversal potential: where the synapse pulls its target to."""
    w: Tensor
    """`[S_rec]` as `sensory_w`, for the synapses between neurons."""
    mu: Tensor
    """`[S_rec]` as `sensory_mu`, in voltage."""
    sigma: Tensor
    """`[S_rec]` as `sensory_sigma`."""
    erev: Tensor
    """`[S_rec]` as `sensory_erev`."""
    sensory_source: Tensor
    """`[S_in]` int64, the input that each sensory synapse reads."""
    sensory_target: Tensor
    """`[S_in]` int64, the neuron that it ends at."""
    source: Tensor
    """`[S_rec]` int64, the neuron that each recurrent synapse reads."""
    target: Tensor
    """`[S_rec]` int64, the neuron that it ends at."""

    def sensory_drive(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ a·erev and Σ a over the sensory synapses: inputs `[..., I]` → two `[..., N]`."""
        a = self.sensory_w * torch.sigmoid(self.sensory_sigma * (inputs[..., self.sensory_source] - self.sensory_mu))
        return self._gather(a * self.sensory_erev, self.sensory_target), self._gather(a, self.sensory_target)

    def recurrent_drive(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ a·erev and Σ a over the synapses between neurons: voltages `[..., N]` → two `[..., N]`."""
        a = self.w * torch.sigmoid(self.sigma * (voltages[..., self.source] - self.mu))
        return self._gather(a * self.erev, self.target), self._gather(a, self.target)

    def derivative(self, voltages: Tensor, drive: tuple[Tensor, Tensor]) -> Tensor:
        """Return dv/dt `[B, N]` at `voltages` `[B, N]`, given the sensory drive of this step."""
        numerator, denominator = (a + b for a, b in zip(self.recurrent_drive(voltages), drive, strict=True))
        return (self.gleak * (self.vleak - voltages) + numerator - denominator * voltages) / self.cm

    def _gather(self, per_synapse: Tensor, target: Tensor) -> Tensor:
        """Sum `[..., S]` over the synapses of each target: `[..., N]`."""
        zeros = per_synapse.new_zeros((*per_synapse.shape[:-1], self.gleak.shape[0]))
        return zeros.index_add(-1, target, per_synapse)


Drive = tuple[Tensor, Tensor]
_Step = Callable[[Circuit, Tensor, Drive, Tensor], Tensor]


def ltc_sequence(
    inputs: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    circuit: Circuit,
    substeps: int = 6,
    solver: str = "fused",
) -> Tensor:
    """Run the circuit over a batch of sequences.

    Args:
        inputs: `[B, T, I]` sensory inputs, after the input map.
        state: `[B, N]` voltages before the first step.
        elapsed: `[B, T]` time that each step spans, in nominal frame periods, > 0.
        starts: `[B, T]` bool; True zeroes the voltages before that step.
        circuit: parameters and synapse lists.
        substeps: K, solver steps within each step. The explicit solvers, which are stable for short steps only, take as
            many for each nominal period that a step spans.
        solver: "fused", "euler" or "rk4".

    Returns:
        `[B, T, N]` voltages after each step; the state after the sequence is the last one.

    Raises:
        ValueError: if an explicit solver is to span more than `LONGEST_EXPLICIT` periods at once.
    """
    if solver != "fused":
        return _explicit_sequence(inputs, state, elapsed, starts, circuit, substeps, solver)
    advance = _STEPS[solver]
    drives = circuit.sensory_drive(inputs)  # two [B, T, N]
    voltages = state
    outputs = []
    for t in range(inputs.shape[1]):
        voltages = torch.where(starts[:, t, None], torch.zeros_like(voltages), voltages)
        h = elapsed[:, t, None] / substeps  # [B, 1]
        drive = drives[0][:, t], drives[1][:, t]
        for _ in range(substeps):
            voltages = advance(circuit, voltages, drive, h)
        outputs.append(voltages)
    return torch.stack(outputs, dim=1)


def _explicit_sequence(
    inputs: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, circuit: Circuit, substeps: int, solver: str
) -> Tensor:
    """As `ltc_sequence`, with substeps that grow with the elapsed time of each sample."""
    _check_span(elapsed, solver)
    advance = _STEPS[solver]
    drives = circuit.sensory_drive(inputs)  # two [B, T, N]
    counts = substeps * elapsed.ceil().clamp_min(1)  # [B, T]
    most = counts.amax(0).int().tolist() if len(counts) else [0] * counts.shape[1]
    voltages, outputs = state, []
    for t in range(inputs.shape[1]):
        voltages = torch.where(starts[:, t, None], torch.zeros_like(voltages), voltages)
        count = counts[:, t, None]
        drive, h = (drives[0][:, t], drives[1][:, t]), elapsed[:, t, None] / count
        for k in range(most[t]):
            voltages = torch.where(k < count, advance(circuit, voltages, drive, h), voltages)
        outputs.append(voltages)
    return torch.stack(outputs, dim=1)


def _check_span(elapsed: Tensor, solver: str) -> None:
    if elapsed.numel() and float(elapsed.max()) > LONGEST_EXPLICIT:
        raise ValueError(
            f"solver {solver!r} follows gaps of at most {LONGEST_EXPLICIT:g} nominal frame periods, got "
            f"{float(elapsed.max()):g}. Begin a new episode after such a gap, or choose solver='fused'."
        )


def _fused(circuit: Circuit, voltages: Tensor, drive: Drive, h: Tensor) -> Tensor:
    c = circuit.cm / h
    numerator, denominator = circuit.recurrent_drive(voltages)
    numerator = c * voltages + circuit.gleak * circuit.vleak + numerator + drive[0]
    return numerator / (c + circuit.gleak + denominator + drive[1] + EPSILON)


def _euler(circuit: Circuit, voltages: Tensor, drive: Drive, h: Tensor) -> Tensor:
    return voltages + h * circuit.derivative(voltages, drive)


def _rk4(circuit: Circuit, voltages: Tensor, drive: Drive, h: Tensor) -> Tensor:
    k1 = circuit.derivative(voltages, drive)
    k2 = circuit.derivative(voltages + h / 2 * k1, drive)
    k3 = circuit.derivative(voltages + h / 2 * k2, drive)
    k4 = circuit.derivative(voltages + h * k3, drive)
    return voltages + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


_STEPS: dict[str, _Step] = {"fused": _fused, "euler": _euler, "rk4": _rk4}


def adaptive_sequence(
    inputs: Tensor,
    state: Tensor,
    elapsed: Tensor,
    starts: Tensor,
    circuit: Circuit,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> Tensor:
    """Run the circuit with an adaptive Dormand-Prince solver; arguments and result as in `ltc_sequence`.

    Time is scaled so that every sample's step spans [0, 1]: samples with different elapsed times share one solve.

    `rtol` is the relative and `atol` the absolute tolerance of the solver, the latter in voltage.

    Raises:
        ModuleNotFoundError: if torchdiffeq is not installed.
        ValueError: if a step spans more than `LONGEST_EXPLICIT` periods.
    """
    try:
        from torchdiffeq import odeint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The adaptive solver needs torchdiffeq: pip install -e '.[ode]' in a checkout, or choose solver='fused'."
        ) from error
    _check_span(elapsed, "adaptive")
    drives = circuit.sensory_drive(inputs)
    span = torch.tensor([0.0, 1.0], dtype=state.dtype, device=state.device)
    voltages = state
    outputs = []
    for t in range(inputs.shape[1]):
        voltages = torch.where(starts[:, t, None], torch.zeros_like(voltages), voltages)
        drive, dt = (drives[0][:, t], drives[1][:, t]), elapsed[:, t, None]

        def derivative(_: Tensor, v: Tensor, drive: Drive = drive, dt: Tensor = dt) -> Tensor:
            return dt * circuit.derivative(v, drive)

        if len(voltages):  # with no sample the solver finds no step that is short enough
            voltages = odeint(derivative, voltages, span, rtol=rtol, atol=atol)[-1]
        outputs.append(voltages)
    return torch.stack(outputs, dim=1)
