"""What can be set about an LTC: its wiring, its solver, its maps, the ranges of its initial values.

core = make_core("ltc", input_size=32, output_size=1, config=LTCConfig(solver="rk4", substeps=2))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policies.cores.wiring_choice import check_wiring
from policies.kernels import dispatch, reference

SOLVERS = (*reference.SOLVERS, "adaptive")
MAPPINGS = ("affine", "linear", "none")


@dataclass(frozen=True)
class LTCConfig:
    """Solver, maps and initial values of an LTC, and the wiring when it is made by name."""

    wiring: str | dict[str, Any] = "ncp"
    """Wiring to make: "ncp" (AutoNCP), "fully_connected", "random" or "published_driver"; or a wiring's `to_json()`.
    An `LTC` that is given a wiring ignores this and the next three."""

    units: int = 19
    """N, neurons in all, motor neurons included."""

    sparsity: float = 0.5
    """Share of the possible synapses that an "ncp" or "random" wiring leaves out."""

    wiring_seed: int = 22222
    """Seed of the wiring's draws; apart from the weights' seed, so that drivers compare on one circuit."""

    solver: str = "fused"
    """"fused" (semi-implicit, first order), "euler", "rk4" or "adaptive" (Dormand-Prince; needs the extra `ode`)."""

    substeps: int = 6
    """Solver steps a frame; the adaptive solver chooses its own."""

    rtol: float = 1e-5
    """Relative tolerance of the adaptive solver."""

    atol: float = 1e-6
    """Absolute tolerance of the adaptive solver, in voltage."""

    input_mapping: str = "affine"
    """How inputs enter: "affine" u·w + b, "linear" u·w, "none"."""

    output_mapping: str = "affine"
    """How motor voltages leave: "affine" v·w + b, "linear" v·w, "none"."""

    kernel: str = "auto"
    """What runs the fused solver: "auto", "reference", "cpu" or "cuda"."""

    gleak_init: tuple[float, float] = (0.001, 1.0)
    """Range of the initial leak conductances, > 0."""

    vleak_init: tuple[float, float] = (-0.2, 0.2)
    """Range of the initial leak potentials."""

    cm_init: tuple[float, float] = (0.4, 0.6)
    """Range of the initial membrane capacitances, > 0."""

    w_init: tuple[float, float] = (0.001, 1.0)
    """Range of the initial synaptic conductances, > 0."""

    sigma_init: tuple[float, float] = (3.0, 8.0)
    """Range of the initial synapse steepnesses."""

    mu_init: tuple[float, float] = (0.3, 0.8)
    """Range of the voltages at which the synapses are half open, initially."""

    def __post_init__(self) -> None:
        """Check the choices and ranges.

        Raises:
            ValueError: if one is not allowed; the message says which are.
        """
        check_wiring(self.wiring)
        _one_of("solver", self.solver, SOLVERS)
        _one_of("input_mapping", self.input_mapping, MAPPINGS)
        _one_of("output_mapping", self.output_mapping, MAPPINGS)
        _one_of("kernel", self.kernel, dispatch.KERNELS)
        if self.substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {self.substeps}.")
        if self.solver != "fused" and self.kernel not in ("auto", "reference"):
            raise ValueError(f"kernel {self.kernel!r} runs the fused solver only, got solver={self.solver!r}.")
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got {self.rtol} and {self.atol}.")
        for name in ("gleak", "vleak", "cm", "w", "sigma", "mu"):
            low, high = getattr(self, f"{name}_init")
            if not low <= high or (name in ("gleak", "cm", "w") and low <= 0):
                raise ValueError(
                    f"{name}_init must be a range (low, high)"
                    f"{' of positive values' if name in ('gleak', 'cm', 'w') else ''}, got {(low, high)}."
                )
            # JSON knows no tuples.
            object.__setattr__(self, f"{name}_init", (float(low), float(high)))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
