"""The recurrent cores, by name.

core = make_core("lstm", input_size=32, output_size=1, config={"hidden_size": 64}, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from policies.cores.cfc import CfC, CfCConfig
from policies.cores.core import Core as Core
from policies.cores.ctrnn import CTRNN, CTRNNConfig
from policies.cores.feedforward import FeedForward, FeedForwardConfig
from policies.cores.gated import GRU, LSTM, GRUConfig, LSTMConfig
from policies.cores.lrc import LRC, LRCConfig
from policies.cores.ltc import LTC, LTCConfig
from policies.cores.neural_ode import NeuralODE, NeuralODEConfig
from policies.cores.reservoir import Reservoir, ReservoirConfig
from policies.cores.transformer import Transformer, TransformerConfig


@dataclass(frozen=True)
class CoreSpec:
    """How to make a kind of core.

    Attributes:
        config: its config, a frozen dataclass of JSON values.
        build: makes it from input size, output size, config and seed.
    """

    config: type[Any]
    build: Callable[[int, int, Any, int], Core]


CORES: dict[str, CoreSpec] = {
    "ltc": CoreSpec(LTCConfig, LTC.build),
    "cfc": CoreSpec(CfCConfig, CfC),
    "ctrnn": CoreSpec(CTRNNConfig, CTRNN),
    "neural_ode": CoreSpec(NeuralODEConfig, NeuralODE),
    "lrc": CoreSpec(LRCConfig, LRC),
    "reservoir": CoreSpec(ReservoirConfig, Reservoir),
    "transformer": CoreSpec(TransformerConfig, Transformer),
    "gru": CoreSpec(GRUConfig, GRU),
    "lstm": CoreSpec(LSTMConfig, LSTM),
    "feedforward": CoreSpec(FeedForwardConfig, FeedForward),
}


def make_core(name: str, input_size: int, output_size: int, config: Any = None, seed: int = 0) -> Core:
    """Make a core.

    Args:
        name: a key of `CORES`.
        input_size: F, features a step.
        output_size: M, motor outputs a step.
        config: the core's config, or a mapping of those of its fields that differ from the defaults.
        seed: of wiring and initial weights.

    Returns:
        The core.

    Raises:
        ValueError: if there is no such core, or the config is not for it.
    """
    if name not in CORES:
        raise ValueError(f"core must be one of {', '.join(sorted(CORES))}, got {name!r}.")
    return CORES[name].build(input_size, output_size, make_config(name, config), seed)


def make_config(name: str, config: Any = None) -> Any:
    """Return the config of the named core: defaults, with what `config` (a mapping or a config) says instead.

    Raises:
        ValueError: if there is no such core, or no such field.
    """
    if name not in CORES:
        raise ValueError(f"core must be one of {', '.join(sorted(CORES))}, got {name!r}.")
    kind = CORES[name].config
    if config is None:
        return kind()
    if isinstance(config, kind):
        return config
    if not isinstance(config, Mapping):
        raise ValueError(f"core {name!r} takes a {kind.__name__} or a mapping, got {type(config).__name__}.")
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ValueError(f"core {name!r} has no option {', '.join(map(repr, unknown))}. It has: {', '.join(known)}.")
    return kind(**config)
