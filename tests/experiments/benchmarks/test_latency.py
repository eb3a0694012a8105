"""The time from a picture to the steering: turns, warm-up, and no time without agreement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.benchmarks import latency
from policies.policy import DrivingPolicy, PolicyConfig

Steer = Callable[[int], float]


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Callable[[Steer], list[str]]:
    """Stands in for both engines: torch steers 0.1, onnxruntime as told; gives the order in which they ran."""

    def make(steer: Steer) -> list[str]:
        ran: list[str] = []

        class Exported:
            def __init__(self, *_: Any) -> None:
                self.count = -1

            def step(self, picture: NDArray[np.uint8], start: bool) -> list[float]:
                ran.append("onnxruntime")
                self.count += 1
                assert start == (self.count == 0)
                return [steer(self.count)]

        def torch_step(policy: DrivingPolicy) -> latency.Step:
            return lambda picture, start: ran.append("torch") or 0.1

        monkeypatch.setattr(latency, "write_car", lambda *_, **__: None)
        monkeypatch.setattr(latency, "Driver", Exported)
        monkeypatch.setattr(latency, "_torch_step", torch_step)
        return ran

    return make


POLICY = DrivingPolicy.create(PolicyConfig(core="feedforward"))
ENGINES = ("torch", "onnxruntime")


def test_engines_take_turns_and_what_is_warm_up_does_not_count(turns: Callable[[Steer], list[str]]):
    ran = turns(lambda _: 0.1)
    times = latency.measure(POLICY, ENGINES, frames=100, warm_up=20)
    assert {name: len(found) for name, found in times.items()} == {"torch": 100, "onnxruntime": 100}
    assert ran[:100] == ["torch"] * 50 + ["onnxruntime"] * 50
    assert len(ran) == 240 and all((found > 0).all() for found in times.values())


@pytest.mark.parametrize("wrong", [0.1001, float("nan")])
def test_no_time_is_told_where_the_engines_do_not_agree(turns: Callable[[Steer], list[str]], wrong: float):
    turns(lambda number: wrong if number == 63 else 0.1)
    with pytest.raises(ValueError, match="do not agree at picture 63: .*No time"):
        latency.measure(POLICY, ENGINES, frames=100, warm_up=20)
