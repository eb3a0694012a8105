"""One step of a policy as a module whose graph other runtimes run: batch 1, shapes fixed, no branch.

    frame uint8 [1, h, w, 3], state [1, S], elapsed [1, 1], start bool [1, 1] → motors [1, M], next state [1, S]

The frame has the size that the head sees; crop and resize are the caller's (`car_driver.Fit`). Whitening is written
out: onnxruntime's layer normalisation sums squares, from which the spread of a bright flat frame cancels to noise.

The fused LTC is written with matrices instead of gather and scatter, which cost other runtimes most of the step: with
G the `[N, S]` matrix that hands each synapse its source, times sigma, and R the `[S, 2N]` matrix that sums over the
synapses of each target, times w·erev and times w,

    [numerator, denominator] = sigmoid(v G − sigma mu) R

and so once for the sensory synapses and once in each substep for those among the neurons.
"""

from __future__ import annotations

import copy
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from policies.cores import LTC, Core
from policies.kernels.ltc.reference import EPSILON
from policies.policy import DrivingPolicy

INPUTS = ("frame", "state", "elapsed", "start")
OUTPUTS = ("motors", "next_state")


class DriverStep(nn.Module):
    """A policy's step; see the module."""

    def __init__(self, policy: DrivingPolicy):
        """Copy a policy; float32, on the CPU, with the cores' plain torch code instead of kernels.

        Raises:
            ValueError: if its core solves its equation adaptively: the number of steps then depends on the data.
        """
        super().__init__()
        policy = copy.deepcopy(policy).cpu().float().eval()
        core = policy.core
        parts: list[Any] = list(core.modules())
        for part in parts:
            config = getattr(part, "config", None)
            if not is_dataclass(config) or isinstance(config, type):
                continue
            if getattr(config, "solver", None) == "adaptive":
                raise ValueError(
                    "an adaptive solver takes as many steps as the data ask for, which a fixed graph cannot; export a "
                    "policy with a fixed-step solver."
                )
            if hasattr(config, "kernel"):
                part.config = replace(config, kernel="auto")
        self.head = policy.head
        fused = isinstance(core, LTC) and core.config.solver == "fused"
        self.core: nn.Module = FusedLTC(core) if fused else core  # type: ignore[arg-type]

    def forward(self, frame: Tensor, state: Tensor, elapsed: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Step; see the module."""
        pixels = frame.to(torch.float32).reshape(1, -1)
        away = pixels - pixels.mean(dim=1, keepdim=True)
        variance = (away * away).mean(
            dim=1, keepdim=True
        )  # square() becomes Pow and / by one number Div: twice as slow
        white = (away * torch.rsqrt(variance + 0.25)).view(frame.shape).permute(0, 3, 1, 2)
        features = self.head.read_out(self.head.feature_maps(white)[-1])[:, None]
        motors, state = self.core(features, state, elapsed, start)
        return motors[:, 0].clamp(-1, 1), state


class FusedLTC(nn.Module):
    """One step of an LTC under the fused solver, with matrices; see the module."""

    sensory_in: Tensor
    sensory_offset: Tensor
    sensory_out: Tensor
    recurrent_in: Tensor
    recurrent_offset: Tensor
    recurrent_out: Tensor
    leak: Tensor
    cm: Tensor
    output_w: Tensor
    output_b: Tensor

    def __init__(self, core: LTC):
        """Build the matrices."""
        super().__init__()
        circuit, units = core.circuit(), core.state_size
        self.substeps, self.motors = core.config.substeps, core.output_size
        with torch.no_grad():
            inputs = core.input_size
            scale = torch.ones(inputs) if core.input_w is None else core.input_w
            shift = torch.zeros(inputs) if core.input_b is None else core.input_b
            sensory, offset = _hand_out(circuit.sensory_source, circuit.sensory_sigma, circuit.sensory_mu, inputs)
            self._keep("sensory_in", scale[:, None] * sensory)
            self._keep("sensory_offset", shift @ sensory - offset)
            self._keep("sensory_out", _collect(circuit.sensory_target, circuit.sensory_w, circuit.sensory_erev, units))
            recurrent, offset = _hand_out(circuit.source, circuit.sigma, circuit.mu, units)
            self._keep("recurrent_in", recurrent)
            self._keep("recurrent_offset", -offset)
            self._keep("recurrent_out", _collect(circuit.target, circuit.w, circuit.erev, units))
            self._keep("leak", torch.cat((circuit.gleak * circuit.vleak, circuit.gleak + EPSILON))[None])
            self._keep("cm", circuit.cm[None])
            ones, zeros = torch.ones(self.motors), torch.zeros(self.motors)
            self._keep("output_w", ones if core.output_w is None else core.output_w.clone())
            self._keep("output_b", zeros if core.output_b is None else core.output_b.clone())

    def forward(self, inputs: Tensor, state: Tensor, elapsed: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Step: inputs `[1, 1, F]`, state `[1, N]`, elapsed `[1, 1]`, start `[1, 1]`."""
        voltages = torch.where(start, torch.zeros_like(state), state)
        c = self.cm / (elapsed / self.substeps)
        opened = torch.sigmoid(inputs[:, 0] @ self.sensory_in + self.sensory_offset)
        outside = opened @ self.sensory_out + self.leak  # [1, 2N]
        numerator, denominator = outside.chunk(2, dim=1)
        outside = torch.cat((numerator, denominator + c), dim=1)
        for _ in range(self.substeps):
            opened = torch.sigmoid(voltages @ self.recurrent_in + self.recurrent_offset)
            numerator, denominator = (opened @ self.recurrent_out + outside).chunk(2, dim=1)
            voltages = (c * voltages + numerator) / denominator
        return (voltages[:, None, : self.motors] * self.output_w + self.output_b), voltages

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.detach().contiguous())


def _hand_out(source: Tensor, sigma: Tensor, mu: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the matrix `[size, S]` that gives each synapse sigma times its source, and sigma mu `[S]`."""
    matrix = torch.zeros(size, len(source))
    matrix[source, torch.arange(len(source))] = sigma
    return matrix, sigma * mu


def _collect(target: Tensor, w: Tensor, erev: Tensor, units: int) -> Tensor:
    """Return the matrix `[S, 2N]` that sums w·erev and w over the synapses of each target."""
    matrix = torch.zeros(len(target), 2 * units)
    synapse = torch.arange(len(target))
    matrix[synapse, target] = w * erev
    matrix[synapse, units + target] = w
    return matrix


def example(policy: DrivingPolicy) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return inputs of a step in the order of `INPUTS`."""
    fit, core = policy.config.preprocessing, policy.core
    assert isinstance(core, Core)
    frame = torch.zeros(1, fit.height, fit.width, 3, dtype=torch.uint8)
    return frame, torch.zeros(1, core.state_size), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool)
