"""Cores of one's own: by registration, by `module:Class` with trust, by an entry point."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from agents.driving.driver_options import DriverOptions
from agents.driving.open_driver import open_driver
from experiments.options import parse_core_options
from policies.checkpoint import CheckpointError, load_policy, save_policy
from policies.cores import CORES, import_core, make_core, register_core
from policies.cores.core import Core, measure_cost, prepare
from policies.policy import DrivingPolicy, PolicyConfig

LEAKY = """
from dataclasses import dataclass

import torch
from torch import nn

from policies.cores.core import Core, measure_cost, prepare


@dataclass(frozen=True)
class LeakyConfig:
    units: int = 4


class Leaky(Core):
    def __init__(self, input_size: int, output_size: int, config: LeakyConfig, seed: int = 0):
        super().__init__()
        self.input_size, self.output_size, self.state_size, self.config = input_size, output_size, config.units, config
        self.inward = nn.Linear(input_size, config.units)
        self.out = nn.Linear(config.units, output_size)

    def forward(self, inputs, state=None, elapsed=None, starts=None):
        state, elapsed, starts = prepare(self, inputs, state, elapsed, starts)
        outputs = []
        for step in range(inputs.shape[1]):
            state = torch.where(starts[:, step, None], torch.zeros_like(state), state)
            state = 0.9 * state + self.inward(inputs[:, step])
            outputs.append(self.out(state))
        return torch.stack(outputs, 1), state

    def cost_per_step(self):
        return measure_cost(self, 0, 0)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "leaky_core_of_a_test"
    (tmp_path / f"{name}.py").write_text(LEAKY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield f"{name}:Leaky"
    CORES.pop(f"{name}:Leaky", None)


def test_a_core_from_the_command_line_is_kept_in_the_policy_and_loaded_with_trust_alone(module, tmp_path):
    assert parse_core_options(module, ["units=7"]) == {"units": 7}
    policy = DrivingPolicy.create(PolicyConfig(core=module, core_options={"units": 7}))
    assert policy.core.state_size == 7
    save_policy(policy, tmp_path / "run" / "policy")
    assert load_policy(tmp_path / "run").core.state_size == 7  # registered in this process already

    CORES.pop(module)
    sys.modules.pop(module.partition(":")[0])
    with pytest.raises(CheckpointError, match="core of its own.*--trust"):
        load_policy(tmp_path / "run")
    assert module.partition(":")[0] not in sys.modules  # nothing was imported
    assert load_policy(tmp_path / "run", trust=True).core.state_size == 7
    CORES.pop(module)
    assert open_driver(tmp_path / "run", DriverOptions(trust=True)).motors == 1


def test_a_core_that_is_registered_needs_no_trust_and_names_are_not_taken_twice(module):
    namespace: dict[str, object] = {}
    exec(LEAKY, namespace)
    register_core("leaky", namespace["Leaky"], namespace["LeakyConfig"])  # type: ignore[arg-type]
    try:
        assert make_core("leaky", 3, 1, {"units": 5}).state_size == 5
        with pytest.raises(ValueError, match="taken"):
            register_core("leaky", type(make_core("gru", 3, 1)))
    finally:
        CORES.pop("leaky")
    with pytest.raises(ValueError, match="there is no core no_such_module:Leaky"):
        parse_core_options("no_such_module:Leaky", [])
    with pytest.raises(ValueError, match="or module:Class"):
        make_core("no such core", 3, 1)


@dataclass(frozen=True)
class OwnConfig:
    """Of the core below."""

    breaks: str = ""


@pytest.fixture
def own():
    """Register it for a while."""
    register_core("own", _Own)
    yield
    CORES.pop("own")


class _Own(Core):
    """A sum of what was seen; `breaks` changes what comes out."""

    def __init__(self, input_size: int, output_size: int, config: OwnConfig, seed: int = 0):
        super().__init__()
        self.input_size, self.output_size, self.state_size = input_size, output_size, 4
        self.inward, self.out, self.config = nn.Linear(input_size, 4), nn.Linear(4, output_size), config

    def forward(self, inputs, state=None, elapsed=None, starts=None):
        state, elapsed, starts = prepare(self, inputs, state, elapsed, starts)
        breaks, outputs = self.config.breaks, []
        for step in range(inputs.shape[1]):
            if breaks != "starts":
                state = torch.where(starts[:, step, None], torch.zeros_like(state), state)
            state = torch.tanh(state + self.inward(inputs[:, step]))
            outputs.append(self.out(state))
        answer = torch.stack(outputs, 1)
        return {
            "": (answer, state),
            "starts": (answer, state),
            "shape": (answer[:, :1], state),
            "state": (answer, state[:, :2]),
            "memory": (answer, torch.zeros_like(state)),
            "alone": answer,
            "nan": (answer * math.nan, state),
        }[breaks]

    def cost_per_step(self):
        return measure_cost(self, 0, 0)


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        ("shape", r"into outputs \(2, 3, 1\) and a state \(2, 4\), got \(2, 1, 1\) and \(2, 4\)"),
        ("state", r"got \(2, 3, 1\) and \(2, 2\)"),
        ("memory", "its state must hold all that it remembers"),
        ("starts", "the fresh state in place where `starts` is true"),
        ("alone", "two tensors, got Tensor"),
        ("nan", "gives NaN or infinity"),
    ],
)
def test_a_core_that_breaks_the_contract_is_refused_when_it_is_made(own, breaks, words):
    assert make_core("own", 3, 1).training
    with pytest.raises(ValueError, match=f"the core own .*{words}"):
        make_core("own", 3, 1, {"breaks": breaks})


def test_a_core_that_cannot_be_made_is_one_line(own):
    class Abstract(Core):
        def __init__(self, input_size: int, output_size: int, config: OwnConfig, seed: int = 0):
            super().__init__()

    class Few(_Own):
        def __init__(self, input_size: int, config: OwnConfig):
            super().__init__(input_size, 1, config)

    class Unsized(_Own):
        def __init__(self, input_size: int, output_size: int, config: OwnConfig, seed: int = 0):
            super().__init__(input_size, output_size, config)
            del self.state_size

    for kind, words in (
        (Abstract, "cannot be made: .*abstract"),
        (Few, "called with .input_size"),
        (Unsized, "number state_size"),
    ):
        CORES.pop("own")
        register_core("own", kind)
        with pytest.raises(ValueError, match=f"the core own .*{words}"):
            make_core("own", 3, 1)


def test_a_module_that_does_not_run_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "own_syntax.py").write_text("class Leaky(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="there is no core own_syntax:Leaky: invalid syntax"):
        import_core("own_syntax:Leaky")
