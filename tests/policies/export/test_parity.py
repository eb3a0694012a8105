"""An exported driver is its policy, whatever the core."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.cores import CORES, LTC
from policies.export.graph import DriverStep
from policies.export.parity import TOLERANCE, clockwork, measure_parity, moving_picture
from policies.policy import DrivingPolicy, PolicyConfig
from tests.policies.export.conftest import FIT, small_policy

Exported = Callable[[str], tuple[DrivingPolicy, Path]]


@pytest.mark.parametrize("core", ["ltc", "lstm"])  # each takes seconds; `experiments.export.parity_table` does them all
def test_an_export_is_its_policy(exported: Exported, core: str):
    policy, folder = exported(core)
    found = measure_parity(policy, folder, frames=80, seed=1)
    assert set(found) == {"onnxruntime", "numpy"}
    for engine, one in found.items():
        assert one.motors <= TOLERANCE, engine
        assert one.state <= 10 * TOLERANCE, engine


@pytest.mark.parametrize("core", sorted(CORES))
def test_the_step_that_is_exported_is_the_policy(core: str):
    policy = small_policy(core)
    step, state = DriverStep(policy), torch.zeros(1, policy.core.state_size)
    elapsed, starts = clockwork(20)
    pictures = moving_picture(FIT.source_height, FIT.source_width, 20)
    with torch.no_grad():
        for k, frame in enumerate(pictures):
            given = torch.tensor([[float(elapsed[k])]]), torch.tensor([[bool(starts[k]) or k == 12]])
            wanted, after = policy(torch.from_numpy(frame)[None, None], state, *given)
            motors, state = step(FIT(torch.from_numpy(frame))[None], state, *given)
            torch.testing.assert_close(motors, wanted[:, 0], rtol=1e-5, atol=5e-6)
            torch.testing.assert_close(state, after, rtol=1e-5, atol=1e-5)


def test_the_comparison_sees_a_policy_that_is_another(exported: Exported):
    _, folder = exported("ltc")
    other = small_policy("ltc")
    with torch.no_grad():
        other.core.output_b += 2e-5  # type: ignore[operator,union-attr]
    assert all(one.motors > TOLERANCE for one in measure_parity(other, folder, frames=20).values())


def test_figures_of_the_comparison_are_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A driver that is off by so much: steering at one frame of four, the throttle and a state throughout."""
    config = PolicyConfig("gru", {"hidden_size": 5}, preprocessing=FIT, motors=2)
    policy = DrivingPolicy.create(config, seed=0)

    class Off:
        def __init__(self, folder: Path, engine: str):
            self.state, self._step, self._memory = np.zeros((1, 5)), 0, None

        def step(self, frame: np.ndarray, elapsed: float, start: bool) -> np.ndarray:
            given = torch.full((1, 1), elapsed), torch.full((1, 1), start)
            with torch.no_grad():
                motors, self._memory = policy(torch.from_numpy(frame)[None, None], self._memory, *given)
            self.state = self._memory.numpy().copy()
            self.state[0, 2] += 0.01 * (self._step == 2)
            self._step += 1
            return motors[0, 0].numpy() - np.array([0.04 * (self._step == 2), 0.5])

    monkeypatch.setattr("policies.export.parity.Driver", Off)
    (found,) = measure_parity(policy, tmp_path, frames=4, engines=("numpy",)).values()
    assert (found.frames, found.motors) == (4, pytest.approx(0.5, rel=1e-5))
    assert found.mean == pytest.approx(0.01, rel=1e-4), "of the steering alone"
    assert found.state == pytest.approx(0.01, rel=1e-3), "relative to 1, for no state is larger"


def test_the_drive_of_the_comparison_is_no_easy_one():
    elapsed, starts = clockwork(1000)
    assert elapsed.min() < 0.55 and elapsed.max() > 1.8 and 8 <= starts.sum() <= 50 and starts[0]
    frames = np.stack(list(moving_picture(24, 48, 300)))
    assert frames.std() > 30 and np.abs(np.diff(frames.astype(int), axis=0)).mean() > 2


@pytest.mark.parametrize(
    "options",
    [
        {"input_mapping": "none", "output_mapping": "none", "substeps": 1},
        {"input_mapping": "linear", "output_mapping": "linear", "wiring": "fully_connected", "units": 7},
        {"wiring": "random", "units": 9, "sparsity": 0.8},
        {"kernel": "cpu"},
    ],
)
def test_the_ltc_with_matrices_is_the_ltc(options: dict[str, object]):
    policy = small_policy("ltc", **options)
    assert isinstance(policy.core, LTC)
    step, state = DriverStep(policy), torch.zeros(1, policy.core.state_size)
    frames = list(moving_picture(FIT.source_height, FIT.source_width, 12))
    elapsed, starts = clockwork(12)
    with torch.no_grad():
        for k, frame in enumerate(frames):
            given = torch.tensor([[float(elapsed[k])]]), torch.tensor([[bool(starts[k]) or k == 6]])
            wanted, after = policy(torch.from_numpy(frame)[None, None], state, *given)
            motors, state = step(FIT(torch.from_numpy(frame))[None], state, *given)
            torch.testing.assert_close(motors, wanted[:, 0], rtol=0, atol=2e-6)
            torch.testing.assert_close(state, after, rtol=1e-5, atol=2e-6)


def test_an_adaptive_solver_has_no_fixed_graph():
    pytest.importorskip("torchdiffeq")
    for core in ("ltc", "neural_ode"):
        with pytest.raises(ValueError, match="fixed-step"):
            DriverStep(small_policy(core, solver="adaptive"))


def test_the_model_says_what_it_is(exported: Exported):
    import onnx

    _, folder = exported("ltc")
    model = onnx.load(folder / "driver.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [
        ("", 18)
    ]
    sizes = {
        entry.name: [d.dim_value for d in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    }
    assert sizes == {
        "frame": [1, 24, 48, 3],
        "state": [1, 19],
        "elapsed": [1, 1],
        "start": [1, 1],
        "motors": [1, 1],
        "next_state": [1, 19],
    }
    (entry,) = model.metadata_props
    config = json.loads(entry.value)
    assert (
        config["preprocessing"]["crop_top"] == 20 and config["period_s"] == 0.05 and config["notes"] == {"note": "ltc"}
    )
    text = (folder / "driver.onnx").read_bytes()
    assert b"/policies/" not in text and str(Path.cwd()).encode() not in text


def test_int8_moves_the_steering_a_little(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import onnx

    from policies.export.car import write_car

    policy, made = exported("lstm")
    monkeypatch.setattr("policies.export.car.to_onnx", lambda *_: onnx.load(made / "driver.onnx"))  # takes seconds
    frames = FIT(torch.from_numpy(np.stack(list(moving_picture(60, 80, 40, seed=3))))).numpy()
    half, foreign = tmp_path / ".driver.py.partial-0123abcd", tmp_path / ".mine.partial-0123abcd"
    half.touch()
    foreign.touch()
    folder = write_car(policy, tmp_path, numpy=True, int8_frames=frames)
    assert not half.exists() and foreign.exists(), "what a killed export left is cleared away, and nothing else"
    found = measure_parity(policy, folder, frames=40)
    assert all(1e-4 < one.motors < 0.2 for one in found.values())
    assert found["onnxruntime"].mean == pytest.approx(found["numpy"].mean, rel=0.3)
    with pytest.raises(ValueError, match=r"\[n, 24, 48, 3\]"):
        write_car(policy, tmp_path, int8_frames=frames[:, 1:])
