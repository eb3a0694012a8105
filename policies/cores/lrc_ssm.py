"""LrcSSM (Farsang et al. 2025): liquid-resistance liquid-capacitance cells that hear themselves alone among the cells.

Cell i of a block, with features u of all channels, its own voltage x and s = sigmoid(a x + b), v = sigmoid(W u + c):

    f = g s + γ v + gleak,   z = k s + κ v + gleak        conductance, and its part times potential
    ε = w x + V u + d                                     elastance: what the capacitance divides by
    dx/dt = sigmoid(ε) (tanh(z) e − sigmoid(f) x)
    x ← x + Δ dx/dt, Δ the elapsed time; a step past the resting potential tanh(z) e / sigmoid(f) ends there

The Jacobian of a step is diagonal, so a whole sequence can be solved at once by Newton's method (DEER, Lim et al. 2023;
Gonzalez et al. 2024): with F the step and J its slope at a guess of all voltages,

    x_t ← F(x_{t−1}) + J_t (x_t−1 new − x_{t−1})          a linear recurrence, which one scan solves

until a sample moves no more. As many iterations as steps always suffice in exact numbers; a dozen usually do. Where
`most_iterations` do not, the sequence runs step by step, and a warning says so. The gradient needs no iterations: one
more Newton step at the solution carries it (the implicit function theorem), and costs one scan backwards.

One block: u = norm(h), x of its cells, h ← h + glu(W x). The state packs the x of all blocks, `[B, layers · N]`.

    core = LrcSSM(32, 1, LrcSSMConfig(units=32))
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost, readout, seeded
from policies.kernels.cell.program import record
from policies.kernels.cell.sequence import CELL, run_sequence
from policies.kernels.choose import check_kernel, is_exporting
from policies.kernels.first_order import refuse_second_derivatives
from policies.kernels.scan.sequence import scan
from policies.limits import Positive, Units, check_parameters

PARALLEL_STEPS = 32
"""Shortest sequence that "auto" solves in parallel, where no compiled program runs it step by step."""


@dataclass(frozen=True, config={"extra": "forbid"})
class LrcSSMConfig:
    """Sizes, range of the rates, how whole sequences are evaluated."""

    model_size: Units = 32
    """H, channels between the blocks."""

    units: Units = 32
    """N, cells of a block."""

    layers: Annotated[int, Field(ge=1, le=64)] = 2
    """Blocks."""

    slowest_rate: Annotated[float, Field(gt=0, lt=1)] = 0.002
    """Least initial sigmoid(d), the elastance of a cell: the share of dx/dt that a frame period adds."""

    fastest_rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Greatest initial sigmoid(d); the cells' are drawn between the two, evenly in the logarithm."""

    method: Literal["auto", "parallel", "sequential"] = "auto"
    """"parallel" (Newton's method with a scan), "sequential" (step by step), or "auto": step by step where a compiled
    program does that, on a CPU, else parallel."""

    most_iterations: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Newton iterations after which a sequence is given up and runs step by step."""

    tolerance: Positive = 1e-6
    """A sample is solved when no voltage moved by more than this in an iteration, relative to the largest one or 1."""

    kernel: str = "auto"
    """What runs step by step: "auto", "reference", "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        """Check the order of the rates and the name of the kernel."""
        if self.slowest_rate > self.fastest_rate:
            raise ValueError(
                f"slowest_rate must be at most fastest_rate, got {self.slowest_rate}, {self.fastest_rate}."
            )
        check_kernel(CELL, self.kernel)
        if self.method == "parallel" and self.kernel == "reference":
            raise ValueError("kernel='reference' runs step by step: it does not go with method='parallel'.")


@plain_dataclass(frozen=True)
class Solution:
    """How Newton's method went in one block.

    Attributes:
        iterations: done.
        converged: whether every sample moved no more.
        moved: largest change in the last iteration.
    """

    iterations: int
    converged: bool
    moved: float


class LrcSSM(Core):
    """Liquid-resistance liquid-capacitance cells whose sequences can be solved in parallel.

    Attributes:
        config: its choices.
        embed: F features → H.
        blocks: the layers.
        norm: before the read-out.
        readout: H → M motors.
        solutions: how Newton's method went in each block of the last call; empty when it ran step by step.
    """

    def __init__(self, input_size: int, output_size: int, config: LrcSSMConfig | None = None, seed: int = 0):
        """Draw the weights from `seed`.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its choices; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.
        """
        super().__init__()
        config = config or LrcSSMConfig()
        size = config.model_size
        check_parameters("this LrcSSM", size * (input_size + 4 * config.layers * config.units))
        self.input_size, self.output_size, self.state_size = input_size, output_size, config.layers * config.units
        self.config = config
        with seeded(seed):
            self.embed = nn.Linear(input_size, size)
            self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
            self.norm = nn.LayerNorm(size)
            self.readout = readout(size, output_size)
        self.solutions: tuple[Solution, ...] = ()

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks, each over the whole sequence; see `Core.forward`."""
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            parallel = self._runs_parallel(inputs)
            h, after, solutions = self.embed(inputs), [], []
            for block, before in zip(self.blocks, state.chunk(self.config.layers, dim=1), strict=True):
                assert isinstance(block, _Block)
                drive = block.drive(h)
                voltages = None
                if parallel:
                    voltages, solution = block.solve(drive, before, elapsed, starts, self.config)
                    solutions.append(solution)
                if voltages is None:
                    voltages = block.run(drive, before, elapsed, starts, self.config.kernel)
                h = block.leave(h, voltages)
                after.append(voltages[:, -1])
            if not torch.compiler.is_compiling():
                self.solutions = tuple(solutions)
            return self.readout(self.norm(h)), torch.cat(after, dim=1)

    def cost_per_step(self) -> CoreCost:
        """Count weights as synapses, and the multiply-adds of a step, some 12 for a cell."""
        linear = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        own = self.state_size
        return measure_cost(self, linear - self.readout.weight.numel() + own, linear + 12 * own)

    def _runs_parallel(self, inputs: Tensor) -> bool:
        if torch.compiler.is_compiling() or is_exporting() or not len(inputs):
            return False  # the number of iterations depends on the data
        if self.config.method != "auto":
            return self.config.method == "parallel"
        long = inputs.shape[1] >= PARALLEL_STEPS
        return long and inputs.device.type not in CELL.dtypes and self.config.kernel == "auto"


