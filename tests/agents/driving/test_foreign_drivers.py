"""Drivers of others that are odd in some way: each drives as it should, or is one line that names it."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.foreign import SteeringScale
from agents.driving.open_driver import open_driver, wrap_driver
from agents.driving.rollout import drive_episodes, rollout
from agents.driving.trials import Run, Trial, drive_trials
from agents.runs.workers import portable, raise_here
from envs.foreign_code import ForeignCodeError, foreign_place, is_foreign
from envs.lane_keeping.env import LaneKeepingConfig

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 20, 40, 3)).astype(np.uint8)
ONES, STARTS = np.ones(2, np.float32), np.ones(2, bool)
SEEN = DriverOptions(frame="20x40")


def act(made: Any, options: DriverOptions = SEEN) -> Any:
    return wrap_driver(made, options, name="theirs").act(FRAMES, ONES, STARTS, ())


class Net(nn.Module):
    """Mean colours to steering, with what it answers turned into something else."""

    def __init__(self, change: Callable[[torch.Tensor], Any] = lambda steering: steering):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.out = nn.Conv2d(3, 4, 5, stride=2), nn.BatchNorm2d(4), nn.Linear(4, 1)
        self.change = change

    def forward(self, frames: torch.Tensor) -> Any:
        return self.change(torch.tanh(self.out(self.norm(self.conv(frames)).mean((2, 3)))))


class NoModes(Net):
    """Returns nothing from eval()."""

    def eval(self) -> Any:
        super().eval()


def _script() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(nn.Sequential(nn.Conv2d(3, 1, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()))


@pytest.mark.parametrize(
    "made",
    [
        Net().double(),
        Net().half(),
        Net().bfloat16(),
        NoModes(),
        Net(lambda steering: steering[:, 0]),
        Net(lambda steering: steering[:, :, None, None]),
        Net(lambda steering: steering.numpy()),
        _script(),
        nn.DataParallel(Net()),
    ],
    ids=["double", "half", "bfloat16", "no modes", "[B]", "[B, 1, 1, 1]", "numpy", "TorchScript", "DataParallel"],
)
def test_modules_of_any_precision_and_shape_drive_each_frame_by_itself(made: nn.Module):
    both = act(made)
    alone = wrap_driver(made, SEEN).act(FRAMES[1:], ONES[1:], STARTS[1:], ())
    assert both.shape == (2, 1) and both.dtype == np.float32 and np.abs(both).min() > 1e-4
    np.testing.assert_allclose(both[1:], alone, atol=2e-3)  # BatchNorm is in evaluation mode


def _only_one(steering: torch.Tensor) -> torch.Tensor:
    assert len(steering) == 1, "one at a time"
    return steering


@pytest.mark.parametrize("change", [_only_one, lambda steering: steering[:1], lambda steering: steering.reshape(1, -1)])
def test_modules_that_take_one_frame_at_a_time_are_shown_them_so(change, caplog: pytest.LogCaptureFixture):
    driver = wrap_driver(Net(change), SEEN, name="theirs")
    for _ in range(2):
        np.testing.assert_allclose(driver.act(FRAMES, ONES, STARTS, ()), act(Net()), atol=1e-6)
    assert caplog.text.count("theirs does not take 2 frames at once, and is shown them one by one") == 1


def test_half_precision_steers_as_single_precision_does_and_has_a_gradient():
    torch.manual_seed(1)
    net = Net()
    np.testing.assert_allclose(act(net.half()), act(net.float()), atol=2e-3)
    for made in (net.half(), net.double()):
        driver: Any = wrap_driver(made, SEEN)
        gradient = driver.steering_gradient(0, FRAMES[0].astype(np.float32), 1.0, True)
        assert gradient.shape == (20, 40, 3) and np.abs(gradient).max() > 0


def _raise(*_: Any) -> Any:
    raise KeyError("weights")


def _leave(*_: Any) -> Any:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda steering: (steering, None), "a batch of 2 frames .*gave"),
        (lambda steering: {"steering": steering}, "gave dict"),
        (lambda steering: steering.repeat(1, 15), r"gave float32 \[2, 15\]"),
        (lambda steering: steering.mean(), r"gave float32 \[\]"),
        (lambda steering: steering[:, :0], r"gave float32 \[2, 0\]"),
        (lambda steering: steering.to(torch.complex64), "gave complex64"),
        (lambda steering: steering * math.nan, "not a finite number"),
        (lambda steering: None, "gave None"),
        (_raise, r"theirs, shown frames float32 \[2, 3, 20, 40\] in 0..1, failed: KeyError: 'weights'"),
        (_leave, "ended the program"),
    ],
)
def test_modules_that_answer_otherwise_are_one_line(change: Callable[[torch.Tensor], Any], words: str):
    with pytest.raises(ForeignCodeError, match=words) as caught:
        act(Net(change))
    assert "theirs" in str(caught.value) and "\n" not in str(caught.value)


def test_modules_that_take_other_frames_are_told_how_to_say_so():
    for made in (nn.Conv2d(1, 1, 3), nn.Linear(7, 1)):
        with pytest.raises(ForeignCodeError, match=r"shown frames float32 .*--frame, --layout, --range, --colour"):
            act(made)


@pytest.mark.parametrize(
    "answer", [None, "left", {"steering": 0.1}, [], (0.1, {}), 1j, np.zeros((5, 1)), lambda: 0.1, math.nan]
)
def test_functions_that_give_no_steering_are_one_line(answer: Any):
    with pytest.raises(ForeignCodeError, match="theirs.*(must answer a frame with a number|not a finite number)"):
        act(lambda frame: answer)


def test_functions_may_give_anything_that_is_a_number():
    for answer in (0.25, np.float16(0.25), [0.25], torch.tensor(0.25, requires_grad=True), np.array([[0.25]])):
        np.testing.assert_array_equal(act(lambda frame, answer=answer: answer), [[0.25], [0.25]])


class Theirs:
    """An object with `act` and whatever else it says of itself."""

    def __init__(self, answer: Any = None, **said: Any):
        self.answer = np.full((2, 1), 0.25) if answer is None else answer
        self.__dict__.update(said)

    def act(self, frames: Any, elapsed: Any, starts: Any, envs: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    "said",
    [
        {"period_s": -1.0},
        {"period_s": math.nan},
        {"period_s": "0.05"},
        {"period_s": 1e-9},
        {"motors": "two"},
        {"motors": 0},
        {"motors": 15},
        {"frame_size": (66, 200, 3)},
        {"frame_size": "66x200"},
        {"frame_size": (0, 200)},
        {"frame_size": (10**6, 10**6)},
    ],
)
def test_what_an_object_says_of_itself_is_checked_before_it_drives(said: dict[str, Any]):
    with pytest.raises(ForeignCodeError, match=f"{next(iter(said))} of theirs"):
        wrap_driver(Theirs(**said), name="theirs")


def test_answers_and_gradients_of_objects_are_checked():
    np.testing.assert_array_equal(act(Theirs(torch.full((2, 1), 0.25, requires_grad=True))), [[0.25], [0.25]])
    for answer in (np.zeros((1, 1)), np.float32(0.1), np.array([["a"], ["b"]]), np.zeros((2, 5)), [[0.1], [0.1, 0.2]]):
        with pytest.raises(ForeignCodeError, match="a batch of 2 frames"):
            act(Theirs(answer))
    driver: Any = wrap_driver(Theirs(steering_gradient=lambda *_: np.full((2, 2), np.nan)), name="theirs")
    with pytest.raises(ForeignCodeError, match=r"steering_gradient of theirs must be \[20, 40, 3\] finite numbers"):
        driver.steering_gradient(0, FRAMES[0].astype(np.float32), 1.0, True)


def test_classes_are_not_taken_for_drivers():
    for made in (Theirs, Net):
        with pytest.raises(ForeignCodeError, match=f"the class {made.__name__}, not an object of it"):
            wrap_driver(made, name="theirs")


CODE = """
import sys
calls = []
def raises(): raise RuntimeError("the weights are gone")
def leaves(): sys.exit(0)
def needs(size): return lambda frame: 0.0
def prints():
    print("loading")
    return lambda frame: 0.25
