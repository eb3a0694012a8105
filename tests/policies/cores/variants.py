"""The cores that the contract suite runs, in every variant that takes another path through the code."""

from __future__ import annotations

from typing import Any

import torch

from policies.cores import make_core
from policies.cores.core import Core

INPUTS, OUTPUTS = 5, 2

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ltc": ("ltc", {}),
    "ltc-reference": ("ltc", {"kernel": "reference"}),
    "ltc-euler": ("ltc", {"solver": "euler", "substeps": 12}),
    "ltc-rk4": ("ltc", {"solver": "rk4", "substeps": 4}),
    "ltc-adaptive": ("ltc", {"units": 8, "solver": "adaptive"}),
    "cfc": ("cfc", {}),
    "cfc-reference": ("cfc", {"kernel": "reference"}),
    "cfc-pure": ("cfc", {"mode": "pure"}),
    "cfc-no-gate-mixed": ("cfc", {"mode": "no_gate", "mixed_memory": True}),
    "cfc-full": ("cfc", {"wiring": None, "units": 7, "backbone_units": 16, "backbone_layers": 2}),
    "cfc-full-mixed": ("cfc", {"wiring": None, "units": 7, "backbone_layers": 0, "mixed_memory": True}),
    "cfc-random-wiring": ("cfc", {"wiring": "random", "units": 9}),
    "ctrnn": ("ctrnn", {"units": 8}),
    "neural-ode-euler": ("neural_ode", {"units": 6, "width": 9, "solver": "euler", "activation": "leaky_relu"}),
    "neural-ode-rk4": ("neural_ode", {"units": 6, "width": 9, "layers": 3, "activation": "silu"}),
    "neural-ode-adaptive": ("neural_ode", {"units": 6, "width": 9, "solver": "adaptive"}),
    "lrc": ("lrc", {}),
    "lrc-symmetric": ("lrc", {"elastance": "symmetric", "substeps": 2}),
    "liquid-s4": ("liquid_s4", {"model_size": 6, "states": 8}),
    "liquid-s4-degree-3": ("liquid_s4", {"model_size": 6, "states": 4, "layers": 1, "degree": 3}),
    "liquid-s4-linear": ("liquid_s4", {"model_size": 6, "states": 4, "degree": 1, "kernel": "reference"}),
    "lrc-ssm": ("lrc_ssm", {"model_size": 6, "units": 5}),
    "lrc-ssm-reference": ("lrc_ssm", {"model_size": 6, "units": 5, "layers": 1, "kernel": "reference"}),
    "lrc-ssm-parallel": ("lrc_ssm", {"model_size": 6, "units": 5, "method": "parallel"}),
    "reservoir": ("reservoir", {}),
    "reservoir-lstm": ("reservoir", {"core": "lstm", "core_options": {"hidden_size": 6}, "features": 4}),
    "transformer": ("transformer", {"model_size": 16, "heads": 2, "window": 4}),
    "lstm": ("lstm", {"hidden_size": 6}),
    "lstm-no-elapsed": ("lstm", {"hidden_size": 6, "elapsed_input": False}),
    "gru": ("gru", {"hidden_size": 6}),
    "feedforward": ("feedforward", {"hidden_size": 6}),
}

MEMORYLESS = {"feedforward"}
TIMELESS = {"lstm-no-elapsed"}
"""Variants that ignore elapsed time, as their config says."""


def build(variant: str, seed: int = 0, **more: Any) -> Core:
    """Build a variant with every parameter moved a little, so that none sits at a special value such as 0."""
    name, options = VARIANTS[variant]
    core = make_core(name, INPUTS, OUTPUTS, {**options, **more}, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return core


def sequence(batch_size: int, steps: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random inputs `[B, T, F]`, elapsed `[B, T]` in 0.5 to 1.5, and starts `[B, T]`, one step in five."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch_size, steps, INPUTS, generator=generator)
    elapsed = 0.5 + torch.rand(batch_size, steps, generator=generator)
    starts = torch.rand(batch_size, steps, generator=generator) < 0.2
    return inputs, elapsed, starts