class _Block(nn.Module):
    """Cells between a norm and a gated mix of channels.

    Attributes:
        synapse: W, c: features → what opens v.
        elastance: V, d: features → ε.
        own_slope: `[N]` a.
        own_offset: `[N]` b.
        own_elastance: `[N]` w.
        gleak: `[N]`.
        resting: `[N]` e.
        own_conductance: `[N]` g.
        conductance: `[N]` γ.
        own_potential: `[N]` k.
        potential: `[N]` κ.
        mix: N → 2 H, the second half gates the first.
    """

    own_slope: nn.Parameter
    own_offset: nn.Parameter
    own_elastance: nn.Parameter
    gleak: nn.Parameter
    resting: nn.Parameter
    own_conductance: nn.Parameter
    conductance: nn.Parameter
    own_potential: nn.Parameter
    potential: nn.Parameter

    def __init__(self, config: LrcSSMConfig):
        super().__init__()
        size, units = config.model_size, config.units
        self.norm = nn.LayerNorm(size)
        self.synapse, self.elastance = nn.Linear(size, units), nn.Linear(size, units)
        for name in _OWN:
            setattr(self, name, nn.Parameter(torch.empty(units).uniform_(-1, 1)))
        self.mix = nn.Linear(units, 2 * size)
        share = torch.linspace(0, 1, units)[torch.randperm(units)] if units > 1 else torch.zeros(1)
        rate = config.slowest_rate * (config.fastest_rate / config.slowest_rate) ** share
        with torch.no_grad():
            self.elastance.bias.copy_(torch.log(rate / (1 - rate)))
            self.own_elastance.mul_(0.1)
        self.units = units
        self._program = record(self._step, self._weights(), 2 * units, units)

    def drive(self, h: Tensor) -> Tensor:
        """Return v and the features' part of ε, `[B, T, 2 N]`, for `[B, T, H]`."""
        u = self.norm(h)
        return torch.cat((torch.sigmoid(self.synapse(u)), self.elastance(u)), dim=2)

    def leave(self, h: Tensor, voltages: Tensor) -> Tensor:
        """Return what the next block hears."""
        return h + functional.glu(self.mix(voltages), dim=-1)

    def run(self, drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, kernel: str) -> Tensor:
        """Run step by step; returns the voltages after every step, `[B, T, N]`."""
        return run_sequence(self._step, self._program, self._weights(), drive, state, elapsed, starts, kernel)

    def solve(
        self, drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, config: LrcSSMConfig
    ) -> tuple[Tensor | None, Solution]:
        """Solve the whole sequence by Newton's method; None, and a warning, where it does not converge."""
        with torch.no_grad():
            voltages, solution = self._iterate(drive, state, elapsed, starts, config)
            if not solution.converged:
                warnings.warn(
                    f"LrcSSM: Newton's method did not converge in {solution.iterations} iterations (voltages still "
                    f"moved by {solution.moved:.1e}): this sequence runs step by step, as with method='sequential'.",
                    RuntimeWarning,
                    stacklevel=4,
                )
                return None, solution
            before = _shift(voltages, state, starts)
        after, slope = self._step_and_slope(drive, before, elapsed)
        slope = slope.detach()
        solved = scan(slope, after - slope * before, state, starts)
        return _OnceDifferentiable.apply(solved, after), solution

    def _iterate(
        self, drive: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, config: LrcSSMConfig
    ) -> tuple[Tensor, Solution]:
        """Return the voltages `[B, T, N]`, and how it went. A sample that is solved rests: others do not move it."""
        voltages = drive.new_zeros(*drive.shape[:2], self.units)
        moving = torch.arange(len(drive), device=drive.device)  # numbers of the samples that are not solved
        moved = torch.zeros(len(drive), dtype=drive.dtype, device=drive.device)
        iteration = 0
        while len(moving) and iteration < config.most_iterations:
            iteration += 1
            guess, first, began = voltages[moving], state[moving], starts[moving]
            before = _shift(guess, first, began)
            after, slope = self._step_and_slope(drive[moving], before, elapsed[moving])
            better = scan(slope, after - slope * before, first, began)
            size = better.abs().amax(dim=(1, 2)).clamp_min(1)
            moved = (better - guess).abs().amax(dim=(1, 2)) / size
            voltages[moving] = better
            moving = moving[~(moved <= config.tolerance)]  # NaN has not arrived either
        largest = float(moved.nan_to_num(math.inf).max()) if len(moved) else 0.0
        return voltages, Solution(iteration, not len(moving), largest)

    def _step_and_slope(self, drive: Tensor, x: Tensor, elapsed: Tensor) -> tuple[Tensor, Tensor]:
        """Return a step from x, `[B, T, N]`, for all times at once, and its derivative with respect to x."""
        v, outside = drive.split(self.units, dim=2)
        s = torch.sigmoid(self.own_slope * x + self.own_offset)
        c = torch.sigmoid(self.own_conductance * s + self.conductance * v + self.gleak)
        t = torch.tanh(self.own_potential * s + self.potential * v + self.gleak)
        e = torch.sigmoid(self.own_elastance * x + outside)
        way = self.resting * t - c * x
        free = e * elapsed[..., None]
        past = free * c > 1
        rate = torch.where(past, 1 / c, free)
        after = x + rate * way
        with torch.no_grad():
            s_slope = self.own_slope * s * (1 - s)
            c_slope = self.own_conductance * s_slope * c * (1 - c)
            way_slope = self.resting * self.own_potential * s_slope * (1 - t * t) - c_slope * x - c
            rate_slope = torch.where(past, -c_slope / (c * c), self.own_elastance * (1 - e) * free)
            return after, 1 + rate * way_slope + rate_slope * way

    def _weights(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _OWN}

    def _step(self, ops: Any, weights: Mapping[str, Any], drive: Any, state: Any, elapsed: Any) -> Any:
        """One frame; see `policies.kernels.cell.step`."""
        v, outside = ops.split(drive, [self.units, self.units])
        s = ops.sigmoid(state * weights["own_slope"] + weights["own_offset"])
        c = ops.sigmoid(s * weights["own_conductance"] + v * weights["conductance"] + weights["gleak"])
        z = s * weights["own_potential"] + v * weights["potential"] + weights["gleak"]
        e = ops.sigmoid(state * weights["own_elastance"] + outside)
        way = ops.tanh(z) * weights["resting"] - state * c
        step = e * elapsed
        past = ops.activation("relu", step * c - 1.0)
        return state + way * (step / (past + 1.0))


_OWN = (
    "own_slope",
    "own_offset",
    "own_elastance",
    "gleak",
    "resting",
    "own_conductance",
    "conductance",
    "own_potential",
    "potential",
)
"""Parameters of the cells, one number each."""


def _shift(voltages: Tensor, state: Tensor, starts: Tensor) -> Tensor:
    """Return the voltages before every step: those after the step before, 0 where a sequence starts."""
    before = torch.cat((state[:, None], voltages[:, :-1]), dim=1)
    return torch.where(starts[..., None], 0, before)


class _OnceDifferentiable(torch.autograd.Function):
    """Passes on what was solved. The slopes in it count as constants, so its gradient must not be differentiated."""

    @staticmethod
    def forward(solved: Tensor, after: Tensor) -> Tensor:
        return solved.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *refuse_second_derivatives((grad,), (grad, *ctx.saved_tensors)), None