def late():
    def steer(frame):
        calls.append(1)
        return 0.0 if len(calls) < 4 else {}["lost"]
    return steer
def pair(): return lambda frame: [0.1, 0.5]
"""


def test_factories_that_fail_are_one_line_with_the_line_of_their_file(tmp_path: Path):
    (tmp_path / "net.py").write_text(CODE)
    for name, words in (
        ("raises", r"net.py:raises failed: RuntimeError: the weights are gone \(net.py, line 4\)"),
        ("leaves", r"it ended the program: sys.exit\(0\)"),
        ("needs", "without arguments"),
    ):
        with pytest.raises(ForeignCodeError, match=words):
            open_driver(f"{tmp_path}/net.py:{name}")
    assert open_driver(f"{tmp_path}/net.py:prints").act(FRAMES, ONES, STARTS, ()).tolist() == [[0.25], [0.25]]


def test_a_driver_that_fails_on_the_way_is_one_line_from_any_process(tmp_path: Path):
    (tmp_path / "net.py").write_text(CODE)
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, episode_s=1.0, variety=0.0)
    trial = Trial(DriverSpec(f"{tmp_path}/net.py:late", DriverOptions(frame="8x16")), world, (Run(1),))
    with pytest.raises(ForeignCodeError, match=r"KeyError: 'lost' \(net.py, line 13\)") as caught:
        drive_trials([trial])
    assert isinstance(caught.value.__cause__, KeyError)
    sent = pickle.loads(pickle.dumps(portable(caught.value.__cause__)))
    with pytest.raises(KeyError) as again:
        raise_here(sent)
    assert is_foreign(again.value) and foreign_place(again.value) == "net.py, line 13"
    assert isinstance(portable(SystemExit(3)), RuntimeError)  # which does not end the process that it is sent to


class Still(gymnasium.Env[Any, Any]):
    """Takes steering alone."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"camera": FRAMES[0], "elapsed": np.ones(1, np.float32)}, {}

    def step(self, action: Any) -> Any:
        return *self.reset()[:1], 0.0, True, False, {}


