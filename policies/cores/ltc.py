"""Liquid time-constant core: neurons whose time constant depends on what they hear.

    cm_j · dv_j/dt = gleak_j · (vleak_j − v_j) + Σ_i w_ij · sigmoid(sigma_ij · (v_i − mu_ij)) · (erev_ij − v_j)

over a sparse wiring (Hasani et al., "Liquid Time-constant Networks", AAAI 2021; Lechner et al., "Neural circuit
policies enabling auditable autonomy", Nature Machine Intelligence 2020). The state is the neurons' voltages, the
outputs are the motor neurons', scaled. Conductances and capacitances are positive by construction, so whatever the
inputs, the voltages stay between the reversal potentials.

    core = LTC(Wiring.auto_ncp(units=19, outputs=1, inputs=32))
    outputs, state = core(torch.randn(8, 16, 32))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import softplus

from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost
from policies.kernels.choose import check_kernel, choose_kernel, is_traced
from policies.kernels.ltc import dispatch, reference
from policies.kernels.ltc.reference import Circuit
from policies.limits import Positive, Seed, Substeps, Units
from policies.wiring.named import check_wiring, choose_wiring
from policies.wiring.wiring import Wiring

if TYPE_CHECKING:
    import numpy as np

    from policies.kernels.ltc.cpu.inference import Inference

Mapping = Literal["affine", "linear", "none"]
Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, config={"extra": "forbid"})
class LTCConfig:
    """Solver, maps and initial values of an LTC, and the wiring when it is made by name."""

    wiring: str | dict[str, Any] = "ncp"
    """Wiring to make: "ncp" (AutoNCP), "fully_connected", "random" or "published_driver"; or a wiring's `to_json()`.
    An `LTC` that is given a wiring ignores this and the next three."""

    units: Units = 19
    """N, neurons in all, motor neurons included."""

    sparsity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the possible synapses that an "ncp" or "random" wiring leaves out."""

    wiring_seed: Seed = 22222
    """Seed of the wiring's draws; apart from the weights' seed, so that drivers compare on one circuit."""

    solver: Literal["fused", "euler", "rk4", "adaptive"] = "fused"
    """"fused" (semi-implicit, first order), "euler", "rk4" or "adaptive" (Dormand-Prince; needs the extra `ode`)."""

    substeps: Substeps = 6
    """Solver steps a frame; the adaptive solver chooses its own."""

    rtol: Positive = 1e-5
    """Relative tolerance of the adaptive solver."""

    atol: Positive = 1e-6
    """Absolute tolerance of the adaptive solver, in voltage."""

    input_mapping: Mapping = "affine"
    """How inputs enter: "affine" u·w + b, "linear" u·w, "none"."""

    output_mapping: Mapping = "affine"
    """How motor voltages leave: "affine" v·w + b, "linear" v·w, "none"."""

    kernel: str = "auto"
    """What runs the fused solver: "auto", "reference", "cpu" or "cuda"."""

    gleak_init: tuple[Positive, Positive] = (0.001, 1.0)
    """Range of the initial leak conductances."""

    vleak_init: tuple[Number, Number] = (-0.2, 0.2)
    """Range of the initial leak potentials."""

    cm_init: tuple[Positive, Positive] = (0.4, 0.6)
    """Range of the initial membrane capacitances."""

    w_init: tuple[Positive, Positive] = (0.001, 1.0)
    """Range of the initial synaptic conductances."""

    sigma_init: tuple[Number, Number] = (3.0, 8.0)
    """Range of the initial synapse steepnesses."""

    mu_init: tuple[Number, Number] = (0.3, 0.8)
    """Range of the voltages at which the synapses are half open, initially."""

    def __post_init__(self) -> None:
        """Check the names, that the kernel has the solver, and that ranges run upwards."""
        check_wiring(self.wiring)
        check_kernel(dispatch.LTC_KERNELS, self.kernel)
        if self.solver != "fused" and self.kernel not in ("auto", "reference"):
            raise ValueError(f"kernel {self.kernel!r} runs the fused solver only, got solver={self.solver!r}.")
        for name in ("gleak", "vleak", "cm", "w", "sigma", "mu"):
            low, high = getattr(self, f"{name}_init")
            if low > high:
                raise ValueError(f"{name}_init must be a range (low, high), got {(low, high)}.")


