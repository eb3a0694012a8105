"""The recurrent cores, by name.

core = make_core("lstm", input_size=32, output_size=1, config={"hidden_size": 64}, seed=0)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from importlib.metadata import entry_points
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from policies.cores.cfc import CfC, CfCConfig
from policies.cores.check import check_core
from policies.cores.core import Core as Core
from policies.cores.ctrnn import CTRNN, CTRNNConfig
from policies.cores.feedforward import FeedForward, FeedForwardConfig
from policies.cores.gated import GRU, LSTM, GRUConfig, LSTMConfig
from policies.cores.liquid_s4 import LiquidS4, LiquidS4Config
from policies.cores.lrc import LRC, LRCConfig
from policies.cores.lrc_ssm import LrcSSM, LrcSSMConfig
from policies.cores.ltc import LTC, LTCConfig
from policies.cores.neural_ode import NeuralODE, NeuralODEConfig
from policies.cores.reservoir import Reservoir, ReservoirConfig
from policies.cores.transformer import Transformer, TransformerConfig

ENTRY_POINTS = "wormwheel.cores"
"""Group of the entry points by which an installed package brings cores: a name and a class each."""


@dataclass(frozen=True)
class CoreSpec:
    """How to make a kind of core.

    Attributes:
        config: its config, a frozen dataclass of JSON values.
        build: makes it from input size, output size, config and seed.
    """

    config: type[Any]
    build: Callable[[int, int, Any, int], Core]


def _make_reservoir(input_size: int, output_size: int, config: ReservoirConfig, seed: int) -> Core:
    """Make the core that the config names, frozen, with a read-out; both are drawn from `seed`."""
    frozen = make_core(config.core, input_size, config.features, config.core_options, seed)
    return Reservoir(frozen, output_size, config, seed)


CORES: dict[str, CoreSpec] = {
    "ltc": CoreSpec(LTCConfig, LTC.build),
    "cfc": CoreSpec(CfCConfig, CfC),
    "ctrnn": CoreSpec(CTRNNConfig, CTRNN),
    "neural_ode": CoreSpec(NeuralODEConfig, NeuralODE),
    "lrc": CoreSpec(LRCConfig, LRC),
    "liquid_s4": CoreSpec(LiquidS4Config, LiquidS4),
    "lrc_ssm": CoreSpec(LrcSSMConfig, LrcSSM),
    "reservoir": CoreSpec(ReservoirConfig, _make_reservoir),
    "transformer": CoreSpec(TransformerConfig, Transformer),
    "gru": CoreSpec(GRUConfig, GRU),
    "lstm": CoreSpec(LSTMConfig, LSTM),
    "feedforward": CoreSpec(FeedForwardConfig, FeedForward),
}

SHIPPED = frozenset(CORES)
"""Those that are held to the contract by tests; others are when they are made."""


def register_core(name: str, core: type[Core], config: type[Any] | None = None) -> None:
    """Let a core of one's own be made by name; also by `--core module:Class` and entry points `wormwheel.cores`.

    Args:
        name: for configs and the command line.
        core: made from `(input_size, output_size, config, seed)`.
        config: its config, a dataclass of JSON values; the type of the argument `config` when None.

    Raises:
        ValueError: if the name is taken by another core, or the core is not made so.
    """
    if config is None:
        try:
            config = get_type_hints(core.__init__)["config"]
        except (KeyError, NameError, TypeError) as error:
            raise ValueError(
                f"the core {name} must be made from (input_size, output_size, config, seed) and say the type of its "
                "config, a dataclass of JSON values."
            ) from error
    if get_origin(config) in (Union, UnionType):  # such as LeakyConfig | None
        config = next(kind for kind in get_args(config) if kind is not type(None))
    if not (isinstance(config, type) and is_dataclass(config)):
        raise ValueError(f"the config of the core {name} must be a dataclass, got {config!r}.")
    spec = CoreSpec(config, core)
    if CORES.setdefault(name, spec) != spec:
        raise ValueError(f"the name {name!r} is taken by another core; choose one of your own.")


def is_known(name: str) -> bool:
    """Whether a core of that name can be made: it ships, is registered, or a package that is installed brings it."""
    if name not in CORES:
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            register_core(name, entry.load())
    return name in CORES


def import_core(name: str) -> None:
    """Import the core that `module:Class` names, which runs the module's code, and register it under that name.

    Raises:
        ValueError: if there is no such core.
    """
    if is_known(name):
        return
    module, _, kind = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        core = getattr(import_module(module), kind)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(f"there is no core {name}: {error}.") from error
    if not (isinstance(core, type) and issubclass(core, Core)):
        raise ValueError(f"{name} is no core: it must be a class that extends policies.cores.Core.")
    register_core(name, core)


def make_core(name: str, input_size: int, output_size: int, config: Any = None, seed: int = 0) -> Core:
    """Make a core.

    Args:
        name: a key of `CORES`; a `module:Class` only after `import_core`, for names come from files, too.
        input_size: F, features a step.
        output_size: M, motor outputs a step.
        config: the core's config, or a mapping of those of its fields that differ from the defaults.
        seed: of wiring and initial weights.

    Returns:
        The core.

    Raises:
        ValueError: if there is no such core, or the config is not for it.
    """
    if not is_known(name):
        raise _unknown(name)
    made = make_config(name, config)
    if name in SHIPPED:
        return CORES[name].build(input_size, output_size, made, seed)
    try:
        core = CORES[name].build(input_size, output_size, made, seed)
    except TypeError as error:  # Of a class that is abstract, or takes other arguments.
        raise ValueError(
            f"the core {name} cannot be made: {error}. It is called with (input_size, output_size, config, seed)."
        ) from error
    check_core(name, core)
    return core


def _unknown(name: str) -> ValueError:
    """Say that there is no such core, or that its module is not imported: names come from files, too."""
    if ":" in name:
        return ValueError(
            f"the core {name} has not been imported, which runs its code: call policies.cores.import_core({name!r}) "
            "first, or register_core with the class."
        )
    return ValueError(f"core must be one of {', '.join(sorted(CORES))}, or module:Class; got {name!r}.")


def make_config(name: str, config: Any = None) -> Any:
    """Return the config of the named core: defaults, with what `config` (a mapping or a config) says instead.

    Raises:
        ValueError: if there is no such core, or no such field.
    """
    if not is_known(name):
        raise _unknown(name)
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