@pytest.mark.parametrize("answer", [np.zeros((1, 2)), np.zeros((2, 1)), np.zeros(1), None])
def test_a_driver_of_any_make_must_give_each_env_its_action(answer: Any):
    driver: Any = type("Raw", (), {"act": lambda self, *_: answer})()
    with pytest.raises(ValueError, match=r"the driver gives actions .* and 1 cars here take \[1, 1\]"):
        drive_episodes(driver, [Still()], [0])


def test_an_env_that_is_given_twice_is_refused():
    one, left = Still(), type("Raw", (), {"act": lambda self, *_: np.zeros((2, 1))})()
    with pytest.raises(ForeignCodeError, match="the same Still was given for two drives"):
        rollout(left, lambda slot: one, [0, 1])
    assert len(rollout(left, lambda slot: Still(), [0, 1])) == 2


@pytest.mark.parametrize(
    "given",
    [
        *({"degrees": 1e-300}, {"degrees": math.inf}, {"steering_gain": 1e308}, {"steering_gain": 0.0}),
        *({"driver_period_s": 1e-300}, {"driver_period_s": 1e9}, {"frame": "0x0"}, {"frame": ""}),
    ],
)
def test_options_that_no_driver_can_mean_are_refused(given: dict[str, Any]):
    with pytest.raises(ValidationError, match=next(iter(given))):
        DriverOptions(**given)


def test_the_scale_takes_one_or_two_numbers_a_frame():
    scale = SteeringScale("right", gain=2.0)
    np.testing.assert_allclose(scale.actions([[0.25, 0.5]], 1), [[-0.5, 0.5]])
    np.testing.assert_allclose(scale.actions([1e300], 1), [[-1.0]])


class Model:
    """What a model of Stable-Baselines3 shows of itself; steers half of what it can."""

    policy = None

    def __init__(self, low: float, high: float, seen: gymnasium.spaces.Space[Any], size: int = 1):
        self.action_space: Any = gymnasium.spaces.Box(low, high, (size,), np.float32)
        self.observation_space = seen
        self.shown: Any = None

    def predict(self, seen: Any, state: Any, starts: Any, deterministic: bool) -> Any:
        self.shown = seen
        return np.full((len(seen), *self.action_space.shape), 0.5 * self.action_space.high[0]), state


def _box(low: float, high: float, dtype: Any = np.float32, shape: tuple[int, ...] = (20, 40, 3)) -> Any:
    return gymnasium.spaces.Box(low, high, shape, dtype)