class LTC(Core):
    """A liquid time-constant circuit.

    Parameters are kept per synapse, in the order of the wiring's synapses. Those that must be positive (gleak, cm, w,
    sensory_w) are stored as `raw_…` and pass a softplus; `circuit()` returns the effective values.

    Attributes:
        wiring: which neuron talks to which.
        config: solver, maps and initial values.
    """

    def __init__(self, wiring: Wiring, config: LTCConfig | None = None, seed: int | torch.Generator = 0):
        """Build the circuit and draw its initial values.

        Args:
            wiring: the circuit.
            config: solver, maps and initial values; the defaults when None.
            seed: seed, or a generator, of the initial values; torch's global generator is left alone.
        """
        super().__init__()
        config = config or LTCConfig()
        self.wiring, self.config = wiring, config
        self.input_size, self.state_size, self.output_size = wiring.inputs, wiring.units, wiring.outputs
        rng = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        units, sensory, recurrent = wiring.units, wiring.sensory_array, wiring.recurrent_array

        def draw(size: int, bounds: tuple[float, float]) -> Tensor:
            return torch.rand(size, generator=rng) * (bounds[1] - bounds[0]) + bounds[0]

        self.raw_gleak = nn.Parameter(inverse_softplus(draw(units, config.gleak_init)))
        self.vleak = nn.Parameter(draw(units, config.vleak_init))
        self.raw_cm = nn.Parameter(inverse_softplus(draw(units, config.cm_init)))
        self.raw_sensory_w = nn.Parameter(inverse_softplus(draw(len(sensory), config.w_init)))
        self.sensory_mu = nn.Parameter(draw(len(sensory), config.mu_init))
        self.sensory_sigma = nn.Parameter(draw(len(sensory), config.sigma_init))
        self.sensory_erev = nn.Parameter(torch.tensor(sensory[:, 2], dtype=torch.float32))
        self.raw_w = nn.Parameter(inverse_softplus(draw(len(recurrent), config.w_init)))
        self.mu = nn.Parameter(draw(len(recurrent), config.mu_init))
        self.sigma = nn.Parameter(draw(len(recurrent), config.sigma_init))
        self.erev = nn.Parameter(torch.tensor(recurrent[:, 2], dtype=torch.float32))
        self.input_w: nn.Parameter | None
        self.input_b: nn.Parameter | None
        self.output_w: nn.Parameter | None
        self.output_b: nn.Parameter | None
        self._add_map("input", config.input_mapping, wiring.inputs)
        self._add_map("output", config.output_mapping, wiring.outputs)
        self._inference: Inference | None = None
        # The wiring is saved with the policy; its lists need no second copy in the weights.
        self.sensory_source: Tensor
        self.sensory_target: Tensor
        self.source: Tensor
        self.target: Tensor
        for name, column in (
            ("sensory_source", sensory[:, 0]),
            ("sensory_target", sensory[:, 1]),
            ("source", recurrent[:, 0]),
            ("target", recurrent[:, 1]),
        ):
            self.register_buffer(name, _as_tensor(column), persistent=False)

    @classmethod
    def build(cls, input_size: int, output_size: int, config: LTCConfig, seed: int = 0) -> LTC:
        """Build a circuit with the wiring that the config names; the registry's way to make one.

        Raises:
            ValueError: if the wiring does not fit the sizes.
        """
        named = config.wiring, config.units, config.sparsity, config.wiring_seed
        return cls(choose_wiring(*named, input_size, output_size), config, seed)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the circuit over a batch of sequences; see `Core.forward`.

        Args:
            inputs: `[B, T, I]` features.
            state: `[B, N]` neuron voltages before the first step; zeros when None.
            elapsed: `[B, T]` time since the previous frame in nominal frame periods, > 0; ones when None.
            starts: `[B, T]` bool; True zeroes the voltages before that step.

        Returns:
            `[B, T, M]` motor outputs and `[B, N]` voltages after the last step.

        Raises:
            ValueError: if a shape disagrees with `inputs`, or `elapsed` is not positive.
        """
        route, _ = self.choose_route(inputs)
        if route == "inference" and self._fast.takes(inputs, state, elapsed, starts):
            return self._fast.run(inputs, state, elapsed, starts)
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            if route == "inference":
                return self._fast.run(*(x.contiguous() for x in (inputs, state, elapsed, starts)))
            if route == "training":
                from policies.kernels.ltc.cpu.training import run_core

                lists, substeps = self._lists(), self.config.substeps
                return run_core(self._parameters, lists, self.output_size, substeps, inputs, state, elapsed, starts)
            motors, voltages = self._run(inputs, state, elapsed, starts, self.output_size)
            return self._map_outputs(motors), voltages[:, -1]

    def choose_route(self, inputs: Tensor) -> tuple[str, str]:
        """Say how `forward` will run, and why.

        Returns:
            "inference" (CPU kernel from raw parameters to outputs, nothing kept), "training" (likewise, with one
            backward pass for all of it), or "op" (maps, softplus and the kernel of `dispatch` one after the other);
            and the reason.

        Raises:
            ValueError: if the kernel that the config names cannot run.
            ModuleNotFoundError: likewise.
        """
        if self.config.solver != "fused":
            return "op", f"the CPU kernel has no {self.config.solver} solver"
        if not inputs.is_cpu or not inputs.shape[0]:
            return "op", "the inputs are not on the CPU, or there are none"
        if is_traced(inputs):
            return "op", "something traces"
        if choose_kernel(dispatch.LTC_KERNELS, self.config.kernel, "cpu", torch.float32) != "cpu":
            return "op", "the CPU kernel is not wanted or not there"
        if torch.is_grad_enabled():
            from policies.kernels.ltc.cpu.inference import are_plain

            if are_plain(self._parameters):
                return "training", "gradients are on"
        elif self._fast.adopt(self._parameters):
            return "inference", "gradients are off"
        return "op", "a parameter is no plain float32 tensor on the CPU"

    @property
    def _fast(self) -> Inference:
        if self._inference is None:
            from policies.kernels.ltc.cpu.inference import Inference

            sizes = self.input_size, self.output_size, self.config.substeps
            self._inference = Inference(self.state_size, self._lists(), *sizes)
        return self._inference

    def voltages(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> Tensor:
        """Return the voltages `[B, T, N]` of all neurons after each step; arguments as in `forward`."""
        with full_precision(inputs):
            return self._run(*enter(self, inputs, state, elapsed, starts), 0)[1]

    def circuit(self) -> Circuit:
        """Return the effective values, after the softplus, with the synapse lists."""
        return Circuit(
            gleak=softplus(self.raw_gleak),
            vleak=self.vleak,
            cm=softplus(self.raw_cm),
            sensory_w=softplus(self.raw_sensory_w),
            sensory_mu=self.sensory_mu,
            sensory_sigma=self.sensory_sigma,
            sensory_erev=self.sensory_erev,
            w=softplus(self.raw_w),
            mu=self.mu,
            sigma=self.sigma,
            erev=self.erev,
            sensory_source=self.sensory_source,
            sensory_target=self.sensory_target,
            source=self.source,
            target=self.target,
        )

    def time_constants(self, inputs: Tensor, voltages: Tensor) -> Tensor:
        """Return each neuron's momentary time constant, cm / (gleak + Σ a), in nominal frame periods.

        Args:
            inputs: `[..., I]` features.
            voltages: `[..., N]` voltages at the same moments.

        Returns:
            `[..., N]`.
        """
        circuit = self.circuit()
        sensory = circuit.sensory_drive(self._map_inputs(inputs))[1]
        return circuit.cm / (circuit.gleak + circuit.recurrent_drive(voltages)[1] + sensory)

    def synaptic_currents(self, inputs: Tensor, voltages: Tensor) -> tuple[Tensor, Tensor]:
        """Return the current a · (erev − v) that each synapse sends into its target.

        Args:
            inputs: `[..., I]` features.
            voltages: `[..., N]` voltages at the same moments.

        Returns:
            `[..., S_in]` of the sensory and `[..., S_rec]` of the recurrent synapses, in the wiring's order.
        """
        c, inputs = self.circuit(), self._map_inputs(inputs)
        sensory_a = c.sensory_w * torch.sigmoid(c.sensory_sigma * (inputs[..., c.sensory_source] - c.sensory_mu))
        a = c.w * torch.sigmoid(c.sigma * (voltages[..., c.source] - c.mu))
        return (
            sensory_a * (c.sensory_erev - voltages[..., c.sensory_target]),
            a * (c.erev - voltages[..., c.target]),
        )

    def cost_per_step(self) -> CoreCost:
        """Count synapses and multiply-adds: four a synapse and evaluation."""
        evaluations = self.config.substeps * {"rk4": 4}.get(self.config.solver, 1)
        sensory, recurrent = len(self.wiring.sensory), len(self.wiring.recurrent)
        return measure_cost(self, sensory + recurrent, 4 * (sensory + evaluations * recurrent))

    def _run(
        self, inputs: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, motors: int
    ) -> tuple[Tensor, Tensor]:
        """Return the voltages of the first neurons `[B, T, motors]` and of all `[B, T, N]`."""
        config = self.config
        if config.solver == "fused":
            return dispatch.ltc_motors(
                *(inputs, state, elapsed, starts, self.circuit(), config.substeps, config.kernel),
                *(self.input_w, self.input_b, motors),
            )
        inputs = self._map_inputs(inputs)
        if config.solver == "adaptive":
            voltages = reference.adaptive_sequence(
                inputs, state, elapsed, starts, self.circuit(), config.rtol, config.atol
            )
        else:
            voltages = reference.ltc_sequence(
                inputs, state, elapsed, starts, self.circuit(), config.substeps, config.solver
            )
        return voltages[..., :motors], voltages

    def output_map(self) -> tuple[nn.Parameter, ...]:
        """Return weights and biases of the motor neurons; none where voltages come out. See `Core.output_map`."""
        return tuple(parameter for parameter in (self.output_w, self.output_b) if parameter is not None)

    def _lists(self) -> tuple[Tensor, ...]:
        return self.sensory_source, self.sensory_target, self.source, self.target

    def _map_inputs(self, inputs: Tensor) -> Tensor:
        if self.input_w is not None:
            inputs = inputs * self.input_w
        return inputs if self.input_b is None else inputs + self.input_b

    def _map_outputs(self, voltages: Tensor) -> Tensor:
        if self.output_w is not None:
            voltages = voltages * self.output_w
        return voltages if self.output_b is None else voltages + self.output_b

    def _add_map(self, name: str, mapping: str, size: int) -> None:
        self.register_parameter(f"{name}_w", None if mapping == "none" else nn.Parameter(torch.ones(size)))
        self.register_parameter(f"{name}_b", nn.Parameter(torch.zeros(size)) if mapping == "affine" else None)


def inverse_softplus(values: Tensor) -> Tensor:
    """Return x with softplus(x) = values, for positive values; computed in float64.

    Zero has none: it is taken for 1e-8, the fused step's epsilon.
    """
    wide = values.double().clamp_min(reference.EPSILON)
    return (wide + torch.log(-torch.expm1(-wide))).to(values.dtype)


def _as_tensor(column: np.ndarray) -> Tensor:
    """Copy a read-only column."""
    return torch.tensor(column, dtype=torch.int64)