def test_the_steering_of_a_model_counts_in_the_range_of_its_actions():
    for high, degrees, steering in ((1.0, None, 0.5), (25.0, None, 0.5), (25.0, 50.0, 0.25)):
        options = DriverOptions(degrees=degrees)
        np.testing.assert_allclose(act(Model(-high, high, _box(0, 255, np.uint8)), options), [[steering]] * 2)
    for low, high, size in ((0.0, 1.0, 1), (-1.0, 1.0, 3)):
        with pytest.raises(ForeignCodeError, match="not straight ahead|steering and throttle"):
            wrap_driver(Model(low, high, _box(0, 255, np.uint8), size))
    discrete = Model(-1, 1, _box(0, 255, np.uint8))
    discrete.action_space = gymnasium.spaces.Discrete(3)
    with pytest.raises(ForeignCodeError, match=r"theirs acts in Discrete\(3\)"):
        wrap_driver(discrete, name="theirs")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_the_range_of_the_pixels_of_a_model_is_that_of_its_space(low: float, high: float):
    model = Model(-1, 1, _box(low, high))
    act(model, DriverOptions())
    expected = low + (high - low) / 255.0 * FRAMES.astype(np.float64)
    np.testing.assert_allclose(model.shown, expected, atol=1e-5 * high)


def test_a_model_that_sees_something_else_is_one_line():
    for seen, words in (
        (_box(-np.inf, np.inf), "give --range, one of 0..1"),
        (_box(0, 255, np.uint8, (84, 84, 4)), r"sees images \[84, 84, 4\].*Stacked frames"),
        (_box(0, 1, np.float32, (8,)), "a driver sees one image"),
        (gymnasium.spaces.Dict(rgb=_box(0, 255, np.uint8)), "a driver sees one image"),
    ):
        with pytest.raises(ForeignCodeError, match=words):
            wrap_driver(Model(-1, 1, seen))
    assert act(Model(-1, 1, _box(-np.inf, np.inf)), DriverOptions(range="0..1")).shape == (2, 1)


class Linear(nn.Module):
    """A policy of Stable-Baselines3, as far as a gradient asks: steers by a weighted sum of what it is shown."""

    device = "cpu"

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    def get_distribution(self, seen: torch.Tensor) -> Any:
        steering = (seen * self.weights).sum((1, 2, 3))[:, None]
        return type("Distribution", (), {"mode": lambda self: steering})()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("high", "dtype", "unit"), [(1.0, np.float32, 1 / 255), (255.0, np.uint8, 1.0)])
def test_the_gradient_of_a_model_lies_where_its_pixels_do(first: bool, high: float, dtype: Any, unit: float):
    shape = (3, 20, 40) if first else (20, 40, 3)
    model = Model(-1, 1, _box(0.0, high, dtype, shape))
    model.policy = Linear(shape)  # type: ignore[assignment]
    driver: Any = wrap_driver(model, DriverOptions(positive="right"), name="theirs")
    found = driver.steering_gradient(0, FRAMES[0].astype(np.float32), 1.0, True)
    weights = model.policy.weights.detach().numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, -unit * (weights.transpose(1, 2, 0) if first else weights), rtol=1e-5)
    assert model.policy.weights.requires_grad  # type: ignore[attr-defined]


class Sized:
    """Says which frames it takes, and remembers what it was shown."""

    frame_size = (16, 32)

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def act(self, frames: Any, elapsed: Any, starts: Any, envs: Any) -> Any:
        self.shown.append(frames.shape)
        return np.zeros(len(frames))


@pytest.mark.parametrize("options", [DriverOptions(), DriverOptions(crop_top=4)])
def test_an_object_gets_frames_of_the_size_that_it_names(options: DriverOptions):
    made = Sized()
    driver = wrap_driver(made, options)
    driver.act(FRAMES, ONES, STARTS, ())
    assert made.shown == [(2, 16, 32, 3)]
    assert driver.frame_size == (None if options.crops else (16, 32)), "a crop is one of the camera's own frames"


def test_a_model_with_a_memory_begins_new_episodes_of_another_number():
    spaces = gymnasium.spaces
    given: list[Any] = []

    class Model:
        policy = Net()
        observation_space = spaces.Box(0, 255, (20, 40, 3), np.uint8)
        action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

        def predict(self, seen: Any, state: Any, starts: Any, deterministic: bool) -> Any:
            given.append(state)
            return np.zeros((len(seen), 1)), np.ones((len(seen), 5))

    driver = wrap_driver(Model())
    driver.act(FRAMES, ONES, STARTS, ())
    driver.act(FRAMES, ONES, np.array([False, True]), ())
    driver.act(FRAMES[:1], ONES[:1], STARTS[:1], ())
    assert given[0] is None and given[1].shape == (2, 5) and given[2] is None
